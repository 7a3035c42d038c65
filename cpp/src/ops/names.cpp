// Names that NumPy and PyTorch have for what takes a few lines of other functions. Being made of
// operations, they have every derivative, batch and compiled form themselves.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "adjoint/linalg.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

/// Whether the shapes broadcast with each other.
bool fit_together(const Tensor& x1, const Tensor& x2) {
  const auto a = x1.shape(), b = x2.shape();
  for (std::size_t i = 1; i <= std::min(a.size(), b.size()); ++i) {
    const std::int64_t m = a[a.size() - i], n = b[b.size() - i];
    if (m != n && m != 1 && n != 1) return false;
  }
  return true;
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor no() { return Tensor::scalar(0.0, DType::boolean); }

Tensor constant_like(const Tensor& x, double value) { return Tensor::scalar(value, x.dtype()); }

}  // namespace

Tensor relu(const Tensor& x) {
  // Not maximum(x, 0), which shares the gradient of a tie equally. `x <= 0` rather than `x > 0`
  // lets a nan through.
  const Tensor nothing = constant_like(x, 0);
  return where(less_equal(x, nothing), nothing, x);
}

Tensor norm(const Tensor& x, const std::optional<linalg::Order>& ord, const Axes& axis,
            bool keepdims) {
  return linalg::norm(x, ord, axis, keepdims);
}

// ---------------------------------------------------------------------------------- questions

Tensor array_equal(const Tensor& x1, const Tensor& x2, bool equal_nan) {
  if (!std::ranges::equal(x1.shape(), x2.shape())) return no();
  Tensor same = equal(x1, x2);
  if (equal_nan) same = logical_or(same, logical_and(not_equal(x1, x1), not_equal(x2, x2)));
  return all(same);
}

Tensor array_equiv(const Tensor& x1, const Tensor& x2) {
  return fit_together(x1, x2) ? all(equal(x1, x2)) : no();
}

Tensor argwhere(const Tensor& x) { return stack(nonzero(x), 1); }

Tensor flatnonzero(const Tensor& x) { return nonzero(ravel(x)).front(); }

// ------------------------------------------------------------------------- joins and products

Tensor column_stack(std::span<const Tensor> arrays) {
  std::vector<Tensor> columns;
  for (const Tensor& x : arrays)
    columns.push_back(x.ndim() < 2 ? reshape(x, Dims{x.size(), 1}) : x);
  return concat(columns, 1);
}

Tensor vdot(const Tensor& x1, const Tensor& x2) {
  if (x1.size() != x2.size())
    raise(ErrorKind::value, "vdot",
          "needs as many elements on both sides: shapes " + to_string(x1.shape()) + " and " +
              to_string(x2.shape()));
  return vecdot(ravel(x1), ravel(x2));
}

// -------------------------------------------------------------------------------- elementwise

// Programs for any array library ask for these of complex numbers, which there are none of.
Tensor real(const Tensor& x) { return positive(x); }
Tensor imag(const Tensor& x) { return zeros_of(x.shape(), x.dtype()); }
Tensor conj(const Tensor& x) { return positive(x); }

Tensor isposinf(const Tensor& x) { return equal(x, constant_like(in_floating(x), kInfinity)); }
Tensor isneginf(const Tensor& x) { return equal(x, constant_like(in_floating(x), -kInfinity)); }

Tensor logaddexp2(const Tensor& x1, const Tensor& x2) {
  constexpr double ln2 = std::numbers::ln2;
  const auto [a, b] = in_one_floating(x1, x2);
  return logaddexp(a * ln2, b * ln2) / ln2;
}

Tensor around(const Tensor& x, std::int64_t decimals) {
  if (decimals == 0) return round(x);
  if (!is_floating(x.dtype())) {
    if (decimals > 0) return positive(x);
    return astype(around(astype(x, DType::float64), decimals), x.dtype());
  }
  // A power of ten that is whole is exact, which its reciprocal is not.
  constexpr std::int64_t most = 308;
  const auto digits = static_cast<double>(std::clamp(decimals, -most, most));
  const double unit = std::pow(10.0, std::abs(digits));
  if (decimals < 0) return round(x / unit) * unit;
  const Tensor scaled = x * unit;  // what overflows has no decimals
  return where(isfinite(scaled), round(scaled) / unit, held(x));
}

