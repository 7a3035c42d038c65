// Programs against the functions they were traced from, and against values known without them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "adjoint/compile.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "compile/graph.h"
#include "compile/program.h"
#include "compile/verify.h"
#include "graph/apply.h"

using namespace adjoint;

namespace {

using List = std::vector<Tensor>;
using Inputs = std::span<const Tensor>;

Tensor random(std::vector<std::int64_t> shape, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> draw(-2, 2);
  std::int64_t n = 1;
  for (const auto extent : shape) n *= extent;
  std::vector<double> data(static_cast<std::size_t>(n));
  for (double& v : data) v = draw(engine);
  return Tensor::from_data(data, shape);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || !std::ranges::equal(a.shape(), b.shape())) return false;
  const Tensor x = contiguous(a.node());
  const Tensor y = contiguous(b.node());
  return x.size() == 0 || std::memcmp(x.node()->data(), y.node()->data(), x.node()->nbytes()) == 0;
}

/// The program of f gives the bits of f, and is returned.
std::shared_ptr<const Program> check_bits(const ListFunction& f, const List& inputs) {
  const List eager = f(inputs);
  const auto program = trace(f, inputs);
  for (int repeat = 0; repeat < 2; ++repeat) {
    const List compiled = program->run(inputs);
    REQUIRE(compiled.size() == eager.size());
    for (std::size_t i = 0; i < eager.size(); ++i) CHECK(same_bits(eager[i], compiled[i]));
  }
  return program;
}

Tensor softmax_rows(const Tensor& x) {
  const std::int64_t axis[] = {1};
  const Tensor e = exp(x - max(x, axis, true));
  return e / sum(e, axis, true);
}

Tensor gelu_of(const Tensor& x) {
  return 0.5 * x * (tanh((x + 0.044715 * (x * x * x)) * 0.7978845608028654) + 1.0);
}

