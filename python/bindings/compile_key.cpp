// Taking calls apart and comparing them. The usual call, tensors and numbers by position, is
// compared with the key of the last call without anything being built.
#include <algorithm>
#include <unordered_map>

#include "compile.h"
#include "graph/thread_state.h"
#include "transforms/custom.h"

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

// Integers that doubles hold exactly, so that a program computes with them as Python does.
bool is_small_int(PyObject* o) {
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
  constexpr long long limit = 1ll << 53;
  return overflow == 0 && -limit <= v && v <= limit;
}

// Whether two such objects are equal only if they are one.
bool compares_by_identity(PyObject* o) {
  return Py_TYPE(o)->tp_richcompare == PyBaseObject_Type.tp_richcompare;
}

bool moves(const Node* n) {
  return is_differentiable(n->dtype) && is_differentiated(Tensor::share(const_cast<Node*>(n)));
}

}  // namespace

namespace {

// Whether work is recorded, and whether gradients taken inside are: for a transform that is open
// here, or one or a tape in another thread.
int kind_of_recording() {
  const ThreadState& state = thread_state();
  const bool elsewhere = state.elsewhere_open();
  const bool tapes = elsewhere && g_open_tapes.load(std::memory_order_relaxed) > 0;
  return (state.recording ? 1 : 0) + (state.open_recorders > 0 ? 2 : 0) + (elsewhere ? 4 : 0) +
         (tapes ? 8 : 0);
}

}  // namespace

// ---- Call ---------------------------------------------------------------------------------------

Call::Call(PyObject* const* args, std::size_t nargs, PyObject* kwnames, const Dims& static_argnums)
    : nargs_(nargs), kwnames_(kwnames), recording_(kind_of_recording()) {
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
      runs_code_ = true;  // keys of dicts, data of classes
      for (py::object& leaf : leaves) {
        held_.push_back(std::move(leaf));
        add_leaf(held_.back().ptr());
      }
    }
  }
  find_same();
  if (!runs_code_) return;
  for (CallLeaf& leaf : leaves_)  // what was read before such code ran may be gone
    if (leaf.is_handle()) leaf.node = read_node(as_tensor(leaf.object));
  hold();
}

void Call::hold() {
  if (!kept_.empty()) return;
  kept_.reserve(leaves_.size());
  for (const CallLeaf& leaf : leaves_)
    kept_.push_back(leaf.kind == CallLeaf::Kind::tensor ? Tensor::share(leaf.node) : Tensor());
}

void Call::let_go(std::size_t leaf) noexcept {
  if (!kept_.empty()) kept_[leaf] = Tensor();
  for (Tensor& t : made_)
    if (t.node() == leaves_[leaf].node) t = Tensor();
}

void Call::add_tensor(PyObject* o, Node* node) {
  leaves_.push_back({CallLeaf::Kind::tensor, o, node, 0});
}

void Call::add_fixed(PyObject* o) {
  leaves_.push_back({CallLeaf::Kind::fixed, o, nullptr, 0});
  runs_code_ |= !is_plain_value(o) && !compares_by_identity(o);
}

void Call::add_leaf(PyObject* o) {
  if (is_tensor(o)) {
    add_tensor(o, read_node(as_tensor(o)));
    filter_ |= filter_bit(o);
  } else if (PyFloat_CheckExact(o)) {
    leaves_.push_back({CallLeaf::Kind::weak_float, o, nullptr, 0});
  } else if (PyLong_CheckExact(o) && is_small_int(o)) {
    leaves_.push_back({CallLeaf::Kind::weak_int, o, nullptr, 0});
  } else if (!PyBool_Check(o) && !is_text(o) && is_array(o)) {
    made_.push_back(tensor_argument(o, "compile"));
    add_tensor(o, made_.back().node());
    runs_code_ = true;
  } else {
    add_fixed(o);
  }
}

void Call::find_same() {
  const auto n = static_cast<std::uint32_t>(leaves_.size());
  std::unordered_map<PyObject*, std::uint32_t> seen;
  for (std::uint32_t i = 0; i < n; ++i) {
    leaves_[i].same = i;
    if (!leaves_[i].is_handle()) continue;
    if (n > 16) {
      leaves_[i].same = seen.emplace(leaves_[i].object, i).first->second;
      continue;
    }
    std::uint32_t k = 0;
    while (k < i && (leaves_[k].object != leaves_[i].object)) ++k;
    leaves_[i].same = k;
  }
}

void Call::fix(std::span<const std::uint32_t> leaves) {
  for (const std::uint32_t i : leaves) leaves_[i].kind = CallLeaf::Kind::fixed;
}

std::size_t Call::leaf_of(const void* handle) const noexcept {
  if (!(filter_ & filter_bit(handle))) return leaves_.size();
  for (std::size_t i = 0; i < leaves_.size(); ++i)
    if (leaves_[i].object == handle && leaves_[i].is_handle()) return i;
  return leaves_.size();
}

