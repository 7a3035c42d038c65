// exp, log and what is made of them from additions, products, quotients and roots alone, which
// round the same on every processor and with every C library: what decides which number is drawn
// must not differ between machines. For a few calls per element; the kernels are faster.
#pragma once

#include <cmath>
#include <limits>

namespace adjoint::portable {

/// 2 atanh(s) for |s| <= 1/3, by its series.
inline double twice_atanh(double s) {
  const double square = s * s;
  double sum = 0;
  for (int k = 37; k >= 3; k -= 2) sum = square * (1.0 / k + sum);
  return 2 * (s + s * sum);
}

/// To about an ulp, for x >= 0.
inline double log(double x) {
  if (!(x > 0)) return x == 0 ? -std::numeric_limits<double>::infinity() : x;
  if (std::isinf(x)) return x;
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752) {
    m *= 2;
    --exponent;
  }
  // Of ln 2 the first part has zeros at its end: its product with an exponent is exact.
  return exponent * 6.93147180369123816490e-01 +
         (twice_atanh((m - 1) / (m + 1)) + exponent * 1.90821492927058770002e-10);
}

/// log(1 - x) for 0 <= x <= 1/2.
inline double log_of_rest(double x) { return twice_atanh(-x / (2 - x)); }

inline double exp(double x) {
  if (x > 709.79) return std::numeric_limits<double>::infinity();
  if (x < -745.2) return 0;
  const double k = std::floor(x * 1.44269504088896340736 + 0.5);
  const double r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
  double sum = 1;
  for (int i = 14; i >= 1; --i) sum = 1 + r * sum / i;
  return std::ldexp(sum, static_cast<int>(k));
}

inline constexpr double kLogTwoPi = 1.83787706640934548356;

/// log n! less Stirling's (n + 1/2) log n - n + log(2 pi) / 2, for a whole n >= 1.
inline double stirling_error(double n) {
  if (n >= 16) {
    const double square = n * n;
    return (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - 1.0 / 1680 / square) / square) / square) / n;
  }
  double factorial = 1;
  for (int i = 2; i <= static_cast<int>(n); ++i) factorial *= i;
  return log(factorial) - (n + 0.5) * log(n) + n - 0.5 * kLogTwoPi;
}

/// x log(x / m) + m - x, where the two are near as well. Loader, "Fast and accurate computation of
/// binomial probabilities" (2000).
inline double deviance(double x, double m) {
  if (std::fabs(x - m) >= 0.1 * (x + m)) return x * log(x / m) + m - x;
  const double v = (x - m) / (x + m);
  double sum = (x - m) * v;
  double term = 2 * x * v;
  for (int j = 1; j < 1000; ++j) {
    term *= v * v;
    const double next = sum + term / (2 * j + 1);
    if (next == sum) break;
    sum = next;
  }
  return sum;
}

/// The upper tail of the standard normal distribution over its density, for t >= 0.
inline double mills_ratio(double t) {
  if (t < 3) {  // half, less the series of the part between 0 and t
    double term = t;
    double sum = t;
    for (int k = 3; k < 200; k += 2) {
      term *= t * t / k;
      if (sum + term == sum) break;
      sum += term;
    }
    return 0.5 * exp(0.5 * (t * t + kLogTwoPi)) - sum;
  }
  double below = t;  // Laplace's continued fraction, from its end
  for (int k = 80; k >= 1; --k) below = t + k / below;
  return 1 / below;
}

/// The logarithm of the upper tail, for t >= 0.
inline double log_upper_tail(double t) {
  if (std::isinf(t)) return -std::numeric_limits<double>::infinity();
  return log(mills_ratio(t)) - 0.5 * (t * t + kLogTwoPi);
}

/// Where the upper tail has this logarithm, of at most log(1/2). Newton from above: the logarithm
/// is concave, so that every step comes nearer and none goes too far.
inline double upper_tail_inverse(double logarithm) {
  const double excess = logarithm + 0.69314718055994530942;
  double t = excess < 0 ? std::sqrt(-2 * excess) : 0;
  for (int i = 0; i < 60; ++i) {
    const double step = (log_upper_tail(t) - logarithm) * mills_ratio(t);
    const double next = t + step;
    if (!(next < t)) break;
    t = next > 0 ? next : 0;
    if (-step < 1e-15 * t) break;
  }
  return t;
}

}  // namespace adjoint::portable
