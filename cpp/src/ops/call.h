// Applications that are functions of their own: callbacks and loops over programs.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "graph/holdings.h"
#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// What a call runs. It has no derivative: whoever makes the call attaches one.
class Callee : public Payload {
 public:
  /// Gives the results for a batch, those that depend on it with it as axis 0.
  class BatchFunction : public Payload {
   public:
    virtual std::vector<Tensor> run(const BatchArgs& args) const = 0;
    /// Which results depend on these inputs; empty: all.
    virtual std::vector<bool> depends(const std::vector<bool>& inputs) const = 0;
  };
  using Batch = IntrusivePtr<const BatchFunction>;

  Callee(std::vector<ResultSpec> results, Batch batch)
      : results_(std::move(results)), batch_(std::move(batch)) {}
  const std::vector<ResultSpec>& results() const noexcept { return results_; }
  /// Gives `outputs`, nodes of the results' shapes, their values: from ready inputs of level 0.
  virtual void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const = 0;
  std::vector<Tensor> batch(const BatchArgs& args) const { return batch_->run(args); }
  std::vector<bool> depends(const std::vector<bool>& inputs) const {
    std::vector<bool> out = batch_->depends(inputs);
    return out.empty() ? std::vector<bool>(results_.size(), true) : out;
  }
  void list(Holdings& out) const override { out.add(batch_.get()); }

 private:
  std::vector<ResultSpec> results_;
  Batch batch_;
};

/// All results on each input.
struct AllDepend {
  std::vector<bool> operator()(const std::vector<bool>&) const { return {}; }
};
/// A batching rule made of C++ functions.
template <class F, class Depends = AllDepend>
Callee::Batch make_batch(F f, Depends depends = {}) {
  class Made final : public Callee::BatchFunction {
   public:
    Made(F f, Depends depends) : f_(std::move(f)), depends_(std::move(depends)) {}
    std::vector<Tensor> run(const BatchArgs& args) const override { return f_(args); }
    std::vector<bool> depends(const std::vector<bool>& inputs) const override {
      return depends_(inputs);
    }

   private:
    F f_;
    Depends depends_;
  };
  return Callee::Batch(new Made(std::move(f), std::move(depends)));
}

std::vector<Tensor> call(const IntrusivePtr<const Callee>& callee, std::span<const Tensor> inputs);

}  // namespace adjoint
