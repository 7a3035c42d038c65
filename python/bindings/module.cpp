// The extension module adjoint._core.
#include <pybind11/pybind11.h>

#include "call_errors.h"
#include "pytensor.h"
#include "record.h"
#include "signatures.h"

namespace adjoint::python {

namespace {

void init_errors(py::module_& m) {
  // A TypeError because a value of the wrong kind was given to Python; a RuntimeError because it
  // is where the call happens that makes it wrong.
  py::tuple bases = py::make_tuple(py::reinterpret_borrow<py::object>(PyExc_TypeError),
                                   py::reinterpret_borrow<py::object>(PyExc_RuntimeError));
  traced_value_error = PyErr_NewExceptionWithDoc(
      "adjoint.TracedValueError",
      "A value was about to leave the function being differentiated, batched or compiled "
      "unnoticed.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> ad.grad(lambda x: x * float(x))(2.0)\n"
      "Traceback (most recent call last):\n"
      "    ...\n"
      "adjoint.TracedValueError: [float] would take the value out of the function unnoticed",
      bases.ptr(), nullptr);
  if (!traced_value_error) throw_python();
  m.attr("TracedValueError") = borrow(traced_value_error);
  init_error_context();
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error&) {
      set_python_error();
    }
  });
}

}  // namespace

}  // namespace adjoint::python

namespace py = pybind11;

PYBIND11_MODULE(_core, m, py::mod_gil_used()) {
  namespace binding = adjoint::python;
  m.doc() = "The compiled part of adjoint; use it through the package.";
  m.attr("__version__") = ADJOINT_VERSION;
  binding::init_errors(m);
  binding::init_dtype(m);
  binding::init_tensor_type(m);
  binding::init_methods(m);
  binding::init_buffer(m);
  binding::init_numpy_protocols();
  binding::init_tree(m);
  binding::init_functions(m);
  binding::init_creation(m);
  binding::init_random_ops(m);
  binding::init_transforms(m);
  binding::init_deferred(m);
  binding::init_compile(m);
  binding::init_state(m);
  binding::init_anomaly(m);
  binding::init_record(m);
  binding::name_call_errors(m);
  binding::write_signatures(m);
}
