// Shape, strides and offset of a tensor, in elements. Up to three dimensions live inside the
// object, so the layout of a scalar or a small array costs no allocation.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "base/small_vector.h"

namespace adjoint {

/// More dimensions than this are refused, as in NumPy.
inline constexpr int kMaxDims = 64;

class Layout {
 public:
  using Extents = std::span<const std::int64_t>;

  /// A scalar.
  Layout() noexcept = default;
  /// Row-major.
  explicit Layout(Extents shape);
  Layout(Extents shape, Extents strides, std::int64_t offset);
  Layout(const Layout& other);
  Layout(Layout&& other) noexcept;
  Layout& operator=(const Layout& other);
  Layout& operator=(Layout&& other) noexcept;
  ~Layout() {
    if (ndim_ > kInline) delete[] dims_.heap;
  }

  /// Takes the strides and offset of a layout of the same shape, without touching the shape: other
  /// threads may be reading it.
  void restride(const Layout& other) noexcept;

  int ndim() const noexcept { return ndim_; }
  std::int64_t size() const noexcept { return size_; }
  std::int64_t offset() const noexcept { return offset_; }
  bool contiguous() const noexcept { return contiguous_; }
  Extents shape() const noexcept { return {dims(), static_cast<std::size_t>(ndim_)}; }
  Extents strides() const noexcept { return {dims() + ndim_, static_cast<std::size_t>(ndim_)}; }
  bool same_shape(const Layout& other) const noexcept {
    return ndim_ == other.ndim_ &&
           std::memcmp(dims(), other.dims(), sizeof(std::int64_t) * ndim_) == 0;
  }

 private:
  static constexpr int kInline = 3;
  const std::int64_t* dims() const noexcept { return ndim_ <= kInline ? dims_.local : dims_.heap; }
  std::int64_t* reserve(int ndim);

  // The small fields first: all that an operation on scalars looks at.
  std::uint8_t ndim_ = 0;
  bool contiguous_ = true;
  std::int64_t size_ = 1;
  std::int64_t offset_ = 0;
  union {
    std::int64_t local[2 * kInline];
    std::int64_t* heap;
  } dims_;  // ndim extents, then ndim strides
};

/// Product of the extents; raises for `op` when it does not fit the address space.
std::int64_t checked_size(Layout::Extents shape, const char* op);

/// The broadcast of two shapes; raises "[op] shapes ... do not broadcast".
Dims broadcast_shapes(Layout::Extents a, Layout::Extents b, const char* op);

/// Strides of `layout` seen as `shape` (0 where broadcast); shape must be reachable.
Dims broadcast_strides(const Layout& layout, Layout::Extents shape);

/// Negative axes counted from the end; raises IndexError for `op` when out of range.
int normalize_axis(std::int64_t axis, int ndim, const char* op);

/// "(2, 3)", "(4,)", "()".
std::string to_string(Layout::Extents shape);

}  // namespace adjoint
