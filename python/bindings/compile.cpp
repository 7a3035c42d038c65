// ad.compile: a callable that traces the function once per kind of call and then runs programs.
//
// What the function captures is not part of the key: every handle cell and gradient it reads is
// read again at every call, and every one it rebinds is written back. A program is used only while
// these places hold what it was traced for.
//
// Inside another transform, and for an argument whose use has to be recorded, the function itself
// is called: its operations are then part of the outer work, which is what nesting means.
#include "compile.h"

#include <structmember.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "deferred.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "graph/watcher.h"
#include "source_lines.h"

namespace adjoint::python {

namespace {

constexpr std::size_t kMaxKeys = 64;
constexpr std::size_t kMaxVariants = 8;  // of one key

struct Entry {
  CallKey key;
  std::list<std::shared_ptr<Variant>> variants;  // the latest used first
};

struct CompiledFunction {
  Dims static_argnums;
  Dims donate_argnums;
  std::list<Entry> entries;  // the latest used first
  std::size_t hits = 0;
  std::size_t misses = 0;
};

struct PyCompiled {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* f;
  CompiledFunction* state;
};
PyTypeObject* g_compiled_type = nullptr;
PyCompiled* as_compiled(PyObject* o) { return reinterpret_cast<PyCompiled*>(o); }

// Traced cells are visible to every thread of the interpreter, so one trace runs at a time.
std::recursive_mutex g_trace_mutex;
class TraceLock {
 public:
  TraceLock() {
    if (g_trace_mutex.try_lock()) return;
    const WithoutHostLock unlocked;
    g_trace_mutex.lock();
  }
  ~TraceLock() { g_trace_mutex.unlock(); }
  TraceLock(const TraceLock&) = delete;
  TraceLock& operator=(const TraceLock&) = delete;
};

// ---- Tracing ------------------------------------------------------------------------------------

Tensor traced_leaf(Trace& trace, const CallLeaf& leaf) {
  switch (leaf.kind) {
    case CallLeaf::Kind::weak_int: return trace.argument(DType::int64, {}, WeakKind::integer);
    case CallLeaf::Kind::weak_float: return trace.argument(DType::float64, {}, WeakKind::floating);
    default: return trace.argument(leaf.node->dtype, leaf.node->layout.shape());
  }
}

// What the function returned: tensors become outputs, everything else is part of the program.
std::vector<Tensor> take_results(py::object result, Variant& variant) {
  std::vector<py::object> leaves;
  variant.def = TreeDef::flatten(result, leaves);
  variant.single = is_tensor(result.ptr());
  std::vector<Tensor> tensors;
  for (py::object& leaf : leaves) {
    if (is_tensor(leaf.ptr())) {
      tensors.push_back(Tensor::share(read_node(as_tensor(leaf.ptr()))));
      variant.leaves.emplace_back();
    } else {
      variant.leaves.push_back(std::move(leaf));
    }
  }
  return tensors;
}

// The inputs of the program whose memory the caller gives up.
std::vector<std::uint32_t> donated_inputs(const CompiledFunction& c, const Call& call) {
  std::vector<std::uint32_t> out;
  for (const std::int64_t argument : c.donate_argnums) {
    if (argument >= static_cast<std::int64_t>(call.positional())) continue;
    const auto [begin, end] = call.leaves_of(static_cast<std::size_t>(argument));
    for (std::size_t leaf = begin; leaf < end; ++leaf) {
      std::uint32_t input = 0;
      for (std::size_t i = 0; i < leaf; ++i)
        input += call.leaves()[i].kind != CallLeaf::Kind::fixed;
      if (call.leaves()[leaf].kind == CallLeaf::Kind::tensor) out.push_back(input);
    }
  }
  return out;
}

// Whether the function must be called itself after all: its results would have to be recorded.
bool needs_inlining(const Traced& traced, bool recording) {
  return recording && (traced.captures_history || (traced.connected && !traced.steps));
}

std::shared_ptr<Variant> trace_call(const CompiledFunction& c, PyObject* f, const Call& call) {
  auto variant = std::make_shared<Variant>();
  variant->around = Surroundings(f);
  SourceLines lines;
  Trace trace([&lines] { return lines.current(); });
  std::vector<py::object> leaves;
  std::vector<std::pair<PyTensor*, Node*>> handles;
  for (const CallLeaf& leaf : call.leaves()) {
    if (leaf.kind == CallLeaf::Kind::fixed) {
      leaves.push_back(borrow(leaf.object));
      continue;
    }
    leaves.push_back(wrapped(traced_leaf(trace, leaf)));
    PyTensor* handle = as_tensor(leaves.back().ptr());
    handles.emplace_back(handle, handle->node);
  }
  const std::vector<py::object> arguments = call.rebuild(leaves);
  std::vector<PyObject*> args;
  args.reserve(arguments.size());
  for (const py::object& a : arguments) args.push_back(a.ptr());
  py::object result = steal(PyObject_Vectorcall(f, args.data(), call.positional(), call.kwnames()));
  const std::vector<Tensor> tensors = take_results(std::move(result), *variant);
  bool inlined = false;  // also when it rebinds an argument's handle, which is the caller's
  for (const auto& [handle, node] : handles) inlined |= handle->node != node || handle->leaf;
  Traced traced = trace.finish(tensors);
  inlined |= needs_inlining(traced, thread_state().recording);
  variant->places = std::move(traced.places);
  if (inlined) {
    variant->leaves.clear();
  } else {
    variant->donated = donated_inputs(c, call);
    variant->program = std::make_shared<const CompiledProgram>(traced.graph, variant->donated);
  }
  return variant;
}

// ---- Finding ------------------------------------------------------------------------------------

// True when a program is known; it is then the first variant of the first entry.
bool find_known(CompiledFunction& c, const Call& call) {
  for (auto entry = c.entries.begin(); entry != c.entries.end(); ++entry) {
    if (!entry->key.accepts(call)) continue;
    if (entry != c.entries.begin()) c.entries.splice(c.entries.begin(), c.entries, entry);
    auto& variants = c.entries.front().variants;
    for (auto v = variants.begin(); v != variants.end(); ++v) {
      if (!(*v)->accepts()) continue;
      if (v != variants.begin()) variants.splice(variants.begin(), variants, v);
      return true;
    }
    return false;
  }
  return false;
}

std::shared_ptr<Variant> find_variant(CompiledFunction& c, PyObject* f, const Call& call) {
  if (find_known(c, call)) {
    ++c.hits;
    return c.entries.front().variants.front();
  }
  const TraceLock lock;
  if (find_known(c, call)) return c.entries.front().variants.front();  // another thread was faster
  ++c.misses;
  CallKey key(call);  // refuses what cannot be part of a key, before anything is run
  std::shared_ptr<Variant> fresh = trace_call(c, f, call);
  auto entry = c.entries.begin();
  while (entry != c.entries.end() && !entry->key.accepts(call)) ++entry;
  if (entry == c.entries.end()) {
    c.entries.push_front({std::move(key), {}});
    entry = c.entries.begin();
    if (c.entries.size() > kMaxKeys) c.entries.pop_back();
  }
  entry->variants.push_front(fresh);
  if (entry->variants.size() > kMaxVariants) entry->variants.pop_back();
  return fresh;
}

// ---- Running ------------------------------------------------------------------------------------

// What a call hands to the program; a handle count on each but those that are given up.
class Bound {
 public:
  Bound(const Variant& v, const Call& call) {
    for (const CallLeaf& leaf : call.leaves()) {
      switch (leaf.kind) {
        case CallLeaf::Kind::fixed: break;
        case CallLeaf::Kind::tensor: hold(leaf.node); break;
        case CallLeaf::Kind::weak_int:
          nodes_.push_back(scalar_node(leaf.object, DType::int64, "compile"));
          break;
        case CallLeaf::Kind::weak_float:
          nodes_.push_back(scalar_node(leaf.object, DType::float64, "compile"));
          break;
      }
    }
    for (const Place& p : v.places)
      if (!p.null) hold(*p.at);
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

 private:
  void hold(Node* n) {
    retain_handle(n);
    nodes_.push_back(n);
  }
  SmallVector<Node*, 16> nodes_;
  SmallVector<std::uint32_t, 4> given_;
};

void write_back(const Variant& v, std::span<Node* const> outputs) {
  for (const Place& p : v.places) {
    if (p.output == Place::kUnchanged) continue;
    Node* fresh = nullptr;
    if (p.output != Place::kCleared) {
      fresh = outputs[p.output];
      retain_handle(fresh);
      if (p.leaf) {
        const Tensor value = Tensor::adopt(fresh);
        fresh = alias(value.node(), p.leaf, false);
      }
    }
    if (Node* old = std::exchange(*p.at, fresh)) release_handle(old);
  }
}

PyObject* build_result(const Variant& v, std::span<Node* const> outputs) {
  if (v.single) {
    retain_handle(outputs[0]);
    return wrap(outputs[0]);
  }
  std::vector<py::object> leaves = v.leaves;
  std::size_t next = 0;
  for (py::object& leaf : leaves)
    if (!leaf) leaf = wrapped(Tensor::share(outputs[next++]));
  return v.def.unflatten(leaves).release().ptr();
}

struct Outputs {
  SmallVector<Node*, 16> nodes;
  ~Outputs() {
    for (Node* n : nodes)
      if (n) release_handle(n);
  }
};

PyObject* run_variant(const Variant& v, const Call& call) {
  Outputs outputs;
  outputs.nodes.resize(v.program->graph().outputs().size());
  {
    const Bound bound(v, call);
    v.program->execute(bound.nodes(), {outputs.nodes.data(), outputs.nodes.size()});
  }
  write_back(v, outputs.nodes);
  return build_result(v, outputs.nodes);
}

bool inside_transform() {
  const ThreadState& state = thread_state();
  return !state.levels.empty() || state.open_recorders > 0;
}

PyObject* compiled_call(PyObject* self, PyObject* const* args, std::size_t flags,
                        PyObject* kwnames) noexcept {
  const auto nargs = static_cast<std::size_t>(PyVectorcall_NARGS(flags));
  PyCompiled* c = as_compiled(self);
  return guarded([&]() -> PyObject* {
    if (kwnames && PyTuple_GET_SIZE(kwnames) == 0) kwnames = nullptr;
    const auto direct = [&] { return PyObject_Vectorcall(c->f, args, nargs, kwnames); };
    if (inside_transform() || open_watcher()) return direct();
    const Call call(args, nargs, kwnames, c->state->static_argnums);
    if (call.special()) return direct();
    const std::shared_ptr<Variant> variant = find_variant(*c->state, c->f, call);
    return variant->program ? run_variant(*variant, call) : direct();
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
  for (const Entry& e : as_compiled(self)->state->entries)
    for (const auto& v : e.variants)
      if (const int stop = v->around.traverse(visit, arg)) return stop;
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
  std::shared_ptr<const CompiledProgram> program;
};

PyObject* compiled_program(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                           PyObject* kwnames) noexcept {
  PyCompiled* c = as_compiled(self);
  return guarded([&]() -> PyObject* {
    if (inside_transform())
      raise(ErrorKind::runtime, "program", "call it outside of other transforms");
    const Call call(args, static_cast<std::size_t>(nargs), kwnames, c->state->static_argnums);
    std::shared_ptr<Variant> v;
    if (!call.special()) v = find_variant(*c->state, c->f, call);
    if (!v || !v->program)
      raise(ErrorKind::value, "program",
            "for these arguments the function is called itself, since its results are recorded: "
            "pass detached arguments, or call inside `with ad.no_grad():`");
    return py::cast(ShownProgram{v->program}).release().ptr();
  });
}

PyObject* compiled_cache_info(PyObject* self, PyObject*) noexcept {
  const CompiledFunction& c = *as_compiled(self)->state;
  return guarded([&]() -> PyObject* {
    std::size_t programs = 0;
    for (const Entry& e : c.entries) programs += e.variants.size();
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
  std::shared_ptr<const CompiledProgram> program;
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
  const Graph& g = p.program->graph();
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
    rows.append(py::make_tuple(kind, py::tuple(inputs), borrow(dtype_object(e.dtype)),
                               py::tuple(shape), g.sources()[e.source]));
  }
  return rows;
}

py::dict stats_of(const ShownProgram& p) {
  const ProgramStats s = p.program->stats();
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
  m.attr("Compiled") = borrow(reinterpret_cast<PyObject*>(g_compiled_type));
  py::class_<ShownProgram>(m, "Program", py::module_local(),
                           "What a compiled function runs: simplified, fused and planned.")
      .def_property_readonly(
          "graph", [](const ShownProgram& p) { return ShownGraph{p.program}; },
          "The operations, in order: prints as text, under the lines of code that applied them.")
      .def_property_readonly(
          "groups", [](const ShownProgram& p) { return Explanation{explain(p.program->graph())}; },
          "What is fused into what, and why groups end; as `explain` gives it for deferred work.")
      .def("stats", &stats_of,
           "Numbers of `nodes`, of fused `groups`, and of `instructions`, where a group counts as "
           "one; bytes that a run reads and writes (`bytes_moved`), and the size of the one block "
           "of memory for what passes between instructions (`bytes_planned`).")
      .def("__repr__", [](const ShownProgram& p) { return p.program->graph().text(code_at); });
  py::class_<ShownGraph>(m, "Graph", py::module_local(),
                         "The operations of a program; prints as text.")
      .def_property_readonly("rows", &graph_rows,
                             "One row per node: (operation, numbers of its inputs, dtype, shape, "
                             "place in the code as in \"train.py:12\").")
      .def("__len__", [](const ShownGraph& p) { return p.program->graph().size(); })
      .def("__repr__", [](const ShownGraph& p) { return p.program->graph().text(code_at); });
  m.def("compile", &make_compiled, py::arg("f"), py::kw_only(),
        py::arg("static_argnums") = py::tuple(), py::arg("donate_argnums") = py::tuple(),
        "Return `f` as a function that is traced once per kind of call and then runs as one "
        "program.\n\n"
        "The results have the bits that `f` itself gives. Tensors, arrays and exact Python ints "
        "and floats are inputs, in any pytree; everything else, and the arguments `static_argnums` "
        "names, is part of the key and must be hashable. Tensors that `f` captures are read again "
        "at every call, and those it rebinds, `.grad` included, are rebound at every call; so a "
        "whole training step can be compiled. What a step returns has no history.\n\n"
        "`f` is called itself inside other transforms and `detect_anomaly`, when an argument "
        "requires grad while "
        "operations are recorded, and when its results would have to be recorded because it "
        "captures tensors that require grad. Python code in `f` runs only while tracing, so it "
        "cannot branch on values: use `ad.where`, or make the argument static.\n\n"
        "The memory of the tensors among the arguments `donate_argnums` may be taken for results "
        "where nothing else uses it; they cannot be read afterwards.\n\n"
        "Examples\n--------\n"
        ">>> import adjoint as ad\n"
        ">>> norm = ad.compile(lambda x: ad.sqrt(ad.sum(x * x)))\n"
        ">>> norm(ad.tensor([3.0, 4.0])).item()\n5.0");
}

}  // namespace adjoint::python
