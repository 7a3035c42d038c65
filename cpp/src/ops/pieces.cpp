// Functions that cut tensors into pieces, put something around them, turn them, and say where the
// triangles and diagonals of matrices are. Being made of operations, they have every derivative,
// batch and compiled form themselves.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ops/indexing.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

// ---------------------------------------------------------------------------------------- split

/// Entries between neighbouring bounds along an axis, the bounds as a slice takes them.
std::vector<Tensor> between(const Tensor& x, int axis, const std::vector<std::int64_t>& bounds) {
  const std::int64_t n = x.shape()[axis];
  std::vector<Tensor> out;
  std::int64_t start = 0;
  for (std::size_t i = 0; i <= bounds.size(); ++i) {
    std::int64_t stop = n;
    if (i < bounds.size()) {
      stop = std::clamp<std::int64_t>(bounds[i] < 0 ? bounds[i] + n : bounds[i], 0, n);
    }
    const std::int64_t count = std::max<std::int64_t>(stop - start, 0);
    out.push_back(entries_along(x, axis, count > 0 ? start : 0, count));
    start = stop;
  }
  return out;
}

std::vector<Tensor> split_as(const Tensor& x, const Known& given_sections, int axis, bool even,
                             const char* op) {
  const Tensor sections = given_sections.value.size() > 0
                              ? given_sections.value
                              : astype(given_sections.value, DType::int64);  // of an empty list
  const int at = normalize_axis(axis, x.ndim(), op);
  if (!is_integer(sections.dtype()) || sections.ndim() > 1)
    raise(ErrorKind::type, op,
          "indices_or_sections must be an int or a list of ints, not " +
              std::string(name(sections.dtype())) + " of shape " + to_string(sections.shape()));
  const std::vector<std::int64_t> given = known_integers(sections, op);
  if (sections.ndim() == 1) return between(x, at, given);
  const std::int64_t n = x.shape()[at], count = given.front();
  if (count < 1)
    raise(ErrorKind::value, op,
          "the number of sections must be positive, got " + std::to_string(count));
  if (even && n % count != 0)
    raise(ErrorKind::value, op,
          "an axis of length " + std::to_string(n) + " has no " + std::to_string(count) +
              " equal sections: array_split gives sections whose lengths differ by one");
  constexpr std::int64_t most = std::int64_t{1} << 20;
  if (count > std::max(n, most))
    raise(ErrorKind::value, op,
          std::to_string(count) + " sections of an axis of length " + std::to_string(n) +
              ": all but " + std::to_string(n) + " would be empty");
  std::vector<std::int64_t> bounds;
  for (std::int64_t i = 1; i < count; ++i)
    bounds.push_back(i * (n / count) + std::min(i, n % count));
  return between(x, at, bounds);
}

void require_axes(const Tensor& x, int least, const char* op) {
  if (x.ndim() < least)
    raise(ErrorKind::value, op,
          "needs at least " + std::to_string(least) + " dimensions, shape is " +
              to_string(x.shape()));
}

}  // namespace

std::vector<Tensor> split(const Tensor& x, const Known& indices_or_sections, int axis) {
  return split_as(x, indices_or_sections, axis, true, "split");
}
std::vector<Tensor> array_split(const Tensor& x, const Known& indices_or_sections, int axis) {
  return split_as(x, indices_or_sections, axis, false, "array_split");
}
std::vector<Tensor> vsplit(const Tensor& x, const Known& indices_or_sections) {
  require_axes(x, 2, "vsplit");
  return split_as(x, indices_or_sections, 0, true, "vsplit");
}
std::vector<Tensor> hsplit(const Tensor& x, const Known& indices_or_sections) {
  require_axes(x, 1, "hsplit");
  return split_as(x, indices_or_sections, x.ndim() == 1 ? 0 : 1, true, "hsplit");
}
std::vector<Tensor> dsplit(const Tensor& x, const Known& indices_or_sections) {
  require_axes(x, 3, "dsplit");
  return split_as(x, indices_or_sections, 2, true, "dsplit");
}

// ------------------------------------------------------------------------------------------ pad

