// Functions that make tensors: from data, and filled ones.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "adjoint/ops.h"
#include "functions.h"
#include "graph/apply.h"
#include "named_handles.h"
#include "numbers.h"
#include "ops/creation.h"

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
  const std::optional<bool> copy = is_tensor(a[0]) ? std::nullopt : std::optional(true);
  Tensor value = tensor_from_python(a[0], a.dtype(1), copy, "tensor");
  if (leaf) {
    if (!is_differentiable(value.dtype()))
      raise(ErrorKind::type, "tensor",
            "requires_grad=True for dtype " + std::string(name(value.dtype())) +
                ": only floating tensors have gradients, pass dtype=ad.float64");
    value = value.detach();
    value.requires_grad_(true);
  }
  py::object out = wrapped(std::move(value));
  if (a.given(3)) set_handle_name(as_tensor(out.ptr()), Py_NewRef(a[3]));
  return out.release().ptr();
}

PyObject* as_array(const Arguments& a) {
  const std::optional<bool> copy = copy_argument(a, 3);
  const std::optional<DType> dtype = a.dtype(1);
  // A value never changes in place, so a tensor is its own copy; a number of a trace becomes one.
  if (is_exact_tensor(a[0]) && copy != true && !is_traced_number(a[0]) &&
      (!dtype || *dtype == as_tensor(a[0])->node->dtype))
    return Py_NewRef(a[0]);
  return wrap(tensor_from_python(a[0], dtype, copy, "asarray"));
}

Tensor made(Tensor t) { return constant_in_trace(std::move(t)); }

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

PyObject* full_like_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(
      broadcast_to(fill_value(a[1], a.dtype(2).value_or(x.dtype()), "full_like"), x.shape()));
}

// A Python int of at most 65 bits.
WideInt wide_argument(PyObject* o, const char* op) {
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (v == -1 && PyErr_Occurred()) throw_python();
  if (overflow == 0) return v;
  const py::object half = py::int_(32);
  const py::object high = steal(PyNumber_Rshift(o, half.ptr()));
  const long long upper = PyLong_AsLongLongAndOverflow(high.ptr(), &overflow);
  const WideInt bound = static_cast<WideInt>(upper) * (1LL << 32);
  if (overflow != 0 || bound > kWideLimit || bound < -kWideLimit)
    raise(ErrorKind::overflow, op, "an int beyond 65 bits is no value of any integer dtype");
  const py::object mask = py::int_(0xffffffffLL);
  return bound + PyLong_AsLongLong(steal(PyNumber_And(o, mask.ptr())).ptr());
}

// The int that an object is, or nothing: a 0-d array of floats has `__index__` too, and refuses.
std::optional<WideInt> exact_argument(PyObject* o, const char* op) {
  if (PyFloat_Check(o) || !PyIndex_Check(o)) return std::nullopt;
  if (is_tensor(o) && !is_integer(as_tensor(o)->node->dtype)) return std::nullopt;
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(o));
  if (index) return wide_argument(index.ptr(), op);
  if (is_tensor(o) || !PyErr_ExceptionMatches(PyExc_TypeError)) throw_python();
  PyErr_Clear();
  return std::nullopt;
}

PyObject* arange_body(const Arguments& a) {
  const bool one = !a.given(1);
  const py::object zero = py::int_(0);
  const py::object unit = py::int_(1);
  PyObject* start = one ? zero.ptr() : a[0];
  PyObject* stop = one ? a[0] : a[1];
  PyObject* step = a.given(2) ? a[2] : unit.ptr();
  const auto from = exact_argument(start, "arange");
  const auto to = exact_argument(stop, "arange");
  const auto by = exact_argument(step, "arange");
  if (from && to && by)
    return wrap(made(arange_exact(*from, *to, *by, a.dtype(3).value_or(DType::int64))));
  const double first = number_argument(start, "arange", "start");
  const double end = number_argument(stop, "arange", "stop");
  const double stride = number_argument(step, "arange", "step");
  if (stride == 0.0) raise(ErrorKind::value, "arange", "the step must not be 0");
  return wrap(made(arange(first, end, stride, a.dtype(3).value_or(DType::float64))));
}

Tensor end_of_line(PyObject* o, const char* what) {
  Tensor t = tensor_argument(o, "linspace");
  if (t.ndim() != 0)
    raise(ErrorKind::value, "linspace",
          std::string(what) + " must be one number, shape " + to_string(t.shape()));
  return t;
}

