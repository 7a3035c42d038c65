#include "graph/severed.h"

#include "graph/apply.h"
#include "graph/op.h"
#include "graph/thread_state.h"

namespace adjoint {

Tensor SeveredValues::stand_in_for(Node* value) {
  if (const auto it = places_.find(value); it != places_.end()) return pairs_[it->second].second;
  Tensor out = Tensor::adopt(alias(value, nullptr, false));
  out.node()->requires_grad = true;
  ThreadState& state = thread_state();
  state.order = out.node()->order = state.last_order() + 1;
  places_.emplace(value, pairs_.size());
  pairs_.emplace_back(Tensor::share(value), out);
  return out;
}

std::vector<Tensor> SeveredValues::stand_ins_of(const Tensor& source) const {
  std::vector<Tensor> out;
  for (const auto& [value, stand_in] : pairs_)
    if (value.node() == source.node() || (source.leaf() && value.node()->leaf == source.leaf()))
      out.push_back(stand_in);
  return out;
}

namespace {

/// A graph that is traced has to know that no cotangent passes.
Tensor unrecorded(Node* n) {
  static const Op& op = find_op("unrecorded");
  const RecordingScope off(false);
  return Tensor::adopt(apply(op, {&n, 1}, {}));
}

}  // namespace

std::vector<Tensor> severed_inputs(std::span<Node* const> inputs) {
  const ThreadState& state = thread_state();
  std::vector<Tensor> out;
  for (Node* n : inputs) {
    if (!is_severed(state, n))
      out.push_back(Tensor::share(n));
    else if (state.severed)
      out.push_back(state.severed->stand_in_for(n));
    else
      out.push_back(n->level ? unrecorded(n) : Tensor::adopt(alias(n, nullptr, false)));
  }
  return out;
}

}  // namespace adjoint
