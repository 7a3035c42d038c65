// Explanations: which groups some work falls into, what is fused in them and why they end, as data
// and as text. Deferred work and programs are explained in the same form.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/fuse.h"
#include "graph/node.h"

namespace adjoint {

/// A value of an explanation.
struct ExplainedValue {
  std::size_t number;
  std::string made_by;              // name of the operation; where the value comes from if none
  std::vector<std::size_t> inputs;  // by number; only of what a group computes
  DType dtype;
  Dims shape;
  std::string note;  // what becomes of it; of a value that is read, why it is not computed here
  std::string attrs = {};  // as text; only of what a group computes
};

struct ExplainedGroup {
  Dims space;
  int reduced = 0;  // trailing axes of the space
  int lead = 0;     // leading axes that column reductions reduce
  std::vector<ExplainedValue> reads;
  std::vector<ExplainedValue> members;
};

/// The groups that evaluating these values would run, in order. Computes and changes nothing.
std::vector<ExplainedGroup> explain(std::span<Node* const> nodes);

std::string to_string(std::span<const ExplainedGroup> groups);

}  // namespace adjoint
