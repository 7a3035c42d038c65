// The tools the scalar math functions are built from: bit casts, a written-out FMA, error-free
// sums and products, Horner's rule. Like every math*-inl.h this file is compiled once per
// instruction-set level into a namespace of its own, and everything in it is forced inline: an
// ordinary inline function from a shared header could be emitted with AVX-512 instructions and
// kept by the linker for every level. Hence also no <cmath> and no std:: templates here.
//
// Every function is free of branches and of calls, so that a plain loop over it vectorises.
#pragma once

#include <cstdint>

#ifndef ADJOINT_ISA_NS
#error "ADJOINT_ISA_NS names the instruction-set level and comes from the command line"
#endif

#define ADJOINT_MATH_FN static inline __attribute__((always_inline))
/// What iterates, or is a step of that, costs far more than a call: one copy of it.
#define ADJOINT_MATH_CALL static inline __attribute__((noinline))

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define ADJOINT_MATH_HAS_FMA 1
#else
#define ADJOINT_MATH_HAS_FMA 0
#endif

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

template <class T>
struct Real;

template <>
struct Real<float> {
  using U = std::uint32_t;
  using S = std::int32_t;
  static constexpr int mant = 23;
  static constexpr int bias = 127;
  static constexpr U sign = 0x80000000u;
  static constexpr float min_normal = 0x1p-126f;
  static constexpr float round = 0x1.8p23f;  // adding it leaves an integer in the low bits
  static constexpr float split = 0x1.002p12f;
};

template <>
struct Real<double> {
  using U = std::uint64_t;
  using S = std::int64_t;
  static constexpr int mant = 52;
  static constexpr int bias = 1023;
  static constexpr U sign = 0x8000000000000000u;
  static constexpr double min_normal = 0x1p-1022;
  static constexpr double round = 0x1.8p52;
  static constexpr double split = 0x1.0000002p27;
};

template <class T>
using Bits = typename Real<T>::U;

template <class T>
static constexpr T kInf = static_cast<T>(__builtin_inf());
template <class T>
static constexpr T kNan = static_cast<T>(__builtin_nan(""));

template <class T>
ADJOINT_MATH_FN Bits<T> to_bits(T x) {
  return __builtin_bit_cast(Bits<T>, x);
}
ADJOINT_MATH_FN float from_bits(std::uint32_t u) { return __builtin_bit_cast(float, u); }
ADJOINT_MATH_FN double from_bits(std::uint64_t u) { return __builtin_bit_cast(double, u); }

template <class T>
ADJOINT_MATH_FN T abs(T x) {
  return from_bits(to_bits(x) & ~Real<T>::sign);
}
template <class T>
ADJOINT_MATH_FN Bits<T> sign_bit(T x) {
  return to_bits(x) & Real<T>::sign;
}
/// The value with its sign flipped where `s`, a lone sign bit, is set.
template <class T>
ADJOINT_MATH_FN T xor_sign(T x, Bits<T> s) {
  return from_bits(to_bits(x) ^ s);
}

/// Whether x is anything but a normal number above zero.
template <class T>
ADJOINT_MATH_FN bool not_normal_positive(T x) {
  const Bits<T> least = to_bits(Real<T>::min_normal);
  return to_bits(x) - least >= to_bits(kInf<T>) - least;
}

/// The power of two at or below |x|, not below the normal numbers; 1 for infinities and nan.
template <class T>
ADJOINT_MATH_FN T binade(T x) {
  const T power = from_bits(to_bits(x) & to_bits(kInf<T>));
  const T normal = power < Real<T>::min_normal ? Real<T>::min_normal : power;
  return power < kInf<T> ? normal : T(1);
}

/// nan stays nan.
template <class T>
ADJOINT_MATH_FN T clamp(T x, T lo, T hi) {
  x = x < lo ? lo : x;
  return x > hi ? hi : x;
}

/// |x| limited to `most`, with the sign of x; a nan becomes `most` too. Cheaper than clamp: one
/// minimum of integers, where minima of floats would have to pass on a nan.
template <class T>
ADJOINT_MATH_FN T clamp_magnitude(T x, T most) {
  using S = typename Real<T>::S;
  const S size = static_cast<S>(to_bits(abs(x)));
  const S limit = static_cast<S>(to_bits(most));
  return from_bits(static_cast<Bits<T>>(size < limit ? size : limit) | sign_bit(x));
}

/// a b + c: rounded once where the level has FMA, twice at the baseline.
ADJOINT_MATH_FN float fma_(float a, float b, float c) {
#if ADJOINT_MATH_HAS_FMA
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
ADJOINT_MATH_FN double fma_(double a, double b, double c) {
#if ADJOINT_MATH_HAS_FMA
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// c0 + c1 x + c2 x^2 + ...
template <class T>
ADJOINT_MATH_FN T poly(T, T c0) {
  return c0;
}
template <class T, class... C>
ADJOINT_MATH_FN T poly(T x, T c0, C... rest) {
  return fma_(poly(x, rest...), x, c0);
}

/// An unevaluated sum hi + lo with |lo| at most about an ulp of hi.
template <class T>
struct Two {
  T hi, lo;
};

/// a + b exactly, for |a| >= |b| or a == 0.
template <class T>
ADJOINT_MATH_FN Two<T> fast_two_sum(T a, T b) {
  const T s = a + b;
  return {s, b - (s - a)};
}
/// a + b exactly.
template <class T>
ADJOINT_MATH_FN Two<T> two_sum(T a, T b) {
  const T s = a + b;
  const T t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}
/// a b exactly, as long as neither the halves nor the error leave the range.
template <class T>
ADJOINT_MATH_FN Two<T> two_prod(T a, T b) {
  const T p = a * b;
#if ADJOINT_MATH_HAS_FMA
  return {p, fma_(a, b, -p)};
#else
  const T ca = a * Real<T>::split;
  const T cb = b * Real<T>::split;
  const T ah = ca - (ca - a);
  const T bh = cb - (cb - b);
  const T al = a - ah;
  const T bl = b - bh;
  return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
#endif
}

/// (num + num_lo) / (den.hi + den.lo) from one division: the residual of the first quotient is
/// exact and corrects it.
template <class T>
ADJOINT_MATH_FN T quotient(T num, T num_lo, Two<T> den) {
  const T inv = T(1) / den.hi;
  const T q = num * inv;
  const Two<T> back = two_prod(q, den.hi);
  const T rest = ((num - back.hi) - back.lo) + fma_(-q, den.lo, num_lo);
  return fma_(rest, inv, q);
}

/// IEEE abs and sqrt: exact, and correctly rounded (0.5 ulp).
ADJOINT_MATH_FN float sqrt(float x) { return __builtin_sqrtf(x); }
ADJOINT_MATH_FN double sqrt(double x) { return __builtin_sqrt(x); }

/// The largest integer k <= 2^(mant - 1) held by bits that were made by adding Real<T>::round.
template <class T>
ADJOINT_MATH_FN T small_int(Bits<T> signed_value) {
  return from_bits(to_bits(Real<T>::round) + signed_value) - Real<T>::round;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
