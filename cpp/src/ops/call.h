// Applications that are functions of their own: callbacks and loops over programs. An application
// has one result, so the results of a call lie in one block of bytes, of which they are views.
#pragma once

#include <span>
#include <vector>

#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// What a call runs. It has no derivative: whoever makes the call attaches one.
class Callee : public Payload {
 public:
  explicit Callee(std::vector<ResultSpec> results) : results_(std::move(results)) {}
  const std::vector<ResultSpec>& results() const noexcept { return results_; }
  /// Fills the contiguous `outputs` from ready inputs of level 0.
  virtual void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const = 0;
  /// The results for a batch, which is their axis 0.
  virtual std::vector<Tensor> batch(const BatchArgs& args) const = 0;

 private:
  std::vector<ResultSpec> results_;
};

std::vector<Tensor> call(IntrusivePtr<const Callee> callee, std::span<const Tensor> inputs);

}  // namespace adjoint
