// Functions made of others that arrange, repeat, join and contract. Being made of operations, they
// have every derivative, batch and compiled form themselves.
#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "ops/indexing.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family arrange_family;

Tensor zero_like(const Tensor& x) {
  return zeros_view(Dims(static_cast<std::size_t>(x.ndim()), 1), x.dtype());
}

/// x[..., i, j] where keep(i, j); zeros elsewhere.
Tensor triangle(const Tensor& x, std::int64_t k, bool lower, const char* op) {
  if (x.ndim() < 2)
    raise(ErrorKind::value, op, "needs at least two dimensions, shape is " + to_string(x.shape()));
  const std::int64_t rows = x.shape()[x.ndim() - 2];
  const std::int64_t columns = x.shape()[x.ndim() - 1];
  const Tensor i = reshape(arange(std::int64_t{0}, rows), Dims{rows, 1});
  const Tensor j = arange(std::int64_t{0}, columns);
  const Tensor distance = subtract(j, i);
  const Tensor limit = Tensor::scalar(k, DType::int64);
  return where(lower ? less_equal(distance, limit) : greater_equal(distance, limit), x,
               zero_like(x));
}

/// With axes of length one in front, up to `ndim` of them.
Dims led_by_ones(const Dims& shape, std::size_t ndim) {
  Dims out(ndim > shape.size() ? ndim - shape.size() : 0, 1);
  out.append(shape.data(), shape.size());
  return out;
}

Dims broadcast_shape_of(std::span<const Tensor> arrays, const char* op) {
  Dims out;
  for (const Tensor& x : arrays) {
    const auto shape = x.shape();
    out = led_by_ones(out, shape.size());
    for (std::size_t i = 0; i < shape.size(); ++i) {
      std::int64_t& have = out[out.size() - shape.size() + i];
      if (have != shape[i] && have != 1 && shape[i] != 1)
        raise(ErrorKind::value, op,
              "shape " + to_string(shape) +
                  " does not broadcast with the others: extents must be "
                  "equal or 1, counted from the last axis");
      if (have == 1) have = shape[i];
    }
  }
  return out;
}

/// The diagonals of the matrices in the last two axes.
Tensor last_diagonal(const Tensor& x, std::int64_t offset) {
  const std::int64_t rows = x.shape()[x.ndim() - 2];
  const std::int64_t columns = x.shape()[x.ndim() - 1];
  const std::int64_t i = offset < 0 ? -offset : 0;
  const std::int64_t j = offset > 0 ? offset : 0;
  const std::int64_t count = std::max<std::int64_t>(0, std::min(rows - i, columns - j));
  Dims shape(x.shape().first(static_cast<std::size_t>(x.ndim() - 2)));
  const int at = x.ndim() - 2;
  shape.push_back(rows * columns);
  const Tensor flat = reshape(x, shape);
  if (count == 0) return entries_along(flat, at, 0, 0);
  return entries_along(flat, at, i * columns + j, count, columns + 1);
}

}  // namespace

Tensor held(const Tensor& x) {
  static const Op& stop = find_op("stop_gradient");
  return apply(stop, {&x});
}

// ------------------------------------------------------------------------------- arrangement

Tensor tril(const Tensor& x, std::int64_t k) { return triangle(x, k, true, "tril"); }
[[maybe_unused]] static const FunctionRecord& tril_function =
    arrange_family.offer({.name = "tril",
                          .signature = "(x, /, *, k=0)",
                          .doc = "The lower triangles of matrices: zeros above the k-th diagonal.",
                          .entry = entry_of<tril>()});

Tensor triu(const Tensor& x, std::int64_t k) { return triangle(x, k, false, "triu"); }
[[maybe_unused]] static const FunctionRecord& triu_function =
    arrange_family.offer({.name = "triu",
                          .signature = "(x, /, *, k=0)",
                          .doc = "The upper triangles of matrices: zeros below the k-th diagonal.",
                          .entry = entry_of<triu>()});

Tensor swapaxes(const Tensor& x, int axis1, int axis2) {
  Dims order = counting(x.ndim());
  std::swap(order[normalize_axis(axis1, x.ndim(), "swapaxes")],
            order[normalize_axis(axis2, x.ndim(), "swapaxes")]);
  return permute_dims(x, order);
}
[[maybe_unused]] static const FunctionRecord& swapaxes_function =
    arrange_family.offer({.name = "swapaxes",
                          .signature = "(x, axis1, axis2, /)",
                          .doc = "Two axes exchanged.",
                          .entry = entry_of<swapaxes>(),
                          .method = true});

