// Operations that move, create, multiply and draw elements. Values are compared with loops written
// here, derivatives with central differences and with the adjoint identity <c, J t> = <J' c, t>,
// batches with a loop over the elements, the generator with the published known answers.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <vector>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "base/thread_pool.h"
#include "errors_support.h"
#include "graph/apply.h"
#include "graph/op.h"
#include "kernels/philox.h"
#include "ops/indexing.h"
#include "ops/random.h"

using namespace adjoint;

namespace {

using Values = std::vector<double>;

Dims shape_of(const Tensor& t) { return Dims(t.shape()); }

/// 0.1, irregular and without repetition, so that misplaced elements show.
Tensor sample(Dims shape, double seed = 0.1) {
  std::int64_t n = 1;
  for (const std::int64_t e : shape) n *= e;
  Values data;
  for (std::int64_t i = 0; i < n; ++i)
    data.push_back(std::sin(seed * 7 + 1.7 * static_cast<double>(i + 1)));
  return Tensor::from_data(data, shape);
}

Tensor integers(std::vector<std::int64_t> data, Dims shape) {
  return Tensor::from_data(data, shape);
}

AttrsPtr along(std::int64_t axis) {
  return make_attrs(EntryAttrs{.axis = axis, .named_axis = axis});
}

double inner_product(const Tensor& a, const Tensor& b) {
  const Values x = a.to_vector(), y = b.to_vector();
  REQUIRE(x.size() == y.size());
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

void check_close(const Tensor& a, const Tensor& b, double tolerance = 1e-12) {
  CHECK(shape_of(a) == shape_of(b));
  const Values x = a.to_vector(), y = b.to_vector();
  REQUIRE(x.size() == y.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
  CHECK(worst <= tolerance);
}

void check_values(const Tensor& t, Dims shape, const Values& expected) {
  CHECK(shape_of(t) == shape);
  CHECK(t.to_vector() == expected);
}

/// Gradients against central differences along one direction per input, and against jvp.
void check_derivatives(const FunctionN& f, const std::vector<Tensor>& at) {
  const Tensor y = f(at);
  const Tensor ct = sample(shape_of(y), 0.7);
  std::vector<Tensor> leaves;
  for (const Tensor& x : at) {
    leaves.push_back(x.detach());
    leaves.back().requires_grad_();
  }
  const Tensor out = f(leaves);
  const std::vector<Tensor> gradients = sweep({&out, 1}, {&ct, 1}, leaves);
  for (std::size_t i = 0; i < at.size(); ++i) {
    CAPTURE(i);
    const Tensor direction = sample(shape_of(at[i]), 0.3 + static_cast<double>(i));
    constexpr double h = 1e-5;
    std::vector<Tensor> above = at, below = at;
    above[i] = at[i] + direction * h;
    below[i] = at[i] - direction * h;
    const double difference = (inner_product(f(above), ct) - inner_product(f(below), ct)) / (2 * h);
    CHECK(shape_of(gradients[i]) == shape_of(at[i]));
    CHECK(inner_product(gradients[i], direction) == doctest::Approx(difference).epsilon(1e-7));
    const TransformLevel dual = TransformLevel::dual();
    std::vector<Tensor> duals = at;
    duals[i] = dual.make_dual(at[i], direction);
    const Tensor tangent = dual.split_dual(f(duals)).second;
    const double forward = tangent.defined() ? inner_product(tangent, ct) : 0.0;
    CHECK(forward == doctest::Approx(difference).epsilon(1e-7));
  }
}

Tensor entry(const Tensor& x, std::int64_t i) {
  Dims starts(x.shape().size(), 0), counts(x.shape()), steps(x.shape().size(), 1);
  starts[0] = i;
  counts[0] = 1;
  return reshape(slice(x, starts, counts, steps), x.shape().subspan(1));
}

/// f over a batch (axis 0) of every non-empty choice of inputs, against a loop.
void check_batches(const FunctionN& f, const std::vector<Tensor>& stacked) {
  const std::int64_t size = stacked[0].shape()[0];
  for (unsigned choice = 1; choice < 1u << stacked.size(); ++choice) {
    CAPTURE(choice);
    std::vector<Tensor> results;
    for (std::int64_t b = 0; b < size; ++b) {
      std::vector<Tensor> one;
      for (std::size_t i = 0; i < stacked.size(); ++i)
        one.push_back(entry(stacked[i], choice >> i & 1 ? b : 0));
      results.push_back(f(one));
    }
    const TransformLevel level = TransformLevel::batch(size);
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < stacked.size(); ++i)
      inputs.push_back(choice >> i & 1 ? level.make_batched(stacked[i], 0) : entry(stacked[i], 0));
    check_close(level.split_batched(f(inputs), 0), stack(results, 0));
  }
}

std::size_t flat(const std::vector<std::int64_t>& index, const Dims& shape) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < shape.size(); ++i)
    at = at * static_cast<std::size_t>(shape[i]) + static_cast<std::size_t>(index[i]);
  return at;
}

}  // namespace

