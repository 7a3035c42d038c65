// The regularised incomplete gamma functions P(a, x) and Q(a, x) = 1 - P(a, x), in double lanes.
//
// Next to a large a Temme's uniform expansion serves (SIAM J. Math. Anal. 10, 1979), whose
// coefficients are series in eta, eta^2 / 2 = x / a - 1 - log(x / a). Elsewhere the power series,
// left of a, and Legendre's continued fraction, right of it, which converge fast there; for small a
// and x Q has a series of its own, as 1 - P would have lost its digits. All of them are multiples
// of x^a e^-x / Gamma(a + 1), whose logarithm is a pair.
//
// Like polygamma these are no functions without branches: how long a series is depends on the
// arguments.
#pragma once

#include "kernels/isa/math_erf-inl.h"
#include "kernels/isa/math_gamma-inl.h"
#include "kernels/isa/math_polygamma-inl.h"
#include "kernels/isa/math_pow-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

constexpr int kTemmeOrders = 6, kTemmeTerms = 18;
constexpr double kTemmeFrom = 1000.0;  // of a: below it the series are short enough
constexpr double kTemmeNear = 0.3;     // of |x - a| / a
constexpr double kTemme[kTemmeOrders][kTemmeTerms] = {
    {-0x1.5555555555555p-2, 0x1.5555555555555p-4, -0x1.e573ac901e574p-7, 0x1.2f684bda12f68p-10,
     0x1.71de3a556c734p-12, -0x1.76e06fec7273bp-13, 0x1.48c5892f7cd83p-15, -0x1.255370652afc1p-19,
     -0x1.f1b22f594c6b5p-20, 0x1.bd6d21e4b4109p-21, -0x1.7b5f9a2d0465cp-23, 0x1.ccf5ceb7f0d9fp-28,
     0x1.6097d55c37c1cp-27, -0x1.2d2197c7a2faap-28, 0x1.f6e66d24d5c8ap-31, -0x1.c0d9b6edf2b0bp-36,
     -0x1.0070a87340428p-34, 0x1.ac9475c463659p-36},
    {-0x1.e573ac901e574p-10, -0x1.c71c71c71c71cp-9, 0x1.5ac056b015ac0p-9, -0x1.0394f6f09e723p-10,
     0x1.af83440e53dbcp-13, -0x1.af83440e53dbcp-22, -0x1.2fa4ae89e5af0p-16, 0x1.00a9cabd6b83ep-17,
     -0x1.b0bdfcc629cbap-20, 0x1.3f59230a8357cp-28, 0x1.280f2cde3f847p-23, -0x1.ee23d0cba8aeep-25,
     0x1.9aa7a30de114cp-27, -0x1.349fbca3a377bp-36, -0x1.1564ecff73d58p-30, 0x1.c9b434bf3c34ep-32,
     -0x1.78a5056f8ce45p-34, 0x1.113e3a466db9ep-44},
    {0x1.0ee643b990ee6p-8, -0x1.5f7268edab4c8p-9, 0x1.948b0fcd6e9e0p-11, 0x1.0db20a88f4696p-19,
     -0x1.c253efaa1a932p-14, 0x1.bbf43daf4fe53p-15, -0x1.ac2d05890f2c3p-17, 0x1.26154ae39151dp-25,
     0x1.7058929663937p-20, -0x1.522cb05171911p-21, 0x1.32ac81c15d3d7p-23, -0x1.c24bd0e740a6cp-33,
     -0x1.e437343a46f5dp-27, 0x1.ac0d455e25360p-28, -0x1.77c5829460139p-30, 0x1.0962774f638bbp-40,
     0x1.1b1056c188672p-33, -0x1.e9778dbc61371p-35},
    {0x1.547d93b34e2b6p-11, 0x1.e13ce465fa859p-13, -0x1.ebfb188b7ca00p-12, 0x1.18b9b5bf2d984p-12,
     -0x1.3d2a3a29b5d9dp-14, -0x1.0152a1871f27ap-22, 0x1.73df462204ef4p-17, -0x1.7cd6f27b3f020p-18,
     0x1.7e0201539310ep-20, -0x1.ea23269c140a7p-36, -0x1.6c2dcffbefeefp-23, 0x1.5bde8ef4c4dc7p-24,
     -0x1.4853ced169327p-26, 0x1.50c3f0dd501ebp-39, 0x1.1b66a39794ba9p-29, -0x1.040c53b2491f0p-30,
     0x1.d9b15465daec1p-33, -0x1.f46057e1c9d1fp-47},
    {-0x1.c3e0b02da7bf9p-11, 0x1.9b0ff6874f2c4p-11, -0x1.3999a85a4237ap-12, -0x1.88f2ae1def9d0p-20,
     0x1.16908b48ce058p-14, -0x1.4ce3fd902bcadp-15, 0x1.7db4c02846e81p-17, 0x1.13b3c5b7cb45ep-32,
     -0x1.c71c074985d3fp-20, 0x1.de37d9f09164cp-21, -0x1.ec676cf33153cp-23, 0x1.041515bab6adap-35,
     0x1.efe94304ac16bp-26, -0x1.e78e449f4e3bep-27, 0x1.d9a9f1a8b7696p-29, -0x1.033ba70791e5ep-42,
     -0x1.b14f212618752p-32, 0x1.9911dbca7ce93p-33},
    {-0x1.6128ac5a4fa71p-12, -0x1.247604839c038p-14, 0x1.22be87360ef1fp-12, -0x1.a2042c5148e27p-13,
     0x1.1d1e9cb24760bp-14, 0x1.30bdcf208080ep-23, -0x1.c823fc1b3cc36p-17, 0x1.0d0e229150428p-17,
     -0x1.338eb19652fd9p-19, -0x1.659cfde0bb2ebp-32, 0x1.741504e5c87c2p-22, -0x1.8c267becd0c0fp-23,
     0x1.9e630225a095bp-25, -0x1.4411c5ac40e35p-46, -0x1.b15bbf334c8c3p-28, 0x1.b2a3adb58623dp-29,
     -0x1.af0f32d677057p-31, 0x1.762c060bd9bdap-48}};
