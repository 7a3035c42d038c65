#include "signatures.h"

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "convert.h"
#include "functions.h"

namespace adjoint::python {

namespace {

// The parts of "(f: object, *, axes: tuple[int, int] = (0, 1)) -> object" between its commas.
std::vector<std::string_view> parameters_in(std::string_view line) {
  std::vector<std::string_view> out;
  int depth = 0;
  bool quoted = false;
  std::size_t begin = 1;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '\'') quoted = !quoted;
    if (quoted) continue;
    const bool closes = c == ')' || c == ']' || c == '}';
    const bool ends = closes && depth == 1;
    if ((ends || (c == ',' && depth == 1)) && i > begin) {
      out.push_back(line.substr(begin, i - begin));
      begin = i + 2;
    }
    if (ends) break;
    depth += (c == '(' || c == '[' || c == '{') - closes;
  }
  return out;
}

// "f" of "f: object", "axes=0" of "axes: int = 0".
std::string without_type(std::string_view parameter) {
  const auto colon = parameter.find(": ");
  std::string out(parameter.substr(0, colon));
  const auto equals = parameter.find(" = ", colon == std::string_view::npos ? 0 : colon);
  if (equals != std::string_view::npos) out.append("=").append(parameter.substr(equals + 3));
  return out;
}

bool has_no_name(const std::string& parameter) {
  return parameter.starts_with("arg") && parameter.size() > 3 &&
         std::isdigit(static_cast<unsigned char>(parameter[3]));
}

std::string signature_in(std::string_view line) {
  std::string out = "(";
  bool unnamed = false;
  for (const std::string_view part : parameters_in(line)) {
    std::string parameter = without_type(part);
    if (unnamed && !has_no_name(parameter)) {
      out += ", /";
      unnamed = false;
    }
    unnamed |= has_no_name(parameter);
    if (out.size() > 1) out += ", ";
    out += parameter;
  }
  return out + (unnamed ? ", /)" : ")");
}

void write_signature(PyCFunctionObject* function, const std::string&) {
  PyMethodDef* def = function->m_ml;
  const std::string_view doc = def->ml_doc ? def->ml_doc : "";
  const std::string start = std::string(def->ml_name) + "(";
  if (!doc.starts_with(start) || doc.find("\n--\n") != std::string_view::npos) return;
  const auto end = doc.find('\n');
  const std::string_view line = doc.substr(0, end);
  std::string_view rest = end == std::string_view::npos ? "" : doc.substr(end);
  while (rest.starts_with('\n')) rest.remove_prefix(1);
  while (rest.ends_with('\n')) rest.remove_suffix(1);
  std::string text = def->ml_name + signature_in(line.substr(start.size() - 1)) + "\n--\n\n";
  text.append(rest);
  std::free(const_cast<char*>(def->ml_doc));  // pybind11 allocates it, and frees it, like this
  def->ml_doc = strdup(text.c_str());
}

void show_public(const py::handle& home, const std::string& package) {
  for (const auto [key, value] : py::dict(home.attr("__dict__").attr("copy")())) {
    const std::string name = text_of(key);
    if (name.starts_with('_')) continue;
    if (PyModule_Check(value.ptr())) show_public(value, package + "." + name);
    if (!PyCFunction_CheckExact(value.ptr()) || PyModule_Check(PyCFunction_GET_SELF(value.ptr())))
      continue;
    const PyMethodDef* def = reinterpret_cast<PyCFunctionObject*>(value.ptr())->m_ml;
    show_as_builtin(home, package, def->ml_name, def->ml_doc, borrow(value.ptr()));
  }
}

}  // namespace

void visit_functions(const py::handle& owner,
                     const std::function<void(PyCFunctionObject*, const std::string&)>& visit,
                     const std::string& prefix) {
  for (const auto [key, value] : py::dict(owner.attr("__dict__"))) {
    PyObject* o = value.ptr();
    if (PyInstanceMethod_Check(o)) o = PyInstanceMethod_GET_FUNCTION(o);
    if (PyModule_Check(o))
      visit_functions(o, visit, text_of(key) + ".");
    else if (PyType_Check(o) &&
             py::getattr(value, "__module__", py::none()).equal(owner.attr("__name__")))
      visit_functions(o, visit);
    else if (PyCFunction_CheckExact(o))
      visit(reinterpret_cast<PyCFunctionObject*>(o), prefix);
  }
}

void write_signatures(const py::module_& m) {
  visit_functions(m, write_signature);
  show_public(m, "adjoint");
}

}  // namespace adjoint::python
