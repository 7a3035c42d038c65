// The members of Tensor that need no derivative: making values, reading them, holding them.
#include "adjoint/tensor.h"

#include <cstring>
#include <utility>

#include "graph/apply.h"
#include "graph/node.h"
#include "graph/op.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "kernels/table.h"

namespace adjoint {

Tensor::Tensor(const Tensor& other) noexcept : node_(other.node_), leaf_(other.leaf_) {
  if (node_) retain_handle(node_);
  if (leaf_) retain_owner(leaf_);
}

Tensor& Tensor::operator=(const Tensor& other) noexcept {
  if (this != &other) *this = Tensor(other);
  return *this;
}

Tensor Tensor::share(Node* node) noexcept {
  retain_handle(node);
  return adopt(node);
}

// ------------------------------------------------------------------------------------ making

namespace {

/// Converts one element between dtypes through the cast kernels.
Tensor converted_scalar(const void* value, DType from, DType to) {
  Node* n = new_node(to, Layout());
  kernels::find_cast(from, to)->vv(&value, n->stored.bytes, 1);
  return Tensor::adopt(n);
}

template <class T>
Tensor copied(std::span<const T> data, Tensor::Shape shape, DType dtype) {
  const std::int64_t size = checked_size(shape, "from_data");
  if (static_cast<std::int64_t>(data.size()) != size)
    raise(ErrorKind::value, "from_data",
          std::to_string(data.size()) + " elements given for shape " + to_string(shape));
  Node* n = new_array(dtype, shape, "from_data");
  if (size) std::memcpy(n->data(), data.data(), data.size_bytes());
  return Tensor::adopt(n);
}

}  // namespace

Tensor::Tensor(double value) : Tensor(scalar(value)) {}

Tensor Tensor::from_data(std::span<const double> data, Shape shape) {
  return copied(data, shape, DType::float64);
}
Tensor Tensor::from_data(std::span<const float> data, Shape shape) {
  return copied(data, shape, DType::float32);
}
Tensor Tensor::from_data(std::span<const std::int64_t> data, Shape shape) {
  return copied(data, shape, DType::int64);
}

Tensor Tensor::scalar(double value, DType dtype) {
  if (dtype == DType::float64) {
    Node* n = new_node(dtype, Layout());
    n->stored.put(value);
    return adopt(n);
  }
  if (dtype == DType::float32) {
    Node* n = new_node(dtype, Layout());
    n->stored.put(static_cast<float>(value));
    return adopt(n);
  }
  return converted_scalar(&value, DType::float64, dtype);
}
Tensor Tensor::scalar(std::int64_t value, DType dtype) {
  return converted_scalar(&value, DType::int64, dtype);
}

// ----------------------------------------------------------------------------------- reading

Tensor::Shape Tensor::shape() const noexcept { return node_->layout.shape(); }
int Tensor::ndim() const noexcept { return node_->layout.ndim(); }
std::int64_t Tensor::size() const noexcept { return node_->layout.size(); }
DType Tensor::dtype() const noexcept { return node_->dtype; }
bool Tensor::requires_grad() const noexcept { return node_ && node_->requires_grad; }

double Tensor::item() const {
  if (size() != 1)
    raise(ErrorKind::value, "item",
          "a tensor of one element is needed, the shape is " + to_string(shape()));
  return to_vector()[0];
}

std::vector<double> Tensor::to_vector() const {
  const Tensor dense = contiguous(node_);
  std::vector<double> out(static_cast<std::size_t>(size()));
  const void* in = dense.node()->data();
  if (!out.empty()) kernels::find_cast(dtype(), DType::float64)->vv(&in, out.data(), size());
  return out;
}

// --------------------------------------------------------------------------------- the handle

/// In a trace the graph has to say it: no cotangent passes.
Tensor Tensor::detach() const {
  if (node_->box == Box::trace && node_->requires_grad) {
    static const Op& unrecorded = find_op("unrecorded");
    const RecordingScope off(false);
    const FieldScope<&ThreadState::constant_levels> no_constant(0);
    return apply(unrecorded, {this});
  }
  return adopt(alias(node_, nullptr, false));
}

Tensor& Tensor::requires_grad_(bool value) {
  if (!value) {
    *this = detach();
    return *this;
  }
  if (!is_differentiable(dtype()))
    raise(ErrorKind::type, "requires_grad_",
          "only floating tensors have gradients, the dtype is " + std::string(name(dtype())));
  if (leaf_) return *this;
  auto* leaf = new Leaf;  // its first reference and ownership are this handle's
  Node* fresh = alias(node_, leaf, false);
  *this = adopt(fresh, leaf);
  return *this;
}

void Tensor::rebind(const Tensor& value) {
  if (value.dtype() != dtype() || !value.node()->layout.same_shape(node_->layout))
    raise(ErrorKind::value, "rebind",
          "a " + std::string(name(value.dtype())) + " tensor of shape " + to_string(value.shape()) +
              " cannot replace a " + std::string(name(dtype())) + " tensor of shape " +
              to_string(shape()));
  Node* fresh = alias(value.node(), leaf_, false);
  release_handle(std::exchange(node_, fresh));
}

}  // namespace adjoint
