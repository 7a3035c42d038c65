// Functions that put entries into an axis and take them out, name places by one number or by
// several, look values up among others, and order an axis in part. Being made of operations, they
// have every derivative, batch and compiled form themselves.
#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "ops/check.h"
#include "ops/indexing.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

/// The entries of an axis of length n that are named, from 0 on and in the order given. An integer
/// may be n too where `end` is given.
std::vector<std::int64_t> named_entries(const Places& places, std::int64_t n, int axis,
                                        const char* op, bool end = false) {
  const IndexItem& item = places.item;
  if (item.kind == IndexItem::slice) {  // of values, which are known inside a trace too
    std::vector<std::int64_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    return known_integers(index(integers_of(all), {item}), op);
  }
  const Tensor given = item.kind == IndexItem::integer ? integers_of({item.start}) : item.tensor;
  if (is_bool(given.dtype())) {
    if (given.ndim() != 1 || given.shape()[0] != n)
      raise(ErrorKind::value, op,
            "a mask of shape " + to_string(given.shape()) + " for axis " + std::to_string(axis) +
                " of length " + std::to_string(n) + ": they must have the same length");
    return known_integers(flatnonzero(given), op);
  }
  if (!is_integer(given.dtype()) || given.ndim() > 1)
    raise(ErrorKind::type, op,
          "obj must be an int, a list of ints, a slice or a mask of bools, not " +
              std::string(name(given.dtype())) + " of shape " + to_string(given.shape()));
  std::vector<std::int64_t> out = known_integers(given, op);
  for (std::int64_t& i : out) {
    if (i < -n || i >= n + (end ? 1 : 0))
      raise(ErrorKind::index, op,
            "index " + std::to_string(i) + " is out of range for axis " + std::to_string(axis) +
                " of length " + std::to_string(n));
    if (i < 0) i += n;
  }
  return out;
}

Tensor with_leading_ones(const Tensor& x, int ndim) {
  Dims shape(static_cast<std::size_t>(std::max(ndim - x.ndim(), 0)), 1);
  shape.append(x.shape().data(), x.shape().size());
  return reshape(x, shape);
}

/// Strides, in elements, of a contiguous tensor, and how many elements it has.
struct Grid {
  Dims strides;
  std::int64_t size = 1;
};
Grid grid_of(Tensor::Shape shape, const char* op) {
  Grid grid{Dims(shape.size(), 0)};
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] < 0) raise(ErrorKind::value, op, "an extent is negative");
    grid.strides[i] = grid.size;
    if (shape[i] > 0 && grid.size > most / shape[i])
      raise(ErrorKind::value, op,
            "a tensor of shape " + to_string(shape) + " has too many elements");
    grid.size *= shape[i];
  }
  return grid;
}

Tensor in_range(const Tensor& given, std::int64_t extent, const char* op, const std::string& what) {
  if (!is_integer(given.dtype()))
    raise(ErrorKind::type, op,
          "needs integers, not " + std::string(name(given.dtype())) + ": convert with astype");
  return checked_numbers(given, extent, op, what);
}

void require_kth(const Tensor& x, const std::vector<std::int64_t>& kth, int axis, const char* op) {
  const std::int64_t n = x.shape()[axis];
  for (const std::int64_t k : kth)
    if (k < -n || k >= n)
      raise(ErrorKind::value, op,
            "kth is " + std::to_string(k) + " for an axis of length " + std::to_string(n));
}

}  // namespace

// ------------------------------------------------------------------------------- put in, taken out

Tensor append(const Tensor& x, const Tensor& values, std::optional<int> axis) {
  if (!axis) return concat(std::vector{ravel(x), ravel(values)}, 0);
  return concat(std::vector{x, values}, axis);
}

