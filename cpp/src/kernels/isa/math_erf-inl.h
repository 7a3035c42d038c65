// erf, erfc and the Gaussian they differentiate to.
//
// erf is an odd polynomial near zero. Elsewhere erfc(a) = e^(-a^2) P(t) / (1 + 2 a) with
// t = (a - c) / (a + c), which maps all of [0.45, inf) on less than [-1, 1] and makes P smooth.
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_exp-inl.h"
#include "kernels/isa/math_pow-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// erf(x) / x - 1 for z = x^2, |x| <= 0.9.
ADJOINT_MATH_FN float erf_poly(float z) {
  return poly(z, 0x1.06eba8p-3f, -0x1.812744p-2f, 0x1.ce2e52p-4f, -0x1.b8150ep-6f, 0x1.55096p-8f,
              -0x1.ac9b02p-11f, 0x1.64f23cp-14f);
}
ADJOINT_MATH_FN double erf_poly(double z) {
  return poly(z, 0x1.06eba8214db69p-3, -0x1.812746b0379e2p-2, 0x1.ce2f21a0427d7p-4,
              -0x1.b82ce31271aa7p-6, 0x1.565bcd0a29718p-8, -0x1.c02db3127848cp-11,
              0x1.f9a305f82678fp-14, -0x1.f4cf559a0b693p-17, 0x1.b9b731807a796p-20,
              -0x1.5d82060cf987p-23, 0x1.e29298ab645cdp-27, -0x1.d21f7c0580865p-31);
}
template <class T>
ADJOINT_MATH_FN T erf_near(T x) {
  return fma_(x, erf_poly(x * x), x);
}

template <class T>
struct ErfcConst;
template <>
struct ErfcConst<float> {
  static constexpr float center = 2.0f;
  static constexpr float lead = 0x1.46e80ep0f;
  static constexpr float max = 10.2f;  // erfc vanishes
};
template <>
struct ErfcConst<double> {
  static constexpr double center = 4.0;
  static constexpr double lead = 0x1.3ba5916e9fd7fp0;
  static constexpr double max = 27.5;
};

/// (e^(a^2) erfc(a) (1 + 2 a) - lead) / t.
ADJOINT_MATH_FN float erfc_poly(float t) {
  return poly(t, -0x1.7bf5e8p-4f, -0x1.5407bap-3f, 0x1.4ff9bap-3f, -0x1.bc2ce8p-5f, -0x1.06edcap-7f,
              0x1.1df828p-7f, 0x1.3e6adcp-10f, -0x1.80f02ap-10f, -0x1.44c42p-12f, 0x1.c0c5fcp-13f);
}
ADJOINT_MATH_FN double erfc_poly(double t) {
  return poly(
      t, -0x1.1df1ad154a26ep-3, 0x1.f7f5df66fbe06p-7, 0x1.16ecefcfa34c5p-4, -0x1.9ddb23c3dcad4p-4,
      0x1.7fee004e58f9bp-4, -0x1.0fb06dff700e3p-4, 0x1.3079eded29b9cp-5, -0x1.0962384d689e7p-6,
      0x1.49c675437d167p-8, -0x1.8d4aca4b7279bp-11, -0x1.a1e117ab9684dp-13, 0x1.3be3758efc275p-13,
      -0x1.992146e5fe5d3p-16, -0x1.790e241cc8468p-17, 0x1.7d2601128bb22p-18, 0x1.55fd5a940cd9fp-22,
      -0x1.a3fd2e3966072p-21, 0x1.b6383e44f6f7ep-25, 0x1.3f5fa0cf4660ep-24, -0x1.bd8152dbe9df5p-28);
}

/// e^x as (hi + lo) s1 s2, for a pair x <= 0: what 1 + (e^r - 1) is rounded by is kept.
template <class T>
struct ExpPair {
  Two<T> p;
  T s1, s2;
};
template <class T>
ADJOINT_MATH_FN ExpPair<T> exp_pair(T hi, T lo) {
  const T x = hi < ExpConst<T>::product_min ? ExpConst<T>::product_min : hi;
  const auto [r0, k] = exp_reduce(x, static_cast<T>(2 * Real<T>::bias));
  const T r = r0 + (x == hi ? lo : T(0));
  const Two<T> p = fast_two_sum(T(1), fma_(r * r, exp_poly(r), r));
  const auto [p_hi, s1, s2] = exp_scale(p.hi, k);
  return {{p_hi, p.lo}, s1, s2};
}

