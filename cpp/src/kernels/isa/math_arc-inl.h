// asin, acos, atan and atan2, and the 1 - x^2 that slopes of inverse functions are made of.
#pragma once

#include "kernels/isa/math_core-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// 1 - x^2, also next to 1, where the square's own rounding would be most of the result.
/// 0.5 ulp (float), 0.5 (double); 1.5 at the baseline.
template <class T>
ADJOINT_MATH_FN T one_minus_square(T x) {
#if ADJOINT_MATH_HAS_FMA
  return fma_(-x, x, T(1));
#else
  return (T(1) - x) * (T(1) + x);
#endif
}

template <class T>
struct ArcConst;
template <>
struct ArcConst<float> {
  static constexpr float pi_hi = 0x1.921fb6p1f;
  static constexpr float pi_lo = -0x1.777a5cp-24f;
  static constexpr float large = 0x1p125f;
};
template <>
struct ArcConst<double> {
  static constexpr double pi_hi = 0x1.921fb54442d18p1;
  static constexpr double pi_lo = 0x1.1a62633145c07p-53;
  static constexpr double large = 0x1p1020;
};

/// (asin s - s) / s for z = s^2 <= 1/4.
ADJOINT_MATH_FN float asin_tail(float z) {
  return z * poly(z, 0x1.55554cp-3f, 0x1.333892p-4f, 0x1.6cabb4p-5f, 0x1.04ab22p-5f, 0x1.d7a58ap-7f,
                  0x1.33d8p-5f);
}
ADJOINT_MATH_FN double asin_tail(double z) {
  return z * poly(z, 0x1.5555555555578p-3, 0x1.333333332df0ap-4, 0x1.6db6db722bcadp-5,
                  0x1.f1c71a8b7ecedp-6, 0x1.6e8bdfe94e91bp-6, 0x1.1c49ddd7e4fd4p-6,
                  0x1.ca2147b4dbfcdp-7, 0x1.757774468d839p-7, 0x1.618b3873ef3cfp-7,
                  0x1.e15476c9b267p-9, 0x1.6503ea985b002p-6, -0x1.59f90a07c7cf3p-6,
                  0x1.0be524c4955e3p-5);
}

/// asin |x| up to 1/2, beyond it asin sqrt((1 - |x|) / 2), which is half of acos |x|.
template <class T>
ADJOINT_MATH_FN T asin_core(T ax) {
  const bool big = ax > T(0.5);
  const T z = big ? T(0.5) * (T(1) - ax) : ax * ax;
  const T s = big ? sqrt(z) : ax;
  return fma_(s, asin_tail(z), s);
}

/// 2.4 ulp (float), 2.3 (double).
template <class T>
ADJOINT_MATH_FN T asin(T x) {
  using C = ArcConst<T>;
  const T ax = abs(x);
  const T a = asin_core(ax);
  const T flipped = T(0.5) * C::pi_hi - ((a + a) - T(0.5) * C::pi_lo);
  return xor_sign(ax > T(0.5) ? flipped : a, sign_bit(x));
}

/// 1.2 ulp (float), 1.2 (double).
template <class T>
ADJOINT_MATH_FN T acos(T x) {
  using C = ArcConst<T>;
  const T ax = abs(x);
  const T a = asin_core(ax);
  const T near = T(0.5) * C::pi_hi - (xor_sign(a, sign_bit(x)) - T(0.5) * C::pi_lo);
  const T far = x < T(0) ? C::pi_hi - ((a + a) - C::pi_lo) : a + a;
  return ax > T(0.5) ? far : near;
}

/// (atan t - t) / t for z = t^2, |t| <= tan(pi/8).
ADJOINT_MATH_FN float atan_tail(float z) {
  return z *
         poly(z, -0x1.55554ap-2f, 0x1.9991acp-3f, -0x1.23b6bp-3f, 0x1.b2017ap-4f, -0x1.f2526cp-5f);
}
ADJOINT_MATH_FN double atan_tail(double z) {
  return z * poly(z, -0x1.555555555553dp-2, 0x1.99999999958dcp-3, -0x1.24924922b0be6p-3,
                  0x1.c71c70e77ad4fp-4, -0x1.745cf9068a69fp-4, 0x1.3b111c10eda11p-4,
                  -0x1.10ebd9cbd4055p-4, 0x1.df112e47b7a53p-5, -0x1.9cdb1e0477a9cp-5,
                  0x1.37ea8e07324c8p-5, -0x1.25973cd89bd4p-6);
}

/// The angle of (x, y) for x, y >= 0, not both zero, or its supplement: turned by pi/4 or pi/2 to
/// stay below tan(pi/8), which costs one division in all.
template <class T>
ADJOINT_MATH_FN T angle_of(T y, T x, bool supplement) {
  using C = ArcConst<T>;
  const bool steep = y > T(2.414213562373095) * x;
  const bool middle = y > T(0.41421356237309503) * x;
  const T num = steep ? -x : (middle ? y - x : y);
  const T den = steep ? y : (middle ? y + x : x);
  const T turn = steep ? T(0.5) : (middle ? T(0.25) : T(0));
  const T halves = supplement ? T(1) - turn : turn;
  const T quotient = num / den;
  const T t = supplement ? -quotient : quotient;
  const T tail = fma_(t, atan_tail(t * t), halves * C::pi_lo);
  return fma_(halves, C::pi_hi, t + tail);
}

/// 2 ulp (float), 1.9 (double).
template <class T>
ADJOINT_MATH_FN T atan(T x) {
  return xor_sign(angle_of(abs(x), T(1), false), sign_bit(x));
}

/// 2.1 ulp (float), 2.1 (double).
template <class T>
ADJOINT_MATH_FN T atan2(T y, T x) {
  using C = ArcConst<T>;
  const T ax = abs(x);
  const T ay = abs(y);
  // y + x must not overflow; two infinities stand for equal numbers, two zeros for a zero angle.
  const T scale = (ax > C::large || ay > C::large) ? T(0.25) : T(1);
  const bool both_inf = ax == kInf<T> && ay == kInf<T>;
  const bool both_zero = ax == T(0) && ay == T(0);
  const T sy = both_inf ? T(1) : ay * scale;
  const T sx = (both_inf || both_zero) ? T(1) : ax * scale;
  const T result = xor_sign(angle_of(sy, sx, sign_bit(x) != 0), sign_bit(y));
  return x == x ? result : x;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
