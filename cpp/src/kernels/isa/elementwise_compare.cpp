// Tile kernels that yield or read bools: comparisons, tests of floats, `where`; and `copy`, which
// like `where` only moves bits and so exists once per width.
#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

#define ADJOINT_COMPARISON(Name, op)              \
  struct Name {                                   \
    template <class T>                            \
    ADJOINT_INLINE std::uint8_t apply(T a, T b) { \
      return a op b ? 1 : 0;                      \
    }                                             \
  };
ADJOINT_COMPARISON(Equal, ==)
ADJOINT_COMPARISON(NotEqual, !=)
ADJOINT_COMPARISON(Less, <)
ADJOINT_COMPARISON(LessEqual, <=)
#undef ADJOINT_COMPARISON

ADJOINT_INLINE float magnitude(float x) { return __builtin_fabsf(x); }
ADJOINT_INLINE double magnitude(double x) { return __builtin_fabs(x); }

#define ADJOINT_TEST(Name, expression)       \
  struct Name {                              \
    template <class T>                       \
    ADJOINT_INLINE std::uint8_t apply(T x) { \
      return expression ? 1 : 0;             \
    }                                        \
  };
ADJOINT_TEST(IsNan, x != x)
ADJOINT_TEST(IsInf, magnitude(x) == static_cast<T>(__builtin_inf()))
ADJOINT_TEST(IsFinite, magnitude(x) < static_cast<T>(__builtin_inf()))
ADJOINT_TEST(SignBit, __builtin_signbit(x) != 0)
#undef ADJOINT_TEST

struct Where {
  template <class T>
  ADJOINT_INLINE T apply(std::uint8_t condition, T a, T b) {
    return condition != 0 ? a : b;
  }
};

template <std::int64_t size>
void copy_bytes(const void* const* in, void* out, std::int64_t n) {
  __builtin_memmove(out, in[0], static_cast<std::size_t>(size * n));
}

template <std::int64_t size>
consteval TileKernel copy_row(DType d) {
  return {"copy", d, d, 1, 1, &copy_bytes<size>, nullptr, nullptr};
}

constexpr DType boolean = DType::boolean;

// U is the unsigned type of T's width, for what only looks at bits; E the type that tells equality.
#define ADJOINT_ROWS(D, T, U, E)                                            \
  commutative<Equal, E, std::uint8_t>("equal", D, boolean, 1),              \
      commutative<NotEqual, E, std::uint8_t>("not_equal", D, boolean, 1),   \
      binary<Less, T, std::uint8_t>("less", D, boolean, 1),                 \
      binary<LessEqual, T, std::uint8_t>("less_equal", D, boolean, 1),      \
      mirrored<Less, T, std::uint8_t>("greater", D, boolean, 1),            \
      mirrored<LessEqual, T, std::uint8_t>("greater_equal", D, boolean, 1), \
      ternary<Where, std::uint8_t, U>("where", D, 1), copy_row<sizeof(T)>(D)

#define ADJOINT_TEST_ROWS(D, T)                                    \
  unary<IsNan, T, std::uint8_t>("isnan", D, boolean, 1),           \
      unary<IsInf, T, std::uint8_t>("isinf", D, boolean, 1),       \
      unary<IsFinite, T, std::uint8_t>("isfinite", D, boolean, 1), \
      unary<SignBit, T, std::uint8_t>("signbit", D, boolean, 1)

constexpr TileKernel kRows[] = {
    ADJOINT_ROWS(DType::boolean, std::uint8_t, std::uint8_t, std::uint8_t),
    ADJOINT_ROWS(DType::int8, std::int8_t, std::uint8_t, std::uint8_t),
    ADJOINT_ROWS(DType::int16, std::int16_t, std::uint16_t, std::uint16_t),
    ADJOINT_ROWS(DType::int32, std::int32_t, std::uint32_t, std::uint32_t),
    ADJOINT_ROWS(DType::int64, std::int64_t, std::uint64_t, std::uint64_t),
    ADJOINT_ROWS(DType::uint8, std::uint8_t, std::uint8_t, std::uint8_t),
    ADJOINT_ROWS(DType::uint16, std::uint16_t, std::uint16_t, std::uint16_t),
    ADJOINT_ROWS(DType::uint32, std::uint32_t, std::uint32_t, std::uint32_t),
    ADJOINT_ROWS(DType::uint64, std::uint64_t, std::uint64_t, std::uint64_t),
    ADJOINT_ROWS(DType::float32, float, std::uint32_t, float),
    ADJOINT_ROWS(DType::float64, double, std::uint64_t, double),
    ADJOINT_TEST_ROWS(DType::float32, float),
    ADJOINT_TEST_ROWS(DType::float64, double),
};
#undef ADJOINT_TEST_ROWS
#undef ADJOINT_ROWS

}  // namespace

Rows<TileKernel> comparison_tiles() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
