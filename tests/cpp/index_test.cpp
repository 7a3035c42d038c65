// x[...] of the C++ face. Expected values are those of NumPy for the same keys (the placement of
// axes, masks of no axis), or loops written here; that the Python face means the same is tested
// there, at random and in every mode.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "adjoint/compile.h"
#include "adjoint/index.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"

using namespace adjoint;

namespace {

using Values = std::vector<double>;
using Extents = std::vector<std::int64_t>;

Extents shape_of(const Tensor& t) { return {t.shape().begin(), t.shape().end()}; }

/// 0, 1, 2, ... in this shape: an element says where it stands.
Tensor places(const Extents& shape) {
  std::int64_t n = 1;
  for (const std::int64_t e : shape) n *= e;
  return reshape(arange(0.0, static_cast<double>(n), 1.0, DType::float64), shape);
}

Tensor integers(const std::vector<std::int64_t>& data, const Extents& shape) {
  return Tensor::from_data(std::span<const std::int64_t>(data), shape);
}
Tensor integers(const std::vector<std::int64_t>& data) {
  return integers(data, {static_cast<std::int64_t>(data.size())});
}
Tensor mask(const std::vector<std::int64_t>& data) {
  return astype(integers(data), DType::boolean);
}

void check_values(const Tensor& t, const Extents& shape, const Values& expected) {
  CHECK(shape_of(t) == shape);
  CHECK(t.to_vector() == expected);
}

void check_error(const std::function<void()>& f, ErrorKind kind, const std::string& text) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.kind() == kind);
    CHECK(std::string(e.what()).find(text) != std::string::npos);
    return;
  }
  FAIL("no error: " << text);
}

}  // namespace

TEST_CASE("integers, slices, the ellipsis and new axes choose a view") {
  const Tensor x = places({2, 3, 4});
  check_values(index(x, {1, 2, 3}), {}, {23});
  check_values(index(x, {-1, 0}), {4}, {12, 13, 14, 15});
  check_values(index(x, {Slice(0, 2), Ellipsis, 3}), {2, 3}, {3, 7, 11, 15, 19, 23});
  check_values(index(x, {0, NewAxis, Slice({}, {}, -2), Slice(1, 3)}), {1, 2, 2}, {9, 10, 1, 2});
  check_values(index(x, {0, Slice(5, {}), Slice(-3, -1)}), {0, 2}, {});
  CHECK(shape_of(index(x, {})) == Extents{2, 3, 4});
  check_error([&] { index(x, {0, 3}); }, ErrorKind::index,
              "[index] index 3 is out of range for axis 1 of length 3");
  check_error([&] { index(x, {0, 0, 0, 0}); }, ErrorKind::index, "too many indices");
  check_error([&] { index(x, {Ellipsis, Ellipsis}); }, ErrorKind::index, "more than one");
  check_error([&] { index(x, {Slice(0, 2, 0)}); }, ErrorKind::value, "step");
}

TEST_CASE("the axes of index arrays stand where NumPy has them") {
  const Tensor x = places({2, 3, 4});
  const Tensor i = integers({0, 1}), j = integers({2, 0});
  check_values(index(x, {i, j}), {2, 4}, {8, 9, 10, 11, 12, 13, 14, 15});
  check_values(index(x, {Slice(), j, i}), {2, 2}, {8, 1, 20, 13});
  check_values(index(x, {i, Slice(), j}), {2, 3}, {2, 6, 10, 12, 16, 20});
  CHECK(shape_of(index(x, {0, Slice(), i})) == Extents{2, 3});
  CHECK(shape_of(index(x, {Slice(), 1, Ellipsis, i})) == Extents{2, 2});
  check_values(index(x, {Slice(), 1, Ellipsis, i}), {2, 2}, {4, 16, 5, 17});
  CHECK(shape_of(index(x, {Slice(), 1, i})) == Extents{2, 2});
  check_values(index(x, {Slice(), 1, i}), {2, 2}, {4, 5, 16, 17});
  const Tensor column = integers({0, 1}, {2, 1});
  check_values(index(x, {column, 0, integers({3, -1, 1})}), {2, 3}, {3, 3, 1, 15, 15, 13});
  check_error([&] { index(x, {i, integers({0, 1, 2})}); }, ErrorKind::index, "do not broadcast");
  check_error([&] { index(x, {Tensor(1.0)}); }, ErrorKind::type, "float64");
}

