#include "numbers.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "adjoint/ops.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/trace_sink.h"

namespace adjoint::python {

namespace {

constexpr std::uint32_t kMaxBits = 62;  // integers of more could overflow where Python's do not

// One operand: a traced number, or one that is known.
struct Number {
  WeakKind kind = WeakKind::floating;
  Node* traced = nullptr;
  Tensor value;  // of the kind's own dtype
  std::uint32_t bits = 0;

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
    out.value = Tensor::adopt(scalar_node(o, default_dtype(out.kind), "compile"));
    if (out.kind == WeakKind::integer)
      out.bits = static_cast<std::uint32_t>(std::ilogb(std::abs(PyLong_AsDouble(o)) + 1) + 1);
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
  return wrap(value.detach_node());
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
  if (op.dtypes == DTypeRule::compare)
    return wrap_number(apply(op, {&a.value, &b.value}), WeakKind::boolean, 1);
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
  return is_exact_tensor(o) && traced_weak_kind(as_tensor(o)->node).has_value();
}

PyObject* number_operator(const Op& op, PyObject* a, PyObject* b) {
  Number x, y;
  const bool first = Number::read(a, x);
  const bool second = Number::read(b, y);
  if (first && second) return combine(op, x, y);
  const std::string_view name = op.name;
  if (y.traced && (name == "pow" || name.ends_with("_shift"))) need_value(y.traced);
  return nullptr;
}

void mark_like_number(Node* result, const Node* operand) noexcept {
  if (const auto kind = traced_weak_kind(operand))
    mark_weak(result, *kind, operand->savers.load(std::memory_order_relaxed));
}

Tensor strong_value(Tensor x) {
  if (!traced_weak_kind(x.node())) return x;
  Tensor out = Tensor::adopt(alias(x.node(), nullptr, true));
  out.node()->pending = 0;
  return out;
}

}  // namespace adjoint::python
