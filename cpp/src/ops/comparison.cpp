// Comparisons, logic and classification: results are bool and carry no derivative.
#include "ops/rules.h"
#include "ops/structural.h"

namespace adjoint {

namespace {
Family comparison_family;

/// Signed integers with uint64: a negative one is less than all of those, the others are compared
/// as uint64.
Tensor compare_wide(const Op& op, const Tensor& a, const Tensor& b) {
  const bool first = is_signed_integer(a.dtype());
  const Tensor& some = first ? a : b;
  const Tensor zero = Tensor::scalar(0.0, DType::int8),
               less_than = Tensor::scalar(-1.0, DType::int8);
  const Tensor below = first ? apply(op, {&less_than, &zero}) : apply(op, {&zero, &less_than});
  const Tensor x = astype(a, DType::uint64), y = astype(b, DType::uint64);
  return where(less(some, Tensor::scalar(0.0, some.dtype())), below, apply(op, {&x, &y}));
}
}  // namespace

#define ADJOINT_COMPARE(fn, rule, wide, text)                                     \
  static Op& fn##_record = comparison_family.define({.name = #fn,                 \
                                                     .signature = "(x1, x2, /)",  \
                                                     .doc = text,                 \
                                                     .kind = OpKind::elementwise, \
                                                     .arity = 2,                  \
                                                     .dtypes = DTypeRule::rule,   \
                                                     .of_wide_integers = wide});  \
  Tensor fn(const Tensor& a, const Tensor& b) { return apply(fn##_record, {&a, &b}); }
ADJOINT_COMPARE(equal, compare, compare_wide, "x1 == x2, element by element.")
ADJOINT_COMPARE(not_equal, compare, compare_wide, "x1 != x2, element by element.")
ADJOINT_COMPARE(less, compare, compare_wide, "x1 < x2, element by element.")
ADJOINT_COMPARE(less_equal, compare, compare_wide, "x1 <= x2, element by element.")
ADJOINT_COMPARE(greater, compare, compare_wide, "x1 > x2, element by element.")
ADJOINT_COMPARE(greater_equal, compare, compare_wide, "x1 >= x2, element by element.")
ADJOINT_COMPARE(logical_and, boolean, nullptr, "Both hold.")
ADJOINT_COMPARE(logical_or, boolean, nullptr, "At least one holds.")
ADJOINT_COMPARE(logical_xor, boolean, nullptr, "Exactly one holds.")
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
