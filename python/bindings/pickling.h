// How functions made of functions are pickled and copied: as the package's `_pickling` says for all
// of them, from what each tells by `_recipe`, which is its maker and the maker's arguments.
#pragma once

#include <utility>

#include "pytensor.h"

namespace adjoint::python {

inline PyObject* made_copy(PyObject* self, PyObject*) { return Py_NewRef(self); }

inline PyObject* made_deepcopy(PyObject* self, PyObject* memo) noexcept {
  return guarded([&]() -> PyObject* {
    const py::object copied = py::module_::import("adjoint._pickling").attr("copied");
    return copied(py::handle(self), py::handle(memo)).release().ptr();
  });
}

inline PyObject* made_reduce(PyObject* self, PyObject*) noexcept {
  return guarded([&]() -> PyObject* {
    const py::object reduced = py::module_::import("adjoint._pickling").attr("reduced");
    return reduced(py::handle(self)).release().ptr();
  });
}

/// The recipe: a function of the package by its name, or one of the core's that begins with an
/// underscore, which can be copied only; positional arguments, keyword arguments.
inline PyObject* made_recipe(const char* maker, py::tuple args, py::dict kwargs = {}) {
  const py::object make =
      py::module_::import(maker[0] == '_' ? "adjoint._core" : "adjoint").attr(maker);
  return py::make_tuple(make, std::move(args), std::move(kwargs)).release().ptr();
}

inline py::tuple as_tuple(const Dims& numbers) {
  py::list out;
  for (const std::int64_t n : numbers) out.append(n);
  return py::tuple(out);
}

#define ADJOINT_MADE_METHODS(recipe)                                                           \
  {"__copy__", made_copy, METH_NOARGS, "__copy__($self)\n--\n\nThe function itself."},         \
      {"__deepcopy__", made_deepcopy, METH_O,                                                  \
       "__deepcopy__($self, memo, /)\n--\n\n"                                                  \
       "The function itself, or one made of a copy of the function inside, if that has one."}, \
      {"__reduce__", made_reduce, METH_NOARGS,                                                 \
       "__reduce__($self)\n--\n\n"                                                             \
       "The name by which its module holds it, or how it is made of the function inside."},    \
      {"_recipe", recipe, METH_NOARGS, "_recipe($self)\n--\n\nWhat makes it of what."}

}  // namespace adjoint::python
