// The loops behind fused_copy.h; copies of one element size come from the kernel table.
#include "kernels/fused_copy.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/small_vector.h"
#include "kernels/table.h"

namespace adjoint::kernels::fused {

namespace {

using std::int64_t;
using std::size_t;

template <class T>
void fill_as(void* dst, const void* src, int64_t n) {
  T value;
  std::memcpy(&value, src, sizeof value);
  std::fill_n(static_cast<T*>(dst), n, value);
}

}  // namespace

void fill(void* dst, const void* src, int64_t n, size_t size) {
  switch (size) {
    case 8: fill_as<std::uint64_t>(dst, src, n); break;
    case 4: fill_as<std::uint32_t>(dst, src, n); break;
    case 2: fill_as<std::uint16_t>(dst, src, n); break;
    default: fill_as<std::uint8_t>(dst, src, n);
  }
}

void copy_strided(const char* src, int64_t stride, char* dst, int64_t dst_stride, int64_t n,
                  size_t size) {
  static const StridedCopyFn copies[4] = {find_copy(1), find_copy(2), find_copy(4), find_copy(8)};
  copies[std::countr_zero(size)](src, stride, dst, dst_stride, n);
}

void gather(const Source& s, int64_t start, int64_t n, char* dst) {
  if (n <= 0) return;
  const auto size = static_cast<int64_t>(s.size);
  const int last = s.ndim - 1;
  Dims at(static_cast<size_t>(s.ndim), 0);
  const char* p = s.data;
  for (int d = last; d >= 0; --d) {
    at[d] = start % s.shape[d];
    start /= s.shape[d];
    p += at[d] * s.strides[d];
  }
  while (n > 0) {
    int d = last;
    int64_t step;
    const int64_t inner = s.shape[last];
    const int64_t whole =
        last > 0 && at[last] == 0 ? std::min(n / inner, s.shape[last - 1] - at[last - 1]) : 0;
    if (whole > inner) {
      // Short innermost rows: copy along the dimension before it instead.
      for (int64_t j = 0; j < inner; ++j)
        copy_strided(p + j * s.strides[last], s.strides[last - 1], dst + j * size, inner * size,
                     whole, s.size);
      step = whole;
      n -= whole * inner;
      dst += whole * inner * size;
      d = last - 1;
    } else {
      step = std::min(n, inner - at[last]);
      copy_strided(p, s.strides[last], dst, size, step, s.size);
      n -= step;
      dst += step * size;
    }
    at[d] += step;
    p += step * s.strides[d];
    for (; d > 0 && at[d] == s.shape[d]; --d) {
      p += s.strides[d - 1] - s.shape[d] * s.strides[d];
      at[d] = 0;
      ++at[d - 1];
    }
  }
}

}  // namespace adjoint::kernels::fused
