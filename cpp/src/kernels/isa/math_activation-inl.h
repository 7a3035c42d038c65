// sigmoid, softplus, silu and both forms of gelu. Their tails are products with e^x: the powers of
// two of the exponential are multiplied in last, so that a subnormal result is rounded once.
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_erf-inl.h"
#include "kernels/isa/math_exp-inl.h"
#include "kernels/isa/math_log-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// A subnormal power is the result itself, as 1 is all of the sum then.
/// 2.5 ulp (float), 2.5 (double).
template <class T>
ADJOINT_MATH_FN T sigmoid(T x) {
  const T e = exp_minus(abs(x));
  return (x >= T(0) ? T(1) : e) / (T(1) + e);
}

/// sigmoid'(x) = e / (1 + e)^2 with e = e^-|x|, for y = sigmoid(x): 1 / (1 + e) is the larger one
/// of y and 1 - y. The difference y (1 - y) would lose what y is rounded by. 4 ulp (float), 4
/// (double).
template <class T>
ADJOINT_MATH_FN T sigmoid_slope(T x, T y) {
  const T larger = T(0.5) + abs(y - T(0.5));
  return (exp_minus(abs(x)) * larger) * larger;
}

/// tanh'(x) = e (1 + |y|)^2 with e = e^-2|x|, for y = tanh(x), as 1 + |y| = 2 / (1 + e).
/// 4 ulp (float), 4 (double).
template <class T>
ADJOINT_MATH_FN T tanh_slope(T x, T y) {
  const T sum = T(1) + abs(y);
  return (exp_minus(abs(x + x)) * sum) * sum;
}

/// 1.7 ulp (float), 1.7 (double).
template <class T>
ADJOINT_MATH_FN T softplus(T x) {
  const Two<T> u = fast_two_sum(T(1), exp_minus(abs(x)));
  return (x > T(0) ? x : T(0)) + log_of_sum(u.hi, u.lo, T(0));
}

/// x / (1 + e^(-v)), for v of the sign of x.
template <class T>
ADJOINT_MATH_FN T gate(T x, T v_hi, T v_lo) {
  const Bits<T> flip = sign_bit(v_hi) ^ Real<T>::sign;
  const auto [p, s1, s2] = exp_pair(xor_sign(v_hi, flip), xor_sign(v_lo, flip));
  const bool right = x >= T(0);
  const Two<T> den = fast_two_sum(T(1), (p.hi * s1) * s2);
  const T q = quotient(right ? T(1) : p.hi, right ? T(0) : p.lo,
                       Two<T>{den.hi, fma_(p.lo * s1, s2, den.lo)});
  return ((x * q) * (right ? T(1) : s1)) * (right ? T(1) : s2);
}

/// -0 at -inf, the limit.
/// 1.8 ulp (float), 1.8 (double).
template <class T>
ADJOINT_MATH_FN T silu(T x) {
  const T c = x < T(2) * ExpConst<T>::product_min ? T(2) * ExpConst<T>::product_min : x;
  return gate(c, c, T(0));
}

template <class T>
struct GeluConst;
template <>
struct GeluConst<float> {
  static constexpr float c1 = 0x1.988454p0f, c1_lo = -0x1.857936p-25f;  // sqrt(8 / pi)
  static constexpr float c3 = 0x1.2444f2p-4f, c3_lo = 0x1.49b16ap-29f;  // 0.044715 sqrt(8 / pi)
  static constexpr float max = 16.0f;                                   // the gate is 0 or 1
  static constexpr float erf_max = 16.0f;
  static constexpr float sqrt_half = 0x1.6a09e6p-1f, sqrt_half_lo = 0x1.9fcef4p-27f;
};
template <>
struct GeluConst<double> {
  static constexpr double c1 = 0x1.9884533d43651p0, c1_lo = -0x1.cbc0d30ebfd15p-54;
  static constexpr double c3 = 0x1.2444f2a4d8b4bp-4, c3_lo = -0x1.6c843a29d1c7p-61;
  static constexpr double max = 30.0;
  static constexpr double erf_max = 42.0;
  static constexpr double sqrt_half = 0x1.6a09e667f3bcdp-1, sqrt_half_lo = -0x1.bdd3413b26456p-55;
};

/// x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3). The argument reaches -700, where its
/// rounding would cost hundreds of ulp, so it is carried as a pair. -0 at -inf, the limit.
/// 1.9 ulp (float), 2 (double).
template <class T>
ADJOINT_MATH_FN T gelu(T x) {
  using C = GeluConst<T>;
  const T c = clamp(x, -C::max, C::max);
  const Two<T> z = two_prod(c, c);
  const Two<T> cubic = two_prod(z.hi, C::c3);
  const T cubic_lo = fma_(z.hi, C::c3_lo, fma_(z.lo, C::c3, cubic.lo));
  const Two<T> w = two_sum(C::c1, cubic.hi);
  const T w_lo = w.lo + (cubic_lo + C::c1_lo);
  const Two<T> v = two_prod(c, w.hi);
  return gate(x > C::max ? x : c, v.hi, fma_(c, w_lo, v.lo));
}

/// x erfc(-x / sqrt 2) / 2. -0 at -inf, the limit.
/// 1.9 ulp (float), 2.2 (double).
template <class T>
ADJOINT_MATH_FN T gelu_erf(T x) {
  using C = GeluConst<T>;
  const T ax = abs(x);
  const T c = ax > C::erf_max ? C::erf_max : ax;
  const Two<T> square = two_prod(c, c);
  Two<T> a = two_prod(c, C::sqrt_half);
  a.lo = fma_(c, C::sqrt_half_lo, a.lo);
  const auto [q, s1, s2] = erfc_tail(a, Two<T>{T(-0.5) * square.hi, T(-0.5) * square.lo});
  const T near = x * fma_(T(0.5), erf_near(x * C::sqrt_half), T(0.5));
  const T left = T(-0.5) * c * q;
  const T right = fma_(left * s1, s2, x);
  const T far = x < T(0) ? (left * s1) * s2 : right;
  return ax < T(0.65) ? near : (x == x ? far : x);
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
