// sinc, the normal distribution and the inverses of erf and of the distribution function.
//
// All is computed in double lanes; single precision is the double result rounded. Polynomials are
// interpolations at Chebyshev's nodes, made in 50 digits.
//
// The normal distribution hangs on one function that loses no digits in the tail: the excess
// m(y) = h(y) - y of the hazard h = phi(y) / Phi(-y) over its argument. Then Phi(-y) = phi(y) /
// h(y), and log Phi, its slope and the slope of that one follow without cancellation.
#pragma once

#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_erf-inl.h"
#include "kernels/isa/math_exp-inl.h"
#include "kernels/isa/math_log-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

// ---- sinc ---------------------------------------------------------------------------------------

constexpr double kSpecialPi = 0x1.921fb54442d18p1;
constexpr double kAllWhole = 0x1p52;  // every double from here on is an integer

/// sin(pi f) / (pi f) for z = f^2, |f| <= 1/2.
ADJOINT_MATH_FN double sinc_near(double z) {
  const double p = poly(z, -0x1.a51a6625307d3p0, 0x1.9f9cb402bc46cp-1, -0x1.86a8e4720db5bp-3,
                        0x1.ac6805cf34106p-6, -0x1.33816aa3bfab6p-9, 0x1.374719867986ep-13,
                        -0x1.d4243615e629dp-18, 0x1.0fb11c8c637adp-22, -0x1.e8dfbd9fab477p-28);
  return fma_(z, p, 1.0);
}

/// The distance of ax >= 0 to the next integer, and the sign bit where that is odd.
struct WholeTurns {
  double part;
  std::uint64_t odd;
};
ADJOINT_MATH_FN WholeTurns whole_turns(double ax) {
  const double shifted = ax + kAllWhole;
  const double part = ax - (shifted - kAllWhole);
  const bool mixed = ax < kAllWhole;
  return {mixed ? part : 0.0, mixed ? to_bits(shifted) << 63 : std::uint64_t{0}};
}

/// sin(pi x) / (pi x).
/// 0.51 ulp (float), 1.9 (double).
ADJOINT_MATH_FN double sinc(double x) {
  const double ax = abs(x);
  const auto [part, odd] = whole_turns(ax);
  const double q = sinc_near(part * part);
  const double far = xor_sign(part * q / ax, odd);
  return ax <= 0.5 ? q : far;
}

/// The derivative of order n of sinc, for whole n from 0 to 150. With u = pi x and g = sin(u) / u
/// there is u g^(n) + n g^(n-1) = sin(u + n pi / 2): a recurrence that damps errors upward for n <
/// u, and downward for n > u, where any start far enough above serves (Miller's algorithm).
ADJOINT_MATH_FN double sinc_slope(double order, double x) {
  if (!(order >= 0.0 && order <= 150.0) || __builtin_rint(order) != order) return kNan<double>;
  const int n = static_cast<int>(order);
  const double ax = abs(x);
  const auto [part, odd] = whole_turns(ax);
  const double u = kSpecialPi * ax;
  const double size = abs(part);
  const double sine = xor_sign(kSpecialPi * part * sinc_near(part * part), odd);
  const double rest = 0.5 - size;
  const double cosine = xor_sign(kSpecialPi * rest * sinc_near(rest * rest), odd);
  const double turned[4] = {sine, cosine, -sine, -cosine};  // sin(u + k pi / 2)
  double g = 0.0;
  if (u > order) {
    g = sinc(x);
    for (int k = 1; k <= n; ++k) g = (turned[k & 3] - k * g) / u;
  } else {
    const int start = n + 20 + static_cast<int>(9.0 * sqrt(order));
    for (int k = start; k > n; --k) g = (turned[k & 3] - u * g) / k;
  }
  for (int k = 0; k < n; ++k) g *= kSpecialPi;
  g = n % 2 ? xor_sign(g, sign_bit(x)) : g;
  return x == x ? g : x;
}

