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

}  // namespace

void init_random_ops(py::module_& m) {
  add_function(m, "_random_uniform", "(state, shape, dtype, /)", "Uniform on [0, 1).",
               uniform_body);
  add_function(m, "_random_normal", "(state, shape, dtype, /)", "Standard normal.", normal_body);
  add_function(m, "_random_integers", "(state, shape, low, high, /)",
               "Integers in [low, high), int64.", integers_body);
}

}  // namespace adjoint::python