Tensor select(std::span<const Tensor> condlist, std::span<const Tensor> choicelist,
              const Tensor& fallback) {
  const char* const op = "select";
  if (condlist.size() != choicelist.size() || condlist.empty())
    raise(ErrorKind::value, op,
          std::to_string(condlist.size()) + " conditions for " + std::to_string(choicelist.size()) +
              " choices: one is needed for each, and one at least");
  Tensor out = fallback;
  for (std::size_t i = condlist.size(); i-- > 0;) out = where(condlist[i], choicelist[i], out);
  return out;
}

Tensor polyval(const Tensor& p, const Tensor& x) {
  if (p.ndim() != 1)
    raise(ErrorKind::value, "polyval",
          "p must be a vector of coefficients, shape is " + to_string(p.shape()));
  Tensor out = zeros_of(x.shape(), promote(p.dtype(), x.dtype()));
  for (const Tensor& coefficient : unstack(p)) out = out * x + coefficient;
  return out;
}

// ---------------------------------------------------------------------------------- sequences

static void require_count(std::int64_t num, const char* op) {
  if (num < 0) raise(ErrorKind::value, op, "num must not be negative, got " + std::to_string(num));
}

Tensor geomspace(double start, double stop, std::int64_t num, bool endpoint,
                 std::optional<DType> dtype) {
  const char* const op = "geomspace";
  if (start == 0 || stop == 0 || (start < 0) != (stop < 0))
    raise(ErrorKind::value, op,
          "start and stop must have the same sign and not be 0, got " + std::to_string(start) +
              " and " + std::to_string(stop));
  require_count(num, op);
  const double sign = start < 0 ? -1.0 : 1.0;
  const Tensor powers = logspace(std::log10(std::abs(start)), std::log10(std::abs(stop)), num,
                                 endpoint, 10.0, DType::float64);
  const Tensor i = arange(std::int64_t{0}, num);
  const auto at = [&](std::int64_t k) { return equal(i, Tensor::scalar(k, DType::int64)); };
  Tensor out = where(at(0), constant_like(powers, start), powers * sign);
  if (endpoint && num > 1) out = where(at(num - 1), constant_like(powers, stop), out);
  return astype(out, dtype.value_or(DType::float64));
}

Tensor logspace(double start, double stop, std::int64_t num, bool endpoint, double base,
                std::optional<DType> dtype) {
  require_count(num, "logspace");
  const DType t = dtype.value_or(DType::float64);
  const Tensor exponents = linspace(start, stop, num, endpoint, DType::float64);
  return astype(pow(constant_like(exponents, base), exponents), t);
}

Tensor unwrap(const Tensor& given, std::optional<double> discont, int axis, double period) {
  const char* const op = "unwrap";
  if (!(period > 0) || std::isinf(period))
    raise(ErrorKind::value, op,
          "period must be positive and finite, got " + std::to_string(period));
  const Tensor x = in_floating(given);
  const int at = normalize_axis(axis, x.ndim(), op);
  if (x.shape()[at] < 2) return positive(x);
  const Tensor half = constant_like(x, period / 2), whole = constant_like(x, period);
  // The jumps are whole periods: as steps they have no slope.
  const Tensor step = held(diff(x, at));
  Tensor inside = remainder(step + half, whole) - half;
  inside = where(logical_and(equal(inside, negative(half)), greater(step, scalar_like(x, 0))), half,
                 inside);
  const double least = std::max(discont.value_or(period / 2), period / 2);
  const Tensor small = less(abs(step), constant_like(x, least));
  const Tensor jumps = where(small, scalar_like(x, 0), inside - step);
  return x + cumulative_sum(jumps, at, {}, true);
}

