// Functions made of others: names of NumPy, SciPy and PyTorch for joins, products, order statistics
// and what passes over nan. Being made of operations, they have every derivative, batch and
// compiled form themselves.
#include <algorithm>
#include <limits>
#include <numbers>
#include <string>
#include <tuple>
#include <vector>

#include "ops/check.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family statistics_family;

constexpr const char* kStatistic = "(x, /, axis=None, *, keepdims=False)";
constexpr const char* kJoined = "(arrays, /)";
constexpr const char* kOfOne = "(x, /)";
constexpr const char* kOfTwo = "(x1, x2, /)";
constexpr const char* kClose = "(a, b, /, rtol=1e-05, atol=1e-08, *, equal_nan=False)";

Tensor like(const Tensor& x, double value) { return Tensor::scalar(value, x.dtype()); }

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<Tensor> each(std::span<const Tensor> arrays, Tensor (*f)(const Tensor&)) {
  std::vector<Tensor> out;
  out.reserve(arrays.size());
  for (const Tensor& x : arrays) out.push_back(f(x));
  return out;
}

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

/// Of shares q from 0 to 1. Those of several come first.
Tensor quantile_at(const Tensor& x, const Tensor& q, const Axes& axis, bool keepdims,
                   const char* op) {
  const Tensor rows = sorted_over(x, axis, op);
  const int last = rows.ndim() - 1;
  const std::int64_t n = rows.shape()[last];
  const Tensor at = ravel(q) * static_cast<double>(n - 1);
  const Tensor low = floor(at);
  const Tensor high = minimum(low + 1.0, static_cast<double>(n - 1));
  const auto pick = [&](const Tensor& index) {
    return moveaxis(take(rows, astype(index, DType::int64), last), Dims{last}, Dims{0});
  };
  Dims wide(static_cast<std::size_t>(rows.ndim()), 1);
  wide[0] = -1;
  const Tensor share = astype(reshape(at - low, wide), rows.dtype());
  const Tensor largest = moveaxis(entry(rows, last, n - 1), Dims{last}, Dims{0});
  const Tensor found = where(isnan(largest), largest, mix(pick(low), pick(high), share));
  if (q.ndim() == 0) return with_axes(squeeze(found, 0), x, axis, keepdims, op);
  if (!keepdims) return found;
  Dims shape{q.size()};
  for (const std::int64_t e : x.shape()) shape.push_back(e);
  for (const std::int64_t a : chosen_axes(axis, x.ndim(), op)) shape[a + 1] = 1;
  return reshape(found, shape);
}

/// q in float64, from 0 to `most`; a nan is not.
Tensor checked_shares(const Tensor& q, double most, const char* op) {
  if (q.ndim() > 1)
    raise(ErrorKind::value, op, "q must have at most one dimension, shape " + to_string(q.shape()));
  const Tensor shares = astype(q, DType::float64);
  const Tensor inside =
      logical_and(greater_equal(shares, like(shares, 0)), less_equal(shares, like(shares, most)));
  const std::string range = most == 1 ? "from 0 to 1" : "from 0 to 100";
  return checked(shares, inside, op, "q must be " + range);
}

Tensor without_nan(const Tensor& x, double value) { return where(isnan(x), like(x, value), x); }

}  // namespace

// ---------------------------------------------------------------------------------------- joins

Tensor atleast_1d(const Tensor& x) { return x.ndim() >= 1 ? x : reshape(x, Dims{1}); }
[[maybe_unused]] static const FunctionRecord& atleast_1d_function =
    statistics_family.offer({.name = "atleast_1d",
                             .signature = kOfOne,
                             .doc = "With at least one axis.",
                             .entry = entry_of<atleast_1d>()});

Tensor atleast_2d(const Tensor& x) { return x.ndim() >= 2 ? x : expand_dims(atleast_1d(x), 0); }
[[maybe_unused]] static const FunctionRecord& atleast_2d_function =
    statistics_family.offer({.name = "atleast_2d",
                             .signature = kOfOne,
                             .doc = "With at least two axes; new ones come first.",
                             .entry = entry_of<atleast_2d>()});