// ---------------------------------------------------------------------------------------- shape

TEST_CASE("reshape keeps the row-major order of any layout") {
  const Tensor x = Tensor::from_data(Values{0, 1, 2, 3, 4, 5}, Dims{2, 3});
  check_values(reshape(x, Dims{3, -1}), {3, 2}, {0, 1, 2, 3, 4, 5});
  const Tensor t = permute_dims(x, Dims{1, 0});
  check_values(t, {3, 2}, {0, 3, 1, 4, 2, 5});
  check_values(reshape(t, Dims{6}), {6}, {0, 3, 1, 4, 2, 5});
  // No copy where strides can say it: the transpose with a new axis, and a broadcast value.
  const Tensor wide = reshape(t, Dims{3, 1, 2});
  CHECK(wide.node()->stored.storage == x.node()->stored.storage);
  check_values(wide, {3, 1, 2}, {0, 3, 1, 4, 2, 5});
  const Tensor repeated = broadcast_to(reshape(x, Dims{2, 3, 1}), Dims{2, 3, 4});
  const Tensor merged = reshape(repeated, Dims{6, 2, 2});
  CHECK(merged.node()->stored.storage == x.node()->stored.storage);
  const Values four_times = merged.to_vector();
  for (std::size_t i = 0; i < 24; ++i) CHECK(four_times[i] == static_cast<double>(i / 4));
  check_values(reshape(flip(x, Dims{1}), Dims{3, 2}), {3, 2}, {2, 1, 0, 5, 4, 3});
}

TEST_CASE("reshape of empty values and errors") {
  const Tensor none = zeros(Dims{0, 3});
  check_values(reshape(none, Dims{3, 0, 7}), {3, 0, 7}, {});
  check_values(reshape(none, Dims{2, -1}), {2, 0}, {});
  check_error([&] { reshape(none, Dims{0, -1}); }, ErrorKind::value, {"[reshape]", "(0, 3)"});
  const Tensor x = sample({2, 3});
  check_error([&] { reshape(x, Dims{4}); }, ErrorKind::value, {"(2, 3)", "(4,)"});
  check_error([&] { reshape(x, Dims{-1, -1}); }, ErrorKind::value, {"(-1, -1)"});
  check_error([&] { permute_dims(x, Dims{0, 0}); }, ErrorKind::value, {"twice"});
  check_error([&] { permute_dims(x, Dims{0}); }, ErrorKind::value, {"(2, 3)"});
  check_error([&] { squeeze(x, Dims{0}); }, ErrorKind::value, {"(2, 3)"});
  check_error([&] { broadcast_to(x, Dims{2, 4}); }, ErrorKind::value, {"(2, 3)", "(2, 4)"});
  check_error([&] { expand_dims(x, 4); }, ErrorKind::index, {"[expand_dims]", "4"});
}

TEST_CASE("views of values that live in the node") {
  const Tensor pair = Tensor::from_data(std::vector<float>{1, 2}, Dims{2});
  REQUIRE(pair.node()->stored.storage == nullptr);
  check_values(flip(pair, Dims{0}), {2}, {2, 1});
  check_values(slice(pair, Dims{1}, Dims{1}, Dims{1}), {1}, {2});
  const Tensor table = broadcast_to(pair, Dims{3, 2});
  check_values(table, {3, 2}, {1, 2, 1, 2, 1, 2});
  check_values(flip(table, Dims{1}), {3, 2}, {2, 1, 2, 1, 2, 1});
  check_values(permute_dims(table, Dims{1, 0}), {2, 3}, {1, 1, 1, 2, 2, 2});
  check_values(reshape(table, Dims{6}), {6}, {1, 2, 1, 2, 1, 2});
  const Tensor column = slice(table, Dims{0, 1}, Dims{3, 1}, Dims{1, 1});
  check_values(column, {3, 1}, {2, 2, 2});
  check_values(slice(column, Dims{2, 0}, Dims{2, 1}, Dims{-2, 1}), {2, 1}, {2, 2});

  const Tensor square = Tensor::from_data(std::vector<float>{1, 2, 3, 4}, Dims{2, 2});
  REQUIRE(square.node()->stored.storage == nullptr);
  check_values(permute_dims(square, Dims{1, 0}), {2, 2}, {1, 3, 2, 4});
  check_values(flip(square, Dims{0}), {2, 2}, {3, 4, 1, 2});
  check_values(flip(permute_dims(square, Dims{1, 0}), Dims{1}), {2, 2}, {3, 1, 4, 2});
  const Tensor second = slice(square, Dims{0, 1}, Dims{2, 1}, Dims{1, 1});
  check_values(second, {2, 1}, {2, 4});
  check_values(broadcast_to(second, Dims{2, 2}), {2, 2}, {2, 2, 4, 4});
  check_values(reshape(permute_dims(square, Dims{1, 0}), Dims{4}), {4}, {1, 3, 2, 4});
  const Tensor doubles = Tensor::from_data(std::vector<double>{1, 2}, Dims{2});
  REQUIRE(doubles.node()->stored.storage == nullptr);
  check_values(flip(doubles, Dims{0}), {2}, {2, 1});
}

