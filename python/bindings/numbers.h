// Python numbers among the arguments of a compiled function: while it is traced they are 0-d
// values, and operators between them mean what they mean between numbers.
#pragma once

#include "graph/op.h"
#include "pytensor.h"

namespace adjoint::python {

/// Whether it is a handle on a traced number.
bool is_traced_number(PyObject* o) noexcept;
/// The operator `op` where an operand is a traced number. Null, with no error, where the other is a
/// tensor and the usual rules hold. Asks for the value of a number where the result or an error
/// depends on it.
PyObject* number_operator(const Op& op, PyObject* a, PyObject* b);
/// Marks the result of a unary operator on a traced number as one.
void mark_like_number(Node* result, const Node* operand) noexcept;
/// A tensor, where a function makes one of a number.
Tensor strong_value(Tensor x);

}  // namespace adjoint::python