/// erfc(a) for a >= 0.45, given -a^2. The product and the quotient are corrected for
/// what their factors were rounded by.
template <class T>
ADJOINT_MATH_FN ExpParts<T> erfc_tail(Two<T> a, Two<T> power) {
  using C = ErfcConst<T>;
  const T t = (a.hi - C::center) / (a.hi + C::center);
  const Two<T> g = fast_two_sum(C::lead, t * erfc_poly(t));
  const auto [p, s1, s2] = exp_pair(power.hi, power.lo);
  Two<T> den = two_sum(a.hi + a.hi, T(1));
  den.lo += a.lo + a.lo;
  const Two<T> num = two_prod(p.hi, g.hi);
  const T num_lo = fma_(p.hi, g.lo, fma_(p.lo, g.hi, num.lo));
  return {quotient(num.hi, num_lo, den), s1, s2};
}

template <class T>
ADJOINT_MATH_FN ExpParts<T> erfc_of(T ax) {
  const T a = ax > ErfcConst<T>::max ? ErfcConst<T>::max : ax;
  const Two<T> square = two_prod(a, a);
  return erfc_tail(Two<T>{a, T(0)}, Two<T>{-square.hi, -square.lo});
}

/// e^(-x^2), of the exact square.
/// 1.1 ulp (float), 1.1 (double).
template <class T>
ADJOINT_MATH_FN T gaussian(T x) {
  const T ax = abs(x);
  const T a = ax > ErfcConst<T>::max ? ErfcConst<T>::max : ax;
  const Two<T> square = two_prod(a, a);
  const auto [p, s1, s2] = exp_pair(-square.hi, -square.lo);
  return (p.hi * s1) * s2;
}

template <class T>
struct ErfConst;
template <>
struct ErfConst<float> {
  static constexpr float center = 1.875f;
  static constexpr float max = 4.0f;  // erf rounds to 1
};
template <>
struct ErfConst<double> {
  static constexpr double center = 2.25;
  static constexpr double max = 6.0;
};

/// e^(a^2) erfc(a) for t = (a - center) / (a + center), 0.875 <= a <= max.
ADJOINT_MATH_FN float erf_far_poly(float t) {
  return poly(t, 0x1.13e576p-2f, -0x1.c52f02p-2f, 0x1.e0506p-3f, -0x1.048914p-4f, -0x1.38163cp-8f,
              0x1.80f0f2p-8f);
}
ADJOINT_MATH_FN double erf_far_poly(double t) {
  return poly(t, 0x1.d94446d62793ep-3, -0x1.97beed129e0bep-2, 0x1.ff4e7f926315fp-3,
              -0x1.ae49942b1f257p-4, 0x1.63595187d6a35p-6, 0x1.bcc258120322cp-9,
              -0x1.6accbc9ac2827p-9, -0x1.86b61e4d4a699p-13, 0x1.8ffc2bfc5557dp-12,
              0x1.783c4259dbaf7p-15, -0x1.033be3f8d6a83p-14, -0x1.9fd3378fba68dp-16,
              -0x1.094e85d144df2p-19);
}

/// 1 - erfc(a), where errors of erfc weigh less than a quarter: no pairs, and one division.
/// 1.3 ulp (float), 1.3 (double).
template <class T>
ADJOINT_MATH_FN T erf(T x) {
  using C = ErfConst<T>;
  const T ax = abs(x);
  const T a = ax > C::max ? C::max : ax;
  const T far = erf_far_poly((a - C::center) / (a + C::center));
  const auto [r, k] = exp_reduce(-a * a, static_cast<T>(Real<T>::bias));
  const T power = (T(1) + fma_(r * r, exp_poly(r), r)) * pow2_biased<T>(k);
  return ax < T(0.875) ? erf_near(x) : xor_sign(fma_(-power, far, T(1)), sign_bit(x));
}

/// 1.4 ulp (float), 1.7 (double).
template <class T>
ADJOINT_MATH_FN T erfc(T x) {
  const T ax = abs(x);
  const auto [q, s1, s2] = erfc_of(ax);
  const T tail = (q * s1) * s2;
  const T far = x < T(0) ? T(2) - tail : tail;
  return ax < T(0.46875) ? T(1) - erf_near(x) : far;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
