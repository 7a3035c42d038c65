// Norms, condition numbers, powers and products of several matrices: functions made of operations,
// and those of other families under their names in this namespace.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "adjoint/linalg.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

Tensor inverse_or_infinite(const Tensor& x);  // linalg_lu.cpp

namespace {

Family norms_family;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

Tensor number_like(const Tensor& x, double value) { return Tensor::scalar(value, x.dtype()); }

/// A unit for sums of powers in which they neither vanish nor overflow, and which has no slope:
/// near the entry whose power is the largest, which of a negative one is the smallest entry. A
/// power of two changes no digits, but is up to twice as small, which a large power would show: so
/// there it is the entry itself.
Tensor unit_of_powers(const Tensor& magnitude, const Axes& axis, double ord) {
  constexpr double moderate = 8;
  if (magnitude.size() == 0) return number_like(magnitude, 1);
  const Tensor most = ord > 0 ? max(magnitude, axis, true) : min(magnitude, axis, true);
  if (std::abs(ord) <= moderate) return binade(most);
  const Tensor one = number_like(most, 1), zero = number_like(most, 0);
  return held(where(logical_and(isfinite(most), greater(most, zero)), most, one));
}

/// At 0 the root's slope is infinite and that of the powers 0: mul0 gives 0.
Tensor summed_powers(const Tensor& x, const Axes& axis, double ord) {
  const Tensor magnitude = abs(x), unit = unit_of_powers(magnitude, axis, ord);
  if (ord == 2) return sqrt(sum(square(x / unit), axis, true)) * unit;
  return pow(sum(pow(magnitude / unit, ord), axis, true), 1 / ord) * unit;
}

std::string shown(const Order& ord) {
  if (const auto* name = std::get_if<std::string>(&ord)) return "'" + *name + "'";
  const double number = std::get<double>(ord);
  std::string text = std::to_string(number);
  return text.substr(0, text.find(".000000"));
}

[[noreturn]] void raise_order(const char* op, const Order& ord, const char* known) {
  raise(ErrorKind::value, op, "ord is " + shown(ord) + ": it must be " + known);
}

Tensor smallest(const Tensor& x, const Axes& axes, bool keepdims, const char* op) {
  for (const std::int64_t a : axes.given())
    if (x.shape()[normalize_axis(a, x.ndim(), op)] == 0)
      raise(ErrorKind::value, op, "there is no smallest number of none: use a positive ord");
  return min(x, axes, keepdims);
}

/// Of numbers that are not negative: 0 where there are none.
Tensor largest(const Tensor& x, const Axes& axes, bool keepdims, const char* op) {
  for (const std::int64_t a : axes.given())
    if (x.shape()[normalize_axis(a, x.ndim(), op)] == 0) return sum(x, axes, keepdims);
  return max(x, axes, keepdims);
}

/// The largest or smallest number along the last axis.
Tensor extreme(const Tensor& x, bool is_largest, const char* op) {
  return is_largest ? largest(x, Dims{-1}, false, op) : smallest(x, Dims{-1}, false, op);
}

/// Singular values, of which one that is 0 has the derivative 0: at a matrix of zeros all have.
Tensor magnitudes_of(const Tensor& x) { return abs(svdvals(x)); }

Tensor norm_of_matrices(const Tensor& x, const Order& ord, const char* op) {
  constexpr const char* known = "'fro', 'nuc', inf, -inf, 1, -1, 2 or -2";
  if (const auto* name = std::get_if<std::string>(&ord)) {
    if (*name == "fro") return squeeze(summed_powers(x, {-2, -1}, 2), {-2, -1});
    if (*name == "nuc") return sum(magnitudes_of(x), -1);
    raise_order(op, ord, known);
  }
  const double number = std::get<double>(ord);
  const bool positive = number > 0;
  if (std::abs(number) == 1) return extreme(sum(abs(x), -2), positive, op);
  if (std::abs(number) == kInfinite) return extreme(sum(abs(x), -1), positive, op);
  if (std::abs(number) == 2) return extreme(magnitudes_of(x), positive, op);
  raise_order(op, ord, known);
}

Tensor norm_of_vectors(const Tensor& x, const Axes& axis, bool keepdims, double ord,
                       const char* op) {
  const Dims axes = chosen_axes(axis, x.ndim(), op);
  if (ord == kInfinite) return largest(abs(x), axes, keepdims, op);
  if (ord == -kInfinite) return smallest(abs(x), axes, keepdims, op);
  if (ord == 0) return astype(count_nonzero(x, axes, keepdims), x.dtype());
  if (ord == 1) return sum(abs(x), axes, keepdims);
  if (std::isnan(ord)) raise_order(op, ord, "a number");
  const Tensor out = summed_powers(x, axes, ord);
  return keepdims ? out : squeeze(out, axes);
}

/// With the axes of a reduction as axes of length 1.
Tensor with_unit_axes(const Tensor& y, const Tensor& x, const Dims& axes) {
  Dims shape(x.shape());
  for (const std::int64_t a : axes) shape[a] = 1;
  return reshape(y, shape);
}

}  // namespace

