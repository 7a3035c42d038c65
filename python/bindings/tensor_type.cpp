// Life of a Tensor object, and its operators as type slots.
//
// Objects are created untracked by Python's cycle collector: a million tracked handles triple the
// cost of an operation, and a handle without a `__dict__` cannot be part of a cycle. They are
// tracked from the first attribute that gives them one. Freed objects go to a bounded free list.
#include <array>
#include <utility>
#include <vector>

#include "base/pools.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/op.h"
#include "graph/thread_state.h"
#include "named_handles.h"
#include "numbers.h"
#include "pytensor.h"

#include <structmember.h>  // after Python.h

namespace adjoint::python {

PyTypeObject* tensor_type = nullptr;
ADJOINT_THREAD_LOCAL int t_open_reverse = 0;

namespace {

// ---- Life ---------------------------------------------------------------------------------------

#ifdef Py_GIL_DISABLED
constexpr int kMaxFree = 0;  // the list is guarded by the interpreter's lock
#else
constexpr int kMaxFree = kPools ? 256 : 0;
#endif
std::array<PyTensor*, kMaxFree + 1> g_free;
int g_free_count = 0;

void clear_fields(PyTensor* t) noexcept {
  t->node = nullptr;
  t->leaf = nullptr;
  t->weakrefs = nullptr;
  t->dict = nullptr;
  t->name = nullptr;
  t->gradient_of = nullptr;
  t->is_view = false;
  t->birth = next_birth() & ((std::uint64_t{1} << 63) - 1);
}

PyTensor* new_object() noexcept {
  PyTensor* t;
  if (g_free_count > 0) {
    t = g_free[--g_free_count];
    PyObject_Init(reinterpret_cast<PyObject*>(t), tensor_type);
  } else {
    t = PyObject_GC_New(PyTensor, tensor_type);
    if (!t) return nullptr;
  }
  clear_fields(t);
  return t;
}

void tensor_dealloc(PyObject* self) {
  PyTensor* t = as_tensor(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (t->weakrefs) PyObject_ClearWeakRefs(self);
  Py_CLEAR(t->dict);
  if (t->name) set_handle_name(t, nullptr);
  if (Leaf* leaf = std::exchange(t->leaf, nullptr)) release_owner(leaf);
  if (Leaf* leaf = std::exchange(t->gradient_of, nullptr)) release(leaf);
  if (Node* node = std::exchange(t->node, nullptr)) release_handle(node);
  if (type == tensor_type && g_free_count < kMaxFree)
    g_free[g_free_count++] = t;
  else
    type->tp_free(self);
  Py_DECREF(type);
}

int tensor_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_tensor(self)->dict);
  return 0;
}

int tensor_clear(PyObject* self) {
  Py_CLEAR(as_tensor(self)->dict);
  return 0;
}

int tensor_setattro(PyObject* self, PyObject* name, PyObject* value) {
  const int result = PyObject_GenericSetAttr(self, name, value);
  if (as_tensor(self)->dict && !PyObject_GC_IsTracked(self)) PyObject_GC_Track(self);
  return result;
}

PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  PyObject* data = nullptr;
  if (!PyArg_ParseTuple(args, "O:Tensor", &data) || (kwargs && PyDict_GET_SIZE(kwargs) != 0)) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError,
                      "[Tensor] takes one positional argument: use ad.tensor for dtype, "
                      "requires_grad and name");
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    Tensor value = tensor_from_python(data, std::nullopt, std::nullopt, "Tensor");
    if (type == tensor_type) return wrap(std::move(value));
    py::object self = steal(type->tp_alloc(type, 0));
    PyTensor* t = as_tensor(self.ptr());
    clear_fields(t);
    t->node = value.detach_node();
    return self.release().ptr();
  });
}

// ---- Elementwise operators ----------------------------------------------------------------------

