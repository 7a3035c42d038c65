// LAPACK as C++ sees it: matrices in column-major order, sizes in 64 bits, one template for both
// precisions. The routines come from the library that `lapack_library` finds, at the first call.
//
// What a routine reports is given on: 0, or a number that says where it stopped (`info`). A
// negative one, a bad argument, is an error of ours, and raises.
//
// A matrix in row-major order is the transpose in column-major order. The callers make use of that
// in place of copies: of the transpose, the lower triangle is the upper one, and the factors of a
// product change places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace adjoint::kernels {

/// Whether LAPACK is there; opens it.
bool has_lapack();
/// Raises for `op` where it is not: nothing here may be called then.
void need_lapack(const char* op);

using Index = std::int64_t;

/// Room for a routine, uninitialised, aligned to lines of the cache.
struct FreeWorkspace {
  void operator()(void* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};
template <class T>
using Workspace = std::unique_ptr<T[], FreeWorkspace>;

/// How much room a routine needs at least, by its documentation. Counted in 64 bits: what a routine
/// of 32 bits says of it wraps around.
struct WorkSize {
  Index numbers, integers;
};
WorkSize eigen_work(Index n, bool vectors);
WorkSize svd_work(char job, Index m, Index n);

template <class T>
Workspace<T> workspace(Index n) {
  const std::size_t bytes = static_cast<std::size_t>(n > 1 ? n : 1) * sizeof(T);
  return Workspace<T>(static_cast<T*>(::operator new[](bytes, std::align_val_t{64})));
}

/// A = L L' or U' U in the triangle `uplo`; the other one is left alone.
template <class T>
Index potrf(char uplo, Index n, T* a, Index lda);

/// A = P L U; row i was exchanged with row pivots[i] - 1, in order.
template <class T>
Index getrf(Index n, T* a, Index lda, Index* pivots);

/// An estimate of 1 / (|A| |A^-1|) in the 1-norm, from the LU factors and the norm of A.
template <class T>
T gecon(Index n, const T* a, Index lda, T norm);

/// C = alpha op(A) op(B) + beta C, of m rows and n columns, on the thread that calls.
template <class T>
void gemm(char transa, char transb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
          const T* b, Index ldb, T beta, T* c, Index ldc);
/// B = B op(A), A being triangular of order n, and B of m rows.
template <class T>
void trmm_right(char uplo, char trans, Index m, Index n, const T* a, Index lda, T* b, Index ldb);
/// B = B op(A)^-1, A being triangular of order n, and B of m rows.
template <class T>
void trsm_right(char uplo, char trans, char diag, Index m, Index n, const T* a, Index lda, T* b,
                Index ldb);
/// x = op(A)^-1 x.
template <class T>
void trsv(char uplo, char trans, char diag, Index n, const T* a, Index lda, T* x);

/// The inverse in the place of the LU factors.
template <class T>
class Inverse {
 public:
  explicit Inverse(Index n);
  Index operator()(T* a, const Index* pivots);

 private:
  Index n_, size_;
  Workspace<T> work_;
  Workspace<Index> pivots_;
};

/// A = Q R of m rows and n columns, R in the upper triangle of A and Q as reflectors below it
/// (reflectors.h). Forms the first `columns` columns of Q, of which there are at least min(m, n).
template <class T>
class QrFactors {
 public:
  QrFactors(Index m, Index n, Index columns);
  /// `a` has the leading dimension m; there are min(m, n) scales.
  Index factor(T* a, T* scales);
  /// In the place of the reflectors, for which there is room for m x max(columns, n).
  Index form(T* q, const T* scales);

 private:
  Index m_, n_, columns_, size_;
  Workspace<T> work_;
};

/// Eigenvalues in ascending order, of the triangle `uplo`, and with them the vectors as columns in
/// the place of A.
template <class T>
class SymmetricEigen {
 public:
  SymmetricEigen(char uplo, Index n, bool vectors);
  Index operator()(T* a, T* values);

 private:
  char uplo_, job_;
  Index n_, size_, integers_;
  Workspace<T> work_;
  Workspace<Index> iwork_;
};

/// The steps of the same, for a caller who multiplies by the reflectors itself.
template <class T>
class Tridiagonal {
 public:
  explicit Tridiagonal(Index n);
  /// From the lower triangle of A: A = Q T Q'. The reflectors of Q lie below the subdiagonal, their
  /// ones on it, and there are n - 1 scales; d and e are the diagonal of T and the one beside it.
  Index reduce(T* a, T* d, T* e, T* scales);
  /// T = Z diag(d) Z', in ascending order; e is overwritten.
  Index solve(T* d, T* e, T* z);

 private:
  Index n_, size_, integers_;
  Workspace<T> work_;
  Workspace<Index> iwork_;
};

/// A = U S V' of m rows and n columns; A is overwritten.
template <class T>
class Svd {
 public:
  /// 'N': singular values alone, 'S': min(m, n) columns of U and rows of V', 'A': all of them.
  Svd(char job, Index m, Index n);
  Index operator()(T* a, T* s, T* u, T* vt);

 private:
  char job_;
  Index m_, n_, size_;
  Workspace<T> work_;
  Workspace<Index> iwork_;
};

}  // namespace adjoint::kernels
