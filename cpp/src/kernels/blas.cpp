// How a product reaches the BLAS: which routine, which operands go through as they are and which
// are copied first, and how the work is cut. Every decision is a function of shapes and strides,
// and the panels are the same for 1 thread and 16, so the bits are too: a BLAS may well sum a
// panel of another shape in another order.
#include "kernels/blas.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

#include "adjoint/error.h"
#include "base/thread_pool.h"
#include "kernels/blas_library.h"
#include "kernels/gemm.h"
#include "tensor/storage.h"

namespace adjoint::kernels {
namespace {

using Index = std::int64_t;

// Up to here the call of a BLAS costs more than the product.
constexpr Index kSmall = 64;
// About 40 us at 100 GFLOP/s: below twice this a product is one panel.
constexpr Index kPanelWork = 2 << 20;
// Elements of a matrix that a product with a vector reads in about 50 us.
constexpr Index kVectorWork = 256 << 10;

constexpr int kRowMajor = 101;
constexpr int kNoTrans = 111;
constexpr int kTrans = 112;

template <class T>
struct Matrix {
  const T* data;
  Index row;
  Index col;

  Matrix at(Index i, Index j) const { return {data + i * row + j * col, row, col}; }
  Matrix transposed() const { return {data, col, row}; }
};

/// a * b, or the largest number when that does not fit.
Index product(Index a, Index b) {
  Index r = 0;
  return __builtin_mul_overflow(a, b, &r) ? std::numeric_limits<Index>::max() : r;
}

// ---- One call of the library --------------------------------------------------------------------

/// What a BLAS calls a matrix: transposed or not, and the distance of its rows or columns.
struct Form {
  int trans;
  Index ld;  // 0: none, it must be copied
};

template <class T>
Form form_of(Index rows, Index cols, const Matrix<T>& x) {
  if (x.col == 1 || cols == 1) {
    if (rows == 1) return {kNoTrans, std::max<Index>(cols, 1)};
    if (x.row >= cols) return {kNoTrans, x.row};
  }
  if (x.row == 1 || rows == 1) {
    if (cols == 1) return {kTrans, std::max<Index>(rows, 1)};
    if (x.col >= rows) return {kTrans, x.col};
  }
  return {kNoTrans, 0};
}

bool fits(const BlasLibrary& library, std::initializer_list<Index> sizes) {
  return library.ilp64 || std::max(sizes) <= std::numeric_limits<std::int32_t>::max();
}

template <class T, class Int>
void call_gemm(void* f, Form fa, Form fb, Index m, Index n, Index k, const T* a, const T* b, T* c,
               Index c_row) {
  using Gemm = void (*)(int, int, int, Int, Int, Int, T, const T*, Int, const T*, Int, T, T*, Int);
  reinterpret_cast<Gemm>(f)(kRowMajor, fa.trans, fb.trans, static_cast<Int>(m), static_cast<Int>(n),
                            static_cast<Int>(k), T(1), a, static_cast<Int>(fa.ld), b,
                            static_cast<Int>(fb.ld), T(0), c, static_cast<Int>(c_row));
}

template <class T, class Int>
void call_gemv(void* f, Form fa, Index m, Index k, const T* a, const T* x, Index step, T* y) {
  using Gemv = void (*)(int, int, Int, Int, T, const T*, Int, const T*, Int, T, T*, Int);
  const bool flip = fa.trans == kTrans;
  reinterpret_cast<Gemv>(f)(kRowMajor, fa.trans, static_cast<Int>(flip ? k : m),
                            static_cast<Int>(flip ? m : k), T(1), a, static_cast<Int>(fa.ld), x,
                            static_cast<Int>(step), T(0), y, Int(1));
}

template <class T>
void gemm_panel(const BlasLibrary* library, Index m, Index n, Index k, const Matrix<T>& a, Form fa,
                const Matrix<T>& b, Form fb, T* c, Index c_row) {
  if (!library || !fits(*library, {m, n, k, fa.ld, fb.ld, c_row}))
    return gemm_builtin(m, n, k, a.data, a.row, a.col, b.data, b.row, b.col, c, c_row);
  void* const f = std::is_same_v<T, float> ? library->sgemm : library->dgemm;
  if (library->ilp64)
    call_gemm<T, std::int64_t>(f, fa, fb, m, n, k, a.data, b.data, c, c_row);
  else
    call_gemm<T, std::int32_t>(f, fa, fb, m, n, k, a.data, b.data, c, c_row);
}

// ---- Copies of operands a BLAS cannot take ------------------------------------------------------

/// Makes `x` contiguous row-major. The result lives as long as the storage.
template <class T>
IntrusivePtr<Storage> make_contiguous(Index rows, Index cols, Matrix<T>& x) {
  const std::size_t bytes = static_cast<std::size_t>(rows * cols) * sizeof(T);
  auto storage = Storage::allocate(bytes, "matmul");
  T* const to = static_cast<T*>(storage->data());
  const Index band = std::max<Index>(1, kVectorWork / std::max<Index>(cols, 1));
  parallel_for(rows, band, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index j = 0; j < cols; ++j) to[i * cols + j] = x.data[i * x.row + j * x.col];
  });
  x = {to, cols, 1};
  return storage;
}

