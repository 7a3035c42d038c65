// Order statistics: medians, quantiles and percentiles, of everything or of what is not nan. Being
// made of operations, they have every derivative, batch and compiled form themselves.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "ops/check.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

/// Entry `index` of a sorted axis, which stays with length one.
Tensor entry(const Tensor& sorted, int axis, std::int64_t index) {
  return take(sorted, integers_of({index}), axis);
}

/// The axes as one, the last, in order; nan is last.
Tensor sorted_over(const Tensor& x, const Axes& axis, const char* op) {
  const Tensor f = in_floating(x);
  const Dims axes = chosen_axes(axis, f.ndim(), op);
  Dims order, shape;
  for (int i = 0; i < f.ndim(); ++i) {
    if (std::ranges::find(axes, i) != axes.end()) continue;
    order.push_back(i);
    shape.push_back(f.shape()[i]);
  }
  order.append(axes.data(), axes.size());
  std::int64_t count = 1;
  for (const std::int64_t a : axes) {
    count *= f.shape()[a];
    if (count == 0)
      raise(ErrorKind::value, op,
            "axis " + std::to_string(a) + " of shape " + to_string(x.shape()) +
                " is empty: there is nothing to choose from");
  }
  shape.push_back(count);
  return sort(reshape(permute_dims(f, order), shape));
}

/// A result of `sorted_over`, whose last axis is gone, with the axes that were chosen if wanted.
Tensor with_axes(const Tensor& y, const Tensor& x, const Axes& axis, bool keepdims,
                 const char* op) {
  if (!keepdims) return y;
  Dims shape(x.shape());
  for (const std::int64_t a : chosen_axes(axis, x.ndim(), op)) shape[a] = 1;
  return reshape(y, shape);
}

/// Where, between which entries of a sorted row, a quantile lies.
enum class Method : std::uint8_t { linear, lower, higher, midpoint, nearest };

Method method_of(std::string_view name, const char* op) {
  constexpr std::string_view names[] = {"linear", "lower", "higher", "midpoint", "nearest"};
  const auto* const found = std::ranges::find(names, name);
  if (found == std::end(names))
    raise(ErrorKind::value, op,
          "method must be 'linear', 'lower', 'higher', 'midpoint' or 'nearest', not '" +
              std::string(name) + "'");
  return static_cast<Method>(found - names);
}

/// Entries of sorted rows at places between them, which are counted from 0. The shape is that of
/// `at`; `pick` reads the entries at whole places.
template <class Pick>
Tensor entries_between(const Tensor& at, Method method, DType dtype, const Pick& pick) {
  const Tensor low = floor(at), high = ceil(at);
  switch (method) {
    case Method::lower: return pick(low);
    case Method::higher: return pick(high);
    case Method::nearest: return pick(round(at));
    case Method::midpoint: return midpoint(pick(low), pick(high));
    case Method::linear: break;
  }
  return mix(pick(low), pick(high), astype(at - low, dtype));
}

struct Chosen {
  const Axes& axis;
  bool keepdims;
  Method method;
  bool passes_nan;  // over nan; else one makes the result nan
};

/// Of shares q from 0 to 1. Those of several come first.
Tensor quantile_at(const Tensor& x, const Tensor& q, const Chosen& chosen, const char* op) {
  const Tensor rows = sorted_over(x, chosen.axis, op);
  const int last = rows.ndim() - 1;
  const auto n = static_cast<double>(rows.shape()[last]);
  Tensor found;  // with the shares as the last axis
  if (chosen.passes_nan) {
    const Tensor count = sum(astype(logical_not(isnan(rows)), DType::float64), -1, true);
    // A row of nan has its first one.
    const Tensor at = ravel(q) * maximum(count - 1.0, scalar_like(count, 0));
    found = entries_between(at, chosen.method, rows.dtype(), [&](const Tensor& index) {
      return take_along_axis(rows, astype(index, DType::int64), last);
    });
  } else {
    const Tensor at = ravel(q) * (n - 1);
    found = entries_between(at, chosen.method, rows.dtype(), [&](const Tensor& index) {
      return take(rows, astype(index, DType::int64), last);
    });
    const Tensor largest = entry(rows, last, rows.shape()[last] - 1);
    found = where(isnan(largest), largest, found);
  }
  found = moveaxis(found, Dims{last}, Dims{0});
  if (q.ndim() == 0) return with_axes(squeeze(found, 0), x, chosen.axis, chosen.keepdims, op);
  if (!chosen.keepdims) return found;
  Dims shape{q.size()};
  for (const std::int64_t e : x.shape()) shape.push_back(e);
  for (const std::int64_t a : chosen_axes(chosen.axis, x.ndim(), op)) shape[a + 1] = 1;
  return reshape(found, shape);
}

