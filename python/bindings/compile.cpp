// ad.compile: a callable that traces the function once per kind of call and then runs programs.
//
// What the function captures is not part of the key: every handle cell and gradient it reads is
// read again at every call, and every one it rebinds is written back. A program is used only while
// these places hold what it was traced for.
//
// Inside another trace the function itself is called: its operations are then part of the outer
// program, which is what nesting means.
#include "compile.h"

#include <structmember.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "deferred.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "graph/watcher.h"

namespace adjoint::python {

namespace {

struct PyCompiled {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* f;
  CompiledFunction* state;
};
PyTypeObject* g_compiled_type = nullptr;
PyCompiled* as_compiled(PyObject* o) { return reinterpret_cast<PyCompiled*>(o); }

// ---- Running ------------------------------------------------------------------------------------

// What a call hands to the program; a handle count on each but those that are given up.
class Bound {
 public:
  Bound(const Variant& v, const Call& call) {
    for (const CallLeaf& leaf : call.leaves()) {
      switch (leaf.kind) {
        case CallLeaf::Kind::fixed: break;
        case CallLeaf::Kind::tensor: hold(Tensor::share(leaf.node)); break;
        case CallLeaf::Kind::weak_int:
          nodes_.push_back(scalar_node(leaf.object, DType::int64, "compile"));
          break;
        case CallLeaf::Kind::weak_float:
          nodes_.push_back(scalar_node(leaf.object, DType::float64, "compile"));
          break;
      }
    }
    for (const Place& p : v.places)
      if (!p.null) hold(read_cell(cell_in(p, call)));
    for (const std::uint32_t i : v.donated) {
      if (std::count(nodes_.begin(), nodes_.end(), nodes_[i]) != 1) continue;
      given_.push_back(i);
      release_handle(nodes_[i]);  // the argument's own handle remains
    }
  }
  ~Bound() {
    for (const std::uint32_t i : given_) nodes_[i] = nullptr;
    for (Node* n : nodes_)
      if (n) release_handle(n);
  }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;
  std::span<Node* const> nodes() const { return nodes_; }
  bool gives() const { return !given_.empty(); }

  // Whether the call is more than a run of the program.
  bool is_special(const Variant& v) const {
    const bool records = v.function->records();
    return std::ranges::any_of(
        nodes_, [&](const Node* n) { return n->level || (records && n->requires_grad); });
  }

 private:
  void hold(Tensor value) { nodes_.push_back(value.detach_node()); }
  SmallVector<Node*, 16> nodes_;
  SmallVector<std::uint32_t, 4> given_;
};

// The results of a call, each with one handle count.
class Outputs {
 public:
  Outputs(const Variant& v, const Bound& bound) {
    const GraphFunction& f = *v.function;
    if (!bound.is_special(v)) {
      nodes_.resize(f.graph().outputs().size());
      f.program().execute(bound.nodes(), {nodes_.data(), nodes_.size()});
      return;
    }
    std::vector<Tensor> inputs;
    for (Node* n : bound.nodes()) inputs.push_back(Tensor::share(n));
    for (Tensor& t : f.call(inputs)) nodes_.push_back(t.detach_node());
  }
  ~Outputs() {
    for (Node* n : nodes_)
      if (n) release_handle(n);
  }
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  Tensor operator[](std::size_t i) const { return Tensor::share(nodes_[i]); }

