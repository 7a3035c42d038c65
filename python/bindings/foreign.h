// Memory of other libraries: what both the buffer protocol and DLPack need.
#pragma once

#include <optional>

#include "convert.h"

namespace adjoint::python {

/// One strided block owned by someone else.
struct ForeignBlock {
  void* data = nullptr;
  DType dtype = DType::float64;
  Dims shape;
  Dims strides;  // elements
  bool aligned = true;
  bool read_only = false;
};

/// A node over the block. Shared memory is kept alive by `owner`, which `release` lets go of (with
/// the interpreter's lock held) when the last value on it is gone; else the block is copied and
/// released at once.
Node* node_over(const ForeignBlock& block, std::optional<bool> copy, void* owner,
                void (*release)(void*), const char* op);

/// A node over a DLPack capsule (either ABI version), which is consumed.
Node* node_from_dlpack_capsule(PyObject* capsule, std::optional<bool> copy, const char* op);

}  // namespace adjoint::python
