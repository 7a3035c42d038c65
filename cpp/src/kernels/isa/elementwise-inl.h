// The loops of the tile kernels and the makers of table rows. A kernel file supplies scalar
// functions as types with a static `apply`; everything here has internal linkage, one copy per
// file and level (see level.h for why).
#pragma once

#include <cstdint>

#include "kernels/isa/level.h"

#ifndef ADJOINT_ISA_NS
#error "compile with -DADJOINT_ISA_NS=<level>"
#endif

#define ADJOINT_INLINE static inline __attribute__((always_inline))

// Before a loop whose iterations may run in any order. Not `restrict` on the pointers: the result
// may be written over an operand.
#if defined(__clang__)
#define ADJOINT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define ADJOINT_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace adjoint::kernels {

ADJOINT_DECLARE_LEVEL(ADJOINT_ISA_NS)

namespace ADJOINT_ISA_NS {
namespace {

// Facts about an element type. `Mem` is how it lies in memory: at any address, and possibly in
// the storage of a result of another type. `Wide` is the unsigned type to calculate in, wide
// enough that the promotion to int cannot make a product overflow.
template <class T>
struct Traits;

#define ADJOINT_TRAITS(T, S, U, W)                               \
  template <>                                                    \
  struct Traits<T> {                                             \
    using Signed = S;                                            \
    using Unsigned = U;                                          \
    using Wide = W;                                              \
    typedef T Mem __attribute__((may_alias, aligned(1)));        \
    static constexpr int bits = static_cast<int>(8 * sizeof(T)); \
    static constexpr bool is_signed = static_cast<T>(-1) < T{0}; \
  };
ADJOINT_TRAITS(std::int8_t, std::int8_t, std::uint8_t, std::uint32_t)
ADJOINT_TRAITS(std::int16_t, std::int16_t, std::uint16_t, std::uint32_t)
ADJOINT_TRAITS(std::int32_t, std::int32_t, std::uint32_t, std::uint32_t)
ADJOINT_TRAITS(std::int64_t, std::int64_t, std::uint64_t, std::uint64_t)
ADJOINT_TRAITS(std::uint8_t, std::int8_t, std::uint8_t, std::uint32_t)
ADJOINT_TRAITS(std::uint16_t, std::int16_t, std::uint16_t, std::uint32_t)
ADJOINT_TRAITS(std::uint32_t, std::int32_t, std::uint32_t, std::uint32_t)
ADJOINT_TRAITS(std::uint64_t, std::int64_t, std::uint64_t, std::uint64_t)
ADJOINT_TRAITS(float, float, float, float)
ADJOINT_TRAITS(double, double, double, double)
#undef ADJOINT_TRAITS

template <class T>
using Mem = typename Traits<T>::Mem;

/// Whether a function has a loop of its own, or calls one of the C library: a compiler that is told
/// to take several elements at a time says that it cannot.
template <class F>
inline constexpr bool kIterates = false;

#define ADJOINT_EACH(F, ...)                          \
  if constexpr (kIterates<F>) {                       \
    for (std::int64_t i = 0; i < n; ++i) __VA_ARGS__; \
  } else {                                            \
    ADJOINT_INDEPENDENT                               \
    for (std::int64_t i = 0; i < n; ++i) __VA_ARGS__; \
  }

// Never inlined: they are called through the table, and by few wrappers that need no own copy.

template <class F, class A, class R>
[[gnu::noinline]] void unary_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<A>* a = static_cast<const Mem<A>*>(in[0]);
  Mem<R>* o = static_cast<Mem<R>*>(out);
  ADJOINT_EACH(F, o[i] = F::apply(static_cast<A>(a[i])))
}

template <class F, class A, class R>
[[gnu::noinline]] void vv_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<A>* a = static_cast<const Mem<A>*>(in[0]);
  const Mem<A>* b = static_cast<const Mem<A>*>(in[1]);
  Mem<R>* o = static_cast<Mem<R>*>(out);
  ADJOINT_EACH(F, o[i] = F::apply(static_cast<A>(a[i]), static_cast<A>(b[i])))
}