Tensor ravel(const Tensor& x) { return reshape(x, Dims{-1}); }
[[maybe_unused]] static const FunctionRecord& ravel_function =
    arrange_family.offer({.name = "ravel",
                          .signature = "(x, /)",
                          .doc = "All elements in one axis.",
                          .entry = entry_of<ravel>(),
                          .method = true});

Tensor flatten(const Tensor& x) { return ravel(x); }
[[maybe_unused]] static const FunctionRecord& flatten_function =
    arrange_family.offer({.name = "flatten",
                          .signature = "(x, /)",
                          .doc = "All elements in one axis, NumPy's and PyTorch's method.",
                          .entry = entry_of<flatten>(),
                          .method = true});

Tensor copy(const Tensor& x) { return positive(x); }
[[maybe_unused]] static const FunctionRecord& copy_function = arrange_family.offer(
    {.name = "copy",
     .signature = "(x, /)",
     .doc = "The same elements in memory of their own; derivatives pass. As values never change, "
            "a copy is needed only to give memory back.",
     .entry = entry_of<copy>(),
     .method = true});

Tensor clone(const Tensor& x) { return positive(x); }
[[maybe_unused]] static const FunctionRecord& clone_function =
    arrange_family.offer({.name = "clone",
                          .signature = "(x, /)",
                          .doc = "`copy` by PyTorch's name; derivatives pass.",
                          .entry = entry_of<clone>(),
                          .method = true});

Tensor diagonal(const Tensor& x, std::int64_t offset, int axis1, int axis2) {
  const char* const op = "diagonal";
  if (x.ndim() < 2)
    raise(ErrorKind::value, op, "needs at least two dimensions, shape is " + to_string(x.shape()));
  const int first = normalize_axis(axis1, x.ndim(), op);
  const int second = normalize_axis(axis2, x.ndim(), op);
  if (first == second) raise(ErrorKind::value, op, "axis1 and axis2 must differ");
  return last_diagonal(moveaxis(x, Dims{first, second}, Dims{-2, -1}), offset);
}
[[maybe_unused]] static const FunctionRecord& diagonal_function =
    arrange_family.offer({.name = "diagonal",
                          .signature = "(x, /, offset=0, axis1=0, axis2=1)",
                          .doc = "Diagonals of the matrices in two axes, as a new last axis.",
                          .entry = entry_of<diagonal>(),
                          .method = true});

Tensor trace(const Tensor& x, std::int64_t offset, int axis1, int axis2,
             std::optional<DType> dtype) {
  return sum(diagonal(x, offset, axis1, axis2), -1, false, dtype);
}
[[maybe_unused]] static const FunctionRecord& trace_function =
    arrange_family.offer({.name = "trace",
                          .signature = "(x, /, offset=0, axis1=0, axis2=1, *, dtype=None)",
                          .doc = "Sums of the diagonals of the matrices in two axes.",
                          .entry = entry_of<trace>(),
                          .method = true});

Tensor roll(const Tensor& x, Tensor::Shape shift, const Axes& axis) {
  const char* const op = "roll";
  if (axis.all()) {
    if (shift.size() != 1) raise(ErrorKind::value, op, "several shifts need axis=");
    return reshape(roll(ravel(x), shift, 0), x.shape());
  }
  const auto axes = axis.given();
  if (shift.size() != axes.size() && shift.size() != 1 && axes.size() != 1)
    raise(ErrorKind::value, op,
          std::to_string(shift.size()) + " shifts for " + std::to_string(axes.size()) + " axes");
  Tensor out = x;
  const std::size_t rolls = shift.empty() || axes.empty() ? 0 : std::max(shift.size(), axes.size());
  for (std::size_t i = 0; i < rolls; ++i) {
    const int at = normalize_axis(axes[axes.size() == 1 ? 0 : i], x.ndim(), op);
    const std::int64_t n = x.shape()[at];
    if (n == 0) continue;
    const std::int64_t by = ((shift[shift.size() == 1 ? 0 : i] % n) + n) % n;
    if (by == 0) continue;
    out = concat(std::vector{entries_along(out, at, n - by, by), entries_along(out, at, 0, n - by)},
                 at);
  }
  return out;
}
[[maybe_unused]] static const FunctionRecord& roll_function = arrange_family.offer(
    {.name = "roll",
     .signature = "(x, /, shift, *, axis=None)",
     .doc = "Elements moved along axes; those that leave at one end enter at the other.",
     .entry = entry_of<roll>()});

