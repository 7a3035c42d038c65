// Scalar arithmetic as types with a static `apply`, for the tile kernels and the super-kernels that
// are composed of the same functions.
#pragma once

#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

#define ADJOINT_BINARY(Name, expression) \
  struct Name {                          \
    template <class T>                   \
    ADJOINT_INLINE T apply(T a, T b) {   \
      return expression;                 \
    }                                    \
  };
ADJOINT_BINARY(Add, a + b)
ADJOINT_BINARY(Subtract, a - b)
ADJOINT_BINARY(Multiply, a* b)
ADJOINT_BINARY(Divide, a / b)
#undef ADJOINT_BINARY

// Zero wins over everything, also over an infinity or a nan in the other factor. Two selects: one
// on both conditions costs half as much again with AVX-512 masks.
struct Mul0 {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T product = b != T{0} ? a * b : T{0};
    return a != T{0} ? product : T{0};
  }
};

#define ADJOINT_UNARY(Name, expression) \
  struct Name {                         \
    template <class T>                  \
    ADJOINT_INLINE T apply(T x) {       \
      return expression;                \
    }                                   \
  };
ADJOINT_UNARY(Negative, -x)
ADJOINT_UNARY(Square, x* x)
ADJOINT_UNARY(Reciprocal, T{1} / x)
// 0 at both zeros, nan at nan.
ADJOINT_UNARY(Sign, x != x ? x : (x > T{0} ? T{1} : T{0}) - (x < T{0} ? T{1} : T{0}))
#undef ADJOINT_UNARY

#define ADJOINT_BUILTIN(Name, f32, f64)                      \
  struct Name {                                              \
    ADJOINT_INLINE float apply(float x) { return f32(x); }   \
    ADJOINT_INLINE double apply(double x) { return f64(x); } \
  };
ADJOINT_BUILTIN(Abs, __builtin_fabsf, __builtin_fabs)
ADJOINT_BUILTIN(Sqrt, __builtin_sqrtf, __builtin_sqrt)
ADJOINT_BUILTIN(Floor, __builtin_floorf, __builtin_floor)
ADJOINT_BUILTIN(Ceil, __builtin_ceilf, __builtin_ceil)
ADJOINT_BUILTIN(Trunc, __builtin_truncf, __builtin_trunc)
ADJOINT_BUILTIN(Round, __builtin_rintf, __builtin_rint)  // half to even, the rounding mode in force
#undef ADJOINT_BUILTIN

}  // namespace
}  // namespace adjoint::kernels::ADJOINT_ISA_NS
