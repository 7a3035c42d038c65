// lgamma and digamma.
//
// From 4 on Stirling's series serves, below it the recurrence leads to one polynomial (around 2 for
// lgamma, around the positive root for digamma), below zero the reflection formula to above it.
// Near their negative zeros the relative error is unbounded, as in most libraries; the absolute
// error stays below 4 ulp of the larger term of the reflection, or of 1.
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_log-inl.h"
#include "kernels/isa/math_pow-inl.h"
#include "kernels/isa/math_trig-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// log x for normal x > 0 as a pair of floats, to about four bits more than one float holds.
ADJOINT_MATH_FN Two<float> log_two(float x) {
  using C = LogConst<float>;
  const auto [f, k] = log_split(x);
  const Two<float> square = two_prod(f, f);
  const Two<float> m = fast_two_sum(f, -0.5f * square.hi);
  const float m_lo = m.lo + (log_tail(f, 0.0f) - 0.5f * square.lo);
  const Two<float> sum = fast_two_sum(k * C::ln2_hi, m.hi);
  return {sum.hi, sum.lo + fma_(k, C::ln2_lo, m_lo)};
}

template <class T>
struct GammaConst;
template <>
struct GammaConst<float> {
  static constexpr float max = 4.0851e36f;  // lgamma overflows
  static constexpr float slope = 0x1.e6f0ccp-1f;
  static constexpr float lead = 0x1.b0ee6p-2f;  // lgamma'(2), as the fit has it
  static constexpr float tiny = 0x1p-30f;  // where lgamma x rounds to -log |x|, digamma x to -1 / x
  static constexpr float whole = 0x1p23f;  // every float from here on is an integer
  static constexpr float pi = 0x1.921fb6p1f;
  static constexpr float half_log_2pi_less_half = 0x1.acfe3ap-2f;
  static constexpr float root = 0x1.762d86p0f, root_lo = 0x1.ab5f2p-27f;
};
template <>
struct GammaConst<double> {
  static constexpr double max = 2.5563481638716906e305;
  static constexpr double slope = 0x1.e6f0cbb873616p-1;
  static constexpr double lead = 0x1.b0ee6072093cep-2;
  static constexpr double tiny = 0x1p-60;
  static constexpr double whole = 0x1p52;
  static constexpr double pi = 0x1.921fb54442d18p1;
  static constexpr double half_log_2pi_less_half = 0x1.acfe390c97d69p-2;
  static constexpr double root = 0x1.762d86356be3fp0, root_lo = 0x1.b86a722197829p-54;
};

/// (lgamma(2 + v) / v - lead) / v on |v| <= 1/2.
ADJOINT_MATH_FN float lgamma_poly(float v) {
  return poly(v, 0x1.4a34ccp-2f, -0x1.13dfecp-4f, 0x1.51358p-6f, -0x1.e4247cp-8f, 0x1.795cbcp-9f,
              -0x1.34c31p-10f, 0x1.2ac422p-11f, -0x1.1af96ep-12f);
}
ADJOINT_MATH_FN double lgamma_poly(double v) {
  return poly(v, 0x1.4a34cc4a60fa7p-2, -0x1.13e001a557616p-4, 0x1.51322ac7d8005p-6,
              -0x1.e404fc218885ap-8, 0x1.7add6eae5614dp-9, -0x1.38ac5c309f895p-10,
              0x1.0b36af3647026p-11, -0x1.d3fd4941d6c8p-13, 0x1.a127dc4182cfep-14,
              -0x1.78defdf36c199p-15, 0x1.5806f1e6adeaap-16, -0x1.3ca938b1757e1p-17,
              0x1.263ee27c1fec8p-18, -0x1.131d5caf7ff61p-19, 0x1.ee130d381a3fp-21,
              -0x1.c2ffab5e3d03bp-22, 0x1.2b10118218f62p-22, -0x1.33c05aa7b33a8p-23);
}
/// Stirling's series times x, in 1 / x^2.
ADJOINT_MATH_FN float stirling_poly(float w) {
  return poly(w, 0x1.555556p-4f, -0x1.6c1574p-9f, 0x1.9e6956p-11f, -0x1.09f266p-11f);
}
ADJOINT_MATH_FN double stirling_poly(double w) {
  return poly(w, 0x1.5555555555555p-4, -0x1.6c16c16c16627p-9, 0x1.a01a019c379a8p-11,
              -0x1.38137d3c4e96ap-11, 0x1.b94fc5c8747edp-11, -0x1.f6562aaccbe44p-10,
              0x1.9fd9aa83a233bp-8, -0x1.bfa903619a845p-6, 0x1.034a0b7086029p-3,
              -0x1.e9688b0869682p-2, 0x1.efc225638d36fp-1);
}

