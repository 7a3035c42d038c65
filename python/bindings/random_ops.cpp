// Draws from a generator's state. Records of the registry are called by name; one that
// this build lacks is an error of the call, not of the import.
#include <optional>
#include <utility>

#include "functions.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

const Op& record(const char* name) {
  const Op* op = find_op_or_null(name);
  if (!op) raise(ErrorKind::runtime, name, "this build has no such operation");
  return *op;
}

// state, shape, dtype: attrs.ints is the shape.
PyObject* draw(const Arguments& a, const char* name, Dims bounds) {
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->ints = a.dims(1);
  attrs->more = std::move(bounds);
  if (attrs->more.empty())
    attrs->dtype = a.dtype(2).value_or(DType::float64);
  else
    attrs->dtype = DType::int64;
  const Tensor state = a.tensor(0);
  return wrap(apply(record(name), {&state}, held));
}

PyObject* uniform_body(const Arguments& a) { return draw(a, "random_uniform", {}); }
PyObject* normal_body(const Arguments& a) { return draw(a, "random_normal", {}); }
PyObject* integers_body(const Arguments& a) {
  return draw(a, "random_integers", Dims{a.integer(2), a.integer(3)});
}

// Steps over what a draw of n elements uses, before the draw and in one step with reading the
// state: two threads never get the same numbers. (the state to draw from, the state now).
py::tuple reserve(const py::object& handle, std::int64_t n) {
  PyTensor* t = as_tensor(handle.ptr());
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->ints.push_back(n);
  for (;;) {
    const Tensor state = Tensor::share(read_node(t));
    const Tensor next = apply(record("random_advance"), {&state}, held);
    if (read_node(t) != state.node()) continue;  // whoever computes may let other threads run
    py::tuple both = py::make_tuple(wrapped(Tensor(state)), wrapped(Tensor(next)));
    rebind_cell(t, Tensor(next).detach_node());
    return both;
  }
}

// Undoes that after a draw that failed, unless somebody has drawn since.
void give_back(const py::object& handle, const py::object& before, const py::object& now) {
  PyTensor* t = as_tensor(handle.ptr());
  if (read_node(t) != as_tensor(now.ptr())->node) return;
  rebind_cell(t, Tensor::share(as_tensor(before.ptr())->node).detach_node());
}

}  // namespace

void init_random_ops(py::module_& m) {
  m.def("_reserve_draw", &reserve);
  m.def("_give_back_draw", &give_back);
  add_function(m, "_random_uniform", "(state, shape, dtype, /)", "Uniform on [0, 1).",
               uniform_body);
  add_function(m, "_random_normal", "(state, shape, dtype, /)", "Standard normal.", normal_body);
  add_function(m, "_random_integers", "(state, shape, low, high, /)",
               "Integers in [low, high), int64.", integers_body);
}

}  // namespace adjoint::python