constexpr double kIgammaTwoPi = 0x1.921fb54442d18p2;
constexpr double kIgammaDigits = 0x1p-54;
constexpr int kIgammaLong = 5000;  // longer than any series here gets

/// log(1 + u) - u for |u| <= kTemmeNear: with s = u / (2 + u) it is 2 atanh(s) - u, and 2 s - u =
/// -s u.
ADJOINT_MATH_FN double log1p_less(double u) {
  const double s = u / (2.0 + u);
  const double w = s * s;
  double series = 1.0 / 27;
  for (int k = 25; k >= 3; k -= 2) series = fma_(series, w, 1.0 / k);
  return s * fma_(2.0 * w, series, -u);
}

/// x^a e^-x / Gamma(a + 1) for a >= 0 and finite x > 0.
ADJOINT_MATH_CALL double gamma_factor(double a, double x) {
  double scale = 1.0;
  Two<double> e;
  const double u = (x - a) / a;
  if (a < 4.0) {
    const Two<double> l = log_two(x);
    Two<double> power = two_prod(a, l.hi);
    power.lo = fma_(a, l.lo, power.lo);
    e = add(add(power, {-x, 0.0}), {-lgamma_positive(a + 1.0), 0.0});
  } else {
    const double r = 1.0 / a;
    scale = exp(-r * stirling_poly(r * r)) / sqrt(kIgammaTwoPi * a);
    if (abs(u) < kTemmeNear) {
      e = {a * log1p_less(u), 0.0};
    } else {
      const Two<double> of_x = log_two(x), of_a = log_two(a);
      const Two<double> l = add(of_x, {-of_a.hi, -of_a.lo});
      Two<double> power = two_prod(a, l.hi);
      power.lo = fma_(a, l.lo, power.lo);
      e = add(power, two_sum(a, -x));
    }
  }
  if (!(e.hi > -800.0)) return 0.0;
  const auto [p, s1, s2] = exp_parts_two(e.hi, e.lo);
  return ((p * scale) * s1) * s2;
}

struct GammaParts {
  double p, q;
};

