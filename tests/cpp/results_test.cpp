// Operations with several results: values and slopes worked out by hand, in every mode, and what
// keeps the results alive.
#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "adjoint/anomaly.h"
#include "adjoint/compile.h"
#include "adjoint/index.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "compile/control.h"
#include "compile/taylor.h"
#include "graph/apply.h"
#include "graph/results.h"
#include "ops/structural.h"

using namespace adjoint;

namespace {

using List = std::vector<Tensor>;
using Values = std::vector<double>;

/// Fills the results of the operations below: an array of float64, and a number in float32.
template <class F>
void fill(std::span<Node* const> out, Node* in, F&& f) {
  for (Node* n : out) allocate_value(n, "test");
  const Tensor x = contiguous(in);
  const auto* from = static_cast<const double*>(x.node()->data());
  auto* to = static_cast<double*>(out[0]->data());
  double total = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) total += f(from, i, to);
  *static_cast<float*>(out[1]->data()) = static_cast<float>(total);
}

ResultList infer_both(const Op&, std::span<Node* const> in, const Attrs*) {
  return std::vector<ResultSpec>{{DType::float64, Dims(in[0]->layout.shape())},
                                 {DType::float32, {}}};
}

/// The batch by a loop over its members.
List batch_members(const BatchArgs& args) {
  List arrays, numbers;
  for (std::int64_t i = 0; i < args.size; ++i) {
    const Tensor row = index(args.inputs[0], {i});
    Node* in[] = {row.node()};
    const List both = apply_all(args.op, in, AttrsPtr(args.attrs));
    arrays.push_back(both[0]);
    numbers.push_back(both[1]);
  }
  return {stack(arrays, 0), stack(numbers, 0)};
}

Tensor wide(const Tensor& x) { return astype(x, DType::float64); }
Tensor narrow(const Tensor& x) { return astype(x, DType::float32); }
Tensor plus(const Tensor& a, const Tensor& b) {
  return !a.defined() ? b : !b.defined() ? a : a + b;
}

Op& define(Op op) {
  auto* record = new Op(op);
  record->infer = infer_both;
  record->batch_all = batch_members;
  record->internal = true;
  register_later(*record);
  return *record;
}

/// x² and the sum of x³.
const Op& powers =
    define({.name = "test_powers",
            .signature = "(x, /)",
            .doc = "Two results.",
            .kind = OpKind::custom,
            .arity = 1,
            .dtypes = DTypeRule::custom,
            .pull = [](const RuleArgs& a, std::span<const Tensor> ct) -> List {
              const Tensor& x = a.inputs[0];
              return {plus(ct[0].defined() ? ct[0] * x * 2.0 : Tensor(),
                           ct[1].defined() ? wide(ct[1]) * square(x) * 3.0 : Tensor())};
            },
            .push = [](const RuleArgs& a, std::span<const Tensor> t) -> List {
              const Tensor& x = a.inputs[0];
              return {t[0] * x * 2.0, narrow(sum(t[0] * square(x) * 3.0))};
            },
            .needs = {1, 1, 1},
            .run_all =
                [](const Op&, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
                   std::uint32_t) {
                  fill(out, in[0], [](const double* x, std::int64_t i, double* y) {
                    y[i] = x[i] * x[i];
                    return y[i] * x[i];
                  });
                }});

/// exp(x) and its sum; the rules read the results.
const Op& exponents =
    define({.name = "test_exponents",
            .signature = "(x, /)",
            .doc = "Two results.",
            .kind = OpKind::custom,
            .arity = 1,
            .dtypes = DTypeRule::custom,
            .pull = [](const RuleArgs& a, std::span<const Tensor> ct) -> List {
              const Tensor& y = a.outputs[0];
              return {plus(ct[0].defined() ? ct[0] * y : Tensor(),
                           ct[1].defined() ? wide(ct[1]) * y : Tensor())};
            },
            .push = [](const RuleArgs& a, std::span<const Tensor> t) -> List {
              const Tensor slope = t[0] * a.outputs[0];
              return {slope, narrow(sum(slope))};
            },
            .needs = {kSavesOutput, kSavesOutput, kSavesOutput},
            .run_all =
                [](const Op&, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
                   std::uint32_t) {
                  fill(out, in[0], [](const double* x, std::int64_t i, double* y) {
                    return y[i] = std::exp(x[i]);
                  });
                }});

