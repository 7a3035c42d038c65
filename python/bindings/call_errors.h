// What is said of a call whose arguments pybind11 cannot take.
#pragma once

#include "pytensor.h"

namespace adjoint::python {

/// Gives the functions and classes of a module, and those of its submodules, messages of our own in
/// place of pybind11's, which list C++ signatures and print every argument in full.
void name_call_errors(const py::module_& m);
/// The same for a function made later.
py::object named_call_errors(py::cpp_function f);

}  // namespace adjoint::python
