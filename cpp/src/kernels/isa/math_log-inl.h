// log, log1p, log2, log10 and the inverse hyperbolic functions.
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
  static constexpr std::uint32_t upper = 0xfffff000u;  // keeps half of the digits
  static constexpr float log2e_hi = 0x1.716p0f;
  static constexpr float log2e_lo = -0x1.7135a8p-13f;
  static constexpr float log10e_hi = 0x1.bccp-2f;
  static constexpr float log10e_lo = -0x1.09d5b2p-15f;
  static constexpr float log10_2_hi = 0x1.3442p-2f;
  static constexpr float log10_2_lo = -0x1.95ec1p-19f;
  static constexpr float one_is_lost = 0x1p26f;    // 1 + x rounds to x
  static constexpr float square_is_all = 0x1p14f;  // 1 + x^2 rounds to x^2
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
  static constexpr std::uint64_t upper = 0xffffffff00000000u;
  static constexpr double log2e_hi = 0x1.7154766p0;
  static constexpr double log2e_lo = -0x1.a8fa03d1105ep-29;
  static constexpr double log10e_hi = 0x1.bcb7b16p-2;
  static constexpr double log10e_lo = -0x1.b235e39ab2a91p-31;
  static constexpr double log10_2_hi = 0x1.34413509f78p-2;
  static constexpr double log10_2_lo = 0x1.fef311f12b358p-46;
  static constexpr double one_is_lost = 0x1p60;
  static constexpr double square_is_all = 0x1p28;
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
  const double r = z * poly(z, 0x1.5555555555592p-1, 0x1.999999997fd9fp-2, 0x1.24924941f2443p-2,
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

/// log(1 + f) as a pair whose upper part has half of the digits, so that it can be multiplied by
/// a constant of as many without an error.
template <class T>
ADJOINT_MATH_FN Two<T> log_of_fraction(T f) {
  const T half_f2 = T(0.5) * f * f;
  const T hi = from_bits(to_bits(f - half_f2) & LogConst<T>::upper);
  return {hi, ((f - hi) - half_f2) + log_tail(f, half_f2)};
}

/// log2(2^k (1 + f)).
template <class T>
ADJOINT_MATH_FN T log2_of_split(T f, T k) {
  using C = LogConst<T>;
  const auto [hi, lo] = log_of_fraction(f);
  const T head = hi * C::log2e_hi;
  const T sum = k + head;
  const T tail = fma_(lo + hi, C::log2e_lo, lo * C::log2e_hi);
  return sum + (tail + ((k - sum) + head));
}

/// log10(2^k (1 + f)).
template <class T>
ADJOINT_MATH_FN T log10_of_split(T f, T k) {
  using C = LogConst<T>;
  const auto [hi, lo] = log_of_fraction(f);
  const T head = hi * C::log10e_hi;
  const T whole = k * C::log10_2_hi;
  const T sum = whole + head;
  const T tail = fma_(k, C::log10_2_lo, fma_(lo + hi, C::log10e_lo, lo * C::log10e_hi));
  return sum + (tail + ((whole - sum) + head));
}

// Each logarithm, and the same for normal x > 0 alone, where it gives the same bits.
#define ADJOINT_LOGARITHM(function)                 \
  template <class T>                                \
  ADJOINT_MATH_FN T function(T x) {                 \
    const auto [f, k] = log_split(x);               \
    return log_edges(x, function##_of_split(f, k)); \
  }                                                 \
  template <class T>                                \
  ADJOINT_MATH_FN T function##_fast(T x) {          \
    const auto [f, k] = log_split_normal(x);        \
    return function##_of_split(f, k);               \
  }
ADJOINT_LOGARITHM(log)    // 0.9 ulp (float), 0.9 (double)
ADJOINT_LOGARITHM(log2)   // 0.9 ulp (float), 0.9 (double)
ADJOINT_LOGARITHM(log10)  // 0.8 ulp (float), 0.8 (double)
#undef ADJOINT_LOGARITHM

/// log(2^doublings (hi + lo)) for a pair with hi not subnormal.
template <class T>
ADJOINT_MATH_FN T log_of_sum(T hi, T lo, T doublings) {
  using C = LogConst<T>;
  const Bits<T> biased = (to_bits(hi) + (C::one - C::sqrt_half)) >> Real<T>::mant;
  const T scale = from_bits((Bits<T>(2 * Real<T>::bias) - biased) << Real<T>::mant);
  const auto [f0, k] = log_split_normal(hi);
  const T f = hi < C::one_is_lost ? f0 + lo * scale : f0;
  return log_edges(hi, log_of_split(f, k + doublings));
}

/// 1.5 ulp (float), 1.4 (double).
template <class T>
ADJOINT_MATH_FN T log1p(T x) {
  const Two<T> u = two_sum(T(1), x);
  return x == T(0) ? x : log_of_sum(u.hi, u.lo, T(0));
}

/// log1p(|x| + x^2 / (1 + sqrt(1 + x^2))); log(2 |x|) where the square would overflow.
/// 1.8 ulp (float), 1.8 (double).
template <class T>
ADJOINT_MATH_FN T asinh(T x) {
  const T ax = abs(x);
  const bool big = ax > LogConst<T>::square_is_all;
  const T x2 = ax * ax;
  const Two<T> u = two_sum(T(1), ax + x2 / (T(1) + sqrt(T(1) + x2)));
  const T result = log_of_sum(big ? ax : u.hi, big ? T(0) : u.lo, big ? T(1) : T(0));
  return xor_sign(result, sign_bit(x));
}

/// log1p(t + sqrt(t (t + 2))) with t = x - 1.
/// 2.2 ulp (float), 2.2 (double).
template <class T>
ADJOINT_MATH_FN T acosh(T x) {
  const bool big = x > LogConst<T>::square_is_all;
  const T t = x - T(1);
  const Two<T> u = two_sum(T(1), t + sqrt(fma_(t, t, t + t)));
  const T hi = x < T(1) ? kNan<T> : u.hi;
  return log_of_sum(big ? x : hi, big ? T(0) : u.lo, big ? T(1) : T(0));
}

/// log1p(2 |x| / (1 - |x|)) / 2.
/// 2.2 ulp (float), 2 (double).
template <class T>
ADJOINT_MATH_FN T atanh(T x) {
  const T ax = abs(x);
  const Two<T> u = two_sum(T(1), (ax + ax) / (T(1) - ax));
  return xor_sign(T(0.5) * log_of_sum(u.hi, u.lo, T(0)), sign_bit(x));
}

/// -x log(x), and 0 at 0; minus infinity below.
/// 1.5 ulp (float), 1.5 (double).
template <class T>
ADJOINT_MATH_FN T entr(T x) {
  const T product = T(0) - x * log(x);
  const T below = x < T(0) ? -kInf<T> : product;
  return x == T(0) ? T(0) : below;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
