// Derivatives in a, of any order up to kGammaOrders, of the incomplete gamma function P(a, x) and
// of its density, in double lanes.
//
// They are Taylor coefficients: each algorithm of math_igamma-inl.h is run on truncated power
// series in a step of a. So the power series, the continued fraction and Temme's expansion serve
// where they do for the function itself, and what is small keeps its digits. The fraction is
// evaluated from its end: its length is that which the function itself needs, and a quarter more,
// as derivatives converge a little later.
#pragma once

#include "kernels/isa/math_igamma-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS::math {

constexpr int kGammaOrders = 20;
constexpr int kTemmeLogTerms = 34;  // kTemmeNear to this power is below the last digit

/// c[0] + c[1] e + c[2] e^2 + ..., as far as the caller asks.
struct StepSeries {
  double c[kGammaOrders + 1];
};

ADJOINT_MATH_FN StepSeries step_product(const StepSeries& f, const StepSeries& g, int n) {
  StepSeries out;
  for (int m = 0; m <= n; ++m) {
    double sum = 0.0;
    for (int j = 0; j <= m; ++j) sum = fma_(f.c[j], g.c[m - j], sum);
    out.c[m] = sum;
  }
  return out;
}
/// f times p + q e.
ADJOINT_MATH_FN StepSeries step_product(const StepSeries& f, double p, double q, int n) {
  StepSeries out;
  for (int m = n; m > 0; --m) out.c[m] = fma_(f.c[m], p, f.c[m - 1] * q);
  out.c[0] = f.c[0] * p;
  return out;
}
/// f over p + e.
ADJOINT_MATH_FN StepSeries step_quotient(const StepSeries& f, double p, int n) {
  StepSeries out;
  double before = 0.0;
  for (int m = 0; m <= n; ++m) before = out.c[m] = (f.c[m] - before) / p;
  return out;
}
/// first times the exponential of a series without constant term.
ADJOINT_MATH_FN StepSeries step_exp(double first, const StepSeries& log, int n) {
  StepSeries out;
  out.c[0] = first;
  for (int m = 1; m <= n; ++m) {
    double sum = 0.0;
    for (int k = 1; k <= m; ++k) sum = fma_(k * log.c[k], out.c[m - k], sum);
    out.c[m] = sum / m;
  }
  return out;
}

/// x^a e^-x / Gamma(a + 1), for a >= 0 and finite x > 0.
ADJOINT_MATH_CALL StepSeries gamma_factor_series(double a, double x, int n) {
  StepSeries log;
  if (a < 4.0) {
    log.c[1] = math::log(x) - digamma_positive(a + 1.0);
  } else {  // log(x / a) is small where log x and digamma are not
    const double r = 1.0 / a, u = (x - a) * r;
    const double ratio = abs(u) < kTemmeNear ? log1p(u) : math::log(x) - math::log(a);
    log.c[1] = ratio - fma_(-r * r, digamma_series(r * r), 0.5 * r);
  }
  double factorial = 1.0;
  for (int k = 2; k <= n; ++k) {
    factorial *= k;
    const double above = a + 1.0;
    double slope;
    polygamma_chunk(polygamma_order(k - 1), &above, 1, &slope);
    log.c[k] = -slope / factorial;
  }
  return step_exp(gamma_factor(a, x), log, n);
}

/// P from the powers of x.
ADJOINT_MATH_CALL StepSeries gamma_lower_series(double a, double x, int n) {
  StepSeries term{}, sum{};
  term.c[0] = sum.c[0] = 1.0;
  bool goes_on = true;
  for (int k = 1; k < kIgammaLong && goes_on; ++k) {
    double before = 0.0;
    goes_on = false;
    for (int m = 0; m <= n; ++m) {
      before = term.c[m] = fma_(term.c[m], x, -before) / (a + k);
      sum.c[m] += before;
      goes_on |= abs(before) > kIgammaDigits * abs(sum.c[m]);
    }
  }
  return step_product(gamma_factor_series(a, x, n), sum, n);
}

/// Q from Legendre's continued fraction.
ADJOINT_MATH_CALL StepSeries gamma_upper_series(double a, double x, int n) {
  // Its length is asked at half a whole number: at a whole one, or near it, the fraction itself
  // ends early, and its derivatives do not.
  const double half = __builtin_floor(a) + 0.5;
  int length = 1;
  double b = x + 1.0 - half, c = 0x1p1000, d = 1.0 / b;
  for (; length < kIgammaLong; ++length) {
    const double an = -length * (length - half);
    b += 2.0;
    d = 1.0 / (an * d + b);
    c = b + an / c;
    if (abs(c * d - 1.0) < kIgammaDigits * 4.0) break;
  }
  length += length / 4 + 10;
  StepSeries f{}, q{};
  f.c[0] = x + 2.0 * length + 1.0 - a;
  f.c[1] = -1.0;
  for (int i = length; i >= 0; --i) {
    // The quotient of i (a - i + e) and f, or of 1 at the end, and then the next b.
    const double p0 = i > 0 ? i * (a - i) : 1.0, p1 = i;
    const double r = 1.0 / f.c[0];
    for (int m = 0; m <= n; ++m) {
      double sum = m == 0 ? p0 : (m == 1 ? p1 : 0.0);
      for (int j = 0; j < m; ++j) sum = fma_(-q.c[j], f.c[m - j], sum);
      q.c[m] = sum * r;
    }
    f = q;
    if (i > 0) {
      f.c[0] += x + 2.0 * i - 1.0 - a;
      f.c[1] -= 1.0;
    }
  }
  const StepSeries factor = step_product(gamma_factor_series(a, x, n), a, 1.0, n);
  return step_product(factor, f, n);
}

