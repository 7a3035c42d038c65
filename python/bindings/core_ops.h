// The operations of the C++ API that the bindings call, in the form in which they call them.
#pragma once

#include <cstdint>
#include <span>

#include "adjoint/tensor.h"
#include "base/small_vector.h"

namespace adjoint {

Tensor reshape(const Tensor& x, Tensor::Shape shape);
Tensor permute_dims(const Tensor& x, Tensor::Shape axes);
Tensor expand_dims(const Tensor& x, int axis);
Tensor squeeze(const Tensor& x, Tensor::Shape axes);
Tensor broadcast_to(const Tensor& x, Tensor::Shape shape);
Tensor flip(const Tensor& x, Tensor::Shape axes);
Tensor concat(std::span<const Tensor> parts, int axis);
Tensor stack(std::span<const Tensor> parts, int axis);
Tensor matmul(const Tensor& a, const Tensor& b);
Tensor astype(const Tensor& x, DType dtype);
Tensor mean(const Tensor& x, Tensor::Shape axes, bool keepdims);
Tensor var(const Tensor& x, Tensor::Shape axes, double correction, bool keepdims);
Tensor std_(const Tensor& x, Tensor::Shape axes, double correction, bool keepdims);
Tensor argmax(const Tensor& x, int axis, bool keepdims);
Tensor argmin(const Tensor& x, int axis, bool keepdims);
Tensor take(const Tensor& x, const Tensor& indices, int axis);

Tensor zeros(Tensor::Shape shape, DType dtype);
Tensor ones(Tensor::Shape shape, DType dtype);
Tensor arange(double start, double stop, double step, DType dtype);
Tensor linspace(double start, double stop, std::int64_t num, bool endpoint, DType dtype);
Tensor eye(std::int64_t rows, std::int64_t cols, std::int64_t k, DType dtype);

/// Elements start, start + step, ... of every axis.
Tensor slice(const Tensor& x, Tensor::Shape starts, Tensor::Shape counts, Tensor::Shape steps);
/// x with those elements replaced; bit 0 of `donate`: the caller's handle on x is given up.
Tensor put_slice(const Tensor& x, const Tensor& value, Tensor::Shape starts, Tensor::Shape counts,
                 Tensor::Shape steps, std::uint32_t donate);
/// x with the entries along axis 0 that `indices` names replaced; the last of equal ones stays.
Tensor put_rows(const Tensor& x, const Tensor& indices, const Tensor& value);

}  // namespace adjoint