/// Between tensors, of which the values are functions: the numbers that plain ends give.
Tensor line_between(const Arguments& a, std::int64_t num, bool endpoint) {
  const Tensor first = end_of_line(a[0], "start");
  const Tensor end = end_of_line(a[1], "stop");
  DType dtype = DType::float32;
  for (int i = 0; i < 2; ++i)
    if (const DType t = (i == 0 ? first : end).dtype(); !weak_kind(a[i]))
      dtype = promote(dtype, floating_dtype(t));
  const Tensor start = astype(first, DType::float64);
  const Tensor stop = astype(end, DType::float64);
  const std::int64_t last = endpoint ? num - 1 : num;
  const Tensor index = made(arange(0.0, static_cast<double>(num), 1.0, DType::float64));
  const auto steps = static_cast<double>(std::max<std::int64_t>(last, 1));
  const Tensor way = stop - start, share = index / steps;
  const Tensor far = logical_and(isinf(way), logical_and(isfinite(start), isfinite(stop)));
  Tensor line = where(far, start * (1.0 - share) + stop * share, start + mul0(index, way / steps));
  if (endpoint && last > 0)
    line = where(equal(index, scalar_like(index, static_cast<double>(last))), stop, line);
  const DType wanted = a.dtype(3).value_or(dtype);
  return astype(is_integer(wanted) ? floor(line) : line, wanted);
}

PyObject* linspace_body(const Arguments& a) {
  const std::int64_t num = a.integer(2);
  const bool endpoint = a.flag(4, true);
  const DType dtype = a.dtype(3).value_or(DType::float64);
  if (is_integer(dtype)) {
    const auto start = exact_argument(a[0], "linspace");
    const auto stop = exact_argument(a[1], "linspace");
    if (start && stop) return wrap(made(linspace_exact(*start, *stop, num, endpoint, dtype)));
  }
  if (num >= 0 && (is_tensor(a[0]) || is_tensor(a[1]))) return wrap(line_between(a, num, endpoint));
  return wrap(made(linspace(a.number(0), a.number(1), num, endpoint, dtype)));
}

}  // namespace

