// What was recorded to compute a value, as data for the package to draw: `_core._recorded_graph`.
#pragma once

#include <pybind11/pybind11.h>

namespace adjoint::python {

void init_record(pybind11::module_& m);

}  // namespace adjoint::python
