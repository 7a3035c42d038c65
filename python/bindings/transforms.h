// What the transforms of Python functions share: arguments taken apart into differentiable leaves,
// outputs brought back to tensors.
#pragma once

#include <span>
#include <vector>

#include "adjoint/transforms.h"
#include "convert.h"
#include "tree.h"

namespace adjoint::python {

/// The leaves of one argument as tensors, and how to put it together again.
struct TensorTree {
  TreeDef def;
  std::vector<Tensor> leaves;
};

/// Every leaf a float or a floating tensor, or a TypeError that names the place.
TensorTree differentiable_argument(py::handle arg, const char* op, std::size_t position);
/// Every leaf any data.
TensorTree tensor_tree(py::handle arg, const char* op);
/// Handles of Python on the tensors, in the given structure.
py::object to_python(const TreeDef& def, std::vector<Tensor> leaves);
/// One differentiable leaf.
Tensor differentiable_leaf(PyObject* o, const char* op, std::size_t position);
/// What a transformed function returned, as one floating tensor of one element.
Tensor scalar_output(PyObject* o, const char* op);

/// Handles of Python on the tensors, constants of an open trace included; None where undefined.
py::list to_list(std::span<const Tensor> tensors);
/// The values of handles of Python.
std::vector<Tensor> tensors_of(const py::sequence& handles);
/// What they are like.
std::vector<ResultSpec> specs_of(std::span<const Tensor> tensors);

/// A result whose tensors are handles of its own: others stand for those that were there at `since`
/// of the thread's births. Under `no_grad` they are constants.
py::object own_handles(py::object result, std::uint64_t since);

/// The new Python callable of a transform.
enum class TransformKind : std::uint8_t { grad, value_and_grad, jacobian, hessian, vmap };
struct TransformSpec {
  TransformKind kind = TransformKind::grad;
  Dims argnums;
  bool single = true;  // argnums was an int, not a tuple
  bool has_aux = false;
  py::object in_axes;
  py::object out_axes;
  bool directions = false;  // vmap: over directions of one run
};
py::object make_transform(TransformSpec spec, py::object f);

/// One call of a transformed function: `args` holds `nargs` positional arguments, then the values
/// of the names in `kwnames`.
using CallArgs = std::vector<PyObject*>;
PyObject* call_grad(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                    std::size_t nargs, PyObject* kwnames);
PyObject* call_jacobian(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                        std::size_t nargs, PyObject* kwnames);
PyObject* call_vmap(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                    std::size_t nargs, PyObject* kwnames);

py::object forward_mode(py::object f, py::object primals, py::object tangents);
void init_batching(py::module_& m);
void init_custom(py::module_& m);
void init_control(py::module_& m);

}  // namespace adjoint::python
