// Functions that pass over nan, or put something else in its place. Being made of operations, they
// have every derivative, batch and compiled form themselves.
#include <limits>

#include "ops/check.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family nan_family;

constexpr const char* kOverNan = "(x, /, axis=None, *, keepdims=False)";
constexpr const char* kMomentOverNan = "(x, /, axis=None, *, correction=0.0, keepdims=False)";
constexpr const char* kRunningOverNan = "(x, /, axis=None)";

constexpr double kBeyond = std::numeric_limits<double>::infinity();

/// Other types have no nan.
Tensor without_nan(const Tensor& x, double value) {
  return is_floating(x.dtype()) ? where(isnan(x), scalar_like(x, value), x) : x;
}

/// How many entries are not nan, in the dtype of x.
Tensor count_but_nan(const Tensor& x, const Axes& axis, bool keepdims) {
  return sum(astype(logical_not(isnan(x)), x.dtype()), axis, keepdims);
}

}  // namespace

Tensor nan_to_num(const Tensor& x, double nan, std::optional<double> posinf,
                  std::optional<double> neginf) {
  if (!is_floating(x.dtype())) return x;
  const double largest = x.dtype() == DType::float32 ? std::numeric_limits<float>::max()
                                                     : std::numeric_limits<double>::max();
  Tensor out = without_nan(x, nan);
  out = where(equal(x, scalar_like(x, kBeyond)), scalar_like(x, posinf.value_or(largest)), out);
  return where(equal(x, scalar_like(x, -kBeyond)), scalar_like(x, neginf.value_or(-largest)), out);
}
[[maybe_unused]] static const FunctionRecord& nan_to_num_function = nan_family.offer(
    {.name = "nan_to_num",
     .signature = "(x, /, *, nan=0.0, posinf=None, neginf=None)",
     .doc = "Other numbers in the place of nan and infinities: the largest finite ones of the "
            "dtype, where none are given.",
     .entry = entry_of<nan_to_num>()});

