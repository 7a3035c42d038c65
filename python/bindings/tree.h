// Pytrees: nested tuples, lists, dicts, named tuples, None and registered classes whose leaves are
// everything else.
#pragma once

#include <memory>
#include <vector>

#include "pytensor.h"

namespace adjoint::python {

/// The structure of a pytree without its leaves. Immutable.
class TreeDef {
 public:
  enum class Kind : std::uint8_t { leaf, none, tuple, list, dict, named_tuple, custom };
  struct Entry {
    Kind kind;
    std::uint32_t arity;
    py::object type;  // named_tuple, custom
    py::object data;  // dict: list of keys; custom: what its flatten function returned
  };

  /// Appends the leaves of `tree` to `leaves`.
  static TreeDef flatten(py::handle tree, std::vector<py::object>& leaves);
  /// The parts of `tree` at the places of the leaves of this structure.
  void flatten_up_to(py::handle tree, std::vector<py::object>& parts, const char* op) const;
  py::object unflatten(const std::vector<py::object>& leaves) const;

  std::size_t leaf_count() const noexcept { return leaf_count_; }
  bool equals(const TreeDef& other) const;
  py::object to_hash() const;
  std::string text() const;

 private:
  std::vector<Entry> entries_;  // a node before its children
  std::size_t leaf_count_ = 0;
};

/// Of leaves: the first that is the same object, for each.
std::vector<std::uint32_t> first_of_same(const std::vector<py::object>& leaves);

}  // namespace adjoint::python