// ------------------------------------------------------------------------------------- norms

Tensor vector_norm(const Tensor& x, const Axes& axis, bool keepdims, double ord) {
  return norm_of_vectors(in_floating(x), axis, keepdims, ord, "vector_norm");
}
[[maybe_unused]] static const FunctionRecord& vector_norm_function = norms_family.offer(
    {.name = "linalg.vector_norm",
     .signature = "(x, /, *, axis=None, keepdims=False, ord=2)",
     .doc = "The norm of vectors: the sum of |x|**ord over the axes, or all of them, to the power\n"
            "1 / ord; the largest or smallest |x| of inf or -inf; how many are not 0 of 0.\n"
            "\n"
            "The derivative at 0 is 0, and equal largest entries share it.",
     .entry = entry_of<vector_norm>()});

Tensor matrix_norm(const Tensor& given, bool keepdims, const Order& ord) {
  const Tensor x = matrices(given, "matrix_norm");
  const Tensor out = norm_of_matrices(x, ord, "matrix_norm");
  return keepdims ? as_matrix(out) : out;
}
[[maybe_unused]] static const FunctionRecord& matrix_norm_function = norms_family.offer(
    {.name = "linalg.matrix_norm",
     .signature = "(x, /, *, keepdims=False, ord='fro')",
     .doc = "The norm of matrices: 'fro', the root of the sum of squares; 'nuc', the sum of the\n"
            "singular values; 2 and -2, the largest and smallest one; 1 and -1, the largest and\n"
            "smallest sum of magnitudes of a column; inf and -inf, of a row.\n\n"
            "The derivative at 0 is 0, and equal largest sums or singular values share it. The\n"
            "norm of a matrix without elements is 0; a smallest of none raises ValueError.",
     .entry = entry_of<matrix_norm>()});

Tensor norm(const Tensor& given, const std::optional<Order>& ord, const Axes& axis, bool keepdims) {
  const char* const op = "norm";
  const Tensor x = in_floating(given);
  if (axis.all() && !ord) return norm_of_vectors(x, {}, keepdims, 2, op);
  if (axis.all() && x.ndim() != 1 && x.ndim() != 2)
    raise(ErrorKind::value, op,
          "shape " + to_string(x.shape()) + " is no vector or matrix: give axis= with ord=");
  Dims axes;  // in the order in which they are given: the first counts rows
  if (axis.all())
    axes = counting(x.ndim());
  else
    for (const std::int64_t a : axis.given()) axes.push_back(normalize_axis(a, x.ndim(), op));
  if (axes.size() == 1) {
    if (ord && std::holds_alternative<std::string>(*ord))
      raise_order(op, *ord, "a number for vectors");
    return norm_of_vectors(x, axes, keepdims, ord ? std::get<double>(*ord) : 2, op);
  }
  if (axes.size() != 2 || axes[0] == axes[1])
    raise(ErrorKind::value, op, "axis must be one axis, or two different ones of matrices");
  const Tensor last = moveaxis(x, axes, Dims{-2, -1});
  const Tensor out = norm_of_matrices(last, ord.value_or("fro"), op);
  return keepdims ? with_unit_axes(out, x, axes) : out;
}
[[maybe_unused]] static const FunctionRecord& norm_function = norms_family.offer(
    {.name = "linalg.norm",
     .signature = "(x, ord=None, axis=None, keepdims=False)",
     .doc = "The norm of vectors along one axis or of matrices in two, as NumPy has it; of all\n"
            "elements where neither `ord` nor `axis` is given.",
     .entry = entry_of<norm>()});

