// The tile and cast kernels against plain formulas in wider types: every dtype, every variant of an
// operand, every short length, odd addresses, and results written over operands.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/table.h"
#include "kernels_support.h"

namespace {

using adjoint::DType;
using namespace adjoint::kernels;
using namespace kernels_support;

using Int128 = __int128;  // NOLINT: no standard spelling

template <class T, class F>
void check_unary(const char* name, F expected, const TileKernel* kernel = nullptr) {
  using R = std::invoke_result_t<F, T>;
  CAPTURE(std::string(name));
  CAPTURE(std::string(adjoint::name(dtype_of<T>())));
  if (!kernel) kernel = find_tile(name, dtype_of<T>());
  REQUIRE(kernel != nullptr);
  REQUIRE(kernel->in == dtype_of<T>());
  REQUIRE(kernel->out == dtype_of<R>());
  REQUIRE(kernel->arity == 1);
  const std::vector<T> values = samples<T>();
  std::size_t wrong = 0;
  for (std::size_t n = 0; n <= values.size(); ++n) {
    // The last n values, so that every value meets every kind of loop remainder.
    const std::vector<T> tail(values.end() - static_cast<std::ptrdiff_t>(n), values.end());
    Odd<T> in(tail);
    Odd<R> out(n);
    const void* operands[] = {in.data()};
    kernel->vv(operands, out.data(), static_cast<std::int64_t>(n));
    for (std::size_t i = 0; i < n; ++i) wrong += !same<R>(out[i], expected(tail[i]));
    wrong += !out.guard_intact();
    if constexpr (sizeof(R) == sizeof(T)) {
      kernel->vv(operands, in.data(), static_cast<std::int64_t>(n));
      wrong += std::memcmp(in.data(), out.data(), n * sizeof(T)) != 0;
    }
  }
  CHECK(wrong == 0);
}

// A result written over each operand equals `out` bit for bit.
template <class T>
bool in_place_agrees(TileFn fn, const std::vector<T>& a, const std::vector<T>& b, Odd<T>& out,
                     bool over_a, bool over_b) {
  const auto n = static_cast<std::int64_t>(std::max(a.size(), b.size()));
  bool ok = true;
  for (int target = 0; target < 2; ++target) {
    if (target == 0 ? !over_a : !over_b) continue;
    Odd<T> x(a), y(b);
    const void* operands[] = {x.data(), y.data()};
    void* result = target == 0 ? x.data() : y.data();
    fn(operands, result, n);
    ok = ok && std::memcmp(result, out.data(), static_cast<std::size_t>(n) * sizeof(T)) == 0;
  }
  return ok;
}

template <class T, class F>
void check_binary(const char* name, F expected) {
  using R = std::invoke_result_t<F, T, T>;
  CAPTURE(std::string(name));
  CAPTURE(std::string(adjoint::name(dtype_of<T>())));
  const TileKernel* kernel = find_tile(name, dtype_of<T>());
  REQUIRE(kernel != nullptr);
  REQUIRE(kernel->out == dtype_of<R>());
  REQUIRE(kernel->arity == 2);
  const std::vector<T> values = samples<T>();
  const std::size_t count = values.size();
  std::size_t wrong = 0;
  for (std::size_t shift = 0; shift < count; ++shift) {
    // Pairs (values[i], values[i + shift]); the length varies over 0..70 with the shift.
    const std::size_t n = shift < 71 ? std::min(shift, count) : count;
    for (std::size_t length : {n, count}) {
      std::vector<T> a(values.end() - static_cast<std::ptrdiff_t>(length), values.end()), b;
      for (std::size_t i = 0; i < length; ++i) b.push_back(values[(i + shift) % count]);
      Odd<T> x(a), y(b);
      Odd<R> out(length);
      const void* operands[] = {x.data(), y.data()};
      kernel->vv(operands, out.data(), static_cast<std::int64_t>(length));
      for (std::size_t i = 0; i < length; ++i) wrong += !same<R>(out[i], expected(a[i], b[i]));
      wrong += !out.guard_intact();
      if constexpr (sizeof(R) == sizeof(T) && std::is_same_v<R, T>)
        wrong += !in_place_agrees<T>(kernel->vv, a, b, out, true, true);

      const std::vector<T> one{values[shift]};
      Odd<T> s(one);
      const void* first_single[] = {s.data(), x.data()};
      kernel->sv(first_single, out.data(), static_cast<std::int64_t>(length));
      for (std::size_t i = 0; i < length; ++i) wrong += !same<R>(out[i], expected(one[0], a[i]));
      wrong += !out.guard_intact();
      if constexpr (std::is_same_v<R, T>)
        wrong += length > 0 && !in_place_agrees<T>(kernel->sv, one, a, out, false, true);

      const void* second_single[] = {x.data(), s.data()};
      kernel->vs(second_single, out.data(), static_cast<std::int64_t>(length));
      for (std::size_t i = 0; i < length; ++i) wrong += !same<R>(out[i], expected(a[i], one[0]));
      wrong += !out.guard_intact();
      if constexpr (std::is_same_v<R, T>)
        wrong += length > 0 && !in_place_agrees<T>(kernel->vs, a, one, out, true, false);
    }
  }
  CHECK(wrong == 0);
}

// The mathematical result brought back to T: integers wrap.
template <class T>
T wrap(Int128 x) {
  return static_cast<T>(static_cast<std::uint64_t>(x));
}

template <class T>
T python_floor_divide(T a, T b) {
  if constexpr (is_float_type<T>) {
    if (b == 0) return a / b;
    const T r = std::fmod(a, b);
    if (std::isnan(r)) return r;
    if (std::isinf(b))
      return a == 0 ? std::copysign(T(0), a / b) : ((a < 0) != (b < 0) ? -1 : T(0));
    // The exact quotient is an integer plus r / b.
    T q = std::nearbyint((a - r) / b);
    if (r != 0 && (r < 0) != (b < 0)) q -= 1;
    return q == 0 ? std::copysign(T(0), a / b) : q;
  } else {
    if (b == 0) return 0;
    Int128 q = Int128(a) / Int128(b);
    if (Int128(a) % Int128(b) != 0 && (a < 0) != (b < 0)) --q;
    return wrap<T>(q);
  }
}

template <class T>
T python_remainder(T a, T b) {
  if constexpr (is_float_type<T>) {
    T r = std::fmod(a, b);
    if (r == 0) return std::copysign(T(0), b);
    return (r < 0) != (b < 0) ? r + b : r;
  } else {
    if (b == 0) return 0;
    const Int128 r = Int128(a) % Int128(b);
    return wrap<T>(r != 0 && (r < 0) != (b < 0) ? r + b : r);
  }
}

template <class T>
T larger(T a, T b) {
  if constexpr (is_float_type<T>)
    if (std::isnan(a) || std::isnan(b)) return Limits<T>::quiet_NaN();
  return a > b ? a : b;
}

template <class T>
T smaller(T a, T b) {
  if constexpr (is_float_type<T>)
    if (std::isnan(a) || std::isnan(b)) return Limits<T>::quiet_NaN();
  return a < b ? a : b;
}

TEST_CASE_TEMPLATE("kernels: integer arithmetic wraps", T, ALL_INTEGERS) {
  check_binary<T>("add", [](T a, T b) { return wrap<T>(Int128(a) + b); });
  check_binary<T>("subtract", [](T a, T b) { return wrap<T>(Int128(a) - b); });
  check_binary<T>("multiply", [](T a, T b) {
    return wrap<T>(
        static_cast<Int128>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b)));
  });
  check_unary<T>("negative", [](T x) { return wrap<T>(-Int128(x)); });
  check_unary<T>("abs", [](T x) { return wrap<T>(x < 0 ? -Int128(x) : Int128(x)); });
  check_unary<T>("sign", [](T x) { return static_cast<T>(x > 0 ? 1 : x == 0 ? 0 : -1); });
  check_unary<T>("square", [](T x) {
    return wrap<T>(
        static_cast<Int128>(static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(x)));
  });
  check_binary<T>("maximum", [](T a, T b) { return std::max(a, b); });
  check_binary<T>("minimum", [](T a, T b) { return std::min(a, b); });
  check_binary<T>("floor_divide", python_floor_divide<T>);
  check_binary<T>("remainder", python_remainder<T>);
}

