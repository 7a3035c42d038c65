// Signatures of pybind11's functions as `inspect` and `help` read them.
#pragma once

#include <functional>
#include <string>

#include "pytensor.h"

namespace adjoint::python {

/// Calls `visit` with each function of pybind11 among the entries of a module, of its classes and
/// its submodules, and with the names of the submodules that lead to it: "tree.".
void visit_functions(const py::handle& owner,
                     const std::function<void(PyCFunctionObject*, const std::string&)>& visit,
                     const std::string& prefix = "");

/// Writes the first line of their documents, "hvp(f: object, x: object) -> object", as a signature
/// of Python's own, which names parameters and defaults and no types; and puts built-in functions
/// in the place of public ones, which `help` would call methods of a record of pybind11's.
void write_signatures(const py::module_& m);

}  // namespace adjoint::python
