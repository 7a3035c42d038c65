// Derivatives given by hand.
//
// A value whose derivative is not that of the operations that made it is a sum: the value, made
// from inputs without history, and a *carrier*, an application to the inputs themselves whose value
// is -0.0 everywhere (x + -0.0 has the bits of x) and whose derivative is a rule. The sum is an
// ordinary one, so whatever differentiates, batches, defers or compiles needs to know nothing of
// it. What the value owes to anything but the inputs keeps its own derivative. The carriers of
// several values are the results of one application, so that all cotangents meet in one call.
#pragma once

#include <span>
#include <vector>

#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// The linear map from tangents of the inputs to tangents of the values, and its transpose.
class DerivativeRule : public Payload {
 public:
  /// `values` tells what the values are like, which are floating.
  explicit DerivativeRule(std::vector<ResultSpec> values) : values_(std::move(values)) {}
  const std::vector<ResultSpec>& values() const noexcept { return values_; }

  /// From a cotangent per value, undefined where none came, to one per input, undefined where zero
  /// or, if that saves work, not wanted.
  virtual std::vector<Tensor> pull(std::span<const Tensor> inputs,
                                   std::span<const Tensor> cotangents, Wanted wanted) const = 0;
  /// From a tangent per input to one per value, both undefined where zero.
  virtual std::vector<Tensor> push(std::span<const Tensor> inputs,
                                   std::span<const Tensor> tangents) const = 0;

  /// Which values depend on these inputs.
  virtual std::vector<bool> depends(const std::vector<bool>&) const {
    return std::vector<bool>(values_.size(), true);
  }

 protected:
  /// The cotangents with zeros where none came.
  std::vector<Tensor> all_defined(std::span<const Tensor> cotangents) const;

 private:
  std::vector<ResultSpec> values_;
};

/// The `values`, which the rule describes, with its derivative with respect to `inputs` added to
/// their own.
std::vector<Tensor> with_derivative(std::span<const Tensor> values, std::span<const Tensor> inputs,
                                    IntrusivePtr<const DerivativeRule> rule);

/// The same for level 0 while recording, where the values are known to have no history: they keep
/// their memory.
std::vector<Tensor> recorded_with_derivative(std::span<const Tensor> values,
                                             std::span<const Tensor> inputs,
                                             IntrusivePtr<const DerivativeRule> rule);

/// Whether a derivative with respect to x is wanted now, by recording or by a forward transform.
bool is_differentiated(const Tensor& x) noexcept;
/// Whether a forward transform differentiates x.
bool has_tangent(const Tensor& x) noexcept;
/// Whether x belongs to a graph that may be differentiated once it is traced, and has a derivative
/// there.
bool is_in_body(const Tensor& x);

/// The same value; in a program, work on it is not merged with work on x.
Tensor barrier(const Tensor& x);

/// Whether a derivative of x is wanted with respect to what was made or recorded, or to a leaf that
/// was made, before the thread's order counter passed `start`: what transforms inside have made of
/// their own inputs does not count.
bool is_connected(const Tensor& x, std::uint64_t start);

}  // namespace adjoint
