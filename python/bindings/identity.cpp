// Comparing values by type and bits, and objects by identity, without keeping them alive.
#include "identity.h"

#include <algorithm>
#include <bit>

namespace adjoint::python {

namespace {

bool is_dataclass(PyObject* o) { return PyObject_HasAttrString(o, "__dataclass_fields__") == 1; }

bool same_fields(PyObject* a, PyObject* b) {
  const py::object fields =
      borrow(reinterpret_cast<PyObject*>(Py_TYPE(a))).attr("__dataclass_fields__");
  for (const py::handle name : fields)
    if (!same_value(borrow(a).attr(name).ptr(), borrow(b).attr(name).ptr())) return false;
  return true;
}

bool same_items(PyObject* a, PyObject* b) {
  if (PyTuple_GET_SIZE(a) != PyTuple_GET_SIZE(b)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(a); ++i)
    if (!same_value(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
  return true;
}

// Equal sets whose equal members are of one type too.
bool same_members(PyObject* a, PyObject* b) {
  if (PySet_GET_SIZE(a) != PySet_GET_SIZE(b)) return false;
  const py::list left(py::reinterpret_borrow<py::object>(a));
  const py::list right(py::reinterpret_borrow<py::object>(b));
  py::dict found;
  for (const py::handle y : right) found[y] = y;
  return std::ranges::all_of(left, [&](py::handle x) {
    const py::object hit = borrow(PyDict_GetItemWithError(found.ptr(), x.ptr()));
    if (!hit && PyErr_Occurred()) throw_python();
    if (hit) return same_value(x.ptr(), hit.ptr());
    // One nan does not equal another, and yet is the same value.
    return std::ranges::any_of(right, [&](py::handle y) { return same_value(x.ptr(), y.ptr()); });
  });
}

bool same_bits(double a, double b) noexcept {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

}  // namespace

bool is_exact_number(PyObject* o) noexcept {
  return PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyBool_Check(o) ||
         PyComplex_CheckExact(o);
}
bool is_exact_text(PyObject* o) noexcept {
  return PyUnicode_CheckExact(o) || PyBytes_CheckExact(o);
}

bool is_plain_value(PyObject* o) noexcept {
  return o == Py_None || is_exact_number(o) || is_exact_text(o) || PyType_Check(o) ||
         PyFunction_Check(o);
}

bool same_value(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyFloat_CheckExact(a)) return same_bits(PyFloat_AS_DOUBLE(a), PyFloat_AS_DOUBLE(b));
  if (PyComplex_CheckExact(a)) {
    const Py_complex x = PyComplex_AsCComplex(a);
    const Py_complex y = PyComplex_AsCComplex(b);
    return same_bits(x.real, y.real) && same_bits(x.imag, y.imag);
  }
  if (PyTuple_CheckExact(a)) return same_items(a, b);
  if (PyFrozenSet_CheckExact(a)) return same_members(a, b);
  const py::object left = borrow(a);
  const py::object right = borrow(b);
  const int equal = PyObject_RichCompareBool(a, b, Py_EQ);
  if (equal < 0) throw_python();
  return equal == 1 && (!is_dataclass(a) || same_fields(a, b));
}

// ---- Identity -----------------------------------------------------------------------------------

Identity::Identity(PyObject* o) {
  if (!o) return;
  if (!is_exact_number(o) && !is_exact_text(o) && PyType_SUPPORTS_WEAKREFS(Py_TYPE(o)) &&
      !PyType_Check(o)) {
    kept_ = py::reinterpret_steal<py::object>(PyWeakref_NewRef(o, nullptr));
    weak_ = static_cast<bool>(kept_);
    if (weak_) return;
    PyErr_Clear();
  }
  kept_ = borrow(o);
}

}  // namespace adjoint::python