 private:
  SmallVector<Node*, 16> nodes_;
};

struct Write {
  Cell cell;
  Tensor expected;  // of a gradient: what the program has read
  Tensor value;
};

std::vector<Write> writes_of(const Variant& v, const Call& call, const Bound& bound,
                             const Outputs& outputs) {
  std::vector<Write> out;
  for (const auto& [leaf, output] : v.rebound)
    out.push_back({cell_of(as_tensor(call.leaves()[leaf].object)), {}, outputs[output]});
  std::size_t input = v.arguments;
  for (const Place& p : v.places) {
    const std::size_t own = p.null ? 0 : input++;
    if (p.output == Place::kUnchanged) continue;
    out.push_back({cell_in(p, call), p.null ? Tensor() : Tensor::share(bound.nodes()[own]),
                   p.output == Place::kCleared ? Tensor() : outputs[p.output]});
  }
  return out;
}

bool is_plain_gradient(const Write& w) {
  return w.cell.kind == Cell::Kind::gradient && !is_guarded(w.cell);
}

// Nothing is written, and false returned, where another thread has changed a gradient since the
// program read it. With `force`, that is written over.
bool write_back(std::vector<Write> writes, bool force) {
  for (const Write& w : writes) check_write(w.cell, w.value);
  std::vector<GradientChange> gradients;
  for (Write& w : writes)
    if (is_plain_gradient(w))
      gradients.push_back({static_cast<Leaf*>(w.cell.who), w.expected, std::move(w.value)});
  while (!exchange_gradients(gradients)) {
    if (!force) return false;
    load_gradients(gradients);
  }
  for (Write& w : writes)
    if (!is_plain_gradient(w)) write_cell(w.cell, std::move(w.value));
  return true;
}

PyObject* build_result(const Variant& v, const Outputs& outputs) {
  if (v.single) return wrap(outputs[0].detach_node());
  std::vector<py::object> leaves = v.leaves;
  std::size_t next = 0;
  for (py::object& leaf : leaves)
    if (!leaf) leaf = wrapped(outputs[next++]);
  return v.def.unflatten(leaves).release().ptr();
}

bool rebinds(const Variant& v) {
  return !v.rebound.empty() || std::ranges::any_of(v.places, [](const Place& p) {
    return p.output != Place::kUnchanged;
  });
}

PyObject* run_variant(const Variant& v, const Call& call) {
  const bool writes = rebinds(v);
  while (true) {
    std::optional<Bound> bound(std::in_place, v, call);
    const bool gives = bound->gives();
    const Outputs outputs(v, *bound);
    if (!writes) {
      bound.reset();
      return build_result(v, outputs);
    }
    std::vector<Write> changes = writes_of(v, call, *bound, outputs);
    bound.reset();
    if (write_back(std::move(changes), gives)) return build_result(v, outputs);
  }
}

bool in_batch() {
  return std::ranges::any_of(thread_state().levels,
                             [](const Level& level) { return level.kind == Box::batch; });
}

PyObject* compiled_call(PyObject* self, PyObject* const* args, std::size_t flags,
                        PyObject* kwnames) noexcept {
  const auto nargs = static_cast<std::size_t>(PyVectorcall_NARGS(flags));
  PyCompiled* c = as_compiled(self);
  return guarded([&]() -> PyObject* {
    if (kwnames && PyTuple_GET_SIZE(kwnames) == 0) kwnames = nullptr;
    const auto direct = [&] { return PyObject_Vectorcall(c->f, args, nargs, kwnames); };
    if (any_trace() || open_watcher()) return direct();
    Call call(args, nargs, kwnames, c->state->static_argnums);
    const std::shared_ptr<const Variant> variant = c->state->find(c->f, call);
    // Each member of a batch draws numbers of its own, which the function itself sees to.
    const bool direct_draws = variant->draws && in_batch();
    return variant->function && !direct_draws ? run_variant(*variant, call) : direct();
  });
}

// ---- The type -----------------------------------------------------------------------------------

void compiled_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_CLEAR(as_compiled(self)->f);
  delete as_compiled(self)->state;
  type->tp_free(self);
  Py_DECREF(type);
}

int compiled_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_compiled(self)->f);
  if (!as_compiled(self)->state) return 0;
  for (const auto& e : as_compiled(self)->state->entries) {
    if (const int stop = e->key.traverse(visit, arg)) return stop;
    for (const auto& v : e->variants)
      if (const int stop = v->traverse(visit, arg)) return stop;
  }
  return 0;
}

int compiled_clear(PyObject* self) {
  if (as_compiled(self)->state) as_compiled(self)->state->entries.clear();
  Py_CLEAR(as_compiled(self)->f);
  return 0;
}

PyObject* compiled_repr(PyObject* self) {
  return PyUnicode_FromFormat("<compile of %R>", as_compiled(self)->f);
}

PyObject* compiled_bind(PyObject* self, PyObject* object, PyObject*) {
  if (!object || object == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, object);
}

// Names and documentation are those of the function.
PyObject* compiled_getattr(PyObject* self, PyObject* name_object) {
  const char* text = PyUnicode_AsUTF8(name_object);
  if (!text) return nullptr;
  for (const char* forwarded : {"__doc__", "__name__", "__qualname__", "__module__"})
    if (std::strcmp(text, forwarded) == 0)
      return PyObject_GetAttr(as_compiled(self)->f, name_object);
  return PyObject_GenericGetAttr(self, name_object);
}

// The program as Python sees it: no way to run it, but to read it.
struct ShownProgram {
  std::shared_ptr<const GraphFunction> function;
  const CompiledProgram& program() const { return function->program(); }
};