TEST_CASE("concat and stack") {
  const Tensor a = sample({2, 3}), b = sample({2, 1}, 0.5), none = zeros(Dims{2, 0});
  const std::vector<Tensor> parts{a, none, permute_dims(reshape(b, Dims{1, 2}), Dims{1, 0}), a};
  const Tensor y = concat(parts, -1);
  const Values va = a.to_vector(), vb = b.to_vector(), vy = y.to_vector();
  CHECK(shape_of(y) == Dims{2, 7});
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t c = 0; c < 7; ++c)
      CHECK(vy[r * 7 + c] == (c < 3 ? va[r * 3 + c] : c == 3 ? vb[r] : va[r * 3 + c - 4]));
  const std::vector<Tensor> mixed{integers({1, 2}, {2}),
                                  Tensor::from_data(std::vector<float>{3.5f}, Dims{1})};
  CHECK(concat(mixed, 0).dtype() == DType::float32);
  check_values(concat(mixed, 0), {3}, {1, 2, 3.5});
  const std::vector<Tensor> rows{sample({2}), sample({2}, 0.9)};
  check_close(stack(rows, 1), permute_dims(stack(rows, 0), Dims{1, 0}), 0);
  check_error([&] { concat(std::vector<Tensor>{a, sample({3, 3})}, 1); }, ErrorKind::value,
              {"[concat]", "(2, 3)", "(3, 3)"});
  check_error([&] { stack(std::vector<Tensor>{a, b}, 0); }, ErrorKind::value, {"(2, 1)"});
}

TEST_CASE("derivatives and batches of the shape operations") {
  const auto all = [](std::span<const Tensor> x) {
    const Tensor moved =
        permute_dims(broadcast_to(expand_dims(x[0], 1), Dims{2, 4, 3}), Dims{2, 0, 1});
    const Tensor turned = flip(reshape(moved, Dims{3, 8}), Dims{0});
    const std::vector<Tensor> parts{turned, x[1], turned};
    return concat(parts, 1);
  };
  check_derivatives(all, {sample({2, 3}), sample({3, 2}, 0.4)});
  check_batches(all, {sample({5, 2, 3}), sample({5, 3, 2}, 0.4)});
}

// ------------------------------------------------------------------------------------- indexing

TEST_CASE("slice reads what the starts, counts and steps say") {
  const Tensor x = sample({4, 5, 3});
  const Values v = x.to_vector();
  const Tensor y = slice(x, Dims{3, 0, 1}, Dims{2, 3, 1}, Dims{-2, 2, 5});
  const Values w = y.to_vector();
  CHECK(shape_of(y) == Dims{2, 3, 1});
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 3; ++j)
      CHECK(w[flat({i, j, 0}, {2, 3, 1})] == v[flat({3 - 2 * i, 2 * j, 1}, {4, 5, 3})]);
  check_values(slice(x, Dims{0, 9, 0}, Dims{4, 0, 3}, Dims{1, 1, 1}), {4, 0, 3}, {});
  check_error([&] { slice(x, Dims{0, 0, 0}, Dims{4, 6, 3}, Dims{1, 1, 1}); }, ErrorKind::index,
              {"[slice]", "(4, 5, 3)", "(4, 6, 3)"});
  check_error([&] { slice(x, Dims{1, 0, 0}, Dims{2, 1, 1}, Dims{-2, 1, 1}); }, ErrorKind::index,
              {"(4, 5, 3)"});
  check_error([&] { slice(x, Dims{0}, Dims{1}, Dims{1}); }, ErrorKind::index, {"(4, 5, 3)"});
}

TEST_CASE("put_slice replaces, and never changes what another handle sees") {
  const Tensor x = sample({4, 3}), value = sample({2, 3}, 0.8);
  const Tensor y = put_slice(x, value, Dims{3, 0}, Dims{2, 3}, Dims{-2, 1});
  const Values before = x.to_vector(), v = value.to_vector(), after = y.to_vector();
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 0; c < 3; ++c)
      CHECK(after[r * 3 + c] == (r == 3 ? v[c] : r == 1 ? v[3 + c] : before[r * 3 + c]));
  Tensor only = sample({4, 3}) + 0.0;
  const void* memory = only.node()->data();
  const Tensor taken = put_slice(only, value, Dims{0, 0}, Dims{2, 3}, Dims{1, 1}, 1);
  CHECK(taken.node()->data() == memory);
  Tensor held = sample({4, 3}) + 0.0;
  const Tensor view = slice(held, Dims{0, 0}, Dims{2, 3}, Dims{1, 1});
  const Values seen = view.to_vector();
  const Tensor copied = put_slice(held, value, Dims{0, 0}, Dims{2, 3}, Dims{1, 1}, 1);
  CHECK(view.to_vector() == seen);
  CHECK(copied.node()->data() != view.node()->data());
  check_error([&] { put_slice(x, integers({1}, {1}), Dims{0, 0}, Dims{1, 1}, Dims{1, 1}); },
              ErrorKind::type, {"int64", "float64"});
}

