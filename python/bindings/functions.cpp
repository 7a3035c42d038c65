// Built-in functions from records. A PyMethodDef carries no user data, so each record gets its own
// C entry point: a template instantiated once per index. In return `ad.exp` is an ordinary built-in
// function, with a signature that `inspect` reads, a docstring, and a name by which it pickles.
#include "functions.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "graph/apply.h"

namespace adjoint::python {

namespace {

// One callable: an elementwise record, called with its operands, or a body with parsed arguments.
struct Function {
  const Op* op = nullptr;
  FunctionBody body = nullptr;
  std::string name;
  std::string doc;         // as a function: "name(signature)\n--\n\ndoc"
  std::string method_doc;  // as a method: the first parameter is $self
  std::vector<std::string> parameters;
  std::vector<const char*> parameter_names;
  int required = 0;
  int positional_only = 0;
  int keyword_only = 0;
  int device = -1;
  bool where = false;
};

constexpr int kMaxFunctions = 320;
std::array<Function*, kMaxFunctions> g_functions = {};
int g_function_count = 0;

PyObject* call_elementwise(const Function& f, PyObject* const* args, std::size_t nargs) {
  const Op& op = *f.op;
  if (nargs != op.arity)
    raise(ErrorKind::type, op.name,
          "takes " + std::to_string(op.arity) + " positional argument" +
              (op.arity == 1 ? "" : "s") + ", got " + std::to_string(nargs) + ": " + op.name +
              op.signature);
  if (nargs == 1 && is_exact_tensor(args[0])) {
    Node* const in[1] = {read_node(as_tensor(args[0]))};
    if (!needs_hold(in[0])) return wrap(apply(op, in));
  }
  Operands operands(op.name);
  for (std::size_t i = 0; i < nargs; ++i) operands.add(args[i], true);
  operands.finish(f.where);
  return wrap(apply(op, operands.nodes()));
}

PyObject* call_function(int index, PyObject* const* args, std::size_t nargs,
                        PyObject* kwnames) noexcept {
  const Function& f = *g_functions[static_cast<std::size_t>(index)];
  return guarded([&]() -> PyObject* {
    if (f.op) {
      if (kwnames && PyTuple_GET_SIZE(kwnames) > 0)
        raise(ErrorKind::type, f.op->name,
              std::string("takes no keyword arguments: ") + f.op->name + f.op->signature);
      return call_elementwise(f, args, nargs);
    }
    const Arguments::Signature signature{f.name.c_str(),    f.parameter_names, f.required,
                                         f.positional_only, f.keyword_only,    f.device};
    return constant_result(f.body(Arguments(signature, args, nargs, kwnames)));
  });
}

template <int I>
PyObject* function_entry(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return call_function(I, args, static_cast<std::size_t>(nargs), kwnames);
}

template <int I>
PyObject* method_entry(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                       PyObject* kwnames) noexcept {
  return guarded([&] {
    const auto n = static_cast<std::size_t>(nargs);
    const std::size_t nkw = kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : 0;
    SmallVector<PyObject*, 8> all;
    all.push_back(self);
    all.append(args, n + nkw);
    return call_function(I, all.data(), n + 1, kwnames);
  });
}

using FunctionEntry = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);
template <int... I>
constexpr std::array<FunctionEntry, sizeof...(I)> function_entries(
    std::integer_sequence<int, I...>) {
  return {&function_entry<I>...};
}
template <int... I>
constexpr std::array<FunctionEntry, sizeof...(I)> method_entries(std::integer_sequence<int, I...>) {
  return {&method_entry<I>...};
}
constexpr auto kFunctionEntries =
    function_entries(std::make_integer_sequence<int, kMaxFunctions>{});
constexpr auto kMethodEntries = method_entries(std::make_integer_sequence<int, kMaxFunctions>{});

// "(x, /, *, axis=None)" -> names, and where the kinds of parameters change.
void parse_signature(Function& f, std::string_view text) {
  text.remove_prefix(1);
  text.remove_suffix(1);
  int depth = 0;
  bool keyword_only = false;
  std::string part;
  const auto take = [&] {
    const auto first = part.find_first_not_of(' ');
    part = first == std::string::npos ? "" : part.substr(first);
    const bool has_default = part.find('=') != std::string::npos;
    const std::string name = part.substr(0, part.find('='));
    if (name == "/") {
      f.positional_only = static_cast<int>(f.parameters.size());
    } else if (name == "*") {
      keyword_only = true;
      f.keyword_only = static_cast<int>(f.parameters.size());
    } else if (!name.empty()) {
      if (name == "device") f.device = static_cast<int>(f.parameters.size());
      f.parameters.push_back(name);
      if (!has_default) ++f.required;
    }
    part.clear();
  };
  for (const char c : text) {
    if (c == '(' || c == '[') ++depth;
    if (c == ')' || c == ']') --depth;
    if (c == ',' && depth == 0)
      take();
    else
      part += c;
  }
  take();
  if (!keyword_only) f.keyword_only = static_cast<int>(f.parameters.size());
  for (const std::string& p : f.parameters) f.parameter_names.push_back(p.c_str());
}

std::string method_signature(const Function& f, std::string_view signature) {
  // The first parameter becomes $self; a "/" right after it goes.
  std::string rest(signature.substr(1));
  const auto end = rest.find_first_of(",)");
  rest = rest.substr(end);
  if (rest.starts_with(", /")) rest = rest.substr(3);
  return f.name + "($self" + rest;
}

void bind(py::module_& m, std::unique_ptr<Function> owned, const char* signature, const char* doc,
          bool method) {
  if (g_function_count == kMaxFunctions)
    raise(ErrorKind::runtime, "bindings", "more functions than entry points");
  Function* f = owned.release();  // built-in functions point into it for the life of the process
  const auto i = static_cast<std::size_t>(g_function_count++);
  g_functions[i] = f;
  f->doc = f->name + signature + "\n--\n\n" + doc;
  auto* def = new PyMethodDef{
      f->name.c_str(),
      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kFunctionEntries[i])),
      METH_FASTCALL | METH_KEYWORDS, f->doc.c_str()};
  static const py::str package("adjoint");
  m.attr(f->name.c_str()) = steal(PyCFunction_NewEx(def, m.ptr(), package.ptr()));
  if (!method) return;
  f->method_doc = method_signature(*f, signature) + "\n--\n\n" + doc;
  auto* defs = new PyMethodDef[2]{
      {f->name.c_str(),
       reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kMethodEntries[i])),
       METH_FASTCALL | METH_KEYWORDS, f->method_doc.c_str()},
      {nullptr, nullptr, 0, nullptr}};
  add_methods(defs);
}

}  // namespace

