// Reductions over contiguous memory, and the one order in which they combine.
//
// A row is cut into blocks of kBlock elements at fixed positions. Partials of n blocks meet in
// the tree T(n) = T(m) + T(n - m), m the largest power of two below n: a function of the extent
// alone, and one whose aligned power-of-two pieces are whole subtrees, so that tiles and threads
// can each finish their own.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/table.h"

namespace adjoint::kernels {

/// Combines partials of one reduction in the order above while they arrive one by one. Works as
/// a binary counter: equal subtrees merge at once, so it holds at most one partial per level.
class PairwiseTree {
 public:
  explicit PairwiseTree(const ReduceKernel* kernel) noexcept : kernel_(kernel) {}

  void reset() noexcept { count_ = 0; }

  /// Adds the next partial; 8 bytes are read whatever the itemsize.
  void push(const void* partial) {
    std::uint64_t carry;
    std::memcpy(&carry, partial, sizeof carry);
    int level = 0;
    for (; (count_ >> level) & 1; ++level) {
      kernel_->combine(&levels_[level], &carry, 1);
      carry = levels_[level];
    }
    levels_[level] = carry;
    ++count_;
  }

  /// Writes the combination of all partials (of none: the identity) to one element at `out`.
  void finish(void* out);

 private:
  static constexpr int kLevels = 56;
  const ReduceKernel* kernel_;
  std::uint64_t count_ = 0;
  std::uint64_t levels_[kLevels];
};

/// Reduces `n` contiguous elements to one element at `out`, in the calling thread.
void reduce_row(const ReduceKernel* kernel, const void* in, std::int64_t n, void* out);

/// Reduces contiguous (rows, n) over n into `out` (rows), in the calling thread; the bits are those
/// of reduce_row on every row.
void reduce_row_group(const ReduceKernel* kernel, const void* in, std::int64_t rows, std::int64_t n,
                      void* out);

/// Reduces contiguous (rows, cols) over cols into `out` (rows).
void reduce_rows(const ReduceKernel* kernel, const void* in, std::int64_t rows, std::int64_t cols,
                 void* out);

/// Reduces contiguous (outer, rows, cols) over rows into `out` (outer, cols). Rows meet in groups
/// of kColumnGroup consecutive ones, first to last; groups meet in the tree T.
inline constexpr std::int64_t kColumnGroup = 32;
void reduce_columns(const ReduceKernel* kernel, const void* in, std::int64_t outer,
                    std::int64_t rows, std::int64_t cols, void* out);

/// Applies `fn` to every row of contiguous (rows, cols); cols > 0.
void argreduce_rows(ArgReduceFn fn, const void* in, std::size_t itemsize, std::int64_t rows,
                    std::int64_t cols, std::int64_t* out);

}  // namespace adjoint::kernels