void init_creation(py::module_& m) {
  add_function(
      m, "tensor", "(data, *, dtype=None, requires_grad=False, name=None)",
      "Make a tensor of numbers, nested lists, arrays or tensors.\n\n"
      "Parameters\n"
      "----------\n"
      "data : number, nested sequence, array or Tensor\n"
      "    It is copied. Of a tensor the history is left behind.\n"
      "dtype : DType, optional\n"
      "    That of an array or a tensor, else float64, int64 or bool, after the numbers.\n"
      "requires_grad : bool, default False\n"
      "    Make it a leaf: gradients reach it.\n"
      "name : str, optional\n"
      "    Shown where the tensor is.\n\n"
      "Returns\n"
      "-------\n"
      "Tensor\n"
      "    Of the shape of `data`.\n\n"
      "Raises\n"
      "------\n"
      "TypeError\n"
      "    If `data` is none of these, or `requires_grad` is wanted of integers or bools.\n"
      "ValueError\n"
      "    If nested lists are ragged.\n"
      "OverflowError\n"
      "    If a number does not fit `dtype`.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> w = ad.tensor([1.0, 2.0], requires_grad=True, name=\"w\")\n"
      ">>> ad.sum(w**2).backward()\n"
      ">>> w.grad.tolist()\n"
      "[2.0, 4.0]",
      make_tensor);
  add_function(
      m, "asarray", "(obj, *, dtype=None, device=None, copy=None)",
      "Make a tensor of `obj`; a tensor is returned as it is.\n\n"
      "Parameters\n"
      "----------\n"
      "obj : number, nested sequence, array, Tensor, or what has the buffer or DLPack protocol\n"
      "dtype : DType, optional\n"
      "    As of `tensor`.\n"
      "device : \"cpu\", optional\n"
      "copy : bool, optional\n"
      "    True copies, False never does; None copies foreign memory unless nobody can write to "
      "it.\n\n"
      "Returns\n"
      "-------\n"
      "Tensor\n"
      "    Of the shape of `obj`.\n\n"
      "Raises\n"
      "------\n"
      "TypeError\n"
      "    If `obj` is none of these.\n"
      "ValueError\n"
      "    If nested lists are ragged, or ``copy=False`` cannot be.\n"
      "OverflowError\n"
      "    If a number does not fit `dtype`.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> import numpy as np\n"
      ">>> ad.asarray(np.arange(3), dtype=ad.float32)\n"
      "Tensor([0., 1., 2.], shape=(3,), dtype=float32)",
      as_array);
  add_function(m, "full", "(shape, fill_value, *, dtype=None, device=None)",
               "A tensor of one repeated value.\n\n"
               "Parameters\n"
               "----------\n"
               "shape : int or tuple of int\n"
               "fill_value : number or Tensor of shape ()\n"
               "    Derivatives reach it.\n"
               "dtype : DType, optional\n"
               "    That of `fill_value`: of a Python number float64, int64 or bool.\n"
               "device : \"cpu\", optional\n\n"
               "Returns\n"
               "-------\n"
               "Tensor\n\n"
               "Raises\n"
               "------\n"
               "TypeError\n"
               "    If `shape` holds no ints, or `fill_value` is no number.\n"
               "ValueError\n"
               "    If an extent is negative.\n\n"
               "Examples\n"
               "--------\n"
               ">>> import adjoint as ad\n"
               ">>> ad.full((2,), 1.5)\n"
               "Tensor([1.5, 1.5], shape=(2,), dtype=float64)",
               full_body);
  add_function(m, "full_like", "(x, /, fill_value, *, dtype=None, device=None)",
               "One repeated value, shaped as `x`.\n\n"
               "Parameters\n"
               "----------\n"
               "x : Tensor or array\n"
               "fill_value : number or Tensor of shape ()\n"
               "dtype : DType, optional\n"
               "    That of `x`.\n"
               "device : \"cpu\", optional\n\n"
               "Returns\n"
               "-------\n"
               "Tensor\n\n"
               "Raises\n"
               "------\n"
               "TypeError\n"
               "    If `fill_value` is no number, or does not fit the dtype.\n\n"
               "Examples\n"
               "--------\n"
               ">>> import adjoint as ad\n"
               ">>> ad.full_like(ad.zeros(2), 3.0)\n"
               "Tensor([3., 3.], shape=(2,), dtype=float64)",
               full_like_body);
  add_function(m, "arange", "(start, /, stop=None, step=1, *, dtype=None, device=None)",
               "Evenly spaced values in the half-open interval [start, stop).\n\n"
               "How many there are depends on the arguments, so they are plain numbers.\n\n"
               "Parameters\n"
               "----------\n"
               "start : number\n"
               "    The end, if `stop` is not given, and the start is 0.\n"
               "stop : number, optional\n"
               "step : number, default 1\n"
               "dtype : DType, optional\n"
               "    int64 of ints, else float64.\n"
               "device : \"cpu\", optional\n\n"
               "Returns\n"
               "-------\n"
               "Tensor of shape (ceil((stop - start) / step),)\n\n"
               "Raises\n"
               "------\n"
               "TypeError\n"
               "    If an argument is no number.\n"
               "ValueError\n"
               "    If the step is 0.\n\n"
               "Examples\n"
               "--------\n"
               ">>> import adjoint as ad\n"
               ">>> ad.arange(0, 10, 3).tolist()\n"
               "[0, 3, 6, 9]",
               arange_body);
  add_function(m, "linspace", "(start, stop, /, num, *, dtype=None, endpoint=True, device=None)",
               "`num` evenly spaced values from `start` to `stop`, functions of both.\n\n"
               "Parameters\n"
               "----------\n"
               "start, stop : number or Tensor of shape ()\n"
               "    Derivatives reach them.\n"
               "num : int\n"
               "dtype : DType, optional\n"
               "    float64.\n"
               "endpoint : bool, default True\n"
               "    Whether `stop` is the last value.\n"
               "device : \"cpu\", optional\n\n"
               "Returns\n"
               "-------\n"
               "Tensor of shape (num,)\n\n"
               "Raises\n"
               "------\n"
               "TypeError\n"
               "    If an argument is of another type.\n"
               "ValueError\n"
               "    If `num` is negative, or an end has a shape.\n\n"
               "Examples\n"
               "--------\n"
               ">>> import adjoint as ad\n"
               ">>> ad.linspace(0.0, 1.0, 5).tolist()\n"
               "[0.0, 0.25, 0.5, 0.75, 1.0]",
               linspace_body);
}

}  // namespace adjoint::python