TEST_CASE_TEMPLATE("kernels: integer bits, shifts and powers", T, ALL_INTEGERS) {
  constexpr int bits = 8 * sizeof(T);
  check_binary<T>("bitwise_and", [](T a, T b) { return static_cast<T>(a & b); });
  check_binary<T>("bitwise_or", [](T a, T b) { return static_cast<T>(a | b); });
  check_binary<T>("bitwise_xor", [](T a, T b) { return static_cast<T>(a ^ b); });
  check_unary<T>("bitwise_invert", [](T x) { return static_cast<T>(~x); });
  check_binary<T>("bitwise_left_shift", [](T x, T count) {
    if (count < 0 || Int128(count) >= bits) return T{0};
    return wrap<T>(Int128(x) << static_cast<int>(count));
  });
  check_binary<T>("bitwise_right_shift", [](T x, T count) {
    const int c = count < 0 || Int128(count) >= bits ? 100 : static_cast<int>(count);
    return wrap<T>(Int128(x) >> c);
  });
  check_binary<T>("pow", [](T base, T exponent) -> T {
    if (exponent < 0) {
      if (base == 1) return 1;
      return base == static_cast<T>(-1) ? (exponent % 2 == 0 ? 1 : static_cast<T>(-1)) : T{0};
    }
    // Highest bit first, unlike the kernel.
    std::uint64_t power = 1;
    for (int bit = 63; bit >= 0; --bit) {
      power *= power;
      if (static_cast<std::uint64_t>(exponent) >> bit & 1)
        power *= static_cast<std::uint64_t>(base);
    }
    return static_cast<T>(power);
  });
}