/// 2x and the sum of x: linear, so that its tangents are its results.
const Op& doubles = define(
    {.name = "test_doubles",
     .signature = "(x, /)",
     .doc = "Two results.",
     .kind = OpKind::custom,
     .arity = 1,
     .dtypes = DTypeRule::custom,
     .pull = [](const RuleArgs& a, std::span<const Tensor> ct) -> List {
       return {plus(ct[0].defined() ? ct[0] * 2.0 : Tensor(),
                    ct[1].defined() ? broadcast_to(wide(ct[1]), a.inputs[0].shape()) : Tensor())};
     },
     .run_all =
         [](const Op&, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
            std::uint32_t) {
           fill(out, in[0], [](const double* x, std::int64_t i, double* y) {
             y[i] = 2 * x[i];
             return x[i];
           });
         }});

/// As doubles, with a slope that is infinite.
const Op& steep =
    define({.name = "test_steep",
            .signature = "(x, /)",
            .doc = "Two results.",
            .kind = OpKind::custom,
            .arity = 1,
            .dtypes = DTypeRule::custom,
            .pull = [](const RuleArgs&, std::span<const Tensor> ct) -> List {
              return {broadcast_to(wide(ct[1]), std::vector<std::int64_t>{1}) * HUGE_VAL};
            },
            .push = [](const RuleArgs&, std::span<const Tensor> t) -> List {
              return {Tensor(), narrow(sum(t[0] * HUGE_VAL))};
            },
            .run_all = doubles.run_all});

List both(const Op& op, const Tensor& x) {
  Node* in[] = {x.node()};
  return apply_all(op, in);
}

Tensor vec(const Values& v) {
  const auto n = static_cast<std::int64_t>(v.size());
  return Tensor::from_data(v, {&n, 1});
}

void near(const Tensor& found, const Values& want) {
  const Values got = found.to_vector();
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i)
    CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-6));  // a part of it is in float32
}

/// A number made of all results, one of them twice.
Tensor total(const Op& op, const Tensor& x) {
  const List y = both(op, x);
  return sum(y[0] * y[0]) + wide(y[1]) * sum(y[0]) + sum(y[0]);
}

const Values kPoint = {0.5, -1, 2};

/// Of powers: s4 + s3 s2 + s2, where sk is the sum of the powers k of x.
Values slope_of_powers(const Values& x) {
  double s2 = 0, s3 = 0;
  for (const double v : x) s2 += v * v, s3 += v * v * v;
  Values out;
  for (const double v : x) out.push_back(4 * v * v * v + 3 * v * v * s2 + 2 * v * s3 + 2 * v);
  return out;
}

Values hessian_of_powers(const Values& x) {
  double s2 = 0, s3 = 0;
  for (const double v : x) s2 += v * v, s3 += v * v * v;
  Values out;
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = 0; j < x.size(); ++j) {
      double h = 6 * x[i] * x[i] * x[j] + 6 * x[i] * x[j] * x[j];
      if (i == j) h += 12 * x[i] * x[i] + 6 * x[i] * s2 + 2 * s3 + 2;
      out.push_back(h);
    }
  return out;
}

/// Of exponents: e2 + e1² + e1, where ek is the sum of exp(k x).
Values slope_of_exponents(const Values& x) {
  double e1 = 0;
  for (const double v : x) e1 += std::exp(v);
  Values out;
  for (const double v : x) out.push_back(2 * std::exp(2 * v) + 2 * e1 * std::exp(v) + std::exp(v));
  return out;
}

Values hessian_of_exponents(const Values& x) {
  double e1 = 0;
  for (const double v : x) e1 += std::exp(v);
  Values out;
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = 0; j < x.size(); ++j) {
      double h = 2 * std::exp(x[i]) * std::exp(x[j]);
      if (i == j) h += 4 * std::exp(2 * x[i]) + (2 * e1 + 1) * std::exp(x[i]);
      out.push_back(h);
    }
  return out;
}

/// Of doubles: 4 s2 + 2 s1² + 2 s1.
Values slope_of_doubles(const Values& x) {
  double s1 = 0;
  for (const double v : x) s1 += v;
  Values out;
  for (const double v : x) out.push_back(8 * v + 4 * s1 + 2);
  return out;
}

Values hessian_of_doubles(const Values& x) {
  Values out(x.size() * x.size(), 4);
  for (std::size_t i = 0; i < x.size(); ++i) out[i * x.size() + i] = 12;
  return out;
}

struct Sample {
  const Op& op;
  Values (*slope)(const Values&);
  Values (*second)(const Values&);
};
const Sample kSamples[] = {{powers, slope_of_powers, hessian_of_powers},
                           {exponents, slope_of_exponents, hessian_of_exponents},
                           {doubles, slope_of_doubles, hessian_of_doubles}};

