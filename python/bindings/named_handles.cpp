// The list of named handles: a name given, copied or dropped changes it, and nothing else does. It
// is guarded by the interpreter's lock.
#include "named_handles.h"

#include <map>
#include <utility>

namespace adjoint::python {

namespace {

struct Named {
  std::map<std::uint64_t, PyTensor*> in_order;  // by when it was named
  std::unordered_map<PyTensor*, std::uint64_t> places;
  std::uint64_t next = 0;
};

Named& named() {
  static auto* const all = new Named;  // handles may outlive the statics
  return *all;
}

}  // namespace

void set_handle_name(PyTensor* t, PyObject* name) noexcept {
  PyObject* const old = std::exchange(t->name, name);
  Named& all = named();
  if (const auto found = all.places.find(t); old && found != all.places.end()) {
    all.in_order.erase(found->second);
    all.places.erase(found);
  }
  if (name) {
    all.places.emplace(t, all.next);
    all.in_order.emplace(all.next++, t);
  }
  Py_XDECREF(old);
}

NamesOfNodes::NamesOfNodes(const py::dict& called) {
  for (const auto& [place, t] : named().in_order) add(t, borrow(t->name));
  for (const auto& [name, tensor] : called)
    if (is_tensor(tensor.ptr())) add(as_tensor(tensor.ptr()), borrow(name.ptr()));
}

void NamesOfNodes::add(const PyTensor* t, const py::object& name) {
  if (t->leaf) names_[t->leaf] = name;
  names_[t->node] = name;
}

py::object NamesOfNodes::of(const Node* node) const {
  if (const auto found = names_.find(node); found != names_.end()) return found->second;
  if (node->leaf)
    if (const auto found = names_.find(node->leaf); found != names_.end()) return found->second;
  return py::none();
}

}  // namespace adjoint::python