namespace {

constexpr const char* kPad = "pad";

/// How many entries are put before and after, for each axis: what is given broadcasts to (ndim, 2).
std::vector<std::int64_t> pad_widths(const Tensor& widths, int ndim) {
  if (!is_integer(widths.dtype()))
    raise(ErrorKind::type, kPad,
          "pad_width must be integers, not " + std::string(name(widths.dtype())));
  const auto given = widths.shape();
  const auto fits = [&](std::size_t from_last, std::int64_t extent) {
    return given.size() < from_last || given[given.size() - from_last] == 1 ||
           given[given.size() - from_last] == extent;
  };
  if (given.size() > 2 || !fits(1, 2) || !fits(2, ndim))
    raise(ErrorKind::value, kPad,
          "pad_width of shape " + to_string(given) + " for " + std::to_string(ndim) +
              " dimensions: give an int, (before, after), or one such pair for each axis");
  std::vector<std::int64_t> out = known_integers(broadcast_to(widths, Dims{ndim, 2}), kPad);
  constexpr std::int64_t most = std::int64_t{1} << 48;
  for (const std::int64_t n : out) {
    if (n < 0) raise(ErrorKind::value, kPad, "a pad width is negative");
    if (n > most)
      raise(ErrorKind::value, kPad, "a pad width of " + std::to_string(n) + " is too large");
  }
  return out;
}

/// Which entry of an axis of length n stands at place i of its continuation in both directions.
std::int64_t continued(std::int64_t i, std::int64_t n, std::string_view mode) {
  const auto modulo = [](std::int64_t a, std::int64_t b) { return ((a % b) + b) % b; };
  if (mode == "edge" || n == 1) return std::clamp<std::int64_t>(i, 0, n - 1);
  if (mode == "wrap") return modulo(i, n);
  if (mode == "symmetric") {
    const std::int64_t at = modulo(i, 2 * n);
    return at < n ? at : 2 * n - 1 - at;
  }
  const std::int64_t at = modulo(i, 2 * n - 2);
  return at < n ? at : 2 * n - 2 - at;
}

Tensor padded_with(const Tensor& x, const std::vector<std::int64_t>& widths, const Tensor& value) {
  if (value.ndim() > 0)
    raise(ErrorKind::value, kPad,
          "constant_values must be one number, shape is " + to_string(value.shape()));
  Dims shape, starts;
  for (int i = 0; i < x.ndim(); ++i) {
    const auto at = std::size_t{2} * static_cast<std::size_t>(i);
    starts.push_back(widths[at]);
    shape.push_back(widths[at] + x.shape()[i] + widths[at + 1]);
  }
  const bool fits = is_floating(x.dtype()) || is_bool(value.dtype()) || is_integer(value.dtype());
  const Tensor around = broadcast_to(astype(value, x.dtype()), shape);
  if (!fits)
    raise(ErrorKind::type, kPad,
          "constant_values of dtype " + std::string(name(value.dtype())) +
              " do not fit a tensor of " + std::string(name(x.dtype())) +
              ": convert one with astype");
  return put_slice(around, x, starts, Dims(x.shape()), Dims(starts.size(), 1));
}

}  // namespace

Tensor pad(const Tensor& x, const Known& pad_width, std::string_view mode,
           const Tensor& constant_values) {
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "symmetric" &&
      mode != "wrap")
    raise(ErrorKind::value, kPad,
          "mode must be 'constant', 'edge', 'reflect', 'symmetric' or 'wrap', not '" +
              std::string(mode) + "'");
  const std::vector<std::int64_t> widths = pad_widths(pad_width.value, x.ndim());
  if (mode == "constant") return padded_with(x, widths, constant_values);
  Tensor out = x;
  for (int axis = 0; axis < x.ndim(); ++axis) {
    const auto at = std::size_t{2} * static_cast<std::size_t>(axis);
    const std::int64_t before = widths[at], after = widths[at + 1], n = x.shape()[axis];
    if (before == 0 && after == 0) continue;
    if (n == 0)
      raise(ErrorKind::value, kPad,
            "axis " + std::to_string(axis) + " is empty: mode '" + std::string(mode) +
                "' has nothing to repeat; use 'constant'");
    const Tensor from = Tensor::adopt(new_array(DType::int64, Dims{before + n + after}, kPad));
    auto* to = static_cast<std::int64_t*>(from.node()->data());
    for (std::int64_t i = -before; i < n + after; ++i) *to++ = continued(i, n, mode);
    out = take(out, from, axis);
  }
  return out;
}

