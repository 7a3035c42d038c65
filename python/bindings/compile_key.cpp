// Taking calls apart and comparing them. The usual call, tensors and numbers by position, is
// compared with the key of the last call without anything being built.
#include "compile.h"
#include "graph/thread_state.h"

namespace adjoint::python {

namespace {

bool is_array(PyObject* o) {
  return PyObject_CheckBuffer(o) || PyObject_HasAttrString(o, "__array__") == 1;
}

bool is_text(PyObject* o) { return PyUnicode_Check(o) || PyBytes_Check(o); }

bool is_plain_leaf(PyObject* o) {
  return is_exact_tensor(o) || PyFloat_CheckExact(o) || PyLong_CheckExact(o) || PyBool_Check(o) ||
         PyUnicode_CheckExact(o);
}

bool fits_int64(PyObject* o) {
  int overflow = 0;
  PyLong_AsLongLongAndOverflow(o, &overflow);
  return overflow == 0;
}

bool same_value(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  const int equal = PyObject_RichCompareBool(a, b, Py_EQ);
  if (equal < 0) throw_python();
  return equal == 1;
}

PyObject* function_of(PyObject* f) {
  if (PyMethod_Check(f)) f = PyMethod_GET_FUNCTION(f);
  return PyFunction_Check(f) ? f : nullptr;
}

}  // namespace

// ---- Call ---------------------------------------------------------------------------------------

Call::Call(PyObject* const* args, std::size_t nargs, PyObject* kwnames, const Dims& static_argnums)
    : nargs_(nargs), kwnames_(kwnames), recording_(thread_state().recording) {
  const std::size_t total =
      nargs + (kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : 0);
  for (std::size_t i = 0; i < total; ++i) {
    first_.push_back(static_cast<std::uint32_t>(leaves_.size()));
    bool fixed = false;
    for (const std::int64_t s : static_argnums) {
      const std::int64_t at = s < 0 ? s + static_cast<std::int64_t>(nargs) : s;
      fixed |= at == static_cast<std::int64_t>(i) && i < nargs;
    }
    if (fixed) {
      add_fixed(args[i]);
    } else if (is_plain_leaf(args[i])) {
      add_leaf(args[i]);
    } else {
      std::vector<py::object> leaves;
      trees_.emplace_back(i, TreeDef::flatten(args[i], leaves));
      for (py::object& leaf : leaves) {
        held_.push_back(std::move(leaf));
        add_leaf(held_.back().ptr());
      }
    }
  }
}

void Call::add_tensor(PyObject* o, Node* node) {
  special_ |= node->level > 0 || (node->requires_grad && recording_);
  leaves_.push_back({CallLeaf::Kind::tensor, o, node});
}

void Call::add_leaf(PyObject* o) {
  if (is_tensor(o)) {
    add_tensor(o, read_node(as_tensor(o)));
  } else if (PyFloat_CheckExact(o)) {
    leaves_.push_back({CallLeaf::Kind::weak_float, o, nullptr});
  } else if (PyLong_CheckExact(o) && fits_int64(o)) {
    leaves_.push_back({CallLeaf::Kind::weak_int, o, nullptr});
  } else if (!PyBool_Check(o) && !is_text(o) && is_array(o)) {
    made_.push_back(tensor_argument(o, "compile"));
    add_tensor(o, made_.back().node());
  } else {
    add_fixed(o);
  }
}

std::pair<std::size_t, std::size_t> Call::leaves_of(std::size_t argument) const {
  const std::size_t next = argument + 1;
  return {first_[argument], next < first_.size() ? first_[next] : leaves_.size()};
}

std::vector<py::object> Call::rebuild(const std::vector<py::object>& leaves) const {
  std::vector<py::object> out;
  std::size_t tree = 0;
  for (std::size_t i = 0; i < first_.size(); ++i) {
    const auto [begin, end] = leaves_of(i);
    if (tree == trees_.size() || trees_[tree].first != i) {
      out.push_back(leaves[begin]);
      continue;
    }
    const std::vector<py::object> part(leaves.begin() + static_cast<std::ptrdiff_t>(begin),
                                       leaves.begin() + static_cast<std::ptrdiff_t>(end));
    out.push_back(trees_[tree++].second.unflatten(part));
  }
  return out;
}

// ---- CallKey ------------------------------------------------------------------------------------

CallKey::CallKey(const Call& call)
    : trees(call.trees_),
      nargs(call.nargs_),
      kwnames(call.kwnames_ ? borrow(call.kwnames_) : py::object()),
      recording(call.recording_) {
  for (const CallLeaf& leaf : call.leaves_) {
    Leaf own{leaf.kind, DType::float64, false, {}, {}};
    if (leaf.kind == CallLeaf::Kind::tensor) {
      own.dtype = leaf.node->dtype;
      own.requires_grad = leaf.node->requires_grad;
      own.shape = Dims(leaf.node->layout.shape());
    } else if (leaf.kind == CallLeaf::Kind::fixed) {
      own.fixed = borrow(leaf.object);
      if (PyObject_Hash(leaf.object) == -1) {
        PyErr_Clear();
        raise(ErrorKind::type, "compile",
              "an argument of type " + type_name(leaf.object) +
                  " is neither a tensor nor hashable: pass a tensor, a number or a pytree of them, "
                  "or register the class with ad.tree.register");
      }
    }
    leaves.push_back(std::move(own));
  }
}

bool CallKey::accepts(const Call& call) const {
  if (nargs != call.nargs_ || recording != call.recording_ ||
      leaves.size() != call.leaves_.size() || trees.size() != call.trees_.size())
    return false;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const Leaf& own = leaves[i];
    const CallLeaf& other = call.leaves_[i];
    if (own.kind != other.kind) return false;
    if (own.kind == CallLeaf::Kind::tensor) {
      const auto shape = other.node->layout.shape();
      if (own.dtype != other.node->dtype || own.requires_grad != other.node->requires_grad ||
          !std::equal(shape.begin(), shape.end(), own.shape.begin(), own.shape.end()))
        return false;
    } else if (own.kind == CallLeaf::Kind::fixed && !same_value(own.fixed.ptr(), other.object)) {
      return false;
    }
  }
  for (std::size_t i = 0; i < trees.size(); ++i)
    if (trees[i].first != call.trees_[i].first || !trees[i].second.equals(call.trees_[i].second))
      return false;
  if (kwnames.ptr() == call.kwnames_) return true;
  return kwnames && call.kwnames_ && same_value(kwnames.ptr(), call.kwnames_);
}

