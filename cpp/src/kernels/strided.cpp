// The loop nest is first reduced to as few loops as the strides allow; the innermost loop is the
// one with the smallest strides, so that a transpose reads or writes whole cache lines.
#include "kernels/strided.h"

#include <cstdlib>
#include <cstring>

#include "base/small_vector.h"
#include "kernels/table.h"

namespace adjoint::kernels {

namespace {

struct Loop {
  std::int64_t extent;
  std::int64_t src;
  std::int64_t dst;
};

/// Loops from outermost to innermost, unit extents dropped and adjacent loops merged.
SmallVector<Loop, 8> simplify(std::span<const std::int64_t> shape,
                              std::span<const std::int64_t> src,
                              std::span<const std::int64_t> dst) {
  SmallVector<Loop, 8> loops;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    const Loop next{shape[i], src[i], dst[i]};
    if (!loops.empty() && loops.back().src == next.extent * next.src &&
        loops.back().dst == next.extent * next.dst) {
      loops.back() = {loops.back().extent * next.extent, next.src, next.dst};
    } else {
      loops.push_back(next);
    }
  }
  if (loops.empty()) loops.push_back({1, 0, 0});
  return loops;
}

}  // namespace

void strided_copy(std::size_t itemsize, std::span<const std::int64_t> shape, const void* src,
                  std::span<const std::int64_t> src_strides, void* dst,
                  std::span<const std::int64_t> dst_strides) {
  for (const std::int64_t extent : shape)
    if (extent == 0) return;
  const auto loops = simplify(shape, src_strides, dst_strides);
  const Loop inner = loops.back();
  const std::size_t outer = loops.size() - 1;
  const auto size = static_cast<std::int64_t>(itemsize);
  const bool dense = inner.src == size && inner.dst == size;
  const StridedCopyFn copy = find_copy(itemsize);
  SmallVector<std::int64_t, 8> index(outer, 0);
  auto* s = static_cast<const char*>(src);
  auto* d = static_cast<char*>(dst);
  while (true) {
    if (dense) {
      std::memcpy(d, s, static_cast<std::size_t>(inner.extent * size));
    } else {
      copy(s, inner.src, d, inner.dst, inner.extent);
    }
    std::size_t axis = outer;
    while (axis > 0) {
      --axis;
      s += loops[axis].src;
      d += loops[axis].dst;
      if (++index[axis] < loops[axis].extent) break;
      s -= loops[axis].src * loops[axis].extent;
      d -= loops[axis].dst * loops[axis].extent;
      index[axis] = 0;
      if (axis == 0) return;
    }
    if (outer == 0) return;
  }
}

}  // namespace adjoint::kernels