enum Slot : int {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kRemainder,
  kPow,
  kMatmul,
  kAnd,
  kOr,
  kXor,
  kLeftShift,
  kRightShift,
  kLess,
  kLessEqual,
  kEqual,
  kNotEqual,
  kGreater,
  kGreaterEqual,
  kNegative,
  kPositive,
  kAbs,
  kInvert,
  kSquare,
  kSlotCount,
};
constexpr std::array<const char*, kSlotCount> kSlotOps = {"add",
                                                          "subtract",
                                                          "multiply",
                                                          "divide",
                                                          "floor_divide",
                                                          "remainder",
                                                          "pow",
                                                          "matmul",
                                                          "bitwise_and",
                                                          "bitwise_or",
                                                          "bitwise_xor",
                                                          "bitwise_left_shift",
                                                          "bitwise_right_shift",
                                                          "less",
                                                          "less_equal",
                                                          "equal",
                                                          "not_equal",
                                                          "greater",
                                                          "greater_equal",
                                                          "negative",
                                                          "positive",
                                                          "abs",
                                                          "bitwise_invert",
                                                          "square"};
std::array<const Op*, kSlotCount> g_slot_ops = {};

// "x @ y" is the only operator whose operation need not be a single record.
PyObject* g_matmul = nullptr;

bool meets_number(PyObject* a, PyObject* b) {
  return g_open_traces.load(std::memory_order_relaxed) != 0 &&
         (is_traced_number(a) || is_traced_number(b));
}

// What Python would go on to by itself is no arithmetic: `[1, 2] * x` would repeat the list, and
// `x == [1, 2]` compare identities. A class with operators of its own is asked for them.
void refuse_sequence(const Op& op, PyObject* o) {
  const PyTypeObject* type = Py_TYPE(o);
  if (is_tensor(o) || (type->tp_as_number && type->tp_as_number->nb_multiply)) return;
  const bool repeats =
      &op == g_slot_ops[kMultiply] && type->tp_as_sequence && type->tp_as_sequence->sq_repeat;
  const bool is_list = PyList_Check(o) && type->tp_richcompare == PyList_Type.tp_richcompare;
  const bool is_tuple = PyTuple_Check(o) && type->tp_richcompare == PyTuple_Type.tp_richcompare;
  refuse_result(o, op.name);
  if (is_list || is_tuple)
    raise(ErrorKind::type, op.name,
          "a " + type_name(o) + " is no operand: make it a tensor by ad.asarray");
  if (repeats) raise(ErrorKind::type, op.name, "a " + type_name(o) + " is no operand");
}

// Not an operand: another class may know better, a list does not.
PyObject* unknown_operand(const Op& op, PyObject* a, PyObject* b) {
  // Python's own complaint; and `entries += x` extends a list.
  const bool extends = &op == g_slot_ops[kAdd] && !is_tensor(a);
  if (!extends) {
    refuse_sequence(op, a);
    refuse_sequence(op, b);
  }
  Py_RETURN_NOTIMPLEMENTED;
}

PyObject* binary_general(const Op& op, PyObject* a, PyObject* b) {
  Operands operands(op.name);
  if (!operands.add(a, false) || !operands.add(b, false)) return unknown_operand(op, a, b);
  operands.finish();
  return wrap(apply(op, operands.nodes()));
}

// A Python float met by a tensor: the commonest mixed case, without the general machinery.
Tensor float_operand(const Node* met, PyObject* number) {
  const DType t = promote_weak(met->dtype, WeakKind::floating);
  Node* node = new_node(t, Layout());
  const double value = PyFloat_AS_DOUBLE(number);
  if (t == DType::float32)
    *static_cast<float*>(node->data()) = static_cast<float>(value);
  else
    *static_cast<double*>(node->data()) = value;
  return Tensor::adopt(node);
}

