// What one instruction-set level gives to the table. The objects of a level export the few
// functions declared here and nothing else: whatever else they emitted (an inline function of a
// shared header, an instance of a std template) could be the copy the linker keeps for everyone,
// and would then run on processors that lack its instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/table.h"

namespace adjoint::kernels {

template <class T>
struct Rows {
  const T* data;
  std::int64_t count;
};

struct ArgReduceRow {
  const char* name;
  DType dtype;
  ArgReduceFn fn;
};

/// One copy routine per item size of 1, 2, 4 and 8 bytes.
struct CopyRow {
  std::size_t itemsize;
  StridedCopyFn fn;
};

#define ADJOINT_DECLARE_LEVEL(ns)      \
  namespace ns {                       \
  Rows<TileKernel> integer_tiles();    \
  Rows<TileKernel> float_tiles();      \
  Rows<TileKernel> math_tiles();       \
  Rows<TileKernel> special_tiles();    \
  Rows<TileKernel> comparison_tiles(); \
  Rows<TileKernel> cast_tiles();       \
  Rows<CompositeKernel> composites();  \
  Rows<ReduceKernel> reductions();     \
  Rows<ArgReduceRow> arg_reductions(); \
  Rows<CopyRow> strided_copies();      \
  }

}  // namespace adjoint::kernels