/// lgamma for x > 0.
template <class T>
ADJOINT_MATH_FN T lgamma_positive(T x) {
  using C = GammaConst<T>;
  const bool big = x >= T(4);
  // Below: lgamma(x) = lgamma(2 + v) + log(product), the sum being a difference below 1.5.
  T y = x;
  T product = T(1);
  for (int i = 0; i < 2; ++i) {
    const bool down = y >= T(2.5);
    const T less = y - T(1);
    product = down ? product * less : product;
    y = down ? less : y;
  }
  const bool one_up = x < T(1.5);
  const bool two_up = x < T(0.5);
  const T v = two_up ? x : (one_up ? y - T(1) : y - T(2));
  product = two_up ? fma_(x, x, x) : (one_up ? x : product);
  const Two<T> l = log_two(big ? x : product);
  const Two<T> slope = fast_two_sum(C::lead, v * lgamma_poly(v));
  Two<T> base = two_prod(v, slope.hi);
  base.lo = fma_(v, slope.lo, base.lo);
  const Two<T> near = two_sum(one_up ? -l.hi : l.hi, base.hi);
  const T below = near.hi + (near.lo + (base.lo + (one_up ? -l.lo : l.lo)));
  // Above: (x - 1/2) (log x - 1) + (log(2 pi) - 1) / 2 + series / x.
  const T rx = T(1) / x;
  const Two<T> l1 = fast_two_sum(l.hi, T(-1));
  const T factor = x - T(0.5);
  const Two<T> lead = two_prod(factor, l1.hi);
  const T rest = fma_(stirling_poly(rx * rx), rx, C::half_log_2pi_less_half);
  // The error term of a product this large has no weight, and may not be finite without FMA.
  const T lead_lo = factor < C::whole ? lead.lo : T(0);
  const T above = lead.hi + (fma_(factor, l1.lo + l.lo, lead_lo) + rest);
  const T result = big ? above : below;
  return x < C::max ? result : (x == x ? kInf<T> : x);
}

/// x - round(x), and sin(pi times it).
template <class T>
struct TurnPart {
  T part, sine;
};
template <class T>
ADJOINT_MATH_FN TurnPart<T> half_turn(T ax) {
  using C = GammaConst<T>;
  const T part = ax - ((ax + C::whole) - C::whole);
  const T f = ax < C::whole ? part : T(0);
  return {f, sin_unbounded(C::pi * f)};
}

/// 2.3 ulp (float), 2.2 (double) for x > 0.
template <class T>
ADJOINT_MATH_FN T lgamma(T x) {
  using C = GammaConst<T>;
  const T ax = abs(x);
  const T positive = lgamma_positive(ax < Real<T>::min_normal ? Real<T>::min_normal : ax);
  const T sine = abs(half_turn(ax).sine);
  const Two<T> l = log_two(ax < C::tiny ? ax : C::pi / (ax * sine));
  const T reflected = l.hi + (l.lo - positive);
  T result = x < T(0) ? reflected : positive;
  result = ax < C::tiny ? -(l.hi + l.lo) : result;
  const bool pole = x <= T(0) && sine == T(0);
  result = (pole || ax == kInf<T>) ? kInf<T> : result;
  return x == x ? result : x;
}