std::string error_of(const auto& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("compile: a program computes what the function says") {
  const ListFunction f = [](Inputs in) { return List{in[0] * in[1] + 1.0}; };
  const List inputs = {Tensor(3.0), Tensor(4.0)};
  const auto program = trace(f, inputs);
  CHECK(program->run(inputs)[0].item() == 13);
  CHECK(program->run(List{Tensor(-1.0), Tensor(2.0)})[0].item() == -1);
  CHECK(program->stats().nodes == 2);
  CHECK(program->stats().instructions == 1);
  CHECK(program->text().find("multiply %0 %1 : float64 ()") != std::string::npos);
}

TEST_CASE("compile: the bits are those of eager work") {
  for (const std::int64_t rows : {1, 3, 200}) {
    for (const std::int64_t cols : {1, 7, 300}) {
      const Tensor x = random({rows, cols}, 1);
      CAPTURE(rows);
      CAPTURE(cols);
      check_bits([](Inputs in) { return List{softmax_rows(in[0])}; }, {x});
      check_bits([](Inputs in) { return List{gelu_of(in[0]), sum(gelu_of(in[0]))}; }, {x});
      check_bits(
          [](Inputs in) {
            const std::int64_t first[] = {0};
            const std::int64_t last[] = {1};
            const Tensor y = in[0] * in[0];
            return List{sum(y, first, false), sum(y, last, false), max(y, first, true) * y,
                        y / (sum(y, last, true) + sum(y))};
          },
          {x});
      check_bits(
          [](Inputs in) {
            const std::int64_t last[] = {1};
            const Tensor centred = in[0] - mean(in[0], last, true);
            return List{centred * rsqrt(mean(square(centred), last, true) + 1e-5)};
          },
          {x});
    }
  }
}

TEST_CASE("compile: gradients inside, one group for tanh-GELU") {
  const Tensor x = random({64, 257}, 2);
  const auto program = check_bits(
      [](Inputs in) {
        const auto both = value_and_grad([](const Tensor& t) { return sum(gelu_of(t)); })(in[0]);
        return List{both.first, both.second};
      },
      {x});
  CHECK(program->stats().groups == 1);
  CHECK(program->stats().instructions == 1);
  // Against central differences.
  const double h = 1e-5;
  std::vector<double> data = x.to_vector();
  const auto at = [&](double d) {
    std::vector<double> moved = data;
    moved[5] += d;
    return program->run(List{Tensor::from_data(moved, x.shape())})[0].item();
  };
  CHECK(program->run(List{x})[1].to_vector()[5] ==
        doctest::Approx((at(h) - at(-h)) / (2 * h)).epsilon(1e-6));
}

TEST_CASE("compile: matmul networks and views") {
  const ListFunction loss = [](Inputs in) {
    const FunctionN f = [](Inputs p) {
      const Tensor hidden = tanh(matmul(p[0], p[1]) + p[2]);
      return mean(square(matmul(hidden, p[3]) - p[4]));
    };
    return gradients_at(f, in);
  };
  check_bits(loss, {random({32, 2}, 1), random({2, 16}, 2), random({16}, 3), random({16, 1}, 4),
                    random({32, 1}, 5)});
  check_bits(
      [](Inputs in) {
        const std::int64_t axes[] = {1, 0};
        const std::int64_t wide[] = {3, 4, 5};
        const Tensor t = permute_dims(in[0], axes);
        return List{t, exp(t) + 1.0, broadcast_to(in[1], wide) * 2.0, in[0]};
      },
      {random({4, 6}, 1), random({4, 5}, 2)});
}

TEST_CASE("compile: simplification keeps every bit") {
  const auto program = check_bits(
      [](Inputs in) {
        const Tensor twice = in[0] + in[0];
        const Tensor again = in[0] + in[0];
        return List{-(-in[0]), in[0] * 1.0, twice * again, in[0] + 0.0};
      },
      {Tensor::from_data(std::vector<double>{-0.0, 1, NAN, INFINITY},
                         std::vector<std::int64_t>{4})});
  CHECK(program->stats().nodes == 3);  // the sum once, the product, and x + 0: that changes -0
  const auto folded = trace(
      [](Inputs in) { return List{in[0] * (exp(Tensor(1.0)) * Tensor(2.0))}; }, List{Tensor(1.0)});
  CHECK(folded->stats().nodes == 1);
}

TEST_CASE("compile: empty and strided inputs") {
  check_bits([](Inputs in) { return List{exp(in[0]) + 1.0, sum(in[0])}; }, {random({0, 3}, 1)});
  const std::int64_t axes[] = {1, 0};
  check_bits([](Inputs in) { return List{softmax_rows(in[0]), in[0]}; },
             {permute_dims(random({5, 300}, 1), axes)});
}

TEST_CASE("compile: errors name the position, what was expected and what was given") {
  const auto program =
      trace([](Inputs in) { return List{in[0] + in[1]}; }, List{random({3}, 1), random({3}, 2)});
  std::string text = error_of([&] { program->run(List{random({3}, 1), random({4}, 2)}); });
  CHECK(text.find("input 1") != std::string::npos);
  CHECK(text.find("(4,)") != std::string::npos);
  CHECK(text.find("(3,)") != std::string::npos);
  text = error_of([&] { program->run(List{random({3}, 1)}); });
  CHECK(text.find("takes 2 inputs, got 1") != std::string::npos);
  text =
      error_of([&] { program->run(List{random({3}, 1), astype(random({3}, 2), DType::float32)}); });
  CHECK(text.find("float32") != std::string::npos);
}

TEST_CASE("compile: traced values cannot be read, and nothing stays behind") {
  const std::int64_t before = live_node_count();
  {
    const Tensor x = random({3}, 1);
    CHECK(error_of([&] {
            trace([](Inputs in) { return List{Tensor(in[0].item())}; }, List{Tensor(1.0)});
          }) != "");
    Tensor kept;
    trace(
        [&](Inputs in) {
          kept = in[0] + 1.0;
          return List{kept};
        },
        List{x});
    CHECK(error_of([&] { kept + 1.0; }).find("has ended") != std::string::npos);
  }
  CHECK(live_node_count() == before);
}

TEST_CASE("compile: the C++ function traces once per shape and differentiates") {
  int calls = 0;
  const ListFunction f = compile([&](Inputs in) {
    ++calls;
    return List{sum(in[0] * in[0] * in[0])};
  });
  const Tensor x = random({5}, 1);
  const double value = f(List{x})[0].item();
  CHECK(f(List{x})[0].item() == value);
  CHECK(calls == 1);
  f(List{random({6}, 1)});
  CHECK(calls == 2);

  const auto g = grad([&](const Tensor& t) { return f(List{t})[0]; });
  const std::vector<double> gradient = g(x).to_vector();
  const std::vector<double> data = x.to_vector();
  for (std::size_t i = 0; i < data.size(); ++i)
    CHECK(gradient[i] == doctest::Approx(3 * data[i] * data[i]));
  CHECK(calls == 2);

  const auto mapped = vmap([&](const Tensor& t) { return f(List{t})[0]; });
  const Tensor rows = random({4, 5}, 3);
  const std::vector<double> sums = mapped(rows).to_vector();
  const std::vector<double> all = rows.to_vector();
  for (std::size_t r = 0; r < 4; ++r) {
    double expected = 0;
    for (std::size_t c = 0; c < 5; ++c) expected += std::pow(all[5 * r + c], 3);
    CHECK(sums[r] == doctest::Approx(expected));
  }
}

TEST_CASE("compile: one program on many threads") {
  const Tensor x = random({50, 40}, 1);
  const Tensor w = random({40, 40}, 2);
  const ListFunction f = [](Inputs in) {
    return List{softmax_rows(matmul(in[0], in[1])), sum(in[0])};
  };
  const auto program = trace(f, List{x, w});
  const List expected = f(List{x, w});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        const List got = program->run(List{x, w});
        wrong += !same_bits(got[0], expected[0]) || !same_bits(got[1], expected[1]);
      }
    });
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("compile: donated inputs give their memory and nothing else") {
  const List examples = {random({64, 64}, 1)};
  Graph graph;
  const Graph::Index in = graph.add_input(DType::float64, examples[0].shape());
  const Graph::Index operands[] = {in};
  graph.add_output(
      graph.add(find_op("exp"), operands, nullptr, {DType::float64, Dims(examples[0].shape())}));
  const std::uint32_t donated[] = {0};
  const CompiledProgram program(graph, donated);
  const Tensor expected = exp(random({64, 64}, 1));
  const Tensor shared = examples[0];
  Node* nodes[] = {shared.node()};
  Node* out[1];
  program.execute(nodes, out);  // two handles: not taken
  CHECK(same_bits(Tensor::adopt(out[0]), expected));
  CHECK(same_bits(shared, random({64, 64}, 1)));
  const Tensor given = random({64, 64}, 1);
  const void* memory = given.node()->data();
  nodes[0] = given.node();
  program.execute(nodes, out);
  const Tensor result = Tensor::adopt(out[0]);
  CHECK(result.node()->data() == memory);
  CHECK(same_bits(result, expected));
  CHECK(error_of([&] { given.to_vector(); }) != "");
}