// --------------------------------------------------------------------------------------- turned

Tensor rot90(const Tensor& m, std::int64_t k, const Axes& axes) {
  const char* const op = "rot90";
  require_axes(m, 2, op);
  const Dims plane = axes.all() ? Dims{0, 1} : Dims(axes.given());
  if (plane.size() != 2)
    raise(ErrorKind::value, op, "axes must be two, got " + std::to_string(plane.size()));
  const int first = normalize_axis(plane[0], m.ndim(), op);
  const int second = normalize_axis(plane[1], m.ndim(), op);
  if (first == second) raise(ErrorKind::value, op, "the two axes must differ");
  switch (((k % 4) + 4) % 4) {
    case 1: return swapaxes(flip(m, second), first, second);
    case 2: return flip(m, Dims{first, second});
    case 3: return flip(swapaxes(m, first, second), second);
    default: return m;
  }
}

// ------------------------------------------------------------------------- grids and triangles

Tensor tri(std::int64_t n, std::optional<std::int64_t> m, std::int64_t k,
           std::optional<DType> dtype) {
  const std::int64_t columns = m.value_or(n);
  if (n < 0 || columns < 0) raise(ErrorKind::value, "tri", "an extent is negative");
  return tril(ones(Dims{n, columns}, dtype), k);
}

namespace {

/// Rows and columns of the places of a matrix that lie on one side of a diagonal. They are values,
/// not operations: what reads them may need to know them.
std::vector<Tensor> places(std::int64_t n, std::optional<std::int64_t> m, std::int64_t k,
                           bool lower, const char* op) {
  const std::int64_t columns = m.value_or(n);
  constexpr std::int64_t most = std::int64_t{1} << 24;
  if (n < 0 || columns < 0 || std::max(n, columns) > most)
    raise(ErrorKind::value, op,
          "needs extents from 0 to " + std::to_string(most) + ", got " + std::to_string(n) +
              " and " + std::to_string(columns));
  const std::int64_t offset = std::clamp(k, -most, most);
  const auto first = [&](std::int64_t row) {
    return lower ? 0 : std::clamp<std::int64_t>(row + offset, 0, columns);
  };
  const auto end = [&](std::int64_t row) {
    return lower ? std::clamp<std::int64_t>(row + offset + 1, 0, columns) : columns;
  };
  std::int64_t total = 0;
  for (std::int64_t row = 0; row < n; ++row) total += end(row) - first(row);
  std::vector<Tensor> out;
  for (int axis = 0; axis < 2; ++axis) {
    out.push_back(Tensor::adopt(new_array(DType::int64, Dims{total}, op)));
    auto* to = static_cast<std::int64_t*>(out.back().node()->data());
    for (std::int64_t row = 0; row < n; ++row)
      for (std::int64_t column = first(row); column < end(row); ++column)
        *to++ = axis == 0 ? row : column;
  }
  return out;
}

}  // namespace

std::vector<Tensor> tril_indices(std::int64_t n, std::int64_t k, std::optional<std::int64_t> m) {
  return places(n, m, k, true, "tril_indices");
}
std::vector<Tensor> triu_indices(std::int64_t n, std::int64_t k, std::optional<std::int64_t> m) {
  return places(n, m, k, false, "triu_indices");
}
std::vector<Tensor> diag_indices(std::int64_t n, std::int64_t ndim) {
  constexpr std::int64_t most = 64;
  if (n < 0 || ndim < 0 || ndim > most)
    raise(ErrorKind::value, "diag_indices",
          "needs a length and a number of axes, at most " + std::to_string(most) +
              ", that are not negative");
  return std::vector<Tensor>(static_cast<std::size_t>(ndim), arange(std::int64_t{0}, n));
}

