#include "numbers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <string_view>

#include "adjoint/ops.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/trace_sink.h"

namespace adjoint::python {

namespace {

PyTypeObject* number_type = nullptr;

constexpr std::uint32_t kMaxBits = 62;  // integers of more could overflow where Python's do not

// One operand: a traced number, or one that is known.
struct Number {
  WeakKind kind = WeakKind::floating;
  Node* traced = nullptr;
  Tensor value;  // of the kind's own dtype; undefined for an integer that int64 does not hold
  std::uint32_t bits = 0;  // of an integer: its absolute value is at most 2**bits

  static bool read(PyObject* o, Number& out) {
    if (is_traced_number(o)) {
      out.traced = read_node(as_tensor(o));
      out.kind = *traced_weak_kind(out.traced);
      out.value = Tensor::share(out.traced);
      out.bits = out.traced->savers.load(std::memory_order_relaxed);
      return true;
    }
    if (!weak_kind(o)) return false;
    out.kind = *weak_kind(o);
    int overflow = 0;
    if (out.kind == WeakKind::integer) {
      const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
      const auto size = v < 0 ? 0 - static_cast<std::uint64_t>(v) : static_cast<std::uint64_t>(v);
      out.bits = static_cast<std::uint32_t>(std::bit_width(size));
    } else if (out.kind == WeakKind::boolean) {
      out.bits = 1;
    }
    if (!overflow) out.value = Tensor::adopt(scalar_node(o, default_dtype(out.kind), "compile"));
    return true;
  }
};

[[noreturn]] void need(const Number& a, const Number& b) {
  need_value(a.traced ? a.traced : b.traced);
}

// Both operands as one dtype.
Tensor as_float(const Number& n) { return astype(n.value, DType::float64); }
Tensor as_int(const Number& n) { return astype(n.value, DType::int64); }

PyObject* wrap_number(Tensor value, WeakKind kind, std::uint32_t bits) {
  mark_weak(value.node(), kind, bits);
  return handle_of_type(number_type, std::move(value)).release().ptr();
}

// Python compares an int with a float exactly; a float of our own holds so many bits.
PyObject* compare_numbers(const Op& op, const Number& a, const Number& b) {
  const bool floats = a.kind == WeakKind::floating || b.kind == WeakKind::floating;
  if (floats && (a.bits > kWeakBits || b.bits > kWeakBits)) need(a, b);
  const Tensor x = floats ? as_float(a) : as_int(a);
  const Tensor y = floats ? as_float(b) : as_int(b);
  return wrap_number(apply(op, {&x, &y}), WeakKind::boolean, 1);
}

PyObject* divide_numbers(const Number& a, const Number& b) {
  static const Op& op = find_op("number_divide");
  if (a.bits > kWeakBits || b.bits > kWeakBits) need(a, b);  // Python rounds the quotient once
  const Tensor x = as_float(a);
  const Tensor y = as_float(b);
  return wrap_number(apply(op, {&x, &y}), WeakKind::floating, 0);
}

// Whether a**b is a float whatever value a traced number has: the base is a positive float that is
// known, as in 0.9**step, or a float to an integer that is known.
bool stays_float(const Number& a, const Number& b) {
  if (!a.traced) return a.kind == WeakKind::floating && a.value.item() > 0;
  return a.kind == WeakKind::floating && !b.traced && std::floor(b.value.item()) == b.value.item();
}

PyObject* raise_number(const Number& a, const Number& b) {
  static const Op& op = find_op("number_power");
  if (!stays_float(a, b) || b.bits > kWeakBits) need(a, b);
  const Tensor x = as_float(a);
  const Tensor y = as_float(b);
  return wrap_number(apply(op, {&x, &y}), WeakKind::floating, 0);
}

PyObject* combine(const Op& op, const Number& a, const Number& b) {
  const std::string_view name = op.name;
  if (!a.value.defined() || !b.value.defined()) need(a, b);
  if (op.dtypes == DTypeRule::compare) return compare_numbers(op, a, b);
  const bool arithmetic = name == "add" || name == "subtract" || name == "multiply";
  if (name == "divide") return divide_numbers(a, b);
  if (name == "pow") return raise_number(a, b);
  if (!arithmetic) need(a, b);
  if (a.kind == WeakKind::floating || b.kind == WeakKind::floating) {
    const Tensor x = as_float(a);
    const Tensor y = as_float(b);
    return wrap_number(apply(op, {&x, &y}), WeakKind::floating, 0);
  }
  const std::uint32_t bits = name == "multiply" ? a.bits + b.bits : std::max(a.bits, b.bits) + 1;
  if (bits > kMaxBits) need(a, b);
  const Tensor x = as_int(a);
  const Tensor y = as_int(b);
  return wrap_number(apply(op, {&x, &y}), WeakKind::integer, bits);
}

}  // namespace

bool is_traced_number(PyObject* o) noexcept {
  return (is_exact_tensor(o) || Py_IS_TYPE(o, number_type)) &&
         traced_weak_kind(as_tensor(o)->node).has_value();
}

py::object wrapped_value(Tensor value) {
  if (traced_weak_kind(value.node())) return handle_of_type(number_type, std::move(value));
  return wrapped(std::move(value));
}

namespace {

// A complex number, a Fraction, a Decimal: what has operators with Python's numbers and none with
// tensors.
bool is_other_number(PyObject* o) {
  if (is_tensor(o) || PyObject_CheckBuffer(o) || PyObject_HasAttrString(o, "__array__"))
    return false;
  static PyObject* const number =
      py::module_::import("numbers").attr("Number").cast<py::object>().release().ptr();
  const int is = PyObject_IsInstance(o, number);
  if (is < 0) throw_python();
  return is == 1;
}

}  // namespace

PyObject* number_operator(const Op& op, PyObject* a, PyObject* b) {
  Number x, y;
  const bool first = Number::read(a, x);
  const bool second = Number::read(b, y);
  if (first && second) return combine(op, x, y);
  if (!first && is_other_number(a)) need_value(y.traced);
  if (!second && is_other_number(b)) need_value(x.traced);
  const std::string_view name = op.name;
  if (y.traced && (name == "pow" || name.ends_with("_shift"))) need_value(y.traced);
  return nullptr;
}

PyObject* number_unary(const Op& op, PyObject* a) {
  Number x;
  Number::read(a, x);
  // A bool is an int there: -True is -1.
  if (x.kind == WeakKind::boolean || std::string_view(op.name) == "bitwise_invert") need(x, x);
  return wrap_number(apply(op, {&x.value}), x.kind, x.bits);
}

void check_meeting(const Node* number, DType met) {
  if (traced_weak_kind(number) != WeakKind::integer) return;
  const std::uint32_t bits = number->savers.load(std::memory_order_relaxed);
  const bool narrow = is_integer(met) && met != DType::int64;
  if (narrow || (met == DType::float32 && bits > kWeakBits)) need_value(number);
}

Tensor strong_value(Tensor x) {
  if (!traced_weak_kind(x.node())) return x;
  Tensor out = Tensor::adopt(alias(x.node(), nullptr, true));
  out.node()->pending = 0;
  return out;
}

// ---- The class of numbers -----------------------------------------------------------------------

namespace {

[[noreturn]] void need_number(PyObject* o) { need_value(as_tensor(o)->node); }

PyObject* ask(PyObject* self, PyObject*) noexcept {
  return guarded([&]() -> PyObject* { need_number(self); });
}

PyObject* ask_with(PyObject* self, PyObject* const*, Py_ssize_t) noexcept {
  return ask(self, nullptr);
}

Py_hash_t ask_hash(PyObject* self) noexcept {
  ask(self, nullptr);
  return -1;
}

bool is_number(PyObject* o) noexcept { return weak_kind(o) || is_traced_number(o); }

// An operator that tensors do not have, of two or three numbers.
PyObject* ask_operator(std::initializer_list<PyObject*> operands) noexcept {
  return guarded([&]() -> PyObject* {
    if (!std::ranges::all_of(operands, is_number)) Py_RETURN_NOTIMPLEMENTED;
    need_number(*std::ranges::find_if(operands, is_traced_number));
  });
}

PyObject* number_divmod(PyObject* a, PyObject* b) { return ask_operator({a, b}); }

PyObject* number_pow(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus == Py_None) return tensor_type->tp_as_number->nb_power(a, b, modulus);
  return ask_operator({a, b, modulus});
}

// What Python's number has and a tensor has not.
PyObject* number_getattr(PyObject* self, PyObject* name) {
  PyObject* found = PyObject_GenericGetAttr(self, name);
  if (found || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
  const auto kind = traced_weak_kind(as_tensor(self)->node);
  if (!kind) return nullptr;
  PyTypeObject* const of_kind[] = {&PyBool_Type, &PyLong_Type, &PyFloat_Type};
  PyObject* type = reinterpret_cast<PyObject*>(of_kind[static_cast<std::size_t>(*kind)]);
  PyObject *error, *value, *trace;
  PyErr_Fetch(&error, &value, &trace);
  const bool has = PyObject_HasAttr(type, name) == 1;
  PyErr_Restore(error, value, trace);
  if (!has) return nullptr;
  PyErr_Clear();
  return ask(self, nullptr);
}

// `type(n)(2)`: one that is known.
PyObject* number_new(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  return tensor_type->tp_new(tensor_type, args, kwargs);
}

PyMethodDef number_methods[] = {
    {"__round__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(ask_with)),
     METH_FASTCALL, nullptr},
    {"__trunc__", ask, METH_NOARGS, nullptr},
    {"__floor__", ask, METH_NOARGS, nullptr},
    {"__ceil__", ask, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void init_numbers(py::module_& m) {
  m.def("_ask_numbers", [](const py::list& leaves) {
    for (const py::handle leaf : leaves)
      if (is_traced_number(leaf.ptr())) need_number(leaf.ptr());
  });
  PyType_Slot slots[] = {
      {Py_tp_doc,
       const_cast<char*>("A number among the arguments of a function while it is traced.")},
      {Py_tp_new, reinterpret_cast<void*>(number_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(tensor_type->tp_dealloc)},
      {Py_tp_hash, reinterpret_cast<void*>(ask_hash)},
      {Py_tp_richcompare, reinterpret_cast<void*>(tensor_type->tp_richcompare)},
      {Py_tp_getattro, reinterpret_cast<void*>(number_getattr)},
      {Py_tp_methods, number_methods},
      {Py_nb_divmod, reinterpret_cast<void*>(number_divmod)},
      {Py_nb_power, reinterpret_cast<void*>(number_pow)},
      {0, nullptr}};
  PyType_Spec spec = {"adjoint._core.Number", 0, 0, Py_TPFLAGS_DEFAULT, slots};
  const py::object bases = py::make_tuple(borrow(reinterpret_cast<PyObject*>(tensor_type)));
  number_type = reinterpret_cast<PyTypeObject*>(
      steal(PyType_FromSpecWithBases(&spec, bases.ptr())).release().ptr());
}

}  // namespace adjoint::python