PyObject* compiled_program(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                           PyObject* kwnames) noexcept {
  PyCompiled* c = as_compiled(self);
  return guarded([&]() -> PyObject* {
    if (any_trace())
      raise(ErrorKind::runtime, "program", "call it outside of other compiled functions");
    Call call(args, static_cast<std::size_t>(nargs), kwnames, c->state->static_argnums);
    const std::shared_ptr<const Variant> v = c->state->find(c->f, call);
    if (!v->function)
      raise(ErrorKind::value, "program",
            "for these arguments the function is called itself: a backward pass inside of it goes "
            "on in the history of a tensor from outside; detach it, or compile what makes it too");
    return py::cast(ShownProgram{v->function}).release().ptr();
  });
}

PyObject* compiled_cache_info(PyObject* self, PyObject*) noexcept {
  const CompiledFunction& c = *as_compiled(self)->state;
  return guarded([&]() -> PyObject* {
    std::size_t programs = 0;
    for (const auto& e : c.entries) programs += e->variants.size();
    py::dict info;
    info["hits"] = c.hits;
    info["misses"] = c.misses;
    info["programs"] = programs;
    return info.release().ptr();
  });
}

PyMethodDef compiled_methods[] = {
    {"program", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(compiled_program)),
     METH_FASTCALL | METH_KEYWORDS,
     "program(*args, **kwargs)\n\nThe program for such arguments, traced if need be, not run."},
    {"cache_info", compiled_cache_info, METH_NOARGS,
     "cache_info($self, /)\n--\n\nHow many calls found a program, how many traced, and the "
     "programs kept."},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef compiled_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(PyCompiled, vectorcall), READONLY, nullptr},
    {"__wrapped__", T_OBJECT, offsetof(PyCompiled, f), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

void make_compiled_type() {
  PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>("A compiled function; made by `compile`.")},
                         {Py_tp_dealloc, reinterpret_cast<void*>(compiled_dealloc)},
                         {Py_tp_traverse, reinterpret_cast<void*>(compiled_traverse)},
                         {Py_tp_clear, reinterpret_cast<void*>(compiled_clear)},
                         {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                         {Py_tp_methods, compiled_methods},
                         {Py_tp_members, compiled_members},
                         {Py_tp_repr, reinterpret_cast<void*>(compiled_repr)},
                         {Py_tp_descr_get, reinterpret_cast<void*>(compiled_bind)},
                         {Py_tp_getattro, reinterpret_cast<void*>(compiled_getattr)},
                         {0, nullptr}};
  PyType_Spec spec = {"adjoint._core.Compiled", sizeof(PyCompiled), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                          Py_TPFLAGS_DISALLOW_INSTANTIATION,
                      slots};
  g_compiled_type = reinterpret_cast<PyTypeObject*>(steal(PyType_FromSpec(&spec)).release().ptr());
}

py::object make_compiled(py::object f, const py::object& static_argnums,
                         const py::object& donate_argnums) {
  if (!PyCallable_Check(f.ptr()))
    raise(ErrorKind::type, "compile",
          "needs a function, not a " + type_name(f.ptr()) + ": write ad.compile(f)(x)");
  auto state = std::make_unique<CompiledFunction>();
  state->static_argnums = dims_argument(static_argnums.ptr(), "compile", "static_argnums");
  state->donate_argnums = dims_argument(donate_argnums.ptr(), "compile", "donate_argnums");
  for (const std::int64_t n : state->donate_argnums)
    if (n < 0)
      raise(ErrorKind::value, "compile", "donate_argnums counts positional arguments from 0");
  PyCompiled* c = PyObject_GC_New(PyCompiled, g_compiled_type);
  if (!c) throw_python();
  c->vectorcall = compiled_call;
  c->f = f.release().ptr();
  c->state = state.release();
  PyObject_GC_Track(reinterpret_cast<PyObject*>(c));
  return steal(reinterpret_cast<PyObject*>(c));
}

// The graph of a program as Python sees it.
struct ShownGraph {
  std::shared_ptr<const GraphFunction> function;
  const Graph& graph() const { return function->program().graph(); }
};

// The line of code at a place such as "train.py:12".
std::string code_at(const std::string& place) {
  const std::size_t colon = place.rfind(':');
  const py::object line = py::module_::import("linecache").attr("getline");
  return line(place.substr(0, colon), std::stoi(place.substr(colon + 1)))
      .attr("strip")()
      .cast<std::string>();
}

