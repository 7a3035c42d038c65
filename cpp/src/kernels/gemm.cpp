// Goto's scheme: a block of B and a block of A are copied into strips that the register tile
// reads in order, which also makes every stride of the operands equal. The tile is compiled a
// second time with FMA for processors that have it; the rest of this file stays at the oldest
// instruction set.
#include "kernels/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "kernels/table.h"
#include "tensor/storage.h"

namespace adjoint::kernels {
namespace {

constexpr std::int64_t kBlockM = 96;
constexpr std::int64_t kBlockN = 512;
constexpr std::int64_t kBlockK = 256;

/// out = strip of A (MR wide) times strip of B (NR wide) over kc steps. The sums are spelled as
/// vectors of L elements: left to itself, the compiler keeps an array of them in memory.
template <class T, int MR, int NR, int L, bool kFma>
[[gnu::always_inline]] inline void tile_body(std::int64_t kc, const T* a, const T* b, T* out) {
  typedef T Vector __attribute__((vector_size(L * sizeof(T))));
  constexpr int columns = NR / L;
  Vector acc[MR][columns] = {};
  for (std::int64_t p = 0; p < kc; ++p) {
    Vector y[columns];
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j) std::memcpy(&y[j], b + j * L, sizeof(Vector));
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const Vector x = a[i] - Vector{};
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j) {
        if constexpr (kFma) {
          Vector sum;
#pragma GCC unroll 16
          for (int l = 0; l < L; ++l) sum[l] = std::fma(x[l], y[j][l], acc[i][j][l]);
          acc[i][j] = sum;
        } else {
          acc[i][j] += x * y[j];
        }
      }
    }
    a += MR;
    b += NR;
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j) std::memcpy(out + i * NR + j * L, &acc[i][j], sizeof(Vector));
  }
}

template <class T>
struct Tile {
  int mr;
  int nr;
  void (*run)(std::int64_t kc, const T* a, const T* b, T* out);
};

constexpr int kMaxTile = 6 * 16;

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void tile_fma(std::int64_t kc, const float* a, const float* b,
                                          float* out) {
  tile_body<float, 6, 16, 8, true>(kc, a, b, out);
}
[[gnu::target("avx2,fma")]] void tile_fma(std::int64_t kc, const double* a, const double* b,
                                          double* out) {
  tile_body<double, 6, 8, 4, true>(kc, a, b, out);
}
#endif

template <class T, int MR, int NR, bool kFma>
void tile_plain(std::int64_t kc, const T* a, const T* b, T* out) {
  tile_body<T, MR, NR, 16 / sizeof(T), kFma>(kc, a, b, out);
}

template <class T>
Tile<T> choose_tile() {
  constexpr int lanes = 16 / static_cast<int>(sizeof(T));
#if defined(__x86_64__)
  const std::string_view isa = isa_name();
  if (isa == "x86-64-v3" || isa == "x86-64-v4") return {6, 4 * lanes, tile_fma};
  return {4, 2 * lanes, tile_plain<T, 4, 2 * lanes, false>};
#elif defined(__aarch64__)
  return {6, 3 * lanes, tile_plain<T, 6, 3 * lanes, true>};
#else
  return {4, 2 * lanes, tile_plain<T, 4, 2 * lanes, false>};
#endif
}

template <class T>
const Tile<T>& tile() {
  static const Tile<T> chosen = choose_tile<T>();
  return chosen;
}

/// Copies `rows` x `depth` into strips of `width` rows, each strip depth-major, the last padded
/// with zeros.
template <class T>
void pack(std::int64_t rows, std::int64_t depth, int width, const T* from, std::int64_t row,
          std::int64_t step, T* to) {
  for (std::int64_t r = 0; r < rows; r += width) {
    const int filled = static_cast<int>(std::min<std::int64_t>(width, rows - r));
    const T* const strip = from + r * row;
    for (std::int64_t p = 0; p < depth; ++p, to += width) {
      const T* const at = strip + p * step;
      for (int i = 0; i < filled; ++i) to[i] = at[i * row];
      for (int i = filled; i < width; ++i) to[i] = T(0);
    }
  }
}