// ---- Surroundings -------------------------------------------------------------------------------

Surroundings::Surroundings(PyObject* f) {
  f = function_of(f);
  if (!f) return;
  if (PyObject* closure = PyFunction_GetClosure(f)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(closure); ++i) {
      PyObject* cell = PyTuple_GET_ITEM(closure, i);
      PyObject* value = PyCell_GET(cell);
      cells_.push_back({borrow(cell), value ? borrow(value) : py::object()});
    }
  }
  globals_ = borrow(PyFunction_GetGlobals(f));
  const py::object names = borrow(PyFunction_GetCode(f)).attr("co_names");
  for (const py::handle name : names) {
    PyObject* value = PyDict_GetItemWithError(globals_.ptr(), name.ptr());
    if (!value || PyModule_Check(value)) continue;
    names_.push_back({borrow(name.ptr()), borrow(value)});
  }
}

bool Surroundings::unchanged() const noexcept {
  for (const Variable& v : cells_)
    if (PyCell_GET(v.where.ptr()) != v.value.ptr()) return false;
  for (const Variable& v : names_)
    if (PyDict_GetItem(globals_.ptr(), v.where.ptr()) != v.value.ptr()) return false;
  return true;
}

int Surroundings::traverse(visitproc visit, void* arg) const {
  Py_VISIT(globals_.ptr());
  for (const std::vector<Variable>* list : {&cells_, &names_})
    for (const Variable& v : *list) {
      Py_VISIT(v.where.ptr());
      Py_VISIT(v.value.ptr());
    }
  return 0;
}

bool Variant::accepts() const noexcept {
  for (const Place& p : places)
    if (!p.accepts()) return false;
  return around.unchanged();
}

}  // namespace adjoint::python
