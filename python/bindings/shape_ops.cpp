// Functions that move elements or combine tensors: arguments in, one call of the C++ API, a tensor
// out.
#include <algorithm>
#include <optional>
#include <utility>

#include "adjoint/ops.h"
#include "functions.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

constexpr bool kMethod = true;

int axis_argument(const Arguments& a, int i, int ndim, int otherwise) {
  return a.given(i) ? normalize_axis(a.integer(i), ndim, a.op()) : otherwise;
}

// A value never changes in place, so a view is as good as a copy.
void check_copy(const Arguments& a, int i) {
  if (a.given(i)) a.flag(i, true);
}

PyObject* reshape_body(const Arguments& a) {
  check_copy(a, 2);
  return wrap(reshape(a.tensor(0), a.dims(1)));
}
// The method takes the extents as one tuple or one by one, as NumPy's does.
PyObject* reshape_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs) noexcept {
  return guarded([&]() -> PyObject* {
    Dims shape;
    if (nargs == 1) {
      shape = dims_argument(args[0], "reshape", "shape");
    } else {
      for (Py_ssize_t i = 0; i < nargs; ++i)
        shape.push_back(int_argument(args[i], "reshape", "shape"));
    }
    return wrap(reshape(tensor_argument(self, "reshape"), shape));
  });
}
PyMethodDef reshape_methods[] = {
    {"reshape", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(reshape_method)),
     METH_FASTCALL,
     "reshape($self, /, *shape)\n--\n\nThe same elements in another shape; one extent may be -1."},
    {nullptr, nullptr, 0, nullptr}};

PyObject* permute_body(const Arguments& a) { return wrap(permute_dims(a.tensor(0), a.dims(1))); }
PyObject* matrix_transpose_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  if (x.ndim() < 2)
    raise(ErrorKind::value, a.op(),
          "needs at least two dimensions, shape is " + to_string(x.shape()));
  Dims axes;
  for (int i = 0; i < x.ndim(); ++i) axes.push_back(i);
  std::swap(axes[axes.size() - 1], axes[axes.size() - 2]);
  return wrap(permute_dims(x, axes));
}
PyObject* expand_dims_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(expand_dims(x, axis_argument(a, 1, x.ndim() + 1, 0)));
}
PyObject* squeeze_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(squeeze(x, a.axes(1, x.ndim())));
}
PyObject* broadcast_to_body(const Arguments& a) {
  return wrap(broadcast_to(a.tensor(0), a.dims(1)));
}
PyObject* moveaxis_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  Dims from = a.dims(1);
  Dims to = a.dims(2);
  if (from.size() != to.size())
    raise(ErrorKind::value, a.op(), "source and destination must have the same number of axes");
  Dims axes(static_cast<std::size_t>(x.ndim()), -1);
  Dims rest;
  for (auto& axis : from) axis = normalize_axis(axis, x.ndim(), a.op());
  for (int i = 0; i < x.ndim(); ++i)
    if (std::find(from.begin(), from.end(), i) == from.end()) rest.push_back(i);
  for (std::size_t i = 0; i < to.size(); ++i)
    axes[static_cast<std::size_t>(normalize_axis(to[i], x.ndim(), a.op()))] = from[i];
  std::size_t next = 0;
  for (auto& axis : axes) {
    if (axis >= 0) continue;
    if (next == rest.size()) raise(ErrorKind::value, a.op(), "an axis is named twice");
    axis = rest[next++];
  }
  return wrap(permute_dims(x, axes));
}
PyObject* flip_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  return wrap(flip(x, a.axes(1, x.ndim())));
}
PyObject* concat_body(const Arguments& a) {
  const std::vector<Tensor> parts = a.tensors(0);
  if (a[1] == Py_None) {
    std::vector<Tensor> flat;
    flat.reserve(parts.size());
    for (const Tensor& t : parts) flat.push_back(reshape(t, Dims{-1}));
    return wrap(concat(flat, 0));
  }
  return wrap(concat(parts, parts.empty() ? 0 : axis_argument(a, 1, parts[0].ndim(), 0)));
}
PyObject* stack_body(const Arguments& a) {
  const std::vector<Tensor> parts = a.tensors(0);
  return wrap(stack(parts, parts.empty() ? 0 : axis_argument(a, 1, parts[0].ndim() + 1, 0)));
}
PyObject* matmul_body(const Arguments& a) { return wrap(matmul(a.tensor(0), a.tensor(1))); }
PyObject* astype_body(const Arguments& a) {
  check_copy(a, 2);
  return wrap(astype(a.tensor(0), dtype_from_python(a[1], a.op())));
}
// Without an axis, the position among all elements in row-major order.
template <auto search>
PyObject* search_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  const bool keepdims = a.flag(2, false);
  if (a.given(1)) return wrap(search(x, normalize_axis(a.integer(1), x.ndim(), a.op()), keepdims));
  Tensor found = search(reshape(x, Dims{-1}), 0, false);
  if (keepdims) found = reshape(found, Dims(static_cast<std::size_t>(x.ndim()), 1));
  return wrap(std::move(found));
}
PyObject* take_body(const Arguments& a) {
  const Tensor x = a.tensor(0);
  if (!a.given(2) && x.ndim() != 1)
    raise(ErrorKind::value, a.op(), "needs axis= for a tensor of shape " + to_string(x.shape()));
  return wrap(take(x, a.tensor(1), axis_argument(a, 2, x.ndim(), 0)));
}

