// Tile kernels of the elementary functions: loops over the scalar functions of math-inl.h.
#include "kernels/isa/elementwise-inl.h"
#include "kernels/isa/math-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

#define ADJOINT_UNARY(Name, function) \
  struct Name {                       \
    template <class T>                \
    ADJOINT_INLINE T apply(T x) {     \
      return math::function(x);       \
    }                                 \
  };
ADJOINT_UNARY(Exp, exp)
ADJOINT_UNARY(Exp2, exp2)
ADJOINT_UNARY(Expm1, expm1)
ADJOINT_UNARY(Log, log)
ADJOINT_UNARY(Log1p, log1p)
ADJOINT_UNARY(Log2, log2)
ADJOINT_UNARY(Log10, log10)
ADJOINT_UNARY(Sin, sin)
ADJOINT_UNARY(SinFast, sin_fast)
ADJOINT_UNARY(Cos, cos)
ADJOINT_UNARY(CosFast, cos_fast)
ADJOINT_UNARY(Tan, tan)
ADJOINT_UNARY(TanFast, tan_fast)
ADJOINT_UNARY(Asin, asin)
ADJOINT_UNARY(Acos, acos)
ADJOINT_UNARY(Atan, atan)
ADJOINT_UNARY(Sinh, sinh)
ADJOINT_UNARY(Cosh, cosh)
ADJOINT_UNARY(Tanh, tanh)
ADJOINT_UNARY(Asinh, asinh)
ADJOINT_UNARY(Acosh, acosh)
ADJOINT_UNARY(Atanh, atanh)
ADJOINT_UNARY(Rsqrt, rsqrt)
ADJOINT_UNARY(Cbrt, cbrt)
ADJOINT_UNARY(Erf, erf)
ADJOINT_UNARY(Erfc, erfc)
ADJOINT_UNARY(Lgamma, lgamma)
ADJOINT_UNARY(Digamma, digamma)
ADJOINT_UNARY(Sigmoid, sigmoid)
ADJOINT_UNARY(Softplus, softplus)
ADJOINT_UNARY(Silu, silu)
ADJOINT_UNARY(Gelu, gelu)
ADJOINT_UNARY(GeluErf, gelu_erf)
#undef ADJOINT_UNARY

#define ADJOINT_BINARY(Name, function) \
  struct Name {                        \
    template <class T>                 \
    ADJOINT_INLINE T apply(T a, T b) { \
      return math::function(a, b);     \
    }                                  \
  };
ADJOINT_BINARY(Pow, pow)
ADJOINT_BINARY(Atan2, atan2)
ADJOINT_BINARY(Hypot, hypot)
#undef ADJOINT_BINARY

/// The full function costs several times the one for moderate arguments and gives its bits there,
/// so a stretch that has no large argument takes the short way.
template <class Fast, class Full, class T>
void trig_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<T>* x = static_cast<const Mem<T>*>(in[0]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t count = n - start < kBlock ? n - start : kBlock;
    math::Bits<T> large = 0;
    for (std::int64_t i = 0; i < count; ++i)
      large |= math::abs(static_cast<T>(x[start + i])) > math::kTrigFastMax<T> ? 1 : 0;
    const void* const operand[] = {x + start};
    if (large == 0) {
      unary_loop<Fast, T, T>(operand, o + start, count);
    } else {
      unary_loop<Full, T, T>(operand, o + start, count);
    }
  }
}

template <class Fast, class Full, class T>
consteval TileKernel trig(const char* name, DType d, int cost) {
  return {name,    d,      d, 1, static_cast<std::uint8_t>(cost), &trig_loop<Fast, Full, T>,
          nullptr, nullptr};
}