Tensor nansum(const Tensor& x, const Axes& axis, bool keepdims) {
  return sum(without_nan(x, 0), axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& nansum_function =
    nan_family.offer({.name = "nansum",
                      .signature = kOverNan,
                      .doc = "The sum of what is not nan.",
                      .entry = entry_of<nansum>()});

Tensor nanmean(const Tensor& x, const Axes& axis, bool keepdims) {
  const Tensor f = in_floating(x);
  return nansum(f, axis, keepdims) / count_but_nan(f, axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& nanmean_function =
    nan_family.offer({.name = "nanmean",
                      .signature = kOverNan,
                      .doc = "The mean of what is not nan.",
                      .entry = entry_of<nanmean>()});

namespace {

Tensor extreme_but_nan(const Tensor& x, const Axes& axis, bool keepdims, double least,
                       Tensor (*reduce)(const Tensor&, const Axes&, bool)) {
  if (!is_floating(x.dtype())) return reduce(x, axis, keepdims);
  const Tensor beyond = scalar_like(x, least);
  const Tensor extreme = reduce(without_nan(x, least), axis, keepdims);
  // Where it is what stands in the place of a nan, all others are that too: their mean gives each
  // an equal share of the derivative, and a nan none. Of nan alone it is nan.
  return where(equal(extreme, beyond), nanmean(x, axis, keepdims), extreme);
}

}  // namespace

Tensor nanmax(const Tensor& x, const Axes& axis, bool keepdims) {
  return extreme_but_nan(x, axis, keepdims, -kBeyond, max);
}
[[maybe_unused]] static const FunctionRecord& nanmax_function =
    nan_family.offer({.name = "nanmax",
                      .signature = kOverNan,
                      .doc = "The maximum of what is not nan; ties share the derivative equally.",
                      .entry = entry_of<nanmax>()});

Tensor nanmin(const Tensor& x, const Axes& axis, bool keepdims) {
  return extreme_but_nan(x, axis, keepdims, kBeyond, min);
}
[[maybe_unused]] static const FunctionRecord& nanmin_function =
    nan_family.offer({.name = "nanmin",
                      .signature = kOverNan,
                      .doc = "The minimum of what is not nan; ties share the derivative equally.",
                      .entry = entry_of<nanmin>()});

Tensor nanprod(const Tensor& x, const Axes& axis, bool keepdims) {
  return prod(without_nan(x, 1), axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& nanprod_function =
    nan_family.offer({.name = "nanprod",
                      .signature = kOverNan,
                      .doc = "The product of what is not nan.",
                      .entry = entry_of<nanprod>()});

Tensor nanvar(const Tensor& x, const Axes& axis, double correction, bool keepdims) {
  const Tensor f = in_floating(x);
  // Of an infinity the difference is nan, and so is the variance.
  const Tensor apart = where(isnan(f), scalar_like(f, 0), f - nanmean(f, axis, true));
  const Tensor divisor = maximum(count_but_nan(f, axis, keepdims) - correction, scalar_like(f, 0));
  return sum(square(apart), axis, keepdims) / divisor;
}
[[maybe_unused]] static const FunctionRecord& nanvar_function =
    nan_family.offer({.name = "nanvar",
                      .signature = kMomentOverNan,
                      .doc = "The variance of what is not nan; the divisor is the count of that "
                             "minus `correction`.",
                      .entry = entry_of<nanvar>()});

Tensor nanstd(const Tensor& x, const Axes& axis, double correction, bool keepdims) {
  return sqrt(nanvar(x, axis, correction, keepdims));
}
[[maybe_unused]] static const FunctionRecord& nanstd_function =
    nan_family.offer({.name = "nanstd",
                      .signature = kMomentOverNan,
                      .doc = "The standard deviation of what is not nan: the root of `nanvar`.",
                      .entry = entry_of<nanstd>()});

Tensor nancumsum(const Tensor& x, std::optional<int> axis) {
  return cumsum(without_nan(x, 0), axis);
}
[[maybe_unused]] static const FunctionRecord& nancumsum_function =
    nan_family.offer({.name = "nancumsum",
                      .signature = kRunningOverNan,
                      .doc = "Sums of what is not nan up to each entry along an axis; of all "
                             "elements in one axis where none is given.",
                      .entry = entry_of<nancumsum>()});

Tensor nancumprod(const Tensor& x, std::optional<int> axis) {
  return cumprod(without_nan(x, 1), axis);
}
[[maybe_unused]] static const FunctionRecord& nancumprod_function =
    nan_family.offer({.name = "nancumprod",
                      .signature = kRunningOverNan,
                      .doc = "Products of what is not nan up to each entry along an axis; of all "
                             "elements in one axis where none is given.",
                      .entry = entry_of<nancumprod>()});

namespace {

Tensor place_but_nan(const Tensor& x, const std::optional<int>& axis, bool keepdims, bool largest,
                     const char* op) {
  const Tensor kept = without_nan(x, largest ? -kBeyond : kBeyond);
  const Tensor place = largest ? argmax(kept, axis, keepdims) : argmin(kept, axis, keepdims);
  const Tensor some =
      any(logical_not(isnan(in_floating(x))), axis ? Axes(*axis) : Axes(), keepdims);
  return checked_whole(place, some, op, "where all entries are nan there is none to choose");
}

}  // namespace

Tensor nanargmax(const Tensor& x, std::optional<int> axis, bool keepdims) {
  return place_but_nan(x, axis, keepdims, true, "nanargmax");
}
[[maybe_unused]] static const FunctionRecord& nanargmax_function =
    nan_family.offer({.name = "nanargmax",
                      .signature = kOverNan,
                      .doc = "The index of the first maximum of what is not nan. A nan counts as "
                             "minus infinity for it, as in NumPy. Raises ValueError where all is.",
                      .entry = entry_of<nanargmax>()});

Tensor nanargmin(const Tensor& x, std::optional<int> axis, bool keepdims) {
  return place_but_nan(x, axis, keepdims, false, "nanargmin");
}
[[maybe_unused]] static const FunctionRecord& nanargmin_function =
    nan_family.offer({.name = "nanargmin",
                      .signature = kOverNan,
                      .doc = "The index of the first minimum of what is not nan. A nan counts as "
                             "infinity for it, as in NumPy. Raises ValueError where all is.",
                      .entry = entry_of<nanargmin>()});

void register_nan_ops() { nan_family.register_all(); }

}  // namespace adjoint
