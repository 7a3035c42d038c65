// The one table between the library and its per-ISA objects. Every function in it is compiled
// once per instruction-set level from the same source; the table of the best level the processor
// has (or the one ADJOINT_ISA names) is chosen at first use.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "adjoint/dtype.h"

namespace adjoint::kernels {

/// A reduction is cut into blocks of this many elements along its axis; each block is reduced
/// over fixed virtual lanes, and blocks are combined pairwise. So the order of a sum depends on
/// the extent alone: not on threads, tiles or strides.
inline constexpr std::int64_t kBlock = 256;

/// out[i] = f(in[0][i], in[1][i], ...) for i in [0, n): contiguous, any alignment; out may be
/// one of the inputs exactly, never a shifted overlap.
using TileFn = void (*)(const void* const* in, void* out, std::int64_t n);

/// One scalar function at one input dtype. The variants with an `s` read that operand as one
/// element for the whole tile; all variants give the same bits.
struct TileKernel {
  const char* name;    // the name an Op record gives, e.g. "add", "exp", "where", "mul0"
  DType in;            // dtype of the operands (of the last one for "where": the condition is bool)
  DType out;           // dtype of the result
  std::uint8_t arity;  // 1, 2 or 3
  std::uint8_t cost;   // rough cost in adds per element: 1 arithmetic, 8 and more transcendental
  TileFn vv;           // all operands are vectors (also the only variant of arity 1 and 3)
  TileFn sv;           // arity 2: the first operand is one element
  TileFn vs;           // arity 2: the second operand is one element
  bool commutes = false;  // f(a, b) = f(b, a), bit for bit
};

/// A super-kernel: several tile kernels in one loop, made of the same scalar functions, so with the
/// same bits. `pattern` says which, by their names: in "add(multiply(v0, s1), v2)" operands 0 and 2
/// have one element per element, operand 1 has one for the whole tile.
inline constexpr int kMaxOperands = 6;
struct CompositeKernel {
  const char* pattern;
  DType dtype;  // of every operand and of the result
  TileFn fn;
};

/// One reduction at one dtype (input and result dtypes are equal; casts come first).
struct ReduceKernel {
  const char* name;  // "sum", "prod", "max", "min", "any", "all"
  DType dtype;
  /// *partial = reduction of in[0..n), 1 <= n <= kBlock, in the fixed lane order.
  void (*block)(const void* in, std::int64_t n, void* partial);
  /// acc[i] = combine(acc[i], in[i]) for i in [0, n).
  void (*combine)(void* acc, const void* in, std::int64_t n);
  /// Writes the result of an empty reduction, when there is one (max and min have none: null).
  void (*identity)(void* out);
  /// Blocks of up to so many elements are reduced first to last, and not in lanes.
  std::int64_t in_order = 0;
};

/// Index of the first maximum or minimum of a contiguous row; a nan counts as the extreme.
using ArgReduceFn = std::int64_t (*)(const void* in, std::int64_t n);

/// Copies n elements with strides in bytes.
using StridedCopyFn = void (*)(const void* src, std::int64_t src_stride, void* dst,
                               std::int64_t dst_stride, std::int64_t n);

/// The kernel, or null when the function does not exist at that dtype. Pointers stay valid for
/// the life of the process. Lookup is for registration and planning, not for hot loops.
const TileKernel* find_tile(std::string_view name, DType in);
/// Conversion kernel; out-of-range and nan to integer are saturated and 0, any non-zero is true.
const TileKernel* find_cast(DType from, DType to);
/// All super-kernels of the level in use.
std::span<const CompositeKernel> composite_kernels();
const ReduceKernel* find_reduce(std::string_view name, DType dtype);
ArgReduceFn find_argreduce(std::string_view name, DType dtype);  // "argmax", "argmin"
StridedCopyFn find_copy(std::size_t itemsize);                   // 1, 2, 4 or 8 bytes

/// Name of the level in use: "baseline", "x86-64-v3", "x86-64-v4", "neon".
std::string_view isa_name();

}  // namespace adjoint::kernels
