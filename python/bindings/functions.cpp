// Built-in functions from records. A PyMethodDef carries no user data, so each gets its own C entry
// point: a template instantiated once per index. In return `ad.exp` is an ordinary built-in
// function, with a signature that `inspect` reads, a docstring, and a name by which it pickles.
#include "functions.h"

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "graph/apply.h"
#include "graph/function.h"
#include "indexing.h"
#include "numbers.h"
#include "ops/rules.h"

namespace adjoint::python {

namespace {

// One callable: a function of the library, a body that takes Python objects, or another function
// that is called instead.
struct Callable {
  FunctionRecord function;
  FunctionBody body = nullptr;
  py::object target;
  std::string name;        // without its namespace
  std::string doc;         // as a function: "name(signature)\n--\n\ndoc"
  std::string method_doc;  // as a method: the first parameter is $self
  std::vector<const char*> parameter_names;
  std::vector<py::object> defaults;  // null: there is none
  std::vector<int> position;         // in the signature, of each parameter of the C++ function
  int required = 0;
  int positional_only = 0;
  int positional = 0;
  int device = -1;
  int copy = -1;
  int variadic = -1;   // from this one on what is given by position is a list
  bool makes = false;  // a tensor from nothing that is one
  py::object fields;   // a named tuple of several results
};

constexpr int kMaxFunctions = 600;
std::array<Callable*, kMaxFunctions> g_functions = {};
int g_function_count = 0;

PyObject* call_elementwise(const Op& op, PyObject* const* args, std::size_t nargs) {
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
  operands.finish(op.dtypes == DTypeRule::where);
  return wrap(apply(op, operands.nodes()));
}

// Python objects as the types that the C++ function asks for.
class Reader final : public ArgumentReader {
 public:
  Reader(const Callable& f, const Arguments& arguments) : f_(f), arguments_(arguments) {
    if (f.function.promotes) promote();
  }
  bool given(int i) const override {
    PyObject* o = object(i);
    return o && o != Py_None;
  }
  Tensor tensor(int i) const override {
    const auto at = static_cast<std::size_t>(i);
    if (at < promoted_.size() && promoted_[at].defined()) return promoted_[at];
    PyObject* const o = object(i);
    if (!PyTuple_Check(o) && !PyList_Check(o)) return tensor_argument(o, op());
    return one_of_parts(o, i);
  }
  std::vector<Tensor> tensors(int i) const override {
    const auto k = static_cast<std::size_t>(i);
    return k < lists_.size() && !lists_[k].empty() ? lists_[k] : arguments_.tensors(at(i));
  }
  std::int64_t integer(int i) const override {
    const Parameter& p = f_.function.parameters[static_cast<std::size_t>(at(i))];
    if (p.type.type == ParameterType::diagonal) return diagonal_argument(object(i), op(), name(i));
    return int_argument(object(i), op(), name(i));
  }
  std::vector<std::int64_t> integers(int i) const override {
    const Tensor given = known_from_python(object(i), std::nullopt, std::nullopt, op());
    if (given.size() == 0 && given.ndim() == 1) return {};  // an empty list has no dtype of its own
    if (!is_integer(given.dtype()) || given.ndim() > 1)
      raise(ErrorKind::type, op(),
            std::string(name(i)) + " must be an int or a list of ints, not " +
                std::string(adjoint::name(given.dtype())) + " of shape " +
                to_string(given.shape()));
    return known_integers(given, op());
  }
  Known known(int i) const override {
    return known_from_python(object(i), std::nullopt, std::nullopt, op());
  }
  Places places(int i) const override {
    PyObject* const given = object(i);  // a tuple names several entries, not several axes
    const py::object list = PyTuple_Check(given) ? steal(PySequence_List(given)) : borrow(given);
    const Key key(list.ptr());
    const IndexKey items = key.items();
    if (items.size() != 1 || items[0].kind == IndexItem::ellipsis ||
        items[0].kind == IndexItem::new_axis)
      raise(ErrorKind::type, op(),
            std::string(name(i)) + " must be an int, a list of ints, a slice or a mask of bools");
    return items[0];
  }
  double number(int i) const override { return number_argument(object(i), op(), name(i)); }
  bool flag(int i) const override { return flag_argument(object(i), op(), name(i)); }
  Dims dims(int i) const override { return dims_argument(object(i), op(), name(i)); }
  AxisPairs pairs(int i) const override {
    PyObject* o = object(i);
    if (PyIndex_Check(o)) return integer(i);
    if ((!PyTuple_Check(o) && !PyList_Check(o)) || PySequence_Size(o) != 2)
      raise(ErrorKind::type, op(), std::string(name(i)) + " must be an int or two lists of ints");
    const py::tuple both = entries_of(o);
    const auto list = [&](std::size_t k) {
      const Dims axes = dims_argument(py::object(both[k]).ptr(), op(), name(i));
      return std::vector<std::int64_t>(axes.begin(), axes.end());
    };
    return {list(0), list(1)};
  }
  DType dtype(int i) const override { return dtype_from_python(object(i), op()); }
  std::string text(int i) const override {
    if (!PyUnicode_Check(object(i)))
      raise(ErrorKind::type, op(),
            std::string(name(i)) + " must be a str, not " + type_name(object(i)));
    return text_of(object(i));
  }
  bool is_text(int i) const override { return PyUnicode_Check(object(i)); }

