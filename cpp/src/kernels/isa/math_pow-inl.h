// pow. The logarithm is a pair of doubles good to about 2^-65, as y log x reaches 709 and its
// absolute error becomes the relative error of the result. float32 goes through double lanes, where
// a plain logarithm is enough: nothing in single precision comes near its cost.
#pragma once

#include "kernels/isa/math_exp-inl.h"
#include "kernels/isa/math_log-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// log(2^k (1 + f)) as a pair, relative error below 2^-64.
ADJOINT_MATH_FN Two<double> log_of_split_two(LogSplit<double> split) {
  const auto [f, k] = split;
  // s = f / (2 + f) as a pair, from one division.
  const double den = 2.0 + f;
  const double den_lo = f - (den - 2.0);
  const double rcp = 1.0 / den;
  const double s = f * rcp;
  const Two<double> back = two_prod(s, den);
  const double s_lo = fma_(-s, den_lo, (f - back.hi) - back.lo) * rcp;
  // log(1 + f) = 2 s + s^3 c(s^2), with c(z) = 2/3 + 2/5 z + ...
  Two<double> z = two_prod(s, s);
  z.lo = fma_(s + s, s_lo, z.lo);
  const double p =
      poly(z.hi, 0x1.9999999999b3p-2, 0x1.2492492457d71p-2, 0x1.c71c722d63a7dp-3,
           0x1.745ce9e4878fbp-3, 0x1.3b1eebcc2c299p-3, 0x1.0f7feff862b75p-3, 0x1.0e426c34995dbp-3);
  Two<double> c = fast_two_sum(0x1.5555555555555p-1, z.hi * p);
  c.lo += fma_(z.lo, p, 0x1.5555555555555p-55);
  Two<double> s3 = two_prod(s, z.hi);
  s3.lo += fma_(s, z.lo, s_lo * z.hi);
  Two<double> q = two_prod(s3.hi, c.hi);
  q.lo += fma_(s3.hi, c.lo, s3.lo * c.hi);
  const Two<double> m = fast_two_sum(s + s, q.hi);
  const double m_lo = m.lo + (q.lo + (s_lo + s_lo));
  // k times the upper part of ln2 is exact.
  const Two<double> sum = fast_two_sum(k * 0x1.62e42fefa38p-1, m.hi);
  return {sum.hi, sum.lo + fma_(k, 0x1.ef35793c7673p-45, m_lo)};
}

/// log x for finite x > 0 as a pair, relative error below 2^-64.
ADJOINT_MATH_FN Two<double> log_two(double x) { return log_of_split_two(log_split(x)); }

/// e^(hi + lo) for lo small against one.
template <class T>
ADJOINT_MATH_FN ExpParts<T> exp_parts_two(T hi, T lo) {
  const T x = clamp(hi, ExpConst<T>::min, ExpConst<T>::max);
  const auto [r0, k] = exp_reduce(x, static_cast<T>(2 * Real<T>::bias));
  const T r = r0 + (x == hi ? lo : T(0));
  return exp_scale(T(1) + fma_(r * r, exp_poly(r), r), k);
}

ADJOINT_MATH_FN float nearest(float x) { return __builtin_rintf(x); }
ADJOINT_MATH_FN double nearest(double x) { return __builtin_rint(x); }

/// C99 Annex F around `result`, which is |x|^y for finite |x| > 0 and any y but nan.
template <class T>
ADJOINT_MATH_FN T pow_edges(T x, T y, T result) {
  const T ax = abs(x);
  const bool zero = ax == T(0);
  const T at_edge = zero == (y < T(0)) ? kInf<T> : T(0);
  result = zero || ax == kInf<T> ? at_edge : result;
  const bool integral = nearest(y) == y;
  const T half = T(0.5) * y;
  const bool odd = integral && nearest(half) != half;
  result = x < T(0) && ax < kInf<T> && !integral ? kNan<T> : result;
  result = xor_sign(result, odd ? sign_bit(x) : Bits<T>(0));
  result = __builtin_isunordered(x, y) ? kNan<T> : result;
  return y == T(0) || x == T(1) ? T(1) : result;
}

/// From here on, as an exponent, every result is 0, 1 or infinite; below, products stay finite.
template <class T>
static constexpr T kPowLimit = sizeof(T) == 4 ? T(0x1p120f) : T(0x1p70);

/// (2^k (1 + f))^y for |y| <= kPowLimit. 1.3 ulp.
template <bool>
ADJOINT_MATH_FN double pow_of_split(LogSplit<double> split, double y) {
  const Two<double> l = log_of_split_two(split);
  Two<double> e = two_prod(y, l.hi);
  e.lo = fma_(y, l.lo, e.lo);
  const auto [p, s1, s2] = exp_parts_two(e.hi, e.lo);
  return (p * s1) * s2;
}

/// The logarithm, to base 2, and its product with y are taken in double lanes; what can be is taken
/// in single ones. The product is clamped where it may leave the exponents of double. 0.7 ulp.
template <bool Clamp>
ADJOINT_MATH_FN float pow_of_split(LogSplit<float> split, float y) {
  // s = f / (2 + f), where Newton's step corrects a division in single lanes.
  const double f = static_cast<double>(split.f);
  const double inv = static_cast<double>(1.0f / (2.0f + split.f));
  const double s0 = f * inv;
  const double s = fma_(s0, fma_(-(2.0 + f), inv, 1.0), s0);
  const double atanh = poly(s * s, 0x1.71547652bed9dp1, 0x1.ec709d13093cep-1, 0x1.27777fd8307dfp-1,
                            0x1.a58d865dd6323p-2, 0x1.5ce91c828482fp-2);
  const double log2_x = fma_(s, atanh, static_cast<double>(split.k));
  const double product = static_cast<double>(y) * log2_x;
  const double e = Clamp ? clamp_magnitude(product, 160.0) : product;
  constexpr double shift = Real<double>::round + Real<double>::bias;
  const double t = e + shift;
  const double r = e - (t - shift);
  // 2^r: single lanes serve for all but the leading terms.
  const float rf = static_cast<float>(r);
  const float tail = rf * rf *
                     poly(rf, 0x1.ebfbep-3f, 0x1.c6b08ep-5f, 0x1.3b2a54p-7f, 0x1.5d87cp-10f,
                          0x1.44138ap-13f, 0x1.008a2p-16f);
  const double p = fma_(r, 0x1.62e42fefa39efp-1, 1.0) + static_cast<double>(tail);
  return static_cast<float>(p * pow2_biased<double>(to_bits(t)));
}

/// Up to here 2^(y log2 x) is a normal double for every float x.
template <class T>
static constexpr T kPowFastMax = sizeof(T) == 4 ? T(7) : kPowLimit<T>;

/// For x that is normal and positive, |y| <= kPowFastMax; gives the bits of `pow` there.
template <class T>
ADJOINT_MATH_FN T pow_fast(T x, T y) {
  return pow_of_split<false>(log_split_normal(x), y);
}

/// 0.7 ulp (float), 1.3 (double).
template <class T>
ADJOINT_MATH_FN T pow(T x, T y) {
  return pow_edges(x, y, pow_of_split<true>(log_split(abs(x)), clamp_magnitude(y, kPowLimit<T>)));
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
