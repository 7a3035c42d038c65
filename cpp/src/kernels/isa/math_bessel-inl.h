// The modified Bessel functions of the first kind and of orders 0 and 1, also scaled by e^-|x|.
//
// Up to 8 a polynomial in x^2 / 4, from there one in 1 / |x|, interpolated at Chebyshev's nodes in
// 40 digits. All is computed in double lanes; single precision is the double result rounded.
//
// Their derivatives hang on the moments M_n(x), the mean over an angle of
// (1 - cos)^n e^(-x (1 - cos)): e^-x I_0(x) is M_0, M_n' = -M_(n + 1), and nothing is negative.
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_exp-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

constexpr double kBesselTwoPi = 0x1.921fb54442d18p2;

/// (I_0(x) - 1) / z for z = x^2 / 4, |x| <= 8.
ADJOINT_MATH_FN double i0_near(double z) {
  return poly(z, 0x1p0, 0x1p-2, 0x1.c71c71c71c71cp-6, 0x1.c71c71c71c71cp-10, 0x1.23456789abcdep-14,
              0x1.02e85c0898b8cp-19, 0x1.522a43f65448bp-25, 0x1.522a43f65aa38p-31,
              0x1.0b3132894e3c0p-37, 0x1.5601886a3b13fp-44, 0x1.69ca9c0252f23p-51,
              0x1.4197b684743b3p-58, 0x1.e72404c556d3fp-66, 0x1.3e2e8719bfdc6p-73,
              0x1.6960559968505p-81, 0x1.6f70b777509a0p-89, 0x1.1ebe19b60e9c3p-97,
              0x1.78dc8c51ed0cdp-105);
}
/// (2 I_1(x) / x - 1) / z.
ADJOINT_MATH_FN double i1_near(double z) {
  return poly(z, 0x1p-1, 0x1.5555555555555p-4, 0x1.c71c71c71c71cp-8, 0x1.6c16c16c16c17p-12,
              0x1.845c8a0ce5129p-17, 0x1.27e4fb7789f67p-22, 0x1.522a43f6546e4p-28,
              0x1.2c9758daf834ap-34, 0x1.ab81ea75a4e3dp-41, 0x1.f17697d86e749p-48,
              0x1.e2637b319e038p-55, 0x1.8bce6406a47c7p-62, 0x1.165df616194a3p-69,
              0x1.5361920efb0acp-77, 0x1.69806b2249f15p-85, 0x1.58fe2d73d8b3ap-93,
              0x1.023bfecff8e43p-101, 0x1.37324dea07741p-109);
}
/// e^-x sqrt(x) I_0(x) for u = 1 / x, x >= 8.
ADJOINT_MATH_FN double i0_far(double u) {
  return poly(
      u, 0x1.9884533d43651p-2, 0x1.9884533d4133bp-5, 0x1.cb94ddbf0140ap-6, 0x1.debad42b01020p-6,
      0x1.6ead5772f893ap-5, 0x1.64a80d3cd551ap-4, 0x1.5e96982013a9dp-1, -0x1.47797804658a5p5,
      0x1.5c7642a88e8ebp11, -0x1.12a3638e0f31bp17, 0x1.4d9c1db9285eap22, -0x1.3c6a44a7c1403p27,
      0x1.d933166ce357ep31, -0x1.18899a8c1ff1cp36, 0x1.084b28a643c85p40, -0x1.8b2a0d9fc19b3p43,
      0x1.d2905a59aaed2p46, -0x1.af0b929606ad8p49, 0x1.3311e67c5ca99p52, -0x1.49bf6b26afe43p54,
      0x1.01711d545cedfp56, -0x1.131e8a75c7100p57, 0x1.66e8e3430e1bep57, -0x1.ada2c97f3fdddp56);
}
/// e^-x sqrt(x) I_1(x).
ADJOINT_MATH_FN double i1_far(double u) {
  return poly(
      u, 0x1.9884533d43650p-2, -0x1.32633e6df1fd8p-3, -0x1.7efc0e16a7ad0p-5, -0x1.4f1c6d2ea3700p-5,
      -0x1.d766c16b26f52p-5, -0x1.b6f2905fdef26p-4, -0x1.7689c70fd7a22p-1, 0x1.4a21c3b06e271p5,
      -0x1.5fc1b83696ebap11, 0x1.14d11d2bdbd64p17, -0x1.4fb436f4878cfp22, 0x1.3dc7ff61dab68p27,
      -0x1.da2750869210cp31, 0x1.18582d2b239c5p36, -0x1.074557f1a3b54p40, 0x1.88272f54d7775p43,
      -0x1.ccf0b85f533a8p46, 0x1.a79590dc9ccd5p49, -0x1.2bd5859c6fc46p52, 0x1.3f827b276b64ep54,
      -0x1.ee4068a538e44p55, 0x1.05118337f94f9p57, -0x1.4fb110f69d6c3p57, 0x1.8a72ab2fc6959p56);
}