Tensor tile(const Tensor& x, Tensor::Shape repetitions) {
  Dims shape(x.shape());
  Dims times(repetitions);
  for (const std::int64_t n : times)
    if (n < 0) raise(ErrorKind::value, "tile", "a number of repetitions is negative");
  times = led_by_ones(times, shape.size());
  shape = led_by_ones(shape, times.size());
  Dims apart, wide, whole;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    apart.push_back(1);
    apart.push_back(shape[i]);
    wide.push_back(times[i]);
    wide.push_back(shape[i]);
    whole.push_back(times[i] * shape[i]);
  }
  return reshape(broadcast_to(reshape(x, apart), wide), whole);
}
[[maybe_unused]] static const FunctionRecord& tile_function =
    arrange_family.offer({.name = "tile",
                          .signature = "(x, repetitions, /)",
                          .doc = "The whole tensor repeated along each axis.",
                          .entry = entry_of<tile>()});

Tensor repeat(const Tensor& x, const std::vector<std::int64_t>& repeats, std::optional<int> axis) {
  const char* const op = "repeat";
  if (!axis) return repeat(ravel(x), repeats, 0);
  const int at = normalize_axis(*axis, x.ndim(), op);
  const std::int64_t n = x.shape()[at];
  if (repeats.size() != 1 && repeats.size() != static_cast<std::size_t>(n))
    raise(ErrorKind::value, op,
          std::to_string(repeats.size()) + " numbers of repetitions for an axis of length " +
              std::to_string(n));
  constexpr std::int64_t most = std::int64_t{1} << 56;  // beyond any memory
  const std::int64_t each = repeats.size() == 1 ? std::max<std::int64_t>(n, 1) : 1;
  std::int64_t sum = 0;
  for (const std::int64_t count : repeats) {
    if (count < 0) raise(ErrorKind::value, op, "a number of repetitions is negative");
    if (count > most / each || (sum += count * each) > most)
      raise(ErrorKind::memory, op, "the repetitions are too many for any memory");
  }
  if (repeats.size() == 1) {
    const std::int64_t count = repeats[0];
    Dims wide(x.shape()), whole(x.shape());
    wide.insert(static_cast<std::size_t>(at) + 1, count);
    whole[at] = n * count;
    return reshape(broadcast_to(expand_dims(x, at + 1), wide), whole);
  }
  std::vector<std::int64_t> from;
  from.reserve(static_cast<std::size_t>(sum));
  for (std::size_t i = 0; i < repeats.size(); ++i)
    from.insert(from.end(), static_cast<std::size_t>(repeats[i]), static_cast<std::int64_t>(i));
  return take(x, integers_of(from), at);
}
[[maybe_unused]] static const FunctionRecord& repeat_function = arrange_family.offer(
    {.name = "repeat",
     .signature = "(x, repeats, /, *, axis=None)",
     .doc = "Each entry repeated along an axis; of all elements where it is None. `tile` repeats "
            "the whole.",
     .entry = entry_of<repeat>(),
     .method = true});

std::vector<Tensor> unstack(const Tensor& x, int axis) {
  const int at = normalize_axis(axis, x.ndim(), "unstack");
  std::vector<Tensor> out;
  for (std::int64_t i = 0; i < x.shape()[at]; ++i)
    out.push_back(squeeze(entries_along(x, at, i, 1), at));
  return out;
}
[[maybe_unused]] static const FunctionRecord& unstack_function =
    arrange_family.offer({.name = "unstack",
                          .signature = "(x, /, *, axis=0) -> tuple",
                          .doc = "The entries along an axis, one tensor each.",
                          .entry = entry_of<unstack>()});

std::vector<Tensor> broadcast_arrays(std::span<const Tensor> arrays) {
  const Dims shape = broadcast_shape_of(arrays, "broadcast_arrays");
  std::vector<Tensor> out;
  out.reserve(arrays.size());
  for (const Tensor& x : arrays) out.push_back(broadcast_to(x, shape));
  return out;
}
[[maybe_unused]] static const FunctionRecord& broadcast_arrays_function =
    arrange_family.offer({.name = "broadcast_arrays",
                          .signature = "(*arrays) -> list",
                          .doc = "Each tensor repeated to the shape that all of them broadcast to.",
                          .entry = entry_of<broadcast_arrays>()});

