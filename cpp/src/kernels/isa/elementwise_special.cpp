// Tile kernels of the special functions that are computed in double lanes: loops over the scalar
// functions of math_special-inl.h, math_bessel-inl.h, math_igamma-inl.h and
// math_igamma_slope-inl.h, rounded to the type of the elements.
#include "kernels/isa/elementwise-inl.h"
#include "kernels/isa/math_bessel-inl.h"
#include "kernels/isa/math_igamma-inl.h"
#include "kernels/isa/math_igamma_slope-inl.h"
#include "kernels/isa/math_special-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

#define ADJOINT_UNARY(Name, function)                                \
  struct Name {                                                      \
    template <class T>                                               \
    ADJOINT_INLINE T apply(T x) {                                    \
      return static_cast<T>(math::function(static_cast<double>(x))); \
    }                                                                \
  };
ADJOINT_UNARY(Sinc, sinc)
ADJOINT_UNARY(Ndtr, ndtr)
ADJOINT_UNARY(LogNdtr, log_ndtr)
ADJOINT_UNARY(NormalDensity, normal_density)
ADJOINT_UNARY(NormalSlope, normal_slope)
ADJOINT_UNARY(ErfInv, erfinv)
ADJOINT_UNARY(I0, i0)
ADJOINT_UNARY(I0e, i0e)
ADJOINT_UNARY(I1, i1)
ADJOINT_UNARY(I1e, i1e)
#undef ADJOINT_UNARY

#define ADJOINT_BINARY(Name, function)                                                       \
  struct Name {                                                                              \
    template <class T>                                                                       \
    ADJOINT_INLINE T apply(T a, T b) {                                                       \
      return static_cast<T>(math::function(static_cast<double>(a), static_cast<double>(b))); \
    }                                                                                        \
  };
ADJOINT_BINARY(ErfInvSlope, erfinv_slope)
ADJOINT_BINARY(NdtriSlope, ndtri_slope)
ADJOINT_BINARY(GammaDensity, gamma_density)
#undef ADJOINT_BINARY

// Functions that iterate take a hundred times as long as a call. So there is one copy of each, not
// one in every loop; a third of the time of this file is left.
#define ADJOINT_ITERATED(Name, function)                                                      \
  struct Name {                                                                               \
    template <class... T>                                                                     \
    __attribute__((noinline)) static double in_double(T... x) {                               \
      return math::function(x...);                                                            \
    }                                                                                         \
    template <class T, class... More>                                                         \
    ADJOINT_INLINE T apply(T x, More... more) {                                               \
      return static_cast<T>(in_double(static_cast<double>(x), static_cast<double>(more)...)); \
    }                                                                                         \
  };                                                                                          \
  template <>                                                                                 \
  inline constexpr bool kIterates<Name> = true;
ADJOINT_ITERATED(Ndtri, ndtri)
ADJOINT_ITERATED(SincSlope, sinc_slope)
ADJOINT_ITERATED(LogNdtrSlope, log_ndtr_slope)
ADJOINT_ITERATED(I0Slope, i0_slope)
ADJOINT_ITERATED(I0eSlope, i0e_slope)
ADJOINT_ITERATED(IGamma, igamma)
ADJOINT_ITERATED(IGammaC, igammac)
ADJOINT_ITERATED(IGammaSlope, igamma_slope)
ADJOINT_ITERATED(GammaDensitySlope, gamma_density_slope)
#undef ADJOINT_ITERATED

#define ADJOINT_ROWS(D, T)                                                                        \
  unary<Sinc, T>("sinc", D, D, 16), unary<Ndtr, T>("ndtr", D, D, 32),                             \
      unary<LogNdtr, T>("log_ndtr", D, D, 100),                                                   \
      unary<NormalDensity, T>("normal_density", D, D, 16),                                        \
      unary<NormalSlope, T>("normal_slope", D, D, 80),                                            \
      binary<LogNdtrSlope, T>("log_ndtr_slope", D, D, 240), unary<ErfInv, T>("erfinv", D, D, 60), \
      unary<Ndtri, T>("ndtri", D, D, 240), unary<I0, T>("i0", D, D, 40),                          \
      unary<I0e, T>("i0e", D, D, 40), unary<I1, T>("i1", D, D, 40),                               \
      unary<I1e, T>("i1e", D, D, 40), binary<SincSlope, T>("sinc_slope", D, D, 200),              \
      binary<ErfInvSlope, T>("erfinv_slope", D, D, 40),                                           \
      binary<NdtriSlope, T>("ndtri_slope", D, D, 40), binary<I0Slope, T>("i0_slope", D, D, 240),  \
      binary<I0eSlope, T>("i0e_slope", D, D, 240), binary<IGamma, T>("igamma", D, D, 240),        \
      binary<IGammaC, T>("igammac", D, D, 240),                                                   \
      binary<GammaDensity, T>("gamma_density", D, D, 100),                                        \
      ternary<IGammaSlope, T, T>("igamma_slope", D, 240),                                         \
      ternary<GammaDensitySlope, T, T>("gamma_density_slope", D, 240)

constexpr TileKernel kRows[] = {
    ADJOINT_ROWS(DType::float32, float),
    ADJOINT_ROWS(DType::float64, double),
};
#undef ADJOINT_ROWS

}  // namespace

Rows<TileKernel> special_tiles() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
