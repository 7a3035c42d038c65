// What a tape under `no_grad` records of values from before: it may be asked for their derivatives,
// while transforms from outside of `no_grad` must not find a way to them.
#pragma once

#include <unordered_map>
#include <utility>
#include <vector>

#include "graph/node.h"

namespace adjoint {

/// Other nodes in the place of such values, without their history.
class SeveredValues {
 public:
  Tensor stand_in_for(Node* value);
  /// Those that stand for what a source has held so far.
  std::vector<Tensor> stand_ins_of(const Tensor& source) const;

 private:
  std::vector<std::pair<Tensor, Tensor>> pairs_;  // value, stand-in; in the order they were met
  std::unordered_map<const Node*, std::size_t> places_;
};

/// The inputs of an application that is recorded, with others in the place of the values that are
/// constants to it.
std::vector<Tensor> severed_inputs(std::span<Node* const> inputs);

}  // namespace adjoint
