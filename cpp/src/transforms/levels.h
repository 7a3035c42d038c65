// The boxes of open levels, for those who give a whole call its meaning under them.
#pragma once

#include <vector>

#include "graph/cell.h"
#include "graph/op.h"
#include "graph/thread_state.h"

namespace adjoint {

/// Whether the tangents of a forward level end at a value that is kept; `attrs` are those of the
/// record `kept`.
bool ends_tangents(const Attrs* attrs, std::uint32_t level);
/// A value of the level whose batch is axis 0 of `inner`.
Tensor box_batch(const Level& level, Tensor inner);
/// Of a batch that was opened last: in it a rule is run for the batch of this serial number, which
/// may still be open.
void stand_in_for(std::uint32_t serial);
/// What x is under `no_grad`: without tangents of levels that were open outside of it, and without
/// history but for that of transforms that were opened inside.
Tensor constant_part(const Tensor& x);
/// A shadow (graph/node.h) as a value whose history is not known, at whatever level.
Tensor unmarked(const Tensor& shadow);
/// The batches, from the outermost in, that the running function stands in and this cell does not;
/// none beyond a trace, which is a function of its own. Directions of one run are no batch of runs.
std::vector<Level> batches_around(const Cell& cell);

}  // namespace adjoint
