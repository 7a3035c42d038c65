// Shared parts of linear algebra; see the header.
#include "ops/linalg_support.h"

#include <algorithm>
#include <tuple>
#include <vector>

namespace adjoint::linalg {

Tensor matrices(const Tensor& x, const char* op) {
  if (x.ndim() < 2)
    raise(
        ErrorKind::value, op,
        "needs a matrix, or a stack of them, in the last two axes: shape " + to_string(x.shape()));
  return in_floating(x);
}

Tensor square_matrices(const Tensor& x, const char* op) {
  Tensor out = matrices(x, op);
  if (rows_of(x) != columns_of(x))
    raise(ErrorKind::value, op,
          "needs square matrices in the last two axes: shape " + to_string(x.shape()));
  return out;
}

std::pair<Tensor, Tensor> in_one_dtype(const Tensor& a, const Tensor& b) {
  if (a.dtype() == b.dtype()) return {in_floating(a), in_floating(b)};
  const DType dtype = promote(a.dtype(), b.dtype());
  return {in_floating(astype(a, dtype)), in_floating(astype(b, dtype))};
}

Tensor over_stack(const Tensor& x, Layout::Extents stack) {
  const Dims shape = with_matrix(stack, rows_of(x), columns_of(x));
  return std::ranges::equal(x.shape(), shape) ? x : broadcast_to(x, shape);
}

System::System(const Tensor& left, const Tensor& right, const char* op)
    : vector_(right.ndim() == 1) {
  std::tie(a, b) = in_one_dtype(square_matrices(left, op), right);
  if (vector_) b = expand_dims(b, 1);
  if (b.ndim() < 2 || rows_of(b) != rows_of(a))
    raise(ErrorKind::value, op,
          "shapes " + to_string(left.shape()) + " and " + to_string(right.shape()) +
              " make no system: a right side is a vector (n,) or matrices (..., n, k), of as many "
              "rows as the left side");
  if (a.ndim() == 2 && b.ndim() == 2) return;
  const Dims stack = broadcast_shapes(stack_of(a.shape()), stack_of(b.shape()), op);
  a = over_stack(a, stack);
  b = over_stack(b, stack);
}

Tensor symmetric_part(const Tensor& x) { return (x + matrix_transpose(x)) * 0.5; }

Tensor unit_matrix(const Tensor& like, Index n) {
  return over_stack(eye(n, {}, 0, like.dtype()), stack_of(like.shape()));
}

Tensor batch_stacked(const BatchArgs& args) { return batch_all_stacked(args)[0]; }

std::vector<Tensor> batch_all_stacked(const BatchArgs& args) {
  std::vector<Tensor> inputs;
  std::vector<Node*> nodes;
  for (std::size_t i = 0; i < args.inputs.size(); ++i) {
    inputs.push_back(mapped_input(args, i));
    nodes.push_back(inputs.back().node());
  }
  return apply_all(args.op, nodes, same_attrs(args.attrs));
}

std::string Failure::subject(Layout::Extents stack) const {
  if (stack.empty()) return "the matrix";
  Dims index(stack);
  Index rest = matrix_;
  for (std::size_t d = stack.size(); d-- > 0; rest /= stack[d]) index[d] = rest % stack[d];
  const std::string place =
      stack.size() == 1 ? std::to_string(index[0]) : to_string({index.data(), index.size()});
  return "matrix " + place + " of the stack";
}

MatrixReader::MatrixReader(Node* x, Order order) : held_(Tensor::share(x)) {
  const auto usable = [&](const Layout& layout) {
    const auto shape = layout.shape().last(2), strides = layout.strides().last(2);
    const auto runs = [&](std::size_t across, std::size_t along) {
      return (strides[along] == 1 || shape[along] <= 1) &&
             (strides[across] >= std::max<Index>(shape[along], 1) || shape[across] <= 1);
    };
    transposed_ = order == Order::any && !runs(0, 1) && runs(1, 0);
    return runs(0, 1) || transposed_;
  };
  if (!usable(x->layout)) {
    held_ = contiguous(x);
    usable(held_.node()->layout);
  }
  const Layout& layout = held_.node()->layout;
  const auto shape = layout.shape(), strides = layout.strides();
  const std::size_t at = shape.size() - 2;
  data_ = held_.node()->data();
  stack_ = Dims(shape.first(at));
  strides_ = Dims(strides.first(at));
  const std::size_t across = at + (transposed_ ? 1 : 0), along = at + (transposed_ ? 0 : 1);
  leading_ = shape[across] > 1 ? strides[across] : std::max<Index>(shape[along], 1);
}

}  // namespace adjoint::linalg
