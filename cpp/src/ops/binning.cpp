// Values by places: interpolation in a table, counts and sums of what falls into bins or has a
// number. How many bins there are is known, or found out from values, which then have to be.
#include <algorithm>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "ops/check.h"
#include "ops/indexing.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Tensor whole(std::int64_t v) { return Tensor::scalar(v, DType::int64); }

void require_integers(const Tensor& x, const char* what, const char* op) {
  if (!is_integer(x.dtype()))
    raise(ErrorKind::type, op,
          std::string(what) + " must be integers, not " + std::string(name(x.dtype())) +
              ": convert with astype");
}

/// Sums of the entries of `data` that have the same number, from 0 to below `count`.
Tensor sums_by_number(const Tensor& data, const Tensor& numbers, std::int64_t count,
                      const char* op) {
  const std::string range = count > 0 ? "from 0 to " + std::to_string(count - 1) : "of none";
  const Tensor index = checked_numbers(
      numbers, count, op, "a number is out of range: it must be " + range, ErrorKind::index);
  Dims shape(data.shape().subspan(static_cast<std::size_t>(numbers.ndim())));
  shape.insert(0, count);
  return add_entries(zeros(shape, data.dtype()), index, data, 0, 0);
}

/// The numbers, which have to be known where `count`, how many results there are, is not given.
std::vector<std::int64_t> numbers_known(const Tensor& numbers, const char* op, const char* count) {
  try {
    return known_integers(numbers, op);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::traced) throw;
    raise(ErrorKind::traced, op,
          "how many results there are depends on values, which inside compile and vmap are not "
          "known: give " +
              std::string(count));
  }
}

/// One more than the largest of the numbers, whose values have to be known; at least `least`.
std::int64_t count_of(const Tensor& numbers, std::int64_t least, const char* op,
                      const char* count) {
  const std::vector<std::int64_t> known = numbers_known(numbers, op, count);
  for (const std::int64_t n : known) {
    if (n < 0)
      raise(ErrorKind::value, op, "needs numbers that are not negative, got " + std::to_string(n));
    if (n > (std::int64_t{1} << 48))
      raise(ErrorKind::value, op, "the number " + std::to_string(n) + " is too large to count to");
    least = std::max(least, n + 1);
  }
  return least;
}

}  // namespace

// -------------------------------------------------------------------------------------- interp

namespace {

/// How far `at` is from `low` to `high`, as a share: of infinite points the other one is near.
Tensor share_between(const Tensor& low, const Tensor& high, const Tensor& at) {
  const Tensor zero = scalar_like(at, 0), one = scalar_like(at, 1);
  // In halves where the distance of finite points overflows.
  const Tensor unit = where(isinf(high - low), scalar_like(at, 0.5), one);
  const Tensor step = high * unit - low * unit;
  const Tensor none = equal(step, zero);  // of two equal points the later one
  const Tensor share = (at * unit - low * unit) / where(none, one, step);
  const Tensor nan = scalar_like(at, std::numeric_limits<double>::quiet_NaN());
  const Tensor past = where(equal(at, low), zero, where(isinf(high), nan, one));
  return where(isinf(low), past, where(isinf(high), zero, share));
}

}  // namespace

Tensor interp(const Tensor& x, const Tensor& xp, const Tensor& fp,
              const std::optional<Tensor>& left, const std::optional<Tensor>& right) {
  const char* const op = "interp";
  if (xp.ndim() != 1 || fp.ndim() != 1 || xp.size() != fp.size() || xp.size() == 0)
    raise(ErrorKind::value, op,
          "xp and fp must be vectors of one length, at least 1: shapes " + to_string(xp.shape()) +
              " and " + to_string(fp.shape()));
  const DType dtype =
      promote(promote(in_floating(x).dtype(), in_floating(xp).dtype()), in_floating(fp).dtype());
  const Tensor at = astype(x, dtype), points = astype(xp, dtype), values = astype(fp, dtype);
  const std::int64_t n = points.size();
  const auto entry = [&](const Tensor& v, std::int64_t i) {
    return reshape(entries_along(v, 0, i, 1), Dims{});
  };
  const Tensor first = entry(points, 0), last = entry(points, n - 1);
  const Tensor before = left ? astype(*left, dtype) : entry(values, 0);
  const Tensor after = right ? astype(*right, dtype) : entry(values, n - 1);
  Tensor inside = where(isnan(at), at, entry(values, 0));
  if (n > 1) {
    const Tensor found = subtract(searchsorted(points, at, "right"), whole(1));
    const Tensor i = minimum(maximum(found, whole(0)), whole(n - 2));
    const Tensor j = add(i, whole(1));
    const Tensor share = share_between(take(points, i, 0), take(points, j, 0), at);
    const Tensor low = take(values, i, 0), high = take(values, j, 0);
    // Between infinite points there is no share, and on a flat segment none is needed.
    const Tensor flat = logical_and(equal(low, high), logical_not(isnan(at)));
    inside = mix(low, high, where(logical_and(isnan(share), flat), scalar_like(share, 0), share));
  }
  const Tensor most = where(equal(at, last), entry(values, n - 1), inside);
  return where(less(at, first), before, where(greater(at, last), after, most));
}

