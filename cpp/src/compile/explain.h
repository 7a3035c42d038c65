// The groups of a program, explained in the form of deferred work (graph/explain.h).
#pragma once

#include <vector>

#include "compile/graph.h"
#include "graph/explain.h"

namespace adjoint {

/// The fused groups that a program of this graph runs. Values have the numbers of the graph.
std::vector<ExplainedGroup> explain(const Graph& graph);

}  // namespace adjoint
