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
ADJOINT_UNARY(Entr, entr)
ADJOINT_UNARY(Log10, log10)
ADJOINT_UNARY(Sin, sin)
ADJOINT_UNARY(Cos, cos)
ADJOINT_UNARY(Tan, tan)
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
ADJOINT_UNARY(Gaussian, gaussian)
ADJOINT_UNARY(OneMinusSquare, one_minus_square)
ADJOINT_UNARY(Binade, binade)
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
ADJOINT_BINARY(HypotSlope, hypot_slope)
ADJOINT_BINARY(SigmoidSlope, sigmoid_slope)
ADJOINT_BINARY(TanhSlope, tanh_slope)
#undef ADJOINT_BINARY

struct LogAddExp {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T high = a > b ? a : b;
    const T low = a > b ? b : a;
    const T apart = a == b ? T{0} : low - high;  // two infinities are no distance apart
    return high + math::softplus(apart);
  }
};

// What serves for all but the arguments it excludes, and costs less.
#define ADJOINT_FAST(Name, function, excluded) \
  struct Name {                                \
    template <class T>                         \
    ADJOINT_INLINE T apply(T x) {              \
      return math::function(x);                \
    }                                          \
    template <class T>                         \
    ADJOINT_INLINE bool excludes(T x) {        \
      return excluded;                         \
    }                                          \
  };
ADJOINT_FAST(ExpFast, exp_fast, math::abs(x) > math::kExpFastMax<T>)
ADJOINT_FAST(LogFast, log_fast, math::not_normal_positive(x))
ADJOINT_FAST(Log2Fast, log2_fast, math::not_normal_positive(x))
ADJOINT_FAST(Log10Fast, log10_fast, math::not_normal_positive(x))
ADJOINT_FAST(SinFast, sin_fast, math::abs(x) > math::kTrigFastMax<T>)
ADJOINT_FAST(CosFast, cos_fast, math::abs(x) > math::kTrigFastMax<T>)
ADJOINT_FAST(TanFast, tan_fast, math::abs(x) > math::kTrigFastMax<T>)
#undef ADJOINT_FAST

struct PowFast {
  template <class T>
  ADJOINT_INLINE T apply(T x, T y) {
    return math::pow_fast(x, y);
  }
  template <class T>
  ADJOINT_INLINE bool excludes(T x, T y) {
    return math::not_normal_positive(x) || !(math::abs(y) <= math::kPowFastMax<T>);
  }
};

/// A block that has no excluded argument takes the short way, which gives the bits of the full one:
/// the result of an element depends on that element alone.
template <class Fast, class Full, class T>
void checked_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<T>* x = static_cast<const Mem<T>*>(in[0]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t count = n - start < kBlock ? n - start : kBlock;
    math::Bits<T> excluded = 0;
    for (std::int64_t i = start; i < start + count; ++i)
      excluded |= Fast::excludes(static_cast<T>(x[i])) ? 1 : 0;
    const void* const operand[] = {x + start};
    if (excluded == 0) {
      unary_loop<Fast, T, T>(operand, o + start, count);
    } else {
      unary_loop<Full, T, T>(operand, o + start, count);
    }
  }
}

template <class Fast, class Full, class T>
consteval TileKernel checked(const char* name, DType d, int cost) {
  return {name,    d,      d, 1, static_cast<std::uint8_t>(cost), &checked_loop<Fast, Full, T>,
          nullptr, nullptr};
}

/// The same for two operands.
template <class T>
void pow_vv(const void* const* in, void* out, std::int64_t n) {
  const Mem<T>* x = static_cast<const Mem<T>*>(in[0]);
  const Mem<T>* y = static_cast<const Mem<T>*>(in[1]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t count = n - start < kBlock ? n - start : kBlock;
    math::Bits<T> excluded = 0;
    for (std::int64_t i = start; i < start + count; ++i)
      excluded |= PowFast::excludes(static_cast<T>(x[i]), static_cast<T>(y[i])) ? 1 : 0;
    const void* const operands[] = {x + start, y + start};
    if (excluded == 0) {
      vv_loop<PowFast, T, T>(operands, o + start, count);
    } else {
      vv_loop<Pow, T, T>(operands, o + start, count);
    }
  }
}