Tensor atleast_3d(const Tensor& x) { return x.ndim() >= 3 ? x : expand_dims(atleast_2d(x), -1); }
[[maybe_unused]] static const FunctionRecord& atleast_3d_function =
    statistics_family.offer({.name = "atleast_3d",
                             .signature = kOfOne,
                             .doc = "With at least three axes; a matrix gets its third at the end.",
                             .entry = entry_of<atleast_3d>()});

Tensor hstack(std::span<const Tensor> arrays) {
  const std::vector<Tensor> parts = each(arrays, atleast_1d);
  return concat(parts, !parts.empty() && parts[0].ndim() == 1 ? 0 : 1);
}
[[maybe_unused]] static const FunctionRecord& hstack_function = statistics_family.offer(
    {.name = "hstack",
     .signature = kJoined,
     .doc = "Tensors joined along the second axis, vectors along their only one.",
     .entry = entry_of<hstack>()});

Tensor vstack(std::span<const Tensor> arrays) { return concat(each(arrays, atleast_2d), 0); }
[[maybe_unused]] static const FunctionRecord& vstack_function =
    statistics_family.offer({.name = "vstack",
                             .signature = kJoined,
                             .doc = "Tensors joined along the first axis; a vector is a row.",
                             .entry = entry_of<vstack>()});

Tensor dstack(std::span<const Tensor> arrays) { return concat(each(arrays, atleast_3d), 2); }
[[maybe_unused]] static const FunctionRecord& dstack_function =
    statistics_family.offer({.name = "dstack",
                             .signature = kJoined,
                             .doc = "Tensors joined along the third axis.",
                             .entry = entry_of<dstack>()});

Tensor fliplr(const Tensor& x) { return flip(x, 1); }
[[maybe_unused]] static const FunctionRecord& fliplr_function =
    statistics_family.offer({.name = "fliplr",
                             .signature = kOfOne,
                             .doc = "Elements in reverse along the second axis.",
                             .entry = entry_of<fliplr>()});

Tensor flipud(const Tensor& x) { return flip(x, 0); }
[[maybe_unused]] static const FunctionRecord& flipud_function =
    statistics_family.offer({.name = "flipud",
                             .signature = kOfOne,
                             .doc = "Elements in reverse along the first axis.",
                             .entry = entry_of<flipud>()});

Tensor diag(const Tensor& x, std::int64_t k) {
  if (x.ndim() == 2) return diagonal(x, k);
  if (x.ndim() != 1)
    raise(ErrorKind::value, "diag", "needs a vector or a matrix, shape is " + to_string(x.shape()));
  const std::int64_t n = x.shape()[0] + std::abs(k);
  const Tensor i = reshape(arange(std::int64_t{0}, n), Dims{n, 1});
  const Tensor on = equal(arange(std::int64_t{0}, n) - i, Tensor::scalar(k, DType::int64));
  // The entry of a row is that of its place on the diagonal; rows before it and after it have none.
  const std::int64_t lead = std::max<std::int64_t>(-k, 0);
  const Tensor rows = concat(std::vector{zeros(Dims{lead}, x.dtype()), x,
                                         zeros(Dims{n - lead - x.shape()[0]}, x.dtype())});
  return where(on, reshape(rows, Dims{n, 1}), like(x, 0));
}
[[maybe_unused]] static const FunctionRecord& diag_function = statistics_family.offer(
    {.name = "diag",
     .signature = "(x, /, k=0)",
     .doc = "The k-th diagonal of a matrix, or the matrix that has a vector on it.",
     .entry = entry_of<diag>()});

// ------------------------------------------------------------------------------------- products

Tensor dot(const Tensor& x1, const Tensor& x2) {
  if (x1.ndim() == 0 || x2.ndim() == 0) return multiply(x1, x2);
  if (x2.ndim() <= 2) return matmul(x1, x2);
  return tensordot(x1, x2, AxisPairs({-1}, {-2}));
}
[[maybe_unused]] static const FunctionRecord& dot_function = statistics_family.offer(
    {.name = "dot",
     .signature = kOfTwo,
     .doc = "Sums of products over the last axis of x1 and the last but one of x2.",
     .entry = entry_of<dot>(),
     .method = true,
     .promotes = true});

