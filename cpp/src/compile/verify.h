// Checks of what the passes of the compiler hand to each other. They cost as much as the passes
// and run in debug builds only; each raises a runtime Error that says what does not hold.
#pragma once

#include "compile/graph.h"
#include "compile/partition.h"
#include "compile/plan.h"

namespace adjoint {

#ifdef NDEBUG
inline constexpr bool kVerify = false;
#else
inline constexpr bool kVerify = true;
#endif

/// Inputs come before their readers; shapes and dtypes are what the operations infer.
void verify(const Graph& graph);
/// Every node that outputs need runs once, after its inputs; what is read elsewhere crosses.
void verify(const Partition& parts, const Graph& graph);
/// Every place is written before it is read, freed once and not read again, and shares memory of
/// the arena with no place that is still to be read.
void verify(const Plan& plan);

}  // namespace adjoint
