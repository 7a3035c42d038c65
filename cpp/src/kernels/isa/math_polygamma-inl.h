// polygamma(n, x): the derivative of order n of digamma, for n up to 170, where n! is still finite.
//
// From n = 1 on it is (-1)^(n + 1) n! zeta(n + 1, x) with Hurwitz's zeta, the sum of
// (x + k)^-(n + 1) over k >= 0: ten terms are added up, the formula of Euler and Maclaurin gives
// the rest. Below zero zeta at the distances to the two next integers takes its place, less the
// terms that do not belong to it: a reflection formula without a cotangent.
//
// Unlike its neighbours this is no function of scalars: how a power is formed depends on n. So n
// steers the loops outside, and the loops inside, over the elements of a chunk, vectorise.
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_gamma-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

constexpr int kPolygammaChunk = 64;
constexpr int kPolygammaMax = 170;
/// From here on order 1 is 1 / x and the others are 0; pairs would leave the range without FMA.
constexpr double kPolygammaReach = 0x1p990;
constexpr int kZetaTerms = 10;
constexpr int kZetaSeries = 10;

/// B_2j / (2 j)! for j = 1, 2, ...: the coefficients of Euler and Maclaurin.
constexpr double kBernoulli[kZetaSeries] = {1.0 / 12,
                                            -1.0 / 720,
                                            1.0 / 30240,
                                            -1.0 / 1209600,
                                            1.0 / 47900160,
                                            -691.0 / 1307674368000,
                                            1.0 / 74724249600,
                                            -3617.0 / 10670622842880000,
                                            43867.0 / 5109094217170944000,
                                            -174611.0 / 802857662698291200000.0};

ADJOINT_MATH_FN Two<double> multiply(Two<double> a, Two<double> b) {
  const Two<double> p = two_prod(a.hi, b.hi);
  return fast_two_sum(p.hi, p.lo + fma_(a.hi, b.lo, a.lo * b.hi));
}
ADJOINT_MATH_FN Two<double> add(Two<double> a, Two<double> b) {
  const Two<double> s = two_sum(a.hi, b.hi);
  return fast_two_sum(s.hi, s.lo + (a.lo + b.lo));
}
ADJOINT_MATH_FN Two<double> invert(Two<double> a) {
  const double q = 1.0 / a.hi;
  const Two<double> back = two_prod(q, a.hi);
  return {q, fma_(-q, a.lo, (1.0 - back.hi) - back.lo) * q};
}
/// 2^k for a normal result.
ADJOINT_MATH_FN double power_of_two(int k) {
  return pow2_biased<double>(static_cast<std::uint64_t>(std::int64_t{Real<double>::bias} + k));
}

/// A pair for each element of a chunk.
struct Pairs {
  double hi[kPolygammaChunk], lo[kPolygammaChunk];
};
ADJOINT_MATH_FN Two<double> pair_at(const Pairs& a, int i) { return {a.hi[i], a.lo[i]}; }
ADJOINT_MATH_FN void set_pair(Pairs& a, int i, Two<double> v) {
  a.hi[i] = v.hi;
  a.lo[i] = v.lo;
}

/// What depends on the order n alone. Arguments are scaled so that their powers stay near those of
/// the result: by about the inverse of the (n + 1)-th root of n!, and below 1 by 2^lift more.
struct PolygammaOrder {
  int n;
  int root;  // n! = factor 2^(root (n + 1))
  int lift;
  Two<double> factor;
  Two<double> inverse;         // 1 / n
  double series[kZetaSeries];  // kBernoulli times (n + 1) (n + 2) ... (n + 2 j - 1)
};

ADJOINT_MATH_FN PolygammaOrder polygamma_order(int n) {
  PolygammaOrder order{n, 0, 96 / (n + 1) + 1, {1.0, 0.0}, invert({double(n), 0.0}), {}};
  int exponent = 0;
  for (int i = 2; i <= n; ++i) {
    order.factor = multiply(order.factor, {double(i), 0.0});
    const int k = order.factor.hi >= 0x1p32 ? 32 : 0;
    order.factor = {order.factor.hi * power_of_two(-k), order.factor.lo * power_of_two(-k)};
    exponent += k;
  }
  order.root = exponent / (n + 1);
  const double rest = power_of_two(exponent - order.root * (n + 1));
  order.factor = {order.factor.hi * rest, order.factor.lo * rest};
  double rising = n + 1.0;
  for (int j = 0; j < kZetaSeries; ++j) {
    order.series[j] = kBernoulli[j] * rising;
    rising *= (n + 2.0 * j + 2) * (n + 2.0 * j + 3);
  }
  return order;
}

