// Python data -> nodes: the rules by which numbers, lists and foreign arrays become tensors.
#pragma once

#include <optional>
#include <span>

#include "adjoint/dtype.h"
#include "pytensor.h"

namespace adjoint::python {

// ---- dtypes -------------------------------------------------------------------------------------

/// The singleton object of a dtype, borrowed.
PyObject* dtype_object(DType t) noexcept;
/// A DType object, its name, a NumPy dtype or scalar type, or the builtin bool, int or float.
DType dtype_from_python(PyObject* o, const char* op);
/// Nothing for None.
std::optional<DType> optional_dtype(PyObject* o, const char* op);

// ---- scalars ------------------------------------------------------------------------------------

/// Exact Python bool, int and float are weak; subclasses (np.float64 is one) are not.
std::optional<WeakKind> weak_kind(PyObject* o) noexcept;
DType default_dtype(WeakKind kind) noexcept;
/// A 0-d node with one handle count. Raises OverflowError when an int does not fit.
Node* scalar_node(PyObject* o, DType dtype, const char* op);

// ---- anything -----------------------------------------------------------------------------------

/// A node with one handle count of an object that offers the buffer protocol or `__array__`; null
/// when it offers neither. `copy` false: the memory is shared, or an error raised; nothing: shared
/// only when it is read-only.
Node* node_from_foreign(PyObject* o, std::optional<bool> copy, const char* op);

/// Numbers, nested sequences of numbers and tensors, foreign arrays, tensors.
Tensor tensor_from_python(PyObject* o, std::optional<DType> dtype, std::optional<bool> copy,
                          const char* op);
/// The same, but what is no tensor keeps its value where a trace is open.
Tensor known_from_python(PyObject* o, std::optional<DType> dtype, std::optional<bool> copy,
                         const char* op);

/// A value made from Python data: a constant of the trace that is open, if one is.
Tensor constant_in_trace(Tensor t);

/// Operands of one application. Weak scalars take the dtype of the tensors they meet; handles on
/// everything are held until the end where another thread could rebind a cell in the meantime.
class Operands {
 public:
  static constexpr int kMax = 8;
  explicit Operands(const char* op) : op_(op) {}
  ~Operands();
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  /// False when the object is no operand (an operator then gives NotImplemented). With
  /// `sequences`, lists and tuples of numbers count.
  bool add(PyObject* o, bool sequences);
  /// Resolves the weak scalars. `condition`: operand 0 is a bool of its own.
  void finish(bool condition = false);
  std::span<Node* const> nodes() const noexcept { return {nodes_, static_cast<size_t>(count_)}; }

 private:
  const char* op_;
  int count_ = 0;
  std::uint32_t held_ = 0;  // bit i: one handle count on nodes_[i] is ours
  Node* nodes_[kMax];
  PyObject* scalars_[kMax];  // borrowed; null when it was no weak scalar
};

/// Whether work on this value may let go of the interpreter's lock, so that its cell could be
/// rebound by another thread meanwhile.
inline bool needs_hold(const Node* node) noexcept {
  return node->layout.size() > 64 || !node->is_ready();
}

// ---- arguments ----------------------------------------------------------------------------------

/// A tensor argument of a function: any tensor, number, sequence of numbers or foreign array.
Tensor tensor_argument(PyObject* o, const char* op);
std::int64_t int_argument(PyObject* o, const char* op, const char* what);
/// A number that shapes a result without being part of it; raises for a tensor whose derivative, or
/// whose value in a trace or batch, would be lost.
double number_argument(PyObject* o, const char* op, const char* what);
/// An int or a sequence of ints.
Dims dims_argument(PyObject* o, const char* op, const char* what);
std::string type_name(PyObject* o);

}  // namespace adjoint::python
