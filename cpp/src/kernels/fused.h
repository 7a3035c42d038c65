// The tile executor: runs a straight-line program of tile kernels and row reductions over an
// iteration space of `rows` x `cols` elements, one cache-sized tile at a time. Work that runs
// now, deferred or compiled is run by this executor or by the very same tile kernels, so all
// three give the same bits.
//
// Each value of a program belongs to a class:
//   full   one element per (row, col);
//   row    one element per row (results of reductions, and what is computed from them);
//   col    one element per column, the same for every row (inputs only);
//   scalar one element (inputs and constants only).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/table.h"

namespace adjoint::kernels {

enum class ValueClass : std::uint8_t { full, row, col, scalar };

/// Where an input's elements lie at run time. Element (r, c) is at
/// data + r * row_stride + c * col_stride, in bytes; a `full` input that does not collapse to two
/// strides gives its own dims instead (ndim > 0), in the logical order of the space.
struct InputBinding {
  const void* data;
  std::int64_t row_stride;
  std::int64_t col_stride;
  int ndim = 0;
  const std::int64_t* shape = nullptr;
  const std::int64_t* strides = nullptr;  // bytes
};

class FusedProgram {
 public:
  using Value = std::uint16_t;

  Value add_input(DType dtype, ValueClass cls);
  /// `srcs` has kernel->arity entries. The result is `row` if every operand is row or scalar and
  /// at least one is row, else `full` (a program over scalars only is a space of one element).
  Value add_tile(const TileKernel* kernel, std::span<const Value> srcs);
  /// Reduces a full value over its columns; the result is of class row.
  Value add_reduce(const ReduceKernel* kernel, Value src);
  /// The value is written to memory: contiguous rows x cols for full, contiguous rows for row.
  void add_output(Value value);

  /// Assigns tile registers; to be called once, before run. Afterwards the program is immutable
  /// and may run on many threads at once.
  void finalize();

  /// `inputs` and `outputs` in the order of the add_ calls. Output memory may be that of a `full`
  /// contiguous input of the same itemsize (donation). Uses the thread pool for large spaces; the
  /// bits do not depend on the number of threads.
  void run(std::span<const InputBinding> inputs, std::span<void* const> outputs,
           std::int64_t rows, std::int64_t cols) const;

  ValueClass value_class(Value v) const { return values_[v].cls; }
  DType value_dtype(Value v) const { return values_[v].dtype; }
  std::size_t instruction_count() const { return instrs_.size(); }

 private:
  friend struct FusedRunner;
  struct ValueInfo {
    DType dtype;
    ValueClass cls;
    std::int32_t reg = -1;      // tile register, -1 while unassigned or for inputs
    std::int32_t input = -1;    // index among inputs
    std::int32_t output = -1;   // index among outputs
  };
  struct Instr {
    const TileKernel* tile;      // null for a reduction
    const ReduceKernel* reduce;  // null for a tile kernel
    Value dst;
    Value src[3];
  };
  std::vector<ValueInfo> values_;
  std::vector<Instr> instrs_;
  std::vector<Value> inputs_;
  std::vector<Value> outputs_;
  std::size_t registers_ = 0;
  bool reduces_ = false;     // has a reduction
  bool needs_rows_ = false;  // a reduction's result is used by a later full instruction
};

}  // namespace adjoint::kernels
