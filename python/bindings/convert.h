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
/// The same, and nothing for what names none.
std::optional<DType> find_dtype(PyObject* o);
/// Nothing for None.
std::optional<DType> optional_dtype(PyObject* o, const char* op);

// ---- scalars ------------------------------------------------------------------------------------

/// Exact Python bool, int and float are weak; subclasses (np.float64 is one) are not.
std::optional<WeakKind> weak_kind(PyObject* o) noexcept;
DType default_dtype(WeakKind kind) noexcept;
/// A 0-d node with one handle count. Raises OverflowError when an int does not fit.
Node* scalar_node(PyObject* o, DType dtype, const char* op);

// ---- anything -----------------------------------------------------------------------------------

/// The entries of a list or tuple, held: code of the user that runs while they are read may empty
/// the list.
py::tuple entries_of(PyObject* list_or_tuple);
/// The attribute, or null when the object has none; raises what looking for it raised.
py::object optional_attribute(PyObject* o, const char* name);

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

/// Makes known a type of tuples that hold the results of a function, named by `fields`.
void add_result_type(const py::object& type);
/// Raises for such a tuple, whose values would become rows of one tensor.
void refuse_result(PyObject* o, const char* op);

/// A value made from Python data: a constant of the trace that is open, if one is.
Tensor constant_in_trace(Tensor t);

/// Operands of one application. Weak scalars take the dtype of the tensors they meet; handles on
/// everything are held until the end where another thread, or code of the user that converting a
/// further operand runs, could rebind a cell in the meantime.
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
  void hold(int i);

  const char* op_;
  int count_ = 0;
  std::uint32_t held_ = 0;  // bit i: one handle count on nodes_[i] is ours
  Node* nodes_[kMax];
  PyObject* scalars_[kMax];  // borrowed; null when it was no weak scalar
};

/// Whether work on this value may let go of the interpreter's lock or run Python code, so that its
/// cell could be rebound meanwhile.
inline bool needs_hold(const Node* node) noexcept {
  return node->layout.size() > 64 || !node->is_ready();  // what is boxed is not ready
}

// ---- arguments ----------------------------------------------------------------------------------

/// The text of a str in UTF-8; lone surrogates by their number.
std::string text_of(py::handle str);
/// The repr for a message, or the type where there is none.
std::string shown(py::handle o);
/// The digits of an int for a message, as far as they fit; Python prints no more than 4300.
std::string shown_int(PyObject* o);
/// One of NumPy's bools, which offer `__index__` and refuse to be asked.
bool is_numpy_bool(PyObject* o) noexcept;

/// A tensor argument of a function: any tensor, number, sequence of numbers or foreign array.
Tensor tensor_argument(PyObject* o, const char* op);
/// Raises where a Python int is negative, as integers to that power are fractions, which integers
/// do not hold. Of a tensor of exponents it is known too late.
void check_exponent(PyObject* exponent, const char* op);
std::int64_t int_argument(PyObject* o, const char* op, const char* what);
/// Which diagonal of a matrix; one that 64 bits do not hold is outside of it like any other.
std::int64_t diagonal_argument(PyObject* o, const char* op, const char* what);
/// A number that shapes a result without being part of it; raises for a tensor whose derivative, or
/// whose value in a trace or batch, would be lost.
double number_argument(PyObject* o, const char* op, const char* what);
/// True or False, of Python or of NumPy: nothing is taken for one of them.
bool flag_argument(PyObject* o, const char* op, const char* what);
/// None, or the one device there is.
void check_device(PyObject* o, const char* op);
void require_callable(PyObject* o, const char* op, const char* what);
/// An int or a sequence of ints.
Dims dims_argument(PyObject* o, const char* op, const char* what);
std::string type_name(PyObject* o);

}  // namespace adjoint::python