PyObject* promote_body(const Arguments& a) {
  return Py_NewRef(
      dtype_object(promote(dtype_from_python(a[0], a.op()), dtype_from_python(a[1], a.op()))));
}
PyObject* promote_weak_body(const Arguments& a) {
  const std::optional<WeakKind> kind = weak_kind(a[1]);
  if (!kind) raise(ErrorKind::type, a.op(), "needs a Python bool, int or float");
  return Py_NewRef(dtype_object(promote_weak(dtype_from_python(a[0], a.op()), *kind)));
}

}  // namespace

void init_shape_ops(py::module_& m) {
  add_function(m, "reshape", "(x, /, shape, *, copy=None)",
               "The same elements in another shape; one extent may be -1.", reshape_body);
  add_function(m, "permute_dims", "(x, /, axes)", "The axes in another order.", permute_body,
               kMethod);
  add_function(m, "matrix_transpose", "(x, /)", "The last two axes exchanged.",
               matrix_transpose_body);
  add_function(m, "expand_dims", "(x, /, axis=0)", "A new axis of length one.", expand_dims_body);
  add_function(m, "squeeze", "(x, /, axis)", "Without the given axes, which have length one.",
               squeeze_body, kMethod);
  add_function(m, "broadcast_to", "(x, /, shape)", "Repeated to a larger shape.",
               broadcast_to_body);
  add_function(m, "moveaxis", "(x, source, destination, /)", "Axes moved to other positions.",
               moveaxis_body);
  add_function(m, "flip", "(x, /, axis=None)", "Elements in reverse along the axes.", flip_body);
  add_function(m, "concat", "(arrays, /, axis=0)", "Tensors joined along an axis.", concat_body);
  add_function(m, "stack", "(arrays, /, axis=0)", "Tensors joined along a new axis.", stack_body);
  add_function(m, "matmul", "(x1, x2, /)",
               "The matrix product; leading axes are stacks and broadcast.", matmul_body);
  add_function(m, "astype", "(x, dtype, /, *, copy=True, device=None)",
               "Converted to another dtype.", astype_body, kMethod);
  add_function(m, "argmax", "(x, /, axis=None, *, keepdims=False)",
               "The index of the first maximum.", search_body<argmax>, kMethod);
  add_function(m, "argmin", "(x, /, axis=None, *, keepdims=False)",
               "The index of the first minimum.", search_body<argmin>, kMethod);
  add_function(m, "take", "(x, indices, /, axis=None)",
               "Entries along an axis, chosen by a 1-d integer tensor.", take_body);
  add_function(m, "_promote", "(a, b, /)", "The dtype two dtypes meet in.", promote_body);
  add_function(m, "_promote_weak", "(a, number, /)", "The dtype that meets a Python number.",
               promote_weak_body);
  add_methods(reshape_methods);
  bind_matmul(py::object(m.attr("matmul")).ptr());
}

}  // namespace adjoint::python
