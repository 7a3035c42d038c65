// Reading and rebinding the cell of a handle, and the ways a value may leave for the host.
#include "convert.h"
#include "graph/apply.h"
#include "graph/holdings.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "pytensor.h"
#include "transforms/levels.h"

namespace adjoint::python {

namespace {

// What a scope holds to keep a cell alive: the Python object. Let go of on any thread.
class CellOwner final : public Payload {
 public:
  explicit CellOwner(PyObject* o) : object_(Py_NewRef(o)) {}
  ~CellOwner() override {
    if (!Py_IsInitialized()) return;
    const HostLockScope lock;
    Py_DECREF(object_);
  }
  void list(Holdings& out) const override { out.add_object(object_); }

 private:
  PyObject* object_;
};

struct AccessList {
  PyObject* dict;  // id -> Variable, owned
  AccessList* outer;
};
ADJOINT_THREAD_LOCAL AccessList* t_access = nullptr;

}  // namespace

ReverseScope::ReverseScope() {
  ++t_open_reverse;
  if (thread_state().open_recorders == 1 && !thread_state().assigned) assigned_.emplace();
}

namespace {

IntrusivePtr<const Payload> keep_handle(void* who) {
  return IntrusivePtr<const Payload>(new CellOwner(static_cast<PyObject*>(who)));
}

}  // namespace

Cell cell_of(PyTensor* t) noexcept {
  return {Cell::Kind::handle, &t->node, t->birth, t->leaf, t, keep_handle};
}

// Whatever scope gave it keeps it: a trace in its map, the others leave it in the cell.
Node* read_guarded(PyTensor* t) { return read_cell(cell_of(t)).node(); }

void note_access(PyTensor* t) {
  if (!t_access || !t->leaf) return;
  PyObject* self = reinterpret_cast<PyObject*>(t);
  py::object key = steal(PyLong_FromVoidPtr(self));
  for (AccessList* list = t_access; list; list = list->outer)
    if (PyDict_SetItem(list->dict, key.ptr(), self) < 0) throw_python();
}

void push_access_list(PyObject* dict) { t_access = new AccessList{Py_NewRef(dict), t_access}; }

void pop_access_list() noexcept {
  if (!t_access) return;
  AccessList* top = t_access;
  t_access = top->outer;
  Py_DECREF(top->dict);
  delete top;
}

Tensor handle_of(PyTensor* t) {
  Node* node = read_node(t);
  retain_handle(node);
  if (t->leaf) retain_owner(t->leaf);
  return Tensor::adopt(node, t->leaf);
}

namespace {

// `g = w.grad; g *= 0.5` changes the gradient, as long as it is the one that was got.
void write_gradient(const PyTensor* t, const Tensor& fresh) {
  Leaf* leaf = t->gradient_of;
  if (leaf->owners.load(std::memory_order_relaxed) == 0) return;
  const Cell cell = gradient_cell(leaf);
  const Tensor now = read_cell(cell);
  const auto same = [&] {
    const Node* a = now.node();
    return a && (a == t->node ||
                 (a->level && a->box == Box::trace && t->node->box == Box::trace &&
                  a->trace_index == t->node->trace_index && a->box_serial == t->node->box_serial));
  };
  if (same()) write_cell(cell, fresh);
}

}  // namespace

void rebind_cell(PyTensor* t, Node* node) {
  Tensor fresh = Tensor::adopt(node);
  if (t->gradient_of) write_gradient(t, fresh);
  const ThreadState& state = thread_state();
  if ((!state.recording || state.constant) && (node->requires_grad || node->level)) {
    fresh = constant_part(fresh);
    node = fresh.node();
  }
  if (!is_direct(t)) return write_cell(cell_of(t), std::move(fresh));
  note_assigned(cell_of(t));
  fresh = kept_value(t->leaf, std::move(fresh), t->node);
  Node* old = std::exchange(t->node, fresh.detach_node());
  release_handle(old);
}

namespace {

// Whether a derivative may lead through the value.
bool has_derivative(const Node* n) {
  const auto& levels = thread_state().levels;
  for (;; n = n->boxed.primal) {
    if (n->requires_grad || (n->box == Box::dual && n->boxed.tangent)) return true;
    if (n->box == Box::trace)
      return n->level <= levels.size() && levels[n->level - 1u].trace &&
             levels[n->level - 1u].trace->moves(n);
    if (!n->level) return false;
  }
}

}  // namespace

Tensor constant_here(Tensor value) {
  const ThreadState& state = thread_state();
  const bool free = state.recording && !state.constant;
  return free || (!value.node()->level && !value.node()->requires_grad) ? value
                                                                        : constant_part(value);
}

PyObject* constant_result(PyObject* result) {
  const ThreadState& state = thread_state();
  if (!result || (state.recording && !state.constant) || !is_exact_tensor(result)) return result;
  PyTensor* t = as_tensor(result);
  if (t->leaf) return result;
  // It may be an operand itself, whose value is what its cell holds here.
  const Tensor value = Tensor::share(read_node(t));
  if (!value.node()->level && !value.node()->requires_grad) return result;
  if (value.node() != t->node && !has_derivative(value.node()) && !has_derivative(t->node))
    return result;
  Tensor constant = constant_part(value);
  if (constant.node() == t->node) return result;
  const py::object given = steal(result);
  return wrap(constant.detach_node());
}

void refuse_rebind_of_leaf(const PyTensor* t, const char* what) {
  if (!t->leaf || !t->leaf->requires_grad || !thread_state().recording) return;
  std::string written;
  if (std::string sign = what; sign.ends_with('=')) {
    sign.pop_back();
    written = "write a = a " + sign + " b for a " + what + " b, ";
  }
  raise(ErrorKind::runtime, what,
        "would replace the value of a tensor that requires grad while operations are recorded: " +
            written +
            "do it inside `with ad.no_grad():`, use assign on a Variable, or work on x.detach()");
}

void refuse_implicit_exit(Node* node, const char* what) {
  if (traced_weak_kind(node)) need_value(node);
  if (node->level == 0 && !(t_open_reverse > 0 && node->requires_grad)) return;
  known_value(node, what);  // says so where there is none, in compile and vmap
  throw TracedValue("[" + std::string(what) +
                    "] would take a value out of the function being transformed, and its "
                    "derivative would be lost: use ad.* functions, or say so by x.item(), "
                    "x.numpy() or x.detach()");
}

void refuse_conversion(Node* node, const char* what) {
  refuse_implicit_exit(node, what);
  if (node->requires_grad && thread_state().recording)
    raise(ErrorKind::type, what,
          "would make a plain array of a tensor that requires grad, and its derivative would be "
          "lost: use the function of `ad`, or say so by x.detach(), by x.numpy(), or inside "
          "`with ad.no_grad():`");
}

Tensor host_value(Node* node, const char* what) { return known_value(node, what); }

PyObject* element_to_python(Node* node) {
  const void* p = node->data();
  switch (node->dtype) {
    case DType::boolean: return PyBool_FromLong(*static_cast<const std::uint8_t*>(p) != 0);
    case DType::int8: return PyLong_FromLong(*static_cast<const std::int8_t*>(p));
    case DType::int16: return PyLong_FromLong(*static_cast<const std::int16_t*>(p));
    case DType::int32: return PyLong_FromLong(*static_cast<const std::int32_t*>(p));
    case DType::int64: return PyLong_FromLongLong(*static_cast<const std::int64_t*>(p));
    case DType::uint8: return PyLong_FromLong(*static_cast<const std::uint8_t*>(p));
    case DType::uint16: return PyLong_FromLong(*static_cast<const std::uint16_t*>(p));
    case DType::uint32: return PyLong_FromUnsignedLong(*static_cast<const std::uint32_t*>(p));
    case DType::uint64: return PyLong_FromUnsignedLongLong(*static_cast<const std::uint64_t*>(p));
    case DType::float32: return PyFloat_FromDouble(*static_cast<const float*>(p));
    case DType::float64: return PyFloat_FromDouble(*static_cast<const double*>(p));
  }
  return nullptr;
}

}  // namespace adjoint::python