TEST_CASE_TEMPLATE("kernels: float arithmetic", T, float, double) {
  check_binary<T>("add", [](T a, T b) { return a + b; });
  check_binary<T>("subtract", [](T a, T b) { return a - b; });
  check_binary<T>("multiply", [](T a, T b) { return a * b; });
  check_binary<T>("divide", [](T a, T b) { return a / b; });
  check_binary<T>("floor_divide", python_floor_divide<T>);
  check_binary<T>("remainder", python_remainder<T>);
  check_unary<T>("negative", [](T x) { return -x; });
  check_unary<T>("abs", [](T x) { return std::abs(x); });
  check_unary<T>("sign", [](T x) { return std::isnan(x) ? x : T((x > 0) - (x < 0)); });
  check_unary<T>("square", [](T x) { return x * x; });
  check_unary<T>("reciprocal", [](T x) { return 1 / x; });
  check_unary<T>("sqrt", [](T x) { return std::sqrt(x); });
  check_unary<T>("floor", [](T x) { return std::floor(x); });
  check_unary<T>("ceil", [](T x) { return std::ceil(x); });
  check_unary<T>("trunc", [](T x) { return std::trunc(x); });
  check_unary<T>("round", [](T x) {  // half to even, without the rounding mode
    const T whole = std::floor(x);
    if (!std::isfinite(x) || whole == x) return x;
    const T above = x - whole;
    const bool up = above > T(0.5) || (above == T(0.5) && std::fmod(whole, T(2)) != 0);
    return std::copysign(up ? whole + 1 : whole, x);
  });
  check_unary<T>("isnan", [](T x) { return std::isnan(x); });
  check_unary<T>("isinf", [](T x) { return std::isinf(x); });
  check_unary<T>("isfinite", [](T x) { return std::isfinite(x); });
}

