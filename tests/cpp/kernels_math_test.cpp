// The tile kernels of elementary functions hold the function their name says; and no float kernel
// lets an element's bits depend on its neighbours, the tile's length or the operand's variant.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "kernels_support.h"

namespace {

using adjoint::DType;
using namespace adjoint::kernels;
using namespace kernels_support;

// The elementary functions have tests of their accuracy elsewhere; here each table row must hold
// the function its name says, so a loose bound against long double serves.

using Real = long double;

Real softplus_of(Real x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
Real sigmoid_of(Real x) { return 1 / (1 + std::exp(-x)); }
Real gelu_of(Real x) {
  return x * sigmoid_of(2 * std::sqrt(2 / acosl(-1)) * (x + 0.044715L * x * x * x));
}
Real digamma_of(Real x) {  // the recurrence up to 30, then the asymptotic series
  Real shift = 0;
  for (; x < 30; ++x) shift -= 1 / x;
  const Real w = 1 / (x * x);
  return shift + std::log(x) - 1 / (2 * x) -
         w * (1.0L / 12 - w * (1.0L / 120 - w * (1.0L / 252 - w * (1.0L / 240 - w / 132))));
}

struct MathRow {
  const char* name;
  Real (*expected)(Real);
  double low, high;
};

const MathRow math_rows[] = {
    {"exp", [](Real x) { return std::exp(x); }, -50, 50},
    {"exp2", [](Real x) { return std::exp2(x); }, -50, 50},
    {"expm1", [](Real x) { return std::expm1(x); }, -5, 5},
    {"log", [](Real x) { return std::log(x); }, 0.01, 100},
    {"log1p", [](Real x) { return std::log1p(x); }, -0.9, 9},
    {"log2", [](Real x) { return std::log2(x); }, 0.01, 100},
    {"log10", [](Real x) { return std::log10(x); }, 0.01, 100},
    {"sin", [](Real x) { return std::sin(x); }, -3, 3},
    {"cos", [](Real x) { return std::cos(x); }, -3, 3},
    {"tan", [](Real x) { return std::tan(x); }, -3, 3},
    {"asin", [](Real x) { return std::asin(x); }, -1, 1},
    {"acos", [](Real x) { return std::acos(x); }, -1, 1},
    {"atan", [](Real x) { return std::atan(x); }, -9, 9},
    {"sinh", [](Real x) { return std::sinh(x); }, -9, 9},
    {"cosh", [](Real x) { return std::cosh(x); }, -9, 9},
    {"tanh", [](Real x) { return std::tanh(x); }, -9, 9},
    {"asinh", [](Real x) { return std::asinh(x); }, -9, 9},
    {"acosh", [](Real x) { return std::acosh(x); }, 1, 99},
    {"atanh", [](Real x) { return std::atanh(x); }, -0.99, 0.99},
    {"rsqrt", [](Real x) { return 1 / std::sqrt(x); }, 0.01, 100},
    {"cbrt", [](Real x) { return std::cbrt(x); }, -99, 99},
    {"erf", [](Real x) { return std::erf(x); }, -4, 4},
    {"erfc", [](Real x) { return std::erfc(x); }, -4, 4},
    {"lgamma", [](Real x) { return std::lgamma(x); }, 0.1, 30},
    {"digamma", digamma_of, 0.1, 30},
    {"sigmoid", sigmoid_of, -20, 20},
    {"softplus", softplus_of, -20, 20},
    {"silu", [](Real x) { return x * sigmoid_of(x); }, -20, 20},
    {"gelu", gelu_of, -5, 5},
    {"gelu_erf", [](Real x) { return x * std::erfc(-x * std::sqrt(0.5L)) / 2; }, -5, 5},
};

template <class T>
bool close(T got, Real want) {
  return std::abs(got - want) <= 8 * Limits<T>::epsilon() * (std::abs(want) + Limits<T>::epsilon());
}

TEST_CASE_TEMPLATE("kernels: every elementary function stands under its name", T, float, double) {
  std::mt19937_64 engine(11);
  for (const MathRow& row : math_rows) {
    CAPTURE(std::string(row.name));
    const TileKernel* kernel = find_tile(row.name, dtype_of<T>());
    REQUIRE(kernel != nullptr);
    CHECK(kernel->cost >= 8);
    std::uniform_real_distribution<T> uniform(static_cast<T>(row.low), static_cast<T>(row.high));
    std::vector<T> x(70);
    for (T& v : x) v = uniform(engine);
    Odd<T> in(x), out(x.size());
    const void* operands[] = {in.data()};
    kernel->vv(operands, out.data(), 70);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      // The reference itself loses accuracy where the function passes through zero.
      const Real want = row.expected(x[i]);
      wrong += !close(out[i], want) && std::abs(out[i] - want) > 4 * Limits<T>::epsilon();
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("kernels: elementary functions of two operands", T, float, double) {
  struct Row {
    const char* name;
    Real (*expected)(Real, Real);
    T low;
  };
  const Row rows[] = {{"pow", [](Real a, Real b) { return std::pow(a, b); }, T(0.1)},
                      {"atan2", [](Real a, Real b) { return std::atan2(a, b); }, T(-5)},
                      {"hypot", [](Real a, Real b) { return std::hypot(a, b); }, T(-5)}};
  std::mt19937_64 engine(13);
  for (const Row& row : rows) {
    CAPTURE(std::string(row.name));
    const TileKernel* kernel = find_tile(row.name, dtype_of<T>());
    REQUIRE(kernel != nullptr);
    std::uniform_real_distribution<T> uniform(row.low, 5);
    std::vector<T> a(300), b(300);
    for (T& v : a) v = uniform(engine);
    for (T& v : b) v = uniform(engine);
    Odd<T> x(a), y(b), out(a.size());
    const void* operands[] = {x.data(), y.data()};
    kernel->vv(operands, out.data(), 300);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < a.size(); ++i) wrong += !close(out[i], row.expected(a[i], b[i]));
    CHECK(wrong == 0);
  }
}

const char* const float_functions[] = {"add",
                                       "subtract",
                                       "multiply",
                                       "divide",
                                       "mul0",
                                       "negative",
                                       "abs",
                                       "sign",
                                       "square",
                                       "sqrt",
                                       "reciprocal",
                                       "floor",
                                       "ceil",
                                       "trunc",
                                       "round",
                                       "maximum",
                                       "minimum",
                                       "floor_divide",
                                       "remainder",
                                       "max_weight",
                                       "min_weight",
                                       "pow",
                                       "atan2",
                                       "hypot",
                                       "exp",
                                       "exp2",
                                       "expm1",
                                       "log",
                                       "log1p",
                                       "entr",
                                       "log2",
                                       "log10",
                                       "sin",
                                       "cos",
                                       "tan",
                                       "asin",
                                       "acos",
                                       "atan",
                                       "sinh",
                                       "cosh",
                                       "tanh",
                                       "asinh",
                                       "acosh",
                                       "atanh",
                                       "rsqrt",
                                       "cbrt",
                                       "erf",
                                       "erfc",
                                       "lgamma",
                                       "digamma",
                                       "sigmoid",
                                       "softplus",
                                       "silu",
                                       "gelu",
                                       "gelu_erf",
                                       "polygamma",
                                       "sigmoid_slope",
                                       "tanh_slope",
                                       "gaussian",
                                       "one_minus_square",
                                       "hypot_slope",
                                       "binade",
                                       "fmod",
                                       "ldexp",
                                       "sinc",
                                       "sinc_slope",
                                       "ndtr",
                                       "log_ndtr",
                                       "normal_density",
                                       "normal_slope",
                                       "log_ndtr_slope",
                                       "erfinv",
                                       "erfinv_slope",
                                       "ndtri",
                                       "ndtri_slope",
                                       "i0",
                                       "i0e",
                                       "i1",
                                       "i1e",
                                       "i0_slope",
                                       "i0e_slope",
                                       "igamma",
                                       "igammac",
                                       "gamma_density"};

// Same bits, but for the payload of a nan.
template <class T>
std::size_t differences(const Odd<T>& a, const Odd<T>& b, std::size_t n) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; ++i) count += !same<T>(a[i], b[i]);
  return count;
}

TEST_CASE_TEMPLATE("kernels: an element's bits do not depend on its neighbours", T, float, double) {
  const std::vector<T> a = samples<T>(300);
  std::vector<T> b(a.rbegin(), a.rend());
  std::rotate(b.begin(), b.begin() + 5, b.end());
  const std::size_t n = a.size();
  for (const char* name : float_functions) {
    CAPTURE(std::string(name));
    const TileKernel* kernel = find_tile(name, dtype_of<T>());
    REQUIRE(kernel != nullptr);
    Odd<T> x(a), y(b), together(n), alone(n), in_place(a);
    const void* operands[] = {x.data(), y.data()};
    const void* over_first[] = {in_place.data(), y.data()};
    kernel->vv(operands, together.data(), static_cast<std::int64_t>(n));
    kernel->vv(over_first, in_place.data(), static_cast<std::int64_t>(n));
    for (std::size_t i = 0; i < n; ++i) {
      const void* one[] = {x.at(i), y.at(i)};
      T result;
      kernel->vv(one, &result, 1);
      alone.set(i, result);
    }
    CHECK(differences(together, alone, n) == 0);
    CHECK(differences(together, in_place, n) == 0);
    if (kernel->arity != 2) continue;
    Odd<T> broadcast(n), single(n);
    for (std::size_t k = 0; k < n; k += 7) {
      const Odd<T> repeated(std::vector<T>(n, a[k]));
      const void* first_vector[] = {repeated.at(0), y.data()};
      const void* first_single[] = {x.at(k), y.data()};
      kernel->vv(first_vector, broadcast.data(), static_cast<std::int64_t>(n));
      kernel->sv(first_single, single.data(), static_cast<std::int64_t>(n));
      CHECK(differences(broadcast, single, n) == 0);
      const void* second_vector[] = {y.data(), repeated.at(0)};
      const void* second_single[] = {y.data(), x.at(k)};
      kernel->vv(second_vector, broadcast.data(), static_cast<std::int64_t>(n));
      kernel->vs(second_single, single.data(), static_cast<std::int64_t>(n));
      CHECK(differences(broadcast, single, n) == 0);
    }
  }
}

}  // namespace