/// P next to a large a, but for its constant term.
ADJOINT_MATH_CALL StepSeries gamma_uniform_series(double a, double x, int n) {
  const double u = (x - a) / a;
  StepSeries ratio;  // x / (a + e) - 1
  ratio.c[0] = u;
  double power = x / a;
  for (int m = 1; m <= n; ++m) ratio.c[m] = power = -power / a;
  // eta = ratio sqrt(2 (ratio - log(1 + ratio)) / ratio^2)
  StepSeries w{};
  for (int k = kTemmeLogTerms; k >= 0; --k) {
    w = step_product(w, ratio, n);
    w.c[0] += (k % 2 ? -2.0 : 2.0) / (k + 2);
  }
  StepSeries root;
  root.c[0] = sqrt(w.c[0]);
  for (int m = 1; m <= n; ++m) {
    double sum = w.c[m];
    for (int j = 1; j < m; ++j) sum = fma_(-root.c[j], root.c[m - j], sum);
    root.c[m] = sum / (2.0 * root.c[0]);
  }
  const StepSeries eta = step_product(ratio, root, n);
  StepSeries sum{};
  for (int k = kTemmeOrders - 1; k >= 0; --k) {
    StepSeries c{};
    for (int i = kTemmeTerms - 1; i >= 0; --i) {
      c = step_product(c, eta, n);
      c.c[0] += kTemme[k][i];
    }
    sum = step_quotient(sum, a, n);
    for (int m = 0; m <= n; ++m) sum.c[m] += c.c[m];
  }
  // exp(-a eta^2 / 2), whose logarithm has the slope log(x / a), and the same over sqrt(a).
  StepSeries log, log_scaled, half_root;
  log.c[1] = log1p(u);
  log_scaled.c[1] = log.c[1] - 0.5 / a;
  half_root.c[0] = sqrt(0.5 * a);  // sqrt((a + e) / 2)
  half_root.c[1] = half_root.c[0] * 0.5 / a;
  double inverse = 1.0 / a, sign = -1.0;
  for (int m = 2; m <= n; ++m, sign = -sign) {
    log.c[m] = sign * inverse / (m * (m - 1.0));
    inverse /= a;
    log_scaled.c[m] = log.c[m] - 0.5 * sign * inverse / m;
    half_root.c[m] = half_root.c[m - 1] * (1.5 - m) / (m * a);
  }
  const double density = exp(a * log1p_less(u));
  const StepSeries bell = step_exp(density, log, n);
  const StepSeries scaled = step_exp(density / sqrt(kIgammaTwoPi * a), log_scaled, n);
  const StepSeries rest = step_product(scaled, sum, n);
  const StepSeries y = step_product(eta, half_root, n);
  constexpr double kInverseRootPi = 0x1.20dd750429b6dp-1;
  StepSeries out{};
  for (int m = 1; m <= n; ++m) {
    double slope = 0.0;
    for (int j = 1; j <= m; ++j) slope = fma_(j * y.c[j], bell.c[m - j], slope);
    out.c[m] = fma_(slope / m, kInverseRootPi, -rest.c[m]);
  }
  return out;
}

/// A whole order from 0 to kGammaOrders, or -1.
ADJOINT_MATH_FN int gamma_order(double order) {
  const bool fits = order >= 0.0 && order <= kGammaOrders;
  const int n = fits ? static_cast<int>(order) : -1;
  return fits && order == n ? n : -1;
}
ADJOINT_MATH_FN double small_factorial(int n) {
  double out = 1.0;
  for (int i = 2; i <= n; ++i) out *= i;
  return out;
}

/// The derivative of a whole order in a of P(a, x).
ADJOINT_MATH_CALL double igamma_slope(double order, double a, double x) {
  const double inf = kInf<double>;
  const int n = gamma_order(order);
  if (n == 0) return igamma(a, x);
  if (n < 0 || !(a >= 0.0) || !(x >= 0.0) || (a == 0.0 && x == 0.0) || (a == inf && x == inf))
    return kNan<double>;
  if (x == 0.0 || a == inf || x == inf) return 0.0;
  const double factorial = small_factorial(n);
  if (a >= kTemmeFrom && abs(x - a) < kTemmeNear * a)
    return gamma_uniform_series(a, x, n).c[n] * factorial;
  if (x < a + 1.0) return gamma_lower_series(a, x, n).c[n] * factorial;
  return -gamma_upper_series(a, x, n).c[n] * factorial;
}

/// That of the density x^(a - 1) e^-x / Gamma(a).
ADJOINT_MATH_CALL double gamma_density_slope(double order, double a, double x) {
  const double inf = kInf<double>;
  if (order == -1.0) return 0.0;  // what the rule of order 0 multiplies by 0
  const int n = gamma_order(order);
  if (n == 0) return gamma_density(a, x);
  if (n < 0 || !(a >= 0.0) || !(x >= 0.0)) return kNan<double>;
  if (x == inf || a == inf) return 0.0;
  if (x == 0.0) return a > 1.0 ? 0.0 : (n % 2 ? -inf : inf);
  const double factorial = small_factorial(n);
  if (a >= 1.0) return gamma_factor_series(a - 1.0, x, n).c[n] * factorial;
  return step_product(gamma_factor_series(a, x, n), a, 1.0, n).c[n] * factorial / x;
}

}  // namespace adjoint::kernels::ADJOINT_ISA_NS::math