 private:
  // A list of numbers, or of tensors that are alike. A tensor and a number are a pair of another
  // library's, as SciPy's factor and whether it is lower.
  Tensor one_of_parts(PyObject* o, int i) const {
    const py::tuple parts = entries_of(o);
    const auto is_number = [](py::handle part) { return weak_kind(part.ptr()).has_value(); };
    const auto has_axes = [](py::handle part) {
      return is_tensor(part.ptr()) && read_node(as_tensor(part.ptr()))->layout.ndim() > 0;
    };
    if (std::ranges::any_of(parts, is_number) && std::ranges::any_of(parts, has_axes))
      raise(ErrorKind::type, op(),
            std::string(name(i)) + " must be one tensor, not a " + type_name(o) +
                " of parts: give each part as the argument that it is, " + op() +
                f_.function.signature);
    return tensor_argument(o, op());
  }
  const char* op() const { return f_.name.c_str(); }
  int at(int i) const { return f_.position[static_cast<std::size_t>(i)]; }
  const char* name(int i) const { return f_.parameter_names[static_cast<std::size_t>(at(i))]; }
  // What was given, or the default.
  PyObject* object(int i) const {
    PyObject* o = arguments_[at(i)];
    return o ? o : f_.defaults[static_cast<std::size_t>(at(i))].ptr();
  }
  // Numbers take the dtype of the tensors beside them, alone and in lists.
  void promote() {
    Operands operands(op());
    std::vector<int> positions;
    bool any_list = false;
    for (std::size_t i = 0; i < f_.position.size(); ++i) {
      const int k = static_cast<int>(i);
      if (k < f_.function.conditions || !given(k)) continue;
      any_list |= type_of(i) == ParameterType::tensors;
      if (type_of(i) != ParameterType::tensor) continue;
      operands.add(object(k), true);
      positions.push_back(k);
    }
    if (any_list) return promote_lists();
    operands.finish();
    promoted_.resize(f_.position.size());
    for (std::size_t i = 0; i < positions.size(); ++i)
      promoted_[static_cast<std::size_t>(positions[i])] = Tensor::share(operands.nodes()[i]);
  }
  // The same of any number of parts: each meets one that stands for all others.
  void promote_lists() {
    struct Part {
      py::object given;
      Tensor* to;
    };
    std::vector<Part> parts;
    promoted_.resize(f_.position.size());
    lists_.resize(f_.position.size());
    for (std::size_t i = static_cast<std::size_t>(f_.function.conditions); i < f_.position.size();
         ++i) {
      PyObject* const o = object(static_cast<int>(i));
      if (type_of(i) == ParameterType::tensor && given(static_cast<int>(i)))
        parts.push_back({borrow(o), &promoted_[i]});
      if (type_of(i) != ParameterType::tensors || (!PyList_Check(o) && !PyTuple_Check(o))) continue;
      const py::tuple entries = entries_of(o);
      lists_[i].resize(entries.size());
      for (std::size_t k = 0; k < entries.size(); ++k)
        parts.push_back({py::object(entries[k]), &lists_[i][k]});
    }
    std::optional<DType> strong;
    py::object widest;  // of numbers alone
    for (Part& part : parts) {
      const auto kind = weak_kind(part.given.ptr());
      if (kind) {
        if (!widest || *kind > *weak_kind(widest.ptr())) widest = part.given;
        continue;
      }
      if (is_traced_number(part.given.ptr())) continue;
      *part.to = tensor_argument(part.given.ptr(), op());
      strong = strong ? adjoint::promote(*strong, part.to->dtype()) : part.to->dtype();
    }
    const py::object beside = strong ? wrapped(Tensor::scalar(0.0, *strong)) : widest;
    for (const Part& part : parts) {
      if (part.to->defined()) continue;
      Operands operands(op());
      operands.add(part.given.ptr(), true);
      if (beside) operands.add(beside.ptr(), true);
      operands.finish();
      *part.to = Tensor::share(operands.nodes()[0]);
    }
  }
  ParameterType type_of(std::size_t i) const { return f_.function.entry.types[i].type; }

