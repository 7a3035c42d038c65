// Products with the orthogonal matrices that LAPACK's factorisations leave as reflectors.
//
// LAPACK has routines for it (ormqr and its kin). These differ in two ways. They are made of
// nothing but plain matrix products: the reflectors of a panel are copied with the ones and zeros
// that their storage leaves out, where the reference copies and multiplies triangles beside the
// product, which takes as long again. And they only read the reflectors, which the older versions
// of those routines change and restore: here several threads may have them.
#pragma once

#include <vector>

#include "kernels/lapack.h"

namespace adjoint::kernels {

/// Q = H_0 H_1 ... of `count` reflectors H_j = I - scale_j v_j v_j' of order m: v_j is 0 above its
/// entry j, which is 1, and stands below the diagonal in column j of a matrix in column-major order
/// (R. Schreiber and C. Van Loan, A storage-efficient WY representation for products of Householder
/// transformations, 1989).
template <class T>
class Reflectors {
 public:
  /// For matrices of n rows.
  Reflectors(Index m, Index count, Index n);
  /// C = C Q, or C Q' where `trans`, of n rows and m columns without gaps. In row-major order it is
  /// C = Q' C or Q C of n columns.
  void apply(bool trans, const T* v, Index ldv, const T* scales, T* c);
  /// The first n columns of Q, of which there are at least as many as reflectors, in row-major
  /// order.
  void form(const T* v, Index ldv, const T* scales, T* q);

 private:
  static constexpr Index kPanel = 32;
  template <class F>
  void over_panels(bool ascending, F&& f) const;
  void take_panel(Index first, Index width, const T* v, Index ldv, const T* scales);
  void multiply_by_panel(bool trans, Index first, Index width, Index skipped, T* c);
  void one_by_one(bool ascending, const T* v, Index ldv, const T* scales, T* c) const;

  Index m_, count_, n_;
  std::vector<T> panel_, factor_;  // the reflectors with their zeros and ones; the triangle between
  Workspace<T> products_, moved_;
};

}  // namespace adjoint::kernels
