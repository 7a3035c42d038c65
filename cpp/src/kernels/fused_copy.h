// Bringing elements into a tile: filling, copying with strides, gathering from any layout.
#pragma once

#include <cstddef>
#include <cstdint>

namespace adjoint::kernels::fused {

/// n times the element of `size` bytes at `src`.
void fill(void* dst, const void* src, std::int64_t n, std::size_t size);

void copy_strided(const char* src, std::int64_t stride, char* dst, std::int64_t dst_stride,
                  std::int64_t n, std::size_t size);

/// A full input in logical order, as dims; strides in bytes.
struct Source {
  const char* data;
  int ndim;
  const std::int64_t* shape;
  const std::int64_t* strides;
  std::size_t size;
};

/// Copies elements [start, start + n) of the logical order to contiguous `dst`.
void gather(const Source& source, std::int64_t start, std::int64_t n, char* dst);

}  // namespace adjoint::kernels::fused
