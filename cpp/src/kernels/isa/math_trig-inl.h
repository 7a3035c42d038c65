// sin, cos and tan.
//
// x = n pi/2 + r with n even for sin and odd for cos, so |r| <= pi/2, one odd polynomial serves
// both, and the parity of n / 2 gives the sign. Up to kTrigFastMax the reduction is Cody and
// Waite's in three or four parts (`*_fast`); beyond it 2/pi is multiplied out in integers, after
// Payne and Hanek. The plain functions compute both and select, hence give the bits of `*_fast`
// wherever that is valid: a kernel may run `*_fast` over a block without larger arguments, and the
// result of an element still depends on that element alone.
#pragma once

#include "kernels/isa/math_core-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

/// pi/2 in parts, and 2/pi in limbs of half a lane after two limbs of zeros. Without FMA n times
/// each part but the last must be exact, which costs a part and shortens the range.
template <class T>
struct TrigConst;

template <>
struct TrigConst<float> {
#if ADJOINT_MATH_HAS_FMA
  static constexpr float fast_max = 0x1p17f;
  static constexpr float part[4] = {0x1.921fb6p0f, -0x1.777a5cp-25f, -0x1.ee59dap-50f, 0.0f};
#else
  static constexpr float fast_max = 600.0f;
  static constexpr float part[4] = {0x1.922p0f, -0x1.2afp-18f, 0x1.0b48p-34f, -0x1.ee59dap-50f};
#endif
  static constexpr float inv_pi = 0x1.45f306p-2f;
  static constexpr float half_pi_hi = 0x1.921fb6p0f;
  static constexpr float half_pi_lo = -0x1.777a5cp-25f;
  static constexpr int limb = 16;
  static constexpr float limb_unit = 0x1p-16f;
};
template <>
struct TrigConst<double> {
#if ADJOINT_MATH_HAS_FMA
  static constexpr double fast_max = 0x1p28;
  static constexpr double part[4] = {0x1.921fb54442d18p0, 0x1.1a62633145c07p-54,
                                     -0x1.f1976b7ed8fbcp-110, 0.0};
#else
  static constexpr double fast_max = 0x1p20;
  static constexpr double part[4] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2ep-69,
                                     0x1.b839a252049c1p-104};
#endif
  static constexpr double inv_pi = 0x1.45f306dc9c883p-2;
  static constexpr double half_pi_hi = 0x1.921fb54442d18p0;
  static constexpr double half_pi_lo = 0x1.1a62633145c07p-54;
  static constexpr int limb = 32;
  static constexpr double limb_unit = 0x1p-32;
};

static constexpr std::uint32_t kTwoOverPi16[18] = {0,      0,      0xa2f9, 0x836e, 0x4e44, 0x1529,
                                                   0xfc27, 0x57d1, 0xf534, 0xddc0, 0xdb62, 0x9599,
                                                   0x3c43, 0x9041, 0xfe51, 0x63ab, 0xdebb, 0xc561};
static constexpr std::uint64_t kTwoOverPi32[42] = {
    0,          0,          0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599,
    0x3c439041, 0xfe5163ab, 0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c,
    0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639,
    0x835339f4, 0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f,
    0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7,
    0x8a5292ea, 0x6bfb5fb1, 0x1f8d5d08, 0x56033046, 0xfc7b6bab, 0xf0cfbc20, 0x9af4361d};

ADJOINT_MATH_FN std::uint32_t two_over_pi(std::uint32_t i) { return kTwoOverPi16[i]; }
ADJOINT_MATH_FN std::uint64_t two_over_pi(std::uint64_t i) { return kTwoOverPi32[i]; }

template <class T>
static constexpr T kTrigFastMax = TrigConst<T>::fast_max;

/// r + lo = x - n pi/2 for |x| <= kTrigFastMax.
template <class T>
ADJOINT_MATH_FN Two<T> trig_reduce_fast(T x, T n) {
  using C = TrigConst<T>;
#if ADJOINT_MATH_HAS_FMA
  const T r1 = fma_(-n, C::part[0], x);
  const Two<T> t = two_prod(n, C::part[1]);
  const T r2 = r1 - t.hi;
  return {r2, -fma_(n, C::part[2], ((r2 - r1) + t.hi) + t.lo)};
#else
  const T r1 = x - n * C::part[0];
  const T t2 = n * C::part[1];
  const T r2 = r1 - t2;
  const T t3 = n * C::part[2];
  const T r3 = r2 - t3;
  return {r3, -((((r2 - r1) + t2) + ((r3 - r2) + t3)) + n * C::part[3])};
#endif
}

/// What a reduction by `2^shift` quarter turns leaves: the remainder and the parity of the count.
template <class T>
struct TrigReduced {
  Two<T> r;
  Bits<T> odd;
};