// ---- The three kinds of product -----------------------------------------------------------------

template <class T>
void outer(Index m, Index n, const Matrix<T>& a, Matrix<T> b, T* c) {
  IntrusivePtr<Storage> copy;
  if (b.col != 1 && m > 1) copy = make_contiguous(1, n, b);
  const Index band = std::max<Index>(1, kVectorWork / n);
  parallel_for(m, band, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const T x = a.data[i * a.row];
      T* const to = c + i * n;
      if (b.col == 1)
        for (Index j = 0; j < n; ++j) to[j] = x * b.data[j];
      else
        for (Index j = 0; j < n; ++j) to[j] = x * b.data[j * b.col];
    }
  });
}

/// y = A x, with the elements of x `step` apart.
template <class T>
void matrix_vector(Index m, Index k, Matrix<T> a, const T* x, Index step, T* y) {
  const BlasLibrary* const library = blas_library();
  IntrusivePtr<Storage> a_copy;
  IntrusivePtr<Storage> x_copy;
  Matrix<T> v{x, step, 1};
  if (library && form_of(m, k, a).ld == 0) a_copy = make_contiguous(m, k, a);
  if (step <= 0) {
    x_copy = make_contiguous(k, Index(1), v);
    step = 1;
  }
  const Form fa = form_of(m, k, a);
  const bool usable = library && fits(*library, {m, k, fa.ld, step});
  const Index band = std::max<Index>(64, round_up(kVectorWork / k, 64));
  parallel_for(m, band, [&](Index begin, Index end) {
    const Index rows = end - begin;
    const T* const from = a.data + begin * a.row;
    if (!usable)
      return gemm_builtin(rows, Index(1), k, from, a.row, a.col, v.data, step, Index(1), y + begin,
                          Index(1));
    std::fill_n(y + begin, rows, T(0));  // some libraries scale by beta = 0, and keep a nan
    void* const f = std::is_same_v<T, float> ? library->sgemv : library->dgemv;
    if (library->ilp64)
      call_gemv<T, std::int64_t>(f, fa, rows, k, from, v.data, step, y + begin);
    else
      call_gemv<T, std::int32_t>(f, fa, rows, k, from, v.data, step, y + begin);
  });
}

/// Length of the pieces of a side: a quarter of it, in near-equal multiples of 64, from 128 (less
/// wastes a tenth of the time on copying the other operand again) to 1024, and enough work each.
Index piece(Index side, Index work_per_line) {
  Index length = std::clamp<Index>(side / 4, 128, 1024);
  length = std::max(length, kPanelWork / std::max<Index>(work_per_line, 1));
  const Index count = (side - 1) / length + 1;
  return std::min(side, round_up((side - 1) / count + 1, 64));
}

