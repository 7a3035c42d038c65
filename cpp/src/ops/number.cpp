// Arithmetic of Python's numbers in a program: what it gives, and the errors that it raises.
#include <cmath>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family number_family;

ResultList infer_number(const Op&, std::span<Node* const>, const Attrs*) {
  return {DType::float64, {}};
}

double number_at(Node* n) {
  double value;
  std::memcpy(&value, n->data(), sizeof value);
  return value;
}

void put_number(Node* out, double value) { out->stored.put(value); }

[[maybe_unused]] Op& divide_record = number_family.define(
    {.name = "number_divide",
     .signature = "(a, b, /)",
     .doc = "a / b as Python divides numbers.",
     .kind = OpKind::custom,
     .arity = 2,
     .dtypes = DTypeRule::custom,
     .infer = infer_number,
     .run =
         [](const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
           if (number_at(in[1]) == 0) raise(ErrorKind::zero_division, "divide", "division by zero");
           put_number(out, number_at(in[0]) / number_at(in[1]));
         },
     .internal = true,
     .fallible = true});

[[maybe_unused]] Op& power_record = number_family.define(
    {.name = "number_power",
     .signature = "(a, b, /)",
     .doc = "a**b as Python raises floats, where that is a float.",
     .kind = OpKind::custom,
     .arity = 2,
     .dtypes = DTypeRule::custom,
     .infer = infer_number,
     .run =
         [](const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
           const double a = number_at(in[0]);
           const double b = number_at(in[1]);
           if (a == 0 && b < 0)
             raise(ErrorKind::zero_division, "pow", "0.0 cannot be raised to a negative power");
           const double value = std::pow(a, b);
           if (std::isinf(value) && std::isfinite(a) && std::isfinite(b))
             raise(ErrorKind::overflow, "pow", "the power of these numbers is out of range");
           put_number(out, value);
         },
     .internal = true,
     .fallible = true});

}  // namespace

void register_number_ops() { number_family.register_all(); }

}  // namespace adjoint