/// One base or one exponent for all elements, by way of a vector of it: for an operand that does
/// not change, the compiler takes special cases out of the loop, which then no longer vectorises.
template <class T, int Single>
void pow_with_single(const void* const* in, void* out, std::int64_t n) {
  const T single = *static_cast<const Mem<T>*>(in[Single]);
  T copies[kBlock];
  const std::int64_t filled = n < kBlock ? n : kBlock;
  for (std::int64_t i = 0; i < filled; ++i) copies[i] = single;
  const Mem<T>* other = static_cast<const Mem<T>*>(in[1 - Single]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const void* operands[] = {copies, copies};
    operands[1 - Single] = other + start;
    pow_vv<T>(operands, o + start, n - start < kBlock ? n - start : kBlock);
  }
}

template <class T>
consteval TileKernel pow_row(DType d) {
  return {"pow", d, d, 2, 40, &pow_vv<T>, &pow_with_single<T, 0>, &pow_with_single<T, 1>};
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
  checked<ExpFast, Exp, T>("exp", D, 8), unary<Exp2, T>("exp2", D, D, 8),                       \
      unary<Expm1, T>("expm1", D, D, 12), checked<LogFast, Log, T>("log", D, 8),                \
      unary<Log1p, T>("log1p", D, D, 12), unary<Entr, T>("entr", D, D, 16),                     \
      checked<Log2Fast, Log2, T>("log2", D, 12), checked<Log10Fast, Log10, T>("log10", D, 12),  \
      checked<SinFast, Sin, T>("sin", D, 8), checked<CosFast, Cos, T>("cos", D, 8),             \
      checked<TanFast, Tan, T>("tan", D, 16), unary<Asin, T>("asin", D, D, 12),                 \
      unary<Acos, T>("acos", D, D, 12), unary<Atan, T>("atan", D, D, 12),                       \
      unary<Sinh, T>("sinh", D, D, 16), unary<Cosh, T>("cosh", D, D, 12),                       \
      unary<Tanh, T>("tanh", D, D, 12), unary<Asinh, T>("asinh", D, D, 16),                     \
      unary<Acosh, T>("acosh", D, D, 16), unary<Atanh, T>("atanh", D, D, 16),                   \
      unary<Rsqrt, T>("rsqrt", D, D, 8), unary<Cbrt, T>("cbrt", D, D, 12),                      \
      unary<Erf, T>("erf", D, D, 16), unary<Erfc, T>("erfc", D, D, 24),                         \
      unary<Lgamma, T>("lgamma", D, D, 40), unary<Digamma, T>("digamma", D, D, 40),             \
      unary<Sigmoid, T>("sigmoid", D, D, 12), unary<Softplus, T>("softplus", D, D, 24),         \
      unary<Silu, T>("silu", D, D, 16), unary<Gelu, T>("gelu", D, D, 24),                       \
      unary<GeluErf, T>("gelu_erf", D, D, 24), pow_row<T>(D), polygamma_row<T>(D),              \
      binary<Atan2, T>("atan2", D, D, 16), binary<Hypot, T>("hypot", D, D, 12),                 \
      binary<HypotSlope, T>("hypot_slope", D, D, 16),                                           \
      binary<SigmoidSlope, T>("sigmoid_slope", D, D, 8),                                        \
      binary<LogAddExp, T>("logaddexp", D, D, 24), binary<TanhSlope, T>("tanh_slope", D, D, 8), \
      unary<Gaussian, T>("gaussian", D, D, 12),                                                 \
      unary<OneMinusSquare, T>("one_minus_square", D, D, 1), unary<Binade, T>("binade", D, D, 1)

constexpr TileKernel kRows[] = {
    ADJOINT_ROWS(DType::float32, float),
    ADJOINT_ROWS(DType::float64, double),
};
#undef ADJOINT_ROWS

}  // namespace

Rows<TileKernel> math_tiles() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
