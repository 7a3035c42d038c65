// The operations as C++ functions: those of the records, made from them, and what C++ has beside:
// operators, and functions whose Python form takes other arguments.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include "adjoint/functions.h"
#include "adjoint/tensor.h"

namespace adjoint {

Tensor astype(const Tensor& x, DType dtype);

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

/// Elements start, start + step, ... of every axis; an axis with count 1 and step 0 is left out.
Tensor slice(const Tensor& x, Tensor::Shape starts, Tensor::Shape counts, Tensor::Shape steps);
/// x with those elements replaced; bit 0 of `donate`: the caller's handle on x is given up.
Tensor put_slice(const Tensor& x, const Tensor& value, Tensor::Shape starts, Tensor::Shape counts,
                 Tensor::Shape steps, std::uint32_t donate = 0);
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