TEST_CASE("derivatives and batches of slices") {
  const auto f = [](std::span<const Tensor> x) {
    const Tensor y = put_slice(x[0], x[1], Dims{3, 0}, Dims{2, 2}, Dims{-3, 2});
    return slice(y, Dims{3, 2}, Dims{3, 3}, Dims{-1, -1}) +
           slice(y, Dims{1, 0}, Dims{3, 3}, Dims{1, 1});
  };
  check_derivatives(f, {sample({4, 3}), sample({2, 2}, 0.6)});
  check_batches(f, {sample({3, 4, 3}), sample({3, 2, 2}, 0.6)});
  const Op& add_slice = find_op("add_slice");
  const AttrsPtr held =
      make_attrs(SliceAttrs{.starts = {1, 2}, .counts = {2, 2}, .steps = {1, -2}});
  const auto g = [&](std::span<const Tensor> x) { return apply(add_slice, {&x[0], &x[1]}, held); };
  check_derivatives(g, {sample({4, 3}), sample({2, 2}, 0.6)});
  check_batches(g, {sample({3, 4, 3}), sample({3, 2, 2}, 0.6)});
  const Tensor once = g(std::vector<Tensor>{zeros(Dims{4, 3}), ones(Dims{2, 2})});
  check_values(once, {4, 3}, {0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0});
}

TEST_CASE("many reads and many writes of single elements are linear in both directions") {
  constexpr std::int64_t n = 10000;
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  Tensor w = sample({n});
  w.requires_grad_();
  Tensor total(0.0);
  for (std::int64_t i = 0; i < n; ++i)
    total =
        total + reshape(slice(w, Dims{i}, Dims{1}, Dims{1}), Dims{}) * static_cast<double>(i % 7);
  auto start = Clock::now();
  const Tensor read = sweep({&total, 1}, {}, {&w, 1})[0];
  MESSAGE("sweep of 10^4 reads: ", seconds(start) * 1e6 / n, " us each");
  CHECK(read.to_vector()[n - 1] == (n - 1) % 7);

  Tensor v = sample({1}, 0.5);
  v.requires_grad_();
  start = Clock::now();
  Tensor x = w * 1.0;
  for (std::int64_t i = 0; i < n / 2; ++i) x = put_slice(x, v, Dims{2 * i}, Dims{1}, Dims{1}, 1);
  MESSAGE("10^4 / 2 writes: ", seconds(start) * 2e6 / n, " us each");
  const Tensor y = sum(square(x));
  start = Clock::now();
  const std::vector<Tensor> g = sweep({&y, 1}, {}, std::vector<Tensor>{w, v});
  MESSAGE("their sweep: ", seconds(start) * 2e6 / n, " us each");
  const Values at = w.to_vector(), gw = g[0].to_vector();
  for (std::size_t i = 0; i < n; ++i) REQUIRE(gw[i] == (i % 2 ? 2 * at[i] : 0.0));
  CHECK(g[1].to_vector()[0] == doctest::Approx(n * v.to_vector()[0]).epsilon(1e-12));
}

TEST_CASE("take and its errors") {
  const Tensor x = sample({2, 4, 3});
  const Values v = x.to_vector();
  const Tensor i = integers({3, -4, 1, -1}, {2, 2});
  const std::int64_t at[] = {3, 0, 1, 3};
  const Tensor y = take(x, i, 1);
  CHECK(shape_of(y) == Dims{2, 2, 2, 3});
  const Values w = y.to_vector();
  for (std::int64_t o = 0; o < 2; ++o)
    for (std::int64_t k = 0; k < 4; ++k)
      for (std::int64_t c = 0; c < 3; ++c)
        CHECK(w[flat({o, k, c}, {2, 4, 3})] == v[flat({o, at[k], c}, {2, 4, 3})]);
  const Tensor last = take(x, astype(integers({2, 0}, {2}), DType::int32), -1);
  CHECK(shape_of(last) == Dims{2, 4, 2});
  CHECK(last.to_vector()[0] == v[2]);
  check_values(take(x, integers({}, {0}), 0), {0, 4, 3}, {});
  check_error([&] { take(x, i, 2); }, ErrorKind::index,
              {"[take]", "index 3", "axis 2", "length 3"});
  check_error([&] { take(x, sample({2}), 0); }, ErrorKind::type, {"float64", "int64"});
  check_error([&] { take(zeros(Dims{0}), integers({0}, {1}), 0); }, ErrorKind::index, {"length 0"});
}

