// Functions made of others: names of NumPy, SciPy and PyTorch for joins, products, averages and
// comparisons. Being made of operations, they have every derivative, batch and compiled form
// themselves.
#include <algorithm>
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

std::vector<Tensor> each(std::span<const Tensor> arrays, Tensor (*f)(const Tensor&)) {
  std::vector<Tensor> out;
  out.reserve(arrays.size());
  for (const Tensor& x : arrays) out.push_back(f(x));
  return out;
}

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

// ----------------------------------------------------------------------------------- statistics

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
  auto [f, w] = in_one_floating(x, *weights);
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

// ------------------------------------------------------------------------- the larger, the smaller

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
  const auto [x, at_zero] = in_one_floating(x1, x2);
  const Tensor step = where(isnan(x), x, astype(greater(x, like(x, 0)), x.dtype()));
  return where(equal(x, like(x, 0)), at_zero, step);
}
[[maybe_unused]] static const FunctionRecord& heaviside_function =
    statistics_family.offer({.name = "heaviside",
                             .signature = kOfTwo,
                             .doc = "0 for negative x1, 1 for positive ones, and x2 at 0.",
                             .entry = entry_of<heaviside>(),
                             .promotes = true});

namespace {

/// x * f(y), and 0 where x is 0, unless y is nan.
Tensor product_or_zero(const Tensor& x, const Tensor& y, Tensor (*f)(const Tensor&)) {
  const Tensor factor = in_floating(x), value = f(y);
  const Tensor usual = logical_and(equal(factor, like(factor, 0)), logical_not(isnan(y)));
  return where(usual, mul0(factor, value), factor * value);
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

Tensor xlogy(const Tensor& x, const Tensor& y) {
  const auto [a, b] = in_one_floating(x, y);
  return product_or_zero(a, b, log);
}
[[maybe_unused]] static const FunctionRecord& xlogy_function =
    statistics_family.offer({.name = "xlogy",
                             .signature = "(x, y, /)",
                             .doc = "x * log(y), and 0 where x is 0, unless y is nan.",
                             .entry = entry_of<xlogy>(),
                             .promotes = true});

Tensor xlog1py(const Tensor& x, const Tensor& y) {
  const auto [a, b] = in_one_floating(x, y);
  return product_or_zero(a, b, log1p);
}
[[maybe_unused]] static const FunctionRecord& xlog1py_function =
    statistics_family.offer({.name = "xlog1py",
                             .signature = "(x, y, /)",
                             .doc = "x * log(1 + y), and 0 where x is 0, unless y is nan.",
                             .entry = entry_of<xlog1py>(),
                             .promotes = true});

// Its slope is no product, whose second derivative would be made of parts that leave the range.
static Op& entr_record = statistics_family.define(
    {.name = "entr",
     .signature = kOfOne,
     .doc = "-x * log(x), 0 at 0; minus infinity for negative x.",
     .kind = OpKind::elementwise,
     .arity = 1,
     .dtypes = DTypeRule::floating,
     .partial = [](const RuleArgs& args, int) -> Partial {
       const Tensor& x = args.inputs[0];
       const Tensor below = less(x, like(x, 0));
       const Tensor inside = where(below, like(x, 1), x);
       return {.made = where(below, like(x, 0), like(x, -1) - log_of_tiny(inside))};
     },
     .needs = {1, 0, 0},
     .domain = {0.1, 3}});
Tensor entr(const Tensor& x) { return apply(entr_record, {&x}); }

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

// ----------------------------------------------------------------------------------- covariance
// etc.

namespace {

/// The weight of each of n observations as a row, none below 0; undefined where none are given.
Tensor observation_weights(const std::optional<Tensor>& given, const Tensor& rows, const char* what,
                           bool counts) {
  if (!given) return {};
  if (given->ndim() != 1 || given->shape()[0] != rows.shape()[1])
    raise(ErrorKind::value, "cov",
          std::string(what) + " of shape " + to_string(given->shape()) + " for " +
              std::to_string(rows.shape()[1]) + " observations: one is needed for each");
  Tensor weights = *given;
  if (counts && is_floating(weights.dtype()))
    weights = checked(weights, equal(weights, round(weights)), "cov",
                      std::string(what) + " count observations, and must be whole numbers",
                      ErrorKind::type);
  const Tensor below = less(weights, like(weights, 0));
  weights =
      checked(weights, logical_not(below), "cov", std::string(what) + " must not be negative");
  return astype(weights, rows.dtype());
}

/// A variable in each row.
Tensor rows_of_variables(const Tensor& m, bool rowvar, const char* op) {
  if (m.ndim() > 2)
    raise(ErrorKind::value, op, "needs a vector or a matrix, shape is " + to_string(m.shape()));
  const Tensor rows = atleast_2d(in_floating(m));
  return !rowvar && m.ndim() == 2 ? matrix_transpose(rows) : rows;
}

/// The same with further variables, if there are any.
Tensor rows_of_variables(const Tensor& m, const std::optional<Tensor>& y, bool rowvar,
                         const char* op) {
  Tensor rows = rows_of_variables(m, rowvar, op);
  if (!y) return rows;
  const Tensor more = rows_of_variables(*y, rowvar, op);
  if (rows.shape()[1] != more.shape()[1])
    raise(ErrorKind::value, op,
          "the variables have " + std::to_string(rows.shape()[1]) + " and " +
              std::to_string(more.shape()[1]) + " observations: shapes " + to_string(m.shape()) +
              " and " + to_string(y->shape()));
  return concat(std::vector{rows, more}, 0);
}

}  // namespace

Tensor cov(const Tensor& m, const std::optional<Tensor>& y, bool rowvar, bool bias,
           std::optional<std::int64_t> ddof, const std::optional<Tensor>& fweights,
           const std::optional<Tensor>& aweights) {
  const Tensor rows = rows_of_variables(m, y, rowvar, "cov");
  const double taken = static_cast<double>(ddof.value_or(bias ? 0 : 1));
  const Tensor counts = observation_weights(fweights, rows, "fweights", true);
  const Tensor shares = observation_weights(aweights, rows, "aweights", false);
  Tensor out;
  if (!counts.defined() && !shares.defined()) {
    const Tensor centred = rows - mean(rows, 1, true);
    out = matmul(centred, matrix_transpose(centred)) /
          std::max(static_cast<double>(rows.shape()[1]) - taken, 0.0);
  } else {
    const Tensor w = !shares.defined() ? counts : !counts.defined() ? shares : counts * shares;
    const Tensor total = sum(w);
    const Tensor centred = rows - expand_dims(matmul(rows, w) / total, 1);
    // Counts stand for observations of their own, of which ddof are taken; of shares it is what
    // makes the estimate unbiased.
    const Tensor lost = shares.defined() ? sum(w * shares) * taken / total : scalar_like(w, taken);
    out = matmul(centred * w, matrix_transpose(centred)) / maximum(total - lost, scalar_like(w, 0));
  }
  return out.size() == 1 ? reshape(out, Dims{}) : out;
}
[[maybe_unused]] static const FunctionRecord& cov_function = statistics_family.offer(
    {.name = "cov",
     .signature = "(m, y=None, /, *, rowvar=True, bias=False, ddof=None, fweights=None, "
                  "aweights=None)",
     .doc = "Covariances of variables, of which each row, or column, holds the observations; `y` "
            "holds more of them.\n\n"
            "`fweights` says how often each observation was made, `aweights` how much it counts.\n"
            "Neither may be negative (ValueError), and the first must be whole (TypeError).",
     .entry = entry_of<cov>()});

/// Each variable in a unit near its largest observation, so that products of two neither vanish nor
/// overflow; the unit is a step, and cancels.
Tensor corrcoef(const Tensor& x, const std::optional<Tensor>& y, bool rowvar) {
  Tensor rows = rows_of_variables(x, y, rowvar, "corrcoef");
  if (rows.size() > 0) rows = rows / binade(max(abs(rows), 1, true));
  const Tensor c = cov(rows);
  if (c.ndim() == 0) return c / c;
  const Tensor spread = sqrt(diagonal(c));
  const Tensor r = c / outer(spread, spread);
  return r + held(clip(r, like(r, -1), like(r, 1)) - r);  // rounded, it may lie outside
}
[[maybe_unused]] static const FunctionRecord& corrcoef_function =
    statistics_family.offer({.name = "corrcoef",
                             .signature = "(x, y=None, /, *, rowvar=True)",
                             .doc = "Pearson's correlation coefficients of the rows, or columns, "
                                    "of x, and of those of y.",
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