constexpr double kBesselMax = 720.0;  // I_0 and I_1 overflow

/// e^x as p s1 s2 for 0 <= x <= kBesselMax.
ADJOINT_MATH_FN ExpParts<double> exp_parts_far(double x) {
  const auto [r, k] = exp_reduce(x, 2.0 * Real<double>::bias);
  return exp_scale(1.0 + fma_(r * r, exp_poly(r), r), k);
}

/// Gamma(nu + 1) (2 / x)^nu I_nu(x) for 0 <= x <= 8, given its polynomial in z = x^2 / 4. What z
/// was rounded by would weigh four times its size: it is made good for by the slope of the
/// logarithm, 2 I_(nu + 1) / (x I_nu), of which Amos's bound (1974) is near enough.
template <int nu>
ADJOINT_MATH_FN double bessel_near(double x) {
  const Two<double> square = two_prod(x, x);
  const double z = 0.25 * square.hi;
  const double value = fma_(z, nu == 0 ? i0_near(z) : i1_near(z), 1.0);
  const double slope = 2.0 / (nu + 0.5 + sqrt((nu + 1.5) * (nu + 1.5) + square.hi));
  return fma_(value * (0.25 * square.lo), slope, value);
}

/// I_nu(x), nu = 0 or 1.
template <int nu>
ADJOINT_MATH_FN double bessel_i(double x) {
  const double ax = abs(x);
  const double series = bessel_near<nu>(ax > 8.0 ? 8.0 : ax);
  const double c = ax > kBesselMax ? kBesselMax : ax;
  const auto [p, s1, s2] = exp_parts_far(c);
  const double u = 1.0 / c;
  const double far = ((p * ((nu == 0 ? i0_far(u) : i1_far(u)) / sqrt(c))) * s1) * s2;
  const double size = ax <= 8.0 ? (nu == 0 ? series : 0.5 * ax * series) : far;
  return nu == 0 ? size : xor_sign(size, sign_bit(x));
}
/// e^-|x| I_nu(x), nu = 0 or 1.
template <int nu>
ADJOINT_MATH_FN double bessel_ie(double x) {
  const double ax = abs(x);
  const double series = bessel_near<nu>(ax > 8.0 ? 8.0 : ax) * exp(-ax);
  const double u = 1.0 / ax;
  const double far = (nu == 0 ? i0_far(u) : i1_far(u)) / sqrt(ax);
  const double size = ax <= 8.0 ? (nu == 0 ? series : 0.5 * ax * series) : far;
  return nu == 0 ? size : xor_sign(size, sign_bit(x));
}
ADJOINT_MATH_FN double i0(double x) { return bessel_i<0>(x); }    // 0.51 ulp (float), 3.3 (double)
ADJOINT_MATH_FN double i1(double x) { return bessel_i<1>(x); }    // 0.51 ulp (float), 3.2 (double)
ADJOINT_MATH_FN double i0e(double x) { return bessel_ie<0>(x); }  // 0.51 ulp (float), 3 (double)
ADJOINT_MATH_FN double i1e(double x) { return bessel_ie<1>(x); }  // 0.51 ulp (float), 3 (double)