TEST_CASE("derivatives of gathers and scatters, repeated indices included") {
  const Tensor i = integers({2, 0, -1, 2}, {2, 2});
  for (const int axis : {0, 1}) {
    CAPTURE(axis);
    check_derivatives(
        [&](std::span<const Tensor> x) { return take(x[0], i, axis) + sum(take(x[0], i, axis)); },
        {sample({3, 3})});
  }
  const Op& add_at = find_op("add_at");
  const Op& put_rows_op = find_op("put_rows");
  for (const Op* op : {&add_at, &put_rows_op}) {
    CAPTURE(op->name);
    for (const std::int64_t axis : {0, 1}) {
      const Dims value = axis == 0 ? Dims{2, 2, 4} : Dims{3, 2, 2};
      const Dims shape = axis == 0 ? Dims{3, 4} : Dims{3, 3};
      check_derivatives(
          [&](std::span<const Tensor> x) { return apply(*op, {&x[0], &i, &x[1]}, along(axis)); },
          {sample(shape), sample(value, 0.6)});
    }
  }
}

TEST_CASE("batches of gathers and scatters") {
  // Two batches of indices into length 3, given as numbers and rounded inside.
  const Tensor numbers = Tensor::from_data(Values{0, 2, -1, 2, 1, 1, -3, 0}, Dims{2, 2, 2});
  for (const std::int64_t axis : {0, 1, 2}) {
    CAPTURE(axis);
    Dims shape{4, 5, 6};
    shape[axis] = 3;
    Dims entries(Layout::Extents(shape).first(axis));
    entries.push_back(2);
    entries.push_back(2);
    for (std::size_t k = axis + 1; k < 3; ++k) entries.push_back(shape[k]);
    Dims xs = shape, vs = entries;
    xs.insert(0, 2);
    vs.insert(0, 2);
    check_batches(
        [&](std::span<const Tensor> x) {
          return take(x[0], astype(x[1], DType::int64), static_cast<int>(axis));
        },
        {sample(xs), numbers});
    for (const char* name : {"add_at", "put_rows"}) {
      CAPTURE(name);
      check_batches(
          [&](std::span<const Tensor> x) {
            const Tensor i = astype(x[1], DType::int64);
            return apply(find_op(name), {&x[0], &i, &x[2]}, along(axis));
          },
          {sample(xs), numbers, sample(vs, 0.4)});
    }
  }
  const TransformLevel level = TransformLevel::batch(2);
  const Tensor bad = level.make_batched(integers({0, 3}, {2, 1}), 0);
  const Tensor x = level.make_batched(sample({2, 3}), 0);
  check_error([&] { take(x, bad, 0); }, ErrorKind::index, {"index 3", "axis 0", "length 3"});
}

TEST_CASE("argmax and argmin") {
  const Tensor x = Tensor::from_data(Values{1, 5, 5, 9, -2, 0}, Dims{2, 3});
  check_values(argmax(x, 1, false), {2}, {1, 0});
  check_values(argmin(x, 0, true), {1, 3}, {0, 1, 1});
  CHECK(argmax(x, 0, false).dtype() == DType::int64);
  check_values(argmax(zeros(Dims{0, 3}), 1, false), {0}, {});
  check_error([&] { argmax(zeros(Dims{0, 3}), 0, false); }, ErrorKind::value,
              {"[argmax]", "(0, 3)", "empty"});
  check_batches([](std::span<const Tensor> t) { return argmax(t[0], -1, true); },
                {sample({3, 2, 5})});
}

// --------------------------------------------------------------------------------------- linalg