TEST_CASE("masks stand for their axes, also for none") {
  const Tensor x = places({2, 3});
  check_values(index(x, {mask({0, 1})}), {1, 3}, {3, 4, 5});
  check_values(index(x, {Slice(), mask({1, 0, 1})}), {2, 2}, {0, 2, 3, 5});
  check_values(index(x, {greater(x, 3.5)}), {2}, {4, 5});
  CHECK(shape_of(index(x, {true})) == Extents{1, 2, 3});
  CHECK(shape_of(index(x, {Slice(), false})) == Extents{2, 0, 3});
  CHECK(shape_of(index(x, {true, integers({0, 1, 1})})) == Extents{3, 3});
  check_error([&] { index(x, {mask({1, 0, 1})}); }, ErrorKind::index, "(3,)");
}

TEST_CASE("assignment: values broadcast, the last of equal indices stays") {
  const Tensor x = places({2, 3});
  check_values(index_put(x, {1, 2}, 9.0), {2, 3}, {0, 1, 2, 3, 4, 9});
  check_values(index_put(x, {Slice(), 0}, places({2})), {2, 3}, {0, 1, 2, 1, 4, 5});
  const Tensor twice = integers({1, 0, 1});
  check_values(index_put(x, {0, twice}, places({3})), {2, 3}, {1, 2, 2, 3, 4, 5});
  check_values(index_put(x, {greater(x, 2.5)}, -1.0), {2, 3}, {0, 1, 2, -1, -1, -1});
  check_values(index_put(x, {mask({0, 1})}, places({3})), {2, 3}, {0, 1, 2, 0, 1, 2});
  CHECK(x.to_vector() == Values{0, 1, 2, 3, 4, 5});
  check_error([&] { index_put(x, {0}, places({2})); }, ErrorKind::value, "(2,)");
  const Tensor whole = arange(0, 3);
  check_values(index_put(whole, {1}, 7.0), {3}, {0, 7, 2});
  check_error([&] { index_put(whole, {1}, 0.5); }, ErrorKind::type, "int64");
  check_error([&] { index_put(whole, {1}, Tensor(1.0)); }, ErrorKind::type, "float64");
}

TEST_CASE("derivatives of reading and assigning") {
  Tensor x = places({3}), v = places({3});
  x.requires_grad_();
  v.requires_grad_();
  const Tensor i = integers({2, 2, 0});
  sum(square(index(x, {i}))).backward();
  check_values(x.grad(), {3}, {0, 0, 8});
  x.zero_grad();
  sum(index_put(x, {i}, v) * places({3}) + 0.0).backward();
  check_values(x.grad(), {3}, {0, 1, 0});
  check_values(v.grad(), {3}, {0, 2, 0});
}

TEST_CASE("an index out of range is found in batches and programs, on the user's axis") {
  const Tensor x = places({3, 4});
  const TransformLevel level = TransformLevel::batch(2);
  const Tensor j = level.make_batched(integers({0, 1}), 0);
  const Tensor k = level.make_batched(integers({7, 5}), 0);
  const char* text = "[index] index 7 is out of range for axis 1 of length 4";
  check_error([&] { index(x, {j, k}); }, ErrorKind::index, text);
  check_error([&] { index(x, {Slice(), k}); }, ErrorKind::index, text);
  check_error([&] { index_put(x, {j, k}, 0.0); }, ErrorKind::index, text);
  const std::vector<Tensor> good{x, integers({0, -1}), integers({3, -4})};
  const std::vector<Tensor> bad{x, integers({0, 1}), integers({7, 5})};
  const auto program = trace(
      [](std::span<const Tensor> in) { return std::vector<Tensor>{index(in[0], {in[1], in[2]})}; },
      good);
  CHECK(program->run(good)[0].to_vector() == Values{3, 8});
  check_error([&] { program->run(bad); }, ErrorKind::index, text);
}

TEST_CASE("integers beyond the doubles") {
  const std::int64_t big = std::int64_t{1} << 60;
  const Tensor x = arange(big, big + 3);
  CHECK(subtract(x, Tensor::scalar(big, DType::int64)).to_vector() == Values{0, 1, 2});
  check_error([] { arange(0, 300, 1, DType::int8); }, ErrorKind::overflow, "299");
  check_error([] { arange(0, 3, 0); }, ErrorKind::value, "step");
  const Tensor far = astype(arange(-1, 0), DType::uint64);  // 2^64 - 1
  check_error([&] { index(places({3}), {far}); }, ErrorKind::index, "index 18446744073709551615");
}
