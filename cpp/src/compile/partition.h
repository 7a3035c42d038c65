// Partition: which nodes of a graph run together as one fused group, and in which order the
// groups and the other operations run.
//
// Nodes are looked at once, in topological order, and get a stage: a node that joins the groups of
// its latest inputs has their stage, any other the next one. Whatever a group needs from outside
// has an earlier stage, so groups can grow and merge and never form a cycle.
#pragma once

#include <cstdint>
#include <vector>

#include "compile/graph.h"
#include "graph/fuse.h"

namespace adjoint {

struct Partition {
  struct Step {
    enum class Kind : std::uint8_t {
      group,    // a fused group over a space
      scalars,  // a fused group of one-element values
      single,   // one operation on its own
    };
    Kind kind = Kind::single;
    std::uint32_t stage = 0;
    GroupSpace space;                   // group
    std::vector<Graph::Index> members;  // in topological order
  };
  static constexpr std::uint32_t kNone = ~0u;

  /// In the order in which they run.
  std::vector<Step> steps;
  /// By node; kNone for inputs, constants and dead nodes.
  std::vector<std::uint32_t> step_of;
  /// Nodes whose value is read outside of its step, or is an output.
  std::vector<bool> crosses;
  /// Why a node did not join the groups of its latest inputs, by node.
  std::vector<Parted> parted;
};

Partition partition(const Graph& graph);

}  // namespace adjoint
