// Names that NumPy and PyTorch have for what takes a few lines of other functions. Being made of
// operations, they have every derivative, batch and compiled form themselves.
#include <algorithm>
#include <cmath>
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

// ---------------------------------------------------------------------------------- sequences

Tensor logspace(double start, double stop, std::int64_t num, bool endpoint, double base,
                std::optional<DType> dtype) {
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