Tensor insert(const Tensor& x, const Places& obj, const Tensor& values, std::optional<int> axis) {
  const char* const op = "insert";
  if (!axis) return insert(ravel(x), obj, values, 0);
  const int at = normalize_axis(*axis, x.ndim(), op);
  const std::int64_t n = x.shape()[at];
  std::vector<std::int64_t> before = named_entries(obj, n, at, op, true);
  if (before.empty()) return positive(x);
  if (values.ndim() > x.ndim())
    raise(ErrorKind::value, op,
          "values of shape " + to_string(values.shape()) + " have more dimensions than shape " +
              to_string(x.shape()));
  Tensor v = with_leading_ones(values, x.ndim());
  const IndexItem& item = obj.item;
  const bool single =
      item.kind == IndexItem::integer || (item.kind == IndexItem::array && item.tensor.ndim() == 0);
  if (single) v = moveaxis(v, Dims{0}, Dims{at});
  // At one place as many entries go in as there are values.
  if (before.size() == 1) before.resize(static_cast<std::size_t>(v.shape()[at]), before.front());
  Dims slot(x.shape());
  slot[at] = static_cast<std::int64_t>(before.size());
  for (int i = 0; i < x.ndim(); ++i)
    if (v.shape()[i] != 1 && v.shape()[i] != slot[i])
      raise(ErrorKind::value, op,
            "values of shape " + to_string(values.shape()) + " do not broadcast to " +
                to_string(slot) + ", the entries that go in");
  std::vector<std::int64_t> order(before.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  const auto place = [&](std::int64_t i) { return before[static_cast<std::size_t>(i)]; };
  std::ranges::stable_sort(order, {}, place);
  std::vector<std::int64_t> from;
  std::int64_t next = 0;
  for (const std::int64_t i : order) {
    while (next < place(i)) from.push_back(next++);
    from.push_back(n + i);
  }
  while (next < n) from.push_back(next++);
  return take(concat(std::vector{x, broadcast_to(v, slot)}, at), integers_of(from), at);
}

Tensor delete_(const Tensor& x, const Places& obj, std::optional<int> axis) {
  const char* const op = "delete";
  if (!axis) return delete_(ravel(x), obj, 0);
  const int at = normalize_axis(*axis, x.ndim(), op);
  const std::int64_t n = x.shape()[at];
  std::vector<bool> gone(static_cast<std::size_t>(n), false);
  for (const std::int64_t i : named_entries(obj, n, at, op))
    gone[static_cast<std::size_t>(i)] = true;
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < n; ++i)
    if (!gone[static_cast<std::size_t>(i)]) kept.push_back(i);
  return take(x, integers_of(kept), at);
}

// ---------------------------------------------------------------------------------------- places

std::vector<Tensor> unravel_index(const Tensor& indices, Tensor::Shape shape) {
  const char* const op = "unravel_index";
  const Grid grid = grid_of(shape, op);
  const Tensor i =
      in_range(indices, grid.size, op, "an index lies outside of shape " + to_string(shape));
  std::vector<Tensor> out;
  for (std::size_t a = 0; a < shape.size(); ++a)
    out.push_back(remainder(floor_divide(i, Tensor::scalar(grid.strides[a], DType::int64)),
                            Tensor::scalar(std::max<std::int64_t>(shape[a], 1), DType::int64)));
  return out;
}

Tensor ravel_multi_index(std::span<const Tensor> multi_index, Tensor::Shape dims) {
  const char* const op = "ravel_multi_index";
  if (multi_index.size() != dims.size())
    raise(ErrorKind::value, op,
          std::to_string(multi_index.size()) + " tensors of indices for shape " + to_string(dims));
  const Grid grid = grid_of(dims, op);
  Tensor out = Tensor::scalar(std::int64_t{0}, DType::int64);
  for (std::size_t a = 0; a < dims.size(); ++a) {
    const Tensor i = in_range(
        multi_index[a], dims[a], op,
        "an index lies outside of axis " + std::to_string(a) + " of shape " + to_string(dims));
    out = out + i * Tensor::scalar(grid.strides[a], DType::int64);
  }
  return out;
}

Tensor diagflat(const Tensor& x, std::int64_t k) { return diag(ravel(x), k); }

// ------------------------------------------------------------------------------ order and look-up

Tensor partition(const Tensor& x, const std::vector<std::int64_t>& kth, std::optional<int> axis) {
  if (!axis) return partition(ravel(x), kth, 0);
  const int at = normalize_axis(*axis, x.ndim(), "partition");
  require_kth(x, kth, at, "partition");
  return sort(x, at);
}

Tensor argpartition(const Tensor& x, const std::vector<std::int64_t>& kth,
                    std::optional<int> axis) {
  if (!axis) return argpartition(ravel(x), kth, 0);
  const int at = normalize_axis(*axis, x.ndim(), "argpartition");
  require_kth(x, kth, at, "argpartition");
  return argsort(x, at);
}

