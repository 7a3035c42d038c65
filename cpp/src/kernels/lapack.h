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
WorkSize least_squares_work(Index m, Index n, Index k);

/// A = L L' or U' U in the triangle `uplo`; the other one is left alone.
template <class T>
Index potrf(char uplo, Index n, T* a, Index lda);

/// A = P L U; row i was exchanged with row pivots[i] - 1, in order.
template <class T>
Index getrf(Index n, T* a, Index lda, Index* pivots);

/// An estimate of 1 / (|A| |A^-1|) in the 1-norm, from the LU factors and the norm of A.
template <class T>
T gecon(Index n, const T* a, Index lda, T norm);

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

/// A = Q R of m rows and n columns: the first `columns` columns of Q, of which there are at least
/// min(m, n). R is in the upper triangle of A; Q has the leading dimension m.
template <class T>
class QrFactors {
 public:
  QrFactors(Index m, Index n, Index columns);
  /// `q` has room for m x max(columns, n); A is its first n columns.
  template <class OnR>
  Index operator()(T* q, OnR&& on_r) {
    if (const Index info = factor(q)) return info;
    on_r(static_cast<const T*>(q));
    return form(q);
  }

 private:
  Index factor(T* q);
  Index form(T* q);
  Index m_, n_, columns_, size_;
  Workspace<T> work_, scales_;
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

/// The shortest x that minimises |A x - b|, for each of k columns; singular values up to rcond
/// times the largest count as 0. A is overwritten; b has max(m, n) rows, of which x takes n.
template <class T>
class LeastSquares {
 public:
  LeastSquares(Index m, Index n, Index k, T rcond);
  Index operator()(T* a, T* b, T* s, Index* rank);

 private:
  Index m_, n_, k_, size_;
  T rcond_;
  Workspace<T> work_;
  Workspace<Index> iwork_;
};

}  // namespace adjoint::kernels