Tensor inner(const Tensor& x1, const Tensor& x2) {
  if (x1.ndim() == 0 || x2.ndim() == 0) return multiply(x1, x2);
  return tensordot(x1, x2, AxisPairs({-1}, {-1}));
}
[[maybe_unused]] static const FunctionRecord& inner_function =
    statistics_family.offer({.name = "inner",
                             .signature = kOfTwo,
                             .doc = "Sums of products over the last axes.",
                             .entry = entry_of<inner>(),
                             .promotes = true});

Tensor kron(const Tensor& x1, const Tensor& x2) {
  const auto ndim = static_cast<std::size_t>(std::max(x1.ndim(), x2.ndim()));
  Dims first, second, whole;
  for (std::size_t i = 0; i < ndim; ++i) {
    const auto extent = [&](const Tensor& x) {
      const std::size_t lead = ndim - static_cast<std::size_t>(x.ndim());
      return i < lead ? 1 : x.shape()[i - lead];
    };
    first.push_back(extent(x1));
    first.push_back(1);
    second.push_back(1);
    second.push_back(extent(x2));
    whole.push_back(extent(x1) * extent(x2));
  }
  return reshape(multiply(reshape(x1, first), reshape(x2, second)), whole);
}
[[maybe_unused]] static const FunctionRecord& kron_function =
    statistics_family.offer({.name = "kron",
                             .signature = kOfTwo,
                             .doc = "The Kronecker product: each element of x1 times all of x2.",
                             .entry = entry_of<kron>(),
                             .promotes = true});

Tensor cross(const Tensor& x1, const Tensor& x2, int axis) {
  const char* const op = "cross";
  const int first = normalize_axis(axis, x1.ndim(), op);
  const int second = normalize_axis(axis, x2.ndim(), op);
  if (x1.shape()[first] != 3 || x2.shape()[second] != 3)
    raise(ErrorKind::value, op,
          "needs three entries along axis " + std::to_string(axis) + ", shapes are " +
              to_string(x1.shape()) + " and " + to_string(x2.shape()));
  const std::int64_t forth[] = {-1}, back[] = {1};
  return roll(x1, forth, first) * roll(x2, back, second) -
         roll(x1, back, first) * roll(x2, forth, second);
}
[[maybe_unused]] static const FunctionRecord& cross_function = statistics_family.offer(
    {.name = "cross",
     .signature = "(x1, x2, /, *, axis=-1)",
     .doc = "The cross product of vectors of three entries; other axes broadcast.",
     .entry = entry_of<cross>(),
     .promotes = true});

// ------------------------------------------------------------------------------ order statistics

Tensor median(const Tensor& x, const Axes& axis, bool keepdims) {
  const Tensor rows = sorted_over(x, axis, "median");
  const int last = rows.ndim() - 1;
  const std::int64_t n = rows.shape()[last];
  const Tensor middle = n % 2 ? entry(rows, last, n / 2)
                              : (entry(rows, last, n / 2 - 1) + entry(rows, last, n / 2)) * 0.5;
  const Tensor largest = entry(rows, last, n - 1);
  const Tensor out = where(isnan(largest), largest, middle);
  return with_axes(squeeze(out, last), x, axis, keepdims, "median");
}
[[maybe_unused]] static const FunctionRecord& median_function = statistics_family.offer(
    {.name = "median",
     .signature = kStatistic,
     .doc = "The middle value over one axis, several, or all; nan where one is nan.",
     .entry = entry_of<median>()});

Tensor quantile(const Tensor& x, const Tensor& q, const Axes& axis, bool keepdims) {
  const char* const op = "quantile";
  return quantile_at(x, checked_shares(q, 1, op), axis, keepdims, op);
}
[[maybe_unused]] static const FunctionRecord& quantile_function = statistics_family.offer(
    {.name = "quantile",
     .signature = "(x, q, /, axis=None, *, keepdims=False)",
     .doc = "Values below which the share q lies, linear in between; nan where one is nan.\n\n"
            "The axis of several shares comes first. Raises ValueError where a share is not from "
            "0 to 1.",
     .entry = entry_of<quantile>()});

