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
#include "numbers.h"
#include "pickling.h"
#include "transforms.h"

namespace adjoint::python {

namespace {

struct PyCompiled {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* f;
  CompiledFunction* state;
};
PyTypeObject* g_compiled_type = nullptr;
PyCompiled* as_compiled(PyObject* o) { return reinterpret_cast<PyCompiled*>(o); }

// ---- Calls
// ---------------------------------------------------------------------------------------

// A call that is open, known to the collector.
class OpenCall {
 public:
  explicit OpenCall(PyCompiled* c) : c_(c) {
    if (!c->f)
      raise(ErrorKind::runtime, "compile", "the function is being freed by the garbage collector");
    ++c_->state->open_calls;
  }
  ~OpenCall() { --c_->state->open_calls; }
  OpenCall(const OpenCall&) = delete;
  OpenCall& operator=(const OpenCall&) = delete;

 private:
  PyCompiled* c_;
};

bool is_open(Box kind) {
  return std::ranges::any_of(thread_state().levels,
                             [kind](const Level& level) { return level.kind == kind; });
}

// Each member of a batch draws numbers of its own, and an argument from outside of forward mode
// keeps no tangent of what it is given: what the function itself sees to.
bool needs_function(const Variant& v) {
  return (v.draws && is_open(Box::batch)) || (!v.rebound.empty() && is_open(Box::dual));
}

PyObject* compiled_call(PyObject* self, PyObject* const* args, std::size_t flags,
                        PyObject* kwnames) noexcept {
  const auto nargs = static_cast<std::size_t>(PyVectorcall_NARGS(flags));
  PyCompiled* c = as_compiled(self);
  return guarded([&]() -> PyObject* {
    const OpenCall open(c);
    if (kwnames && PyTuple_GET_SIZE(kwnames) == 0) kwnames = nullptr;
    const auto direct = [&]() -> PyObject* {
      const std::uint64_t since = thread_state().births;
      PyObject* result = call_python(c->f, args, nargs, kwnames);
      return result ? own_handles(steal(result), since).release().ptr() : nullptr;
    };
    check_argnums(*c->state, nargs);
    if (any_trace() || open_watcher()) return direct();
    Call call(args, nargs, kwnames, c->state->static_argnums);
    // A gradient that another thread has changed may ask for another program: there was none yet.
    GradientPriority priority;
    for (;; priority.failed()) {
      const std::shared_ptr<const Variant> variant = c->state->find(c->f, call);
      if (!variant->function || needs_function(*variant)) return direct();
      if (PyObject* result = run_variant(*variant, call)) return result;
    }
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
    for (const auto& v : e->variants) {
      if (const int stop = v->traverse(visit, arg)) return stop;
      if (as_compiled(self)->state->open_calls || v.use_count() != 1) continue;
      if (const int stop = v->traverse_graphs(visit, arg)) return stop;
    }
  }
  for (const StatePlace& p : as_compiled(self)->state->changed) {
    Py_VISIT(p.where.ptr());
    Py_VISIT(p.key.ptr());
  }
  return 0;
}

int compiled_clear(PyObject* self) {
  std::vector<std::shared_ptr<CacheEntry>> dropped;
  std::vector<StatePlace> changed;
  if (as_compiled(self)->state) {
    dropped.swap(as_compiled(self)->state->entries);
    changed.swap(as_compiled(self)->state->changed);
  }
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
    const OpenCall open(c);
    if (any_trace())
      raise(ErrorKind::runtime, "program", "call it outside of other compiled functions");
    check_argnums(*c->state, static_cast<std::size_t>(nargs));
    Call call(args, static_cast<std::size_t>(nargs), kwnames, c->state->static_argnums);
    const std::shared_ptr<const Variant> v = c->state->find(c->f, call);
    if (!v->function)
      raise(ErrorKind::value, "program",
            "for these arguments the function is called itself: a backward pass inside of it goes "
            "on in the history of a tensor from outside (detach it, or compile what makes it too), "
            "or it returns an object that cannot be copied for each call");
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

PyObject* compiled_recipe(PyObject* self, PyObject*) noexcept {
  const PyCompiled* c = as_compiled(self);
  return guarded([&]() -> PyObject* {
    py::dict options;
    options["static_argnums"] = as_tuple(c->state->static_argnums);
    options["donate_argnums"] = as_tuple(c->state->donate_argnums);
    return made_recipe("compile", py::make_tuple(py::handle(c->f)), std::move(options));
  });
}

PyMethodDef compiled_methods[] = {
    ADJOINT_MADE_METHODS(compiled_recipe),
    {"program", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(compiled_program)),
     METH_FASTCALL | METH_KEYWORDS,
     "program($self, /, *args, **kwargs)\n--\n\nThe program for such arguments, traced if need be, "
     "not run."},
    {"cache_info", compiled_cache_info, METH_NOARGS,
     "cache_info($self, /)\n--\n\nHow many calls found a program, how many traced, and the "
     "programs kept."},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef compiled_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(PyCompiled, vectorcall), READONLY, nullptr},
    {"__wrapped__", T_OBJECT, offsetof(PyCompiled, f), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

void make_compiled_type() {
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("A compiled function; made by `compile`.\n\n"
                                    "Examples\n"
                                    "--------\n"
                                    ">>> import adjoint as ad\n"
                                    ">>> double = ad.compile(lambda x: 2 * x)\n"
                                    ">>> double(3.0).item(), isinstance(double, ad.Compiled)\n"
                                    "(6.0, True)")},
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
  read_argnums(*state, f, static_argnums, donate_argnums);
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
  init_numbers(m);
  value_needed_error =
      PyErr_NewException("adjoint._core._ValueNeeded", PyExc_BaseException, nullptr);
  if (!value_needed_error) throw_python();
  m.attr("Compiled") = borrow(reinterpret_cast<PyObject*>(g_compiled_type));
  py::class_<ShownProgram>(m, "Program", py::module_local(),
                           "What a compiled function runs: simplified, fused and planned.\n\n"
                           "Examples\n"
                           "--------\n"
                           ">>> import adjoint as ad\n"
                           ">>> program = ad.compile(lambda x: ad.exp(-x * x)).program(1.0)\n"
                           ">>> program.stats()[\"groups\"], len(program.graph)\n"
                           "(1, 4)")
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
                         "The operations of a program; prints as text.\n\n"
                         "Examples\n"
                         "--------\n"
                         ">>> import adjoint as ad\n"
                         ">>> graph = ad.compile(lambda x: ad.exp(-x * x)).program(1.0).graph\n"
                         ">>> [row[0] for row in graph.rows]\n"
                         "['input', 'negative', 'multiply', 'exp']")
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
        "and floats\n"
        "are inputs, in any pytree; a number whose value `f` needs (as an exponent, an index, in a "
        "branch),\n"
        "everything else, and the arguments `static_argnums` names, is part of the key and must be "
        "hashable.\n"
        "Tensors that `f` captures are read again at every call, and those it rebinds, `.grad` "
        "included, are\n"
        "rebound at every call; so a whole training step can be compiled. What a step that sets "
        "gradients\n"
        "returns has no history.\n\n"
        "A compiled function is a function like any other: recorded, and inside other transforms, "
        "it runs\n"
        "programs too, forwards and backwards. Python code in `f` runs only while tracing, so it "
        "cannot\n"
        "branch on the values of tensors: use `ad.where` or `ad.cond`. Variables, attributes and "
        "entries of\n"
        "containers that `f` can see are noticed when they change.\n\n"
        "Parameters\n"
        "----------\n"
        "f : callable\n"
        "static_argnums : int or tuple of int, optional\n"
        "    Arguments that are part of the key.\n"
        "donate_argnums : int or tuple of int, optional\n"
        "    Arguments whose memory may be taken for results where nothing else uses it; they "
        "cannot be read\n"
        "    afterwards.\n\n"
        "Returns\n"
        "-------\n"
        "Compiled\n"
        "    Takes the arguments of `f`; ``program(*args)`` shows what a call runs, "
        "``cache_info()`` counts.\n\n"
        "Raises\n"
        "------\n"
        "TypeError\n"
        "    If `f` is no function; at a call if a part of the key is not hashable.\n"
        "ValueError\n"
        "    If a number of an argument is out of range, given twice, or both static and donated.\n"
        "TracedValueError\n"
        "    At a call, if `f` asks a traced tensor for its value.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> norm = ad.compile(lambda x: ad.sqrt(ad.sum(x * x)))\n"
        ">>> norm(ad.tensor([3.0, 4.0])).item()\n"
        "5.0");
}

}  // namespace adjoint::python
