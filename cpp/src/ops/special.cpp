// Special functions: sinc, the normal distribution and its inverses, modified Bessel functions,
// incomplete gamma functions, and numbers taken apart into a fraction and a power of two. Where no
// expression in other operations keeps the digits of a derivative, in value and in its own
// derivative, it is an operation whose rule closes: the derivative of order n as a function of n,
// or one that names itself.
#include <cmath>
#include <numbers>
#include <string>
#include <tuple>
#include <vector>

#include "ops/rules.h"

namespace adjoint {

namespace {

Family special_family;

Partial given(Tensor&& t) { return {.made = std::move(t)}; }

using PartialRule = Partial (*)(const RuleArgs&, int);

constexpr std::uint8_t kReadsX = 1;
constexpr std::uint8_t kReadsY = kSavesOutput;

struct Face {
  bool internal = false;
};

/// A function of one number; the rule reads what `needs` says.
Op& unary(const char* name, const char* doc, Domain domain, std::uint8_t needs, PartialRule partial,
          Face face = {}) {
  return special_family.define({.name = name,
                                .signature = "(x, /)",
                                .doc = doc,
                                .kind = OpKind::elementwise,
                                .arity = 1,
                                .dtypes = DTypeRule::floating,
                                .partial = partial,
                                .needs = {needs, 0, 0},
                                .internal = face.internal,
                                .domain = domain});
}

/// The slope of a function at x, where its value is at hand too, which follows x and adds nothing.
Op& slope_at_value(const char* name, const char* doc, PartialRule partial) {
  return special_family.define({.name = name,
                                .signature = "(x, y, /)",
                                .doc = doc,
                                .kind = OpKind::elementwise,
                                .arity = 2,
                                .dtypes = DTypeRule::floating,
                                .partial = partial,
                                .needs = {2 | kReadsY, 0, 0},
                                .constant_inputs = 2,
                                .internal = true,
                                .domain = {0.2, 0.8}});
}

/// The derivative of order n of a function, as a function of n, a constant, and of x.
Op& slope_of_order(const char* name, const char* doc, PartialRule partial) {
  return special_family.define({.name = name,
                                .signature = "(n, x, /)",
                                .doc = doc,
                                .kind = OpKind::elementwise,
                                .arity = 2,
                                .dtypes = DTypeRule::floating,
                                .partial = partial,
                                .needs = {0, 3, 0},
                                .constant_inputs = 1,
                                .internal = true,
                                .domain = {0.2, 2}});
}

/// The same of order n + 1, for the rule of one of order n; of a given order, for the first.
Tensor next_order(const RuleArgs& args) {
  const Tensor n = args.inputs[0] + 1.0;
  return apply(args.op, {&n, &args.inputs[1]});
}
Tensor of_order(const Op& op, double n, const Tensor& x) {
  const Tensor order = scalar_like(x, n);
  return apply(op, {&order, &x});
}

}  // namespace

// ---------------------------------------------------------------------------------------- sinc

static Op& sinc_slope_record = slope_of_order(
    "sinc_slope", "The derivative of order n of sinc at x.", [](const RuleArgs& args, int i) {
      return i == 0 ? Partial{Partial::zero} : given(next_order(args));
    });
static Op& sinc_record = unary("sinc", "sin(pi x) / (pi x), and 1 at 0.", {-4, 4}, kReadsX,
                               [](const RuleArgs& args, int) {
                                 return given(of_order(sinc_slope_record, 1, args.inputs[0]));
                               });
Tensor sinc(const Tensor& x) { return apply(sinc_record, {&x}); }

// ---------------------------------------------------------------------- the normal distribution

static Op& normal_density_record =
    unary("normal_density", "exp(-x**2 / 2) / sqrt(2 pi).", {-3, 3}, kReadsX | kReadsY,
          [](const RuleArgs& args, int) { return given(-mul0(args.inputs[0], args.output)); },
          {.internal = true});
static Op& ndtr_record =
    unary("ndtr", "The distribution function of the standard normal distribution.", {-3, 3},
          kReadsX, [](const RuleArgs& args, int) {
            return given(apply(normal_density_record, {&args.inputs[0]}));
          });
Tensor ndtr(const Tensor& x) { return apply(ndtr_record, {&x}); }

static Op& log_ndtr_slope_record =
    slope_of_order("log_ndtr_slope", "The derivative of order n of log_ndtr at x.",
                   [](const RuleArgs& args, int i) {
                     return i == 0 ? Partial{Partial::zero} : given(next_order(args));
                   });
static Op& normal_slope_record =
    unary("normal_slope", "The derivative of log_ndtr.", {-3, 3}, kReadsX,
          [](const RuleArgs& args, int) {
            return given(of_order(log_ndtr_slope_record, 2, args.inputs[0]));
          },
          {.internal = true});
static Op& log_ndtr_record = unary(
    "log_ndtr",
    "The logarithm of ndtr, exact in the tail where ndtr vanishes, as are its derivatives up to "
    "order 60, beyond which they are nan.",
    {-8, 3}, kReadsX,
    [](const RuleArgs& args, int) { return given(apply(normal_slope_record, {&args.inputs[0]})); });
Tensor log_ndtr(const Tensor& x) { return apply(log_ndtr_record, {&x}); }

static Op& erfinv_slope_record =
    slope_at_value("erfinv_slope", "The derivative of erfinv at x, where its value is y.",
                   [](const RuleArgs& args, int i) {
                     if (i == 1) return Partial{Partial::zero};
                     return given(2.0 * mul0(args.inputs[1], square(args.output)));
                   });
static Op& erfinv_record =
    unary("erfinv", "The inverse of erf: infinite at -1 and 1, nan beyond.", {-0.9, 0.9},
          kReadsX | kReadsY, [](const RuleArgs& args, int) {
            return given(apply(erfinv_slope_record, {&args.inputs[0], &args.output}));
          });
Tensor erfinv(const Tensor& x) { return apply(erfinv_record, {&x}); }

static Op& ndtri_slope_record =
    slope_at_value("ndtri_slope", "The derivative of ndtri at x, where its value is y.",
                   [](const RuleArgs& args, int i) {
                     if (i == 1) return Partial{Partial::zero};
                     return given(mul0(args.inputs[1], square(args.output)));
                   });
static Op& ndtri_record =
    unary("ndtri", "The inverse of ndtr: infinite at 0 and 1, nan outside of them.", {0.05, 0.95},
          kReadsX | kReadsY, [](const RuleArgs& args, int) {
            return given(apply(ndtri_slope_record, {&args.inputs[0], &args.output}));
          });
Tensor ndtri(const Tensor& x) { return apply(ndtri_record, {&x}); }

// ----------------------------------------------------------------------------- Bessel functions

static Op& i0_slope_record = slope_of_order(
    "i0_slope", "The derivative of order n of i0 at x.", [](const RuleArgs& args, int i) {
      return i == 0 ? Partial{Partial::zero} : given(next_order(args));
    });
static Op& i0e_slope_record =
    slope_of_order("i0e_slope", "The derivative of order n of i0e at |x|, from the right at 0.",
                   [](const RuleArgs& args, int i) {
                     if (i == 0) return Partial{Partial::zero};
                     return given(sign(args.inputs[1]) * next_order(args));
                   });
static Op& i1_record = unary(
    "i1", "The modified Bessel function of the first kind of order 1.", {-9, 9}, kReadsX,
    [](const RuleArgs& args, int) { return given(of_order(i0_slope_record, 2, args.inputs[0])); });
Tensor i1(const Tensor& x) { return apply(i1_record, {&x}); }
static Op& i0_record =
    unary("i0", "The modified Bessel function of the first kind of order 0.", {-9, 9}, kReadsX,
          [](const RuleArgs& args, int) { return given(i1(args.inputs[0])); });
static Op& i0e_record =
    unary("i0e", "exp(-|x|) * i0(x), which does not overflow; the derivative at 0 is 0.", {0.2, 12},
          kReadsX, [](const RuleArgs& args, int) {
            return given(sign(args.inputs[0]) * of_order(i0e_slope_record, 1, args.inputs[0]));
          });
static Op& i1e_record =
    unary("i1e", "exp(-|x|) * i1(x), which does not overflow.", {0.2, 12}, kReadsX,
          [](const RuleArgs& args, int) {
            const Tensor& x = args.inputs[0];
            return given(of_order(i0e_slope_record, 1, x) + of_order(i0e_slope_record, 2, x));
          });
Tensor i0(const Tensor& x) { return apply(i0_record, {&x}); }
Tensor i0e(const Tensor& x) { return apply(i0e_record, {&x}); }
Tensor i1e(const Tensor& x) { return apply(i1e_record, {&x}); }

// ------------------------------------------------------------------- incomplete gamma functions

namespace {

/// A function of a and x, with a rule for each.
Op& of_shape(const char* name, const char* doc, std::uint8_t needs, PartialRule partial,
             bool internal = false) {
  return special_family.define({.name = name,
                                .signature = "(a, x, /)",
                                .doc = doc,
                                .kind = OpKind::elementwise,
                                .arity = 2,
                                .dtypes = DTypeRule::floating,
                                .partial = partial,
                                .needs = {needs, needs, 0},
                                .internal = internal,
                                .domain = {0.5, 4}});
}

/// The slope in x of the density y of order a, as a multiple of that of order a - 1, which is
/// y (a - 1) / x: near 0 it is there where y has vanished. An order up to 1 has none before it; at
/// 1, where a - 1 is 0 also for x = 0, its derivative in a is y / x.
Tensor density_slope(const Op& density, const Tensor& a, const Tensor& x, const Tensor& y) {
  const Tensor one = scalar_like(a, 1), order = a - 1.0;
  const Tensor above = greater(a, one);
  const Tensor safe = where(above, order, one);
  const Tensor rising = mul0(apply(density, {&safe, &x}), 1.0 - x / safe);
  const Tensor ratio = where(equal(a, one), mul0(order, reciprocal(x)), order / x);
  return where(above, rising, mul0(y, ratio - 1.0));
}

/// A function of a and x differentiated n times in a, as a function of n, a constant, and of both.
Op& slope_in_shape(const char* name, const char* doc, PartialRule partial) {
  return special_family.define({.name = name,
                                .signature = "(n, a, x, /)",
                                .doc = doc,
                                .kind = OpKind::elementwise,
                                .arity = 3,
                                .dtypes = DTypeRule::floating,
                                .partial = partial,
                                .needs = {0, 7, 7 | kReadsY},
                                .constant_inputs = 1,
                                .internal = true,
                                .domain = {0.5, 4}});
}

Tensor at_order(const Op& op, const Tensor& n, const RuleArgs& args) {
  return apply(op, {&n, &args.inputs[1], &args.inputs[2]});
}
Tensor first_slope_in_shape(const Op& op, const RuleArgs& args) {
  const Tensor one = scalar_like(args.inputs[0], 1);
  return apply(op, {&one, &args.inputs[0], &args.inputs[1]});
}

}  // namespace

// The slope in x of the density is ((a - 1) / x - 1) times it, which Leibniz's rule takes to order
// n.
static Op& gamma_density_slope_record = slope_in_shape(
    "gamma_density_slope", "The derivative of order n in a of x**(a - 1) * exp(-x) / gamma(a).",
    [](const RuleArgs& args, int i) {
      if (i == 0) return Partial{Partial::zero};
      const Tensor &n = args.inputs[0], &a = args.inputs[1], &x = args.inputs[2];
      if (i == 1) return given(at_order(args.op, n + 1.0, args));
      return given(mul0((a - 1.0) / x - 1.0, args.output) +
                   mul0(n / x, at_order(args.op, n - 1.0, args)));
    });
static Op& igamma_slope_record =
    slope_in_shape("igamma_slope", "The derivative of order n in a of igamma(a, x).",
                   [](const RuleArgs& args, int i) {
                     if (i == 0) return Partial{Partial::zero};
                     if (i == 1) return given(at_order(args.op, args.inputs[0] + 1.0, args));
                     return given(at_order(gamma_density_slope_record, args.inputs[0], args));
                   });

static Op& gamma_density_record = of_shape(
    "gamma_density", "x**(a - 1) * exp(-x) / gamma(a).", 3 | kReadsY,
    [](const RuleArgs& args, int i) {
      const Tensor &a = args.inputs[0], &x = args.inputs[1];
      if (i == 0) return given(mul0(args.output, log(x) - digamma(a)));
      return given(density_slope(args.op, a, x, args.output));
    },
    true);
static Op& igamma_record = of_shape(
    "igamma",
    "The regularised lower incomplete gamma function P(a, x), for a and x that are not "
    "negative.\n\n"
    "The relative error is below 1e-13 as long as the result is above 1e-100. Derivatives exist in "
    "both, in a up to order 20, beyond which they are nan.",
    3, [](const RuleArgs& args, int i) {
      if (i == 0) return given(first_slope_in_shape(igamma_slope_record, args));
      return given(apply(gamma_density_record, {&args.inputs[0], &args.inputs[1]}));
    });
static Op& igammac_record = of_shape(
    "igammac",
    "The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x).\n\n"
    "The relative error is below 1e-13 as long as the result is above 1e-100. Derivatives exist in "
    "both, in a up to order 20, beyond which they are nan.",
    3, [](const RuleArgs& args, int i) {
      if (i == 0) return given(-first_slope_in_shape(igamma_slope_record, args));
      return given(-apply(gamma_density_record, {&args.inputs[0], &args.inputs[1]}));
    });
Tensor igamma(const Tensor& a, const Tensor& x) { return apply(igamma_record, {&a, &x}); }
Tensor igammac(const Tensor& a, const Tensor& x) { return apply(igammac_record, {&a, &x}); }

// --------------------------------------------------------------- fractions and powers of two

static Op& ldexp_record =
    special_family.define({.name = "ldexp",
                           .kind = OpKind::elementwise,
                           .arity = 2,
                           .dtypes = DTypeRule::floating,
                           .partial = [](const RuleArgs& args, int i) -> Partial {
                             if (i == 1) return {Partial::zero};
                             const Tensor one = scalar_like(args.output, 1);
                             return given(apply(args.op, {&one, &args.inputs[1]}));
                           },
                           .needs = {2, 0, 0},
                           .constant_inputs = 2});

Tensor ldexp(const Tensor& x1, const Tensor& x2) {
  if (!is_integer(x2.dtype()))
    raise(ErrorKind::type, "ldexp",
          "the exponent x2 must be integers, not " + std::string(name(x2.dtype())) +
              ": convert with astype, or use x1 * exp2(x2)");
  return apply(ldexp_record, {&x1, &x2});
}

std::tuple<Tensor, Tensor> frexp(const Tensor& x) {
  constexpr double lift = 64;  // makes subnormal numbers normal
  const Tensor f = in_floating(x);
  const double least = f.dtype() == DType::float32 ? 0x1p-126 : 0x1p-1022;
  const auto like = [&](double v) { return scalar_like(f, v); };
  const Tensor tiny = less(abs(f), like(least));
  const Tensor lifted = where(tiny, f * std::exp2(lift), f);
  const Tensor power = binade(lifted);
  const Tensor ordinary = logical_and(isfinite(f), not_equal(f, like(0)));
  const Tensor exponent = log2(power) + where(tiny, like(1 - lift), like(1));
  return {where(ordinary, lifted / power * 0.5, f),
          astype(where(ordinary, exponent, like(0)), DType::int32)};
}

Tensor float_power(const Tensor& x1, const Tensor& x2) {
  return pow(astype(x1, DType::float64), astype(x2, DType::float64));
}

void register_special_ops() {
  special_family.register_all();
  register_functions({
      {.name = "ldexp",
       .signature = "(x1, x2, /)",
       .doc = "x1 * 2**x2 for integers x2, rounded once; there is no derivative in x2.",
       .entry = entry_of<ldexp>()},
      {.name = "frexp",
       .signature = "(x, /) -> (mantissa, exponent)",
       .doc = "x as mantissa * 2**exponent, the mantissa in [0.5, 1) in magnitude and the exponent "
              "of int32.\n\n"
              "0, infinities and nan are their own mantissa, with exponent 0. The exponent is a "
              "step: the derivative of the mantissa is 2**-exponent.",
       .entry = entry_of<frexp>()},
      {.name = "float_power",
       .signature = "(x1, x2, /)",
       .doc = "x1 raised to x2, in float64 whatever the dtypes.",
       .entry = entry_of<float_power>()},
  });
}

}  // namespace adjoint
