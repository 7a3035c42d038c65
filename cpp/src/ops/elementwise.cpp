// Arithmetic and the elementary functions. A record gives each partial derivative as an expression
// in the inputs and the output; reverse, forward and every higher order follow from it. The product
// of a cotangent and a partial is `mul0`, so a partial may be infinite where the cotangent is 0.
#include <cstring>
#include <limits>
#include <numbers>
#include <optional>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family elementwise_family;

Partial one() { return {.kind = Partial::one}; }
Partial minus_one() { return {.kind = Partial::minus_one}; }
Partial zero() { return {.kind = Partial::zero}; }
Partial value(Tensor&& t) { return {.made = std::move(t)}; }
/// An input or the output of the application itself.
Partial own(const Tensor& t) { return {.own = &t}; }

Partial no_slope(const RuleArgs&, int) { return zero(); }

/// x with 0.0 for -0.0, whose reciprocal is the slope of a function that ends at 0.
Tensor from_above(const Tensor& x) { return x + 0.0; }

constexpr std::uint8_t kX = 1;
constexpr std::uint8_t kY = kSavesOutput;

}  // namespace

// A unary record and its function. `partial` is an expression in x (the input) and y (the output);
// `saves` says which of the two it reads.
#define ADJOINT_UNARY_RECORD(fn, rule, saves, text, lo, hi, face, ...)                 \
  static Op& fn##_record =                                                             \
      elementwise_family.define({.name = #fn,                                          \
                                 .signature = "(x, /)",                                \
                                 .doc = text,                                          \
                                 .kind = OpKind::elementwise,                          \
                                 .arity = 1,                                           \
                                 .dtypes = DTypeRule::rule,                            \
                                 .partial = [](const RuleArgs& args, int) -> Partial { \
                                   [[maybe_unused]] const Tensor& x = args.inputs[0];  \
                                   [[maybe_unused]] const Tensor& y = args.output;     \
                                   return __VA_ARGS__;                                 \
                                 },                                                    \
                                 .needs = {saves, 0, 0},                               \
                                 face,                                                 \
                                 .domain = {lo, hi}});                                 \
  Tensor fn(const Tensor& x) { return apply(fn##_record, {&x}); }
#define ADJOINT_UNARY(fn, rule, saves, text, lo, hi, ...) \
  ADJOINT_UNARY_RECORD(fn, rule, saves, text, lo, hi, .method = true, __VA_ARGS__)

// Slopes that no expression in other operations keeps the digits of, in value and in derivative.
#define ADJOINT_SLOPE(fn, saves, text, lo, hi, ...) \
  static Tensor fn(const Tensor& x);                \
  ADJOINT_UNARY_RECORD(fn, floating, saves, text, lo, hi, .internal = true, __VA_ARGS__)
ADJOINT_SLOPE(one_minus_square, kX, "1 - x**2, exact next to 1.", -0.8, 0.8, value(-2.0 * x))
ADJOINT_SLOPE(gaussian, kX | kY, "exp(-x**2).", -2, 2, value(-2.0 * mul0(x, y)))
#undef ADJOINT_SLOPE

// The same of a function whose value is at hand: `partial` is that in x, an expression in x, the
// function's value f and the result y. f follows x, and adds nothing.
#define ADJOINT_SLOPE_OF(fn, saves, text, lo, hi, ...)                                   \
  static Op& fn##_record =                                                               \
      elementwise_family.define({.name = #fn,                                            \
                                 .signature = "(x, y, /)",                               \
                                 .doc = text,                                            \
                                 .kind = OpKind::elementwise,                            \
                                 .arity = 2,                                             \
                                 .dtypes = DTypeRule::floating,                          \
                                 .partial = [](const RuleArgs& args, int i) -> Partial { \
                                   [[maybe_unused]] const Tensor& x = args.inputs[0];    \
                                   [[maybe_unused]] const Tensor& f = args.inputs[1];    \
                                   const Tensor& y = args.output;                        \
                                   if (i == 1) return zero();                            \
                                   return __VA_ARGS__;                                   \
                                 },                                                      \
                                 .needs = {saves, 0, 0},                                 \
                                 .constant_inputs = 2,                                   \
                                 .internal = true,                                       \
                                 .domain = {lo, hi}});                                   \
  static Tensor fn(const Tensor& x, const Tensor& f) { return apply(fn##_record, {&x, &f}); }
ADJOINT_SLOPE_OF(tanh_slope, 2 | kY, "The derivative of tanh at x, where its value is y.", -2, 2,
                 value(-2.0 * f * y))
ADJOINT_SLOPE_OF(sigmoid_slope, kX | kY, "The derivative of sigmoid at x, where its value is y.",
                 -4, 4, value(-y* tanh(0.5 * x)))
#undef ADJOINT_SLOPE_OF

ADJOINT_UNARY(exp, floating, kY, "e raised to x.", -3, 3, own(y))
ADJOINT_UNARY(exp2, floating, kY, "2 raised to x.", -3, 3, value(y* std::numbers::ln2))
ADJOINT_UNARY(expm1, floating, kX, "exp(x) - 1, exact near 0.", -3, 3, value(exp(x)))
ADJOINT_UNARY(log, floating, kX, "Natural logarithm.", 0.1, 4, value(reciprocal(from_above(x))))
ADJOINT_UNARY(log2, floating, kX, "Logarithm to base 2.", 0.1, 4,
              value(std::numbers::log2e / from_above(x)))
ADJOINT_UNARY(log10, floating, kX, "Logarithm to base 10.", 0.1, 4,
              value(std::numbers::log10e / from_above(x)))
ADJOINT_UNARY(log1p, floating, kX, "log(1 + x), exact near 0.", -0.8, 3, value(reciprocal(x + 1.0)))
ADJOINT_UNARY(sqrt, floating, kY, "Square root.", 0.1, 4, value(0.5 / from_above(y)))
ADJOINT_UNARY(rsqrt, floating, kY, "1 / sqrt(x).", 0.2, 4, value(-0.5 * y * square(y)))
ADJOINT_UNARY(cbrt, floating, kY, "Cube root.", 0.1, 4, value(reciprocal(3.0 * square(y))))
ADJOINT_UNARY(sin, floating, kX, "Sine; x in radians.", -6, 6, value(cos(x)))
ADJOINT_UNARY(cos, floating, kX, "Cosine; x in radians.", -6, 6, value(-sin(x)))
ADJOINT_UNARY(tan, floating, kY, "Tangent; x in radians.", -1, 1, value(square(y) + 1.0))
ADJOINT_UNARY(asin, floating, kX, "Inverse sine, in radians.", -0.8, 0.8,
              value(rsqrt(one_minus_square(x))))
ADJOINT_UNARY(acos, floating, kX, "Inverse cosine, in radians.", -0.8, 0.8,
              value(-rsqrt(one_minus_square(x))))
ADJOINT_UNARY(atan, floating, kX, "Inverse tangent, in radians.", -3, 3,
              value(square(reciprocal(hypot(x, scalar_like(x, 1))))))
ADJOINT_UNARY(sinh, floating, kX, "Hyperbolic sine.", -2, 2, value(cosh(x)))
ADJOINT_UNARY(cosh, floating, kX, "Hyperbolic cosine.", -2, 2, value(sinh(x)))
ADJOINT_UNARY(tanh, floating, kX | kY, "Hyperbolic tangent.", -2, 2, value(tanh_slope(x, y)))
ADJOINT_UNARY(asinh, floating, kX, "Inverse hyperbolic sine.", -3, 3,
              value(reciprocal(hypot(x, scalar_like(x, 1)))))
ADJOINT_UNARY(acosh, floating, kX, "Inverse hyperbolic cosine.", 1.2, 4,
              value(rsqrt(x - 1.0) * rsqrt(x + 1.0)))
ADJOINT_UNARY(atanh, floating, kX, "Inverse hyperbolic tangent.", -0.8, 0.8,
              value(reciprocal(one_minus_square(x))))
ADJOINT_UNARY(erf, floating, kX, "Error function.", -2, 2,
              value(gaussian(x) * (2 * std::numbers::inv_sqrtpi)))
ADJOINT_UNARY(erfc, floating, kX, "1 - erf(x), exact in the tail.", -2, 2,
              value(gaussian(x) * (-2 * std::numbers::inv_sqrtpi)))

static Op& polygamma_record = elementwise_family.define(
    {.name = "polygamma",
     .signature = "(n, x, /)",
     .doc = "Derivative of order n of digamma, for whole n from 0 to 170 (nan for any other).\n\n"
            "n counts as a constant: there is no derivative in it.",
     .kind = OpKind::elementwise,
     .arity = 2,
     .dtypes = DTypeRule::floating,
     .partial = [](const RuleArgs& args, int i) -> Partial {
       if (i == 0) return zero();
       return value(polygamma(args.inputs[0] + 1.0, args.inputs[1]));
     },
     .needs = {0, 3, 0},
     .constant_inputs = 1});
Tensor polygamma(const Tensor& n, const Tensor& x) { return apply(polygamma_record, {&n, &x}); }

ADJOINT_UNARY(lgamma, floating, kX, "Logarithm of the absolute value of the gamma function.", 0.5,
              4, value(digamma(x)))
ADJOINT_UNARY(digamma, floating, kX, "Derivative of lgamma.", 0.5, 4,
              value(polygamma(scalar_like(x, 1), x)))
ADJOINT_UNARY(sigmoid, floating, kX | kY, "1 / (1 + exp(-x)).", -4, 4, value(sigmoid_slope(x, y)))
ADJOINT_UNARY(softplus, floating, kX, "log(1 + exp(x)).", -4, 4, value(sigmoid(x)))
ADJOINT_UNARY(square, numeric, kX, "x * x.", -2, 2, value(x + x))

/// -y*y, one factor after the other: where the square leaves the range, the product may still not.
static Tensor reciprocal_change(const RuleArgs& args, const Tensor& change) {
  return -mul0(mul0(change, args.output), args.output);
}
static Op& reciprocal_record = elementwise_family.define(
    {.name = "reciprocal",
     .signature = "(x, /)",
     .doc = "1 / x.",
     .kind = OpKind::elementwise,
     .arity = 1,
     .dtypes = DTypeRule::floating,
     .vjp = [](const RuleArgs& args, int, const Tensor& ct) { return reciprocal_change(args, ct); },
     .jvp = [](const RuleArgs& args,
               std::span<const Tensor> t) { return reciprocal_change(args, t[0]); },
     .needs = {kY, 0, 0},
     .method = true,
     .domain = {0.3, 3}});
Tensor reciprocal(const Tensor& x) { return apply(reciprocal_record, {&x}); }

ADJOINT_UNARY(abs, numeric, kX, "Absolute value; the derivative at 0 is 0.", -2, 2, value(sign(x)))
ADJOINT_UNARY(negative, numeric, 0, "-x.", -2, 2, minus_one())

namespace {

Tensor gelu_exponent(const Tensor& x) {
  constexpr double c = 1.5957691216057308;  // 2 sqrt(2 / pi)
  return (square(x) * 0.044715 + 1.0) * x * c;
}
Tensor gelu_slope(const Tensor& x) {
  constexpr double c = 1.5957691216057308;
  const Tensor u = gelu_exponent(x);
  const Tensor s = sigmoid(u);
  return s + mul0(sigmoid_slope(u, s), mul0(x, square(x) * (3 * 0.044715 * c) + c));
}
Tensor silu_slope(const Tensor& x) {
  const Tensor s = sigmoid(x);
  return s + mul0(sigmoid_slope(x, s), x);
}

}  // namespace

ADJOINT_UNARY(silu, floating, kX, "x * sigmoid(x).", -4, 4, value(silu_slope(x)))
ADJOINT_UNARY(gelu, floating, kX,
              "Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016).", -4, 4,
              value(gelu_slope(x)))
#undef ADJOINT_UNARY
#undef ADJOINT_UNARY_RECORD

#define ADJOINT_STEP(fn, rule, text)                                               \
  static Op& fn##_record = elementwise_family.define({.name = #fn,                 \
                                                      .signature = "(x, /)",       \
                                                      .doc = text,                 \
                                                      .kind = OpKind::elementwise, \
                                                      .arity = 1,                  \
                                                      .dtypes = DTypeRule::rule,   \
                                                      .partial = no_slope,         \
                                                      .constant_inputs = 1,        \
                                                      .method = true});            \
  Tensor fn(const Tensor& x) { return apply(fn##_record, {&x}); }
ADJOINT_STEP(sign, numeric, "-1, 0 or 1; nan stays nan.")
ADJOINT_STEP(floor, same, "Largest integer not above x.")
ADJOINT_STEP(ceil, same, "Smallest integer not below x.")
ADJOINT_STEP(trunc, same, "x without its fraction.")
ADJOINT_STEP(round, same, "Nearest integer, ties to even.")
#undef ADJOINT_STEP

static Op& binade_record = elementwise_family.define(
    {.name = "binade",
     .signature = "(x, /)",
     .doc = "The power of two at or below |x|; 1 where that is not finite.",
     .kind = OpKind::elementwise,
     .arity = 1,
     .dtypes = DTypeRule::floating,
     .partial = no_slope,
     .constant_inputs = 1,
     .internal = true});
Tensor binade(const Tensor& x) { return apply(binade_record, {&x}); }

static Op& positive_record =
    elementwise_family.define({.name = "positive",
                               .signature = "(x, /)",
                               .doc = "x itself.",
                               .kind = OpKind::elementwise,
                               .arity = 1,
                               .partial = [](const RuleArgs&, int) { return one(); },
                               .kernel = "copy"});
Tensor positive(const Tensor& x) { return apply(positive_record, {&x}); }

// A binary record. `partial_a` and `partial_b` are expressions in a, b and y; the masks say which
// of a (1), b (2) and y (kSavesOutput) each reads.
#define ADJOINT_BINARY(fn, rule, saves_a, saves_b, text, lo, hi, partial_a, partial_b)   \
  static Op& fn##_record =                                                               \
      elementwise_family.define({.name = #fn,                                            \
                                 .signature = "(x1, x2, /)",                             \
                                 .doc = text,                                            \
                                 .kind = OpKind::elementwise,                            \
                                 .arity = 2,                                             \
                                 .dtypes = DTypeRule::rule,                              \
                                 .partial = [](const RuleArgs& args, int i) -> Partial { \
                                   [[maybe_unused]] const Tensor& a = args.inputs[0];    \
                                   [[maybe_unused]] const Tensor& b = args.inputs[1];    \
                                   [[maybe_unused]] const Tensor& y = args.output;       \
                                   if (i == 0) return partial_a;                         \
                                   return partial_b;                                     \
                                 },                                                      \
                                 .needs = {saves_a, saves_b, 0},                         \
                                 .domain = {lo, hi}});                                   \
  Tensor fn(const Tensor& a, const Tensor& b) { return apply(fn##_record, {&a, &b}); }

ADJOINT_BINARY(add, same, 0, 0, "x1 + x2.", -2, 2, one(), one())
ADJOINT_BINARY(subtract, numeric, 0, 0, "x1 - x2.", -2, 2, one(), minus_one())
ADJOINT_BINARY(multiply, same, 2, 1, "x1 * x2.", -2, 2, own(b), own(a))

// Written with the partial of the other input, so that derivatives of any order stay in a few
// nodes.
ADJOINT_BINARY(divide, floating, 2, 2 | kY, "x1 / x2; integers become float64.", 0.3, 3,
               value(reciprocal(b)), value(y * -reciprocal(b)))

namespace {

/// d(x**y)/dy = x**y log(x), and 0 at x = 0 for y >= 0, where the product is 0 times -inf.
Tensor power_slope(const Tensor& x, const Tensor& exponent, const Tensor& y) {
  const Tensor edge =
      logical_and(equal(x, scalar_like(x, 0)), greater_equal(exponent, scalar_like(exponent, 0)));
  return where(edge, scalar_like(y, 0), mul0(y, log(x)));
}
Tensor hypot_slope(const Tensor& a, const Tensor& b);
/// a / (a*a + b*b), whose squares may overflow or vanish; 0 at the origin.
Tensor angle_slope(const Tensor& a, const Tensor& b) {
  const Tensor h = hypot(a, b);
  return hypot_slope(a, b) / where(equal(h, scalar_like(h, 0)), scalar_like(h, 1), h);
}

Op& hypot_slope_record = elementwise_family.define(
    {.name = "hypot_slope",
     .signature = "(x1, x2, /)",
     .doc = "x1 / hypot(x1, x2), the derivative of hypot in x1; 0 at the origin.",
     .kind = OpKind::elementwise,
     .arity = 2,
     .dtypes = DTypeRule::floating,
     .partial = [](const RuleArgs& args, int i) -> Partial {
       const Tensor& a = args.inputs[0];
       const Tensor& b = args.inputs[1];
       // b*b / hypot(a, b)**3 and -a*b / hypot(a, b)**3
       const Tensor turning = angle_slope(b, a);
       return value(i == 0 ? hypot_slope(b, a) * turning : -args.output * turning);
     },
     .needs = {3, 3 | kY, 0},
     .internal = true,
     .domain = {0.3, 2}});
Tensor hypot_slope(const Tensor& a, const Tensor& b) { return apply(hypot_slope_record, {&a, &b}); }

}  // namespace

ADJOINT_BINARY(pow, numeric, 3, 3 | kY,
               "x1 raised to x2; of integers a Python number x2 must not be negative.", 0.3, 2,
               value(mul0(b, pow(a, b - 1.0))), value(power_slope(a, b, y)))
ADJOINT_BINARY(hypot, floating, 3, 3, "sqrt(x1**2 + x2**2); the derivative at 0 is 0.", 0.3, 2,
               value(hypot_slope(a, b)), value(hypot_slope(b, a)))
ADJOINT_BINARY(atan2, floating, 3, 3,
               "Angle of the point (x2, x1), in radians; the derivative at the origin is 0.", 0.3,
               2, value(angle_slope(b, a)), value(-angle_slope(a, b)))
ADJOINT_BINARY(floor_divide, numeric, 0, 0, "x1 / x2 rounded down; integers: 0 for division by 0.",
               0.3, 3, zero(), zero())
ADJOINT_BINARY(remainder, numeric, 0, 3, "x1 - floor(x1 / x2) * x2, of the sign of x2.", 0.3, 3,
               one(), value(-floor_divide(a, b)))
// The quotient is a whole number, but for rounding.
ADJOINT_BINARY(fmod, numeric, 0, 3 | kY, "x1 - trunc(x1 / x2) * x2, of the sign of x1.", 0.3, 3,
               one(), value(-round((a - y) / b)))

static Op& max_weight_record =
    elementwise_family.define({.name = "max_weight",
                               .signature = "(x1, x2, /)",
                               .doc = "1, 1/2 or 0 as x1 is above, at, below x2.",
                               .kind = OpKind::elementwise,
                               .arity = 2,
                               .partial = no_slope,
                               .constant_inputs = 3,
                               .internal = true});
static Op& min_weight_record =
    elementwise_family.define({.name = "min_weight",
                               .signature = "(x1, x2, /)",
                               .doc = "1, 1/2 or 0 as x1 is below, at, above x2.",
                               .kind = OpKind::elementwise,
                               .arity = 2,
                               .partial = no_slope,
                               .constant_inputs = 3,
                               .internal = true});
/// a - b, and 0 for equal infinities.
static Tensor distance(const Tensor& a, const Tensor& b) {
  return where(logical_and(equal(a, b), isinf(a)), scalar_like(a, 0), a - b);
}
/// sigmoid(a - b). In the tail a power of e turns what the difference is rounded by into a relative
/// error, so that is found (Knuth, 1969) and put to first order; it has no slope. 0 where both are
/// minus infinity: neither adds anything.
static Tensor sigmoid_between(const Tensor& a, const Tensor& b) {
  static const Op& stop_record = find_op("stop_gradient");
  const Tensor between = distance(a, b);
  const Tensor part = between - a;
  const Tensor rest = (a - (between - part)) - (b + part);
  const Tensor known = where(isfinite(rest), rest, scalar_like(rest, 0));
  const Tensor lost = apply(stop_record, {&known});
  const Tensor s = sigmoid(between);
  const Tensor least = scalar_like(a, -std::numeric_limits<double>::infinity());
  const Tensor both = logical_and(equal(a, least), equal(b, least));
  return where(both, scalar_like(a, 0), s + s * ((1.0 - s) * lost));
}

ADJOINT_BINARY(maximum, same, 3, 3, "The larger one; a tie shares the derivative equally.", -2, 2,
               value(apply(max_weight_record, {&a, &b})), value(apply(max_weight_record, {&b, &a})))
ADJOINT_BINARY(minimum, same, 3, 3, "The smaller one; a tie shares the derivative equally.", -2, 2,
               value(apply(min_weight_record, {&a, &b})), value(apply(min_weight_record, {&b, &a})))
ADJOINT_BINARY(logaddexp, floating, 3, 3,
               "log(exp(x1) + exp(x2)), without overflow; the derivative where both are -inf is 0.",
               0.3, 2, value(sigmoid_between(a, b)), value(sigmoid_between(b, a)))
ADJOINT_BINARY(copysign, floating, 3, 0,
               "The magnitude of x1 with the sign of x2; as of abs the derivative at 0 is 0.", 0.3,
               2, value(sign(a) * copysign(scalar_like(a, 1), b)), zero())
ADJOINT_BINARY(nextafter, floating, 0, 0, "The number next to x1 in the direction of x2.", 0.3, 2,
               one(), zero())
ADJOINT_BINARY(mul0, floating, 2, 1, "x1 * x2, and 0 where either is 0.", -2, 2, own(b), own(a))
#undef ADJOINT_BINARY

static Op& clip_record = elementwise_family.define(
    {.name = "clip",
     .kind = OpKind::elementwise,
     .arity = 3,
     .dtypes = DTypeRule::numeric,
     .partial = [](const RuleArgs& args, int i) -> Partial {
       const Tensor &x = args.inputs[0], &low = args.inputs[1];
       const Tensor& high = args.inputs[2];
       const Tensor above = logical_or(greater(x, high), greater(low, high));
       if (i == 2) return value(astype(above, x.dtype()));
       const Tensor below = less(x, low);
       const Tensor taken = i == 1 ? below : logical_not(below);
       return value(astype(logical_and(taken, logical_not(above)), x.dtype()));
     },
     .needs = {7, 7, 7}});

namespace {

/// What limits nothing: the least or the largest value of a dtype.
Tensor no_limit(DType dtype, bool above) {
  return with_type(dtype, [&]<class T>(T) {
    using Limits = std::numeric_limits<T>;
    const T end = Limits::has_infinity ? (above ? Limits::infinity() : -Limits::infinity())
                                       : (above ? Limits::max() : Limits::lowest());
    Node* out = new_node(dtype, Layout());
    out->stored.put(end);
    return Tensor::adopt(out);
  });
}

}  // namespace

Tensor clip(const Tensor& x, const std::optional<Tensor>& min, const std::optional<Tensor>& max) {
  if (!min && !max) return positive(x);
  const Tensor low = min ? *min : no_limit(promote(x.dtype(), max->dtype()), false);
  const Tensor high = max ? *max : no_limit(promote(x.dtype(), min->dtype()), true);
  return apply(clip_record, {&x, &low, &high});
}

static Op& where_record = elementwise_family.define(
    {.name = "where",
     .signature = "(condition, x1, x2, /)",
     .doc = "x1 where the condition holds, else x2; the other one contributes no derivative, even\n"
            "where its own is infinite or nan, but for products of matrices with an infinity or a\n"
            "nan inside: keep those out by a `where` before the product.",
     .kind = OpKind::elementwise,
     .arity = 3,
     .dtypes = DTypeRule::where,
     .transpose =
         [](const RuleArgs& args, int i, const Tensor& ct) {
           const Tensor& condition = args.inputs[0];
           const Tensor nothing = scalar_like(ct, 0);
           const Tensor part =
               i == 1 ? where(condition, ct, nothing) : where(condition, nothing, ct);
           return sum_to_shape(part, args.inputs[i].shape());
         },
     .needs = {0, 1, 1},
     .constant_inputs = 1});
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return apply(where_record, {&condition, &a, &b});
}

static Op& astype_record = elementwise_family.define(
    {.name = "astype",
     .signature = "(x, dtype, /)",
     .doc = "The elements converted to another dtype.",
     .kind = OpKind::elementwise,
     .arity = 1,
     .attrs = attrs_type<CastAttrs>(),
     .transpose = [](const RuleArgs& args, int,
                     const Tensor& ct) { return astype(ct, args.inputs[0].dtype()); },
     .casts = true,
     .internal = true});
Tensor astype(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  return apply(astype_record, {&x}, make_attrs(CastAttrs{.dtype = dtype}));
}

// The edge between a leaf made by a transform and the value it was made from.
static Op& alias_record = elementwise_family.define(
    {.name = "alias",
     .signature = "(x, /)",
     .doc = "The same value under a name of its own.",
     .kind = OpKind::view,
     .arity = 1,
     .transpose = [](const RuleArgs&, int, const Tensor& ct) { return ct; },
     .batch = [](const BatchArgs& args) { return args.inputs[0]; },
     .infer = infer_same,
     .run = run_same,
     .internal = true});

#define ADJOINT_BITWISE(fn, text)                                                  \
  static Op& fn##_record = elementwise_family.define({.name = #fn,                 \
                                                      .signature = "(x1, x2, /)",  \
                                                      .doc = text,                 \
                                                      .kind = OpKind::elementwise, \
                                                      .arity = 2});                \
  Tensor fn(const Tensor& a, const Tensor& b) { return apply(fn##_record, {&a, &b}); }
ADJOINT_BITWISE(bitwise_and, "Bitwise and of integers or bools.")
ADJOINT_BITWISE(bitwise_or, "Bitwise or of integers or bools.")
ADJOINT_BITWISE(bitwise_xor, "Bitwise exclusive or of integers or bools.")
ADJOINT_BITWISE(bitwise_left_shift, "x1 shifted left by x2 bits; 0 when that is all of them.")
ADJOINT_BITWISE(bitwise_right_shift, "x1 shifted right by x2 bits, keeping the sign.")
ADJOINT_BITWISE(gcd, "The greatest common divisor of integers, not negative; 0 for two zeros.")
ADJOINT_BITWISE(lcm, "The least common multiple of integers, not negative; 0 where one is 0.")
#undef ADJOINT_BITWISE
static Op& bitwise_invert_record = elementwise_family.define({.name = "bitwise_invert",
                                                              .signature = "(x, /)",
                                                              .doc = "Every bit inverted.",
                                                              .kind = OpKind::elementwise,
                                                              .arity = 1});
Tensor bitwise_invert(const Tensor& x) { return apply(bitwise_invert_record, {&x}); }

// --------------------------------------------------------------------------------- operators

Tensor scalar_like(const Tensor& x, double v) {
  return Tensor::scalar(v, floating_dtype(x.dtype()));
}

#define ADJOINT_OPERATOR(op, fn)                                                     \
  Tensor operator op(const Tensor& a, const Tensor& b) { return fn(a, b); }          \
  Tensor operator op(const Tensor& a, double b) { return fn(a, scalar_like(a, b)); } \
  Tensor operator op(double a, const Tensor& b) { return fn(scalar_like(b, a), b); }
ADJOINT_OPERATOR(+, add)
ADJOINT_OPERATOR(-, subtract)
ADJOINT_OPERATOR(*, multiply)
ADJOINT_OPERATOR(/, divide)
#undef ADJOINT_OPERATOR
Tensor operator-(const Tensor& x) { return negative(x); }
Tensor pow(const Tensor& x, double exponent) { return pow(x, scalar_like(x, exponent)); }

void register_elementwise_ops() {
  negative_record.involution = bitwise_invert_record.involution = true;
  add_record.unit_inputs = 0b11;
  add_record.unit = -0.0;
  multiply_record.unit_inputs = 0b11;
  multiply_record.multilinear = mul0_record.multilinear = true;
  divide_record.unit_inputs = 0b10;
  mul0_record.zero_wins = true;
  elementwise_family.register_all();
  register_functions({{.name = "astype",
                       .signature = "(x, dtype, /, *, copy=True, device=None)",
                       .doc = "Converted to another dtype.",
                       .entry = entry_of<astype>(),
                       .method = true},
                      {.name = "clip",
                       .signature = "(x, /, min=None, max=None)",
                       .doc = "x limited to [min, max], and max where min is above it; None is no "
                              "limit. The derivative at the limits is 1.",
                       .entry = entry_of<clip>(),
                       .method = true,
                       .promotes = true}});
}

}  // namespace adjoint