/// One exponent for all elements, by way of a vector of it: for an exponent that does not change,
/// the compiler takes the special cases out of the loop, which then no longer vectorises.
template <class T>
void pow_vs(const void* const* in, void* out, std::int64_t n) {
  constexpr std::int64_t chunk = 128;
  const Mem<T>* x = static_cast<const Mem<T>*>(in[0]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  const T exponent = *static_cast<const Mem<T>*>(in[1]);
  T exponents[chunk];
  const std::int64_t filled = n < chunk ? n : chunk;
  for (std::int64_t i = 0; i < filled; ++i) exponents[i] = exponent;
  for (std::int64_t start = 0; start < n; start += chunk) {
    const void* const operands[] = {x + start, exponents};
    vv_loop<Pow, T, T>(operands, o + start, n - start < chunk ? n - start : chunk);
  }
}

template <class T>
consteval TileKernel pow_row(DType d) {
  return {"pow", d, d, 2, 40, &vv_loop<Pow, T, T>, &sv_loop<Pow, T, T>, &pow_vs<T>};
}

/// One order for `n` elements; x_step is 0 where they are all the same one.
template <class T>
void polygamma_run(T order, const Mem<T>* x, std::int64_t x_step, Mem<T>* out, std::int64_t n) {
  const int whole = order >= T(0) && order <= T(math::kPolygammaMax) ? static_cast<int>(order) : -1;
  if (static_cast<T>(whole) != order || whole < 1) {
    for (std::int64_t i = 0; i < n; ++i)
      out[i] = order == T(0) ? math::digamma(static_cast<T>(x[i * x_step])) : math::kNan<T>;
    return;
  }
  const math::PolygammaOrder constants = math::polygamma_order(whole);
  double argument[math::kPolygammaChunk], result[math::kPolygammaChunk];
  for (std::int64_t start = 0; start < n; start += math::kPolygammaChunk) {
    const std::int64_t left = n - start;
    const int count = left < math::kPolygammaChunk ? static_cast<int>(left) : math::kPolygammaChunk;
    for (int i = 0; i < count; ++i) argument[i] = static_cast<double>(x[(start + i) * x_step]);
    math::polygamma_chunk(constants, argument, count, result);
    for (int i = 0; i < count; ++i) out[start + i] = static_cast<T>(result[i]);
  }
}

/// A step is 0 for an operand of one element. Equal orders that follow each other run together.
template <class T, int OrderStep, int ArgumentStep>
void polygamma_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<T>* order = static_cast<const Mem<T>*>(in[0]);
  const Mem<T>* x = static_cast<const Mem<T>*>(in[1]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  for (std::int64_t start = 0, end; start < n; start = end) {
    const T of_run = order[start * OrderStep];
    end = OrderStep == 0 ? n : start + 1;
    while (end < n && order[end * OrderStep] == of_run) ++end;
    polygamma_run<T>(of_run, x + start * ArgumentStep, ArgumentStep, o + start, end - start);
  }
}

template <class T>
consteval TileKernel polygamma_row(DType d) {
  return {"polygamma",
          d,
          d,
          2,
          240,
          &polygamma_loop<T, 1, 1>,
          &polygamma_loop<T, 0, 1>,
          &polygamma_loop<T, 1, 0>};
}

// Costs are the time over that of an addition in cache, rounded.
#define ADJOINT_ROWS(D, T)                                                                      \
  unary<Exp, T>("exp", D, D, 8), unary<Exp2, T>("exp2", D, D, 8),                               \
      unary<Expm1, T>("expm1", D, D, 12), unary<Log, T>("log", D, D, 8),                        \
      unary<Log1p, T>("log1p", D, D, 12), unary<Log2, T>("log2", D, D, 12),                     \
      unary<Log10, T>("log10", D, D, 12), trig<SinFast, Sin, T>("sin", D, 8),                   \
      trig<CosFast, Cos, T>("cos", D, 8), trig<TanFast, Tan, T>("tan", D, 16),                  \
      unary<Asin, T>("asin", D, D, 12), unary<Acos, T>("acos", D, D, 12),                       \
      unary<Atan, T>("atan", D, D, 12), unary<Sinh, T>("sinh", D, D, 16),                       \
      unary<Cosh, T>("cosh", D, D, 12), unary<Tanh, T>("tanh", D, D, 12),                       \
      unary<Asinh, T>("asinh", D, D, 16), unary<Acosh, T>("acosh", D, D, 16),                   \
      unary<Atanh, T>("atanh", D, D, 16), unary<Rsqrt, T>("rsqrt", D, D, 8),                    \
      unary<Cbrt, T>("cbrt", D, D, 12), unary<Erf, T>("erf", D, D, 16),                         \
      unary<Erfc, T>("erfc", D, D, 24), unary<Lgamma, T>("lgamma", D, D, 40),                   \
      unary<Digamma, T>("digamma", D, D, 40), unary<Sigmoid, T>("sigmoid", D, D, 12),           \
      unary<Softplus, T>("softplus", D, D, 24), unary<Silu, T>("silu", D, D, 16),               \
      unary<Gelu, T>("gelu", D, D, 24), unary<GeluErf, T>("gelu_erf", D, D, 24), pow_row<T>(D), \
      polygamma_row<T>(D), binary<Atan2, T>("atan2", D, D, 16),                                 \
      binary<Hypot, T>("hypot", D, D, 12)

constexpr TileKernel rows[] = {
    ADJOINT_ROWS(DType::float32, float),
    ADJOINT_ROWS(DType::float64, double),
};
#undef ADJOINT_ROWS

}  // namespace

Rows<TileKernel> math_tiles() { return rows_of(rows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