Tensor percentile(const Tensor& x, const Tensor& q, const Axes& axis, bool keepdims) {
  const char* const op = "percentile";
  return quantile_at(x, checked_shares(q, 100, op) / 100.0, axis, keepdims, op);
}
[[maybe_unused]] static const FunctionRecord& percentile_function =
    statistics_family.offer({.name = "percentile",
                             .signature = "(x, q, /, axis=None, *, keepdims=False)",
                             .doc = "Values below which q percent lie: `quantile` of q / 100.",
                             .entry = entry_of<percentile>()});

Tensor ptp(const Tensor& x, const Axes& axis, bool keepdims) {
  return max(x, axis, keepdims) - min(x, axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& ptp_function =
    statistics_family.offer({.name = "ptp",
                             .signature = kStatistic,
                             .doc = "The largest value less the least.",
                             .entry = entry_of<ptp>()});

Tensor average(const Tensor& x, const Axes& axis, const std::optional<Tensor>& weights,
               bool keepdims) {
  if (!weights) return mean(x, axis, keepdims);
  const char* const op = "average";
  Tensor w = in_floating(*weights);
  const Tensor f = in_floating(x);
  if (!std::ranges::equal(w.shape(), x.shape())) {
    const Dims axes = chosen_axes(axis, x.ndim(), op);
    if (w.ndim() != 1 || axes.size() != 1 || w.shape()[0] != x.shape()[axes[0]])
      raise(ErrorKind::value, op,
            "weights of shape " + to_string(w.shape()) + " for shape " + to_string(x.shape()) +
                ": they must have the same, or be one for each entry along one axis");
    Dims line(static_cast<std::size_t>(x.ndim()), 1);
    line[axes[0]] = w.shape()[0];
    w = broadcast_to(reshape(w, line), x.shape());
  }
  return sum(f * w, axis, keepdims) / sum(w, axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& average_function = statistics_family.offer(
    {.name = "average",
     .signature = "(x, /, axis=None, weights=None, *, keepdims=False)",
     .doc = "The mean over one axis, several, or all, with weights if given: of the shape of x, "
            "or one for each entry along the axis.",
     .entry = entry_of<average>()});

std::tuple<Tensor, Tensor> topk(const Tensor& x, std::int64_t k, int axis, bool largest) {
  const char* const op = "topk";
  const int at = normalize_axis(axis, x.ndim(), op);
  if (k < 0 || k > x.shape()[at])
    raise(ErrorKind::value, op,
          "k is " + std::to_string(k) + " for an axis of length " + std::to_string(x.shape()[at]));
  const Tensor indices = take(argsort(x, at, largest), arange(std::int64_t{0}, k), at);
  return {take_along_axis(x, indices, at), indices};
}
[[maybe_unused]] static const FunctionRecord& topk_function = statistics_family.offer(
    {.name = "topk",
     .signature = "(x, k, /, *, axis=-1, largest=True) -> (values, indices)",
     .doc = "The k largest entries along an axis in descending order, or the k smallest in "
            "ascending order, and where they are.",
     .entry = entry_of<topk>()});

// ------------------------------------------------------------------------------ passing over nan

Tensor nan_to_num(const Tensor& x, double nan, std::optional<double> posinf,
                  std::optional<double> neginf) {
  if (!is_floating(x.dtype())) return x;
  const double largest = x.dtype() == DType::float32 ? std::numeric_limits<float>::max()
                                                     : std::numeric_limits<double>::max();
  Tensor out = without_nan(x, nan);
  out = where(equal(x, like(x, kInf)), like(x, posinf.value_or(largest)), out);
  return where(equal(x, like(x, -kInf)), like(x, neginf.value_or(-largest)), out);
}
[[maybe_unused]] static const FunctionRecord& nan_to_num_function = statistics_family.offer(
    {.name = "nan_to_num",
     .signature = "(x, /, *, nan=0.0, posinf=None, neginf=None)",
     .doc = "Other numbers in the place of nan and infinities: the largest finite ones of the "
            "dtype, where none are given.",
     .entry = entry_of<nan_to_num>()});

Tensor nansum(const Tensor& x, const Axes& axis, bool keepdims) {
  return sum(is_floating(x.dtype()) ? without_nan(x, 0) : x, axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& nansum_function =
    statistics_family.offer({.name = "nansum",
                             .signature = kStatistic,
                             .doc = "The sum of what is not nan.",
                             .entry = entry_of<nansum>()});

Tensor nanmean(const Tensor& x, const Axes& axis, bool keepdims) {
  const Tensor f = in_floating(x);
  return nansum(f, axis, keepdims) / sum(astype(logical_not(isnan(f)), f.dtype()), axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& nanmean_function =
    statistics_family.offer({.name = "nanmean",
                             .signature = kStatistic,
                             .doc = "The mean of what is not nan.",
                             .entry = entry_of<nanmean>()});

namespace {

Tensor extreme_but_nan(const Tensor& x, const Axes& axis, bool keepdims, double least,
                       Tensor (*reduce)(const Tensor&, const Axes&, bool)) {
  if (!is_floating(x.dtype())) return reduce(x, axis, keepdims);
  const Tensor none = all(isnan(x), axis, keepdims);
  return where(none, like(x, kNan), reduce(without_nan(x, least), axis, keepdims));
}

}  // namespace

Tensor nanmax(const Tensor& x, const Axes& axis, bool keepdims) {
  return extreme_but_nan(x, axis, keepdims, -kInf, max);
}
[[maybe_unused]] static const FunctionRecord& nanmax_function =
    statistics_family.offer({.name = "nanmax",
                             .signature = kStatistic,
                             .doc = "The maximum of what is not nan.",
                             .entry = entry_of<nanmax>()});

Tensor nanmin(const Tensor& x, const Axes& axis, bool keepdims) {
  return extreme_but_nan(x, axis, keepdims, kInf, min);
}
[[maybe_unused]] static const FunctionRecord& nanmin_function =
    statistics_family.offer({.name = "nanmin",
                             .signature = kStatistic,
                             .doc = "The minimum of what is not nan.",
                             .entry = entry_of<nanmin>()});

Tensor fmax(const Tensor& x1, const Tensor& x2) {
  return where(isnan(x1), x2, where(isnan(x2), x1, maximum(x1, x2)));
}
[[maybe_unused]] static const FunctionRecord& fmax_function =
    statistics_family.offer({.name = "fmax",
                             .signature = kOfTwo,
                             .doc = "The larger one; the other one of a nan.",
                             .entry = entry_of<fmax>(),
                             .promotes = true});

Tensor fmin(const Tensor& x1, const Tensor& x2) {
  return where(isnan(x1), x2, where(isnan(x2), x1, minimum(x1, x2)));
}
[[maybe_unused]] static const FunctionRecord& fmin_function =
    statistics_family.offer({.name = "fmin",
                             .signature = kOfTwo,
                             .doc = "The smaller one; the other one of a nan.",
                             .entry = entry_of<fmin>(),
                             .promotes = true});

// ----------------------------------------------------------------------------------- comparison

Tensor isclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  const Tensor x = in_floating(a), y = in_floating(b);
  const Tensor near = less_equal(abs(x - y), abs(y) * rtol + atol);
  // Infinities are close where they are equal; nowhere else is the distance a finite one.
  Tensor out = where(logical_and(isfinite(x), isfinite(y)), near, equal(x, y));
  if (equal_nan) out = logical_or(out, logical_and(isnan(x), isnan(y)));
  return out;
}
[[maybe_unused]] static const FunctionRecord& isclose_function =
    statistics_family.offer({.name = "isclose",
                             .signature = kClose,
                             .doc = "Whether |a - b| <= atol + rtol * |b|, element by element.",
                             .entry = entry_of<isclose>(),
                             .promotes = true});

Tensor allclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  return all(isclose(a, b, rtol, atol, equal_nan));
}
[[maybe_unused]] static const FunctionRecord& allclose_function =
    statistics_family.offer({.name = "allclose",
                             .signature = kClose,
                             .doc = "Whether |a - b| <= atol + rtol * |b| for every element.",
                             .entry = entry_of<allclose>(),
                             .promotes = true});

// ----------------------------------------------------------------------------------- elementwise

Tensor deg2rad(const Tensor& x) { return in_floating(x) * (std::numbers::pi / 180); }
[[maybe_unused]] static const FunctionRecord& deg2rad_function =
    statistics_family.offer({.name = "deg2rad",
                             .signature = kOfOne,
                             .doc = "From degrees to radians.",
                             .entry = entry_of<deg2rad>()});

Tensor rad2deg(const Tensor& x) { return in_floating(x) * (180 / std::numbers::pi); }
[[maybe_unused]] static const FunctionRecord& rad2deg_function =
    statistics_family.offer({.name = "rad2deg",
                             .signature = kOfOne,
                             .doc = "From radians to degrees.",
                             .entry = entry_of<rad2deg>()});

Tensor heaviside(const Tensor& x1, const Tensor& x2) {
  const Tensor x = in_floating(x1);
  const Tensor step = where(isnan(x), x, astype(greater(x, like(x, 0)), x.dtype()));
  return where(equal(x, like(x, 0)), x2, step);
}
[[maybe_unused]] static const FunctionRecord& heaviside_function =
    statistics_family.offer({.name = "heaviside",
                             .signature = kOfTwo,
                             .doc = "0 for negative x1, 1 for positive ones, and x2 at 0.",
                             .entry = entry_of<heaviside>(),
                             .promotes = true});

namespace {

/// 0 where x is 0, unless y is nan.
Tensor product_or_zero(const Tensor& x, const Tensor& y) {
  const Tensor f = in_floating(x);
  const Tensor usual = logical_and(equal(f, like(f, 0)), logical_not(isnan(y)));
  return where(usual, mul0(f, y), f * y);
}

/// The logarithm with the slope 1/x of numbers whose inverse overflows: theirs are taken in a unit
/// that is not as small. It changes no bit of the others.
Tensor log_of_tiny(const Tensor& x) {
  constexpr double unit = 0x1p60;
  const double least = x.dtype() == DType::float32 ? 0x1p-124 : 0x1p-1020;
  const Tensor tiny = less(x, like(x, least));
  return log(x * where(tiny, like(x, unit), like(x, 1))) -
         where(tiny, like(x, std::log(unit)), like(x, 0));
}

}  // namespace

Tensor xlogy(const Tensor& x, const Tensor& y) { return product_or_zero(x, log(in_floating(y))); }
[[maybe_unused]] static const FunctionRecord& xlogy_function =
    statistics_family.offer({.name = "xlogy",
                             .signature = "(x, y, /)",
                             .doc = "x * log(y), and 0 where x is 0.",
                             .entry = entry_of<xlogy>(),
                             .promotes = true});

Tensor xlog1py(const Tensor& x, const Tensor& y) {
  return product_or_zero(x, log1p(in_floating(y)));
}
[[maybe_unused]] static const FunctionRecord& xlog1py_function =
    statistics_family.offer({.name = "xlog1py",
                             .signature = "(x, y, /)",
                             .doc = "x * log(1 + y), and 0 where x is 0.",
                             .entry = entry_of<xlog1py>(),
                             .promotes = true});

Tensor entr(const Tensor& x) {
  const Tensor f = in_floating(x);
  const Tensor inside = where(less(f, like(f, 0)), like(f, 1), f);
  const Tensor product = product_or_zero(inside, log_of_tiny(inside));
  return where(less(f, like(f, 0)), like(f, -kInf), like(f, 0) - product);
}
[[maybe_unused]] static const FunctionRecord& entr_function =
    statistics_family.offer({.name = "entr",
                             .signature = kOfOne,
                             .doc = "-x * log(x), 0 at 0; minus infinity for negative x.",
                             .entry = entry_of<entr>()});

/// Near 1/2, where both logarithms are large against the result, they are taken of what is near 1.
Tensor logit(const Tensor& x) {
  const Tensor f = in_floating(x), twice = (f - 0.5) * 2.0;
  const Tensor near = less(abs(twice), like(f, 0.4));
  return where(near, log1p(twice) - log1p(-twice), log(f) - log1p(-f));
}
[[maybe_unused]] static const FunctionRecord& logit_function =
    statistics_family.offer({.name = "logit",
                             .signature = kOfOne,
                             .doc = "log(x / (1 - x)), the inverse of sigmoid.",
                             .entry = entry_of<logit>()});

// --------------------------------------------------------------------------------- integrals etc.

Tensor trapezoid(const Tensor& y, const std::optional<Tensor>& x, double dx, int axis) {
  const int at = normalize_axis(axis, y.ndim(), "trapezoid");
  const Tensor rows = moveaxis(in_floating(y), Dims{at}, Dims{-1});
  const std::int64_t n = rows.shape()[rows.ndim() - 1];
  const int last = rows.ndim() - 1;
  const std::int64_t count = std::max<std::int64_t>(n - 1, 0);
  const Tensor later = take(rows, arange(std::min<std::int64_t>(n, 1), n), last);
  const Tensor pairs = (take(rows, arange(std::int64_t{0}, count), last) + later) * 0.5;
  if (!x) return sum(pairs, -1) * dx;
  const Tensor steps = x->ndim() == 1 ? diff(*x) : diff(moveaxis(*x, Dims{at}, Dims{-1}));
  return sum(pairs * steps, -1);
}
[[maybe_unused]] static const FunctionRecord& trapezoid_function = statistics_family.offer(
    {.name = "trapezoid",
     .signature = "(y, x=None, *, dx=1.0, axis=-1)",
     .doc = "The integral along an axis by the trapezoidal rule, at points x or dx apart.",
     .entry = entry_of<trapezoid>()});

Tensor cov(const Tensor& m, bool rowvar, bool bias, std::optional<std::int64_t> ddof) {
  if (m.ndim() > 2)
    raise(ErrorKind::value, "cov", "needs a vector or a matrix, shape is " + to_string(m.shape()));
  Tensor rows = atleast_2d(in_floating(m));
  if (!rowvar && m.ndim() == 2) rows = matrix_transpose(rows);
  const Tensor centred = rows - mean(rows, 1, true);
  const double taken = static_cast<double>(ddof.value_or(bias ? 0 : 1));
  const Tensor out = matmul(centred, matrix_transpose(centred)) /
                     std::max(static_cast<double>(rows.shape()[1]) - taken, 0.0);
  return out.size() == 1 ? reshape(out, Dims{}) : out;
}
[[maybe_unused]] static const FunctionRecord& cov_function = statistics_family.offer(
    {.name = "cov",
     .signature = "(m, /, *, rowvar=True, bias=False, ddof=None)",
     .doc = "Covariances of variables, of which each row, or column, holds the observations.",
     .entry = entry_of<cov>()});

Tensor corrcoef(const Tensor& x, bool rowvar) {
  const Tensor c = cov(x, rowvar, false, {});
  if (c.ndim() == 0) return c / c;
  const Tensor spread = sqrt(diagonal(c));
  return c / outer(spread, spread);
}
[[maybe_unused]] static const FunctionRecord& corrcoef_function =
    statistics_family.offer({.name = "corrcoef",
                             .signature = "(x, /, *, rowvar=True)",
                             .doc = "Pearson's correlation coefficients of the rows, or columns.",
                             .entry = entry_of<corrcoef>()});

Tensor one_hot(const Tensor& x, std::int64_t num_classes, std::optional<DType> dtype) {
  if (!is_integer(x.dtype()))
    raise(ErrorKind::type, "one_hot",
          "needs integers, not " + std::string(name(x.dtype())) + ": convert with astype");
  if (num_classes < 0) raise(ErrorKind::value, "one_hot", "num_classes must not be negative");
  const Tensor hit = equal(expand_dims(x, -1), arange(std::int64_t{0}, num_classes));
  return astype(hit, dtype.value_or(DType::float64));
}
[[maybe_unused]] static const FunctionRecord& one_hot_function = statistics_family.offer(
    {.name = "one_hot",
     .signature = "(x, /, num_classes, *, dtype=None)",
     .doc = "A new last axis with 1 at the index x and 0 elsewhere, also for an x outside.",
     .entry = entry_of<one_hot>()});

void register_statistics_ops() { statistics_family.register_all(); }

}  // namespace adjoint
