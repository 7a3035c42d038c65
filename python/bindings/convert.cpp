// Numbers, nested lists and arguments of functions.
#include "convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "adjoint/ops.h"
#include "foreign.h"
#include "graph/apply.h"
#include "graph/op.h"
#include "graph/thread_state.h"
#include "numbers.h"

namespace adjoint::python {

namespace {

template <class T>
void store(void* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

void store_float(void* at, DType dtype, double value) {
  if (dtype == DType::float32)
    store(at, static_cast<float>(value));
  else
    store(at, value);
}

[[noreturn]] void raise_overflow(PyObject* o, DType dtype, const char* op) {
  PyErr_Clear();
  raise(ErrorKind::overflow, op,
        "Python int " + shown_int(o) + " does not fit " + std::string(name(dtype)) +
            ": use a wider dtype");
}

void store_int(void* at, DType dtype, PyObject* o, const char* op) {
  if (is_floating(dtype)) {
    const double d = PyLong_AsDouble(o);
    if (d == -1.0 && PyErr_Occurred()) raise_overflow(o, dtype, op);
    store_float(at, dtype, d);
    return;
  }
  if (dtype == DType::uint64) {
    const unsigned long long v = PyLong_AsUnsignedLongLong(o);
    if (v == static_cast<unsigned long long>(-1) && PyErr_Occurred()) raise_overflow(o, dtype, op);
    store(at, static_cast<std::uint64_t>(v));
    return;
  }
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (v == -1 && PyErr_Occurred()) throw_python();
  const int bits = static_cast<int>(8 * itemsize(dtype));
  bool fits = overflow == 0;
  if (is_unsigned_integer(dtype))
    fits = fits && v >= 0 && v < (1LL << bits);
  else if (bits < 64 && is_signed_integer(dtype))
    fits = fits && v >= -(1LL << (bits - 1)) && v < (1LL << (bits - 1));
  if (!fits && !is_bool(dtype)) raise_overflow(o, dtype, op);
  switch (dtype) {
    case DType::boolean: store(at, static_cast<std::uint8_t>(v != 0 || overflow != 0)); break;
    case DType::int8: store(at, static_cast<std::int8_t>(v)); break;
    case DType::uint8: store(at, static_cast<std::uint8_t>(v)); break;
    case DType::int16: store(at, static_cast<std::int16_t>(v)); break;
    case DType::uint16: store(at, static_cast<std::uint16_t>(v)); break;
    case DType::int32: store(at, static_cast<std::int32_t>(v)); break;
    case DType::uint32: store(at, static_cast<std::uint32_t>(v)); break;
    default: store(at, static_cast<std::int64_t>(v)); break;
  }
}

// Bool, int, float or a subclass of one of them.
void store_number(void* at, DType dtype, PyObject* o, const char* op) {
  if (PyFloat_Check(o)) {
    const double d = PyFloat_AS_DOUBLE(o);
    if (is_floating(dtype)) return store_float(at, dtype, d);
    if (is_bool(dtype)) return store(at, static_cast<std::uint8_t>(d != 0));
    raise(ErrorKind::type, op,
          "a Python float does not become " + std::string(name(dtype)) +
              " by itself: convert with ad.astype, or round it in Python");
  }
  if (PyBool_Check(o)) {
    if (is_bool(dtype)) return store(at, static_cast<std::uint8_t>(o == Py_True));
    if (is_floating(dtype)) return store_float(at, dtype, o == Py_True);
  }
  store_int(at, dtype, o, op);
}

std::optional<WeakKind> number_kind(PyObject* o) {
  if (PyFloat_Check(o)) return WeakKind::floating;
  if (PyBool_Check(o)) return WeakKind::boolean;
  if (PyLong_Check(o)) return WeakKind::integer;
  return std::nullopt;
}

bool is_sequence(PyObject* o) { return PyList_Check(o) || PyTuple_Check(o); }

// Types of results that have several values with names; they live as long as the module.
std::vector<PyTypeObject*> g_result_types;

// What a nested sequence holds, in row-major order. The items are borrowed from the sequence, so no
// Python code may run while they are used.
struct Nested {
  Dims shape;
  std::vector<PyObject*> items;
  WeakKind kind = WeakKind::boolean;
  bool only_numbers = true;
};

class NestedReader {
 public:
  NestedReader(Nested& out, const char* op) : out_(out), op_(op) {}

  void read(PyObject* o, int depth) {
    if (!is_sequence(o)) return leaf(o, depth);
    refuse_result(o, op_);
    if (depth >= kMaxDims)
      raise(ErrorKind::value, op_, "nested more than 64 deep, or contains itself");
    if (leaf_depth_ >= 0 && depth >= leaf_depth_) ragged(depth);
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    if (static_cast<std::size_t>(depth) == out_.shape.size())
      out_.shape.push_back(n);
    else if (out_.shape[static_cast<std::size_t>(depth)] != n)
      ragged(depth);
    for (Py_ssize_t i = 0; i < n; ++i) read(PySequence_Fast_GET_ITEM(o, i), depth + 1);
  }

 private:
  void leaf(PyObject* o, int depth) {
    if (leaf_depth_ < 0) leaf_depth_ = depth;
    if (depth != leaf_depth_ || static_cast<std::size_t>(depth) != out_.shape.size()) ragged(depth);
    const std::optional<WeakKind> kind = number_kind(o);
    if (kind)
      out_.kind = std::max(out_.kind, *kind);
    else
      out_.only_numbers = false;
    out_.items.push_back(o);
  }

  [[noreturn]] void ragged(int depth) const {
    raise(ErrorKind::value, op_,
          "the nested sequence is ragged at depth " + std::to_string(depth) +
              ": every row must have the same length and nesting");
  }

  Nested& out_;
  const char* op_;
  int leaf_depth_ = -1;
};

// Tensors (or foreign arrays) inside lists are stacked, so that derivatives pass through.
Tensor stack_items(const Nested& nested, std::optional<DType> dtype, const char* op) {
  std::vector<py::object> held;
  held.reserve(nested.items.size());
  for (PyObject* item : nested.items) held.push_back(borrow(item));
  std::vector<Tensor> parts;
  parts.reserve(held.size());
  for (const py::object& item : held)
    parts.push_back(known_from_python(item.ptr(), dtype, std::nullopt, op));
  for (const Tensor& part : parts)
    if (!part.node()->layout.same_shape(parts[0].node()->layout))
      raise(ErrorKind::value, op,
            "the entries of the list have the shapes " + to_string(parts[0].shape()) + " and " +
                to_string(part.shape()) + ": to be one tensor all must be equal");
  Dims shape(nested.shape);
  shape.append(parts[0].shape().data(), parts[0].shape().size());
  return reshape(stack(parts, 0), shape);
}

Tensor from_sequence(PyObject* o, std::optional<DType> dtype, const char* op) {
  Nested nested;
  NestedReader(nested, op).read(o, 0);
  if (!nested.only_numbers) return stack_items(nested, dtype, op);
  if (nested.items.empty()) nested.kind = WeakKind::floating;
  const DType t = dtype.value_or(default_dtype(nested.kind));
  Tensor out = Tensor::adopt(new_array(t, nested.shape, op));
  char* at = static_cast<char*>(out.node()->data());
  for (PyObject* item : nested.items) {
    store_number(at, t, item, op);
    at += itemsize(t);
  }
  return out;
}

[[noreturn]] void raise_not_data(PyObject* o, const char* op) {
  raise(ErrorKind::type, op,
        "cannot make a tensor of a " + type_name(o) +
            ": pass numbers, nested lists of numbers, an array or a tensor");
}

}  // namespace

std::optional<WeakKind> weak_kind(PyObject* o) noexcept {
  if (PyFloat_CheckExact(o)) return WeakKind::floating;
  if (PyLong_CheckExact(o)) return WeakKind::integer;
  if (PyBool_Check(o)) return WeakKind::boolean;
  return std::nullopt;
}

DType default_dtype(WeakKind kind) noexcept {
  switch (kind) {
    case WeakKind::boolean: return DType::boolean;
    case WeakKind::integer: return DType::int64;
    case WeakKind::floating: return DType::float64;
  }
  return DType::float64;
}

Node* scalar_node(PyObject* o, DType dtype, const char* op) {
  std::uint64_t bits = 0;
  store_number(&bits, dtype, o, op);
  Node* node = new_node(dtype, Layout());
  std::memcpy(node->data(), &bits, itemsize(dtype));
  return node;
}

Tensor constant_in_trace(Tensor t) {
  if (g_open_traces.load(std::memory_order_relaxed) == 0 || t.node()->level > 0) return t;
  TraceSink* trace = current_trace();
  return trace ? Tensor::adopt(trace->constant(t.node())) : t;
}

Tensor known_from_python(PyObject* o, std::optional<DType> dtype, std::optional<bool> copy,
                         const char* op) {
  if (is_tensor(o)) {
    Tensor t = Tensor::share(read_node(as_tensor(o)));
    if (copy == false && dtype && *dtype != t.dtype())
      raise(ErrorKind::value, op,
            "copy=False cannot convert " + std::string(name(t.dtype())) + " to " +
                std::string(name(*dtype)));
    return strong_value(dtype ? astype(t, *dtype) : std::move(t));
  }
  Tensor t;
  if (number_kind(o) && !std::string_view(Py_TYPE(o)->tp_name).starts_with("numpy.")) {
    t = Tensor::adopt(scalar_node(o, dtype.value_or(default_dtype(*number_kind(o))), op));
  } else if (is_sequence(o)) {
    t = from_sequence(o, dtype, op);
  } else if (Node* node = node_from_foreign(o, copy, op)) {
    t = Tensor::adopt(node);
    if (copy == false && dtype && *dtype != t.dtype())
      raise(ErrorKind::value, op,
            "copy=False cannot convert " + std::string(name(t.dtype())) + " to " +
                std::string(name(*dtype)));
    if (dtype) t = astype(t, *dtype);
  } else {
    raise_not_data(o, op);
  }
  if (copy == false && !t.node()->stored.storage && (number_kind(o) || is_sequence(o)))
    raise(ErrorKind::value, op, "copy=False, but a " + type_name(o) + " can only be copied");
  return t;
}

Tensor tensor_from_python(PyObject* o, std::optional<DType> dtype, std::optional<bool> copy,
                          const char* op) {
  Tensor t = known_from_python(o, dtype, copy, op);
  return is_tensor(o) ? t : constant_in_trace(std::move(t));
}

std::string text_of(py::handle str) {
  const py::object bytes = steal(PyUnicode_AsEncodedString(str.ptr(), "utf-8", "backslashreplace"));
  return {PyBytes_AS_STRING(bytes.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}

std::string shown(py::handle o) {
  const py::object text = py::reinterpret_steal<py::object>(PyObject_Repr(o.ptr()));
  if (text) return text_of(text);
  if (!PyErr_ExceptionMatches(PyExc_Exception)) throw_python();
  PyErr_Clear();
  return "of type " + type_name(o.ptr());
}

std::string shown_int(PyObject* o) {
  const py::object text = py::reinterpret_steal<py::object>(PyLong_Type.tp_repr(o));
  if (!text) {
    PyErr_Clear();
    return "of very many digits";
  }
  const std::string digits = text_of(text);
  return digits.size() > 40 ? digits.substr(0, 37) + "..." : digits;
}

bool is_numpy_bool(PyObject* o) noexcept {
  const std::string_view type = Py_TYPE(o)->tp_name;
  return type == "numpy.bool" || type == "numpy.bool_";
}

py::tuple entries_of(PyObject* o) {
  if (!PyList_Check(o)) return py::reinterpret_borrow<py::tuple>(o);
  return py::reinterpret_steal<py::tuple>(steal(PyList_AsTuple(o)).release());
}

py::object optional_attribute(PyObject* o, const char* name) {
  PyObject* value = PyObject_GetAttrString(o, name);
  if (!value) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw_python();
    PyErr_Clear();
  }
  return py::reinterpret_steal<py::object>(value);
}

Tensor tensor_argument(PyObject* o, const char* op) {
  return tensor_from_python(o, std::nullopt, std::nullopt, op);
}

std::int64_t int_argument(PyObject* o, const char* op, const char* what) {
  const bool is_array = is_tensor(o) && (as_tensor(o)->node->layout.ndim() != 0 ||
                                         !is_integer(as_tensor(o)->node->dtype));
  if (!PyIndex_Check(o) || PyBool_Check(o) || is_array)
    raise(ErrorKind::type, op, std::string(what) + " must be an int, not " + type_name(o));
  const py::object index = PyLong_CheckExact(o) ? borrow(o) : steal(PyNumber_Index(o));
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow)
    raise(ErrorKind::overflow, op,
          std::string(what) + " " + shown_int(index.ptr()) + " does not fit 64 bits");
  return v;
}

std::int64_t diagonal_argument(PyObject* o, const char* op, const char* what) {
  constexpr std::int64_t none = std::int64_t{1} << 62;  // beyond any matrix
  if (!PyLong_CheckExact(o)) return int_argument(o, op, what);
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
  return overflow ? overflow * none : std::clamp<std::int64_t>(v, -none, none);
}

double number_argument(PyObject* o, const char* op, const char* what) {
  if (is_tensor(o)) {
    const Node* node = read_node(as_tensor(o));
    if (node->level > 0 || (node->requires_grad && thread_state().recording))
      throw TracedValue("[" + std::string(op) + "] " + what +
                        " must be a plain number: no derivative passes it, and it has no value "
                        "of its own inside vmap and compile. Use x.item(), or compute with it in "
                        "operations, as in start + step * ad.arange(n)");
  }
  const PyNumberMethods* number = Py_TYPE(o)->tp_as_number;
  if (!number || !(number->nb_float || number->nb_index))
    raise(ErrorKind::type, op, std::string(what) + " must be a number, not " + type_name(o));
  const double v = PyFloat_AsDouble(o);
  if (v != -1.0 || !PyErr_Occurred()) return v;
  if (PyLong_Check(o)) raise_overflow(o, DType::float64, op);
  throw_python();
}

bool flag_argument(PyObject* o, const char* op, const char* what) {
  if (o == Py_True || o == Py_False) return o == Py_True;
  if (!is_numpy_bool(o))
    raise(ErrorKind::type, op, std::string(what) + " must be True or False, not " + type_name(o));
  const int on = PyObject_IsTrue(o);
  if (on < 0) throw_python();
  return on == 1;
}

void check_device(PyObject* o, const char* op) {
  if (!o || o == Py_None) return;
  if (!PyUnicode_Check(o))
    raise(ErrorKind::type, op, "device must be 'cpu' or None, not " + type_name(o));
  if (PyUnicode_CompareWithASCIIString(o, "cpu") != 0)
    raise(ErrorKind::value, op, "the only device is 'cpu'");
}

void require_callable(PyObject* o, const char* op, const char* what) {
  if (!PyCallable_Check(o))
    raise(ErrorKind::type, op, std::string(what) + " must be a function, not a " + type_name(o));
}

Dims dims_argument(PyObject* o, const char* op, const char* what) {
  Dims out;
  if (PyIndex_Check(o) && !is_sequence(o)) {
    out.push_back(int_argument(o, op, what));
    return out;
  }
  if (!is_sequence(o))
    raise(ErrorKind::type, op,
          std::string(what) + " must be an int or a tuple of ints, not " + type_name(o));
  for (const py::handle entry : entries_of(o)) out.push_back(int_argument(entry.ptr(), op, what));
  return out;
}

// ---- Operands -----------------------------------------------------------------------------------

Operands::~Operands() {
  for (int i = 0; i < count_; ++i)
    if (held_ >> i & 1) release_handle(nodes_[i]);
}

void Operands::hold(int i) {
  if (!nodes_[i] || held_ >> i & 1) return;
  retain_handle(nodes_[i]);
  held_ |= 1u << i;
}

bool Operands::add(PyObject* o, bool sequences) {
  if (count_ == kMax) raise(ErrorKind::type, op_, "too many arguments");
  const int i = count_;
  scalars_[i] = nullptr;
  nodes_[i] = nullptr;
  if (is_tensor(o)) {
    nodes_[i] = read_node(as_tensor(o));
    if (needs_hold(nodes_[i])) hold(i);
    ++count_;
    return true;
  }
  if (weak_kind(o)) {
    scalars_[i] = o;
    ++count_;
    return true;
  }
  for (int before = 0; before < i; ++before) hold(before);
  if (sequences) {
    nodes_[i] = tensor_argument(o, op_).detach_node();
    held_ |= 1u << i;
  } else {
    if (is_sequence(o)) return false;
    nodes_[i] = node_from_foreign(o, std::nullopt, op_);
    if (!nodes_[i]) return false;
    held_ |= 1u << i;
  }
  ++count_;
  return true;
}

void check_exponent(PyObject* exponent, const char* op) {
  if (weak_kind(exponent) != WeakKind::integer) return;
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(exponent, &overflow);
  if (overflow > 0 || (overflow == 0 && v >= 0)) return;
  raise(ErrorKind::value, op,
        "integers to the negative power " + shown_int(exponent) +
            " are fractions: convert with ad.astype(x, ad.float64), or write the exponent as a "
            "float");
}

void Operands::finish(bool condition) {
  const int first = condition ? 1 : 0;
  std::optional<DType> strong;
  WeakKind weak = WeakKind::boolean;
  for (int i = first; i < count_; ++i) {
    if (scalars_[i])
      weak = std::max(weak, *weak_kind(scalars_[i]));
    else if (const auto kind = traced_weak_kind(nodes_[i]))
      weak = std::max(weak, *kind);
    else
      strong = strong ? promote(*strong, nodes_[i]->dtype) : nodes_[i]->dtype;
  }
  for (int i = 0; i < count_; ++i) {
    if (strong && i >= first && nodes_[i] && traced_weak_kind(nodes_[i]))
      check_meeting(nodes_[i], *strong);
    if (!scalars_[i]) continue;
    const WeakKind own = *weak_kind(scalars_[i]);
    const DType t = i < first ? default_dtype(own)
                    : strong  ? promote_weak(*strong, own)
                              : default_dtype(weak);
    if (i == 1 && is_integer(t) && op_ == std::string_view("pow")) check_exponent(scalars_[i], op_);
    nodes_[i] = scalar_node(scalars_[i], t, op_);
    held_ |= 1u << i;
    scalars_[i] = nullptr;
  }
}

void add_result_type(const py::object& type) {
  g_result_types.push_back(reinterpret_cast<PyTypeObject*>(py::object(type).release().ptr()));
}

void refuse_result(PyObject* o, const char* op) {
  if (PyTuple_CheckExact(o) ||
      std::ranges::find(g_result_types, Py_TYPE(o)) == g_result_types.end())
    return;
  std::string fields;
  for (const py::handle field : py::tuple(borrow(o).attr("_fields")))
    fields += (fields.empty() ? "." : ", .") + field.cast<std::string>();
  raise(ErrorKind::type, op,
        "a " + type_name(o) + " holds several results: take one of them (" + fields + ")");
}

}  // namespace adjoint::python