TEST_CASE_TEMPLATE("kernels: helpers of derivative rules", T, float, double) {
  check_binary<T>("mul0", [](T a, T b) { return a == 0 || b == 0 ? T{0} : a * b; });
  check_binary<T>("max_weight", [](T a, T b) {
    if (std::isnan(a) || std::isnan(b)) return T(std::isnan(a) * (std::isnan(b) ? 0.5 : 1.0));
    return a > b ? T(1) : a == b ? T(0.5) : T(0);
  });
  check_binary<T>("min_weight", [](T a, T b) {
    if (std::isnan(a) || std::isnan(b)) return T(std::isnan(a) * (std::isnan(b) ? 0.5 : 1.0));
    return a < b ? T(1) : a == b ? T(0.5) : T(0);
  });
}

TEST_CASE_TEMPLATE("kernels: float maximum and minimum carry nan", T, float, double) {
  for (const char* name : {"maximum", "minimum"}) {
    const TileKernel* kernel = find_tile(name, dtype_of<T>());
    REQUIRE(kernel != nullptr);
    const bool max = std::string(name) == "maximum";
    const std::vector<T> values = samples<T>();
    std::size_t wrong = 0;
    for (T b : values) {
      Odd<T> x(values), y(std::vector<T>(values.size(), b)), vv(values.size()), vs(values.size()),
          sv(values.size());
      const void* operands[] = {x.data(), y.data()};
      const void* exchanged[] = {y.data(), x.data()};
      const auto n = static_cast<std::int64_t>(values.size());
      kernel->vv(operands, vv.data(), n);
      kernel->vs(operands, vs.data(), n);
      wrong += std::memcmp(vv.data(), vs.data(), values.size() * sizeof(T)) != 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const T want = max ? larger(values[i], b) : smaller(values[i], b);
        wrong += !(vv[i] == want || (std::isnan(vv[i]) && std::isnan(want)));
      }
      kernel->vv(exchanged, vv.data(), n);
      kernel->sv(exchanged, sv.data(), n);
      wrong += std::memcmp(vv.data(), sv.data(), values.size() * sizeof(T)) != 0;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("kernels: comparisons", T, bool, ALL_INTEGERS, float, double) {
  check_binary<T>("equal", [](T a, T b) { return a == b; });
  check_binary<T>("not_equal", [](T a, T b) { return a != b; });
  check_binary<T>("less", [](T a, T b) { return a < b; });
  check_binary<T>("less_equal", [](T a, T b) { return a <= b; });
  check_binary<T>("greater", [](T a, T b) { return a > b; });
  check_binary<T>("greater_equal", [](T a, T b) { return a >= b; });
  check_unary<T>("copy", [](T x) { return x; });
}

TEST_CASE("kernels: bool arithmetic is logic") {
  for (const char* name : {"add", "maximum", "bitwise_or", "logical_or"})
    check_binary<bool>(name, [](bool a, bool b) { return a || b; });
  for (const char* name : {"multiply", "minimum", "bitwise_and", "logical_and"})
    check_binary<bool>(name, [](bool a, bool b) { return a && b; });
  for (const char* name : {"bitwise_xor", "logical_xor"})
    check_binary<bool>(name, [](bool a, bool b) { return a != b; });
  for (const char* name : {"bitwise_invert", "logical_not"})
    check_unary<bool>(name, [](bool a) { return !a; });
  for (const char* name : {"subtract", "negative", "pow", "divide", "no such function"})
    CHECK(find_tile(name, DType::boolean) == nullptr);
  CHECK(find_tile("divide", DType::int32) == nullptr);
  CHECK(find_tile("bitwise_and", DType::float32) == nullptr);
}

TEST_CASE_TEMPLATE("kernels: where and clip", T, bool, ALL_INTEGERS, float, double) {
  const TileKernel* where = find_tile("where", dtype_of<T>());
  REQUIRE(where != nullptr);
  REQUIRE(where->arity == 3);
  const std::vector<T> values = samples<T>();
  const std::size_t count = values.size();
  std::size_t wrong = 0;
  for (std::size_t n = 0; n <= count; ++n) {
    Odd<bool> condition(n);
    Odd<T> a(n), b(n), out(n);
    for (std::size_t i = 0; i < n; ++i) {
      condition.set(i, (i * 7 + n) % 3 == 0);
      a.set(i, values[(i + n) % count]);
      b.set(i, values[(i + 5 * n + 1) % count]);
    }
    const void* operands[] = {condition.data(), a.data(), b.data()};
    const auto length = static_cast<std::int64_t>(n);
    where->vv(operands, out.data(), length);
    for (std::size_t i = 0; i < n; ++i) wrong += !same<T>(out[i], condition[i] ? a[i] : b[i]);
    wrong += !out.guard_intact();
    if constexpr (!std::is_same_v<T, bool>) {
      const TileKernel* clip = find_tile("clip", dtype_of<T>());
      REQUIRE(clip != nullptr);
      Odd<T> low(n), high(n), clipped(n);
      for (std::size_t i = 0; i < n; ++i) {
        low.set(i, smaller(b[i], a[(i + 1) % n]));
        high.set(i, larger(b[i], a[(i + 1) % n]));
      }
      const void* bounds[] = {a.data(), low.data(), high.data()};
      clip->vv(bounds, clipped.data(), length);
      for (std::size_t i = 0; i < n; ++i) {
        const T want = smaller(larger(a[i], low[i]), high[i]);
        wrong += !(clipped[i] == want || (want != want && clipped[i] != clipped[i]));
      }
    }
    for (void* target : {a.data(), b.data()}) {
      Odd<T> x(a), y(b);
      const void* again[] = {condition.data(), x.data(), y.data()};
      void* over = target == a.data() ? x.data() : y.data();
      where->vv(again, over, length);
      wrong += std::memcmp(over, out.data(), n * sizeof(T)) != 0;
    }
  }
  CHECK(wrong == 0);
}

template <class R, class A>
R converted(A x) {
  if constexpr (std::is_same_v<R, bool>) {
    return x != A{0};
  } else if constexpr (is_float_type<A> && !is_float_type<R>) {
    if (std::isnan(x)) return 0;
    const long double whole = std::trunc(static_cast<long double>(x));
    if (whole <= static_cast<long double>(Limits<R>::min())) return Limits<R>::min();
    if (whole >= static_cast<long double>(Limits<R>::max())) return Limits<R>::max();
    return static_cast<R>(whole);
  } else {
    return static_cast<R>(x);
  }
}

template <class A, class... R>
void check_casts_to() {
  (check_unary<A>(
       "cast", [](A x) { return converted<R>(x); }, find_cast(dtype_of<A>(), dtype_of<R>())),
   ...);
}

TEST_CASE_TEMPLATE("kernels: casts from", A, bool, ALL_INTEGERS, float, double) {
  check_casts_to<A, bool, ALL_INTEGERS, float, double>();
}

TEST_CASE("kernels: casts of floats saturate") {
  const double in[] = {1e300, -1e300, 255.9, -0.9, NAN};
  const void* operands[] = {in};
  std::int32_t i32[5];
  std::uint8_t u8[5];
  std::uint64_t u64[5];
  find_cast(DType::float64, DType::int32)->vv(operands, i32, 5);
  find_cast(DType::float64, DType::uint8)->vv(operands, u8, 5);
  find_cast(DType::float64, DType::uint64)->vv(operands, u64, 5);
  CHECK(std::vector<std::int32_t>(i32, i32 + 5) ==
        std::vector<std::int32_t>{2147483647, -2147483647 - 1, 255, 0, 0});
  CHECK(std::vector<std::uint8_t>(u8, u8 + 5) == std::vector<std::uint8_t>{255, 0, 255, 0, 0});
  CHECK(std::vector<std::uint64_t>(u64, u64 + 5) ==
        std::vector<std::uint64_t>{18446744073709551615u, 0, 255, 0, 0});
}

TEST_CASE("kernels: the level has a known name") {
  const std::string name(isa_name());
  CHECK((name == "baseline" || name == "x86-64-v3" || name == "x86-64-v4" || name == "neon"));
}

}  // namespace
