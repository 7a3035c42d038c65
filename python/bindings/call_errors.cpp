// Every function of pybind11 is entered through one dispatcher. Its table entry is replaced by
// `call_named`, which calls the dispatcher and rewrites the one error that is its own: from
// "map(): incompatible function arguments. The following argument types are supported: ..." to
// "[map] takes (f, tree, *args), got (int)". A class that Python makes no instances of says so,
// too.
#include "call_errors.h"

#include <string>
#include <string_view>
#include <unordered_map>

#include "convert.h"
#include "signatures.h"

namespace adjoint::python {

namespace {

using Dispatcher = PyObject* (*)(PyObject*, PyObject* const*, std::size_t, PyObject*);

Dispatcher g_dispatcher = nullptr;
/// "tree." by function of a submodule; functions are told apart by the record that they are bound
/// to.
std::unordered_map<PyObject*, std::string>& prefixes() {
  static auto* table = new std::unordered_map<PyObject*, std::string>;
  return *table;
}
constexpr int kFlags = METH_FASTCALL | METH_KEYWORDS;  // as of pybind11 3.1

std::string types_of(PyObject* const* args, std::size_t nargs, PyObject* kwnames) {
  const std::size_t named =
      kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : std::size_t{0};
  std::string out;
  for (std::size_t i = 0; i < nargs + named; ++i) {
    if (i > 0) out += ", ";
    if (i >= nargs) {
      const char* name =
          PyUnicode_AsUTF8(PyTuple_GET_ITEM(kwnames, static_cast<Py_ssize_t>(i - nargs)));
      if (!name) PyErr_Clear();  // a lone surrogate
      out += std::string(name ? name : "?") + "=";
    }
    out += type_name(args[i]);
  }
  return out;
}

void replace_all(std::string& text, std::string_view old, std::string_view by) {
  for (std::size_t at = 0; (at = text.find(old, at)) != text.npos; at += by.size())
    text.replace(at, old.size(), by);
}

/// "(f, axes=0, *args)" out of "    1. map(f: object, axes: object = 0, *args) -> object".
std::string parameters_of(std::string_view text) {
  const std::size_t begin = text.find('(', text.find("1. "));
  if (begin == text.npos) return "other arguments";
  text = text.substr(begin, text.find('\n', begin) - begin);
  std::string parameters(text.substr(0, text.rfind(" -> ")));
  replace_all(parameters, ": object", "");
  replace_all(parameters, " = ", "=");
  return parameters;
}

/// Rewrites the Python error that is set, if the dispatcher raised it.
void rewrite_error(PyObject* self, PyObject* const* args, std::size_t nargs, PyObject* kwnames) {
  py::error_already_set error;  // takes it over
  const std::string message = text_of(py::str(error.value()));
  const std::size_t end = message.find("(): incompatible ");
  if (end == message.npos || error.trace()) {  // an error of what was called
    error.restore();
    return;
  }
  std::string parameters = parameters_of(std::string_view(message).substr(end));
  std::string name = message.substr(0, end);
  const bool is_method = name == "__init__" || parameters.starts_with("(self: ");
  if (is_method && nargs > 0) {  // self is not an argument to the reader
    ++args;
    --nargs;
  }
  if (parameters.starts_with("(self: ")) {
    const std::size_t rest = parameters.find_first_of(",)");
    parameters.replace(1, rest - 1 + (parameters[rest] == ',' ? 2 : 0), "");
  }
  if (name == "__init__") {  // "1. adjoint._core.deferral(enabled)"
    const std::size_t begin = message.find("1. ") + 3;
    name = message.substr(begin, message.find('(', begin) - begin);
    name.erase(0, name.rfind('.') + 1);
  }
  const auto prefix = prefixes().find(self);
  if (prefix != prefixes().end()) name = prefix->second + name;
  raise(ErrorKind::type, name,
        "takes " + parameters + ", got (" + types_of(args, nargs, kwnames) + ")");
}

PyObject* call_named(PyObject* self, PyObject* const* args, std::size_t nargsf,
                     PyObject* kwnames) noexcept {
  return guarded([&] {
    PyObject* result = g_dispatcher(self, args, nargsf, kwnames);
    if (!result && PyErr_ExceptionMatches(PyExc_TypeError))
      rewrite_error(self, args, static_cast<std::size_t>(PyVectorcall_NARGS(nargsf)), kwnames);
    return result;
  });
}

template <class F>
PyCFunction erased(F* f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

void replace_entry(PyCFunctionObject* function, const std::string& prefix) {
  PyMethodDef* def = function->m_ml;
  if (def->ml_flags == kFlags && def->ml_meth == erased(g_dispatcher))
    def->ml_meth = erased(call_named);
  if (!prefix.empty() && def->ml_meth == erased(call_named)) prefixes()[function->m_self] = prefix;
}

int refuse_instance(PyObject* self, PyObject*, PyObject*) noexcept {
  const std::string_view full = Py_TYPE(self)->tp_name;
  const std::string name(full.substr(full.rfind('.') + 1));
  PyErr_Format(PyExc_TypeError, "[%s] it is made by the library, and has no constructor",
               name.c_str());
  return -1;
}

/// Classes without an `__init__` of their own inherit the one that raises pybind11's text.
void refuse_instances(const py::module_& m) {
  const auto* base = reinterpret_cast<PyTypeObject*>(py::detail::get_internals().instance_base);
  for (const auto& [name, value] : py::dict(m.attr("__dict__"))) {
    if (!PyType_Check(value.ptr())) continue;
    auto* type = reinterpret_cast<PyTypeObject*>(value.ptr());
    if (type->tp_init == base->tp_init) type->tp_init = refuse_instance;
  }
}

}  // namespace

void name_call_errors(const py::module_& m) {
  refuse_instances(m);
  const py::cpp_function probe([] {});
  const PyMethodDef* def = reinterpret_cast<PyCFunctionObject*>(probe.ptr())->m_ml;
  if (def->ml_flags != kFlags) return;
  g_dispatcher = reinterpret_cast<Dispatcher>(reinterpret_cast<void (*)()>(def->ml_meth));
  visit_functions(m, replace_entry);
}

py::object named_call_errors(py::cpp_function f) {
  replace_entry(reinterpret_cast<PyCFunctionObject*>(f.ptr()), "");
  return f;
}

}  // namespace adjoint::python