Tensor isin(const Tensor& x1, const Tensor& x2, bool invert) {
  DType dtype = promote(x1.dtype(), x2.dtype());
  // Of integers that no dtype holds together those of x1 are looked for which x2 could hold.
  const bool wide = is_floating(dtype) && is_integer(x1.dtype()) && is_integer(x2.dtype());
  if (wide) dtype = x2.dtype();
  const Tensor values = astype(x1, dtype), among = sort(ravel(astype(x2, dtype)));
  const std::int64_t n = among.size();
  Tensor found = zeros(x1.shape(), DType::boolean);
  if (n > 0) {
    const Tensor at = minimum(searchsorted(among, values), Tensor::scalar(n - 1, DType::int64));
    found = equal(take(among, at, 0), values);
    if (wide) found = logical_and(found, equal(x1, values));
  }
  return invert ? logical_not(found) : found;
}

Tensor digitize(const Tensor& x, const Tensor& bins, bool right) {
  const char* const op = "digitize";
  if (bins.ndim() != 1)
    raise(ErrorKind::value, op, "bins must have one dimension, shape " + to_string(bins.shape()));
  const char* const side = right ? "left" : "right";
  const std::int64_t n = bins.size();
  if (n < 2) return searchsorted(bins, x, side);
  const Tensor falls = any_neighbours(bins, greater), rises = any_neighbours(bins, less);
  const Tensor bounds = checked_whole(held(bins), logical_not(logical_and(falls, rises)), op,
                                      "the bounds must either rise or fall: sort them");
  // Of falling bounds those count that are not below, or at, x in the reverse order.
  return where(falls, Tensor::scalar(n, DType::int64) - searchsorted(flip(bounds), x, side),
               searchsorted(bounds, x, side));
}

void register_entries_ops() {
  register_functions({
      {.name = "append",
       .signature = "(x, values, /, axis=None)",
       .doc = "Values joined to the end of an axis; of all elements in one axis where it is None.",
       .entry = entry_of<append>(),
       .promotes = true},
      {.name = "insert",
       .signature = "(x, obj, values, /, axis=None)",
       .doc = "With values put in before the entries that obj names along an axis; of all elements "
              "in one axis where it is None.\n\n"
              "obj is an int, a list of ints, a slice or a mask of bools, counted in x as it was; "
              "the length of the axis names its end. The values broadcast to the entries that go "
              "in. An int is a place for as many of them as there are along the first axis of "
              "values of as many dimensions as x, as in NumPy.",
       .entry = entry_of<insert>(),
       .promotes = true},
      {.name = "delete",
       .signature = "(x, obj, /, axis=None)",
       .doc = "Without the entries that obj names along an axis: an int, a list of ints, a slice "
              "or a mask of bools; of all elements in one axis where it is None.",
       .entry = entry_of<delete_>()},
      {.name = "unravel_index",
       .signature = "(indices, shape, /) -> tuple",
       .doc = "The index along each axis of elements that are counted in the order of rows.\n\n"
              "Raises ValueError where one lies outside of the shape.",
       .entry = entry_of<unravel_index>()},
      {.name = "ravel_multi_index",
       .signature = "(multi_index, dims, /)",
       .doc =
           "The count, in the order of rows, of elements that an index along each axis names.\n\n"
           "Raises ValueError where one lies outside of the shape.",
       .entry = entry_of<ravel_multi_index>()},
      {.name = "diagflat",
       .signature = "(x, /, k=0)",
       .doc = "The matrix that has all elements of x on its k-th diagonal.",
       .entry = entry_of<diagflat>()},
      {.name = "partition",
       .signature = "(x, kth, /, axis=-1)",
       .doc = "Entries in an order in which the kth ones are where sorting puts them, smaller ones "
              "before and larger ones after: all of them are sorted. Of all elements in one axis "
              "where it is None.",
       .entry = entry_of<partition>()},
      {.name = "argpartition",
       .signature = "(x, kth, /, axis=-1)",
       .doc = "The indices that bring entries into the order of `partition`.",
       .entry = entry_of<argpartition>()},
      {.name = "digitize",
       .signature = "(x, bins, /, right=False)",
       .doc =
           "The number of the bin of each element, among bounds that rise or fall: 0 before the "
           "first, their count after the last. A bound belongs to the bin after it, with `right` "
           "to the one before.",
       .entry = entry_of<digitize>(),
       .promotes = true},
      {.name = "isin",
       .signature = "(x1, x2, /, *, invert=False)",
       .doc =
           "Whether each element of x1 is among those of x2; with `invert`, whether it is not. A "
           "nan is not.",
       .entry = entry_of<isin>(),
       .promotes = true},
  });
}

}  // namespace adjoint