Tensor cond(const Tensor& given, const std::optional<Order>& p) {
  const char* const op = "cond";
  const Tensor x = matrices(given, op);
  const auto* number = p ? std::get_if<double>(&*p) : nullptr;
  Tensor out;
  if (x.size() == 0)
    raise(ErrorKind::value, op,
          "a matrix without elements has none: shape " + to_string(x.shape()));
  if (!p || (number && std::abs(*number) == 2)) {
    const Tensor s = svdvals(x), most = max(s, -1), least = min(s, -1);
    out = number && *number < 0 ? least / most : most / least;
  } else {
    const Tensor a = square_matrices(x, op);
    out = norm_of_matrices(a, *p, op) * norm_of_matrices(inverse_or_infinite(a), *p, op);
  }
  const Tensor unknown = any(isnan(x), {-2, -1});
  return where(logical_and(isnan(out), logical_not(unknown)), number_like(out, kInfinite), out);
}
[[maybe_unused]] static const FunctionRecord& cond_function = norms_family.offer(
    {.name = "linalg.cond",
     .signature = "(x, p=None)",
     .doc = "Condition numbers of matrices in the norm p, one of those of `matrix_norm`; None is\n"
            "2, for which a matrix need not be square. Infinite where a matrix is singular.",
     .entry = entry_of<cond>()});

// ------------------------------------------------------------------------------------ products

Tensor diagonal(const Tensor& x, std::int64_t offset) {
  return adjoint::diagonal(x, offset, -2, -1);
}
[[maybe_unused]] static const FunctionRecord& diagonal_function =
    norms_family.offer({.name = "linalg.diagonal",
                        .signature = "(x, /, *, offset=0)",
                        .doc = "The diagonals of matrices, as the last axis.",
                        .entry = entry_of<diagonal>()});

Tensor trace(const Tensor& x, std::int64_t offset, std::optional<DType> dtype) {
  return adjoint::trace(x, offset, -2, -1, dtype);
}
[[maybe_unused]] static const FunctionRecord& trace_function =
    norms_family.offer({.name = "linalg.trace",
                        .signature = "(x, /, *, offset=0, dtype=None)",
                        .doc = "The sums of the diagonals of matrices.",
                        .entry = entry_of<trace>()});

Tensor matrix_power(const Tensor& x, std::int64_t n) {
  square_matrices(x, "matrix_power");
  Tensor base = n < 0 ? inv(x) : x, out;
  // The negative of the most negative number is its own unsigned one.
  auto rest = n < 0 ? -static_cast<std::uint64_t>(n) : static_cast<std::uint64_t>(n);
  for (; rest > 0; rest >>= 1) {
    if (rest & 1) out = out.defined() ? matmul(out, base) : base;
    if (rest > 1) base = matmul(base, base);
  }
  return out.defined() ? out : unit_matrix(x, columns_of(x));
}
[[maybe_unused]] static const FunctionRecord& matrix_power_function = norms_family.offer(
    {.name = "linalg.matrix_power",
     .signature = "(x, n, /)",
     .doc = "Square matrices to the power of an integer; a negative one is a power of the\n"
            "inverse, and raises LinAlgError where a matrix is singular.",
     .entry = entry_of<matrix_power>()});

namespace {

/// The order in which products of matrices of these sizes cost least: where to cut each part.
struct ProductOrder {
  std::size_t count;
  std::vector<std::size_t> cut;

  explicit ProductOrder(const std::vector<Index>& sizes)
      : count(sizes.size() - 1), cut(count * count) {
    std::vector<double> cost(count * count);
    for (std::size_t length = 1; length < count; ++length)
      for (std::size_t i = 0; i + length < count; ++i) {
        const std::size_t j = i + length;
        double least = kInfinite;
        for (std::size_t k = i; k < j; ++k) {
          const double here = cost[i * count + k] + cost[(k + 1) * count + j] +
                              static_cast<double>(sizes[i]) * static_cast<double>(sizes[k + 1]) *
                                  static_cast<double>(sizes[j + 1]);
          if (here >= least) continue;
          least = here;
          cut[i * count + j] = k;
        }
        cost[i * count + j] = least;
      }
  }
  // As deep as there are factors, not as a graph is.
  Tensor product(std::span<const Tensor> factors, std::size_t i, std::size_t j) const {
    if (i == j) return factors[i];
    const std::size_t k = cut[i * count + j];
    return matmul(product(factors, i, k), product(factors, k + 1, j));
  }
};

}  // namespace

