// Reductions of contiguous memory that need no program: along rows, along columns, and arg
// reductions. The order of combination is that of reduce.h; strips, groups and chunks only decide
// which part is in cache or on which thread.
#include "kernels/reduce.h"

#include <algorithm>

#include "adjoint/error.h"
#include "base/intrusive_ptr.h"
#include "base/thread_pool.h"
#include "tensor/storage.h"

namespace adjoint::kernels {

namespace {

// Elements that make a job worth handing to other threads, and the least a chunk should hold.
constexpr std::int64_t kParallelElements = 1 << 19;
constexpr std::int64_t kChunkElements = 1 << 17;
constexpr std::int64_t kMaxChunks = 64;

void write_identity(const ReduceKernel* kernel, void* out) {
  if (!kernel->identity)
    raise(ErrorKind::value, kernel->name,
          "the reduced axis is empty and the reduction has no identity; give it at least one "
          "element");
  kernel->identity(out);
}

/// Calls body over [0, n) in the caller when the whole is small, else in chunks whose bounds
/// depend on the extents alone.
template <class Body>
void for_chunks(std::int64_t n, std::int64_t elements_each, const Body& body) {
  const std::int64_t total = n * elements_each;
  if (total < kParallelElements || n == 1) {
    body(0, n);
    return;
  }
  const std::int64_t chunks = std::clamp<std::int64_t>(total / kChunkElements, 1, kMaxChunks);
  parallel_for(n, (n + chunks - 1) / chunks,
               [&body](std::int64_t begin, std::int64_t end) { body(begin, end); });
}

/// One row over several threads: each chunk is a whole subtree.
void reduce_long_row(const ReduceKernel* kernel, const char* in, std::int64_t n, void* out) {
  const std::int64_t wanted = std::max(kChunkElements, (n + kMaxChunks - 1) / kMaxChunks);
  const auto chunk = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(wanted)));
  std::uint64_t partials[kMaxChunks] = {};
  const std::size_t size = itemsize(kernel->dtype);
  parallel_for(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += chunk)
      reduce_row(kernel, in + begin * size, std::min(chunk, end - begin), &partials[begin / chunk]);
  });
  PairwiseTree tree(kernel);
  for (std::int64_t i = 0; i * chunk < n; ++i) tree.push(&partials[i]);
  tree.finish(out);
}

/// Columns per strip: wide enough to stream, with the accumulators in the second-level cache; less
/// when there would be no strip for every thread. The width does not touch the bits.
std::int64_t strip_width(std::int64_t outer, std::int64_t rows, std::int64_t cols,
                         std::int64_t size) {
  constexpr std::int64_t wide = 32768, narrow = 2048;  // bytes
  std::int64_t width = std::min(cols, wide / size);
  const std::int64_t threads = num_threads();
  if (threads > 1 && outer < threads && outer * rows * cols >= kParallelElements)
    width = std::min(width, std::max(narrow / size, cols / threads + 1));
  return width;
}

// A call per row is dear when the row is this short or shorter.
constexpr std::int64_t kShortRow = 16;
constexpr std::int64_t kShortGroup = 64;

/// Many rows of few elements: the order, or the tree of halves, in which those of a block meet,
/// taken over whole columns at a time.
void reduce_short_rows(const ReduceKernel* kernel, StridedCopyFn copy, const char* in,
                       std::int64_t rows, std::int64_t n, char* out) {
  const auto size = static_cast<std::int64_t>(itemsize(kernel->dtype));
  alignas(64) char columns[kShortRow][kShortGroup * 8];
  for (std::int64_t r = 0; r < rows; r += kShortGroup) {
    const std::int64_t count = std::min(kShortGroup, rows - r);
    for (std::int64_t j = 0; j < n; ++j)
      copy(in + (r * n + j) * size, n * size, columns[j], size, count);
    if (n <= kernel->in_order) {
      for (std::int64_t j = 1; j < n; ++j) kernel->combine(columns[0], columns[j], count);
    } else {
      std::int64_t lanes = n;
      for (auto half = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(n))) / 2;
           half > 0; half /= 2) {
        for (std::int64_t j = 0; j + half < lanes; ++j)
          kernel->combine(columns[j], columns[j + half], count);
        lanes = half;
      }
    }
    std::memcpy(out + r * size, columns[0], static_cast<std::size_t>(count * size));
  }
}

// Rows of up to this many blocks meet block by block for many rows at once.
constexpr std::int64_t kFewBlocks = 16;

/// The tree T over `count` rows of `width` elements, in place: the result is the first row.
void combine_rows(const ReduceKernel* kernel, char* rows, std::int64_t pitch, std::int64_t count,
                  std::int64_t width) {
  // Bottom up: the subtrees of one size meet in pairs; a rest waits until its partner is as large.
  for (std::int64_t half = 1; half < count; half *= 2)
    for (std::int64_t i = 0; i + half < count; i += 2 * half)
      kernel->combine(rows + i * pitch, rows + (i + half) * pitch, width);
}

/// At most kShortGroup rows of at most kFewBlocks blocks: the partials of a block over all rows are
/// combined in one call.
void reduce_few_blocks(const ReduceKernel* kernel, const char* in, std::int64_t rows,
                       std::int64_t n, char* out) {
  const auto size = static_cast<std::int64_t>(itemsize(kernel->dtype));
  const std::int64_t blocks = (n + kBlock - 1) / kBlock;
  alignas(64) char partials[kFewBlocks * kShortGroup * 8];
  const std::int64_t pitch = kShortGroup * size;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < blocks; ++b)
      kernel->block(in + (r * n + b * kBlock) * size, std::min(kBlock, n - b * kBlock),
                    partials + b * pitch + r * size);
  combine_rows(kernel, partials, pitch, blocks, rows);
  std::memcpy(out, partials, static_cast<std::size_t>(rows * size));
}

}  // namespace

