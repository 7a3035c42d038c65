// Functions that go along an axis: running extremes and sums of exponentials, integrals by the
// trapezoidal rule, and slopes by finite differences. Being made of operations, they have every
// derivative, batch and compiled form themselves.
//
// Running results of an associative operation come by doubling (Hillis and Steele, Data parallel
// algorithms, 1986): after step i each place has taken in the 2**i before it, so that an axis of
// length n takes log2 n passes.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "ops/structural.h"

namespace adjoint {

namespace {

/// The place of the largest entry up to each one along an axis, or the smallest; of equal ones the
/// last. A nan is both.
Tensor running_places(const Tensor& x, int at, bool largest) {
  const std::int64_t n = x.shape()[at];
  Dims line(static_cast<std::size_t>(x.ndim()), 1);
  line[at] = n;
  Tensor value = held(x);
  Tensor place = broadcast_to(reshape(arange(std::int64_t{0}, n), line), x.shape());
  for (std::int64_t step = 1; step < n; step *= 2) {
    const auto back = [&](const Tensor& y) { return entries_along(y, at, 0, n - step); };
    const auto here = [&](const Tensor& y) { return entries_along(y, at, step, n - step); };
    const auto joined = [&](const Tensor& y, const Tensor& rest) {
      return concat(std::vector{entries_along(y, at, 0, step), rest}, at);
    };
    const Tensor before = back(value), now = here(value);
    const Tensor keeps = largest ? greater_equal(now, before) : less_equal(now, before);
    const Tensor is_last = is_floating(x.dtype()) ? logical_or(keeps, isnan(now)) : keeps;
    place = joined(place, where(is_last, here(place), back(place)));
    value = joined(value, where(is_last, now, before));
  }
  return place;
}

std::tuple<Tensor, Tensor> running_extreme(const Tensor& x, int axis, bool largest,
                                           const char* op) {
  const int at = normalize_axis(axis, x.ndim(), op);
  const Tensor places = running_places(x, at, largest);
  return {take_along_axis(x, places, at), places};
}

/// The lengths between neighbouring coordinates along the last axis, in a floating dtype of their
/// own: what is left of them may need all their digits. Those of integers are exact.
Tensor steps_between(const Tensor& x) {
  if (is_floating(x.dtype()) || is_bool(x.dtype())) return diff(in_floating(x));
  const Tensor whole = x.dtype() == DType::uint64 ? x : astype(x, DType::int64);
  const int last = whole.ndim() - 1;
  const std::int64_t n = whole.shape()[last], count = std::max<std::int64_t>(n - 1, 0);
  const Tensor before = entries_along(whole, last, 0, count);
  const Tensor after = entries_along(whole, last, std::min<std::int64_t>(n, 1), count);
  const Tensor length =
      astype(maximum(before, after) - minimum(before, after), floating_dtype(x.dtype()));
  return where(less(after, before), -length, length);
}

/// Axis `at` of y as the last one. The same axis of coordinates, which broadcast with y, is as far
/// from the end; a vector has no other.
Tensor with_axis_last(const Tensor& x, int ndim, int at) {
  if (x.ndim() == 1) return x;
  const int own = x.ndim() - (ndim - at);
  if (own < 0)
    raise(ErrorKind::value, "trapezoid",
          "x of shape " + to_string(x.shape()) + " has no axis beside axis " + std::to_string(at) +
              " of y, which has " + std::to_string(ndim) +
              " dimensions: shapes are aligned at the end");
  return moveaxis(x, Dims{own}, Dims{-1});
}

/// The areas between neighbours along the last axis.
Tensor trapezoids(const Tensor& y, const std::optional<Tensor>& x, double dx, int at) {
  const Tensor rows = moveaxis(in_floating(y), Dims{at}, Dims{-1});
  const int last = rows.ndim() - 1;
  const std::int64_t n = rows.shape()[last], count = std::max<std::int64_t>(n - 1, 0);
  const Tensor later = entries_along(rows, last, std::min<std::int64_t>(n, 1), count);
  const Tensor heights = midpoint(entries_along(rows, last, 0, count), later);
  return x ? heights * steps_between(with_axis_last(*x, y.ndim(), at)) : heights * dx;
}

constexpr const char* kGradient = "gradient";

/// The lengths between neighbouring points along an axis: one, or one for each pair, in a shape
/// that broadcasts.
Tensor steps_along(const Tensor& h, const Tensor& f, int at) {
  if (h.ndim() == 0) return astype(h, f.dtype());
  if (h.ndim() != 1 || h.shape()[0] != f.shape()[at])
    raise(ErrorKind::value, kGradient,
          "spacing of shape " + to_string(h.shape()) + " for axis " + std::to_string(at) +
              " of length " + std::to_string(f.shape()[at]) +
              ": give one number, or the coordinate of each point");
  Dims line(static_cast<std::size_t>(f.ndim()), 1);
  line[at] = -1;
  return reshape(steps_between(h), line);
}

/// The slope at an end of an axis, from the values f0 at it, f1 and f2, and the steps between them.
Tensor slope_at_end(const Tensor& f0, const Tensor& f1, const Tensor& f2, const Tensor& h1,
                    const Tensor& h2) {
  const Tensor both = h1 + h2;
  return (f1 - f0) * both / (h1 * h2) - (f2 - f0) * h1 / (h2 * both);
}

/// In the wider dtype of the values and of the lengths between the points.
Tensor slope_along(const Tensor& values, const Tensor& spacing, int at, bool second_order) {
  const std::int64_t n = values.shape()[at];
  const std::int64_t least = second_order ? 3 : 2;
  if (n < least)
    raise(ErrorKind::value, kGradient,
          "axis " + std::to_string(at) + " of length " + std::to_string(n) +
              " is too short: " + std::to_string(least) + " entries are needed");
  const Tensor own = steps_along(spacing, values, at);
  const DType dtype = promote(values.dtype(), own.dtype());
  const Tensor f = astype(values, dtype), h = astype(own, dtype);
  const auto value = [&](std::int64_t i) { return entries_along(f, at, i, 1); };
  const auto step = [&](std::int64_t i) { return h.ndim() == 0 ? h : entries_along(h, at, i, 1); };
  Tensor first = (value(1) - value(0)) / step(0);
  Tensor last = (value(n - 1) - value(n - 2)) / step(n - 2);
  if (second_order) {
    first = slope_at_end(value(0), value(1), value(2), step(0), step(1));
    last = -slope_at_end(value(n - 1), value(n - 2), value(n - 3), step(n - 2), step(n - 3));
  }
  if (n == 2) return concat(std::vector{first, last}, at);
  const Tensor before = entries_along(f, at, 0, n - 2), here = entries_along(f, at, 1, n - 2),
               after = entries_along(f, at, 2, n - 2);
  Tensor inside;
  if (h.ndim() == 0) {
    inside = (after - before) / (h * 2.0);
  } else {  // the parabola through three points
    const Tensor left = entries_along(h, at, 0, n - 2), right = entries_along(h, at, 1, n - 2);
    const Tensor both = left + right;
    inside = (after - here) / right * (left / both) + (here - before) / left * (right / both);
  }
  return concat(std::vector{first, inside, last}, at);
}

}  // namespace

std::tuple<Tensor, Tensor> cummax(const Tensor& x, int axis) {
  return running_extreme(x, axis, true, "cummax");
}
std::tuple<Tensor, Tensor> cummin(const Tensor& x, int axis) {
  return running_extreme(x, axis, false, "cummin");
}

Tensor logcumsumexp(const Tensor& x, int axis) {
  Tensor out = in_floating(x);
  const int at = normalize_axis(axis, x.ndim(), "logcumsumexp");
  const std::int64_t n = x.shape()[at];
  for (std::int64_t step = 1; step < n; step *= 2)
    out = concat(std::vector{entries_along(out, at, 0, step),
                             logaddexp(entries_along(out, at, 0, n - step),
                                       entries_along(out, at, step, n - step))},
                 at);
  return out;
}

Tensor trapezoid(const Tensor& y, const std::optional<Tensor>& x, double dx, int axis) {
  return sum(trapezoids(y, x, dx, normalize_axis(axis, y.ndim(), "trapezoid")), -1);
}

Tensor cumulative_trapezoid(const Tensor& y, const std::optional<Tensor>& x, double dx, int axis,
                            std::optional<double> initial) {
  const char* const op = "cumulative_trapezoid";
  const int at = normalize_axis(axis, y.ndim(), op);
  if (initial && *initial != 0)
    raise(ErrorKind::value, op, "initial must be 0, the integral up to the first point, or None");
  const Tensor sums = cumulative_sum(trapezoids(y, x, dx, at), -1, {}, initial.has_value());
  return moveaxis(sums, Dims{-1}, Dims{at});
}

std::vector<Tensor> gradient(const Tensor& x, std::span<const Tensor> spacing, const Axes& axis,
                             std::int64_t edge_order) {
  const Tensor f = in_floating(x);
  Dims axes;
  if (axis.all()) {
    axes = counting(f.ndim());
  } else {
    for (const std::int64_t a : axis.given())
      axes.push_back(normalize_axis(a, f.ndim(), kGradient));
  }
  if (edge_order != 1 && edge_order != 2)
    raise(ErrorKind::value, kGradient,
          "edge_order must be 1 or 2, got " + std::to_string(edge_order));
  if (spacing.size() > 1 && spacing.size() != axes.size())
    raise(ErrorKind::value, kGradient,
          std::to_string(spacing.size()) + " spacings for " + std::to_string(axes.size()) +
              " axes: give one for all, or one for each");
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const Tensor h = spacing.empty() ? scalar_like(f, 1) : spacing[spacing.size() == 1 ? 0 : i];
    const Tensor slope = slope_along(f, h, static_cast<int>(axes[i]), edge_order == 2);
    out.push_back(astype(slope, f.dtype()));
  }
  return out;
}

