// The boxes of open levels, for those who give a whole call its meaning under them.
#pragma once

#include "graph/thread_state.h"

namespace adjoint {

/// A value of the level whose batch is axis 0 of `inner`.
Tensor box_batch(const Level& level, Tensor inner);

}  // namespace adjoint