template <class F, class A, class R>
[[gnu::noinline]] void sv_loop(const void* const* in, void* out, std::int64_t n) {
  const A a = *static_cast<const Mem<A>*>(in[0]);
  const Mem<A>* b = static_cast<const Mem<A>*>(in[1]);
  Mem<R>* o = static_cast<Mem<R>*>(out);
  ADJOINT_EACH(F, o[i] = F::apply(a, static_cast<A>(b[i])))
}

template <class F, class A, class R>
[[gnu::noinline]] void vs_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<A>* a = static_cast<const Mem<A>*>(in[0]);
  const A b = *static_cast<const Mem<A>*>(in[1]);
  Mem<R>* o = static_cast<Mem<R>*>(out);
  ADJOINT_EACH(F, o[i] = F::apply(static_cast<A>(a[i]), b))
}

template <class F, class A, class T>
void ternary_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<A>* a = static_cast<const Mem<A>*>(in[0]);
  const Mem<T>* b = static_cast<const Mem<T>*>(in[1]);
  const Mem<T>* c = static_cast<const Mem<T>*>(in[2]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  ADJOINT_EACH(F, o[i] = F::apply(static_cast<A>(a[i]), static_cast<T>(b[i]), static_cast<T>(c[i])))
}

/// f(b, a) by way of the kernel of f(a, b): spares a second copy of the loop.
template <TileFn F>
void swapped(const void* const* in, void* out, std::int64_t n) {
  const void* const exchanged[2] = {in[1], in[0]};
  F(exchanged, out, n);
}

template <class F, class A, class R = A>
consteval TileKernel unary(const char* name, DType in, DType out, int cost) {
  return {name,    in,     out, 1, static_cast<std::uint8_t>(cost), &unary_loop<F, A, R>,
          nullptr, nullptr};
}

template <class F, class A, class R = A>
consteval TileKernel binary(const char* name, DType in, DType out, int cost) {
  return {name,
          in,
          out,
          2,
          static_cast<std::uint8_t>(cost),
          &vv_loop<F, A, R>,
          &sv_loop<F, A, R>,
          &vs_loop<F, A, R>};
}

/// For functions with f(a, b) = f(b, a).
template <class F, class A, class R = A>
consteval TileKernel commutative(const char* name, DType in, DType out, int cost) {
  return {name,
          in,
          out,
          2,
          static_cast<std::uint8_t>(cost),
          &vv_loop<F, A, R>,
          &swapped<&vs_loop<F, A, R>>,
          &vs_loop<F, A, R>,
          true};
}

/// f(b, a) as a function of its own, e.g. greater from less.
template <class F, class A, class R = A>
consteval TileKernel mirrored(const char* name, DType in, DType out, int cost) {
  return {name,
          in,
          out,
          2,
          static_cast<std::uint8_t>(cost),
          &swapped<&vv_loop<F, A, R>>,
          &swapped<&vs_loop<F, A, R>>,
          &swapped<&sv_loop<F, A, R>>};
}

template <class F, class A, class T>
consteval TileKernel ternary(const char* name, DType dtype, int cost) {
  return {name,    dtype,  dtype, 3, static_cast<std::uint8_t>(cost), &ternary_loop<F, A, T>,
          nullptr, nullptr};
}

template <class T, std::int64_t N>
ADJOINT_INLINE Rows<T> rows_of(const T (&rows)[N]) {
  return {rows, N};
}

// The larger or smaller value; a nan in either operand is the result.

struct Maximum {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T larger = a > b ? a : b;
    return a != a ? a : larger;
  }
};

struct Minimum {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T smaller = a < b ? a : b;
    return a != a ? a : smaller;
  }
};

struct Clip {
  template <class T>
  ADJOINT_INLINE T apply(T x, T low, T high) {
    return Minimum::apply(Maximum::apply(x, low), high);
  }
};

}  // namespace
}  // namespace ADJOINT_ISA_NS
}  // namespace adjoint::kernels
