// The matrix product of last resort: a packed, blocked loop for machines without a BLAS. Its sums
// run in the order of k within fixed blocks of k, so they depend on the shape alone.
#pragma once

#include <cstdint>

namespace adjoint::kernels {

constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

/// C = A B for T float or double: any strides in elements for A and B, rows of C contiguous and
/// `c_row` apart. Serial.
template <class T>
void gemm_builtin(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
                  std::int64_t a_col, const T* b, std::int64_t b_row, std::int64_t b_col, T* c,
                  std::int64_t c_row);

/// The same for products so small that packing, or the call of a BLAS, would cost more than they
/// do: no allocation, sums in the order of k.
template <class T>
void gemm_small(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
                std::int64_t a_col, const T* b, std::int64_t b_row, std::int64_t b_col, T* c);

}  // namespace adjoint::kernels