  const Callable& f_;
  const Arguments& arguments_;
  std::vector<Tensor> promoted_;
  std::vector<std::vector<Tensor>> lists_;
};

py::object several(const Callable& f, std::vector<Tensor> results) {
  py::list parts;
  for (Tensor& t : results) parts.append(wrapped(std::move(t)));
  switch (f.function.results) {
    case Results::fields: return f.fields(*parts);
    case Results::tuple: return py::tuple(parts);
    case Results::one_or_tuple: return parts.size() == 1 ? parts[0] : py::object(py::tuple(parts));
    default: return parts;
  }
}

PyObject* call_entry(const Callable& f, const Arguments& arguments) {
  if (f.copy >= 0 && arguments.given(f.copy)) arguments.flag(f.copy, true);
  const Reader reader(f, arguments);
  if (!f.function.entry.one) return several(f, f.function.entry.several(reader)).release().ptr();
  Tensor out = f.function.entry.one(reader);
  return wrap(f.makes ? constant_in_trace(std::move(out)) : std::move(out));
}

[[gnu::noinline]] PyObject* call_function(int index, PyObject* const* args, std::size_t nargs,
                                          PyObject* kwnames) noexcept {
  const Callable& f = *g_functions[static_cast<std::size_t>(index)];
  if (f.target) return call_python(f.target.ptr(), args, nargs, kwnames);
  return guarded([&]() -> PyObject* {
    if (const Op* op = f.function.op) {
      if (kwnames && PyTuple_GET_SIZE(kwnames) > 0)
        raise(ErrorKind::type, op->name,
              std::string("takes no keyword arguments: ") + op->name + op->signature);
      return call_elementwise(*op, args, nargs);
    }
    const Arguments::Signature signature{f.name.c_str(),    f.parameter_names, f.required,
                                         f.positional_only, f.positional,      f.device};
    SmallVector<PyObject*, 8> packed;
    py::tuple list;
    if (f.variadic >= 0) {
      const std::size_t lead = std::min(nargs, static_cast<std::size_t>(f.variadic));
      list = py::tuple(nargs - lead);
      for (std::size_t i = lead; i < nargs; ++i) list[i - lead] = borrow(args[i]);
      packed.append(args, lead);
      if (lead == static_cast<std::size_t>(f.variadic)) packed.push_back(list.ptr());
      const std::size_t given = packed.size();
      packed.append(args + nargs,
                    kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : 0);
      args = packed.data();
      nargs = given;
    }
    const Arguments arguments(signature, args, nargs, kwnames);
    return constant_result(f.body ? f.body(arguments) : call_entry(f, arguments));
  });
}

template <int I>
PyObject* function_entry(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return call_function(I, args, static_cast<std::size_t>(nargs), kwnames);
}

// The method of a tensor, which is its function with the tensor before the arguments. Neither is
// put into the hundreds of entries below, in part or whole.
[[gnu::noinline]] PyObject* call_method(int i, PyObject* self, PyObject* const* args,
                                        std::size_t nargs, PyObject* kwnames) noexcept {
  return guarded([&] {
    const std::size_t nkw = kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : 0;
    SmallVector<PyObject*, 8> all;
    all.push_back(self);
    all.append(args, nargs + nkw);
    PyObject* out = call_function(i, all.data(), nargs + 1, kwnames);
    mark_view(out, self);
    return out;
  });
}

template <int I>
PyObject* method_entry(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return call_method(I, self, args, static_cast<std::size_t>(nargs), kwnames);
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

// A default as Python writes it.
py::object default_of(const std::string& text) {
  if (text.empty()) return {};
  if (text == "None") return py::none();
  if (text == "True" || text == "False") return py::bool_(text == "True");
  if (text.front() == '\'') return py::str(text.substr(1, text.size() - 2));
  if (text.find_first_of(".e") != std::string::npos) return py::float_(std::stod(text));
  return py::int_(std::stoll(text));
}

void read_parameters(Callable& f) {
  int at = 0;
  f.makes = f.function.entry.one != nullptr;
  for (const Parameter& p : f.function.parameters) {
    f.parameter_names.push_back(p.name.c_str());
    f.defaults.push_back(default_of(p.fallback));
    f.required += p.fallback.empty();
    if (p.kind == Parameter::Kind::variadic) f.variadic = at;
    f.positional_only +=
        p.kind == Parameter::Kind::positional_only || p.kind == Parameter::Kind::variadic;
    f.positional += p.kind != Parameter::Kind::keyword_only;
    switch (p.type.type) {
      case ParameterType::device: f.device = at; break;
      case ParameterType::copy: f.copy = at; break;
      case ParameterType::tensor:
      case ParameterType::tensors: f.makes = false; [[fallthrough]];
      default: f.position.push_back(at);
    }
    ++at;
  }
  if (at > Arguments::kMax)
    raise(ErrorKind::runtime, f.function.name,
          "has " + std::to_string(at) + " parameters, and a call has room for " +
              std::to_string(Arguments::kMax));
}

std::string method_signature(const std::string& name, std::string_view signature) {
  // The first parameter becomes $self; a "/" right after it goes.
  std::string rest(signature.substr(1));
  rest = rest.substr(rest.find_first_of(",)"));
  if (rest.starts_with(", /")) rest = rest.substr(3);
  return name + "($self" + rest;
}

// A named tuple, as Python's own makes them: it is built like a tuple and pickles by its name.
py::object named_tuple(const Callable& f, const py::module_& home) {
  py::list fields;
  for (const std::string& field : f.function.fields) fields.append(field);
  std::string title = f.name + "Result";
  title.front() = static_cast<char>(std::toupper(title.front()));
  py::object type = py::module_::import("collections").attr("namedtuple")(title, fields);
  type.attr("__module__") = home.attr("__name__");
  type.attr("__qualname__") = "_" + title;
  home.attr(("_" + title).c_str()) = type;
  add_result_type(type);
  // NumPy would make rows of one array of its values.
  type.attr("__array__") =
      py::cpp_function([](const py::object& self, const py::args&,
                          const py::kwargs&) { refuse_result(self.ptr(), "__array__"); },
                       py::name("__array__"), py::is_method(type));
  return type;
}

// The namespace "linalg" of "linalg.qr" is a submodule.
py::module_ home_of(py::module_& m, std::string_view full) {
  const auto dot = full.find('.');
  if (dot == std::string_view::npos) return m;
  const std::string name(full.substr(0, dot));
  const std::string text = "The functions of adjoint." + name + ".";
  return py::hasattr(m, name.c_str()) ? py::module_(m.attr(name.c_str()))
                                      : m.def_submodule(name.c_str(), text.c_str());
}

// Gives a callable a place in the table; built-in functions point into it for the life of the
// process.
std::size_t placed(Callable* f) {
  if (g_function_count == kMaxFunctions)
    raise(ErrorKind::runtime, "bindings", "more functions than entry points");
  g_functions[static_cast<std::size_t>(g_function_count)] = f;
  return static_cast<std::size_t>(g_function_count++);
}

void make_builtin(const py::handle& home, const Callable& f, std::size_t i,
                  const std::string& package) {
  auto* def = new PyMethodDef{
      f.name.c_str(),
      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kFunctionEntries[i])),
      METH_FASTCALL | METH_KEYWORDS, f.doc.c_str()};
  home.attr(f.name.c_str()) = steal(PyCFunction_NewEx(def, home.ptr(), py::str(package).ptr()));
}

void bind(py::module_& m, std::unique_ptr<Callable> owned) {
  Callable* f = owned.release();
  const std::size_t i = placed(f);
  const std::string_view full = f->function.name;
  py::module_ home = home_of(m, full);
  f->name = full.substr(full.find('.') + 1);
  if (f->function.results == Results::fields) f->fields = named_tuple(*f, home);
  std::string_view signature = f->function.signature;
  signature = signature.substr(0, signature.find(" -> "));
  const std::string doc = std::string("\n--\n\n") + f->function.doc;
  f->doc = f->name + std::string(signature) + doc;
  make_builtin(
      home, *f, i,
      full == f->name ? "adjoint" : "adjoint." + std::string(full.substr(0, full.find('.'))));
  if (!f->function.method) return;
  f->method_doc = method_signature(f->name, signature) + doc;
  auto* defs = new PyMethodDef[2]{
      {f->name.c_str(),
       reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kMethodEntries[i])),
       METH_FASTCALL | METH_KEYWORDS, f->method_doc.c_str()},
      {nullptr, nullptr, 0, nullptr}};
  add_methods(defs);
}

}  // namespace