std::vector<Tensor> meshgrid(std::span<const Tensor> arrays, std::string_view indexing) {
  const char* const op = "meshgrid";
  if (indexing != "xy" && indexing != "ij")
    raise(ErrorKind::value, op,
          "indexing must be 'xy' or 'ij', not '" + std::string(indexing) + "'");
  const std::size_t n = arrays.size();
  const bool swapped = indexing == "xy" && n > 1;
  const auto axis_of = [&](std::size_t i) { return swapped && i < 2 ? 1 - i : i; };
  Dims shape(n, 1);
  for (std::size_t i = 0; i < n; ++i) {
    if (arrays[i].ndim() > 1)
      raise(ErrorKind::value, op, "needs 1-d tensors, shape " + to_string(arrays[i].shape()));
    shape[axis_of(i)] = arrays[i].size();
  }
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < n; ++i) {
    Dims line(n, 1);
    line[axis_of(i)] = arrays[i].size();
    out.push_back(broadcast_to(reshape(arrays[i], line), shape));
  }
  return out;
}
[[maybe_unused]] static const FunctionRecord& meshgrid_function =
    arrange_family.offer({.name = "meshgrid",
                          .signature = "(*arrays, indexing='xy') -> list",
                          .doc = "Coordinates of a grid, from those of each axis.",
                          .entry = entry_of<meshgrid>()});

// ------------------------------------------------------------------------------- along an axis

Tensor diff(const Tensor& x, int axis, std::int64_t n, const std::optional<Tensor>& prepend,
            const std::optional<Tensor>& append) {
  const int at = normalize_axis(axis, x.ndim(), "diff");
  if (n < 0) raise(ErrorKind::value, "diff", "n must not be negative, got " + std::to_string(n));
  if (n == 0) return x;
  // A number stands for itself beside every row.
  const auto beside = [&](const Tensor& given) {
    if (given.ndim() > 0) return given;
    Dims shape(x.shape());
    shape[at] = 1;
    return broadcast_to(given, shape);
  };
  std::vector<Tensor> parts;
  if (prepend) parts.push_back(beside(*prepend));
  parts.push_back(x);
  if (append) parts.push_back(beside(*append));
  Tensor out = parts.size() > 1 ? concat(parts, at) : x;
  const std::int64_t steps = std::min(n, out.shape()[at] + 1);  // after which none are left
  for (std::int64_t i = 0; i < steps; ++i) {
    const std::int64_t count = std::max<std::int64_t>(out.shape()[at] - 1, 0);
    const std::int64_t second = out.shape()[at] > 0 ? 1 : 0;
    const Tensor after = entries_along(out, at, second, count);
    const Tensor before = entries_along(out, at, 0, count);
    out = is_bool(out.dtype()) ? not_equal(after, before) : subtract(after, before);
  }
  return out;
}
[[maybe_unused]] static const FunctionRecord& diff_function = arrange_family.offer(
    {.name = "diff",
     .signature = "(x, /, *, axis=-1, n=1, prepend=None, append=None)",
     .doc = "Differences of neighbours along an axis, taken n times. `prepend` "
            "and `append` are joined to its ends before, a number to every "
            "row.",
     .entry = entry_of<diff>(),
     .promotes = true});

Tensor count_nonzero(const Tensor& x, const Axes& axis, bool keepdims) {
  return sum(astype(astype(x, DType::boolean), DType::int64), axis, keepdims);
}
[[maybe_unused]] static const FunctionRecord& count_nonzero_function =
    arrange_family.offer({.name = "count_nonzero",
                          .signature = "(x, /, *, axis=None, keepdims=False)",
                          .doc = "How many elements are not zero.",
                          .entry = entry_of<count_nonzero>()});