TEST_CASE("compile: deep graphs are linear and recurse nowhere") {
  const ListFunction f = [](Inputs in) {
    Tensor x = in[0];
    for (int i = 0; i < 50000; ++i) x = x * in[0] + in[1];
    return List{x};
  };
  const List inputs = {Tensor(0.5), Tensor(0.25)};
  double result = 0;
  std::thread thread([&] { result = trace(f, inputs)->run(inputs)[0].item(); });
  thread.join();
  CHECK(result == 0.5);
  const ListFunction g = [](Inputs in) {  // a new constant at each step
    Tensor x = in[0];
    for (int i = 0; i < 20000; ++i) x = x + 1.0 / (1 + i);
    return List{x, sum(x * in[1])};
  };
  const auto program = check_bits(g, {Tensor(0.0), random({3}, 1)});
  CHECK(program->stats().groups <= 2);
}

// ------------------------------------------------------------------------------- verification

namespace {

/// exp(x) @ w, twice over, with a column sum: groups, operations of their own, and the arena.
Graph checked_graph() {
  Graph graph;
  const Dims square{40, 40};
  const Graph::Index x = graph.add_input(DType::float64, square);
  const auto add = [&](const char* op, std::vector<Graph::Index> in, Dims shape, Dims axes = {}) {
    const AttrsPtr attrs = axes.empty() ? AttrsPtr() : make_attrs(ReduceAttrs{std::move(axes)});
    return graph.add(find_op(op), in, attrs, {DType::float64, std::move(shape)});
  };
  const Graph::Index e = add("exp", {x}, square);
  const Graph::Index rows = add("sum", {e}, Dims{40}, Dims{1});
  const Graph::Index scaled = add("multiply", {e, rows}, square);
  const Graph::Index total = add("sum", {scaled}, Dims{}, Dims{0, 1});
  graph.add_output(add("divide", {scaled, total}, square));
  return graph;
}

}  // namespace