// ---- Arguments ----------------------------------------------------------------------------------

namespace {

bool is_plain_int(PyObject* o) { return PyLong_Check(o) && !PyBool_Check(o); }

/// What to do with positional arguments that are too many: extents one by one are meant as a tuple,
/// others go by name.
std::string advice_on_surplus(const Arguments::Signature& signature, PyObject* const* args,
                              std::size_t nargs) {
  const auto limit = static_cast<std::size_t>(signature.keyword_only);
  for (std::size_t i = 0; i < limit; ++i) {
    const std::string_view name = signature.names[i];
    if (name != "shape" && name != "axes") continue;
    const std::size_t after = signature.required - std::min<std::size_t>(signature.required, i + 1);
    std::string tuple;
    std::size_t k = i;
    for (; k + after < nargs && is_plain_int(args[k]); ++k)
      tuple += (k > i ? ", " : "") + shown_int(args[k]);
    if (k < i + 2) continue;
    return ": pass the " + std::string(name) + " as a tuple: " + signature.op +
           (i > 0 ? "(x, (" : "((") + tuple + ")" + (k < nargs ? ", ...)" : ")");
  }
  std::string names;
  for (std::size_t i = limit; i < signature.names.size(); ++i)
    names += (names.empty() ? "" : ", ") + std::string(signature.names[i]) + "=";
  return names.empty() ? "" : ": the rest goes by name, " + names;
}

/// What a parameter is called here, where NumPy, SciPy or PyTorch have another word for it.
std::string advice_on_name(const Arguments::Signature& signature, std::string_view given) {
  static constexpr std::pair<std::string_view, std::string_view> words[] = {
      {"dim", "axis"},  {"dims", "axis"},        {"dims", "axes"},       {"axes", "axis"},
      {"axis", "axes"}, {"keepdim", "keepdims"}, {"size", "shape"},      {"newshape", "shape"},
      {"a_min", "min"}, {"a_max", "max"},        {"ddof", "correction"}, {"unbiased", "correction"},
      {"p", "ord"},     {"diagonal", "k"},       {"reps", "repetitions"}};
  for (const auto& [word, own] : words)
    if (word == given && std::ranges::find(signature.names, own) != signature.names.end())
      return ": here it is called " + std::string(own) + "=";
  return "";
}

}  // namespace