// ---- The normal distribution --------------------------------------------------------------------

/// m(y) (y + 4) for t = (y - 4) / (y + 4), 0 <= y <= 5.
ADJOINT_MATH_FN double mills_near(double t) {
  return poly(
      t, 0x1.ce0b1e5a9c1bdp0, -0x1.2ea4f44735940p0, 0x1.9b9a89c505d95p-2, 0x1.148dadc528374p-4,
      -0x1.1b15713342734p-3, 0x1.1419b6c9fa4eep-5, 0x1.03548cc768552p-5, -0x1.54cb6da804083p-6,
      -0x1.262a09e4adb79p-8, 0x1.04e124346c41bp-7, -0x1.87bf16363172cp-12, -0x1.45d21f5bdccfep-9,
      0x1.37fd09cb019fcp-11, 0x1.5e19c5f85a3ffp-11, -0x1.2374474c3a2f0p-12, -0x1.daedbceb9ce18p-14,
      0x1.92b0931dc77fcp-13, 0x1.764881bf3e6bbp-13, 0x1.66f07b579034cp-13, 0x1.a3aee78dc72afp-13,
      0x1.4125e5c4ec9bcp-13, 0x1.22f86ce2c8c86p-14, 0x1.31670fbc95381p-16, 0x1.4db9b697009e2p-19,
      0x1.0917f4162afb9p-23);
}
/// (m(y) y - 1) / w for w = 1 / y^2, y >= 5.
ADJOINT_MATH_FN double mills_far(double w) {
  return poly(w, -0x1p1, 0x1.3ffffffffff32p3, -0x1.27ffffffed00fp6, 0x1.60fffff4c9ed4p9,
              -0x1.fe1ffc7a606d2p12, 0x1.af49a8deba5f4p16, -0x1.a110f997c956fp20,
              0x1.c5b859221aff2p24, -0x1.1189f9fa96ce3p29, 0x1.66538a32d3fccp33,
              -0x1.ecb4f249c0b1ap37, 0x1.51281c968743ep42, -0x1.ae6ac107e5b7fp46,
              0x1.e01339fa1964cp50, -0x1.b7e85ad25806cp54, 0x1.3718f9f87183bp58,
              -0x1.3a4d3c30efba1p61, 0x1.90729864b212fp63, -0x1.e0fc5d90d2551p64);
}

/// h(y) - y for y >= 0. 1.5 ulp.
ADJOINT_MATH_FN double hazard_excess(double y) {
  const double shifted = y + 4.0;
  const double near = mills_near((y - 4.0) / shifted) / shifted;
  const double r = 1.0 / y;
  const double w = r * r;
  const double far = fma_(w, mills_far(w), 1.0) * r;
  return y < 5.0 ? near : far;
}

constexpr double kRootHalf = 0x1.6a09e667f3bcdp-1, kRootHalfLow = -0x1.bdd3413b26456p-55;
constexpr double kNormalMax = 42.0;  // phi vanishes
constexpr double kRootTwoPi = 0x1.40d931ff62706p1;
constexpr double kLogRootTwoPi = 0x1.d67f1c864beb5p-1;

/// exp(-x^2 / 2) / sqrt(2 pi), of the exact square.
ADJOINT_MATH_FN double normal_density(double x) {
  const double ax = abs(x);
  const double c = ax > kNormalMax ? kNormalMax : ax;
  const Two<double> square = two_prod(c, c);
  const auto [p, s1, s2] = exp_pair(-0.5 * square.hi, -0.5 * square.lo);
  return ((p.hi / kRootTwoPi) * s1) * s2;
}