// ------------------------------------------------------------------------- bincount, segment_sum

Tensor bincount(const Known& numbers, const std::optional<Tensor>& weights, std::int64_t minlength,
                std::optional<std::int64_t> length) {
  const char* const op = "bincount";
  const Tensor& x = numbers.value;
  require_integers(x, "x", op);
  if (x.ndim() != 1)
    raise(ErrorKind::value, op, "needs a vector, shape is " + to_string(x.shape()));
  if (minlength < 0 || length.value_or(0) < 0)
    raise(ErrorKind::value, op, "a length must not be negative");
  if (weights && !std::ranges::equal(weights->shape(), x.shape()))
    raise(ErrorKind::value, op,
          "weights of shape " + to_string(weights->shape()) + " for " + to_string(x.shape()) +
              " numbers: one each is needed");
  const Tensor data = weights ? in_floating(*weights) : ones(Dims(x.shape()), DType::int64);
  return sums_by_number(data, x, length ? *length : count_of(x, minlength, op, "length="), op);
}

Tensor segment_sum(const Tensor& data, const Known& given_ids,
                   std::optional<std::int64_t> num_segments) {
  const char* const op = "segment_sum";
  const Tensor& segment_ids = given_ids.value;
  require_integers(segment_ids, "segment_ids", op);
  if (segment_ids.ndim() != 1 || data.ndim() < 1 || data.shape()[0] != segment_ids.size())
    raise(ErrorKind::value, op,
          "segment_ids must have one entry for each along the first axis of data: shapes " +
              to_string(segment_ids.shape()) + " and " + to_string(data.shape()));
  if (num_segments.value_or(0) < 0)
    raise(ErrorKind::value, op, "num_segments must not be negative");
  if (is_bool(data.dtype()))
    raise(ErrorKind::type, op, "data must be numbers, not bool: convert with astype");
  return sums_by_number(
      astype(data, summed_dtype(data.dtype())), segment_ids,
      num_segments ? *num_segments : count_of(segment_ids, 0, op, "num_segments="), op);
}

// ----------------------------------------------------------------------------------- histogram

namespace {

constexpr const char* kHistogram = "histogram";

/// Edges that are given, none of which may lie below the one before.
Tensor rising(const Tensor& edges) {
  return checked_whole(edges, logical_not(any_neighbours(edges, greater)), kHistogram,
                       "the edges given as bins must not fall: sort them");
}

/// The edges of `count` bins of one width between the bounds, or between the extremes of the data.
Tensor even_edges(const Tensor& x, std::int64_t count, const std::optional<Tensor>& range) {
  if (count < 1)
    raise(ErrorKind::value, kHistogram,
          "the number of bins must be positive, got " + std::to_string(count));
  if (range && (range->ndim() != 1 || range->size() != 2))
    raise(ErrorKind::value, kHistogram,
          "range must be two numbers, shape is " + to_string(range->shape()));
  const auto bound = [&](std::int64_t i) {
    return reshape(entries_along(astype(*range, x.dtype()), 0, i, 1), Dims{});
  };
  Tensor low, high;
  if (range) {
    low = bound(0);
    high = bound(1);
    low = checked_whole(low, logical_and(less_equal(low, high), isfinite(high - low)), kHistogram,
                        "the bounds of range must be finite numbers, the lower one first");
  } else if (x.size() == 0) {
    low = scalar_like(x, 0);
    high = scalar_like(x, 1);
  } else {
    low = min(x);
    high = max(x);
    low = checked_whole(low, isfinite(high - low), kHistogram,
                        "the values must be finite to find the range of the bins: give range=, or "
                        "the edges as bins");
  }
  const Tensor same = equal(low, high);  // then the bins reach half a unit to both sides
  const Tensor half = where(same, scalar_like(x, 0.5), scalar_like(x, 0));
  low = low - half;
  high = high + half;
  const Tensor steps = astype(arange(std::int64_t{0}, count), x.dtype());
  const Tensor inner = steps * ((high - low) / scalar_like(x, static_cast<double>(count))) + low;
  return concat(std::vector{inner, reshape(high, Dims{1})}, 0);
}

}  // namespace

