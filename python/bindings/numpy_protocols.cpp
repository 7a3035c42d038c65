// `__array_ufunc__` and `__array_function__`: NumPy's functions on tensors. What they mean is in
// adjoint._numpy, which imports NumPy, and is itself imported at the first call.
#include <algorithm>
#include <string_view>

#include "convert.h"

namespace adjoint::python {

namespace {

py::object handler(const char* name) { return py::module_::import("adjoint._numpy").attr(name); }

// The functions that were called through ufuncs before, by the ufunc; kept by the module.
PyObject* known_function(PyObject* ufunc) {
  static PyObject* const table = handler("FUNCTIONS").release().ptr();
  PyObject* function = PyDict_GetItemWithError(table, ufunc);
  if (!function && PyErr_Occurred()) throw_python();
  return function;
}

// Whether no other class has a say: tensors, Python's numbers, NumPy's own arrays and scalars.
bool is_ours(PyObject* o) {
  return is_tensor(o) || weak_kind(o) ||
         std::string_view(Py_TYPE(o)->tp_name).starts_with("numpy.");
}

PyObject* array_ufunc(PyObject*, PyObject* const* args, Py_ssize_t nargs,
                      PyObject* names) noexcept {
  return guarded([&] {
    // The commonest call, without its way through Python.
    if (!names && nargs > 2 && PyUnicode_CompareWithASCIIString(args[1], "__call__") == 0 &&
        std::all_of(args + 2, args + nargs, is_ours)) {
      if (PyObject* function = known_function(args[0]))
        return PyObject_Vectorcall(function, args + 2, static_cast<std::size_t>(nargs - 2),
                                   nullptr);
    }
    return PyObject_Vectorcall(handler("array_ufunc").ptr(), args, static_cast<std::size_t>(nargs),
                               names);
  });
}

PyObject* array_function(PyObject*, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* names) noexcept {
  return guarded([&] {
    return PyObject_Vectorcall(handler("array_function").ptr(), args,
                               static_cast<std::size_t>(nargs), names);
  });
}

PyMethodDef numpy_methods[] = {
    {"__array_ufunc__", method(array_ufunc), METH_FASTCALL | METH_KEYWORDS,
     "__array_ufunc__($self, ufunc, method, /, *inputs, **options)\n--\n\n"
     "What NumPy calls for a ufunc with a tensor: the function of the same name in `adjoint`."},
    {"__array_function__", method(array_function), METH_FASTCALL | METH_KEYWORDS,
     "__array_function__($self, function, types, args, kwargs, /)\n--\n\n"
     "What NumPy calls for its other functions."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void init_numpy_protocols() { add_methods(numpy_methods); }

}  // namespace adjoint::python
