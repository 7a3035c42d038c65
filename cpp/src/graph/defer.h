// Deferred work: large elementwise operations and trailing reductions are not run where they are
// applied but together with the work they hang on, as one fused program.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "graph/fuse.h"
#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// Below this many elements a result is computed at once: planning a group would cost more.
inline constexpr std::int64_t kDeferSize = 8192;

/// Makes `out` (of the inferred shape, no value) a deferred application. Runs pending inputs
/// first when the group below would become too large. Edges and pending uses are set here.
void defer(Node* out, const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs);

/// Called when the last use of a deferred value is gone: true when the caller now owns the task
/// of dropping the pending uses of the inputs.
bool withdraw_deferred(Node* node) noexcept;

/// Computes one application right away, by the same planner, into `out`.
void run_fused_now(Node* out, const Op& op, std::span<Node* const> inputs, const Attrs* attrs);

/// A group as it would run.
struct PlannedGroup {
  struct Member {
    const Node* node;
    bool stored;
    bool remains;  // stays deferred, and is computed again when it is asked for
  };
  struct Read {
    const Node* node;
    Parted why;  // it is not computed in the group
  };
  GroupSpace space;
  std::vector<Member> members;  // in the order in which they run
  std::vector<Read> reads;
};

/// Reports the groups that materialize(nodes) would run, in order, and runs nothing. The nodes of
/// a report may be gone when the call returns: `report` copies what it needs, and applies nothing.
void foresee(std::span<Node* const> nodes, const std::function<void(const PlannedGroup&)>& report);

/// Tile kernel of an elementwise application at this operand dtype, or null.
const kernels::TileKernel* tile_kernel(const Op& op, DType operand, const Attrs* attrs);

/// The dtype by which an elementwise op's kernel is chosen.
DType operand_dtype(const Op& op, std::span<Node* const> inputs);

}  // namespace adjoint