/// Reduces finite x > kTrigFastMax. x = m 2^e with an integer m; the bits of 2/pi that weigh 4 or
/// more after the multiplication by 2^e only add whole turns and are skipped, six limbs remain.
/// The turns are counted in units of 2^(2 - unit_bits) quarters after `offset` quarters were taken
/// off: unit_bits is 1 for half turns (sin, cos) and 2 for quarters (tan).
template <class T>
ADJOINT_MATH_FN TrigReduced<T> trig_reduce_big(T x, int unit_bits, unsigned offset) {
  using C = TrigConst<T>;
  using U = Bits<T>;
  constexpr int L = C::limb;
  constexpr U low = (U(1) << L) - 1;
  const U u = to_bits(x);
  const U m = (u & ((U(1) << Real<T>::mant) - 1)) | (U(1) << Real<T>::mant);
  // The window starts at fraction bit e - 1 of 2/pi, counted from 1, 2 L zeros come before the
  // first. Arguments below the range (their results are not used) must stay inside the table.
  constexpr U lowest = Real<T>::bias + Real<T>::mant + 2 - 2 * L;
  const U biased = u >> Real<T>::mant;
  const U from = (biased > lowest ? biased : lowest) - lowest;
  const U word = from / U(L);
  const U s = from & U(L - 1);
  U w[7];
  for (int i = 0; i < 7; ++i) w[i] = two_over_pi(word + U(i));
  U v[6];
  for (int i = 0; i < 6; ++i) v[i] = (((w[i] << L) | w[i + 1]) >> (U(L) - s)) & low;
  const U m0 = m & low;
  const U m1 = m >> L;
  U p[6];
  U carry = 0;
  for (int i = 5; i >= 0; --i) {
    const U t = m0 * v[i] + carry;
    p[i] = t & low;
    carry = t >> L;
  }
  carry = 0;
  for (int i = 4; i >= 0; --i) {
    const U t = m1 * v[i + 1] + p[i] + carry;
    p[i] = t & low;
    carry = t >> L;
  }
  // p[0] holds two bits of quarters above the point. Round to the nearest count.
  const int below = L - unit_bits;
  const U turned = (p[0] - (U(offset) << (L - 2)) + (U(1) << (below - 1))) & low;
  const U odd = (turned >> below) & 1;
  const U rest = (turned & ((U(1) << below) - 1)) - (U(1) << (below - 1));
  const T unit = C::limb_unit;
  const Two<T> top = fast_two_sum(small_int<T>(rest), small_int<T>(p[1]) * unit);
  const T tail = (small_int<T>(p[2]) + small_int<T>(p[3]) * unit) * (unit * unit);
  const Two<T> f = fast_two_sum(top.hi, top.lo + tail);
  const T scale = T(4) * unit;
  const Two<T> h = two_prod(f.hi, C::half_pi_hi);
  const T lo = fma_(f.hi, C::half_pi_lo, fma_(f.lo, C::half_pi_hi, h.lo));
  return {{h.hi * scale, lo * scale}, odd};
}

/// sin r on |r| <= pi/2, up to a rounding beyond 1. The float fit gives exactly 1 at the end, which
/// makes cos 0 right.
ADJOINT_MATH_FN float sin_unbounded(float r) {
  const float z = r * r;
  return fma_(
      r * z,
      poly(z, -0x1.555556p-3f, 0x1.11110cp-7f, -0x1.a017c6p-13f, 0x1.716dd4p-19f, -0x1.96e342p-26f),
      r);
}
ADJOINT_MATH_FN double sin_unbounded(double r) {
  const double z = r * r;
  return fma_(r * z,
              poly(z, -0x1.5555555555555p-3, 0x1.11111111110cp-7, -0x1.a01a01a014836p-13,
                   0x1.71de3a5284138p-19, -0x1.ae6454c999ffbp-26, 0x1.6123cab660428p-33,
                   -0x1.ae42ff168d66ep-41, 0x1.88265b37e004p-49),
              r);
}

/// sin r on |r| <= pi/2, never beyond 1: what exceeds it does so by one unit of the last place, and
/// stepping the bits back costs less than two clamps.
template <class T>
ADJOINT_MATH_FN T sin_poly(T r) {
  const T s = sin_unbounded(r);
  const Bits<T> step = abs(s) > T(1) ? Bits<T>(1) : Bits<T>(0);
  return from_bits(to_bits(s) - step);
}

/// sin for |x| <= kTrigFastMax, and nan for nan.
template <class T>
ADJOINT_MATH_FN T sin_fast(T x) {
  const T ax = abs(x);
  const T t = fma_(ax, TrigConst<T>::inv_pi, Real<T>::round);
  const T k = t - Real<T>::round;
  const auto [r, lo] = trig_reduce_fast(ax, k + k);
  return xor_sign(sin_poly(r + lo), (to_bits(t) << (sizeof(T) * 8 - 1)) ^ sign_bit(x));
}

