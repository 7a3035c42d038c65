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

/// Combines rows that arrive one by one, or in parts, into one row: kColumnGroup consecutive rows
/// meet first to last, the groups in the tree T. So pieces of a power of two of groups are whole
/// subtrees, which threads can each finish on their own.
inline constexpr std::int64_t kColumnGroup = 32;
class ColumnTree {
 public:
  /// Bytes of scratch for at most `rows` rows of `width` elements.
  static std::size_t scratch(const ReduceKernel* kernel, std::int64_t rows, std::int64_t width) {
    const auto groups = static_cast<std::uint64_t>((rows + kColumnGroup - 1) / kColumnGroup);
    return static_cast<std::size_t>(std::bit_width(groups)) * static_cast<std::size_t>(width) *
           itemsize(kernel->dtype);
  }
  ColumnTree(const ReduceKernel* kernel, std::int64_t width, char* scratch) noexcept
      : kernel_(kernel), size_(itemsize(kernel->dtype)), width_(width), levels_(scratch) {}

  void reset() noexcept { groups_ = rows_ = 0; }
  /// Elements [col, col + n) of the next row.
  void add(std::int64_t col, const void* part, std::int64_t n) const {
    char* to = group() + static_cast<std::size_t>(col) * size_;
    if (rows_ == 0) {
      std::memcpy(to, part, static_cast<std::size_t>(n) * size_);
    } else {
      kernel_->combine(to, part, n);
    }
  }
  /// All of the row has been added.
  void end_row() {
    if (++rows_ == kColumnGroup) end_group();
  }
  /// The result of a whole piece, in place of its rows; pieces and rows do not mix.
  void push(const void* piece) {
    add(0, piece, width_);
    end_group();
  }
  /// Writes the combination of at least one row.
  void finish(void* out);

 private:
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(width_) * size_; }
  char* level(int i) const noexcept { return levels_ + static_cast<std::size_t>(i) * bytes(); }
  /// The open group is kept where its result will be: at the counter's lowest free level.
  char* group() const noexcept { return level(std::countr_one(groups_)); }
  void end_group();

  const ReduceKernel* kernel_;
  std::size_t size_;
  std::int64_t width_;
  char* levels_;
  std::uint64_t groups_ = 0;  // finished
  std::int64_t rows_ = 0;     // of the open group
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

/// Reduces contiguous (outer, rows, cols) over rows into `out` (outer, cols), in the order of
/// ColumnTree.
void reduce_columns(const ReduceKernel* kernel, const void* in, std::int64_t outer,
                    std::int64_t rows, std::int64_t cols, void* out);

/// Applies `fn` to every row of contiguous (rows, cols); cols > 0.
void argreduce_rows(ArgReduceFn fn, const void* in, std::size_t itemsize, std::int64_t rows,
                    std::int64_t cols, std::int64_t* out);

}  // namespace adjoint::kernels
