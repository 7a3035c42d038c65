// Python numbers among the arguments of a compiled function: while it is traced they are 0-d
// values, and operators between them mean what they mean between numbers.
#pragma once

#include "graph/op.h"
#include "pytensor.h"

namespace adjoint::python {

/// Whether it is a handle on a traced number.
bool is_traced_number(PyObject* o) noexcept;
/// A handle on a value, of the class of numbers where it stands for one. That class has what
/// Python's numbers have and tensors have not (`round(n)`, `{2: x}[n]`, `n.bit_length()`): it asks
/// for the value.
py::object wrapped_value(Tensor value);
/// The operator `op` where an operand is a traced number. Null, with no error, where the other is a
/// tensor and the usual rules hold. Asks for the value of a number where the result or an error
/// depends on it.
PyObject* number_operator(const Op& op, PyObject* a, PyObject* b);
/// The unary operator `op` on a traced number.
PyObject* number_unary(const Op& op, PyObject* a);
/// A tensor, where a function makes one of a number.
Tensor strong_value(Tensor x);
/// Asks for the value of a traced number where the tensors that it meets, of this dtype, take
/// another from Python's: where it may not fit, or is rounded twice.
void check_meeting(const Node* number, DType met);

void init_numbers(py::module_& m);

}  // namespace adjoint::python
