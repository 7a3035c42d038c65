// Construction of layouts and the shape arithmetic every operation shares.
#include "tensor/layout.h"

#include <limits>

#include "adjoint/error.h"

namespace adjoint {

std::int64_t* Layout::reserve(int ndim) {
  if (ndim > kMaxDims)
    raise(ErrorKind::value, "layout",
          std::to_string(ndim) + " dimensions are more than the " + std::to_string(kMaxDims) +
              " a tensor may have");
  ndim_ = static_cast<std::uint8_t>(ndim);
  if (ndim <= kInline) return dims_.local;
  dims_.heap = new std::int64_t[2 * static_cast<std::size_t>(ndim)];
  return dims_.heap;
}

Layout::Layout(Extents shape) {
  const int n = static_cast<int>(shape.size());
  std::int64_t* d = reserve(n);
  for (int i = 0; i < n; ++i) d[i] = shape[i];
  size_ = 1;
  std::int64_t step = 1;
  for (int i = n - 1; i >= 0; --i) {
    d[n + i] = step;
    step *= shape[i] > 0 ? shape[i] : 1;
    size_ *= shape[i];
  }
}

Layout::Layout(Extents shape, Extents strides, std::int64_t offset) : offset_(offset) {
  const int n = static_cast<int>(shape.size());
  std::int64_t* d = reserve(n);
  size_ = 1;
  for (int i = 0; i < n; ++i) {
    d[i] = shape[i];
    d[n + i] = strides[i];
    size_ *= shape[i];
  }
  std::int64_t step = 1;
  for (int i = n - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != step) contiguous_ = false;
    step *= shape[i];
  }
  if (size_ == 0) contiguous_ = true;
}

Layout::Layout(const Layout& other)
    : contiguous_(other.contiguous_), size_(other.size_), offset_(other.offset_) {
  std::int64_t* d = reserve(other.ndim_);
  std::memcpy(d, other.dims(), 2 * sizeof(std::int64_t) * ndim_);
}

Layout::Layout(Layout&& other) noexcept
    : ndim_(other.ndim_),
      contiguous_(other.contiguous_),
      size_(other.size_),
      offset_(other.offset_),
      dims_(other.dims_) {
  other.ndim_ = 0;
  other.size_ = 1;
}

Layout& Layout::operator=(const Layout& other) {
  if (this != &other) *this = Layout(other);
  return *this;
}

Layout& Layout::operator=(Layout&& other) noexcept {
  if (this != &other) {
    if (ndim_ > kInline) delete[] dims_.heap;
    dims_ = other.dims_;
    size_ = other.size_;
    offset_ = other.offset_;
    ndim_ = other.ndim_;
    contiguous_ = other.contiguous_;
    other.ndim_ = 0;
    other.size_ = 1;
  }
  return *this;
}

void Layout::restride(const Layout& other) noexcept {
  std::int64_t* d = ndim_ <= kInline ? dims_.local : dims_.heap;
  std::memcpy(d + ndim_, other.dims() + ndim_, sizeof(std::int64_t) * ndim_);
  offset_ = other.offset_;
  contiguous_ = other.contiguous_;
}

std::int64_t checked_size(Layout::Extents shape, const char* op) {
  constexpr std::int64_t limit = std::numeric_limits<std::int64_t>::max() / 16;
  std::int64_t size = 1;
  bool zero = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) raise(ErrorKind::value, op, "negative extent in shape " + to_string(shape));
    zero |= extent == 0;
    if (extent > 0 && size > limit / extent)
      raise(ErrorKind::memory, op, "shape " + to_string(shape) + " is larger than any memory");
    if (extent > 0) size *= extent;
  }
  return zero ? 0 : size;
}

Dims broadcast_shapes(Layout::Extents a, Layout::Extents b, const char* op) {
  const std::size_t n = std::max(a.size(), b.size());
  Dims out(n, 1);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      raise(ErrorKind::value, op,
            "shapes " + to_string(a) + " and " + to_string(b) +
                " do not broadcast: extents must be equal or 1, counted from the last axis");
    out[n - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Dims broadcast_strides(const Layout& layout, Layout::Extents shape) {
  Dims out(shape.size(), 0);
  const std::size_t lead = shape.size() - static_cast<std::size_t>(layout.ndim());
  for (int i = 0; i < layout.ndim(); ++i)
    out[lead + i] = layout.shape()[i] == 1 ? 0 : layout.strides()[i];
  return out;
}

int normalize_axis(std::int64_t axis, int ndim, const char* op) {
  if (axis < -ndim || axis >= ndim)
    raise(ErrorKind::index, op,
          "axis " + std::to_string(axis) + " is out of range for a tensor of " +
              std::to_string(ndim) + " dimension" + (ndim == 1 ? "" : "s"));
  return static_cast<int>(axis < 0 ? axis + ndim : axis);
}

std::string to_string(Layout::Extents shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ", ";
    text += std::to_string(shape[i]);
  }
  text += shape.size() == 1 ? ",)" : ")";
  return text;
}

}  // namespace adjoint