void register_running_ops() {
  register_functions({
      {.name = "cummax",
       .signature = "(x, /, axis=-1) -> (values, indices)",
       .doc = "The largest entry up to each one along an axis, and where it is: of equal ones the "
              "last, which has the derivative. From a nan on all are nan.",
       .entry = entry_of<cummax>()},
      {.name = "cummin",
       .signature = "(x, /, axis=-1) -> (values, indices)",
       .doc = "The smallest entry up to each one along an axis, and where it is: of equal ones the "
              "last, which has the derivative. From a nan on all are nan.",
       .entry = entry_of<cummin>()},
      {.name = "logcumsumexp",
       .signature = "(x, /, axis=-1)",
       .doc = "The logarithm of the sum of exponentials of all entries up to each one along an "
              "axis, without overflow.",
       .entry = entry_of<logcumsumexp>()},
      {.name = "trapezoid",
       .signature = "(y, x=None, *, dx=1.0, axis=-1)",
       .doc = "The integral along an axis by the trapezoidal rule, at points x or dx apart. x "
              "broadcasts with y, or is a vector along the axis.",
       .entry = entry_of<trapezoid>()},
      {.name = "cumulative_trapezoid",
       .signature = "(y, x=None, *, dx=1.0, axis=-1, initial=None)",
       .doc = "Integrals from the first point to each other one along an axis by the trapezoidal "
              "rule, at points x or dx apart; with initial=0 to the first one too.",
       .entry = entry_of<cumulative_trapezoid>()},
      {.name = "gradient",
       .signature = "(x, /, *spacing, axis=None, edge_order=1) -> one or tuple",
       .doc = "Slopes of values on a grid along one axis, several, or all: one tensor for each, or "
              "only one.\n\n"
              "They are central differences inside, where the points need not be evenly spaced, of "
              "order `edge_order` at the ends. `spacing` is a number for all axes, or for each a "
              "number or the coordinates of the points, whose differences are taken in their own "
              "dtype: the result has that of x.",
       .entry = entry_of<gradient>()},
  });
}

}  // namespace adjoint
