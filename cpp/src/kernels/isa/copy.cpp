// Strided copies, by item size. The strides that occur most (packed, repeated, reversed) have
// loops of their own because only a constant stride vectorises.
#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

template <class T>
ADJOINT_INLINE T load(const char* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
ADJOINT_INLINE void store(char* p, T value) {
  __builtin_memcpy(p, &value, sizeof value);
}

template <class T>
void to_packed(const char* src, std::int64_t stride, char* dst, std::int64_t n) {
  constexpr std::int64_t size = sizeof(T);
  if (stride == size) {
    __builtin_memcpy(dst, src, static_cast<std::size_t>(n * size));
  } else if (stride == 0) {
    const T value = load<T>(src);
    for (std::int64_t i = 0; i < n; ++i) store(dst + i * size, value);
  } else if (stride == -size) {
    ADJOINT_INDEPENDENT
    for (std::int64_t i = 0; i < n; ++i) store(dst + i * size, load<T>(src - i * size));
  } else {
    for (std::int64_t i = 0; i < n; ++i) store(dst + i * size, load<T>(src + i * stride));
  }
}

template <class T>
void strided_copy(const void* src, std::int64_t src_stride, void* dst, std::int64_t dst_stride,
                  std::int64_t n) {
  const char* from = static_cast<const char*>(src);
  char* to = static_cast<char*>(dst);
  if (n <= 0) return;
  if (dst_stride == static_cast<std::int64_t>(sizeof(T)))
    return to_packed<T>(from, src_stride, to, n);
  for (std::int64_t i = 0; i < n; ++i) store(to + i * dst_stride, load<T>(from + i * src_stride));
}

constexpr CopyRow kRows[] = {
    {1, &strided_copy<std::uint8_t>},
    {2, &strided_copy<std::uint16_t>},
    {4, &strided_copy<std::uint32_t>},
    {8, &strided_copy<std::uint64_t>},
};

}  // namespace

Rows<CopyRow> strided_copies() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