/// q in float64, from 0 to `most`; a nan is not.
Tensor checked_shares(const Tensor& q, double most, const char* op) {
  if (q.ndim() > 1)
    raise(ErrorKind::value, op, "q must have at most one dimension, shape " + to_string(q.shape()));
  const Tensor shares = astype(q, DType::float64);
  const Tensor inside = logical_and(greater_equal(shares, scalar_like(shares, 0)),
                                    less_equal(shares, scalar_like(shares, most)));
  const std::string range = most == 1 ? "from 0 to 1" : "from 0 to 100";
  return checked(shares, inside, op, "q must be " + range);
}

}  // namespace

Tensor median(const Tensor& x, const Axes& axis, bool keepdims) {
  const Tensor rows = sorted_over(x, axis, "median");
  const int last = rows.ndim() - 1;
  const std::int64_t n = rows.shape()[last];
  const Tensor middle = n % 2 ? entry(rows, last, n / 2)
                              : midpoint(entry(rows, last, n / 2 - 1), entry(rows, last, n / 2));
  const Tensor largest = entry(rows, last, n - 1);
  const Tensor out = where(isnan(largest), largest, middle);
  return with_axes(squeeze(out, last), x, axis, keepdims, "median");
}

Tensor nanmedian(const Tensor& x, const Axes& axis, bool keepdims) {
  const Tensor half = Tensor::scalar(0.5, DType::float64);
  return quantile_at(x, half, {axis, keepdims, Method::midpoint, true}, "nanmedian");
}

Tensor quantile(const Tensor& x, const Tensor& q, const Axes& axis, std::string_view method,
                bool keepdims) {
  const char* const op = "quantile";
  return quantile_at(x, checked_shares(q, 1, op), {axis, keepdims, method_of(method, op), false},
                     op);
}

Tensor percentile(const Tensor& x, const Tensor& q, const Axes& axis, std::string_view method,
                  bool keepdims) {
  const char* const op = "percentile";
  return quantile_at(x, checked_shares(q, 100, op) / 100.0,
                     {axis, keepdims, method_of(method, op), false}, op);
}

Tensor nanquantile(const Tensor& x, const Tensor& q, const Axes& axis, std::string_view method,
                   bool keepdims) {
  const char* const op = "nanquantile";
  return quantile_at(x, checked_shares(q, 1, op), {axis, keepdims, method_of(method, op), true},
                     op);
}

Tensor nanpercentile(const Tensor& x, const Tensor& q, const Axes& axis, std::string_view method,
                     bool keepdims) {
  const char* const op = "nanpercentile";
  return quantile_at(x, checked_shares(q, 100, op) / 100.0,
                     {axis, keepdims, method_of(method, op), true}, op);
}

namespace {

constexpr const char* kMedian = "(x, /, axis=None, *, keepdims=False)";
constexpr const char* kQuantile = "(x, q, /, axis=None, *, method='linear', keepdims=False)";

}  // namespace

void register_order_statistics_ops() {
  register_functions({
      {.name = "median",
       .signature = kMedian,
       .doc = "The middle value over one axis, several, or all; nan where one is nan.",
       .entry = entry_of<median>()},
      {.name = "nanmedian",
       .signature = kMedian,
       .doc = "The middle value of what is not nan.",
       .entry = entry_of<nanmedian>()},
      {.name = "quantile",
       .signature = kQuantile,
       .doc = "Values below which the share q lies; nan where one is nan.\n\n"
              "Between two entries `method` decides: 'linear', 'lower', 'higher', 'midpoint' or "
              "'nearest'. The axis of several shares comes first. Raises ValueError where a share "
              "is not from 0 to 1.",
       .entry = entry_of<quantile>()},
      {.name = "percentile",
       .signature = kQuantile,
       .doc = "Values below which q percent lie: `quantile` of q / 100.",
       .entry = entry_of<percentile>()},
      {.name = "nanquantile",
       .signature = kQuantile,
       .doc = "Values below which the share q of what is not nan lies: see `quantile`.",
       .entry = entry_of<nanquantile>()},
      {.name = "nanpercentile",
       .signature = kQuantile,
       .doc = "Values below which q percent of what is not nan lie: `nanquantile` of q / 100.",
       .entry = entry_of<nanpercentile>()},
  });
}

}  // namespace adjoint
