// Tile kernels of floating-point arithmetic: exact or correctly rounded functions, and the
// weights and products that derivative rules are written in.
#include "kernels/isa/arithmetic-inl.h"
#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

ADJOINT_INLINE float fmod_of(float a, float b) { return __builtin_fmodf(a, b); }
ADJOINT_INLINE double fmod_of(double a, double b) { return __builtin_fmod(a, b); }
ADJOINT_INLINE float floor_of(float x) { return __builtin_floorf(x); }
ADJOINT_INLINE double floor_of(double x) { return __builtin_floor(x); }
ADJOINT_INLINE float copysign_of(float x, float s) { return __builtin_copysignf(x, s); }
ADJOINT_INLINE double copysign_of(double x, double s) { return __builtin_copysign(x, s); }

// The remainder takes the divisor's sign, as in Python. fmod is exact, so only the shift into
// the divisor's sign rounds.
struct Remainder {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T r = fmod_of(a, b);
    if (r == T{0}) return copysign_of(T{0}, b);
    return (r < T{0}) != (b < T{0}) ? r + b : r;
  }
};

// Of the sign of the dividend; exact.
struct TruncatedRemainder {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    return fmod_of(a, b);
  }
};

// floor(a / b) of the exact quotient: (a - fmod(a, b)) / b is an integer up to rounding.
struct FloorDivide {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    if (b == T{0}) return a / b;
    const T r = fmod_of(a, b);
    T quotient = (a - r) / b;
    if (r != T{0} && (r < T{0}) != (b < T{0})) quotient -= T{1};
    if (quotient == T{0}) return copysign_of(T{0}, a / b);
    const T whole = floor_of(quotient);
    return quotient - whole > T{0.5} ? whole + T{1} : whole;
  }
};

// The share of a cotangent that goes to the first of two operands: 1 if its value is the result,
// 0.5 at a tie. A nan is the result of maximum and minimum, so it takes the share; two nans tie.
// w(a, b) + w(b, a) = 1 always.
struct MaxWeight {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const bool wins = (a > b) | ((a != a) & (b == b));
    const bool ties = (a == b) | ((a != a) & (b != b));
    return wins ? T{1} : (ties ? T{0.5} : T{0});
  }
};

struct MinWeight {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const bool wins = (a < b) | ((a != a) & (b == b));
    const bool ties = (a == b) | ((a != a) & (b != b));
    return wins ? T{1} : (ties ? T{0.5} : T{0});
  }
};

ADJOINT_INLINE float next_of(float a, float b) { return __builtin_nextafterf(a, b); }
ADJOINT_INLINE double next_of(double a, double b) { return __builtin_nextafter(a, b); }

ADJOINT_INLINE float scaled(float x, int k) { return __builtin_ldexpf(x, k); }
ADJOINT_INLINE double scaled(double x, int k) { return __builtin_ldexp(x, k); }

// For whole exponents, limited to what leads from one end of the range beyond the other.
struct LdExp {
  template <class T>
  ADJOINT_INLINE T apply(T x, T exponent) {
    const T most = exponent > T{5000} ? T{5000} : exponent;
    const T k = most < T{-5000} ? T{-5000} : most;
    return exponent == exponent ? scaled(x, static_cast<int>(k)) : exponent;
  }
};

struct CopySign {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    return copysign_of(a, b);
  }
};

struct NextAfter {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    return next_of(a, b);
  }
};

template <>
inline constexpr bool kIterates<LdExp> = true;
template <>
inline constexpr bool kIterates<NextAfter> = true;

// Maximum and minimum are no `commutative` rows: max(0, -0) depends on the order.
#define ADJOINT_ROWS(D, T)                                                                      \
  commutative<Add, T>("add", D, D, 1), binary<Subtract, T>("subtract", D, D, 1),                \
      commutative<Multiply, T>("multiply", D, D, 1), binary<Divide, T>("divide", D, D, 4),      \
      commutative<Mul0, T>("mul0", D, D, 1), unary<Negative, T>("negative", D, D, 1),           \
      unary<Abs, T>("abs", D, D, 1), unary<Sign, T>("sign", D, D, 1),                           \
      unary<Square, T>("square", D, D, 1), unary<Reciprocal, T>("reciprocal", D, D, 4),         \
      unary<Sqrt, T>("sqrt", D, D, 4), unary<Floor, T>("floor", D, D, 1),                       \
      unary<Ceil, T>("ceil", D, D, 1), unary<Trunc, T>("trunc", D, D, 1),                       \
      unary<Round, T>("round", D, D, 1), binary<Maximum, T>("maximum", D, D, 1),                \
      binary<Minimum, T>("minimum", D, D, 1), ternary<Clip, T, T>("clip", D, 2),                \
      binary<Remainder, T>("remainder", D, D, 24),                                              \
      binary<TruncatedRemainder, T>("fmod", D, D, 24), binary<LdExp, T>("ldexp", D, D, 16),     \
      binary<FloorDivide, T>("floor_divide", D, D, 24),                                         \
      binary<MaxWeight, T>("max_weight", D, D, 2), binary<MinWeight, T>("min_weight", D, D, 2), \
      binary<CopySign, T>("copysign", D, D, 1), binary<NextAfter, T>("nextafter", D, D, 16)

constexpr TileKernel kRows[] = {
    ADJOINT_ROWS(DType::float32, float),
    ADJOINT_ROWS(DType::float64, double),
};
#undef ADJOINT_ROWS

}  // namespace

Rows<TileKernel> float_tiles() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