Tensor indices(Tensor::Shape dimensions) {
  const auto ndim = dimensions.size();
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < ndim; ++i) {
    if (dimensions[i] < 0) raise(ErrorKind::value, "indices", "an extent is negative");
    Dims line(ndim, 1);
    line[i] = dimensions[i];
    out.push_back(broadcast_to(reshape(arange(std::int64_t{0}, dimensions[i]), line), dimensions));
  }
  if (out.empty()) return zeros(Dims{0}, DType::int64);
  return stack(out, 0);
}

Tensor vander(const Tensor& x, std::optional<std::int64_t> n, bool increasing) {
  const char* const op = "vander";
  if (x.ndim() != 1)
    raise(ErrorKind::value, op, "needs a vector, shape is " + to_string(x.shape()));
  const std::int64_t count = n.value_or(x.size());
  if (count < 0) raise(ErrorKind::value, op, "the number of columns is negative");
  const Tensor base = astype(x, summed_dtype(x.dtype()));
  const Tensor powers = astype(arange(std::int64_t{0}, count), base.dtype());
  return pow(expand_dims(base, 1), increasing ? powers : flip(powers));
}

namespace {

constexpr const char* kSections = "(x, indices_or_sections, /) -> list";
constexpr const char* kSectionsOfAxis = "(x, indices_or_sections, /, axis=0) -> list";
constexpr const char* kPlaces = "(n, /, k=0, m=None) -> tuple";

}  // namespace

void register_pieces_ops() {
  register_functions({
      {.name = "split",
       .signature = kSectionsOfAxis,
       .doc = "Pieces along an axis: equal ones, or those between the given indices.",
       .entry = entry_of<split>()},
      {.name = "array_split",
       .signature = kSectionsOfAxis,
       .doc = "Pieces along an axis like those of `split`, whose lengths may differ by one.",
       .entry = entry_of<array_split>()},
      {.name = "vsplit",
       .signature = kSections,
       .doc = "Pieces along the first axis, like those of `split`.",
       .entry = entry_of<vsplit>()},
      {.name = "hsplit",
       .signature = kSections,
       .doc = "Pieces along the second axis, or the only one, like those of `split`.",
       .entry = entry_of<hsplit>()},
      {.name = "dsplit",
       .signature = kSections,
       .doc = "Pieces along the third axis, like those of `split`.",
       .entry = entry_of<dsplit>()},
      {.name = "pad",
       .signature = "(x, pad_width, /, mode='constant', *, constant_values=0)",
       .doc = "More entries before and after those of each axis.\n\n"
              "`pad_width` is one number for all, (before, after), or such a pair for each axis. "
              "They are `constant_values`, one number, or for mode 'edge' the outermost entry, "
              "for 'reflect' and 'symmetric' the mirror image without and with the outermost "
              "entry, for 'wrap' the entries of the other end.",
       .entry = entry_of<pad>()},
      {.name = "rot90",
       .signature = "(m, /, k=1, axes=None)",
       .doc = "Turned k times by 90 degrees in the plane of two axes, the first two if none are "
              "given, from the first of them to the second.",
       .entry = entry_of<rot90>()},
      {.name = "tri",
       .signature = "(n, m=None, /, k=0, *, dtype=None)",
       .doc = "Ones at and below the k-th diagonal of an n by m matrix, zeros above it.",
       .entry = entry_of<tri>()},
      {.name = "tril_indices",
       .signature = kPlaces,
       .doc = "Rows and columns of the lower triangle of an n by m matrix.",
       .entry = entry_of<tril_indices>()},
      {.name = "triu_indices",
       .signature = kPlaces,
       .doc = "Rows and columns of the upper triangle of an n by m matrix.",
       .entry = entry_of<triu_indices>()},
      {.name = "diag_indices",
       .signature = "(n, /, ndim=2) -> tuple",
       .doc = "The places on the main diagonal of a tensor with ndim axes of length n.",
       .entry = entry_of<diag_indices>()},
      {.name = "indices",
       .signature = "(dimensions, /)",
       .doc = "The index of each place of a grid: its coordinates are the new first axis.",
       .entry = entry_of<indices>()},
      {.name = "vander",
       .signature = "(x, /, n=None, increasing=False)",
       .doc = "The Vandermonde matrix: powers of a vector as columns, the highest first unless "
              "increasing; of narrow integers in 64 bits.",
       .entry = entry_of<vander>()},
  });
}

}  // namespace adjoint
