// Functions that make tensors: from data, and filled ones.
#include <optional>
#include <string>
#include <utility>

#include "adjoint/ops.h"
#include "functions.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

std::optional<bool> copy_argument(const Arguments& a, int i) {
  if (!a.given(i)) return std::nullopt;
  return a.flag(i, true);
}

PyObject* make_tensor(const Arguments& a) {
  const bool leaf = a.flag(2, false);
  if (a.given(3) && !PyUnicode_Check(a[3]))
    raise(ErrorKind::type, "tensor", "name must be a str, not " + type_name(a[3]));
  Tensor value = tensor_from_python(a[0], a.dtype(1), std::nullopt, "tensor");
  if (leaf) {
    if (!is_floating(value.dtype()))
      raise(ErrorKind::type, "tensor",
            "requires_grad=True for dtype " + std::string(name(value.dtype())) +
                ": only floating tensors have gradients, pass dtype=ad.float64");
    value = value.detach();
    value.requires_grad_(true);
  }
  py::object out = wrapped(std::move(value));
  if (a.given(3)) as_tensor(out.ptr())->name = Py_NewRef(a[3]);
  return out.release().ptr();
}

PyObject* as_array(const Arguments& a) {
  const std::optional<bool> copy = copy_argument(a, 3);
  const std::optional<DType> dtype = a.dtype(1);
  // A value never changes in place, so a tensor is its own copy.
  if (is_exact_tensor(a[0]) && copy != true && (!dtype || *dtype == as_tensor(a[0])->node->dtype))
    return Py_NewRef(a[0]);
  return wrap(tensor_from_python(a[0], dtype, copy, "asarray"));
}

Tensor made(Tensor t) { return constant_in_trace(std::move(t)); }

PyObject* zeros_body(const Arguments& a) {
  return wrap(made(zeros(a.dims(0), a.dtype(1).value_or(DType::float64))));
}
PyObject* ones_body(const Arguments& a) {
  return wrap(made(ones(a.dims(0), a.dtype(1).value_or(DType::float64))));
}

// The fill value as a 0-d tensor of the right dtype; a tensor stays connected.
Tensor fill_value(PyObject* value, std::optional<DType> dtype, const char* op) {
  Tensor t = tensor_from_python(value, dtype, std::nullopt, op);
  if (t.ndim() != 0)
    raise(ErrorKind::value, op, "the fill value must be one number, shape " + to_string(t.shape()));
  return t;
}

PyObject* full_body(const Arguments& a) {
  return wrap(broadcast_to(fill_value(a[1], a.dtype(2), "full"), a.dims(0)));
}

PyObject* zeros_like_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(made(zeros(x.shape(), a.dtype(1).value_or(x.dtype()))));
}
PyObject* ones_like_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(made(ones(x.shape(), a.dtype(1).value_or(x.dtype()))));
}
PyObject* full_like_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(
      broadcast_to(fill_value(a[1], a.dtype(2).value_or(x.dtype()), "full_like"), x.shape()));
}

double real_argument(PyObject* o, const char* op) { return number_argument(o, op, "an argument"); }

PyObject* arange_body(const Arguments& a) {
  const bool one = !a.given(1);
  PyObject* zero = nullptr;
  const py::object held = py::int_(0);
  zero = held.ptr();
  PyObject* start = one ? zero : a[0];
  PyObject* stop = one ? a[0] : a[1];
  const py::object unit = py::int_(1);
  PyObject* step = a.given(2) ? a[2] : unit.ptr();
  if (real_argument(step, "arange") == 0.0)
    raise(ErrorKind::value, "arange", "the step must not be 0");
  bool integers = true;
  for (PyObject* o : {start, stop, step}) integers &= !PyFloat_Check(o) && PyIndex_Check(o);
  const DType dtype = a.dtype(3).value_or(integers ? DType::int64 : DType::float64);
  return wrap(made(arange(real_argument(start, "arange"), real_argument(stop, "arange"),
                          real_argument(step, "arange"), dtype)));
}

PyObject* linspace_body(const Arguments& a) {
  return wrap(made(linspace(real_argument(a[0], "linspace"), real_argument(a[1], "linspace"),
                            a.integer(2), a.flag(4, true), a.dtype(3).value_or(DType::float64))));
}

PyObject* eye_body(const Arguments& a) {
  const std::int64_t rows = a.integer(0);
  const std::int64_t cols = a.given(1) ? a.integer(1) : rows;
  const std::int64_t k = a.given(2) ? a.integer(2) : 0;
  return wrap(made(eye(rows, cols, k, a.dtype(3).value_or(DType::float64))));
}

}  // namespace

void init_creation(py::module_& m) {
  add_function(m, "tensor", "(data, *, dtype=None, requires_grad=False, name=None)",
               "Make a tensor of numbers, nested lists, arrays or tensors.\n\n"
               "With `requires_grad` it is a leaf: gradients reach it.",
               make_tensor);
  add_function(m, "asarray", "(obj, *, dtype=None, device=None, copy=None)",
               "Make a tensor of `obj`; a tensor is returned as it is.\n\n"
               "Foreign memory is copied unless it is read-only or ``copy=False``.",
               as_array);
  add_function(m, "zeros", "(shape, *, dtype=None, device=None)",
               "A tensor of zeros; float64 unless `dtype` says otherwise.", zeros_body);
  add_function(m, "ones", "(shape, *, dtype=None, device=None)",
               "A tensor of ones; float64 unless `dtype` says otherwise.", ones_body);
  add_function(m, "empty", "(shape, *, dtype=None, device=None)",
               "A tensor whose values are of no interest (zeros).", zeros_body);
  add_function(m, "full", "(shape, fill_value, *, dtype=None, device=None)",
               "A tensor of one repeated value.", full_body);
  add_function(m, "zeros_like", "(x, /, *, dtype=None, device=None)", "Zeros shaped as `x`.",
               zeros_like_body);
  add_function(m, "ones_like", "(x, /, *, dtype=None, device=None)", "Ones shaped as `x`.",
               ones_like_body);
  add_function(m, "empty_like", "(x, /, *, dtype=None, device=None)",
               "A tensor shaped as `x` whose values are of no interest (zeros).", zeros_like_body);
  add_function(m, "full_like", "(x, /, fill_value, *, dtype=None, device=None)",
               "One repeated value, shaped as `x`.", full_like_body);
  add_function(m, "arange", "(start, /, stop=None, step=1, *, dtype=None, device=None)",
               "Evenly spaced values in the half-open interval [start, stop).", arange_body);
  add_function(m, "linspace", "(start, stop, /, num, *, dtype=None, endpoint=True, device=None)",
               "`num` evenly spaced values from `start` to `stop`.", linspace_body);
  add_function(m, "eye", "(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)",
               "Ones on the k-th diagonal, zeros elsewhere.", eye_body);
}

}  // namespace adjoint::python
