// rsqrt, cbrt, hypot and its slope. (sqrt is an instruction and lives with the tools.)
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_log-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// 1.5 ulp (float), 1.5 (double).
template <class T>
ADJOINT_MATH_FN T rsqrt(T x) {
  return T(1) / sqrt(x);
}

/// m^(-1/3) on [1, 2), to 13 bits (float) and 16.
ADJOINT_MATH_FN float rcbrt_poly(float m) {
  return poly(m, 0x1.8ab90ap0f, -0x1.9eb2f6p-1f, 0x1.45620ep-2f, -0x1.991562p-5f);
}
ADJOINT_MATH_FN double rcbrt_poly(double m) {
  return poly(m, 0x1.ab85b93318bf9p0, -0x1.2c425b44e648p0, 0x1.641752340f3d4p-1,
              -0x1.c51a3900fe516p-3, 0x1.d471f37d8eec4p-6);
}

ADJOINT_MATH_FN float rcbrt_refine(float m, float r) {
  return fma_(r * (1.0f / 3.0f), fma_(-m * r, r * r, 1.0f), r);
}
ADJOINT_MATH_FN double rcbrt_refine(double m, double r) {
  r = fma_(r * (1.0 / 3.0), fma_(-m * r, r * r, 1.0), r);
  return fma_(r * (1.0 / 3.0), fma_(-m * r, r * r, 1.0), r);
}

/// |x| = 2^(3 j) m with m in [1, 8). Newton's steps find m^(-1/3) without a division; the last
/// one, for the root itself, takes the residual exactly.
/// 0.51 ulp (float), 0.51 (double).
template <class T>
ADJOINT_MATH_FN T cbrt(T x) {
  using C = LogConst<T>;
  const T ax = abs(x);
  const bool tiny = ax < Real<T>::min_normal;
  const Bits<T> u = to_bits(tiny ? ax * C::subnormal_scale : ax);
  const T e = from_bits((u >> Real<T>::mant) | C::two_mant) - C::unbias;
  const T m1 = from_bits((u & C::mant_mask) | C::one);
  const T t = fma_(e, T(1) / T(3), T(-1) / T(3)) + (Real<T>::round + T(Real<T>::bias));
  const T j = t - (Real<T>::round + T(Real<T>::bias));
  const T left = fma_(T(-3), j, e);
  const T factor = left > T(1.5) ? T(4) : T(2);
  const T root =
      left > T(1.5) ? static_cast<T>(0x1.428a2f98d728bp-1) : static_cast<T>(0x1.965fea53d6e3dp-1);
  const bool whole = left < T(0.5);
  const T m = whole ? m1 : m1 * factor;
  const T r = rcbrt_refine(m, whole ? rcbrt_poly(m1) : rcbrt_poly(m1) * root);
  const T r2 = r * r;
  const T y = m * r2;
  const Two<T> y2 = two_prod(y, y);
  const Two<T> y3 = two_prod(y2.hi, y);
  const T excess = (y3.hi - m) + fma_(y2.lo, y, y3.lo);
  const T result = fma_(excess * r2, T(-1) / T(3), y) * from_bits(to_bits(t) << Real<T>::mant) *
                   (tiny ? static_cast<T>(sizeof(T) == 4 ? 0x1p-8 : 0x1p-18) : T(1));
  return (ax > T(0) && ax < kInf<T>) ? xor_sign(result, sign_bit(x)) : x;
}

template <class T>
struct HypotConst;
template <>
struct HypotConst<float> {
  static constexpr float large = 0x1p60f, shrink = 0x1p-70f, small = 0x1p-50f, grow = 0x1p100f;
};
template <>
struct HypotConst<double> {
  static constexpr double large = 0x1p500, shrink = 0x1p-600, small = 0x1p-450, grow = 0x1p600;
};

/// The squares are taken after a scaling that keeps them in range.
/// 1.3 ulp (float), 1.3 (double).
template <class T>
ADJOINT_MATH_FN T hypot(T x, T y) {
  using C = HypotConst<T>;
  const T ax = abs(x);
  const T ay = abs(y);
  const T a = ax > ay ? ax : ay;
  const T b = ax > ay ? ay : ax;
  const T scale = a > C::large ? C::shrink : (a < C::small ? C::grow : T(1));
  const T back = a > C::large ? T(1) / C::shrink : (a < C::small ? T(1) / C::grow : T(1));
  const T as = a * scale;
  const T bs = b * scale;
  const T result = sqrt(fma_(as, as, bs * bs)) * back;
  return (ax == kInf<T> || ay == kInf<T>) ? kInf<T> : result;
}

/// x / hypot(x, y), 0 at the origin and its limits at infinity: right where the squares or the root
/// leave the range. 2 ulp (float), 2 (double).
template <class T>
ADJOINT_MATH_FN T hypot_slope(T x, T y) {
  using C = HypotConst<T>;
  const T ax = abs(x);
  const T ay = abs(y);
  const T a = ax > ay ? ax : ay;
  const T b = ax > ay ? ay : ax;
  const T scale = a > C::large ? C::shrink : (a < C::small ? C::grow : T(1));
  const T as = a * scale;
  const T bs = b * scale;
  const T h = sqrt(fma_(as, as, bs * bs));
  // What would vanish when shrunk is shrunk last.
  const T slope = a > C::large ? (x / h) * scale : (x * scale) / h;
  // Of two infinities neither is the larger one.
  const T share = ay == kInf<T> ? T(0.70710678118654752440) : T(1);
  const T limit = ax == kInf<T> && ay == ay ? xor_sign(share, sign_bit(x)) : slope;
  return a == T(0) ? T(0) : limit;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
