// What the families of linear algebra share: the checks of their inputs, loops over the matrices of
// a stack, and errors that say which matrix of it failed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/thread_pool.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "kernels/lapack.h"
#include "kernels/reflectors.h"
#include "ops/structural.h"

namespace adjoint::linalg {

using kernels::Index;

// ----------------------------------------------------------------------------- shapes and checks

inline Layout::Extents stack_of(Layout::Extents shape) { return shape.first(shape.size() - 2); }
inline Index rows_of(const Tensor& x) { return x.shape()[x.ndim() - 2]; }
inline Index columns_of(const Tensor& x) { return x.shape()[x.ndim() - 1]; }
inline Dims with_matrix(Layout::Extents stack, Index rows, Index columns) {
  Dims out(stack);
  out.push_back(rows);
  out.push_back(columns);
  return out;
}
inline Dims with_axis(Layout::Extents stack, Index length) {
  Dims out(stack);
  out.push_back(length);
  return out;
}

/// The distance from 1 to the next number of a floating dtype.
inline double precision_of(DType dtype) {
  return dtype == DType::float32 ? std::numeric_limits<float>::epsilon()
                                 : std::numeric_limits<double>::epsilon();
}
/// As matrices of floating numbers: integers and bools are taken to float64.
Tensor matrices(const Tensor& x, const char* op);
/// The same, and as many rows as columns.
Tensor square_matrices(const Tensor& x, const char* op);
/// Both in the dtype in which they meet.
std::pair<Tensor, Tensor> in_one_dtype(const Tensor& a, const Tensor& b);
/// The two sides of a system of equations, checked: square matrices and right sides of one dtype,
/// over the same leading axes.
struct System {
  System(const Tensor& left, const Tensor& right, const char* op);
  /// A solution, as a vector where the right side was one.
  Tensor given_form(const Tensor& x) const { return vector_ ? squeeze(x, -1) : x; }

  Tensor a, b;

 private:
  bool vector_;
};
/// Repeated, without a copy, over the leading axes of a stack.
Tensor over_stack(const Tensor& x, Layout::Extents stack);

// ------------------------------------------------------------------------------ parts of rules

/// (x + x') / 2.
Tensor symmetric_part(const Tensor& x);
/// The unit matrix of the same order and dtype.
Tensor unit_matrix(const Tensor& like, Index n);
/// A vector of each stack as a matrix of one row or column: what a diagonal matrix multiplies by.
inline Tensor as_row(const Tensor& x) { return expand_dims(x, -2); }
inline Tensor as_column(const Tensor& x) { return expand_dims(x, -1); }
/// A number of each stack as a matrix of one entry.
inline Tensor as_matrix(const Tensor& x) { return as_column(as_column(x)); }
/// `count` columns or rows, from `first` on.
inline Tensor columns_from(const Tensor& x, Index first, Index count) {
  return entries_along(x, x.ndim() - 1, first, count);
}
inline Tensor rows_from(const Tensor& x, Index first, Index count) {
  return entries_along(x, x.ndim() - 2, first, count);
}
/// The only result, of an operation whose rule serves all results together.
inline const Tensor& result_of(const RuleArgs& args) {
  return args.outputs.empty() ? args.output : args.outputs[0];
}
/// a + b, either of which may be undefined.
inline Tensor plus(const Tensor& a, const Tensor& b) {
  return !a.defined() ? b : !b.defined() ? a : add(a, b);
}

/// op(a) b of triangular a: of its lower triangle or the upper one; the other is not read.
Tensor triangular_product(const Tensor& a, const Tensor& b, bool lower, bool trans);
/// x R^-1, or x R'^-1, for the rules of `qr`.
Tensor divided_by_r(const Tensor& x, const Tensor& r, bool trans);

/// 1 / (x_j - x_i), infinite where the two are equal within the precision of the largest; 0 on the
/// diagonal.
Tensor reciprocal_gaps(const Tensor& x);
/// `x`, but nan where the quotients that it is made with are infinite.
Tensor nan_where_infinite(const Tensor& quotients, const Tensor& x);
/// V diag(c) V', of the eigenvalues w and vectors v of a: how sum(c w) changes with a.
Tensor eigen_sum(const Tensor& a, const Tensor& c, const Tensor& w, const Tensor& v);
/// diag(V' h V): how w changes as a does by h.
Tensor eigen_slope(const Tensor& h, const Tensor& a, const Tensor& w, const Tensor& v);
/// U diag(c) V' and diag(U' h V), of as many singular vectors as there are values: the same of
/// those.
Tensor singular_sum(const Tensor& a, const Tensor& c, const Tensor& u, const Tensor& s,
                    const Tensor& vh);
Tensor singular_slope(const Tensor& h, const Tensor& a, const Tensor& u, const Tensor& s,
                      const Tensor& vh);

/// Batching of operations whose inputs have all their leading axes in common.
Tensor batch_stacked(const BatchArgs& args);
std::vector<Tensor> batch_all_stacked(const BatchArgs& args);

// ------------------------------------------------------------------------------------- loops

/// The first matrix of a stack that failed, and what was reported of it.
class Failure {
 public:
  void report(Index matrix, Index info) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (matrix >= matrix_) return;
    matrix_ = matrix;
    info_ = info;
  }
  bool any() const noexcept { return matrix_ != std::numeric_limits<Index>::max(); }
  Index info() const noexcept { return info_; }
  /// "the matrix", "matrix 3 of the stack", "matrix (1, 2) of the stack".
  std::string subject(Layout::Extents stack) const;