Tensor take_along_axis(const Tensor& x, const Tensor& indices, int axis) {
  const char* const op = "take_along_axis";
  const int at = normalize_axis(axis, x.ndim(), op);
  if (!is_integer(indices.dtype()))
    raise(ErrorKind::type, op,
          "indices must be integers, not " + std::string(name(indices.dtype())));
  if (indices.ndim() != x.ndim())
    raise(ErrorKind::value, op,
          "indices of shape " + to_string(indices.shape()) + " for shape " + to_string(x.shape()) +
              ": both need the same number of dimensions");
  // All other axes are broadcast together, and then counted by the index.
  Dims of_x(x.shape()), of_indices(indices.shape());
  const std::int64_t extent = of_x[at], count = of_indices[at];
  of_x[at] = of_indices[at] = 1;
  const Tensor ends[] = {zeros(of_x), zeros(of_indices)};
  Dims shape = broadcast_shape_of(ends, op);
  shape[at] = extent;
  const Dims order = moved_axis(x.ndim(), at, x.ndim() - 1);
  const Tensor rows = permute_dims(broadcast_to(x, shape), order);
  shape[at] = count;
  const Tensor picked = permute_dims(broadcast_to(indices, shape), order);
  const std::int64_t lines =
      product(rows.shape().first(static_cast<std::size_t>(at >= 0 ? x.ndim() - 1 : 0)));
  const Tensor inside = wrap_indices(picked, extent, at);
  const Tensor first =
      multiply(arange(std::int64_t{0}, lines), Tensor::scalar(extent, DType::int64));
  const Tensor index = add(reshape(inside, Dims{lines, count}), reshape(first, Dims{lines, 1}));
  const Tensor flat =
      take(reshape(rows, Dims{lines * extent}), reshape(index, Dims{lines * count}), 0);
  return permute_dims(reshape(flat, picked.shape()), inverse_permutation(order));
}
[[maybe_unused]] static const FunctionRecord& take_along_axis_function =
    arrange_family.offer({.name = "take_along_axis",
                          .signature = "(x, indices, /, *, axis=-1)",
                          .doc = "Entries along an axis, each row by indices of its own.",
                          .entry = entry_of<take_along_axis>()});

// --------------------------------------------------------------------------------- contraction

Tensor vecdot(const Tensor& x1, const Tensor& x2, int axis) {
  const char* const op = "vecdot";
  const int first = normalize_axis(axis, x1.ndim(), op);
  const int second = normalize_axis(axis, x2.ndim(), op);
  if (x1.shape()[first] != x2.shape()[second])
    raise(ErrorKind::value, op,
          "shapes " + to_string(x1.shape()) + " and " + to_string(x2.shape()) +
              " have different lengths along axis " + std::to_string(axis));
  const Tensor products =
      multiply(moveaxis(x1, Dims{first}, Dims{-1}), moveaxis(x2, Dims{second}, Dims{-1}));
  const DType dtype = products.dtype();  // which sum() would widen
  return sum(products, -1, false, is_bool(dtype) ? std::nullopt : std::optional(dtype));
}
[[maybe_unused]] static const FunctionRecord& vecdot_function =
    arrange_family.offer({.name = "vecdot",
                          .signature = "(x1, x2, /, *, axis=-1)",
                          .doc = "Sums of products along an axis; the other axes broadcast.",
                          .entry = entry_of<vecdot>(),
                          .promotes = true});

Tensor tensordot(const Tensor& x1, const Tensor& x2, const AxisPairs& axes) {
  const char* const op = "tensordot";
  Dims left, right;
  if (const auto n = axes.count()) {
    if (*n < 0 || *n > std::min(x1.ndim(), x2.ndim()))
      raise(ErrorKind::value, op,
            "axes=" + std::to_string(*n) + " for shapes " + to_string(x1.shape()) + " and " +
                to_string(x2.shape()));
    for (std::int64_t i = 0; i < *n; ++i) {
      left.push_back(x1.ndim() - *n + i);
      right.push_back(i);
    }
  } else {
    for (const std::int64_t a : axes.first()) left.push_back(normalize_axis(a, x1.ndim(), op));
    for (const std::int64_t a : axes.second()) right.push_back(normalize_axis(a, x2.ndim(), op));
  }
  if (left.size() != right.size())
    raise(ErrorKind::value, op, "both lists of axes must have the same length");
  Dims shape, order1, order2;
  std::int64_t rows = 1, columns = 1, summed = 1;
  for (int i = 0; i < x1.ndim(); ++i) {
    if (std::ranges::find(left, i) != left.end()) continue;
    order1.push_back(i);
    shape.push_back(x1.shape()[i]);
    rows *= shape.back();
  }
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (x1.shape()[left[i]] != x2.shape()[right[i]])
      raise(ErrorKind::value, op,
            "axis " + std::to_string(left[i]) + " of shape " + to_string(x1.shape()) +
                " and axis " + std::to_string(right[i]) + " of shape " + to_string(x2.shape()) +
                " have different lengths");
    order1.push_back(left[i]);
    order2.push_back(right[i]);
    summed *= x1.shape()[left[i]];
  }
  for (int i = 0; i < x2.ndim(); ++i) {
    if (std::ranges::find(right, i) != right.end()) continue;
    order2.push_back(i);
    shape.push_back(x2.shape()[i]);
    columns *= shape.back();
  }
  const Tensor a = reshape(permute_dims(x1, order1), Dims{rows, summed});
  const Tensor b = reshape(permute_dims(x2, order2), Dims{summed, columns});
  return reshape(matmul(a, b), shape);
}
[[maybe_unused]] static const FunctionRecord& tensordot_function = arrange_family.offer(
    {.name = "tensordot",
     .signature = "(x1, x2, /, *, axes=2)",
     .doc = "Sums of products over pairs of axes: the last `axes` of x1 with the first of x2, or "
            "two lists.",
     .entry = entry_of<tensordot>(),
     .promotes = true});

