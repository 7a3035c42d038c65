// Draws from the state of a generator, which they read and do not change.
#pragma once

#include <cstdint>

#include "adjoint/tensor.h"

namespace adjoint {

Tensor random_uniform(const Tensor& state, Tensor::Shape shape, DType dtype);
Tensor random_normal(const Tensor& state, Tensor::Shape shape, DType dtype);
/// Integers in [low, high).
Tensor random_integers(const Tensor& state, Tensor::Shape shape, std::int64_t low,
                       std::int64_t high);
/// Words of 64 bits.
Tensor random_bits(const Tensor& state, Tensor::Shape shape);
/// The state after a draw of n elements.
Tensor random_advance(const Tensor& state, std::int64_t n);

}  // namespace adjoint