 private:
  std::mutex mutex_;
  Index matrix_ = std::numeric_limits<Index>::max();
  Index info_ = 0;
};

/// Order from which on products with reflectors (reflectors.h) are faster than LAPACK's routines.
constexpr Index kLongReflectors = 128;
constexpr double kLongMatrixWork = 1 << 20;  // operations above which the host lock is let go

/// Calls body(begin, end) over the matrices of a stack in pieces that depend on shapes alone, maybe
/// on several threads. `work` is about how many operations a matrix takes.
template <class F>
void for_stack(Index count, double work, F&& body) {
  if (count == 0) return;
  std::optional<WithoutHostLock> unlocked;
  if (work * static_cast<double>(count) >= kLongMatrixWork) unlocked.emplace();
  if (count == 1) return body(Index{0}, Index{1});
  const auto grain = static_cast<Index>(std::max(1.0, kLongMatrixWork / 4 / std::max(work, 1.0)));
  parallel_for(count, grain, body);
}

/// Calls f with a value of the C++ type of a floating dtype.
template <class F>
void with_floating(DType dtype, F&& f) {
  if (dtype == DType::float32)
    f(float{});
  else
    f(double{});
}

template <class T>
T* data_of(Node* n) {
  return static_cast<T*>(n->data());
}

/// A product with 0 is nan where a number is not finite. Several sums side by side keep a compiler
/// free to compute many at a time.
template <class T>
bool all_finite(const T* x, Index n) {
  constexpr Index lanes = 8;
  T sums[lanes] = {};
  Index i = 0;
  for (; i + lanes <= n; i += lanes)
    for (Index k = 0; k < lanes; ++k) sums[k] += x[i + k] * T(0);
  for (; i < n; ++i) sums[0] += x[i] * T(0);
  T total = 0;
  for (const T sum : sums) total += sum;
  return total == T(0);
}
/// Of the lower triangle, or the upper one, of a row-major matrix.
template <class T>
bool triangle_finite(const T* x, Index n, bool upper) {
  for (Index i = 0; i < n; ++i)
    if (!all_finite(x + i * n + (upper ? i : 0), upper ? n - i : i + 1)) return false;
  return true;
}
template <class T>
void fill_nan(T* x, Index n) {
  std::fill_n(x, n, std::numeric_limits<T>::quiet_NaN());
}

template <class T>
bool has_zero_on_diagonal(const T* a, Index n, Index leading) {
  for (Index i = 0; i < n; ++i)
    if (a[i * (leading + 1)] == T(0)) return true;
  return false;
}

/// x' = P L U in the place of x. A pivot is the largest number of a column, a search that passes
/// over nan: so where one comes out of numbers that are not finite, all are nan.
template <class T>
void factor_lu(T* x, Index n, Index* pivots) {
  if (n == 0) return;
  const bool finite = all_finite(x, n * n);
  kernels::getrf(n, x, n, pivots);
  if (finite || std::none_of(x, x + n * n, [](T v) { return std::isnan(v); })) return;
  fill_nan(x, n * n);
  for (Index i = 0; i < n; ++i) pivots[i] = i + 1;
}

/// to[j * leading + i] = from[i * from_leading + j], tile by tile, as lines of a cache are shared.
template <class T>
void copy_turned(const T* from, Index from_leading, Index rows, Index columns, T* to,
                 Index leading) {
  constexpr Index tile = 16;
  for (Index i = 0; i < rows; i += tile)
    for (Index j = 0; j < columns; j += tile)
      for (Index r = i; r < std::min(i + tile, rows); ++r)
        for (Index c = j; c < std::min(j + tile, columns); ++c)
          to[c * leading + r] = from[r * from_leading + c];
}
template <class T>
void copy_turned(const T* from, Index rows, Index columns, T* to, Index leading) {
  copy_turned(from, columns, rows, columns, to, leading);
}
/// Zeros below the diagonal of a row-major matrix, or above it.
template <class T>
void clear_triangle(T* x, Index rows, Index columns, bool lower) {
  for (Index i = 0; i < rows; ++i)
    if (lower)
      std::fill_n(x + i * columns, std::min(i, columns), T(0));
    else if (i + 1 < columns)
      std::fill_n(x + i * columns + i + 1, columns - i - 1, T(0));
}

template <class T>
void transpose_square(T* x, Index n) {
  constexpr Index tile = 16;
  for (Index i = 0; i < n; i += tile)
    for (Index j = i; j < n; j += tile)
      for (Index r = i; r < std::min(i + tile, n); ++r)
        for (Index c = std::max(j, r + 1); c < std::min(j + tile, n); ++c)
          std::swap(x[r * n + c], x[c * n + r]);
}

/// Matrices where they lie, if LAPACK can read them there: rows without gaps inside, or, where any
/// order serves, columns.
class MatrixReader {
 public:
  enum class Order : std::uint8_t { any, rows };
  explicit MatrixReader(Node* x, Order order = Order::any);
  /// Element strides from one row to the next, or, where transposed, from one column.
  Index leading() const noexcept { return leading_; }
  bool is_transposed() const noexcept { return transposed_; }
  template <class T>
  const T* at(Index matrix) const {
    Index offset = 0;
    for (std::size_t d = stack_.size(); d-- > 0; matrix /= stack_[d])
      offset += matrix % stack_[d] * strides_[d];
    return static_cast<const T*>(data_) + offset;
  }

 private:
  Tensor held_;
  const void* data_;
  Dims stack_, strides_;
  Index leading_;
  bool transposed_ = false;
};

}  // namespace adjoint::linalg