Values row_of(const Values& matrix, std::size_t i, std::size_t n) {
  return {matrix.begin() + static_cast<std::ptrdiff_t>(i * n),
          matrix.begin() + static_cast<std::ptrdiff_t>((i + 1) * n)};
}

}  // namespace

TEST_CASE("results have shapes and dtypes of their own") {
  const List y = both(powers, vec(kPoint));
  CHECK(y[0].to_vector() == Values{0.25, 1, 4});
  CHECK(y[1].item() == 7.125);
  CHECK(y[0].dtype() == DType::float64);
  CHECK(y[1].dtype() == DType::float32);
  CHECK(y[1].ndim() == 0);
  CHECK(!y[0].requires_grad());
  const Tensor x = vec(kPoint);
  CHECK_THROWS_WITH(apply(powers, {&x}),
                    doctest::Contains("[test_powers] has 2 results here: use apply_all"));
}

TEST_CASE("first and second derivatives of several results, both modes") {
  const Tensor x = vec(kPoint);
  for (const Sample& s : kSamples) {
    const Function f = [&](const Tensor& v) { return total(s.op, v); };
    const Values slope = s.slope(kPoint), second = s.second(kPoint);
    near(grad(f)(x), slope);
    for (std::size_t i = 0; i < 3; ++i) {
      Values unit(3, 0);
      unit[i] = 1;
      near(jvp(f, x, vec(unit)).second, {slope[i]});
      // Reverse over forward, forward over reverse, reverse over reverse, forward over forward.
      const Function slope_i = [&](const Tensor& v) { return jvp(f, v, vec(unit)).second; };
      near(grad(slope_i)(x), row_of(second, i, 3));
      near(jvp(grad(f), x, vec(unit)).second, row_of(second, i, 3));
      near(grad([&](const Tensor& v) { return sum(grad(f)(v) * vec(unit)); })(x),
           row_of(second, i, 3));
      near(jvp(slope_i, x, vec(unit)).second, {second[i * 3 + i]});
    }
    near(hessian(f)(x), second);
  }
}

TEST_CASE("results of which some are unused, or used alone") {
  const Tensor x = vec(kPoint);
  const Function first = [](const Tensor& v) { return sum(both(powers, v)[0]); };
  const Function second = [](const Tensor& v) { return both(powers, v)[1]; };
  near(grad(first)(x), {1, -2, 4});
  near(grad(second)(x), {0.75, 3, 12});
  near(hessian(first)(x), {2, 0, 0, 0, 2, 0, 0, 0, 2});
  near(hessian(second)(x), {3, 0, 0, 0, -6, 0, 0, 0, 12});
  near(grad([](const Tensor& v) { return both(powers, v), sum(v); })(x), {1, 1, 1});
  near(jvp(second, x, vec({1, 1, 1})).second, {15.75});
  // One result is the other's input.
  const Function chain = [](const Tensor& v) { return both(powers, both(powers, v)[0])[1]; };
  near(grad(chain)(x), {6 * std::pow(0.5, 5), -6, 6 * 32});
}

TEST_CASE("a batch of several results is a loop over it") {
  const std::int64_t shape[] = {2, 3};
  const Tensor rows = Tensor::from_data(Values{0.5, -1, 2, 1, 0.25, -0.5}, shape);
  const Values other = {1, 0.25, -0.5};
  for (const Sample& s : kSamples) {
    const Function f = [&](const Tensor& v) { return total(s.op, v); };
    Values want = s.slope(kPoint);
    const Values more = s.slope(other);
    want.insert(want.end(), more.begin(), more.end());
    near(vmap(grad(f))(rows), want);
    near(grad([&](const Tensor& v) { return sum(vmap(f)(v)); })(rows), want);
    Values both_seconds = s.second(kPoint);
    const Values second = s.second(other);
    both_seconds.insert(both_seconds.end(), second.begin(), second.end());
    near(vmap(hessian(f))(rows), both_seconds);
    CHECK(vmap(f)(rows).to_vector() == Values{f(vec(kPoint)).item(), f(vec(other)).item()});
  }
  near(vmap(grad([](const Tensor& v) { return both(powers, v)[1]; }))(rows),
       {0.75, 3, 12, 3, 0.1875, 0.75});
}