Arguments::Arguments(const Signature& signature, PyObject* const* args, std::size_t nargs,
                     PyObject* kwnames)
    : signature_(signature) {
  const auto limit = static_cast<std::size_t>(signature.keyword_only);
  if (nargs > limit)
    raise(ErrorKind::type, signature.op,
          "takes " + std::to_string(limit) + " positional argument" + (limit == 1 ? "" : "s") +
              ", got " + std::to_string(nargs) + advice_on_surplus(signature, args, nargs));
  for (std::size_t i = 0; i < nargs; ++i) values_[i] = args[i];
  const Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t k = 0; k < nkw; ++k) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, k);
    std::size_t i = static_cast<std::size_t>(signature.positional_only);
    while (i < signature.names.size() &&
           PyUnicode_CompareWithASCIIString(name, signature.names[i]) != 0)
      ++i;
    if (i == signature.names.size())
      raise(ErrorKind::type, signature.op,
            "has no keyword argument '" + text_of(name) + "'" +
                advice_on_name(signature, text_of(name)));
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

void show_as_builtin(const py::handle& home, const std::string& package, const char* name,
                     const char* doc, py::object target) {
  auto* f = new Callable;
  f->target = std::move(target);
  f->name = name;
  f->doc = doc;
  make_builtin(home, *f, placed(f), package);
}

