// Comparisons, logic and classification: results are bool and carry no derivative.
#include "ops/rules.h"

namespace adjoint {

namespace {
Family comparison_family;
}  // namespace

#define ADJOINT_COMPARE(fn, rule, text)                                           \
  static Op& fn##_record = comparison_family.define({.name = #fn,                 \
                                                     .signature = "(x1, x2, /)",  \
                                                     .doc = text,                 \
                                                     .kind = OpKind::elementwise, \
                                                     .arity = 2,                  \
                                                     .dtypes = DTypeRule::rule}); \
  Tensor fn(const Tensor& a, const Tensor& b) { return apply(fn##_record, {&a, &b}); }
ADJOINT_COMPARE(equal, compare, "x1 == x2, element by element.")
ADJOINT_COMPARE(not_equal, compare, "x1 != x2, element by element.")
ADJOINT_COMPARE(less, compare, "x1 < x2, element by element.")
ADJOINT_COMPARE(less_equal, compare, "x1 <= x2, element by element.")
ADJOINT_COMPARE(greater, compare, "x1 > x2, element by element.")
ADJOINT_COMPARE(greater_equal, compare, "x1 >= x2, element by element.")
ADJOINT_COMPARE(logical_and, boolean, "Both hold.")
ADJOINT_COMPARE(logical_or, boolean, "At least one holds.")
ADJOINT_COMPARE(logical_xor, boolean, "Exactly one holds.")
#undef ADJOINT_COMPARE

#define ADJOINT_TEST(fn, rule, text)                                              \
  static Op& fn##_record = comparison_family.define({.name = #fn,                 \
                                                     .signature = "(x, /)",       \
                                                     .doc = text,                 \
                                                     .kind = OpKind::elementwise, \
                                                     .arity = 1,                  \
                                                     .dtypes = DTypeRule::rule}); \
  Tensor fn(const Tensor& x) { return apply(fn##_record, {&x}); }
ADJOINT_TEST(logical_not, boolean, "The opposite.")
ADJOINT_TEST(isnan, floating, "Whether an element is nan.")
ADJOINT_TEST(isinf, floating, "Whether an element is infinite.")
ADJOINT_TEST(isfinite, floating, "Whether an element is neither infinite nor nan.")
ADJOINT_TEST(signbit, floating, "Whether the sign bit is set: of negative numbers, and of -0.")
#undef ADJOINT_TEST

void register_comparison_ops() { comparison_family.register_all(); }

}  // namespace adjoint
