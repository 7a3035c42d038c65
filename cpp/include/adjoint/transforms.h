// Derivatives of functions: the public transforms, and the few pieces from which the Python
// package builds its own (it has pytrees and argument numbers to deal with first).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "adjoint/tensor.h"

namespace adjoint {

using Function = std::function<Tensor(const Tensor&)>;
using FunctionN = std::function<Tensor(std::span<const Tensor>)>;

/// Gradient of a scalar-valued function: x -> df/dx. Any order: grad(grad(f)).
Function grad(Function f);
/// x -> (f(x), df/dx).
std::function<std::pair<Tensor, Tensor>(const Tensor&)> value_and_grad(Function f);
/// Gradients of a scalar-valued function of several tensors.
std::vector<Tensor> gradients_at(const FunctionN& f, std::span<const Tensor> inputs);
/// (f(x), v -> v J(x)): the pullback may be called any number of times.
std::pair<Tensor, Function> vjp(const Function& f, const Tensor& x);
/// (f(x), J(x) t).
std::pair<Tensor, Tensor> jvp(const Function& f, const Tensor& x, const Tensor& t);
/// Second derivatives of a scalar-valued function: shape x.shape + x.shape.
Function hessian(Function f);
/// Maps f over axis 0 of its input.
Function vmap(Function f);
/// The same value; no derivative passes.
Tensor stop_gradient(const Tensor& x);

/// What a reverse sweep does.
struct SweepOptions {
  /// Record the sweep, so that its results can be differentiated again. A sweep inside an open
  /// tape or reverse transform is recorded in any case; if that is open in another thread, where
  /// the outputs have a history that it may ask for.
  bool create_graph = false;
  /// Raise when a source is not connected to any output; else its gradient is zeros.
  bool require_connected = false;
  /// Leave it undefined instead.
  bool undefined_if_unconnected = false;
  /// Only applications made in these half-open ranges of the thread's order counter count
  /// (a gradient tape's open stretches); empty: all.
  std::span<const std::pair<std::uint64_t, std::uint64_t>> ranges = {};
};

/// Gradients of sum_i <outputs[i], cotangents[i]> with respect to `sources`. A source handle that
/// is a leaf stands for every value it has had. `cotangents` is empty for scalar outputs (ones).
std::vector<Tensor> sweep(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
                          std::span<const Tensor> sources, const SweepOptions& options = {});

/// Whether a tape or a reverse transform is open around that of `sources`, in this thread, or in
/// another one that `outputs` have come to from there.
bool is_recorded_outside(std::span<const Tensor> outputs, std::span<const Tensor> sources);

/// Adds gradients to every leaf the outputs were computed from: what `Tensor::backward` does.
void backward(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
              bool create_graph);

/// Marks a stretch in which a reverse transform or a tape is open: recording is on, and sweeps
/// inside are recorded.
class RecorderScope {
 public:
  RecorderScope();
  ~RecorderScope();
  RecorderScope(const RecorderScope&) = delete;
  RecorderScope& operator=(const RecorderScope&) = delete;

 private:
  bool before_;
};

/// A fresh leaf with the value of x that keeps x's own history: the input of a reverse transform.
Tensor reverse_input(const Tensor& x);

/// A level in which tensors are duals (forward mode) or batches (vmap), open while it lives.
class TransformLevel {
 public:
  static TransformLevel dual() { return TransformLevel(-1, 0); }
  /// For a rule that runs a function again: the level whose tangents the rule gives, as handles
  /// know it that the function assigns to.
  static TransformLevel dual_again();
  static TransformLevel batch(std::int64_t size) { return TransformLevel(size, 0); }
  /// A batch of tangents or cotangents of one run: its members have nothing of their own but these,
  /// so that a generator from outside draws once for all of them.
  static TransformLevel directions(std::int64_t size) { return TransformLevel(size, 0, true); }
  ~TransformLevel();
  TransformLevel(const TransformLevel&) = delete;
  TransformLevel& operator=(const TransformLevel&) = delete;

  /// dual: x with a tangent of the same shape (undefined: zero).
  Tensor make_dual(const Tensor& x, const Tensor& tangent) const;
  /// dual: (primal, tangent); the tangent is undefined where the value does not depend.
  std::pair<Tensor, Tensor> split_dual(const Tensor& y) const;
  /// Whether y is a box of this level.
  bool holds(const Tensor& y) const;
  /// batch: x mapped over `axis`.
  Tensor make_batched(const Tensor& x, int axis) const;
  /// batch: the stacked value with the batch at `axis`; an unmapped value is repeated.
  Tensor split_batched(const Tensor& y, int axis) const;

 private:
  TransformLevel(std::int64_t batch_size, std::uint32_t stands_for, bool directions = false);
  std::uint16_t level_;
  std::uint32_t serial_;
  std::int64_t batch_size_;
  void* scope_;
};

}  // namespace adjoint
