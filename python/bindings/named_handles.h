// The handles that have a name, so that a picture of the graph can say what a node is called: a
// name belongs to a handle, which the node does not know.
#pragma once

#include <unordered_map>

#include "pytensor.h"

namespace adjoint::python {

/// Gives the handle a name, a str or null; takes over the reference.
void set_handle_name(PyTensor* t, PyObject* name) noexcept;

/// What nodes are called by the handles that hold them, or the leaf that they are a value of, now.
/// Of several names it is the one that was given last.
class NamesOfNodes {
 public:
  /// `called` maps further names to tensors, for this time.
  explicit NamesOfNodes(const py::dict& called);
  /// A str or None.
  py::object of(const Node* node) const;

 private:
  void add(const PyTensor* t, const py::object& name);

  std::unordered_map<const void*, py::object> names_;  // by node and by leaf
};

}  // namespace adjoint::python