/// Multiplies a packed block of A with a packed block of B into C, over or onto what is there.
template <class T>
void multiply_block(std::int64_t mc, std::int64_t nc, std::int64_t kc, const T* a, const T* b,
                    bool add, T* c, std::int64_t c_row) {
  const Tile<T>& t = tile<T>();
  alignas(64) T out[kMaxTile];
  for (std::int64_t j = 0; j < nc; j += t.nr) {
    const std::int64_t width = std::min<std::int64_t>(t.nr, nc - j);
    for (std::int64_t i = 0; i < mc; i += t.mr) {
      const std::int64_t height = std::min<std::int64_t>(t.mr, mc - i);
      t.run(kc, a + i * kc, b + j * kc, out);
      for (std::int64_t r = 0; r < height; ++r) {
        T* const to = c + (i + r) * c_row + j;
        const T* const from = out + r * t.nr;
        if (add)
          for (std::int64_t q = 0; q < width; ++q) to[q] += from[q];
        else
          for (std::int64_t q = 0; q < width; ++q) to[q] = from[q];
      }
    }
  }
}

}  // namespace

template <class T>
void gemm_builtin(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
                  std::int64_t a_col, const T* b, std::int64_t b_row, std::int64_t b_col, T* c,
                  std::int64_t c_row) {
  if (k == 0)
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(c + i * c_row, n, T(0));
  if (m == 0 || n == 0 || k == 0) return;
  const Tile<T>& t = tile<T>();
  const std::int64_t depth = std::min(k, kBlockK);
  const std::int64_t a_size = round_up(std::min(m, kBlockM), t.mr) * depth;
  const std::int64_t b_size = round_up(std::min(n, kBlockN), t.nr) * depth;
  const auto buffer = Storage::allocate(
      static_cast<std::size_t>(round_up(a_size, 16) + b_size) * sizeof(T), "matmul");
  T* const packed_a = static_cast<T*>(buffer->data());
  T* const packed_b = packed_a + round_up(a_size, 16);
  for (std::int64_t j = 0; j < n; j += kBlockN) {
    const std::int64_t nc = std::min(kBlockN, n - j);
    for (std::int64_t p = 0; p < k; p += kBlockK) {
      const std::int64_t kc = std::min(kBlockK, k - p);
      pack(nc, kc, t.nr, b + p * b_row + j * b_col, b_col, b_row, packed_b);
      for (std::int64_t i = 0; i < m; i += kBlockM) {
        const std::int64_t mc = std::min(kBlockM, m - i);
        pack(mc, kc, t.mr, a + i * a_row + p * a_col, a_row, a_col, packed_a);
        multiply_block(mc, nc, kc, packed_a, packed_b, p != 0, c + i * c_row + j, c_row);
      }
    }
  }
}

template <class T>
void gemm_small(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
                std::int64_t a_col, const T* b, std::int64_t b_row, std::int64_t b_col, T* c) {
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      T sum = 0;
      for (std::int64_t p = 0; p < k; ++p)
        sum += a[i * a_row + p * a_col] * b[p * b_row + j * b_col];
      c[i * n + j] = sum;
    }
  }
}

template void gemm_builtin(std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                           std::int64_t, const float*, std::int64_t, std::int64_t, float*,
                           std::int64_t);
template void gemm_builtin(std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                           std::int64_t, const double*, std::int64_t, std::int64_t, double*,
                           std::int64_t);
template void gemm_small(std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                         std::int64_t, const float*, std::int64_t, std::int64_t, float*);
template void gemm_small(std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                         std::int64_t, const double*, std::int64_t, std::int64_t, double*);

}  // namespace adjoint::kernels