Tensor outer(const Tensor& x1, const Tensor& x2) {
  return multiply(reshape(x1, Dims{-1, 1}), reshape(x2, Dims{1, -1}));
}
[[maybe_unused]] static const FunctionRecord& outer_function =
    arrange_family.offer({.name = "outer",
                          .signature = "(x1, x2, /)",
                          .doc = "All products of an element of one and an element of the other.",
                          .entry = entry_of<outer>(),
                          .promotes = true});

// ------------------------------------------------------------------------------ softmax and kin

namespace {

bool has_empty_axis(const Tensor& x, const Dims& axes) {
  return std::ranges::any_of(axes, [&](std::int64_t a) { return x.shape()[a] == 0; });
}

}  // namespace

Tensor logsumexp(const Tensor& x, const Axes& axis, bool keepdims) {
  const Tensor f = in_floating(x);
  const Dims axes = chosen_axes(axis, x.ndim(), "logsumexp");
  if (has_empty_axis(f, axes)) return log(sum(exp(f), axes, keepdims));
  // A step: where the largest is infinite, nothing is taken away.
  const Tensor largest = max(f, axes, true), top = held(largest);
  const Tensor shift = where(isfinite(top), top, scalar_like(top, 0));
  const Tensor usual = log(sum(exp(f - shift), axes, true)) + shift;
  const Tensor infinite = scalar_like(top, std::numeric_limits<double>::infinity());
  const Tensor out = where(equal(top, infinite), largest, usual);
  return keepdims ? out : squeeze(out, axes);
}
[[maybe_unused]] static const FunctionRecord& logsumexp_function = arrange_family.offer(
    {.name = "logsumexp",
     .signature = "(x, /, axis=None, *, keepdims=False)",
     .doc = "The logarithm of the sum of exponentials, without overflow: -inf where there are "
            "none.\n\n"
            "Where entries are inf these alone have a derivative, in equal shares.",
     .entry = entry_of<logsumexp>()});

Tensor log_softmax(const Tensor& x, const Axes& axis) {
  Tensor f = in_floating(x);
  if (has_empty_axis(f, chosen_axes(axis, x.ndim(), "log_softmax"))) return f;
  const Tensor centred = f - held(max(f, axis, true));
  return centred - log(sum(exp(centred), axis, true));
}
[[maybe_unused]] static const FunctionRecord& log_softmax_function =
    arrange_family.offer({.name = "log_softmax",
                          .signature = "(x, /, axis=-1)",
                          .doc = "The logarithm of the softmax, without overflow.",
                          .entry = entry_of<log_softmax>()});

Tensor softmax(const Tensor& x, const Axes& axis) {
  Tensor f = in_floating(x);
  if (has_empty_axis(f, chosen_axes(axis, x.ndim(), "softmax"))) return f;
  const Tensor share = exp(f - held(max(f, axis, true)));
  return share / sum(share, axis, true);
}
[[maybe_unused]] static const FunctionRecord& softmax_function = arrange_family.offer(
    {.name = "softmax",
     .signature = "(x, /, axis=-1)",
     .doc = "Exponentials as shares of their sum along an axis; nan where one of them is inf.",
     .entry = entry_of<softmax>()});

void register_arrange_ops() { arrange_family.register_all(); }

}  // namespace adjoint