// ---- Arguments ----------------------------------------------------------------------------------

Arguments::Arguments(const Signature& signature, PyObject* const* args, std::size_t nargs,
                     PyObject* kwnames)
    : signature_(signature) {
  const auto limit = static_cast<std::size_t>(signature.keyword_only);
  if (nargs > limit)
    raise(ErrorKind::type, signature.op,
          "takes " + std::to_string(limit) + " positional argument" + (limit == 1 ? "" : "s") +
              ", got " + std::to_string(nargs) +
              (limit < signature.names.size() ? ": the rest goes by name" : ""));
  for (std::size_t i = 0; i < nargs; ++i) values_[i] = args[i];
  const Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t k = 0; k < nkw; ++k) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, k);
    std::size_t i = static_cast<std::size_t>(signature.positional_only);
    while (i < signature.names.size() &&
           PyUnicode_CompareWithASCIIString(name, signature.names[i]) != 0)
      ++i;
    if (i == signature.names.size())
      raise(ErrorKind::type, signature.op, "has no keyword argument '" + text_of(name) + "'");
    if (values_[i])
      raise(ErrorKind::type, signature.op,
            std::string("got two values for '") + signature.names[i] + "'");
    values_[i] = args[nargs + static_cast<std::size_t>(k)];
  }
  for (int i = 0; i < signature.required; ++i)
    if (!values_[i])
      raise(
          ErrorKind::type, signature.op,
          std::string("lacks the argument '") + signature.names[static_cast<std::size_t>(i)] + "'");
  if (signature.device >= 0) check_device(values_[signature.device], signature.op);
}

std::vector<Tensor> Arguments::tensors(int i) const {
  PyObject* o = values_[i];
  std::vector<Tensor> out;
  if (is_tensor(o)) {
    py::object iterator = steal(PyObject_GetIter(o));
    while (PyObject* entry = PyIter_Next(iterator.ptr()))
      out.push_back(tensor_argument(steal(entry).ptr(), signature_.op));
    if (PyErr_Occurred()) throw_python();
    return out;
  }
  if (!PyList_Check(o) && !PyTuple_Check(o))
    raise(ErrorKind::type, signature_.op, "needs a list or tuple of tensors, not " + type_name(o));
  for (const py::handle entry : entries_of(o))
    out.push_back(tensor_argument(entry.ptr(), signature_.op));
  return out;
}

Dims Arguments::axes(int i, int ndim) const {
  Dims out;
  if (!given(i)) {
    for (int a = 0; a < ndim; ++a) out.push_back(a);
    return out;
  }
  for (const std::int64_t axis : dims(i)) out.push_back(normalize_axis(axis, ndim, op()));
  std::sort(out.begin(), out.end());
  if (std::adjacent_find(out.begin(), out.end()) != out.end())
    raise(ErrorKind::value, op(), "an axis is named twice");
  return out;
}

void add_function(py::module_& m, const char* name, const char* signature, const char* doc,
                  FunctionBody body, bool method) {
  auto f = std::make_unique<Function>();
  f->name = name;
  f->body = body;
  parse_signature(*f, signature);
  bind(m, std::move(f), signature, doc, method);
}

// Elementwise operations need no code of their own: the record says it all.
void init_ops(py::module_& m) {
  for (const Op* op : all_ops()) {
    if (op->internal || op->kind != OpKind::elementwise || op->casts) continue;
    auto f = std::make_unique<Function>();
    f->name = op->name;
    f->op = op;
    f->where = op->dtypes == DTypeRule::where;
    bind(m, std::move(f), op->signature, op->doc, op->method);
  }
}

}  // namespace adjoint::python
