// Values and objects as a compiled function remembers them.
#pragma once

#include "pytensor.h"

namespace adjoint::python {

/// An exact number or text of Python: immutable, and compared without running code of the user's.
bool is_exact_number(PyObject* o) noexcept;
bool is_exact_text(PyObject* o) noexcept;
/// Whether two objects are of one type and equal to the last bit: 0.0 and -0.0, 1 and True differ,
/// in tuples and frozen dataclasses too. Other types may run code of the user's.
bool same_value(PyObject* a, PyObject* b);
/// Whether comparing it by `same_value` runs no code of the user's.
bool is_plain_value(PyObject* o) noexcept;

/// An object by identity. Held weakly where it can be, so that it may be collected; then it matches
/// nothing any more.
class Identity {
 public:
  Identity() = default;
  explicit Identity(PyObject* o);
  bool is(PyObject* o) const noexcept { return get() == o; }
  /// The object, borrowed; null when it is gone, or there was none.
  PyObject* get() const noexcept { return weak_ ? referent(kept_.ptr()) : kept_.ptr(); }
  /// What a weak reference refers to, borrowed, or null.
  static PyObject* referent(PyObject* reference) noexcept {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject* o = nullptr;
    if (PyWeakref_GetRef(reference, &o) != 1) return nullptr;
    Py_DECREF(o);  // whoever asks holds it
    return o;
#else
    PyObject* o = PyWeakref_GET_OBJECT(reference);
    return o == Py_None ? nullptr : o;
#endif
  }
  /// What is kept alive, for the cyclic collector.
  PyObject* kept() const noexcept { return kept_.ptr(); }
  bool is_gone() const noexcept { return weak_ && !get(); }

 private:
  py::object kept_;  // the object, or a weak reference to it
  bool weak_ = false;
};

}  // namespace adjoint::python
