// The public transforms of C++ functions, built from sweeps and levels.
#include <algorithm>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "transforms/levels.h"

namespace adjoint {

RecorderScope::RecorderScope() : before_(thread_state().recording) {
  ThreadState& state = thread_state();
  state.recording = true;
  ++state.open_recorders;
  ++state.recorders;
  g_open_recorders.fetch_add(1, std::memory_order_relaxed);
}

RecorderScope::~RecorderScope() {
  ThreadState& state = thread_state();
  state.recording = before_;
  --state.open_recorders;
  --state.recorders;
  g_open_recorders.fetch_sub(1, std::memory_order_relaxed);
}

Tensor reverse_input(const Tensor& x) {
  if (!is_differentiable(x.dtype()))
    raise(ErrorKind::type, "grad",
          "the gradient of a tensor of dtype " + std::string(name(x.dtype())) +
              " is undefined: convert it to a floating dtype first");
  const Tensor given = thread_state().constant ? constant_part(x) : x;
  auto* leaf = new Leaf;
  leaf->of_transform = true;
  return Tensor::adopt(alias(given.node(), leaf, thread_state().recording), leaf);
}

namespace {

/// f at x with everything that depends on x recorded; the scope is closed before the sweep.
std::pair<Tensor, Tensor> recorded(const Function& f, const Tensor& x) {
  const RecorderScope scope;
  Tensor input = reverse_input(x);
  Tensor output = f(input);
  return {std::move(input), std::move(output)};
}

Tensor basis(const Tensor& x) {
  Dims shape{x.size()};
  shape.append(x.shape().data(), x.shape().size());
  return reshape(eye(x.size(), x.size(), 0, x.dtype()), shape);
}

}  // namespace

std::function<std::pair<Tensor, Tensor>(const Tensor&)> value_and_grad(Function f) {
  return [f = std::move(f)](const Tensor& x) {
    const auto [input, output] = recorded(f, x);
    Tensor slope = sweep({&output, 1}, {}, {&input, 1})[0];
    return std::pair{output, std::move(slope)};
  };
}

Function grad(Function f) {
  return [both = value_and_grad(std::move(f))](const Tensor& x) { return both(x).second; };
}

std::vector<Tensor> gradients_at(const FunctionN& f, std::span<const Tensor> inputs) {
  std::vector<Tensor> leaves;
  Tensor output;
  {
    const RecorderScope scope;
    for (const Tensor& x : inputs) leaves.push_back(reverse_input(x));
    output = f(leaves);
  }
  return sweep({&output, 1}, {}, leaves);
}

std::pair<Tensor, Function> vjp(const Function& f, const Tensor& x) {
  auto [input, output] = recorded(f, x);
  Function pullback = [input = input, output = output](const Tensor& cotangent) {
    return sweep({&output, 1}, {&cotangent, 1}, {&input, 1})[0];
  };
  return {output, std::move(pullback)};
}

std::pair<Tensor, Tensor> jvp(const Function& f, const Tensor& x, const Tensor& t) {
  const TransformLevel level = TransformLevel::dual();
  auto [primal, tangent] = level.split_dual(f(level.make_dual(x, t)));
  if (!tangent.defined()) tangent = zeros(primal.shape(), primal.dtype());
  return {primal, tangent};
}

Function vmap(Function f) {
  return [f = std::move(f)](const Tensor& x) {
    if (x.ndim() == 0)
      raise(ErrorKind::value, "vmap", "the input has no axis to map over: its shape is ()");
    const TransformLevel level = TransformLevel::batch(x.shape()[0]);
    return level.split_batched(f(level.make_batched(x, 0)), 0);
  };
}

Function hessian(Function f) {
  return [slope = grad(std::move(f))](const Tensor& x) {
    const Function column = [&](const Tensor& direction) {
      return jvp(slope, x, direction).second;
    };
    Dims shape(x.shape());
    shape.append(x.shape().data(), x.shape().size());
    return reshape(vmap(column)(basis(x)), shape);
  };
}

}  // namespace adjoint