/// erfc(-x / sqrt 2) / 2.
/// 0.51 ulp (float), 2 (double).
ADJOINT_MATH_FN double ndtr(double x) {
  const double ax = abs(x);
  const double c = ax > kNormalMax ? kNormalMax : ax;
  const Two<double> square = two_prod(c, c);
  Two<double> a = two_prod(c, kRootHalf);
  a.lo = fma_(c, kRootHalfLow, a.lo);
  const auto [q, s1, s2] = erfc_tail(a, Two<double>{-0.5 * square.hi, -0.5 * square.lo});
  const double tail = (0.5 * q * s1) * s2;
  const double near = fma_(0.5, erf_near(x * kRootHalf), 0.5);
  const double far = x < 0.0 ? tail : 1.0 - tail;
  return ax < 0.65 ? near : (x == x ? far : x);
}

/// phi(x) / Phi(x), the slope of log Phi.
/// 0.51 ulp (float), 3 (double).
ADJOINT_MATH_FN double normal_slope(double x) {
  const double above = normal_density(x) / ndtr(x);
  const double below = hazard_excess(abs(x)) - x;
  return x > 0.0 ? above : below;
}

/// x + phi(x) / Phi(x), to full precision where it is small.
/// 0.51 ulp (float), 3 (double).
ADJOINT_MATH_FN double normal_excess(double x) {
  return x > 0.0 ? x + normal_slope(x) : hazard_excess(abs(x));
}

/// log Phi(x). Below -1 log phi - log h, a sum of terms of one sign; above 0 by the other tail.
/// 0.51 ulp (float), 2.2 (double).
ADJOINT_MATH_FN double log_ndtr(double x) {
  const double y = abs(x);
  const Two<double> square = two_prod(y, y);
  const double rest = kLogRootTwoPi + log(hazard_excess(y) + y);
  const double half = 0.5 * square.hi;
  const double low = y < 0x1p400 ? 0.5 * square.lo : 0.0;
  const double tail = -(half + (rest + low));
  const double inner = x > 0.0 ? ndtr(-x) : ndtr(x);
  const double middle = x > 0.0 ? log1p(-inner) : log(inner);
  const double result = x < -1.0 ? tail : middle;
  return x == -kInf<double> ? x : result;
}

/// The most derivatives of log Phi.
constexpr int kMostOfLogNdtr = 60;

/// The derivative of order n >= 2 of h(y) - y, without its sign (-1)^n, for y >= 3. Of the
/// continued fraction h(y) - y = 1 / (y + 2 / (y + 3 / (y + ...))) every part is positive, and so
/// are Taylor's coefficients of the quotients for all but their signs: taken from the tail, of
/// which the limit is known, little cancels. Far out one term of the asymptotic series is all.
ADJOINT_MATH_FN double hazard_slope(int n, double y) {
  if (y > 0x1p30) {
    double far = 1.0 / y;
    for (int k = 1; k <= n; ++k) far *= k / y;
    return far;
  }
  const int terms = y < 10.0 ? 80 : 24;
  const double last = 4.0 * (terms + 1);
  // sqrt(y^2 + 4 (terms + 1)), then the tail (that - y) / 2
  double root[kMostOfLogNdtr], tail[kMostOfLogNdtr], part[kMostOfLogNdtr];
  root[0] = sqrt(fma_(y, y, last));
  tail[0] = 0.5 * last / (root[0] + y);
  for (int j = 1; j <= n; ++j) {
    double sum = j == 1 ? 2.0 * y : (j == 2 ? 1.0 : 0.0);
    for (int i = 1; i < j; ++i) sum -= root[i] * root[j - i];
    root[j] = sum / (2.0 * root[0]);
    tail[j] = 0.5 * (j == 1 ? root[1] - 1.0 : root[j]);
  }
  for (int k = terms; k > 0; --k) {
    const double below = 1.0 / (y + tail[0]);
    part[0] = k * below;
    for (int j = 1; j <= n; ++j) {
      double sum = (1.0 + tail[1]) * part[j - 1];
      for (int i = 2; i <= j; ++i) sum += tail[i] * part[j - i];
      part[j] = -sum * below;
    }
    for (int j = 0; j <= n; ++j) tail[j] = part[j];
  }
  double out = tail[n];
  for (int k = 2; k <= n; ++k) out *= k;
  return n % 2 == 0 ? out : -out;
}