void add_function(py::module_& m, const char* name, const char* signature, const char* doc,
                  FunctionBody body, bool method) {
  auto f = std::make_unique<Callable>();
  f->function = {.name = name, .signature = signature, .doc = doc, .method = method};
  f->body = body;
  read_names(f->function);
  read_parameters(*f);
  bind(m, std::move(f));
}

namespace {

PyObject* promote_body(const Arguments& a) {
  return Py_NewRef(
      dtype_object(promote(dtype_from_python(a[0], a.op()), dtype_from_python(a[1], a.op()))));
}
PyObject* promote_weak_body(const Arguments& a) {
  const std::optional<WeakKind> kind = weak_kind(a[1]);
  if (!kind) raise(ErrorKind::type, a.op(), "needs a Python bool, int or float");
  return Py_NewRef(dtype_object(promote_weak(dtype_from_python(a[0], a.op()), *kind)));
}

// What the records say of types: the stub and the public header are made from it.
const char* word(ParameterType type) {
  switch (type) {
    case ParameterType::tensor: return "tensor";
    case ParameterType::tensors: return "tensors";
    case ParameterType::axis: return "axis";
    case ParameterType::axes: return "axes";
    case ParameterType::shape: return "shape";
    case ParameterType::pairs: return "pairs";
    case ParameterType::integer: return "integer";
    case ParameterType::diagonal: return "diagonal";
    case ParameterType::integers: return "integers";
    case ParameterType::known: return "known";
    case ParameterType::places: return "places";
    case ParameterType::number: return "number";
    case ParameterType::flag: return "flag";
    case ParameterType::dtype: return "dtype";
    case ParameterType::text: return "text";
    case ParameterType::order: return "order";
    case ParameterType::device: return "device";
    case ParameterType::copy: return "copy";
  }
  return "";
}

// The function outside of namespaces that a record inside of one enters too; empty: there is none.
const char* entered_outside(const FunctionRecord& f) {
  const auto inside = [](const FunctionRecord& g) { return std::strchr(g.name, '.') != nullptr; };
  for (const FunctionRecord* other : all_functions())
    if (inside(f) && !inside(*other) && other->entry.one == f.entry.one &&
        other->entry.several == f.entry.several)
      return other->name;
  return "";
}

PyObject* records_body(const Arguments&) {
  static constexpr const char* results[] = {"one", "list", "tuple", "one or tuple", "fields"};
  py::list out;
  for (const FunctionRecord* f : all_functions()) {
    py::list parameters;
    for (const Parameter& p : f->parameters)
      parameters.append(py::make_tuple(p.name, word(p.type.type), p.type.optional, p.fallback));
    out.append(py::make_tuple(f->name, f->doc, parameters,
                              results[static_cast<std::size_t>(f->results)], entered_outside(*f)));
  }
  return out.release().ptr();
}

}  // namespace

void init_functions(py::module_& m) {
  add_function(m, "_promote", "(a, b, /)", "The dtype two dtypes meet in.", promote_body);
  add_function(m, "_promote_weak", "(a, number, /)", "The dtype that meets a Python number.",
               promote_weak_body);
  add_function(
      m, "_records", "()",
      "Name, documentation, parameters (name, type, optional, default), kind of result, and "
      "the function outside of the namespace that is the same, of each that has a record.",
      records_body);
  for (const FunctionRecord* function : all_functions()) {
    auto f = std::make_unique<Callable>();
    f->function = *function;
    read_parameters(*f);
    bind(m, std::move(f));
  }
  bind_matmul(py::object(m.attr("matmul")).ptr());
}

}  // namespace adjoint::python