namespace {

/// The product by its definition, stacks by the array standard.
Values product_by_hand(const Tensor& a, const Tensor& b, Dims* shape) {
  Dims sa(a.shape()), sb(b.shape());
  const bool row = sa.size() == 1, column = sb.size() == 1;
  if (row) sa.insert(0, 1);
  if (column) sb.push_back(1);
  const std::int64_t m = sa[sa.size() - 2], k = sa.back(), n = sb.back();
  Dims stack_a(Layout::Extents(sa).first(sa.size() - 2));
  Dims stack_b(Layout::Extents(sb).first(sb.size() - 2));
  const std::size_t nd = std::max(stack_a.size(), stack_b.size());
  while (stack_a.size() < nd) stack_a.insert(0, 1);
  while (stack_b.size() < nd) stack_b.insert(0, 1);
  std::int64_t count = 1;
  shape->clear();
  for (std::size_t d = 0; d < nd; ++d) {
    shape->push_back(stack_a[d] == 1 ? stack_b[d] : stack_a[d]);
    count *= shape->back();
  }
  const Values va = a.to_vector(), vb = b.to_vector();
  Values out;
  for (std::int64_t s = 0; s < count; ++s) {
    std::int64_t rest = s, at_a = 0, at_b = 0, step_a = 1, step_b = 1;
    for (std::size_t d = nd; d-- > 0;
         rest /= (*shape)[d], step_a *= stack_a[d], step_b *= stack_b[d]) {
      const std::int64_t i = rest % (*shape)[d];
      at_a += (stack_a[d] == 1 ? 0 : i) * step_a;
      at_b += (stack_b[d] == 1 ? 0 : i) * step_b;
    }
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double total = 0;
        for (std::int64_t p = 0; p < k; ++p)
          total += va[static_cast<std::size_t>((at_a * m + i) * k + p)] *
                   vb[static_cast<std::size_t>((at_b * k + p) * n + j)];
        out.push_back(total);
      }
  }
  if (!row) shape->push_back(m);
  if (!column) shape->push_back(n);
  return out;
}

const std::vector<std::pair<Dims, Dims>> kProducts = {{{3}, {3}},
                                                      {{3}, {3, 2}},
                                                      {{2, 3}, {3}},
                                                      {{2, 3}, {3, 4}},
                                                      {{1, 3}, {3, 1}},
                                                      {{4, 2, 3}, {3, 5}},
                                                      {{4, 2, 3}, {3}},
                                                      {{3}, {4, 3, 2}},
                                                      {{2, 3}, {4, 3, 2}},
                                                      {{4, 2, 3}, {4, 3, 2}},
                                                      {{2, 1, 2, 3}, {4, 3, 2}},
                                                      {{4, 2, 3}, {2, 1, 3, 2}},
                                                      {{2, 0}, {0, 3}},
                                                      {{0, 2}, {2, 3}},
                                                      {{2, 0, 2, 3}, {3, 2}}};

}  // namespace

TEST_CASE("matmul against its definition") {
  for (const auto& product : kProducts) {
    const auto &sa = product.first, &sb = product.second;
    CAPTURE(to_string(sa));
    CAPTURE(to_string(sb));
    const Tensor a = sample(sa), b = sample(sb, 0.6);
    Dims shape;
    const Values expected = product_by_hand(a, b, &shape);
    const Tensor y = matmul(a, b);
    CHECK(shape_of(y) == shape);
    const Values v = y.to_vector();
    REQUIRE(v.size() == expected.size());
    for (std::size_t i = 0; i < v.size(); ++i)
      CHECK(v[i] == doctest::Approx(expected[i]).epsilon(1e-13));
    const Tensor whole = astype(
        matmul(astype(a * 9.0, DType::int32), astype(b * 9.0, DType::int32)), DType::float64);
    CHECK(whole.to_vector() ==
          product_by_hand(astype(astype(a * 9.0, DType::int32), DType::float64),
                          astype(astype(b * 9.0, DType::int32), DType::float64), &shape));
  }
}

TEST_CASE("matmul reads any layout") {
  const Tensor a = sample({5, 7}), b = sample({7, 4}, 0.6);
  const Tensor expected = matmul(a, b);
  const Tensor at = permute_dims(permute_dims(a, Dims{1, 0}) + 0.0, Dims{1, 0});
  const Tensor bt = permute_dims(permute_dims(b, Dims{1, 0}) + 0.0, Dims{1, 0});
  check_close(matmul(at, bt), expected, 1e-14);
  const Tensor turned = flip(flip(a, Dims{0, 1}) + 0.0, Dims{0, 1});
  check_close(matmul(turned, b), expected, 1e-14);
  const Tensor wide = broadcast_to(sample({1, 7}), Dims{5, 7});
  check_close(matmul(wide, b), matmul(wide + 0.0, b), 1e-14);
}

TEST_CASE("matmul of integers wraps, dtypes meet, and errors name both shapes") {
  const Tensor big = astype(integers({100, 100}, {1, 2}), DType::int8);
  const Tensor y = matmul(big, permute_dims(big, Dims{1, 0}));
  CHECK(y.dtype() == DType::int8);
  CHECK(y.item() == 20000 % 256);
  const Tensor f = astype(sample({2, 3}), DType::float32);
  CHECK(matmul(f, sample({3})).dtype() == DType::float64);
  CHECK(matmul(f, integers({1, 2, 3}, {3})).dtype() == DType::float32);
  check_error([&] { matmul(sample({2, 3}), sample({4, 3})); }, ErrorKind::value,
              {"[matmul]", "(2, 3)", "(4, 3)"});
  check_error([&] { matmul(sample({3}), sample({2})); }, ErrorKind::value, {"(3,)", "(2,)"});
  check_error([&] { matmul(sample({2, 2, 2}), sample({3, 2, 2})); }, ErrorKind::value,
              {"(2, 2, 2)", "(3, 2, 2)"});
  check_error([&] { matmul(sample({}), sample({2})); }, ErrorKind::value, {"()", "scalar"});
  const Tensor mask = greater(sample({2, 2}), sample({2, 2}, 0.3));
  check_error([&] { matmul(mask, mask); }, ErrorKind::type, {"bool"});
}

