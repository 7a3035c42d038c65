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
  bool read_only = false;
};

/// A node over the block. Shared memory is kept alive by `owner`, which `release` lets go of (with
/// the interpreter's lock held) when the last value on it is gone; else the block is copied and
/// released at once, as it is when this raises. Bools of other bytes than 0 and 1 become 1 by the
/// copy; memory that holds some is not shared.
Node* node_over(const ForeignBlock& block, std::optional<bool> copy, void* owner,
                void (*release)(void*), const char* op);

/// Bytes that mean true become 1, as every kernel expects of bools.
inline void normalize_bools(void* data, std::int64_t size) noexcept {
  auto* bytes = static_cast<unsigned char*>(data);
  for (std::int64_t i = 0; i < size; ++i) bytes[i] = bytes[i] != 0;
}

/// A node over a DLPack capsule (either ABI version), which is consumed.
Node* node_from_dlpack_capsule(PyObject* capsule, std::optional<bool> copy, const char* op);

}  // namespace adjoint::python