/// (scale (a + shift))^-power, for power >= 1.
ADJOINT_MATH_FN void inverse_power(const Pairs& a, const double* scale, double shift, int power,
                                   int count, Pairs& out) {
  Pairs base;
  for (int i = 0; i < count; ++i) {
    const Two<double> s = two_sum(a.hi[i], shift);
    const Two<double> z = fast_two_sum(s.hi, s.lo + a.lo[i]);
    const Two<double> inverse = invert({z.hi * scale[i], z.lo * scale[i]});
    set_pair(base, i, inverse);
    set_pair(out, i, inverse);
  }
  int bit = 1;
  while (2 * bit <= power) bit *= 2;
  for (bit /= 2; bit > 0; bit /= 2) {
    for (int i = 0; i < count; ++i) set_pair(out, i, multiply(pair_at(out, i), pair_at(out, i)));
    if (!(power & bit)) continue;
    for (int i = 0; i < count; ++i) set_pair(out, i, multiply(pair_at(out, i), pair_at(base, i)));
  }
}

/// scale^-(n + 1) zeta(n + 1, a) for a > 0.
ADJOINT_MATH_FN void zeta(const PolygammaOrder& order, const Pairs& a, const double* scale,
                          int count, Pairs& sum) {
  Pairs term;
  inverse_power(a, scale, 0.0, order.n + 1, count, sum);
  for (int k = 1; k < kZetaTerms; ++k) {
    inverse_power(a, scale, k, order.n + 1, count, term);
    for (int i = 0; i < count; ++i) set_pair(sum, i, add(pair_at(sum, i), pair_at(term, i)));
  }
  inverse_power(a, scale, kZetaTerms, order.n, count, term);
  for (int i = 0; i < count; ++i) {
    const double r = 1.0 / (a.hi[i] + kZetaTerms);
    const double w = r * r;
    double series = order.series[kZetaSeries - 1];
    for (int j = kZetaSeries - 2; j >= 0; --j) series = fma_(series, w, order.series[j]);
    const Two<double> weight = add(order.inverse, {0.5 * r, w * series});
    const Two<double> tail = multiply(pair_at(term, i), weight);
    const double unscale = 1.0 / scale[i];
    set_pair(sum, i, add(pair_at(sum, i), {tail.hi * unscale, tail.lo * unscale}));
  }
}

/// For x < 0, where `sum` holds zeta at the distance to the integer below: adds the rest of the
/// reflection formula.
ADJOINT_MATH_FN void zeta_below_zero(const PolygammaOrder& order, const double* x,
                                     const double* scale, int count, Pairs& sum) {
  Pairs distance, above, beyond;
  for (int i = 0; i < count; ++i)
    set_pair(distance, i, two_sum(-x[i], 1.0 + __builtin_floor(x[i])));
  zeta(order, distance, scale, count, above);
  for (int i = 0; i < count; ++i) set_pair(distance, i, two_sum(1.0, -x[i]));
  zeta(order, distance, scale, count, beyond);
  const double sign = order.n % 2 ? 1.0 : -1.0;
  for (int i = 0; i < count; ++i) {
    const Two<double> part = add(pair_at(above, i), {-beyond.hi[i], -beyond.lo[i]});
    const Two<double> all = add(pair_at(sum, i), {sign * part.hi, sign * part.lo});
    set_pair(sum, i, x[i] < 0.0 ? all : pair_at(sum, i));
  }
}

/// The sign and the values that the sums do not give. What is not finite has overflowed, maybe into
/// a nan; near a pole of even order the side decides on the sign, and on it, but for a signed zero,
/// nothing does.
ADJOINT_MATH_FN double polygamma_edges(double x, double size, int n) {
  const bool odd = n % 2;
  const double nearest = __builtin_rint(x);
  const double side = odd ? 1.0 : (x > -0.5 ? x : x - nearest);
  size = abs(size) < kInf<double> ? size : xor_sign(kInf<double>, sign_bit(side));
  const bool pole = x < 0.0 && nearest == x;
  size = pole && (!odd || x == -kInf<double>) ? kNan<double> : size;
  size = x == x ? size : x;
  return odd ? size : -size;
}

/// For n >= 1 and up to kPolygammaChunk elements.
/// 0.6 ulp for x > 0; below, the absolute error is that of the larger terms.
ADJOINT_MATH_CALL void polygamma_chunk(const PolygammaOrder& order, const double* x, int count,
                                       double* out) {
  Pairs a, sum;
  double scale[kPolygammaChunk];
  bool negative = false;
  for (int i = 0; i < count; ++i) {
    const Two<double> positive = {x[i] < kPolygammaReach ? x[i] : kPolygammaReach, 0.0};
    set_pair(a, i, x[i] < 0.0 ? two_sum(x[i], -__builtin_floor(x[i])) : positive);
    scale[i] = power_of_two(x[i] < 1.0 ? order.lift - order.root : -order.root);
    negative |= x[i] < 0.0;
  }
  zeta(order, a, scale, count, sum);
  if (negative) zeta_below_zero(order, x, scale, count, sum);
  const double lifted = power_of_two(order.lift * (order.n + 1));
  for (int i = 0; i < count; ++i) {
    const Two<double> result = multiply(pair_at(sum, i), order.factor);
    const double reach = x[i] > kPolygammaReach ? kPolygammaReach / x[i] : 1.0;
    const double size = (result.hi + result.lo) * (x[i] < 1.0 ? lifted : reach);
    out[i] = polygamma_edges(x[i], size, order.n);
  }
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
