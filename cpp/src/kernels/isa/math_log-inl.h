// log and what is made of it.
//
// x = 2^k m with m in [sqrt(1/2), sqrt(2)) and f = m - 1 exact. float32 takes a polynomial in f,
// float64 one in s^2 with s = f / (2 + f), where log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)).
#pragma once

#include "kernels/isa/math_core-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

template <class T>
struct LogConst;

template <>
struct LogConst<float> {
  static constexpr std::uint32_t sqrt_half = 0x3f3504f3u;
  static constexpr std::uint32_t one = 0x3f800000u;
  static constexpr std::uint32_t mant_mask = 0x007fffffu;
  static constexpr std::uint32_t two_mant = 0x4b000000u;  // bits of 2^23
  static constexpr float unbias = 0x1p23f + 127.0f;
  static constexpr float subnormal_shift = 24.0f;
  static constexpr float subnormal_scale = 0x1p24f;
  static constexpr float ln2_hi = 0x1.62ep-1f;
  static constexpr float ln2_lo = 0x1.0bfbe8p-15f;
};

template <>
struct LogConst<double> {
  static constexpr std::uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
  static constexpr std::uint64_t one = 0x3ff0000000000000u;
  static constexpr std::uint64_t mant_mask = 0x000fffffffffffffu;
  static constexpr std::uint64_t two_mant = 0x4330000000000000u;  // bits of 2^52
  static constexpr double unbias = 0x1p52 + 1023.0;
  static constexpr double subnormal_shift = 54.0;
  static constexpr double subnormal_scale = 0x1p54;
  static constexpr double ln2_hi = 0x1.62e42feep-1;
  static constexpr double ln2_lo = 0x1.a39ef35793c76p-33;
};

/// x = 2^k (1 + f); k is integral.
template <class T>
struct LogSplit {
  T f, k;
};

/// For finite x > 0, subnormal ones excepted.
template <class T>
ADJOINT_MATH_FN LogSplit<T> log_split_normal(T x) {
  using C = LogConst<T>;
  const Bits<T> u = to_bits(x) + (C::one - C::sqrt_half);
  const T k = from_bits((u >> Real<T>::mant) | C::two_mant) - C::unbias;
  const T m = from_bits((u & C::mant_mask) + C::sqrt_half);
  return {m - T(1), k};
}

/// For finite x > 0.
template <class T>
ADJOINT_MATH_FN LogSplit<T> log_split(T x) {
  using C = LogConst<T>;
  const bool tiny = x < Real<T>::min_normal;
  const auto [f, k] = log_split_normal(tiny ? x * C::subnormal_scale : x);
  return {f, k - (tiny ? C::subnormal_shift : T(0))};
}

/// log(1 + f) - f + f^2/2 =: tail; the caller adds the three parts in the order that suits it.
ADJOINT_MATH_FN float log_tail(float f, float) {
  return f * f * f *
         poly(f, 0x1.555554p-2f, -0x1.000226p-2f, 0x1.99a008p-3f, -0x1.54725p-3f, 0x1.22da24p-3f,
              -0x1.0d84d2p-3f, 0x1.055b44p-3f, -0x1.38b7f2p-4f);
}
ADJOINT_MATH_FN double log_tail(double f, double half_f2) {
  const double s = f / (2.0 + f);
  const double z = s * s;
  const double r =
      z * poly(z, 0x1.5555555555592p-1, 0x1.999999997fd9fp-2, 0x1.24924941f2443p-2,
               0x1.c71c52089365cp-3, 0x1.74663f0c8f3cbp-3, 0x1.39a1b784718e4p-3,
               0x1.2f058009ad715p-3);
  return s * (half_f2 + r);
}

/// log(2^k (1 + f)).
template <class T>
ADJOINT_MATH_FN T log_of_split(T f, T k) {
  using C = LogConst<T>;
  const T half_f2 = T(0.5) * f * f;
  const T tail = fma_(k, C::ln2_lo, log_tail(f, half_f2));
  return fma_(k, C::ln2_hi, f - (half_f2 - tail));
}

/// The values of a logarithm at and below zero, and at infinity.
template <class T>
ADJOINT_MATH_FN T log_edges(T x, T result) {
  result = x == kInf<T> ? x : result;
  const T below = x == T(0) ? -kInf<T> : kNan<T>;
  return x > T(0) ? result : below;
}

template <class T>
ADJOINT_MATH_FN T log(T x) {
  const auto [f, k] = log_split(x);
  return log_edges(x, log_of_split(f, k));
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
