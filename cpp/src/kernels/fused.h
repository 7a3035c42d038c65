// The tile executor: runs a straight-line program of tile kernels and row reductions over an
// iteration space of `rows` x `cols` elements, one cache-sized tile at a time. Work that runs
// now, deferred or compiled is run by this executor or by the very same tile kernels, so all
// three give the same bits.
//
// Each value of a program belongs to a class:
//   full   one element per (row, col);
//   row    one element per row (results of reductions, and what is computed from them);
//   col    one element per column, the same for every row (inputs and column reductions only);
//   scalar one element (inputs and constants only).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/table.h"

namespace adjoint::kernels {

namespace fused {
class Lowering;
class Plans;
}  // namespace fused

enum class ValueClass : std::uint8_t { full, row, col, scalar };

/// Where an input's elements lie at run time. Element (r, c) is at
/// data + r * row_stride + c * col_stride, in bytes; a `full` or `row` input that does not collapse
/// to these gives its own dims instead (ndim > 0), in the logical order of the space or its rows.
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
  using Value = std::uint32_t;

  Value add_input(DType dtype, ValueClass cls);
  /// `srcs` has kernel->arity entries. The result is `row` if every operand is row or scalar and
  /// at least one is row, else `full` (a program over scalars only is a space of one element).
  /// With `full` it is full in any case: the operands are repeated over the columns.
  Value add_tile(const TileKernel* kernel, std::span<const Value> srcs, bool full = false);
  /// Reduces a value over its columns; the result is of class row.
  Value add_reduce(const ReduceKernel* kernel, Value src);
  /// Reduces a value over its rows; the result is of class col and may only be written to memory.
  Value add_column_reduce(const ReduceKernel* kernel, Value src);
  /// The value is written to memory: contiguous rows for class row, columns for the result of a
  /// column reduction, rows x cols for every other value.
  void add_output(Value value);

  /// Closes the program; to be called once, before run. Afterwards the program is immutable and
  /// may run on many threads at once.
  void finalize();

  /// `inputs` and `outputs` in the order of the add_ calls. Output memory may be that of a `full`
  /// contiguous input of the same itemsize (donation). Uses the thread pool for large spaces; the
  /// bits do not depend on the number of threads.
  void run(std::span<const InputBinding> inputs, std::span<void* const> outputs, std::int64_t rows,
           std::int64_t cols) const;
  /// The same for a space of one element.
  void run_element(std::span<const void* const> inputs, std::span<void* const> outputs) const;

  ValueClass value_class(Value v) const { return values_[v].cls; }
  DType value_dtype(Value v) const { return values_[v].dtype; }
  std::size_t instruction_count() const { return instrs_.size(); }

  /// Fixes the tile at `elements` (rounded up to whole blocks in a program that reduces) and
  /// keeps a small space from taking its own path; 0 chooses again. For tests: the bits must
  /// not change.
  void force_tile(std::int64_t elements) { forced_tile_ = elements; }

 private:
  friend class fused::Lowering;
  struct ValueInfo {
    DType dtype;
    ValueClass cls;
    std::uint32_t level = 0;   // full: the pass that computes it; row: the first that may read it
    std::int32_t input = -1;   // index among inputs
    std::int32_t output = -1;  // first index among outputs
  };
  struct Instr {
    const TileKernel* tile;      // null for a reduction
    const ReduceKernel* reduce;  // null for a tile kernel
    Value dst;
    Value src[3];
  };
  Value add_value(DType dtype, ValueClass cls, std::uint32_t level);
  std::string signature() const;
  void check_value(Value value) const;
  void check_open(std::span<const Value> operands) const;
  bool is_small(std::int64_t rows, std::int64_t cols) const;
  void run_small(std::span<const InputBinding> inputs, std::span<void* const> outputs,
                 std::int64_t rows, std::int64_t cols) const;

  std::vector<ValueInfo> values_;
  std::vector<Instr> instrs_;
  std::vector<Value> inputs_;
  std::vector<Value> outputs_;
  std::uint32_t levels_ = 1;  // passes over the columns of a row
  bool reduces_ = false;
  bool reduces_columns_ = false;
  bool flat_ = true;  // only full and scalar values: the space is one long row
  std::int64_t forced_tile_ = 0;
  std::shared_ptr<fused::Plans> plans_;  // set by finalize; lowered at first need
};

}  // namespace adjoint::kernels
