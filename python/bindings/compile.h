// What a compiled function remembers: by which arguments it is called, and the programs made for
// each kind of call.
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "compile/program.h"
#include "compile/trace.h"
#include "convert.h"
#include "tree.h"

namespace adjoint::python {

/// One leaf of the arguments of a call, borrowed.
struct CallLeaf {
  enum class Kind : std::uint8_t { tensor, weak_int, weak_float, fixed };
  Kind kind;
  PyObject* object;  // fixed: the value is part of the key
  Node* node;        // tensor
};

/// The arguments of one call, taken apart.
class Call {
 public:
  Call(PyObject* const* args, std::size_t nargs, PyObject* kwnames, const Dims& static_argnums);

  /// Whether some argument belongs to a transform, or would have to be recorded.
  bool special() const noexcept { return special_; }
  std::span<const CallLeaf> leaves() const noexcept { return leaves_; }
  /// The leaves of one argument: [first, second).
  std::pair<std::size_t, std::size_t> leaves_of(std::size_t argument) const;
  /// The arguments with other leaves.
  std::vector<py::object> rebuild(const std::vector<py::object>& leaves) const;
  std::size_t positional() const noexcept { return nargs_; }
  PyObject* kwnames() const noexcept { return kwnames_; }

 private:
  friend struct CallKey;
  void add_leaf(PyObject* o);
  void add_fixed(PyObject* o) { leaves_.push_back({CallLeaf::Kind::fixed, o, nullptr}); }
  void add_tensor(PyObject* o, Node* node);

  SmallVector<CallLeaf, 8> leaves_;
  std::size_t nargs_;
  PyObject* kwnames_;                                   // borrowed, or null
  std::vector<std::pair<std::size_t, TreeDef>> trees_;  // arguments that are no leaves
  SmallVector<std::uint32_t, 8> first_;                 // leaf of each argument
  std::vector<py::object> held_;                        // leaves of trees
  std::vector<Tensor> made_;                            // of arrays
  bool special_ = false;
  bool recording_;
};

/// What two calls must share to run the same program.
struct CallKey {
  struct Leaf {
    CallLeaf::Kind kind;
    DType dtype;
    bool requires_grad;
    Dims shape;
    py::object fixed;
  };
  explicit CallKey(const Call& call);
  bool accepts(const Call& call) const;

  std::vector<Leaf> leaves;
  std::vector<std::pair<std::size_t, TreeDef>> trees;
  std::size_t nargs;
  py::object kwnames;
  bool recording;
};

/// The variables around a Python function, by identity: a global or a closure's variable that is
/// rebound to another object leads to a new trace.
class Surroundings {
 public:
  Surroundings() = default;
  explicit Surroundings(PyObject* f);
  bool unchanged() const noexcept;
  int traverse(visitproc visit, void* arg) const;

 private:
  struct Variable {
    py::object where;  // a cell, or the name of a global
    py::object value;  // null when unset
  };
  py::object globals_;
  std::vector<Variable> cells_;
  std::vector<Variable> names_;
};

/// One program for a key; several differ in what they captured.
struct Variant {
  std::shared_ptr<const CompiledProgram> program;  // null: the function itself is called
  Surroundings around;
  std::vector<Place> places;
  std::vector<std::uint32_t> donated;  // inputs
  bool single = false;                 // one tensor, no structure
  TreeDef def;                         // of what the function returned
  std::vector<py::object> leaves;      // null for tensors

  bool accepts() const noexcept;
};

}  // namespace adjoint::python
