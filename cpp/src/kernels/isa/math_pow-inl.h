// pow. The logarithm is a pair of doubles good to about 2^-65, as y log x reaches 709 and its
// absolute error becomes the relative error of the result. float32 goes through double lanes, where
// a plain logarithm is enough: nothing in single precision comes near its cost.
#pragma once

#include "kernels/isa/math_exp-inl.h"
#include "kernels/isa/math_log-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// log x for finite x > 0 as a pair, relative error below 2^-64.
ADJOINT_MATH_FN Two<double> log_two(double x) {
  const auto [f, k] = log_split(x);
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

/// e^(hi + lo) for lo small against one.
template <class T>
ADJOINT_MATH_FN ExpParts<T> exp_parts_two(T hi, T lo) {
  const T x = clamp(hi, ExpConst<T>::min, ExpConst<T>::max);
  const auto [r0, k] = exp_reduce(x, static_cast<T>(2 * Real<T>::bias));
  const T r = r0 + (x == hi ? lo : T(0));
  return exp_scale(T(1) + fma_(r * r, exp_poly(r), r), k);
}

/// C99 Annex F around `result`, which is |x|^y for finite |x| > 0 and any y.
ADJOINT_MATH_FN double pow_edges(double x, double y, double result) {
  const double ax = abs(x);
  const double ay = abs(y);
  // From 2^52 on the last mantissa bit is the parity, up to 2^53, where all are even.
  const double shifted = ay < 0x1p52 ? ay + 0x1p52 : ay;
  const bool integral = ay < 0x1p52 ? shifted - 0x1p52 == ay : true;
  const std::uint64_t odd_bit = shifted < 0x1p53 ? to_bits(shifted) << 63 : 0;
  const std::uint64_t flip = integral ? odd_bit & sign_bit(x) : 0;
  const double at_zero = y < 0.0 ? kInf<double> : 0.0;
  const double at_inf = y < 0.0 ? 0.0 : kInf<double>;
  result = ax == 0.0 ? at_zero : result;
  result = ax == kInf<double> ? at_inf : result;
  const double root = integral ? result : kNan<double>;
  result = (x < 0.0 && ax < kInf<double> && ay < kInf<double>) ? root : result;
  result = xor_sign(result, flip);
  result = x == x ? result : x;
  result = y == y ? result : y;
  result = y == 0.0 ? 1.0 : result;
  return x == 1.0 ? 1.0 : result;
}

/// 1.3 ulp.
ADJOINT_MATH_FN double pow(double x, double y) {
  // Beyond 2^70 every result is 0, 1 or infinite, and the products below stay finite.
  const double yc = clamp(y, -0x1p70, 0x1p70);
  const Two<double> l = log_two(abs(x));
  Two<double> e = two_prod(yc, l.hi);
  e.lo = fma_(yc, l.lo, e.lo);
  const auto [p, s1, s2] = exp_parts_two(e.hi, e.lo);
  return pow_edges(x, y, (p * s1) * s2);
}

/// 0.51 ulp.
ADJOINT_MATH_FN float pow(float x, float y) {
  const double dx = x;
  const double dy = clamp(static_cast<double>(y), -0x1p127, 0x1p127);
  const auto [f, k] = log_split_normal(abs(dx));
  const double half_f2 = 0.5 * f * f;
  const double s = f / (2.0 + f);
  const double z = s * s;
  const double r = z * poly(z, 0x1.555555561e4dap-1, 0x1.999996a94d945p-2, 0x1.249411e51ebd2p-2,
                            0x1.c62b19833872p-3, 0x1.911532021d8b4p-3);
  const double log_x = fma_(k, 0x1.62e42fefa39efp-1, f - (half_f2 - s * (half_f2 + r)));
  const double e = clamp(log_x * dy, -200.0, 200.0);
  const auto [er, ek] = exp_reduce(e, 1023.0);
  const double ep = poly(er, 0x1.0000003ac6632p-1, 0x1.5555543f3f817p-3, 0x1.55548c45f4c56p-5,
                         0x1.1112740efce4ep-7, 0x1.6d8e7070d286fp-10, 0x1.9f070d9dbdb8ep-13);
  const double result = fma_(er * er, ep, er) + 1.0;
  return static_cast<float>(pow_edges(dx, y, result * pow2_biased<double>(ek)));
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