/// M_n(x) for whole n from 0 to 150 and x >= 0: the series of Kummer's function times e^-2x, whose
/// terms are all positive; far out the one in 1 / x, positive too, up to its smallest term.
ADJOINT_MATH_FN double bessel_moment(int n, double x) {
  const double z = 2.0 * x;
  double term = 1.0, sum = 1.0;
  if (z > 45.0 + 4.0 * n) {
    for (int k = 0; k < 200 && term > 0x1p-55 * sum; ++k) {
      const double ratio = (k + 0.5) * (n + k + 0.5) / ((k + 1.0) * z);
      if (ratio >= 1.0) break;
      term *= ratio;
      sum += term;
    }
    sum /= sqrt(kBesselTwoPi * x);
    for (int k = 0; k < n; ++k) sum *= (k + 0.5) / x;
    return sum;
  }
  for (int k = 0; k < 2000 && term > 0x1p-55 * sum; ++k) {
    term *= (k + 0.5) * z / ((n + k + 1.0) * (k + 1.0));
    sum += term;
  }
  for (int k = 1; k <= n; ++k) sum *= (2.0 * k - 1.0) / k;
  return sum * exp(-z);
}

ADJOINT_MATH_FN bool is_bessel_order(double order) {
  return order >= 0.0 && order <= 150.0 && __builtin_rint(order) == order;
}

/// The derivative of order n of i0e at |x|, from the right: (-1)^n M_n(|x|).
/// 0.51 ulp (float), 20 (double).
ADJOINT_MATH_FN double i0e_slope(double order, double x) {
  if (!is_bessel_order(order)) return kNan<double>;
  const int n = static_cast<int>(order);
  const double size = bessel_moment(n, abs(x));
  return x == x ? (n % 2 ? -size : size) : x;
}

/// The derivative of order n of i0: the mean of cos^n e^(x cos). Its series has positive terms
/// only; far out the powers of cos = 1 - (1 - cos) are expanded in the moments, which fall off like
/// 1 / x.
ADJOINT_MATH_FN double i0_slope(double order, double x) {
  if (!is_bessel_order(order)) return kNan<double>;
  const int n = static_cast<int>(order);
  const double ax = abs(x);
  double result = 0.0;
  if (ax > kBesselMax) {
    result = kInf<double>;
  } else if (ax > 30.0 + 4.0 * n) {
    double weight = 1.0;
    for (int j = 0; j <= n; ++j) {
      result += weight * bessel_moment(j, ax);
      weight *= -(n - j) / (j + 1.0);
    }
    const auto [p, s1, s2] = exp_parts_far(ax);
    result = ((p * result) * s1) * s2;
  } else {
    // x^(2 k - n) (2 k)! / ((2 k - n)! 4^k k!^2) from the least k with 2 k >= n on.
    const int first = (n + 1) / 2;
    double term = 1.0;
    for (int k = 1; k <= first; ++k) term *= 0.25 / (static_cast<double>(k) * k);
    for (int k = n % 2 + 1; k <= 2 * first; ++k) term *= k;
    if (n % 2) term *= ax;
    for (int k = first; k < 2000 && term > 0x1p-55 * result; ++k) {
      result += term;
      const double p = 2.0 * k - n + 1.0;
      term *= ax * ax * ((2.0 * k + 1.0) * (2.0 * k + 2.0)) /
              (p * (p + 1.0) * 4.0 * (k + 1.0) * (k + 1.0));
    }
  }
  result = n % 2 ? xor_sign(result, sign_bit(x)) : result;
  return x == x ? result : x;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
