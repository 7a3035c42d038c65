// exp, exp2, expm1, tanh, sinh and cosh.
//
// x = k ln2 + r with |r| <= ln2 / 2; e^r - 1 comes from a minimax polynomial and 2^k from the
// exponent bits. ln2 is cut in two such that k times the upper part is exact without FMA.
#pragma once

#include "kernels/isa/math_core-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

template <class T>
struct ExpConst;

template <>
struct ExpConst<float> {
  static constexpr float log2e = 0x1.715476p+0f;
  static constexpr float ln2_hi = 0x1.62ep-1f;
  static constexpr float ln2_lo = 0x1.0bfbe8p-15f;
  static constexpr float max = 89.0f;            // e^max overflows
  static constexpr float min = -104.5f;          // e^min is below half the smallest subnormal
  static constexpr float product_min = -130.0f;  // x e^x vanishes
  static constexpr float tanh_max = 9.5f;        // tanh rounds to 1 from here
  static constexpr float sinh_max = 89.6f;       // sinh and cosh overflow
  static constexpr float expm1_min = -30.0f;     // expm1 rounds to -1
  static constexpr float linear = 0x1p-25f;      // expm1 x and sinh x round to x below
  static constexpr float exp2_max = 129.0f;
  static constexpr float exp2_min = -151.0f;
};

template <>
struct ExpConst<double> {
  static constexpr double log2e = 0x1.71547652b82fep+0;
  static constexpr double ln2_hi = 0x1.62e42feep-1;
  static constexpr double ln2_lo = 0x1.a39ef35793c76p-33;
  static constexpr double max = 710.0;
  static constexpr double min = -746.0;
  static constexpr double product_min = -800.0;
  static constexpr double tanh_max = 20.0;
  static constexpr double sinh_max = 710.6;
  static constexpr double expm1_min = -60.0;
  static constexpr double linear = 0x1p-54;
  static constexpr double exp2_max = 1025.0;
  static constexpr double exp2_min = -1076.0;
};

/// e^x and e^-x are normal up to here.
template <class T>
static constexpr T kExpFastMax = sizeof(T) == 4 ? T(87) : T(708);

/// (e^r - 1 - r) / r^2 on |r| <= ln2 / 2.
ADJOINT_MATH_FN float exp_poly(float r) {
  return poly(r, 0x1p-1f, 0x1.555554p-3f, 0x1.55548cp-5f, 0x1.111274p-7f, 0x1.6d8e7p-10f,
              0x1.9f070ep-13f);
}
ADJOINT_MATH_FN double exp_poly(double r) {
  return poly(r, 0x1.000000000000ap-1, 0x1.55555555554f7p-3, 0x1.555555555075cp-5,
              0x1.11111111283c7p-7, 0x1.6c16c1846f934p-10, 0x1.a01a01286c388p-13,
              0x1.a0199942e0219p-16, 0x1.71df280a470cap-19, 0x1.28ae36d90194cp-22,
              0x1.ad7d81a6e6111p-26);
}

/// The reduced argument, and k + offset in the low bits of `k`.
template <class T>
struct ExpReduced {
  T r;
  Bits<T> k;
};

template <class T>
ADJOINT_MATH_FN ExpReduced<T> exp_reduce(T x, T offset) {
  using C = ExpConst<T>;
  const T shift = Real<T>::round + offset;
  const T t = fma_(x, C::log2e, shift);
  const T k = t - shift;
  const T r = fma_(k, -C::ln2_lo, fma_(k, -C::ln2_hi, x));
  return {r, to_bits(t)};
}

/// 2^k for a biased exponent in the low bits.
template <class T>
ADJOINT_MATH_FN T pow2_biased(Bits<T> k) {
  return from_bits(k << Real<T>::mant);
}

/// e^x = p s1 s2, the last two powers of two: the exponent is halved so that results which
/// overflow or become subnormal are rounded once.
template <class T>
struct ExpParts {
  T p, s1, s2;
};

/// For k + 2 bias in the low bits; those above, of 1.5 2^mant, are shifted out.
template <class T>
ADJOINT_MATH_FN ExpParts<T> exp_scale(T p, Bits<T> k) {
  const Bits<T> half = k >> 1;
  return {p, pow2_biased<T>(half), pow2_biased<T>(k - half)};
}

/// For |x| <= kExpFastMax, or nan; gives the bits of `exp` there.
template <class T>
ADJOINT_MATH_FN T exp_fast(T x) {
  const auto [r, k] = exp_reduce(x, static_cast<T>(Real<T>::bias));
  return (T(1) + fma_(r * r, exp_poly(r), r)) * pow2_biased<T>(k);
}

/// The offset is odd as in `exp_fast`, so that ties are rounded alike.
/// 1 ulp (float), 1.1 (double).
template <class T>
ADJOINT_MATH_FN T exp(T x) {
  const auto [r, k] = exp_reduce(clamp(x, ExpConst<T>::min, ExpConst<T>::max),
                                 static_cast<T>(2 * Real<T>::bias + 1));
  const auto [p, s1, s2] = exp_scale(T(1) + fma_(r * r, exp_poly(r), r), k - 1);
  return (p * s1) * s2;
}

/// e^-a for a >= 0. Powers below 1 need no halves: they are formed 2^64 too large.
/// 1 ulp (float), 1.1 (double).
template <class T>
ADJOINT_MATH_FN T exp_minus(T a) {
  const T c = a > -ExpConst<T>::min ? -ExpConst<T>::min : a;
  const auto [r, k] = exp_reduce(-c, static_cast<T>(Real<T>::bias + 64));
  return ((T(1) + fma_(r * r, exp_poly(r), r)) * pow2_biased<T>(k)) * T(0x1p-64);
}