TEST_CASE("verify: what the passes make is accepted") {
  const Graph graph = checked_graph();
  const Partition parts = partition(graph);
  CHECK(parts.steps.size() > 1);
  CHECK(error_of([&] {
          verify(graph);
          verify(parts, graph);
          verify(make_plan(graph, parts, {}));
        }) == "");
}

TEST_CASE("verify: a graph with a wrong shape, dtype or order is refused") {
  const Graph::Index x[] = {0};
  const Graph::Index late[] = {5};
  const auto error = [&](std::span<const Graph::Index> in, DType dtype, Dims shape) {
    Graph graph;
    graph.add_input(DType::float64, Dims{3});
    graph.add_output(graph.add(find_op("exp"), in, nullptr, {dtype, std::move(shape)}));
    return error_of([&] { verify(graph); });
  };
  CHECK(error(x, DType::float64, Dims{3}) == "");
  CHECK(error(x, DType::float64, Dims{4}).find("exp gives float64 (3,)") != std::string::npos);
  CHECK(error(x, DType::float32, Dims{3}).find("node 1 is float32") != std::string::npos);
  CHECK(error(late, DType::float64, Dims{3}).find("after its reader") != std::string::npos);
}

TEST_CASE("verify: a partition that runs too early, twice or not at all is refused") {
  const Graph graph = checked_graph();
  const auto error = [&](const auto& change) {
    Partition parts = partition(graph);
    change(parts);
    return error_of([&] { verify(parts, graph); });
  };
  CHECK(error([](Partition& p) {
          std::reverse(p.steps[0].members.begin(), p.steps[0].members.end());
        }).find("before its inputs") != std::string::npos);
  CHECK(error([](Partition& p) {
          p.steps[0].members.push_back(p.steps[0].members[0]);
        }).find("runs twice") != std::string::npos);
  CHECK(error([](Partition& p) { p.steps.pop_back(); }).find("no step makes the output") !=
        std::string::npos);
  CHECK(error([](Partition& p) {
          p.crosses.assign(p.crosses.size(), false);
        }).find("does not cross") != std::string::npos);
}

TEST_CASE("verify: a plan that loses or overwrites a value is refused") {
  const Graph graph = checked_graph();
  const Partition parts = partition(graph);
  const auto error = [&](const auto& change) {
    Plan plan = make_plan(graph, parts, {});
    change(plan);
    return error_of([&] { verify(plan); });
  };
  CHECK(error([](Plan& p) {
          std::swap(p.instructions.front(), p.instructions.back());
        }).find("reads what is not there") != std::string::npos);
  CHECK(error([](Plan& p) { p.instructions.pop_back(); }).find("no step writes the output") !=
        std::string::npos);
  CHECK(error([](Plan& p) {
          p.instructions[0].frees = p.instructions[0].writes;
        }).find("freed too early") != std::string::npos);
  CHECK(error([](Plan& p) {
          for (PlannedPlace& place : p.places) place.offset = 0;
        }).find("overlaps") != std::string::npos);
  CHECK(error([](Plan& p) { p.arena_bytes = 8; }).find("outside of the arena") !=
        std::string::npos);
}