/// The derivative of order n of log Phi, for whole n from 1 to 60. With h its slope and m = x + h
/// there is h' = -h m, which Leibniz's rule takes further where little cancels.
ADJOINT_MATH_FN double log_ndtr_slope(double order, double x) {
  if (!(order >= 1.0 && order <= kMostOfLogNdtr) || __builtin_rint(order) != order)
    return kNan<double>;
  const int n = static_cast<int>(order) - 1;  // of h
  if (x <= -3.0 && n > 1) return hazard_slope(n, -x);
  double h[kMostOfLogNdtr], m[kMostOfLogNdtr];
  h[0] = normal_slope(x);
  m[0] = normal_excess(x);
  if (n == 0 || h[0] == 0.0) return h[0];
  if (x < -0x1p30) return -1.0;
  for (int k = 0; k < n; ++k) {
    double sum = 0.0, choose = 1.0;
    for (int i = 0; i <= k; ++i) {
      sum = fma_(choose * h[i], m[k - i], sum);
      choose = choose * (k - i) / (i + 1);
    }
    h[k + 1] = -sum;
    m[k + 1] = k == 0 ? 1.0 - sum : -sum;
  }
  return h[n];
}

// ---- Inverses -----------------------------------------------------------------------------------

/// erfinv(y) / y for w = -log(1 - y^2): u = w - 2.5 up to w = 5, then u = sqrt(w) - 3.115 up to 16,
/// and sqrt(w) - 5.05 beyond.
ADJOINT_MATH_FN double erfinv_near(double u) {
  return poly(
      u, 0x1.805c5cfcedef5p0, 0x1.f91e8993f0d14p-3, -0x1.11c3c302dfe2ep-8, -0x1.4863cdfb6145fp-10,
      0x1.c9b437ed29e22p-13, -0x1.4f47fe73b0cd0p-18, -0x1.ca9227ca5fc24p-19, 0x1.01037e4331fa7p-21,
      0x1.ccff736c3cf77p-27, -0x1.752fdd48bf3d9p-27, 0x1.f2cbac42c84d2p-31, 0x1.07053fc1837f2p-33,
      -0x1.119584990dc59p-35, 0x1.007a96f26679ep-40, 0x1.2d8e2d548d7e8p-41, -0x1.5663a74ca07d4p-44,
      -0x1.a032a46bbde33p-49, 0x1.0ec191ca2dca4p-49, -0x1.39246852e611ap-53, -0x1.c9ce833ec2cbfp-56,
      0x1.6632769af31f5p-58, 0x1.8b57312aba8b5p-65, -0x1.3ddd1545ede40p-64, 0x1.0cb87218e6a0ep-68);
}
ADJOINT_MATH_FN double erfinv_middle(double u) {
  return poly(
      u, 0x1.79615c026647bp1, 0x1.00ea5d7af651bp0, 0x1.d87696491b77bp-8, -0x1.65854b30c4445p-8,
      0x1.010d8d7f067d6p-8, -0x1.544a47ef4781bp-9, 0x1.5070732d4a82dp-10, -0x1.509803fe2ea5fp-12,
      -0x1.ac1a5d9beee8ap-14, 0x1.29cb7e6877b77p-13, -0x1.ef118aa7fe4fep-15, 0x1.9b9be5b77aacdp-21,
      0x1.9a51ff703e2bbp-17, -0x1.acbfe8d74a6b9p-18, 0x1.9d50249b0ab6ep-21, 0x1.c26e5053774b5p-21,
      -0x1.2aa79f4337da8p-21, 0x1.0964970c41fe9p-23, 0x1.5b26fdf0034a9p-25, -0x1.7c74881b2f9b8p-25,
      0x1.d97baa62335fcp-27, 0x1.0ed782a77b564p-29, -0x1.6f937b84c57fbp-29, 0x1.332185656551ep-31);
}
ADJOINT_MATH_FN double erfinv_far(double u) {
  return poly(
      u, 0x1.39a07f9e2524cp2, 0x1.02a209f638a16p0, -0x1.6437de556d61bp-13, -0x1.a415b08f37676p-13,
      0x1.2acdb4cc47354p-14, -0x1.344608faafc9dp-16, 0x1.1971db2fbfe44p-18, -0x1.e6fc315c3d548p-21,
      0x1.b0f9a5164d39fp-23, -0x1.d80c8b08faeedp-25, 0x1.76dd2c6660ec8p-26, -0x1.7f5c18f62c925p-27,
      0x1.8f2d3705ff274p-28, -0x1.733f67cf6dbc4p-29, 0x1.1f735532c25f9p-30, -0x1.69721d8310685p-32,
      0x1.5a2622f045bdap-34, 0x1.68e23f4038328p-39, -0x1.140a25342d847p-36, 0x1.61eac4086d308p-38);
}