template <class T>
void matrix_matrix(Index m, Index n, Index k, Matrix<T> a, Matrix<T> b, T* c) {
  const BlasLibrary* const library = blas_library();
  IntrusivePtr<Storage> a_copy;
  IntrusivePtr<Storage> b_copy;
  if (library && form_of(m, k, a).ld == 0) a_copy = make_contiguous(m, k, a);
  if (library && form_of(k, n, b).ld == 0) b_copy = make_contiguous(k, n, b);
  const Form fa = form_of(m, k, a);
  const Form fb = form_of(k, n, b);
  if (product(product(m, n), k) < 2 * kPanelWork)
    return gemm_panel(library, m, n, k, a, fa, b, fb, c, n);
  // The longer side is cut; the other one only when it is long itself. Of equal sides OpenBLAS
  // loses less (2 to 5 %) by columns in single precision and by rows in double.
  const bool by_rows = m > n || (m == n && std::is_same_v<T, double>);
  const Index rows = by_rows ? piece(m, product(n, k)) : (m >= 2048 ? 1024 : m);
  const Index cols = by_rows ? (n >= 2048 ? 1024 : n) : piece(n, product(m, k));
  const Index across = (n - 1) / cols + 1;
  const Index down = (m - 1) / rows + 1;
  parallel_for(across * down, 1, [&](Index begin, Index end) {
    for (Index panel = begin; panel < end; ++panel) {
      const Index i = panel / across * rows;
      const Index j = panel % across * cols;
      gemm_panel(library, std::min(rows, m - i), std::min(cols, n - j), k, a.at(i, 0), fa,
                 b.at(0, j), fb, c + i * n + j, n);
    }
  });
}

template <class T>
void multiply(Index m, Index n, Index k, const Matrix<T>& a, const Matrix<T>& b, T* c) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    std::fill_n(c, m * n, T(0));
  } else if (product(product(m, n), k) <= kSmall) {
    gemm_small(m, n, k, a.data, a.row, a.col, b.data, b.row, b.col, c);
  } else if (k == 1) {
    outer(m, n, a, b, c);
  } else if (n == 1) {
    matrix_vector(m, k, a, b.data, b.row, c);
  } else if (m == 1) {
    matrix_vector(n, k, b.transposed(), a.data, a.col, c);
  } else {
    matrix_matrix(m, n, k, a, b, c);
  }
}

// ---- Batches ------------------------------------------------------------------------------------

struct Batch {
  int ndim;
  const Index* shape;
};

/// Offset in elements of the matrix with this number.
Index offset_of(const Batch& batch, const Index* strides, Index number) {
  Index offset = 0;
  for (int d = batch.ndim - 1; d >= 0; --d) {
    offset += number % batch.shape[d] * strides[d];
    number /= batch.shape[d];
  }
  return offset;
}

template <class T>
void multiply_batch(const Batch& batch, Index m, Index n, Index k, const BatchOperand& a,
                    const BatchOperand& b, T* c) {
  Index count = 1;
  for (int d = 0; d < batch.ndim; ++d) count *= batch.shape[d];
  const Matrix<T> first_a{static_cast<const T*>(a.data), a.row, a.col};
  const Matrix<T> first_b{static_cast<const T*>(b.data), b.row, b.col};
  if (count == 0) return;
  const auto run = [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      Matrix<T> one_a = first_a;
      Matrix<T> one_b = first_b;
      one_a.data += offset_of(batch, a.batch, i);
      one_b.data += offset_of(batch, b.batch, i);
      multiply(m, n, k, one_a, one_b, c + i * m * n);
    }
  };
  // A few large products are divided themselves.
  const Index work = std::max<Index>(1, product(product(m, n), k));
  if (count < 4 && work >= 2 * kPanelWork) return run(0, count);
  parallel_for(count, std::max<Index>(1, kPanelWork / work), run);
}

/// Calls f with a null pointer to the element type.
template <class F>
void with_float_type(DType dtype, F&& f) {
  if (dtype == DType::float32) return f(static_cast<float*>(nullptr));
  if (dtype == DType::float64) return f(static_cast<double*>(nullptr));
  raise(ErrorKind::type, "matmul",
        "the BLAS kernels take float32 or float64, got " + std::string(name(dtype)) +
            "; convert the operands first");
}

}  // namespace

void matmul(DType dtype, Index m, Index n, Index k, const void* a, Index a_row, Index a_col,
            const void* b, Index b_row, Index b_col, void* c) {
  with_float_type(dtype, [&]<class T>(T*) {
    multiply<T>(m, n, k, {static_cast<const T*>(a), a_row, a_col},
                {static_cast<const T*>(b), b_row, b_col}, static_cast<T*>(c));
  });
}

void matmul_batched(DType dtype, int batch_ndim, const Index* batch_shape, Index m, Index n,
                    Index k, const BatchOperand& a, const BatchOperand& b, void* c) {
  with_float_type(dtype, [&]<class T>(T*) {
    multiply_batch<T>({batch_ndim, batch_shape}, m, n, k, a, b, static_cast<T*>(c));
  });
}

}  // namespace adjoint::kernels