py::list graph_rows(const ShownGraph& p) {
  const Graph& g = p.graph();
  py::list rows;
  for (Graph::Index i = 0; i < g.size(); ++i) {
    const Graph::Entry& e = g[i];
    py::list inputs;
    for (const Graph::Index in : g.inputs_of(i)) inputs.append(in);
    const char* kind = e.kind == Graph::Kind::input      ? "input"
                       : e.kind == Graph::Kind::constant ? "constant"
                                                         : e.op->name;
    py::list shape;
    for (const std::int64_t n : e.shape) shape.append(n);
    const py::object dtype = e.tuple ? py::none() : borrow(dtype_object(e.dtype));
    rows.append(
        py::make_tuple(kind, py::tuple(inputs), dtype, py::tuple(shape), g.sources()[e.source]));
  }
  return rows;
}

py::dict stats_of(const ShownProgram& p) {
  const ProgramStats s = p.program().stats();
  py::dict d;
  d["nodes"] = s.nodes;
  d["groups"] = s.groups;
  d["instructions"] = s.instructions;
  d["bytes_moved"] = s.bytes_moved;
  d["bytes_planned"] = s.bytes_planned;
  return d;
}

}  // namespace

void init_compile(py::module_& m) {
  make_compiled_type();
  value_needed_error =
      PyErr_NewException("adjoint._core._ValueNeeded", PyExc_BaseException, nullptr);
  if (!value_needed_error) throw_python();
  m.attr("Compiled") = borrow(reinterpret_cast<PyObject*>(g_compiled_type));
  py::class_<ShownProgram>(m, "Program", py::module_local(),
                           "What a compiled function runs: simplified, fused and planned.")
      .def_property_readonly(
          "graph", [](const ShownProgram& p) { return ShownGraph{p.function}; },
          "The operations, in order: prints as text, under the lines of code that applied them.")
      .def_property_readonly(
          "groups", [](const ShownProgram& p) { return Explanation{explain(p.program().graph())}; },
          "What is fused into what, and why groups end; as `explain` gives it for deferred work.")
      .def("stats", &stats_of,
           "Numbers of `nodes`, of fused `groups`, and of `instructions`, where a group counts as "
           "one; bytes that a run reads and writes (`bytes_moved`), and the size of the one block "
           "of memory for what passes between instructions (`bytes_planned`).")
      .def("__repr__", [](const ShownProgram& p) { return p.program().graph().text(code_at); });
  py::class_<ShownGraph>(m, "Graph", py::module_local(),
                         "The operations of a program; prints as text.")
      .def_property_readonly("rows", &graph_rows,
                             "One row per node: (operation, numbers of its inputs, dtype, shape, "
                             "place in the code as in \"train.py:12\").")
      .def("__len__", [](const ShownGraph& p) { return p.graph().size(); })
      .def("__repr__", [](const ShownGraph& p) { return p.graph().text(code_at); });
  m.def("compile", &make_compiled, py::arg("f"), py::kw_only(),
        py::arg("static_argnums") = py::tuple(), py::arg("donate_argnums") = py::tuple(),
        "Return `f` as a function that is traced once per kind of call and then runs as one "
        "program.\n\n"
        "The results have the bits that `f` itself gives. Tensors, arrays and exact Python ints "
        "and floats are inputs, in any pytree; a number whose value `f` needs (as an exponent, an "
        "index, in a branch), everything else, and the arguments `static_argnums` "
        "names, is part of the key and must be hashable. Tensors that `f` captures are read again "
        "at every call, and those it rebinds, `.grad` included, are rebound at every call; so a "
        "whole training step can be compiled. What a step that sets gradients returns has no "
        "history.\n\n"
        "A compiled function is a function like any other: recorded, and inside other transforms, "
        "it runs programs too, forwards and backwards. Python code in `f` runs only while tracing, "
        "so it cannot branch on the values of tensors: use `ad.where` or `ad.cond`. Variables, "
        "attributes and entries of containers that `f` can see are noticed when they change.\n\n"
        "The memory of the tensors among the arguments `donate_argnums` may be taken for results "
        "where nothing else uses it; they cannot be read afterwards.\n\n"
        "Examples\n--------\n"
        ">>> import adjoint as ad\n"
        ">>> norm = ad.compile(lambda x: ad.sqrt(ad.sum(x * x)))\n"
        ">>> norm(ad.tensor([3.0, 4.0])).item()\n5.0");
}

}  // namespace adjoint::python