/// The inverse of erf.
/// 0.51 ulp (float), 3 (double).
ADJOINT_MATH_FN double erfinv(double y) {
  const Two<double> square = two_prod(y, y);
  const Two<double> rest = two_sum(1.0, -square.hi);
  const double w = -log_of_sum(rest.hi, rest.lo - square.lo, 0.0);
  const double s = sqrt(w);
  const double beyond = s < 4.0 ? erfinv_middle(s - 3.115) : erfinv_far(s - 5.05);
  const double result = y * (w < 5.0 ? erfinv_near(w - 2.5) : beyond);
  const double ay = abs(y);
  return ay < 1.0 ? result : (ay == 1.0 ? xor_sign(kInf<double>, sign_bit(y)) : kNan<double>);
}

/// The slope of erfinv at y, where its value is f: 1 / ((1 - |y|) sqrt(2) h(sqrt(2) |f|)).
/// 0.51 ulp (float), 4 (double).
ADJOINT_MATH_FN double erfinv_slope(double y, double f) {
  const double ay = abs(y);
  const double z = abs(f) * 0x1.6a09e667f3bcdp0;
  const double result = 1.0 / ((1.0 - ay) * (0x1.6a09e667f3bcdp0 * (z + hazard_excess(z))));
  return ay == 1.0 ? kInf<double> : (ay < 1.0 ? result : kNan<double>);
}

/// The inverse of Phi: that of erf, and far out Newton's steps on log Phi.
/// 0.51 ulp (float), 3.1 (double).
ADJOINT_MATH_FN double ndtri(double p) {
  const double q = p > 0.5 ? 1.0 - p : p;
  const double middle = 0x1.6a09e667f3bcdp0 * erfinv(2.0 * q - 1.0);
  const double wanted = log(q);
  const double z0 = sqrt(-2.0 * wanted);
  double z = z0 - (log(z0) + kLogRootTwoPi) / z0;
  for (int i = 0; i < 4; ++i) z += (log_ndtr(-z) - wanted) / (z + hazard_excess(z));
  const double below = q < 0.05 ? -z : middle;
  const double result = p > 0.5 ? -below : below;
  const double edge = p == 0.0 ? -kInf<double> : (p == 1.0 ? kInf<double> : kNan<double>);
  return p > 0.0 && p < 1.0 ? result : edge;
}

/// The slope of ndtri at p, where its value is z: 1 / phi(z), by way of the smaller tail.
/// 0.51 ulp (float), 4 (double).
ADJOINT_MATH_FN double ndtri_slope(double p, double z) {
  const double az = abs(z);
  const double q = p > 0.5 ? 1.0 - p : p;
  const double result = 1.0 / (q * (az + hazard_excess(az)));
  const bool edge = p == 0.0 || p == 1.0;
  return edge ? kInf<double> : (p > 0.0 && p < 1.0 ? result : kNan<double>);
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