TEST_CASE("derivatives and batches of matmul") {
  const auto f = [](std::span<const Tensor> x) { return matmul(x[0], x[1]); };
  for (const auto& product : kProducts) {
    const auto &sa = product.first, &sb = product.second;
    CAPTURE(to_string(sa));
    CAPTURE(to_string(sb));
    check_derivatives(f, {sample(sa), sample(sb, 0.6)});
    Dims ba = sa, bb = sb;
    ba.insert(0, 3);
    bb.insert(0, 3);
    check_batches(f, {sample(ba), sample(bb, 0.6)});
  }
}

// ------------------------------------------------------------------------------------- creation

TEST_CASE("creation") {
  check_values(zeros(Dims{2, 2}, DType::int16), {2, 2}, {0, 0, 0, 0});
  check_values(ones(Dims{3}, DType::boolean), {3}, {1, 1, 1});
  check_values(zeros(Dims{0, 4}), {0, 4}, {});
  check_values(arange(0, 5, 2, DType::int64), {3}, {0, 2, 4});
  check_values(arange(5, 0, -2, DType::float64), {3}, {5, 3, 1});
  check_values(arange(0, -1, 1, DType::float32), {0}, {});
  check_values(arange(254, 256, 1, DType::uint8), {2}, {254, 255});
  check_error([] { arange(254, 258, 1, DType::uint8); }, ErrorKind::overflow, {"257", "uint8"});
  check_values(linspace(0, 1, 5, true, DType::float64), {5}, {0, 0.25, 0.5, 0.75, 1});
  check_values(linspace(0, 1, 4, false, DType::float64), {4}, {0, 0.25, 0.5, 0.75});
  check_values(linspace(2, 3, 1, true, DType::float64), {1}, {2});
  CHECK(linspace(0, 0.7, 8, true, DType::float64).to_vector().back() == 0.7);
  check_values(eye(2, 3), {2, 3}, {1, 0, 0, 0, 1, 0});
  check_values(eye(3, 2, -1, DType::int8), {3, 2}, {0, 0, 1, 0, 0, 1});
  check_values(eye(2, 0), {2, 0}, {});
  check_error([] { zeros(Dims{2, -1}); }, ErrorKind::value, {"(2, -1)"});
  check_error([] { arange(0, 1, 0, DType::int64); }, ErrorKind::value, {"[arange]", "step"});
  check_error([] { linspace(0, 1, -1, true, DType::float64); }, ErrorKind::value, {"-1"});
}

// --------------------------------------------------------------------------------------- random

namespace {

Tensor state(std::uint64_t key, std::uint64_t counter) {
  Node* n = new_array(DType::uint64, Dims{2}, "test");
  static_cast<std::uint64_t*>(n->data())[0] = key;
  static_cast<std::uint64_t*>(n->data())[1] = counter;
  return Tensor::adopt(n);
}

}  // namespace

TEST_CASE("Philox gives the known answers of the Random123 distribution") {
  using kernels::philox4x32_10;
  using kernels::PhiloxBlock;
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) ==
        PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t f = 0xffffffff;
  CHECK(philox4x32_10({f, f, f, f}, {f, f}) ==
        PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform draws take their bits from the blocks at the counter") {
  const std::uint64_t key = 0x299f31d0a4093822, counter = 0x1ffffffff;
  const Values y = random_uniform(state(key, counter), Dims{5}, DType::float64).to_vector();
  const Values z = random_uniform(state(key, counter), Dims{5}, DType::float32).to_vector();
  for (std::size_t i = 0; i < 5; ++i) {
    const std::uint64_t number = counter + i / 2;
    const auto w = kernels::philox4x32_10(
        {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), 0, 0},
        {0xa4093822, 0x299f31d0});
    const std::uint64_t bits = std::uint64_t{w[2 * (i % 2) + 1]} << 32 | w[2 * (i % 2)];
    CHECK(y[i] == std::ldexp(static_cast<double>(bits >> 11), -53));
    const std::uint64_t of_four = counter + i / 4;
    const auto v = kernels::philox4x32_10(
        {static_cast<std::uint32_t>(of_four), static_cast<std::uint32_t>(of_four >> 32), 0, 0},
        {0xa4093822, 0x299f31d0});
    CHECK(z[i] == std::ldexp(static_cast<double>(v[i % 4] >> 8), -24));
  }
}

