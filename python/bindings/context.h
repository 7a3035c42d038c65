// What the core's context managers share: they work as decorators too, and may be entered again.
#pragma once

#include "convert.h"

namespace adjoint::python {

/// `C` has enter(), exit() and forget(), which makes a copy that nobody has entered.
template <class C, class Init, class... Extra>
void def_context(py::module_& m, const char* name, const char* doc, Init init,
                 const Extra&... extra) {
  py::class_<C>(m, name, py::module_local(), doc)
      .def(init, extra...)
      .def("__enter__",
           [](py::object self) {
             self.cast<C&>().enter();
             return self;
           })
      .def("__exit__", [](C& self, const py::args&) { self.exit(); })
      .def("__call__", [name = std::string(name)](const C& self, py::object f) {
        require_callable(f.ptr(), name.c_str(), "what is decorated");
        // A fresh context per call: this one may be in use, or used by another thread.
        py::cpp_function fresh([kept = C(self)] {
          C context = kept;
          context.forget();
          return context;
        });
        return py::module_::import("adjoint._decorate").attr("inside")(fresh, f);
      });
}

}  // namespace adjoint::python
