// What stands between the brackets of x[...], taken apart.
#pragma once

#include <vector>

#include "convert.h"

namespace adjoint::python {

/// Each item consumes one axis, but for `new_axis` (none).
struct IndexItem {
  enum Kind : std::uint8_t { integer, slice, new_axis, array } kind;
  std::int64_t start = 0;  // integer: the position; slice: first element
  std::int64_t step = 1;
  std::int64_t count = 1;  // slice: elements taken
  Tensor indices;          // array: integers, not negative ones
};

struct Index {
  std::vector<IndexItem> items;  // every axis of the tensor is covered
  bool advanced = false;         // has an array
  Tensor mask;                   // the whole key was one boolean mask of the tensor's shape
};

/// Raises IndexError or TypeError for what does not fit the shape. With `keep_mask`, a mask that
/// covers the whole tensor is returned as it is instead of being turned into positions.
Index parse_index(PyObject* key, Layout::Extents shape, bool keep_mask);
/// The positions where a mask of the tensor's shape is true.
Index index_of_mask(const Tensor& mask);

}  // namespace adjoint::python