/// (digamma(1.5 + u) / (1.5 + u - root) - slope) / u on |u| <= 1/2.
ADJOINT_MATH_FN float digamma_poly(float u) {
  return poly(u, -0x1.b1cb66p-2f, 0x1.ec9f64p-3f, -0x1.2fec52p-3f, 0x1.8599fep-4f, -0x1.fc3bap-5f,
              0x1.42712cp-5f, -0x1.a7e08cp-6f, 0x1.8805aap-6f, -0x1.09cd82p-6f);
}
ADJOINT_MATH_FN double digamma_poly(double u) {
  return poly(
      u, -0x1.b1cb63005ee98p-2, 0x1.eca189b8e6f76p-3, -0x1.2feeeb98a78cep-3, 0x1.8512e590384c5p-4,
      -0x1.fb44202a2571ap-5, 0x1.4de9aa17d3c57p-5, -0x1.b9f8b11b3969dp-6, 0x1.25647161fd568p-6,
      -0x1.863564164ef59p-7, 0x1.03c0b0ff2a9b4p-7, -0x1.5a06a24afb79p-8, 0x1.cd1f768cd057p-9,
      -0x1.336df9a5bc606p-9, 0x1.99dd069c9a66fp-10, -0x1.0fb11c38c186ap-10, 0x1.69e7225e94ddcp-11,
      -0x1.fdadde53df93p-12, 0x1.55bc5c89bc6b3p-12, -0x1.2f3c4915f8085p-13, 0x1.871f683369a4ap-14,
      -0x1.7618db205326fp-13, 0x1.fc62558b3ebdcp-14);
}
/// (log x - 1 / (2 x) - digamma x) x^2, in 1 / x^2.
ADJOINT_MATH_FN float digamma_series(float w) {
  return poly(w, 0x1.555556p-4f, -0x1.1110eap-7f, 0x1.03e83ep-8f, -0x1.099938p-8f, 0x1.564868p-8f);
}
ADJOINT_MATH_FN double digamma_series(double w) {
  return poly(w, 0x1.5555555555555p-4, -0x1.1111111110d4fp-7, 0x1.0410410297d4ep-8,
              -0x1.11110f4168a73p-8, 0x1.f07af5acbfd39p-8, -0x1.59791ba406319p-6,
              0x1.53910e377dca5p-4, -0x1.b2cb606344ac6p-2, 0x1.3dcff0e894e39p1,
              -0x1.b2dc9bc10d8a2p3, 0x1.b46c8d23e2b58p5, -0x1.bb2b33954e29ep6);
}

/// digamma for x > -tiny.
template <class T>
ADJOINT_MATH_FN T digamma_positive(T x) {
  using C = GammaConst<T>;
  const bool big = x >= T(4);
  // The reciprocals that the recurrence adds are kept as one fraction num / den.
  const bool up = x < T(1);
  T y = up ? x + T(1) : x;
  const T y_lo = up ? x - (y - T(1)) : T(0);
  T num = up ? T(-1) : T(0);
  T den = up ? x : T(1);
  for (int i = 0; i < 2; ++i) {
    const bool down = y >= T(2);
    const T less = y - T(1);
    num = down ? fma_(num, less, den) : num;
    den = down ? den * less : den;
    y = down ? less : y;
  }
  const T rx = T(1) / (big ? x : den);
  const T q = num * rx;
  const Two<T> back = two_prod(q, den);
  const T q_lo = ((num - back.hi) - back.lo) * rx;
  const Two<T> slope = fast_two_sum(C::slope, (y - T(1.5)) * digamma_poly(y - T(1.5)));
  const T d = y - C::root;
  const Two<T> base = two_prod(d, slope.hi);
  const T base_lo = fma_(d, slope.lo, fma_(y_lo - C::root_lo, slope.hi, base.lo));
  const Two<T> sum = two_sum(q, base.hi);
  const T w = rx * rx;
  const T above = log(x) - fma_(w, digamma_series(w), T(0.5) * rx);
  const T below = sum.hi + (sum.lo + (q_lo + base_lo));
  return big ? above : (abs(x) < C::tiny ? -rx : below);
}

/// Below zero digamma(1 - x) - pi / tan(pi x).
/// 2.4 ulp (float), 2.5 (double) for x > 0.
template <class T>
ADJOINT_MATH_FN T digamma(T x) {
  using C = GammaConst<T>;
  const bool below = x <= -C::tiny;
  const T ax = abs(x);
  const T positive = digamma_positive(below ? T(1) + ax : x);
  const auto [part, sine] = half_turn(ax);
  const T cosine = sin_unbounded(C::pi * (T(0.5) - abs(part)));
  const T reflected = positive + C::pi * (cosine / sine);
  const T result = below ? reflected : positive;
  return (below && (part == T(0) || ax == kInf<T>)) ? kNan<T> : (x == kInf<T> ? x : result);
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
