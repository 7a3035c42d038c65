// Reductions: those that are records come from the registry; mean, var and the like are written in
// them.
#include <optional>
#include <utility>

#include "core_ops.h"
#include "functions.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

Tensor reduce(const Op& op, const Tensor& x, Dims axes, bool keepdims) {
  auto* attrs = new Attrs;
  attrs->ints = std::move(axes);
  attrs->flag = keepdims;
  return apply(op, {&x}, AttrsPtr(attrs));
}

// x, axis, keepdims, and for sums and products dtype.
PyObject* reduction_body(const Arguments& a) {
  const Op& op = find_op(a.op());
  Tensor x = a.tensor(0);
  if (const std::optional<DType> t = a.dtype(3)) x = astype(x, *t);
  return wrap(reduce(op, x, a.axes(1, x.ndim()), a.flag(2, false)));
}

PyObject* mean_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(mean(x, a.axes(1, x.ndim()), a.flag(2, false)));
}
PyObject* var_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  const double correction = a.given(2) ? a.number(2) : 0.0;
  return wrap(var(x, a.axes(1, x.ndim()), correction, a.flag(3, false)));
}
PyObject* std_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  const double correction = a.given(2) ? a.number(2) : 0.0;
  return wrap(std_(x, a.axes(1, x.ndim()), correction, a.flag(3, false)));
}

}  // namespace

void init_reductions(py::module_& m) {
  for (const Op* op : all_ops()) {
    if (op->internal || op->kind != OpKind::reduction) continue;
    const std::string_view name = op->name;
    const bool sums = name == "sum" || name == "prod";
    add_function(m, op->name,
                 sums ? "(x, /, *, axis=None, keepdims=False, dtype=None)"
                      : "(x, /, *, axis=None, keepdims=False)",
                 op->doc, reduction_body, true);
  }
  add_function(m, "mean", "(x, /, *, axis=None, keepdims=False)",
               "The arithmetic mean over one axis, several, or all.", mean_body, true);
  add_function(m, "var", "(x, /, *, axis=None, correction=0.0, keepdims=False)",
               "The variance; the divisor is the count minus `correction`.", var_body, true);
  add_function(m, "std", "(x, /, *, axis=None, correction=0.0, keepdims=False)",
               "The standard deviation; its derivative at a constant is 0.", std_body, true);
}

}  // namespace adjoint::python
