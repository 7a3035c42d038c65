// Native vectors of the level for the float reductions: loading a vector that is only partly
// there, and folding vectors to one value by halves. The order of a reduction is part of its
// meaning here, so it is written out instead of left to the vectoriser.
#pragma once

#include "kernels/isa/elementwise-inl.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

#if defined(__AVX512F__)
constexpr std::int64_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr std::int64_t kVectorBytes = 32;
#else
constexpr std::int64_t kVectorBytes = 16;
#endif

typedef float Float4 __attribute__((vector_size(16)));
typedef double Double2 __attribute__((vector_size(16)));
typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using Type = FloatVector;
};
template <>
struct VectorOf<double> {
  using Type = DoubleVector;
};

template <class V>
ADJOINT_INLINE V load_vector(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// load_first(p, count, rest): the first `count` elements from p, `rest` in the other lanes, with
// no byte read beyond them. A count outside [0, width] counts as the nearer end.

#if defined(__AVX512F__)

ADJOINT_INLINE unsigned first_bits(std::int64_t count, std::int64_t width) {
  const std::int64_t c = count < 0 ? 0 : (count > width ? width : count);
  return (1u << c) - 1u;
}

ADJOINT_INLINE FloatVector load_first(const void* p, std::int64_t count, float rest) {
  return _mm512_mask_loadu_ps(_mm512_set1_ps(rest), static_cast<__mmask16>(first_bits(count, 16)),
                              p);
}

ADJOINT_INLINE DoubleVector load_first(const void* p, std::int64_t count, double rest) {
  return _mm512_mask_loadu_pd(_mm512_set1_pd(rest), static_cast<__mmask8>(first_bits(count, 8)), p);
}

#elif defined(__AVX2__)

ADJOINT_INLINE FloatVector load_first(const void* p, std::int64_t count, float rest) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
  const __m256 loaded = _mm256_maskload_ps(static_cast<const float*>(p), mask);
  return _mm256_blendv_ps(_mm256_set1_ps(rest), loaded, _mm256_castsi256_ps(mask));
}

ADJOINT_INLINE DoubleVector load_first(const void* p, std::int64_t count, double rest) {
  const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
  const __m256i mask = _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane);
  const __m256d loaded = _mm256_maskload_pd(static_cast<const double*>(p), mask);
  return _mm256_blendv_pd(_mm256_set1_pd(rest), loaded, _mm256_castsi256_pd(mask));
}

#else

ADJOINT_INLINE FloatVector load_first(const void* p, std::int64_t count, float rest) {
  if (count >= 4) return load_vector<FloatVector>(p);
  const Mem<float>* x = static_cast<const Mem<float>*>(p);
  FloatVector v = {rest, rest, rest, rest};
  if (count > 0) v[0] = x[0];
  if (count > 1) v[1] = x[1];
  if (count > 2) v[2] = x[2];
  return v;
}

ADJOINT_INLINE DoubleVector load_first(const void* p, std::int64_t count, double rest) {
  if (count >= 2) return load_vector<DoubleVector>(p);
  DoubleVector v = {rest, rest};
  if (count > 0) v[0] = *static_cast<const Mem<double>*>(p);
  return v;
}

#endif

// fold<Op>(v): lane j meets lane j + half, until one is left.

template <class Op>
ADJOINT_INLINE float fold(Float4 v) {
  return Op::apply(Op::apply(v[0], v[2]), Op::apply(v[1], v[3]));
}

template <class Op>
ADJOINT_INLINE double fold(Double2 v) {
  return Op::apply(v[0], v[1]);
}

#if defined(__AVX2__)

typedef float Float8 __attribute__((vector_size(32)));
typedef double Double4 __attribute__((vector_size(32)));

template <class Op>
ADJOINT_INLINE float fold(Float8 v) {
  return fold<Op>(Op::apply(Float4(__builtin_shufflevector(v, v, 0, 1, 2, 3)),
                            Float4(__builtin_shufflevector(v, v, 4, 5, 6, 7))));
}

template <class Op>
ADJOINT_INLINE double fold(Double4 v) {
  return fold<Op>(Op::apply(Double2(__builtin_shufflevector(v, v, 0, 1)),
                            Double2(__builtin_shufflevector(v, v, 2, 3))));
}

#endif
#if defined(__AVX512F__)

template <class Op>
ADJOINT_INLINE float fold(FloatVector v) {
  return fold<Op>(Op::apply(Float8(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7)),
                            Float8(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15))));
}

template <class Op>
ADJOINT_INLINE double fold(DoubleVector v) {
  return fold<Op>(Op::apply(Double4(__builtin_shufflevector(v, v, 0, 1, 2, 3)),
                            Double4(__builtin_shufflevector(v, v, 4, 5, 6, 7))));
}

#endif

}  // namespace
}  // namespace adjoint::kernels::ADJOINT_ISA_NS