/// Next to a large a.
ADJOINT_MATH_CALL GammaParts gamma_uniform(double a, double x) {
  const double half = -log1p_less((x - a) / a);  // eta^2 / 2
  const double root = sqrt(2.0 * half);
  const double eta = x < a ? -root : root;
  double sum = 0.0;
  for (int k = kTemmeOrders - 1; k >= 0; --k) {
    double c = kTemme[k][kTemmeTerms - 1];
    for (int n = kTemmeTerms - 2; n >= 0; --n) c = fma_(c, eta, kTemme[k][n]);
    sum = sum / a + c;
  }
  const double rest = exp(-a * half) / sqrt(kIgammaTwoPi * a) * sum;
  const double y = eta * sqrt(0.5 * a);
  return {0.5 * erfc(-y) - rest, 0.5 * erfc(y) + rest};
}

/// P from the powers of x.
ADJOINT_MATH_CALL double gamma_series(double a, double x) {
  double term = 1.0, sum = 1.0;
  for (int n = 1; n < kIgammaLong && term > kIgammaDigits * sum; ++n) {
    term *= x / (a + n);
    sum += term;
  }
  return gamma_factor(a, x) * sum;
}

/// Q for a <= 1/2 and x <= 1.1: 1 - x^a / Gamma(a + 1), less the rest of the series.
ADJOINT_MATH_CALL double gamma_series_above(double a, double x) {
  const double lgamma1p = a * fma_(a, lgamma_poly(a), GammaConst<double>::lead) - log1p(a);
  const double power = a * log(x) - lgamma1p;
  double term = 1.0, sum = 0.0;
  for (int n = 1; n < 60; ++n) {
    term *= -x / n;
    sum += term / (a + n);
  }
  return -expm1(power) - exp(power) * a * sum;
}

/// Q from Legendre's continued fraction, by Lentz's algorithm.
ADJOINT_MATH_CALL double gamma_fraction(double a, double x) {
  const double factor = gamma_factor(a, x) * a;
  if (factor == 0.0) return 0.0;
  double b = x + 1.0 - a, c = 0x1p1000, d = 1.0 / b, h = d;
  for (int i = 1; i < kIgammaLong; ++i) {
    const double an = -i * (i - a);
    b += 2.0;
    d = 1.0 / (an * d + b);
    c = b + an / c;
    const double change = c * d;
    h *= change;
    if (abs(change - 1.0) < kIgammaDigits * 4.0) break;
  }
  return factor * h;
}

ADJOINT_MATH_CALL GammaParts incomplete_gamma(double a, double x) {
  const double inf = kInf<double>;
  if (!(a >= 0.0) || !(x >= 0.0) || (a == 0.0 && x == 0.0) || (a == inf && x == inf))
    return {kNan<double>, kNan<double>};
  if (x == 0.0 || a == inf) return {0.0, 1.0};
  if (x == inf || a == 0.0) return {1.0, 0.0};
  if (a >= kTemmeFrom && abs(x - a) < kTemmeNear * a) return gamma_uniform(a, x);
  if (a <= 0.5 && x <= 1.1) return {gamma_series(a, x), gamma_series_above(a, x)};
  if (x < a + 1.0) {
    const double p = gamma_series(a, x);
    return {p, 1.0 - p};
  }
  const double q = gamma_fraction(a, x);
  return {1.0 - q, q};
}

ADJOINT_MATH_FN double igamma(double a, double x) { return incomplete_gamma(a, x).p; }
ADJOINT_MATH_FN double igammac(double a, double x) { return incomplete_gamma(a, x).q; }

/// The slope of P in x: x^(a - 1) e^-x / Gamma(a).
ADJOINT_MATH_FN double gamma_density(double a, double x) {
  const double inf = kInf<double>;
  if (!(a >= 0.0) || !(x >= 0.0)) return kNan<double>;
  if (x == 0.0) return a < 1.0 ? (a == 0.0 ? 0.0 : inf) : (a == 1.0 ? 1.0 : 0.0);
  if (x == inf || a == inf || a == 0.0) return 0.0;
  // The factor of a - 1 is the slope itself: that of a vanishes for a small x long before it.
  return a >= 1.0 ? gamma_factor(a - 1.0, x) : gamma_factor(a, x) * (a / x);
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