PyObject* binary(int slot, PyObject* a, PyObject* b) noexcept {
  const Op& op = *g_slot_ops[slot];
  try {
    if (meets_number(a, b)) [[unlikely]] {
      if (PyObject* result = number_operator(op, a, b)) return result;
      return PyErr_Occurred() ? nullptr : binary_general(op, a, b);
    }
    if (is_exact_tensor(a) && is_exact_tensor(b)) [[likely]] {
      Node* const in[2] = {read_node(as_tensor(a)), read_node(as_tensor(b))};
      if (!needs_hold(in[0]) && !needs_hold(in[1])) [[likely]]
        return wrap(apply(op, in));
    } else if (is_exact_tensor(a) && PyFloat_CheckExact(b)) {
      Node* x = read_node(as_tensor(a));
      if (!needs_hold(x)) {
        const Tensor number = float_operand(x, b);
        Node* const in[2] = {x, number.node()};
        return wrap(apply(op, in));
      }
    } else if (is_exact_tensor(b) && PyFloat_CheckExact(a)) {
      Node* x = read_node(as_tensor(b));
      if (!needs_hold(x)) {
        const Tensor number = float_operand(x, a);
        Node* const in[2] = {number.node(), x};
        return wrap(apply(op, in));
      }
    }
    return binary_general(op, a, b);
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

template <int S>
PyObject* binary_slot(PyObject* a, PyObject* b) {
  return binary(S, a, b);
}

PyObject* unary(int slot, PyObject* a) noexcept {
  return guarded([&] {
    if (meets_number(a, a)) [[unlikely]]
      return number_unary(*g_slot_ops[slot], a);
    Operands operands(kSlotOps[slot]);
    operands.add(a, false);
    operands.finish();
    return wrap(apply(*g_slot_ops[slot], operands.nodes()));
  });
}

template <int S>
PyObject* unary_slot(PyObject* a) {
  return unary(S, a);
}

bool is_square(PyObject* base, PyObject* exponent) {
  if (!is_tensor(base) || !is_floating(as_tensor(base)->node->dtype)) return false;
  if (is_traced_number(base)) return false;
  int overflow = 0;
  if (PyLong_CheckExact(exponent)) return PyLong_AsLongAndOverflow(exponent, &overflow) == 2;
  return PyFloat_CheckExact(exponent) && PyFloat_AS_DOUBLE(exponent) == 2;
}

// The commonest exponent has an operation of its own, exactly rounded and cheaper at every order.
PyObject* divmod_slot(PyObject* a, PyObject* b) {
  return guarded([&] {
    py::object quotient = steal(binary_slot<kFloorDivide>(a, b));
    if (quotient.is(borrow(Py_NotImplemented))) return quotient.release().ptr();
    return py::make_tuple(quotient, steal(binary_slot<kRemainder>(a, b))).release().ptr();
  });
}

PyObject* power_slot(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) Py_RETURN_NOTIMPLEMENTED;
  return is_square(a, b) ? unary(kSquare, a) : binary(kPow, a, b);
}

PyObject* matmul_slot(PyObject* a, PyObject* b) {
  return guarded([&]() -> PyObject* {
    for (PyObject* o : {a, b}) {
      if (is_tensor(o)) continue;
      if (weak_kind(o) || !(PyObject_CheckBuffer(o) || PyObject_HasAttrString(o, "__array__")))
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject* const args[2] = {a, b};
    return call_python(g_matmul, args, 2, nullptr);
  });
}

PyObject* compare_slot(PyObject* a, PyObject* b, int how) {
  static constexpr int slots[] = {kLess, kLessEqual, kEqual, kNotEqual, kGreater, kGreaterEqual};
  return binary(slots[how], a, b);
}

// ---- In-place operators: the cell is rebound ----------------------------------------------------

const char* in_place_name(int slot) {
  static constexpr const char* names[] = {
      "+=", "-=", "*=", "/=", "//=", "%=", "**=", "@=", "&=", "|=", "^=", "<<=", ">>="};
  return names[slot];
}

// The result must fit the cell as it is: a handle does not change shape or dtype under its aliases.
void check_in_place(const Op& op, int slot, const Node* x, const Node* y) {
  const std::string sign = in_place_name(slot);
  const bool to_float = op.dtypes == DTypeRule::floating && !is_floating(x->dtype);
  const auto weak = traced_weak_kind(y);
  const DType met = to_float ? DType::float64
                    : weak   ? promote_weak(x->dtype, *weak)
                             : promote(x->dtype, y->dtype);
  if (met != x->dtype)
    raise(ErrorKind::type, op.name,
          "`x " + sign + " y` would change the dtype of x from " + std::string(name(x->dtype)) +
              " to " + std::string(name(met)) + ": write x = x " + sign.substr(0, sign.size() - 1) +
              " y, or convert y with astype");
  const Dims shape = broadcast_shapes(x->layout.shape(), y->layout.shape(), op.name);
  if (!(shape == Dims(x->layout.shape())))
    raise(ErrorKind::value, op.name,
          "`x " + sign + " y` would change the shape of x: shapes " + to_string(x->layout.shape()) +
              " and " + to_string(y->layout.shape()) + "; write x = x " +
              sign.substr(0, sign.size() - 1) + " y");
}

PyObject* in_place(int slot, PyObject* a, PyObject* b) noexcept {
  return guarded([&]() -> PyObject* {
    PyTensor* self = as_tensor(a);
    refuse_rebind_of_leaf(self, in_place_name(slot));
    const Op& op = *g_slot_ops[slot];
    if (meets_number(a, b)) [[unlikely]] {
      if (is_traced_number(a)) Py_RETURN_NOTIMPLEMENTED;  // numbers do not change in place
      number_operator(op, a, b);
    }
    Operands operands(op.name);
    operands.add(a, false);
    if (!operands.add(b, false)) Py_RETURN_NOTIMPLEMENTED;
    operands.finish();
    check_in_place(op, slot, operands.nodes()[0], operands.nodes()[1]);
    rebind_cell(self, apply(op, operands.nodes()));
    Py_INCREF(a);
    return a;
  });
}

template <int S>
PyObject* in_place_slot(PyObject* a, PyObject* b) {
  return in_place(S, a, b);
}

PyObject* in_place_power_slot(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) Py_RETURN_NOTIMPLEMENTED;
  return is_square(a, b) ? in_place(kMultiply, a, a) : in_place(kPow, a, b);
}

PyObject* in_place_matmul_slot(PyObject* a, PyObject* b) {
  return guarded([&]() -> PyObject* {
    PyTensor* self = as_tensor(a);
    refuse_rebind_of_leaf(self, "@=");
    py::object result = steal(matmul_slot(a, b));
    if (result.ptr() == Py_NotImplemented) return result.release().ptr();
    Node* node = as_tensor(result.ptr())->node;
    if (!node->layout.same_shape(self->node->layout) || node->dtype != self->node->dtype)
      raise(ErrorKind::value, "matmul",
            "`x @= y` would change x from shape " + to_string(self->node->layout.shape()) + " to " +
                to_string(node->layout.shape()) + ": write x = x @ y");
    retain_handle(node);
    rebind_cell(self, node);
    Py_INCREF(a);
    return a;
  });
}

// ---- Conversions to Python numbers --------------------------------------------------------------

Tensor single_element(PyObject* self, const char* what) {
  Node* node = read_node(as_tensor(self));
  if (node->layout.size() != 1)
    raise(ErrorKind::type, what,
          "only a tensor of one element converts to a Python number, this one has shape " +
              to_string(node->layout.shape()));
  refuse_implicit_exit(node, what);
  return host_value(node, what);
}

int bool_slot(PyObject* self) {
  return guarded_int([&] {
    Node* node = read_node(as_tensor(self));
    if (node->layout.size() != 1)
      raise(ErrorKind::value, "bool",
            "the truth value of a tensor of shape " + to_string(node->layout.shape()) +
                " is not defined: use ad.any(x) or ad.all(x)");
    // Branching on a value is allowed in every transform that runs the function on real numbers.
    const Tensor value = host_value(node, "bool");
    py::object number = steal(element_to_python(value.node()));
    return PyObject_IsTrue(number.ptr());
  });
}

PyObject* float_slot(PyObject* self) {
  return guarded([&]() -> PyObject* {
    const Tensor value = single_element(self, "float");
    py::object number = steal(element_to_python(value.node()));
    return PyNumber_Float(number.ptr());
  });
}

PyObject* int_slot(PyObject* self) {
  return guarded([&]() -> PyObject* {
    const Tensor value = single_element(self, "int");
    py::object number = steal(element_to_python(value.node()));
    return PyNumber_Long(number.ptr());
  });
}

PyObject* index_slot(PyObject* self) {
  return guarded([&]() -> PyObject* {
    const Node* node = as_tensor(self)->node;
    if (!is_integer(node->dtype) || node->layout.ndim() != 0)
      raise(ErrorKind::type, "index",
            "only a 0-d integer tensor can be an index, not shape " +
                to_string(node->layout.shape()) + " of " + std::string(name(node->dtype)));
    return element_to_python(single_element(self, "index").node());
  });
}

// ---- Sequence -----------------------------------------------------------------------------------

Py_ssize_t length_slot(PyObject* self) {
  const Node* node = as_tensor(self)->node;
  if (node->layout.ndim() == 0) {
    PyErr_SetString(PyExc_TypeError, "[len] a 0-d tensor has no length");
    return -1;
  }
  return static_cast<Py_ssize_t>(node->layout.shape()[0]);
}

PyObject* iter_slot(PyObject* self) {
  if (as_tensor(self)->node->layout.ndim() == 0) {
    PyErr_SetString(PyExc_TypeError, "[iter] iteration over a 0-d tensor: use x.item()");
    return nullptr;
  }
  return PySeqIter_New(self);
}

int contains_slot(PyObject* self, PyObject* value) {
  return guarded_int([&] {
    py::object equal = steal(PyObject_RichCompare(self, value, Py_EQ));
    if (!is_tensor(equal.ptr())) return PyObject_IsTrue(equal.ptr());
    py::object any = steal(PyObject_CallMethod(equal.ptr(), "any", nullptr));
    return PyObject_IsTrue(any.ptr());
  });
}

PyMemberDef tensor_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(PyTensor, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTensor, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

constexpr const char* kTensorDoc =
    "Tensor(data, /)\n--\n\n"
    "An n-dimensional array whose computation is recorded and can be differentiated.\n\n"
    "A Tensor is a handle on a value. ``x += y`` and ``x[i] = v`` give the handle a new value,\n"
    "seen through every alias of it; the old value, and views taken of it, never change.\n"
    "Make one with `tensor`, `asarray`, `zeros` and the like.\n\n"
    "Examples\n"
    "--------\n"
    ">>> import adjoint as ad\n"
    ">>> x = ad.tensor([1.0, 2.0])\n"
    ">>> view = x[:1]\n"
    ">>> x += 1\n"
    ">>> x.tolist(), view.tolist()\n"
    "([2.0, 3.0], [1.0])";

template <class F>
void* slot_of(F* f) {
  return reinterpret_cast<void*>(f);
}

std::vector<PyType_Slot> type_slots() {
  std::vector<PyType_Slot> s = {
      {Py_tp_doc, const_cast<char*>(kTensorDoc)},
      {Py_tp_new, slot_of(tensor_new)},
      {Py_tp_dealloc, slot_of(tensor_dealloc)},
      {Py_tp_traverse, slot_of(tensor_traverse)},
      {Py_tp_clear, slot_of(tensor_clear)},
      {Py_tp_setattro, slot_of(tensor_setattro)},
      {Py_tp_members, tensor_members},
      {Py_tp_methods, tensor_methods},
      {Py_tp_getset, tensor_getset},
      {Py_tp_repr, slot_of(tensor_repr)},
      {Py_tp_str, slot_of(tensor_str)},
      {Py_tp_richcompare, slot_of(compare_slot)},
      {Py_tp_hash, slot_of(PyObject_HashNotImplemented)},
      {Py_tp_iter, slot_of(iter_slot)},
      {Py_bf_getbuffer, slot_of(tensor_getbuffer)},
      {Py_bf_releasebuffer, slot_of(tensor_releasebuffer)},
      {Py_mp_length, slot_of(length_slot)},
      {Py_mp_subscript, slot_of(tensor_subscript)},
      {Py_mp_ass_subscript, slot_of(tensor_ass_subscript)},
      {Py_sq_length, slot_of(length_slot)},
      {Py_sq_item, slot_of(tensor_item_at)},
      {Py_sq_contains, slot_of(contains_slot)},
      {Py_nb_bool, slot_of(bool_slot)},
      {Py_nb_float, slot_of(float_slot)},
      {Py_nb_int, slot_of(int_slot)},
      {Py_nb_index, slot_of(index_slot)},
      {Py_nb_divmod, slot_of(divmod_slot)},
      {Py_nb_power, slot_of(power_slot)},
      {Py_nb_matrix_multiply, slot_of(matmul_slot)},
      {Py_nb_inplace_power, slot_of(in_place_power_slot)},
      {Py_nb_inplace_matrix_multiply, slot_of(in_place_matmul_slot)},
      {Py_nb_negative, slot_of(unary_slot<kNegative>)},
      {Py_nb_positive, slot_of(unary_slot<kPositive>)},
      {Py_nb_absolute, slot_of(unary_slot<kAbs>)},
      {Py_nb_invert, slot_of(unary_slot<kInvert>)},
  };
  const auto operators = [&]<int S>(std::integral_constant<int, S>, int plain, int assign) {
    s.push_back({plain, slot_of(binary_slot<S>)});
    s.push_back({assign, slot_of(in_place_slot<S>)});
  };
  operators(std::integral_constant<int, kAdd>{}, Py_nb_add, Py_nb_inplace_add);
  operators(std::integral_constant<int, kSubtract>{}, Py_nb_subtract, Py_nb_inplace_subtract);
  operators(std::integral_constant<int, kMultiply>{}, Py_nb_multiply, Py_nb_inplace_multiply);
  operators(std::integral_constant<int, kDivide>{}, Py_nb_true_divide, Py_nb_inplace_true_divide);
  operators(std::integral_constant<int, kFloorDivide>{}, Py_nb_floor_divide,
            Py_nb_inplace_floor_divide);
  operators(std::integral_constant<int, kRemainder>{}, Py_nb_remainder, Py_nb_inplace_remainder);
  operators(std::integral_constant<int, kAnd>{}, Py_nb_and, Py_nb_inplace_and);
  operators(std::integral_constant<int, kOr>{}, Py_nb_or, Py_nb_inplace_or);
  operators(std::integral_constant<int, kXor>{}, Py_nb_xor, Py_nb_inplace_xor);
  operators(std::integral_constant<int, kLeftShift>{}, Py_nb_lshift, Py_nb_inplace_lshift);
  operators(std::integral_constant<int, kRightShift>{}, Py_nb_rshift, Py_nb_inplace_rshift);
  s.push_back({0, nullptr});
  return s;
}

}  // namespace

PyObject* wrap(Node* node) noexcept {
  PyTensor* t = new_object();
  if (!t) [[unlikely]] {
    release_handle(node);
    return nullptr;
  }
  t->node = node;
  return reinterpret_cast<PyObject*>(t);
}

PyObject* wrap(Tensor&& tensor) noexcept {
  Leaf* leaf = tensor.leaf();
  if (leaf) retain_owner(leaf);
  PyObject* o = wrap(tensor.detach_node());
  if (o)
    as_tensor(o)->leaf = leaf;
  else if (leaf)
    release_owner(leaf);
  return o;
}

py::object handle_of_type(PyTypeObject* type, Tensor value) {
  if (type == tensor_type) return steal(wrap(value.detach_node()));
  py::object made = steal(type->tp_alloc(type, 0));
  clear_fields(as_tensor(made.ptr()));
  as_tensor(made.ptr())->node = value.detach_node();
  return made;
}

py::object copy_of_handle(PyTensor* original, Tensor value) {
  py::object copy = handle_of_type(Py_TYPE(original), std::move(value));
  PyTensor* t = as_tensor(copy.ptr());
  if (original->leaf) {
    retain_owner(original->leaf);
    t->leaf = original->leaf;
  }
  if (original->name) set_handle_name(t, Py_NewRef(original->name));
  t->dict = Py_XNewRef(original->dict);
  if (t->dict && !PyObject_GC_IsTracked(copy.ptr())) PyObject_GC_Track(copy.ptr());
  return copy;
}

void init_tensor_type(py::module_& m) {
  for (int i = 0; i < kSlotCount; ++i)
    if (i != kMatmul) g_slot_ops[i] = &find_op(kSlotOps[i]);
  std::vector<PyType_Slot> slots = type_slots();
  PyType_Spec spec = {"adjoint.Tensor", sizeof(PyTensor), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots.data()};
  py::object type = steal(PyType_FromSpec(&spec));
  tensor_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  type.attr("__array_priority__") = 1000;  // over np.matrix and the like
  m.attr("Tensor") = type;
  type.release();  // kept for the life of the process
}

void add_methods(PyMethodDef* table) {
  for (PyMethodDef* d = table; d->ml_name; ++d) {
    py::object method = steal(PyDescr_NewMethod(tensor_type, d));
    if (PyObject_SetAttrString(reinterpret_cast<PyObject*>(tensor_type), d->ml_name,
                               method.ptr()) != 0)
      throw_python();
  }
}

void bind_matmul(PyObject* function) noexcept { g_matmul = Py_NewRef(function); }

}  // namespace adjoint::python
