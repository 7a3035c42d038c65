// Applications that are functions of their own: callbacks and loops over programs.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// What a call runs. It has no derivative: whoever makes the call attaches one.
class Callee : public Payload {
 public:
  /// The results for a batch, each with it as axis 0.
  using Batch = std::function<std::vector<Tensor>(const BatchArgs&)>;

  Callee(std::vector<ResultSpec> results, Batch batch)
      : results_(std::move(results)), batch_(std::move(batch)) {}
  const std::vector<ResultSpec>& results() const noexcept { return results_; }
  /// Gives `outputs`, nodes of the results' shapes, their values: from ready inputs of level 0.
  virtual void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const = 0;
  std::vector<Tensor> batch(const BatchArgs& args) const { return batch_(args); }

 private:
  std::vector<ResultSpec> results_;
  Batch batch_;
};

std::vector<Tensor> call(const IntrusivePtr<const Callee>& callee, std::span<const Tensor> inputs);

}  // namespace adjoint
