// Block reductions, the search for extremes and strided copies: exact on integers, within an error
// bound and in the promised order on floats.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "kernels_support.h"

namespace {

using adjoint::DType;
using namespace adjoint::kernels;
using namespace kernels_support;

TEST_CASE_TEMPLATE("kernels: integer sums and products are exact modulo 2^bits", T, std::int32_t,
                   std::int64_t, std::uint32_t, std::uint64_t) {
  const std::vector<T> values = samples<T>(400);
  const ReduceKernel* sum = find_reduce("sum", dtype_of<T>());
  const ReduceKernel* prod = find_reduce("prod", dtype_of<T>());
  REQUIRE(sum != nullptr);
  REQUIRE(prod != nullptr);
  std::size_t wrong = 0;
  for (std::size_t n = 1; n <= static_cast<std::size_t>(kBlock); ++n) {
    std::uint64_t total = 0, product = 1;
    std::vector<T> odd_values;
    for (std::size_t i = 0; i < n; ++i) {
      odd_values.push_back(static_cast<T>(values[i + 60] | 1));
      total += static_cast<std::uint64_t>(values[i]);
      product *= static_cast<std::uint64_t>(odd_values[i]);
    }
    Odd<T> x(values), y(odd_values), out(1);
    sum->block(x.data(), static_cast<std::int64_t>(n), out.data());
    wrong += out[0] != static_cast<T>(total);
    prod->block(y.data(), static_cast<std::int64_t>(n), out.data());
    wrong += out[0] != static_cast<T>(product);
  }
  CHECK(wrong == 0);
  Odd<T> nothing(1);
  sum->identity(nothing.data());
  CHECK(nothing[0] == 0);
  prod->identity(nothing.data());
  CHECK(nothing[0] == 1);
}

// The order the table promises: of a few the order of the elements, where the kernel says so;
// else lane i % 32 in turn, then halves of the lanes.
template <class T, class F>
T in_promised_order(const ReduceKernel* kernel, const std::vector<T>& x, F combine) {
  if (static_cast<std::int64_t>(x.size()) <= kernel->in_order)
    return std::accumulate(x.begin() + 1, x.end(), x[0], combine);
  std::vector<std::vector<T>> lanes(32);
  for (std::size_t i = 0; i < x.size(); ++i) lanes[i % 32].push_back(x[i]);
  std::vector<std::vector<T>> tree(32);  // zero or one value per lane
  for (std::size_t j = 0; j < 32; ++j) {
    if (lanes[j].empty()) continue;
    T acc = lanes[j][0];
    for (std::size_t k = 1; k < lanes[j].size(); ++k) acc = combine(acc, lanes[j][k]);
    tree[j] = {acc};
  }
  for (std::size_t half = 16; half > 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j)
      if (!tree[j + half].empty()) tree[j] = {combine(tree[j][0], tree[j + half][0])};
  return tree[0][0];
}

TEST_CASE_TEMPLATE("kernels: float sums and products", T, float, double) {
  std::mt19937_64 engine(3);
  std::uniform_real_distribution<T> uniform(-1, 1);
  const ReduceKernel* sum = find_reduce("sum", dtype_of<T>());
  const ReduceKernel* prod = find_reduce("prod", dtype_of<T>());
  REQUIRE(sum != nullptr);
  REQUIRE(prod != nullptr);
  CHECK(sum->in_order == 0);
  CHECK(prod->in_order == 8);
  std::size_t wrong = 0;
  for (std::size_t n = 1; n <= static_cast<std::size_t>(kBlock); ++n) {
    std::vector<T> values, factors;
    long double total = 0, magnitude = 0, product = 1;
    for (std::size_t i = 0; i < n; ++i) {
      values.push_back(uniform(engine));
      factors.push_back(1 + uniform(engine) / 8);
      total += values[i];
      magnitude += std::abs(values[i]);
      product *= factors[i];
    }
    Odd<T> x(values), y(factors), out(1);
    sum->block(x.data(), static_cast<std::int64_t>(n), out.data());
    // 8 adds in a lane and 5 in the tree bound the error by 13 roundings.
    wrong += std::abs(out[0] - total) > 13 * (Limits<T>::epsilon() / 2) * magnitude;
    wrong += !same(out[0], in_promised_order(sum, values, [](T a, T b) { return a + b; }));
    prod->block(y.data(), static_cast<std::int64_t>(n), out.data());
    wrong += std::abs(out[0] - product) >
             1.01L * static_cast<long double>(n) * (Limits<T>::epsilon() / 2) * std::abs(product);
    wrong += !same(out[0], in_promised_order(prod, factors, [](T a, T b) { return a * b; }));
    std::vector<T> zeros(n, T(-0.0));
    Odd<T> z(zeros);
    sum->block(z.data(), static_cast<std::int64_t>(n), out.data());
    wrong += !same(out[0], T(-0.0));
  }
  CHECK(wrong == 0);
  Odd<T> nothing(1);
  sum->identity(nothing.data());
  CHECK(same(nothing[0], T(0)));
  prod->identity(nothing.data());
  CHECK(nothing[0] == 1);
}

TEST_CASE_TEMPLATE("kernels: extremes and where they are", T, ALL_INTEGERS, float, double) {
  const std::vector<T> all = samples<T>(1000);
  for (bool max : {true, false}) {
    const ReduceKernel* kernel = find_reduce(max ? "max" : "min", dtype_of<T>());
    const ArgReduceFn arg = find_argreduce(max ? "argmax" : "argmin", dtype_of<T>());
    REQUIRE(kernel != nullptr);
    REQUIRE((kernel->identity == nullptr));
    REQUIRE((arg != nullptr));
    std::size_t wrong = 0;
    for (std::size_t n = 1; n <= all.size(); n += n < 300 ? 1 : 97) {
      const std::vector<T> tail(all.end() - static_cast<std::ptrdiff_t>(n), all.end());
      std::size_t best = 0;
      for (std::size_t i = 1; i < n; ++i) {
        if (tail[best] != tail[best]) break;
        if (tail[i] != tail[i] || (max ? tail[i] > tail[best] : tail[i] < tail[best])) best = i;
      }
      Odd<T> x(tail), out(1);
      wrong += arg(x.data(), static_cast<std::int64_t>(n)) != static_cast<std::int64_t>(best);
      if (n > static_cast<std::size_t>(kBlock)) continue;
      kernel->block(x.data(), static_cast<std::int64_t>(n), out.data());
      wrong += !(out[0] == tail[best] || (out[0] != out[0] && tail[best] != tail[best]));
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("kernels: argmax takes the first of equals and a nan over all") {
  std::vector<float> x(1000, -INFINITY);
  const ArgReduceFn argmax = find_argreduce("argmax", DType::float32);
  CHECK(argmax(x.data(), 1000) == 0);
  x[700] = x[300] = 2;
  CHECK(argmax(x.data(), 1000) == 300);
  x[999] = x[998] = NAN;
  CHECK(argmax(x.data(), 1000) == 998);
  CHECK(find_argreduce("argmin", DType::float32)(x.data(), 1000) == 998);
  const bool flags[] = {false, true, true, false};
  CHECK(find_argreduce("argmax", DType::boolean)(flags, 4) == 1);
  CHECK(find_argreduce("argmin", DType::boolean)(flags, 4) == 0);
}

TEST_CASE_TEMPLATE("kernels: combine is the operation element by element", T, std::int32_t,
                   std::uint64_t, float, double) {
  const std::vector<T> values = samples<T>();
  const std::vector<T> others(values.rbegin(), values.rend());
  for (const char* name : {"sum", "prod", "max", "min"}) {
    const std::string tile = name == std::string("sum")    ? "add"
                             : name == std::string("prod") ? "multiply"
                             : name == std::string("max")  ? "maximum"
                                                           : "minimum";
    Odd<T> acc(values), x(others), want(values.size());
    const auto n = static_cast<std::int64_t>(values.size());
    const void* operands[] = {acc.data(), x.data()};
    find_tile(tile, dtype_of<T>())->vv(operands, want.data(), n);
    find_reduce(name, dtype_of<T>())->combine(acc.data(), x.data(), n);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) wrong += !same<T>(acc[i], want[i]);
    CHECK(wrong == 0);
  }
}

TEST_CASE("kernels: any and all") {
  const ReduceKernel* any = find_reduce("any", DType::boolean);
  const ReduceKernel* all = find_reduce("all", DType::boolean);
  REQUIRE(any != nullptr);
  REQUIRE(all != nullptr);
  for (std::int64_t n = 1; n <= kBlock; ++n) {
    for (std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
      std::vector<std::uint8_t> one(static_cast<std::size_t>(n), 0), hole(one.size(), 1);
      std::uint8_t out = 2;
      any->block(one.data(), n, &out);
      CHECK(out == 0);
      all->block(hole.data(), n, &out);
      CHECK(out == 1);
      one[static_cast<std::size_t>(at)] = 1;
      hole[static_cast<std::size_t>(at)] = 0;
      any->block(one.data(), n, &out);
      CHECK(out == 1);
      all->block(hole.data(), n, &out);
      CHECK(out == 0);
    }
  }
  std::uint8_t empty = 2;
  any->identity(&empty);
  CHECK(empty == 0);
  all->identity(&empty);
  CHECK(empty == 1);
  CHECK(find_reduce("sum", DType::int8) == nullptr);
}

TEST_CASE_TEMPLATE("kernels: strided copies", T, std::uint8_t, std::uint16_t, std::uint32_t,
                   std::uint64_t) {
  const StridedCopyFn copy = find_copy(sizeof(T));
  REQUIRE((copy != nullptr));
  constexpr std::int64_t size = sizeof(T);
  constexpr std::int64_t room = 800;
  const std::vector<T> values = samples<T>(room);
  for (std::int64_t from : {size, -size, std::int64_t{0}, 3 * size, -2 * size, size + 1}) {
    for (std::int64_t to : {size, -size, 2 * size, size + 3}) {
      std::size_t wrong = 0;
      for (std::int64_t n = 0; n <= 70; ++n) {
        std::vector<char> src(room * sizeof(T)), dst(room * sizeof(T), 1), want;
        std::memcpy(src.data(), values.data(), src.size());
        want = dst;
        const std::int64_t middle = room / 2 * size;
        for (std::int64_t i = 0; i < n; ++i)
          std::memcpy(want.data() + middle + i * to, src.data() + middle + i * from, sizeof(T));
        copy(src.data() + middle, from, dst.data() + middle, to, n);
        wrong += dst != want;
      }
      CHECK(wrong == 0);
    }
  }
  CHECK((find_copy(3) == nullptr));
}

}  // namespace