TEST_CASE("draws do not depend on threads, and streams continue after an advance") {
  const int before = num_threads();
  for (const auto draw : {random_uniform, random_normal}) {
    for (const DType dtype : {DType::float32, DType::float64}) {
      set_num_threads(1);
      const Values one = draw(state(3, 9), Dims{300001}, dtype).to_vector();
      set_num_threads(4);
      CHECK(draw(state(3, 9), Dims{300001}, dtype).to_vector() == one);
      CHECK(draw(state(3, 9), Dims{777}, dtype).to_vector() ==
            Values(one.begin(), one.begin() + 777));
    }
  }
  set_num_threads(before);
  const Tensor first = state(3, 9);
  const Tensor next = random_advance(first, 10);
  CHECK(next.to_vector() == Values{3, 15});
  check_values(random_uniform(state(1, 1), Dims{0, 3}, DType::float32), {0, 3}, {});
  check_error([] { random_uniform(sample({2}), Dims{1}, DType::float64); }, ErrorKind::value,
              {"[random_uniform]", "uint64", "float64"});
}

TEST_CASE("normal draws are Box and Muller's, with the right moments") {
  const std::int64_t n = 200000;
  const Values u = random_bits(state(5, 0), Dims{n}).to_vector();
  const Values z = random_normal(state(5, 0), Dims{n}, DType::float64).to_vector();
  double m1 = 0, m2 = 0, m4 = 0, worst = 0;
  for (std::size_t i = 0; i < z.size(); i += 2) {
    const double a = (std::floor(std::ldexp(u[i], -11)) + 1) * 0x1p-53;
    const double b = (std::floor(std::ldexp(u[i + 1], -11)) + 1) * 0x1p-53;
    const double r = std::sqrt(-2 * std::log(a));
    worst = std::max(worst, std::abs(z[i] - r * std::cos(2 * std::numbers::pi * b)));
    worst = std::max(worst, std::abs(z[i + 1] - r * std::sin(2 * std::numbers::pi * b)));
  }
  CHECK(worst < 1e-9);  // the bits pass through a double above and lose the last of 64
  for (const DType dtype : {DType::float32, DType::float64}) {
    m1 = m2 = m4 = 0;
    for (const double v : random_normal(state(6, 0), Dims{n}, dtype).to_vector()) {
      m1 += v / n;
      m2 += v * v / n;
      m4 += v * v * v * v / n;
    }
    CHECK(std::abs(m1) < 4 / std::sqrt(n));
    CHECK(std::abs(m2 - 1) < 4 * std::sqrt(2.0 / n));
    CHECK(std::abs(m4 - 3) < 4 * std::sqrt(96.0 / n));
  }
}

TEST_CASE("integer draws are in range and even") {
  const std::int64_t n = 60000;
  std::vector<std::int64_t> seen(6, 0);
  for (const double v : random_integers(state(8, 0), Dims{n}, -2, 4).to_vector())
    ++seen.at(static_cast<std::size_t>(v + 2));
  double chi = 0;
  for (const std::int64_t k : seen) chi += (k - n / 6.0) * (k - n / 6.0) / (n / 6.0);
  CHECK(chi < 20.5);  // 0.1 % of draws exceed this at 5 degrees of freedom
  check_error([] { random_integers(state(1, 1), Dims{2}, 3, 3); }, ErrorKind::value, {"3"});
}

TEST_CASE("a batch of states draws what each would draw") {
  const TransformLevel level = TransformLevel::batch(2);
  const std::vector<Tensor> states{state(1, 5), state(9, 2)};
  const Tensor y = level.split_batched(
      random_normal(level.make_batched(stack(states, 0), 0), Dims{3}, DType::float64), 0);
  check_close(entry(y, 1), random_normal(states[1], Dims{3}, DType::float64), 0);
}

// ----------------------------------------------------------------------------------------- sort

TEST_CASE("sort and argsort are stable, with nan at the upper end") {
  const double nan = std::nan("");
  const Tensor x = Tensor::from_data(Values{2, nan, 1, 2, -1}, Dims{5});
  const auto order = [&](bool descending) { return argsort(x, 0, descending).to_vector(); };
  CHECK(order(false) == Values{4, 2, 0, 3, 1});
  CHECK(order(true) == Values{1, 0, 3, 2, 4});
  const Tensor m = integers({3, 1, 2, 0, 5, 4}, {2, 3});
  check_values(sort(m, 0), {2, 3}, {0, 1, 2, 3, 5, 4});
  check_values(sort(m, 1, true), {2, 3}, {3, 2, 1, 5, 4, 0});
  for (const int axis : {0, 1, 2}) {
    const auto f = [&](std::span<const Tensor> t) { return sort(t[0], axis, axis == 1); };
    check_derivatives(f, {sample({3, 4, 2})});
    check_batches(f, {sample({2, 3, 4, 2})});
  }
}