/// cos for |x| <= kTrigFastMax, and nan for nan.
template <class T>
ADJOINT_MATH_FN T cos_fast(T x) {
  const T ax = abs(x);
  const T t = fma_(ax, TrigConst<T>::inv_pi, T(-0.5)) + Real<T>::round;
  const T k = t - Real<T>::round;
  const auto [r, lo] = trig_reduce_fast(ax, fma_(T(2), k, T(1)));
  return xor_sign(sin_poly(r + lo), (~to_bits(t)) << (sizeof(T) * 8 - 1));
}

/// sin for finite |x| > kTrigFastMax.
template <class T>
ADJOINT_MATH_FN T sin_big(T x) {
  const auto [r, odd] = trig_reduce_big(abs(x), 1, 0);
  return xor_sign(sin_poly(r.hi + r.lo), (odd << (sizeof(T) * 8 - 1)) ^ sign_bit(x));
}

/// cos for finite |x| > kTrigFastMax.
template <class T>
ADJOINT_MATH_FN T cos_big(T x) {
  const auto [r, odd] = trig_reduce_big(abs(x), 1, 1);
  return xor_sign(sin_poly(r.hi + r.lo), (odd ^ 1) << (sizeof(T) * 8 - 1));
}

/// sin and cos of r + lo on |r| <= pi/4.
ADJOINT_MATH_FN float sin_tail(float z) {
  return z * poly(z, -0x1.555556p-3f, 0x1.111108p-7f, -0x1.a00f3ep-13f, 0x1.6cc286p-19f);
}
ADJOINT_MATH_FN double sin_tail(double z) {
  return z * poly(z, -0x1.5555555555555p-3, 0x1.111111111110ap-7, -0x1.a01a01a018917p-13,
                  0x1.71de3a53148dfp-19, -0x1.ae645268ab4f3p-26, 0x1.6120749835e21p-33,
                  -0x1.aa966d38682a5p-41);
}
ADJOINT_MATH_FN float cos_tail(float z) {
  return z * z * poly(z, 0x1.55554ap-5f, -0x1.6c0bf2p-10f, 0x1.99d896p-16f);
}
ADJOINT_MATH_FN double cos_tail(double z) {
  return z * z *
         poly(z, 0x1.555555555554ap-5, -0x1.6c16c16c14dcap-10, 0x1.a01a019c56d4p-16,
              -0x1.27e4f7c93e22ap-22, 0x1.1ee9c07d595dcp-29, -0x1.8f985eec484a8p-37);
}

/// tan(r + lo + odd pi/2) on |r| <= pi/4.
template <class T>
ADJOINT_MATH_FN T tan_kernel(Two<T> r, Bits<T> odd) {
  const T z = r.hi * r.hi;
  const T s = r.hi + fma_(r.hi, sin_tail(z), r.lo);
  const T half = T(0.5) * z;
  const T w = T(1) - half;
  const T c = w + (((T(1) - w) - half) + fma_(-r.hi, r.lo, cos_tail(z)));
  return (odd == 0 ? s : -c) / (odd == 0 ? c : s);
}

/// tan for |x| <= kTrigFastMax, and nan for nan.
template <class T>
ADJOINT_MATH_FN T tan_fast(T x) {
  const T ax = abs(x);
  const T t = fma_(ax, T(2) * TrigConst<T>::inv_pi, Real<T>::round);
  const Two<T> r = trig_reduce_fast(ax, t - Real<T>::round);
  return xor_sign(tan_kernel(fast_two_sum(r.hi, r.lo), to_bits(t) & 1), sign_bit(x));
}

/// tan for finite |x| > kTrigFastMax.
template <class T>
ADJOINT_MATH_FN T tan_big(T x) {
  const auto [r, odd] = trig_reduce_big(abs(x), 2, 0);
  return xor_sign(tan_kernel(fast_two_sum(r.hi, r.lo), odd), sign_bit(x));
}

/// Chooses by the element: `big` has no meaning below the bound and for what is not finite.
template <class T>
ADJOINT_MATH_FN T trig_select(T x, T fast, T big) {
  const T ax = abs(x);
  const T result = ax <= kTrigFastMax<T> ? fast : big;
  return ax < kInf<T> ? result : kNan<T>;
}

/// 2 ulp (float), 2 (double).
template <class T>
ADJOINT_MATH_FN T sin(T x) {
  return trig_select(x, sin_fast(x), sin_big(x));
}
/// 2 ulp (float), 2 (double).
template <class T>
ADJOINT_MATH_FN T cos(T x) {
  return trig_select(x, cos_fast(x), cos_big(x));
}

/// 2.4 ulp (float), 2.4 (double).
template <class T>
ADJOINT_MATH_FN T tan(T x) {
  return trig_select(x, tan_fast(x), tan_big(x));
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