std::tuple<Tensor, Tensor> histogram(const Tensor& x, const Known& given_bins,
                                     const std::optional<Tensor>& range,
                                     const std::optional<Tensor>& weights, bool density) {
  const Tensor& bins = given_bins.value;
  const Tensor values = ravel(held(in_floating(x)));
  if (weights && !std::ranges::equal(weights->shape(), x.shape()))
    raise(ErrorKind::value, kHistogram,
          "weights of shape " + to_string(weights->shape()) + " for values of shape " +
              to_string(x.shape()) + ": one each is needed");
  if (bins.ndim() > 1 || (bins.ndim() == 0 && !is_integer(bins.dtype())) ||
      (bins.ndim() == 1 && bins.size() < 2))
    raise(ErrorKind::value, kHistogram,
          "bins must be an int, or the edges in a vector of at least two, not " +
              std::string(name(bins.dtype())) + " of shape " + to_string(bins.shape()));
  const Tensor edges = bins.ndim() == 1
                           ? rising(held(bins))
                           : even_edges(values, known_integers(bins, kHistogram).front(), range);
  const std::int64_t count = edges.size() - 1;
  // Bins hold their lower edge, the last one its upper edge too. Others and nan go to one beyond.
  const Tensor last = reshape(entries_along(edges, 0, count, 1), Dims{});
  const Tensor found = subtract(searchsorted(edges, values, "right"), whole(1));
  const Tensor at = where(equal(values, last), whole(count - 1), found);
  const Tensor outside =
      logical_or(logical_or(less(at, whole(0)), greater(values, last)), isnan(values));
  const Tensor number = where(outside, whole(count), at);
  const Tensor data = weights ? ravel(*weights) : ones(Dims(values.shape()), DType::int64);
  Tensor sums = entries_along(sums_by_number(data, number, count + 1, kHistogram), 0, 0, count);
  if (density) {
    const Tensor wide = in_floating(sums);
    sums = wide / diff(in_floating(edges)) / sum(wide);
  }
  return {sums, edges};
}

void register_binning_ops() {
  register_functions({
      {.name = "interp",
       .signature = "(x, xp, fp, /, left=None, right=None)",
       .doc =
           "The piecewise linear function through the points (xp, fp), of ascending xp, at x.\n\n"
           "Before the first point it is `left`, after the last `right`; those of fp where they "
           "are not given. At a point the derivative in x is that of the segment after it.",
       .entry = entry_of<interp>(),
       .promotes = true},
      {.name = "bincount",
       .signature = "(x, /, weights=None, minlength=0, *, length=None)",
       .doc =
           "How often each number 0, 1, ... occurs in a vector, or the sum of its weights.\n\n"
           "The result ends with the largest number, unless `minlength` is more. `length` states "
           "how long it is, which is needed where the values are not known yet, in `vmap` and "
           "`compile`; a number beyond raises.",
       .entry = entry_of<bincount>()},
      {.name = "segment_sum",
       .signature = "(data, segment_ids, /, num_segments=None)",
       .doc = "Sums of the entries along the first axis that have the same number; narrow integers "
              "in 64 bits.\n\n"
              "There are `num_segments` sums, or one more than the largest number, where the "
              "values are known. A number outside raises.",
       .entry = entry_of<segment_sum>()},
      {.name = "histogram",
       .signature = "(x, /, bins=10, range=None, *, weights=None, density=False) "
                    "-> (hist, bin_edges)",
       .doc = "How many values fall into each bin, or the sum of their weights, and the edges.\n\n"
              "`bins` is a number of bins of one width, from the least value to the largest or "
              "between the two of `range`, or all edges. Each bin holds its lower edge, the last "
              "one both. With `density` the integral is 1. There is a derivative in the weights "
              "alone.",
       .entry = entry_of<histogram>()},
  });
}

}  // namespace adjoint
