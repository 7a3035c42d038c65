// The planner's side of super-kernels: patterns read into trees, and found in programs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/table.h"

namespace adjoint::kernels::fused {

/// A super-kernel and the tree of tile kernels it replaces, in prefix order.
struct Composite {
  struct Part {
    const TileKernel* tile;  // null for an operand
    int operand;
    bool single;  // operand: one element for the whole tile
    int end;      // index behind the last part below this one
    int vectors;  // operands at or below it that are not single
  };
  const CompositeKernel* kernel;
  std::vector<Part> parts;
  int operands = 0;
  int tiles = 0;
  std::uint32_t cost = 0;
};

/// The super-kernels that end in this tile kernel, those of most tile kernels first.
const std::vector<Composite>& composites_of(const TileKernel* tile);

}  // namespace adjoint::kernels::fused
