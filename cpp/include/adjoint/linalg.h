// Linear algebra: factors, solutions, spectra and norms of matrices, and stacks of them. Names and
// results follow the array standard; what it lacks has NumPy's or SciPy's name.
//
// The last two axes are a matrix; those before them count matrices, and broadcast where there are
// several operands. Integers are taken to float64. The work is LAPACK's, which is opened at the
// first call; an Error of kind `runtime` says what to install where there is none. A matrix that is
// singular, or not positive definite, or whose factors do not converge is one of kind `linalg`,
// which names the matrix of the stack. A matrix with an infinity or nan gives nan where its factors
// cannot be found. Every function has derivatives of every order in both modes.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>

#include "adjoint/ops.h"

namespace adjoint::linalg {

/// Which norm: a number or a name ("fro", "nuc").
using Order = std::variant<double, std::string>;

using adjoint::cross;
using adjoint::matmul;
using adjoint::matrix_transpose;
using adjoint::outer;
using adjoint::tensordot;
using adjoint::vecdot;
/// Of the matrices in the last two axes.
Tensor diagonal(const Tensor& x, std::int64_t offset = 0);
Tensor trace(const Tensor& x, std::int64_t offset = 0, std::optional<DType> dtype = {});

// Factors. A symmetric matrix is read from its lower triangle (`upper`: from the upper one), and
// its derivative is that along symmetric matrices.
Tensor cholesky(const Tensor& x, bool upper = false);
/// Q and R; mode "reduced" or "complete".
std::tuple<Tensor, Tensor> qr(const Tensor& x, std::string_view mode = "reduced");
/// Eigenvalues in ascending order, and the vectors as columns.
std::tuple<Tensor, Tensor> eigh(const Tensor& x);
Tensor eigvalsh(const Tensor& x);
/// U, the singular values in descending order, and V transposed.
std::tuple<Tensor, Tensor, Tensor> svd(const Tensor& x, bool full_matrices = true);
Tensor svdvals(const Tensor& x);

// Solutions. A right side of one dimension is a vector, any other a stack of matrices.
Tensor solve(const Tensor& x1, const Tensor& x2);
/// trans: 0 for a x = b, 1 (or 2) for a' x = b.
Tensor solve_triangular(const Tensor& a, const Tensor& b, std::int64_t trans = 0,
                        bool lower = false, bool unit_diagonal = false);
/// From the Cholesky factor of the matrix.
Tensor cho_solve(const Tensor& c, const Tensor& b, bool lower = true);
/// Solutions, sums of squared residuals, ranks and singular values.
std::tuple<Tensor, Tensor, Tensor, Tensor> lstsq(const Tensor& a, const Tensor& b,
                                                 std::optional<double> rcond = {});
Tensor inv(const Tensor& x);
/// Of a tensor that maps its last axes to its first `ind` ones, and of one that maps axes to those
/// of b.
Tensor tensorinv(const Tensor& x, std::int64_t ind = 2);
Tensor tensorsolve(const Tensor& a, const Tensor& b, const Axes& axes = {});
Tensor pinv(const Tensor& x, const std::optional<Tensor>& rtol = {});

// Determinants, powers, exponentials.
Tensor det(const Tensor& x);
/// Sign and logarithm of the absolute value.
std::tuple<Tensor, Tensor> slogdet(const Tensor& x);
Tensor matrix_power(const Tensor& x, std::int64_t n);
Tensor expm(const Tensor& x);
Tensor multi_dot(std::span<const Tensor> arrays);
Tensor block_diag(std::span<const Tensor> arrays);

// Norms and what follows from singular values.
Tensor vector_norm(const Tensor& x, const Axes& axis = {}, bool keepdims = false, double ord = 2);
Tensor matrix_norm(const Tensor& x, bool keepdims = false, const Order& ord = "fro");
Tensor norm(const Tensor& x, const std::optional<Order>& ord = {}, const Axes& axis = {},
            bool keepdims = false);
Tensor matrix_rank(const Tensor& x, const std::optional<Tensor>& rtol = {});
Tensor cond(const Tensor& x, const std::optional<Order>& p = {});

}  // namespace adjoint::linalg