void register_names_ops() {
  register_functions({
      {.name = "relu",
       .signature = "(x, /)",
       .doc = "x where it is positive, else 0; a nan stays one. The derivative at 0 is 0.",
       .entry = entry_of<relu>(),
       .method = true},
      {.name = "norm",
       .signature = "(x, ord=None, axis=None, keepdims=False)",
       .doc = "`linalg.norm` by a shorter name.",
       .entry = entry_of<norm>()},
      {.name = "array_equal",
       .signature = "(x1, x2, /, equal_nan=False)",
       .doc = "Whether the shapes are the same and all elements equal, as one bool; with\n"
              "`equal_nan` a nan equals a nan.",
       .entry = entry_of<array_equal>(),
       .promotes = true},
      {.name = "array_equiv",
       .signature = "(x1, x2, /)",
       .doc = "Whether the shapes broadcast and all elements are equal then, as one bool.",
       .entry = entry_of<array_equiv>(),
       .promotes = true},
      {.name = "argwhere",
       .signature = "(x, /)",
       .doc = "The places of what is not zero, one row of indices for each.",
       .entry = entry_of<argwhere>()},
      {.name = "flatnonzero",
       .signature = "(x, /)",
       .doc = "The places of what is not zero among all elements in one axis.",
       .entry = entry_of<flatnonzero>()},
      {.name = "column_stack",
       .signature = "(arrays, /)",
       .doc = "Vectors as the columns of a matrix; what has two dimensions or more is joined along "
              "axis 1.",
       .entry = entry_of<column_stack>()},
      {.name = "vdot",
       .signature = "(x1, x2, /)",
       .doc = "The sum of the products of all elements of one and the other, in one axis each.",
       .entry = entry_of<vdot>(),
       .promotes = true},
      {.name = "real",
       .signature = "(x, /)",
       .doc = "The real part: x itself, as all numbers here are real.",
       .entry = entry_of<real>()},
      {.name = "imag",
       .signature = "(x, /)",
       .doc = "The imaginary part: 0, as all numbers here are real.",
       .entry = entry_of<imag>()},
      {.name = "conj",
       .signature = "(x, /)",
       .doc = "The complex conjugate: x itself, as all numbers here are real.",
       .entry = entry_of<conj>()},
      {.name = "isposinf",
       .signature = "(x, /)",
       .doc = "Whether each element is plus infinity.",
       .entry = entry_of<isposinf>()},
      {.name = "isneginf",
       .signature = "(x, /)",
       .doc = "Whether each element is minus infinity.",
       .entry = entry_of<isneginf>()},
      {.name = "logaddexp2",
       .signature = "(x1, x2, /)",
       .doc = "log2(2**x1 + 2**x2) without overflow.",
       .entry = entry_of<logaddexp2>(),
       .promotes = true},
      {.name = "select",
       .signature = "(condlist, choicelist, /, default=0)",
       .doc = "Elements of the first of several choices whose condition is true, else `default`; "
              "all broadcast.",
       .entry = entry_of<select>(),
       .promotes = true,
       .conditions = 1},
      {.name = "polyval",
       .signature = "(p, x, /)",
       .doc = "The polynomial of x whose coefficients are p, the highest power first.",
       .entry = entry_of<polyval>(),
       .promotes = true},
      {.name = "around",
       .signature = "(x, /, decimals=0)",
       .doc = "Rounded to a number of decimals, halves to the even neighbour; a negative number "
              "rounds to tens, hundreds and so on. Its derivative is 0.",
       .entry = entry_of<around>()},
      {.name = "geomspace",
       .signature = "(start, stop, num=50, *, endpoint=True, dtype=None)",
       .doc =
           "Numbers from `start` to `stop` of which each is the same multiple of the one before.",
       .entry = entry_of<geomspace>()},
      {.name = "logspace",
       .signature = "(start, stop, num=50, *, endpoint=True, base=10.0, dtype=None)",
       .doc = "Powers of `base` whose exponents are evenly spaced from `start` to `stop`.",
       .entry = entry_of<logspace>()},
      {.name = "unwrap",
       .signature = "(x, discont=None, axis=-1, *, period=6.283185307179586)",
       .doc = "Angles without jumps: where neighbours along an axis differ by more than half a\n"
              "period, and not less than `discont`, whole periods are added to what follows.\n"
              "Its derivative is that of x, as the periods are constants.",
       .entry = entry_of<unwrap>()},
  });
}

}  // namespace adjoint
