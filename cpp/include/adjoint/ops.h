// The operations as C++ functions. Names follow the Python Array API standard; what it lacks has
// NumPy's or SciPy's name. Each is an application of the record of the same name.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "adjoint/axes.h"
#include "adjoint/tensor.h"

namespace adjoint {

// clang-format off: it gives these lists another shape each time
#define ADJOINT_UNARY_FUNCTIONS(X)                                                                \
  X(abs) X(acos) X(acosh) X(asin) X(asinh) X(atan) X(atanh) X(bitwise_invert) X(cbrt) X(ceil)     \
  X(cos) X(cosh) X(digamma) X(erf) X(erfc) X(erfinv) X(exp) X(exp2) X(expm1) X(floor) X(gelu)     \
  X(i0) X(i0e) X(i1) X(i1e) X(isfinite) X(isinf) X(isnan) X(lgamma) X(log) X(log10) X(log1p)      \
  X(log2) X(log_ndtr) X(logical_not) X(ndtr) X(ndtri) X(negative) X(positive) X(reciprocal)       \
  X(relu) X(round) X(rsqrt) X(sigmoid) X(sign) X(signbit) X(silu) X(sin) X(sinc) X(sinh)          \
  X(softplus) X(sqrt) X(square) X(tan) X(tanh) X(trunc)

#define ADJOINT_BINARY_FUNCTIONS(X)                                                               \
  X(add) X(atan2) X(bitwise_and) X(bitwise_left_shift) X(bitwise_or) X(bitwise_right_shift)       \
  X(bitwise_xor) X(copysign) X(divide) X(equal) X(float_power) X(floor_divide) X(fmod) X(gcd)     \
  X(greater) X(greater_equal) X(hypot) X(lcm) X(ldexp) X(less) X(less_equal) X(logaddexp)         \
  X(logical_and) X(logical_or) X(logical_xor) X(maximum) X(minimum) X(mul0) X(multiply)           \
  X(nextafter) X(not_equal) X(polygamma) X(pow) X(remainder) X(subtract)
// clang-format on

#define ADJOINT_DECLARE(name) Tensor name(const Tensor& x);
ADJOINT_UNARY_FUNCTIONS(ADJOINT_DECLARE)
#undef ADJOINT_DECLARE
#define ADJOINT_DECLARE(name) Tensor name(const Tensor& a, const Tensor& b);
ADJOINT_BINARY_FUNCTIONS(ADJOINT_DECLARE)
#undef ADJOINT_DECLARE

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor clip(const Tensor& x, const Tensor& low, const Tensor& high);
Tensor astype(const Tensor& x, DType dtype);
/// A fraction and an exponent of two.
std::tuple<Tensor, Tensor> frexp(const Tensor& x);

// A number takes the dtype of the tensor it meets (an integer tensor becomes float64).
#define ADJOINT_OPERATOR(op)                            \
  Tensor operator op(const Tensor& a, const Tensor& b); \
  Tensor operator op(const Tensor& a, double b);        \
  Tensor operator op(double a, const Tensor& b);
ADJOINT_OPERATOR(+)
ADJOINT_OPERATOR(-)
ADJOINT_OPERATOR(*)
ADJOINT_OPERATOR(/)
#undef ADJOINT_OPERATOR
Tensor operator-(const Tensor& x);
Tensor pow(const Tensor& x, double exponent);
/// `value` as a scalar of the dtype in which it meets x.
Tensor scalar_like(const Tensor& x, double value);

Tensor sum(const Tensor& x, const Axes& axis = {}, bool keepdims = false,
           std::optional<DType> dtype = {});
Tensor prod(const Tensor& x, const Axes& axis = {}, bool keepdims = false,
            std::optional<DType> dtype = {});
Tensor max(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor min(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor any(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor all(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor mean(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor var(const Tensor& x, const Axes& axis = {}, double correction = 0, bool keepdims = false);
Tensor std_(const Tensor& x, const Axes& axis = {}, double correction = 0, bool keepdims = false);
Tensor argmax(const Tensor& x, std::optional<int> axis = {}, bool keepdims = false);
Tensor argmin(const Tensor& x, std::optional<int> axis = {}, bool keepdims = false);
Tensor sort(const Tensor& x, int axis = -1, bool descending = false, bool stable = true);
Tensor argsort(const Tensor& x, int axis = -1, bool descending = false, bool stable = true);

Tensor reshape(const Tensor& x, Tensor::Shape shape);
Tensor permute_dims(const Tensor& x, Tensor::Shape axes);
Tensor matrix_transpose(const Tensor& x);
Tensor moveaxis(const Tensor& x, Tensor::Shape source, Tensor::Shape destination);
Tensor expand_dims(const Tensor& x, int axis = 0);
Tensor squeeze(const Tensor& x, const Axes& axis);
Tensor broadcast_to(const Tensor& x, Tensor::Shape shape);
Tensor flip(const Tensor& x, const Axes& axis = {});
Tensor concat(std::span<const Tensor> arrays, std::optional<int> axis = 0);
Tensor stack(std::span<const Tensor> arrays, int axis = 0);
Tensor matmul(const Tensor& x1, const Tensor& x2);
Tensor take(const Tensor& x, const Tensor& indices, std::optional<int> axis = {});

Tensor tril(const Tensor& x, std::int64_t k = 0);
Tensor triu(const Tensor& x, std::int64_t k = 0);
Tensor swapaxes(const Tensor& x, int axis1, int axis2);
Tensor ravel(const Tensor& x);
Tensor diagonal(const Tensor& x, std::int64_t offset = 0, int axis1 = 0, int axis2 = 1);
Tensor trace(const Tensor& x, std::int64_t offset = 0, int axis1 = 0, int axis2 = 1,
             std::optional<DType> dtype = {});
Tensor roll(const Tensor& x, Tensor::Shape shift, const Axes& axis = {});
Tensor tile(const Tensor& x, Tensor::Shape repetitions);
Tensor repeat(const Tensor& x, const std::vector<std::int64_t>& repeats,
              std::optional<int> axis = {});
std::vector<Tensor> unstack(const Tensor& x, int axis = 0);
std::vector<Tensor> broadcast_arrays(std::span<const Tensor> arrays);
std::vector<Tensor> meshgrid(std::span<const Tensor> arrays, std::string_view indexing = "xy");
Tensor diff(const Tensor& x, int axis = -1, std::int64_t n = 1,
            const std::optional<Tensor>& prepend = {}, const std::optional<Tensor>& append = {});
Tensor count_nonzero(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor take_along_axis(const Tensor& x, const Tensor& indices, int axis = -1);
Tensor cumulative_prod(const Tensor& x, std::optional<int> axis = {},
                       std::optional<DType> dtype = {}, bool include_initial = false);
Tensor cumulative_sum(const Tensor& x, std::optional<int> axis = {},
                      std::optional<DType> dtype = {}, bool include_initial = false);
Tensor searchsorted(const Tensor& x1, const Tensor& x2, std::string_view side = "left",
                    const std::optional<Tensor>& sorter = {});
std::vector<Tensor> nonzero(const Tensor& x);
/// Values, places of the first of each, number of each element's value, counts.
std::tuple<Tensor, Tensor, Tensor, Tensor> unique_all(const Tensor& x);
std::tuple<Tensor, Tensor> unique_counts(const Tensor& x);
std::tuple<Tensor, Tensor> unique_inverse(const Tensor& x);
Tensor unique_values(const Tensor& x);
Tensor vecdot(const Tensor& x1, const Tensor& x2, int axis = -1);
Tensor tensordot(const Tensor& x1, const Tensor& x2, const AxisPairs& axes = 2);
Tensor outer(const Tensor& x1, const Tensor& x2);
Tensor logsumexp(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor log_softmax(const Tensor& x, const Axes& axis = -1);
Tensor softmax(const Tensor& x, const Axes& axis = -1);

Tensor atleast_1d(const Tensor& x);
Tensor atleast_2d(const Tensor& x);
Tensor atleast_3d(const Tensor& x);
Tensor hstack(std::span<const Tensor> arrays);
Tensor vstack(std::span<const Tensor> arrays);
Tensor dstack(std::span<const Tensor> arrays);
Tensor fliplr(const Tensor& x);
Tensor flipud(const Tensor& x);
Tensor diag(const Tensor& x, std::int64_t k = 0);
Tensor dot(const Tensor& x1, const Tensor& x2);
Tensor inner(const Tensor& x1, const Tensor& x2);
Tensor kron(const Tensor& x1, const Tensor& x2);
Tensor cross(const Tensor& x1, const Tensor& x2, int axis = -1);
Tensor median(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor quantile(const Tensor& x, const Tensor& q, const Axes& axis = {}, bool keepdims = false);
/// Values and indices.
std::tuple<Tensor, Tensor> topk(const Tensor& x, std::int64_t k, int axis = -1,
                                bool largest = true);
Tensor nan_to_num(const Tensor& x, double nan = 0, std::optional<double> posinf = {},
                  std::optional<double> neginf = {});
Tensor nansum(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor nanmean(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor nanmax(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor nanmin(const Tensor& x, const Axes& axis = {}, bool keepdims = false);
Tensor fmax(const Tensor& x1, const Tensor& x2);
Tensor fmin(const Tensor& x1, const Tensor& x2);
Tensor isclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8,
               bool equal_nan = false);
Tensor allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8,
                bool equal_nan = false);
Tensor deg2rad(const Tensor& x);
Tensor rad2deg(const Tensor& x);
Tensor heaviside(const Tensor& x1, const Tensor& x2);
Tensor xlogy(const Tensor& x, const Tensor& y);
Tensor xlog1py(const Tensor& x, const Tensor& y);
Tensor entr(const Tensor& x);
Tensor logit(const Tensor& x);
Tensor trapezoid(const Tensor& y, const std::optional<Tensor>& x = {}, double dx = 1,
                 int axis = -1);
Tensor cov(const Tensor& m, bool rowvar = true, bool bias = false,
           std::optional<std::int64_t> ddof = {});
Tensor corrcoef(const Tensor& x, bool rowvar = true);
Tensor one_hot(const Tensor& x, std::int64_t num_classes, std::optional<DType> dtype = {});

/// Elements start, start + step, ... of every axis; an axis with count 1 and step 0 is left out.
Tensor slice(const Tensor& x, Tensor::Shape starts, Tensor::Shape counts, Tensor::Shape steps);
/// x with those elements replaced; bit 0 of `donate`: the caller's handle on x is given up.
Tensor put_slice(const Tensor& x, const Tensor& value, Tensor::Shape starts, Tensor::Shape counts,
                 Tensor::Shape steps, std::uint32_t donate = 0);
Tensor zeros(Tensor::Shape shape, std::optional<DType> dtype = {});
Tensor ones(Tensor::Shape shape, std::optional<DType> dtype = {});
Tensor empty(Tensor::Shape shape, std::optional<DType> dtype = {});
Tensor zeros_like(const Tensor& x, std::optional<DType> dtype = {});
Tensor ones_like(const Tensor& x, std::optional<DType> dtype = {});
Tensor empty_like(const Tensor& x, std::optional<DType> dtype = {});
Tensor eye(std::int64_t n_rows, std::optional<std::int64_t> n_cols = {}, std::int64_t k = 0,
           std::optional<DType> dtype = {});
/// Values of [start, stop) that are `step` apart.
Tensor arange(double start, double stop, double step, DType dtype);
/// The same in integers, exact in every dtype that holds them; `arange` of integers is this.
Tensor arange_integers(std::int64_t start, std::int64_t stop, std::int64_t step, DType dtype);
template <std::integral A, std::integral B, std::integral C = int>
Tensor arange(A start, B stop, C step = 1, DType dtype = DType::int64) {
  return arange_integers(start, stop, step, dtype);
}
Tensor linspace(double start, double stop, std::int64_t num, bool endpoint, DType dtype);

}  // namespace adjoint