void PairwiseTree::finish(void* out) {
  if (count_ == 0) {
    write_identity(kernel_, out);
    return;
  }
  int at = std::countr_zero(count_);
  for (int level = at + 1; (count_ >> level) != 0; ++level) {
    if (!((count_ >> level) & 1)) continue;
    kernel_->combine(&levels_[level], &levels_[at], 1);
    at = level;
  }
  std::memcpy(out, &levels_[at], itemsize(kernel_->dtype));
}

void ColumnTree::end_group() {
  char* fresh = group();
  for (int i = 0; (groups_ >> i) & 1; ++i) {
    kernel_->combine(level(i), fresh, width_);
    std::memcpy(fresh, level(i), bytes());
  }
  ++groups_;
  rows_ = 0;
}

void ColumnTree::finish(void* out) {
  if (rows_ != 0) end_group();
  const int lowest = std::countr_zero(groups_);
  std::memcpy(out, level(lowest), bytes());
  for (int i = lowest + 1; (groups_ >> i) != 0; ++i) {
    if (!((groups_ >> i) & 1)) continue;
    kernel_->combine(level(i), out, width_);
    std::memcpy(out, level(i), bytes());
  }
}

void reduce_row(const ReduceKernel* kernel, const void* in, std::int64_t n, void* out) {
  if (n > 0 && n <= kBlock) {
    kernel->block(in, n, out);
    return;
  }
  PairwiseTree tree(kernel);
  const auto* p = static_cast<const char*>(in);
  const std::size_t step = kBlock * itemsize(kernel->dtype);
  std::uint64_t partial = 0;
  for (; n > 0; n -= kBlock, p += step) {
    kernel->block(p, std::min(n, kBlock), &partial);
    tree.push(&partial);
  }
  tree.finish(out);
}

void reduce_row_group(const ReduceKernel* kernel, const void* in, std::int64_t rows, std::int64_t n,
                      void* out) {
  const std::size_t size = itemsize(kernel->dtype);
  const auto* src = static_cast<const char*>(in);
  auto* dst = static_cast<char*>(out);
  if (n > 0 && n <= kShortRow && rows >= 8) {
    reduce_short_rows(kernel, find_copy(size), src, rows, n, dst);
    return;
  }
  const std::int64_t blocks = (n + kBlock - 1) / kBlock;
  if (blocks < 2 || blocks > kFewBlocks || rows < 2) {
    for (std::int64_t r = 0; r < rows; ++r)
      reduce_row(kernel, src + r * n * size, n, dst + r * size);
    return;
  }
  for (std::int64_t r = 0; r < rows; r += kShortGroup)
    reduce_few_blocks(kernel, src + r * n * size, std::min(kShortGroup, rows - r), n,
                      dst + r * size);
}

void reduce_rows(const ReduceKernel* kernel, const void* in, std::int64_t rows, std::int64_t cols,
                 void* out) {
  const std::size_t size = itemsize(kernel->dtype);
  const auto* src = static_cast<const char*>(in);
  auto* dst = static_cast<char*>(out);
  if (rows < 8 && cols >= kParallelElements) {
    for (std::int64_t r = 0; r < rows; ++r)
      reduce_long_row(kernel, src + r * cols * size, cols, dst + r * size);
    return;
  }
  for_chunks(rows, cols, [&](std::int64_t begin, std::int64_t end) {
    reduce_row_group(kernel, src + begin * cols * size, end - begin, cols, dst + begin * size);
  });
}

void reduce_columns(const ReduceKernel* kernel, const void* in, std::int64_t outer,
                    std::int64_t rows, std::int64_t cols, void* out) {
  if (outer == 0 || cols == 0) return;
  const std::size_t size = itemsize(kernel->dtype);
  const auto* src = static_cast<const char*>(in);
  auto* dst = static_cast<char*>(out);
  if (rows == 0) {
    write_identity(kernel, dst);
    for (std::int64_t i = 1; i < outer * cols; ++i) std::memcpy(dst + i * size, dst, size);
    return;
  }
  const std::int64_t width = strip_width(outer, rows, cols, static_cast<std::int64_t>(size));
  const std::int64_t strips = (cols + width - 1) / width;
  const std::size_t scratch = ColumnTree::scratch(kernel, rows, width);
  for_chunks(outer * strips, rows * width, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) char small[16384];
    IntrusivePtr<Storage> large;
    if (scratch > sizeof small) large = Storage::allocate(scratch, kernel->name);
    char* levels = large ? static_cast<char*>(large->data()) : small;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t o = i / strips;
      const std::int64_t c = i % strips * width;
      const std::int64_t part = std::min(width, cols - c);
      ColumnTree tree(kernel, part, levels);
      const char* row = src + (o * rows * cols + c) * size;
      for (std::int64_t r = 0; r < rows; ++r, row += cols * size) {
        tree.add(0, row, part);
        tree.end_row();
      }
      tree.finish(dst + (o * cols + c) * size);
    }
  });
}

void argreduce_rows(ArgReduceFn fn, const void* in, std::size_t itemsize, std::int64_t rows,
                    std::int64_t cols, std::int64_t* out) {
  const auto* src = static_cast<const char*>(in);
  for_chunks(rows, cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) out[r] = fn(src + r * cols * itemsize, cols);
  });
}

}  // namespace adjoint::kernels