Tensor multi_dot(std::span<const Tensor> arrays) {
  const char* const op = "multi_dot";
  if (arrays.size() < 2)
    raise(ErrorKind::value, op, "needs at least two tensors, got " + std::to_string(arrays.size()));
  std::vector<Tensor> factors(arrays.begin(), arrays.end());
  const bool row = factors.front().ndim() == 1, column = factors.back().ndim() == 1;
  if (row) factors.front() = expand_dims(factors.front(), 0);
  if (column) factors.back() = expand_dims(factors.back(), 1);
  std::vector<Index> sizes;
  for (const Tensor& x : factors) {
    if (x.ndim() != 2)
      raise(ErrorKind::value, op,
            "needs matrices, and maybe vectors as the first and the last: shape " +
                to_string(x.shape()));
    if (!sizes.empty() && sizes.back() != x.shape()[0])
      raise(ErrorKind::value, op,
            "a factor of " + std::to_string(sizes.back()) + " columns meets one of shape " +
                to_string(x.shape()));
    if (sizes.empty()) sizes.push_back(x.shape()[0]);
    sizes.push_back(x.shape()[1]);
  }
  Tensor out = ProductOrder(sizes).product(factors, 0, factors.size() - 1);
  if (!row && !column) return out;
  Dims shape;
  if (!row) shape.push_back(out.shape()[0]);
  if (!column) shape.push_back(out.shape()[1]);
  return reshape(out, shape);
}
[[maybe_unused]] static const FunctionRecord& multi_dot_function = norms_family.offer(
    {.name = "linalg.multi_dot",
     .signature = "(arrays, /)",
     .doc = "The product of several matrices in the order that costs least. The first and the\n"
            "last may be vectors.",
     .entry = entry_of<multi_dot>()});

Tensor block_diag(std::span<const Tensor> arrays) {
  const char* const op = "block_diag";
  if (arrays.empty()) return zeros(Dims{1, 0});
  std::vector<Tensor> blocks;
  Dims stack;
  DType dtype = arrays[0].dtype();
  Index width = 0, before = 0;
  for (const Tensor& x : arrays) {
    blocks.push_back(atleast_2d(x));
    dtype = promote(dtype, x.dtype());
    width += columns_of(blocks.back());
    stack = broadcast_shapes(stack, stack_of(blocks.back().shape()), op);
  }
  std::vector<Tensor> bands;
  for (const Tensor& given : blocks) {
    const Tensor block = astype(over_stack(given, stack), dtype);
    const Index rows = rows_of(block), after = width - before - columns_of(block);
    const Tensor parts[] = {zeros_of(with_matrix(stack, rows, before), dtype), block,
                            zeros_of(with_matrix(stack, rows, after), dtype)};
    bands.push_back(concat(parts, -1));
    before += columns_of(block);
  }
  return concat(bands, -2);
}
[[maybe_unused]] static const FunctionRecord& block_diag_function = norms_family.offer(
    {.name = "linalg.block_diag",
     .signature = "(*arrays)",
     .doc = "Matrices that have the given ones along the diagonal, and zeros elsewhere.",
     .entry = entry_of<block_diag>()});

void register_norm_ops() {
  norms_family.register_all();
  register_functions({
      {.name = "linalg.matmul",
       .signature = "(x1, x2, /)",
       .doc = "The matrix product; leading axes are stacks and broadcast.",
       .entry = entry_of<adjoint::matmul>()},
      {.name = "linalg.matrix_transpose",
       .signature = "(x, /)",
       .doc = "Matrices with rows and columns exchanged.",
       .entry = entry_of<adjoint::matrix_transpose>()},
      {.name = "linalg.cross",
       .signature = "(x1, x2, /, *, axis=-1)",
       .doc = "The cross product of vectors of three entries; other axes broadcast.",
       .entry = entry_of<adjoint::cross>(),
       .promotes = true},
      {.name = "linalg.outer",
       .signature = "(x1, x2, /)",
       .doc = "All products of an element of one and an element of the other.",
       .entry = entry_of<adjoint::outer>(),
       .promotes = true},
      {.name = "linalg.tensordot",
       .signature = "(x1, x2, /, *, axes=2)",
       .doc = "Sums of products over pairs of axes: the last `axes` of x1 with the first of x2, or "
              "two lists.",
       .entry = entry_of<adjoint::tensordot>(),
       .promotes = true},
      {.name = "linalg.vecdot",
       .signature = "(x1, x2, /, *, axis=-1)",
       .doc = "Sums of products along an axis; the other axes broadcast.",
       .entry = entry_of<adjoint::vecdot>(),
       .promotes = true},
  });
}

}  // namespace adjoint::linalg
