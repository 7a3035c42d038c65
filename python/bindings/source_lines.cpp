// Tracing asks once per operation, so what is known of a code object is kept.
#include "source_lines.h"

#include <frameobject.h>

#include "convert.h"

namespace adjoint::python {

namespace {

// The package itself; its examples are programs of a user.
bool is_own(PyFrameObject* frame) {
  const py::object globals =
      steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(frame), "f_globals"));
  PyObject* name = PyDict_GetItemString(globals.ptr(), "__name__");
  const char* text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
  const std::string_view module = text ? text : "";
  return module.starts_with("adjoint.") && !module.starts_with("adjoint.examples");
}

}  // namespace

const std::string* SourceLines::current() {
  py::object frame = borrow(reinterpret_cast<PyObject*>(PyEval_GetFrame()));
  while (frame) {
    auto* const f = reinterpret_cast<PyFrameObject*>(frame.ptr());
    py::object code = steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(f)));
    const auto [it, fresh] = codes_.try_emplace(code.ptr());
    Code& known = it->second;
    if (fresh) {
      known.object = code;  // first: the table compares addresses
      if (!is_own(f)) known.file = text_of(py::str(code.attr("co_filename")));
    }
    if (!known.file.empty()) {
      const int number = PyFrame_GetLineNumber(f);
      const auto [line, first] = known.lines.try_emplace(number);
      if (first) line->second = known.file + ':' + std::to_string(number);
      return &line->second;
    }
    frame = py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetBack(f)));
  }
  return nullptr;
}

}  // namespace adjoint::python