TEST_CASE("now, deferred and compiled give the same bits") {
  Values many(40000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = std::sin(static_cast<double>(i));
  const auto n = static_cast<std::int64_t>(many.size());
  for (const Tensor& x : {vec(kPoint), Tensor::from_data(many, {&n, 1})}) {
    for (const Sample& s : kSamples) {
      const ListFunction f = [&](std::span<const Tensor> in) {
        const Tensor scaled = in[0] * 0.5;
        const List y = both(s.op, scaled);
        const auto [value, slope] =
            value_and_grad([&](const Tensor& v) { return total(s.op, v * 0.5); })(in[0]);
        return List{y[0] + 1.0, y[1], value, slope};
      };
      List now;
      {
        const DeferralScope off(false);
        now = f({&x, 1});
      }
      const List deferred = f({&x, 1}), compiled = compile(f)({&x, 1});
      const List traced = trace(f, {&x, 1})->run({&x, 1});
      for (std::size_t i = 0; i < now.size(); ++i) {
        CHECK(now[i].to_vector() == deferred[i].to_vector());
        CHECK(now[i].to_vector() == compiled[i].to_vector());
        CHECK(now[i].to_vector() == traced[i].to_vector());
      }
    }
  }
}

TEST_CASE("a compiled function of several results is recorded and transformed") {
  const Tensor x = vec(kPoint);
  for (const Sample& s : kSamples) {
    const ListFunction compiled =
        compile([&](std::span<const Tensor> in) { return List{total(s.op, in[0])}; });
    const Function f = [&](const Tensor& v) { return compiled({&v, 1})[0]; };
    near(grad(f)(x), s.slope(kPoint));
    near(hessian(f)(x), s.second(kPoint));
    near(jvp(f, x, vec({0, 1, 0})).second, {s.slope(kPoint)[1]});
    const std::int64_t shape[] = {1, 3};
    near(vmap(grad(f))(reshape(x, shape)), s.slope(kPoint));
    Tensor leaf = vec(kPoint);
    leaf.requires_grad_(true);
    const Tensor y = f(leaf);
    y.backward();
    near(leaf.grad(), s.slope(kPoint));
  }
}

TEST_CASE("what a recorded program keeps of several results") {
  // The first half uses result 0 alone, the second half the other too.
  const ListFunction compiled = compile([](std::span<const Tensor> in) {
    const List y = both(exponents, in[0]);
    return List{sum(exp(y[0] * 0.1)) * wide(y[1])};
  });
  const ListFunction plain = [](std::span<const Tensor> in) {
    const List y = both(exponents, in[0]);
    return List{sum(exp(y[0] * 0.1)) * wide(y[1])};
  };
  const Tensor x = vec(kPoint);
  const auto of = [](const ListFunction& f) {
    return grad([&f](const Tensor& v) { return f({&v, 1})[0]; });
  };
  CHECK(of(compiled)(x).to_vector() == of(plain)(x).to_vector());
}

TEST_CASE("several results in a compiled loop") {
  const Tensor x = vec({0.5, -0.25, 0.125});
  const ListFunction f = [](std::span<const Tensor> in) {
    const std::vector<ResultSpec> carry = {{DType::float64, {3}}, {DType::float32, {}}};
    const ClosedGraph body = trace_closed(
        [](std::span<const Tensor> v) {
          const List y = both(exponents, v[0] * 0.5);
          return List{y[0] * 0.5, v[1] + y[1], y[0], y[1]};
        },
        carry, {}, "scan");
    const List inputs = {in[0], Tensor::scalar(0.0, DType::float32)};
    return call(
        make_scan(*body.graph, 2, 0, 4, false, make_batch([](const BatchArgs&) { return List{}; })),
        inputs);
  };
  const List out = trace(f, {&x, 1})->run({&x, 1});
  Tensor state = x, summed = Tensor::scalar(0.0, DType::float32);
  List arrays, numbers;
  for (int step = 0; step < 4; ++step) {
    const List y = both(exponents, state * 0.5);
    state = y[0] * 0.5;
    summed = summed + y[1];
    arrays.push_back(y[0]);
    numbers.push_back(y[1]);
  }
  CHECK(out[0].to_vector() == state.to_vector());
  CHECK(out[1].to_vector() == summed.to_vector());
  CHECK(out[2].to_vector() == stack(arrays, 0).to_vector());
  CHECK(out[3].to_vector() == stack(numbers, 0).to_vector());
  CHECK(out[3].dtype() == DType::float32);
}

TEST_CASE("graphs say what the results are, and merge equal applications") {
  const Tensor x = vec(kPoint);
  const auto program = trace(
      [](std::span<const Tensor> in) {
        return List{both(powers, in[0])[1], both(powers, in[0])[0]};
      },
      {&x, 1});
  const std::string text = program->text();
  CHECK(text.find("%1 = test_powers %0 : float64 (3,), float32 ()") != std::string::npos);
  CHECK(text.find("= part %1 index=1 : float32 ()") != std::string::npos);
  CHECK(text.find("test_powers", text.find("test_powers") + 1) == std::string::npos);
  CHECK(program->stats().instructions == 3);
}

TEST_CASE("Taylor series go through several results") {
  const Tensor x = vec({0.4, -0.2}), t = vec({1, 1});
  for (const Op* op : {&powers, &exponents, &doubles}) {
    const auto rows = taylor(
        [&](std::span<const Tensor> in) {
          const List y = both(*op, in[0]);
          return List{y[0] * y[0], wide(y[1])};
        },
        {&x, 1}, {&t, 1}, 3);
    const auto want = taylor(
        [&](std::span<const Tensor> in) {
          const Tensor& v = in[0];
          const Tensor y = op == &powers ? square(v) : op == &exponents ? exp(v) : v * 2.0;
          return List{y * y, sum(op == &powers ? y * v : op == &exponents ? y : v)};
        },
        {&x, 1}, {&t, 1}, 3);
    for (std::size_t k = 0; k < rows.size(); ++k)
      for (std::size_t i = 0; i < 2; ++i) near(rows[k][i], want[k][i].to_vector());
  }
}

TEST_CASE("values live as long as a handle or a rule wants them") {
  const std::int64_t before = live_node_count();
  {
    Tensor x = vec(Values(1000, 0.5));
    x.requires_grad_(true);
    List y = both(powers, x);
    const Node* tuple = y[0].node()->inputs()[0];
    CHECK(is_tuple(tuple));
    CHECK(y[1].node()->inputs()[0] == tuple);
    CHECK(tuple->uses() == 0);  // the rule reads the input alone
    Node* value = results_of(tuple)[0];
    CHECK(value->state.load() == State::dropped);
    CHECK(y[0].node()->gives_memory());
    const Tensor z = sum(y[0]) * 2.0;
    y.clear();
    z.backward();
    CHECK(x.grad().to_vector()[7] == 2);
    z.backward();  // a graph may be swept again
    CHECK(x.grad().to_vector()[7] == 4);

    const List e = both(exponents, x);
    const Node* saved = e[0].node()->inputs()[0];
    CHECK(saved->uses() == 1);
    CHECK(results_of(saved)[0]->is_ready());
    CHECK(!e[0].node()->gives_memory());
  }
  CHECK(live_node_count() == before);
}

TEST_CASE("a chain of many applications is swept and freed without recursion") {
  const std::int64_t before = live_node_count();
  {
    Tensor x = vec({1.0});
    x.requires_grad_(true);
    Tensor y = x;
    for (int i = 0; i < 100'000; ++i) y = both(doubles, y * 0.5)[0];
    sum(y).backward();
    CHECK(x.grad().to_vector()[0] == 1);
  }
  CHECK(live_node_count() == before);
}

TEST_CASE("several threads sweep the same results") {
  for (const Sample& s : kSamples) {
    Tensor x = vec(kPoint);
    x.requires_grad_(true);
    const List y = both(s.op, x);
    const Tensor z = sum(y[0] * y[0]) + wide(y[1]) * sum(y[0]) + sum(y[0]);
    std::vector<std::thread> threads;
    std::vector<Values> found(4);
    for (Values& slot : found)
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) slot = sweep({&z, 1}, {}, {&x, 1})[0].to_vector();
      });
    for (std::thread& t : threads) t.join();
    for (const Values& slot : found) near(vec(slot), s.slope(kPoint));
  }
}

TEST_CASE("anomalies of several results are reported at their application") {
  const Tensor bad = vec({1000});
  const AnomalyScope scope;
  CHECK_THROWS_WITH(both(exponents, bad), doctest::Contains("[test_exponents] gave 1 inf"));
  const Function f = [](const Tensor& v) { return both(steep, v)[1]; };
  CHECK_THROWS_WITH(grad([&](const Tensor& v) { return wide(f(v)); })(vec({1})),
                    doctest::Contains("[test_steep] its derivative gave 1 inf in 1 value\n"
                                      "  backward, in the derivative of `test_steep`"));
  CHECK_THROWS_WITH(jvp(f, vec({1}), vec({1})),
                    doctest::Contains("[test_steep] its derivative gave 1 inf in 1 value\n"
                                      "  forward mode, in the derivative of `test_steep`"));
}
