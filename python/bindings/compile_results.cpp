// What a compiled function returns beside tensors. An object that it has made would be made anew by
// each call: where it can be changed, each call gets a copy. One that others hold too was there
// before, or is kept somewhere; the function returns it as it is.
#include "compile.h"

namespace adjoint::python {

namespace {

// Whether it cannot be changed, as far as its class tells: what is hashed by its value is not.
bool is_immutable(PyObject* o) {
  if (is_plain_value(o) || PyCFunction_Check(o) || PyModule_Check(o)) return true;
  if (Py_TYPE(o)->tp_hash == PyBaseObject_Type.tp_hash) return false;
  if (PyObject_Hash(o) != -1) return true;
  PyErr_Clear();
  return false;
}

// Whether a shallow copy shares nothing that can be changed.
bool is_copied_whole(PyObject* o) {
  if (PyByteArray_CheckExact(o) || PySet_CheckExact(o)) return true;
  const py::object dtype = optional_attribute(o, "dtype");
  return dtype && PyObject_CheckBuffer(o) && !dtype.attr("hasobject").cast<bool>();
}

}  // namespace

bool find_own_leaves(Variant& v) {
  std::vector<Py_ssize_t> held(v.leaves.size(), 0);
  for (const std::uint32_t first : v.same) ++held[first];
  v.own.assign(v.leaves.size(), false);
  for (std::size_t i = 0; i < v.leaves.size(); ++i) {
    PyObject* o = v.leaves[i].ptr();
    if (!o || Py_REFCNT(o) != held[v.same[i]] || is_immutable(o)) continue;
    if (!is_copied_whole(o)) return false;
    v.own[i] = true;
  }
  return true;
}

}  // namespace adjoint::python
