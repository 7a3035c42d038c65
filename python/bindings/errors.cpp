// C++ exceptions at the border to Python.
#include <new>

#include "base/error_context.h"
#include "pytensor.h"

namespace adjoint::python {

PyObject* traced_value_error = nullptr;
PyObject* anomaly_error = nullptr;
PyObject* value_needed_error = nullptr;

namespace {

// NumPy's class with this name is a base of it, so it is made at the first error. What is raised
// where that fails is a base as well.
PyObject* linalg_error() noexcept {
  static PyObject* type = nullptr;
  if (type) return type;
  PyObject* const home = PyImport_ImportModule("adjoint.linalg");
  type = home ? PyObject_GetAttrString(home, "LinAlgError") : nullptr;
  Py_XDECREF(home);
  if (type) return type;
  PyErr_Clear();
  return PyExc_ValueError;
}

PyObject* python_type(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::type: return PyExc_TypeError;
    case ErrorKind::value: return PyExc_ValueError;
    case ErrorKind::index: return PyExc_IndexError;
    case ErrorKind::overflow: return PyExc_OverflowError;
    case ErrorKind::memory: return PyExc_MemoryError;
    case ErrorKind::buffer: return PyExc_BufferError;
    case ErrorKind::runtime: return PyExc_RuntimeError;
    case ErrorKind::anomaly: return anomaly_error;
    case ErrorKind::traced: return traced_value_error;
    case ErrorKind::zero_division: return PyExc_ZeroDivisionError;
    case ErrorKind::linalg: return linalg_error();
  }
  return PyExc_RuntimeError;
}

// Python 3.11 shows notes under an exception.
void annotate_python(const std::string& line) {
  try {
    throw;
  } catch (py::error_already_set& e) {
    const HostLockScope lock;
    if (py::hasattr(e.value(), "add_note")) e.value().attr("add_note")("  " + line);
  } catch (...) {
  }
}

}  // namespace

void init_error_context() { g_annotate_foreign = annotate_python; }

void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const ValueNeeded&) {
    PyErr_SetNone(value_needed_error);
  } catch (const Error& e) {
    PyErr_SetString(python_type(e.kind()), e.what());
  } catch (const py::builtin_exception& e) {
    e.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (...) {
    PyErr_SetString(PyExc_SystemError, "[adjoint] an exception of unknown type");
  }
}

}  // namespace adjoint::python
