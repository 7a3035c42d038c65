// Reductions: those that are records come from the registry; mean, var and the like are written in
// them.
#include <optional>
#include <utility>

#include "adjoint/ops.h"
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
  const std::optional<DType> dtype = a.dtype(3);
  if (dtype) x = astype(x, *dtype);
  const bool of_bools = !op.reducers[static_cast<int>(DType::float64)];  // any and all
  if (of_bools) x = astype(x, DType::boolean);
  Tensor out = reduce(op, x, a.axes(1, x.ndim()), a.flag(2, false));
  if (dtype) out = astype(out, *dtype);
  return wrap(std::move(out));
}

// The C++ functions read "no axes" as all of them; over none is over a unit axis of its own.
struct Over {
  Tensor x;
  Dims axes;
  bool unit = false;
};
Over over(const Arguments& a) {
  const Tensor x = a.tensor(0);
  const Dims axes = a.axes(1, x.ndim());
  if (axes.empty() && x.ndim() > 0) return {expand_dims(x, x.ndim()), Dims{x.ndim()}, true};
  return {x, axes};
}
bool keepdims(const Arguments& a, int i, const Over& o) { return a.flag(i, false) && !o.unit; }

PyObject* mean_body(const Arguments& a) {
  const Over o = over(a);
  return wrap(mean(o.x, o.axes, keepdims(a, 2, o)));
}
PyObject* var_body(const Arguments& a) {
  const Over o = over(a);
  return wrap(var(o.x, o.axes, a.given(2) ? a.number(2) : 0.0, keepdims(a, 3, o)));
}
PyObject* std_body(const Arguments& a) {
  const Over o = over(a);
  return wrap(std_(o.x, o.axes, a.given(2) ? a.number(2) : 0.0, keepdims(a, 3, o)));
}

}  // namespace

void init_reductions(py::module_& m) {
  for (const Op* op : all_ops()) {
    if (op->internal || op->kind != OpKind::reduction) continue;
    const std::string_view name = op->name;
    const bool sums = name == "sum" || name == "prod";
    add_function(m, op->name,
                 sums ? "(x, /, axis=None, *, keepdims=False, dtype=None)"
                      : "(x, /, axis=None, *, keepdims=False)",
                 op->doc, reduction_body, true);
  }
  add_function(m, "mean", "(x, /, axis=None, *, keepdims=False)",
               "The arithmetic mean over one axis, several, or all.", mean_body, true);
  add_function(m, "var", "(x, /, axis=None, *, correction=0.0, keepdims=False)",
               "The variance; the divisor is the count minus `correction`.", var_body, true);
  add_function(m, "std", "(x, /, axis=None, *, correction=0.0, keepdims=False)",
               "The standard deviation; its derivative at a constant is 0.", std_body, true);
}

}  // namespace adjoint::python
