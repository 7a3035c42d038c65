// Copies between two strided places of the same shape.
#pragma once

#include <cstdint>
#include <span>

namespace adjoint::kernels {

/// dst[i] = src[i] over `shape`; strides in bytes, any sign; the places must not overlap.
void strided_copy(std::size_t itemsize, std::span<const std::int64_t> shape, const void* src,
                  std::span<const std::int64_t> src_strides, void* dst,
                  std::span<const std::int64_t> dst_strides);

}  // namespace adjoint::kernels