std::size_t Call::leaf_of_input(std::uint32_t input) const noexcept {
  std::size_t leaf = 0;
  for (std::uint32_t inputs = 0;; ++leaf)
    if (leaves_[leaf].kind != CallLeaf::Kind::fixed && inputs++ == input) return leaf;
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
    Leaf own{leaf.kind};
    own.same = leaf.same;
    if (leaf.kind == CallLeaf::Kind::tensor) {
      own.dtype = leaf.node->dtype;
      own.requires_grad = leaf.node->requires_grad;
      own.moves = moves(leaf.node);
      own.has_leaf = leaf.node->leaf;
      own.shape = Dims(leaf.node->layout.shape());
    } else if (leaf.kind == CallLeaf::Kind::fixed) {
      if (is_tensor(leaf.object))
        raise(ErrorKind::type, "compile",
              "static_argnums names an argument that is a tensor: the value of a static argument "
              "is part of the key; leave the tensor out, or pass a number or a tuple of numbers");
      if (!is_plain_value(leaf.object) && PyObject_Hash(leaf.object) == -1) {
        PyErr_Clear();
        raise(ErrorKind::type, "compile",
              "an argument of type " + type_name(leaf.object) +
                  " is neither a tensor nor hashable: pass a tensor, a number or a pytree of them, "
                  "or register the class with ad.tree.register");
      }
      if (!is_plain_value(leaf.object) && compares_by_identity(leaf.object))
        own.object = Identity(leaf.object);
      else
        own.value = borrow(leaf.object);
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
    if (own.kind != other.kind || own.same != other.same) return false;
    if (own.kind == CallLeaf::Kind::tensor) {
      const Node* n = other.node;
      const auto shape = n->layout.shape();
      if (own.dtype != n->dtype || own.requires_grad != n->requires_grad ||
          own.has_leaf != (n->leaf != nullptr) || own.moves != moves(n) ||
          !std::equal(shape.begin(), shape.end(), own.shape.begin(), own.shape.end()))
        return false;
    } else if (own.kind == CallLeaf::Kind::fixed) {
      if (own.value ? !same_value(own.value.ptr(), other.object) : !own.object.is(other.object))
        return false;
    }
  }
  for (std::size_t i = 0; i < trees.size(); ++i)
    if (trees[i].first != call.trees_[i].first || !trees[i].second.equals(call.trees_[i].second))
      return false;
  if (kwnames.ptr() == call.kwnames_) return true;
  return kwnames && call.kwnames_ && same_value(kwnames.ptr(), call.kwnames_);
}

bool CallKey::is_gone() const noexcept {
  return std::ranges::any_of(leaves, [](const Leaf& leaf) { return leaf.object.is_gone(); });
}

int CallKey::traverse(visitproc visit, void* arg) const {
  for (const Leaf& leaf : leaves) {
    Py_VISIT(leaf.value.ptr());
    Py_VISIT(leaf.object.kept());
  }
  Py_VISIT(kwnames.ptr());
  return 0;
}

// ---- Variant ------------------------------------------------------------------------------------

Cell cell_in(const Place& place, const Call& call) noexcept {
  if (place.argument == Place::kCaptured) return place.cell;
  return gradient_cell(as_tensor(call.leaves()[place.argument].object)->leaf);
}

bool Variant::accepts(const Call& call) const {
  const std::size_t none = call.leaves().size();
  for (const auto& [leaf, handle] : bound)
    if (!handle.is(call.leaves()[leaf].object)) return false;
  for (const Place& p : places) {
    if (p.cell.kind == Cell::Kind::handle && call.leaf_of(p.cell.who) != none) return false;
    if (p.argument != Place::kCaptured && !as_tensor(call.leaves()[p.argument].object)->leaf)
      return false;
    if (!p.accepts(read_cell(cell_in(p, call)))) return false;
  }
  return around.unchanged();
}

int Variant::traverse(visitproc visit, void* arg) const {
  for (const py::object& leaf : leaves) Py_VISIT(leaf.ptr());
  for (const LeftValue& l : left)
    for (const py::object* part : {&l.spot.where, &l.spot.key, &l.spot.owner, &l.value, &l.before})
      Py_VISIT(part->ptr());
  for (const LeftHandle& l : left_handles) Py_VISIT(l.handle.ptr());
  return around.traverse(visit, arg);
}

int Variant::traverse_graphs(visitproc visit, void* arg) const {
  Holdings held;
  for (const Place& p : places) held.add(p.owner.get());
  if (function && function.use_count() == 1) function->list(held);
  for (void* o : held.objects()) Py_VISIT(static_cast<PyObject*>(o));
  return 0;
}

}  // namespace adjoint::python
