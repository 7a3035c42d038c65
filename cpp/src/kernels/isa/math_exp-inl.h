// exp and what is made of it: exp2, expm1, tanh, sinh, cosh, sigmoid, silu, gelu.
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
  static constexpr float max = 89.0f;     // e^max overflows
  static constexpr float min = -104.5f;   // e^min is below half the smallest subnormal
  static constexpr float tanh_max = 9.5f; // tanh rounds to 1 from here
};

template <>
struct ExpConst<double> {
  static constexpr double log2e = 0x1.71547652b82fep+0;
  static constexpr double ln2_hi = 0x1.62e42feep-1;
  static constexpr double ln2_lo = 0x1.a39ef35793c76p-33;
  static constexpr double max = 710.0;
  static constexpr double min = -746.0;
  static constexpr double tanh_max = 20.0;
};

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

template <class T>
ADJOINT_MATH_FN T clamp(T x, T lo, T hi) {
  x = x < lo ? lo : x;
  return x > hi ? hi : x;
}

/// e^x = p s1 s2, the last two powers of two: the exponent is halved so that results which
/// overflow or become subnormal are rounded once.
template <class T>
struct ExpParts {
  T p, s1, s2;
};

/// For k + 2 bias in the low bits.
template <class T>
ADJOINT_MATH_FN ExpParts<T> exp_scale(T p, Bits<T> k) {
  const Bits<T> q = k & (4 * Real<T>::bias + 3);
  const Bits<T> q1 = q >> 1;
  return {p, pow2_biased<T>(q1), pow2_biased<T>(q - q1)};
}

template <class T>
ADJOINT_MATH_FN ExpParts<T> exp_parts(T x) {
  const auto [r, k] = exp_reduce(clamp(x, ExpConst<T>::min, ExpConst<T>::max),
                                 static_cast<T>(2 * Real<T>::bias));
  return exp_scale(T(1) + fma_(r * r, exp_poly(r), r), k);
}

template <class T>
ADJOINT_MATH_FN T exp(T x) {
  const auto [p, s1, s2] = exp_parts(x);
  return (p * s1) * s2;
}

/// e^y - 1 as a pair, for 0 <= y <= 2 tanh_max.
template <class T>
ADJOINT_MATH_FN Two<T> expm1_two(T y) {
  const auto [r, k] = exp_reduce(y, static_cast<T>(Real<T>::bias));
  const T s = pow2_biased<T>(k);
  const T tail = r * r * exp_poly(r);
  const T p = r + tail;
  const T p_lo = tail - (p - r);
  const T ps = p * s;
  const T one = s - T(1);
  const T t = one + ps;
  // Either k is 0 and `one` with it, or `one` is not below |ps| by more than a rounding matters.
  return {t, fma_(p_lo, s, ps - (t - one))};
}

/// t / (t + 2) with t = e^2|x| - 1, and a correction for what t was rounded by: the derivative is
/// 2 / (t + 2)^2 = (1 - q)^2 / 2.
template <class T>
ADJOINT_MATH_FN T tanh(T x) {
  const T ax = abs(x);
  const Two<T> t = expm1_two(T(2) * (ax > ExpConst<T>::tanh_max ? ExpConst<T>::tanh_max : ax));
  const T q = t.hi / (t.hi + T(2));
  const T part = T(1) - q;
  return xor_sign(fma_(part * part, T(0.5) * t.lo, q), sign_bit(x));
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