/// (2^r - 1) / r on |r| <= 1/2.
ADJOINT_MATH_FN float exp2_poly(float r) {
  return poly(r, 0x1.62e43p-1f, 0x1.ebfbep-3f, 0x1.c6b054p-5f, 0x1.3b2a1cp-7f, 0x1.5dc07p-10f,
              0x1.44403ap-13f, 0x1.c047e4p-17f);
}
ADJOINT_MATH_FN double exp2_poly(double r) {
  return poly(r, 0x1.62e42fefa39efp-1, 0x1.ebfbdff82c58fp-3, 0x1.c6b08d704a0d6p-5,
              0x1.3b2ab6fba4ea8p-7, 0x1.5d87fe78a1262p-10, 0x1.430912f859732p-13,
              0x1.ffcbfc7af7935p-17, 0x1.62c0229adc95cp-20, 0x1.b524d07c3d0ecp-24,
              0x1.e4cd9c39ca46fp-28, 0x1.ea14caa1dfbcap-32, 0x1.c6da7f37c793cp-36);
}

/// 1.1 ulp (float), 1.2 (double).
template <class T>
ADJOINT_MATH_FN T exp2(T x) {
  constexpr T shift = Real<T>::round + static_cast<T>(2 * Real<T>::bias);
  const T c = clamp(x, ExpConst<T>::exp2_min, ExpConst<T>::exp2_max);
  const T t = c + shift;
  const T r = c - (t - shift);
  const auto [p, s1, s2] = exp_scale(fma_(r, exp2_poly(r), T(1)), to_bits(t));
  return (p * s1) * s2;
}

/// Halved inside: 2^k itself may overflow where the result does not.
/// 1.5 ulp (float), 2.2 (double).
template <class T>
ADJOINT_MATH_FN T expm1(T x) {
  const T c = clamp(x, ExpConst<T>::expm1_min, ExpConst<T>::max);
  const auto [r, k] = exp_reduce(c, static_cast<T>(Real<T>::bias - 1));
  const T h = pow2_biased<T>(k);
  const T t = fma_(fma_(r * r, exp_poly(r), r), h, h - T(0.5));
  return abs(x) < ExpConst<T>::linear ? x : t + t;
}

/// With e = e^|x| - 1 this is (e + e / (e + 1)) / 2, in quarters against overflow.
/// 2.2 ulp (float), 2.5 (double).
template <class T>
ADJOINT_MATH_FN T sinh(T x) {
  const T ax = abs(x);
  const T c = ax > ExpConst<T>::sinh_max ? ExpConst<T>::sinh_max : ax;
  const auto [r, k] = exp_reduce(c, static_cast<T>(Real<T>::bias - 2));
  const T h = pow2_biased<T>(k);
  const T e = fma_(fma_(r * r, exp_poly(r), r), h, h - T(0.25));
  const T sum = e + e / fma_(T(4), e, T(1));
  return ax < ExpConst<T>::linear ? x : xor_sign(sum + sum, sign_bit(x));
}

/// 1.5 ulp (float), 1.6 (double).
template <class T>
ADJOINT_MATH_FN T cosh(T x) {
  const T ax = abs(x);
  const T c = ax > ExpConst<T>::sinh_max ? ExpConst<T>::sinh_max : ax;
  const auto [r, k] = exp_reduce(c, static_cast<T>(Real<T>::bias - 2));
  const T e = (T(1) + fma_(r * r, exp_poly(r), r)) * pow2_biased<T>(k);
  const T sum = e + T(0.0625) / e;
  return sum + sum;
}

/// (tanh(x) / x - 1) / x^2 for z = x^2, |x| <= 0.55.
ADJOINT_MATH_FN float tanh_poly(float z) {
  return poly(z, -0x1.555554p-2f, 0x1.110feap-3f, -0x1.b9a044p-5f, 0x1.5d220ep-6f, -0x1.b13538p-8f);
}
ADJOINT_MATH_FN double tanh_poly(double z) {
  return poly(z, -0x1.5555555555555p-2, 0x1.1111111111032p-3, -0x1.ba1ba1b9fec84p-5,
              0x1.664f487713373p-6, -0x1.226e32f00cf0cp-7, 0x1.d6d339333f329p-9,
              -0x1.7d97cfd138c28p-10, 0x1.34c5a8a996cd4p-11, -0x1.ec1091436eb2ap-13,
              0x1.64fd88e9900a5p-14, -0x1.59a834187ce22p-16);
}

/// From 0.55 on 1 - 2 / (e^2|x| + 1), where the errors of the quotient weigh less than a half.
/// 1.6 ulp (float), 1.6 (double).
template <class T>
ADJOINT_MATH_FN T tanh(T x) {
  const T ax = abs(x);
  const T a = ax > ExpConst<T>::tanh_max ? ExpConst<T>::tanh_max : ax;
  const auto [r, k] = exp_reduce(a + a, static_cast<T>(Real<T>::bias));
  const T p = T(1) + fma_(r * r, exp_poly(r), r);
  const T far = T(1) - T(2) / fma_(p, pow2_biased<T>(k), T(1));
  const T z = ax * ax;
  const T near = fma_(ax * z, tanh_poly(z), ax);
  return xor_sign(ax < T(0.55) ? near : far, sign_bit(x));
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
