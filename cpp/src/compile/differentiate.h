// Graphs made from a graph: its pullback, its pushforward, its batch, and the pair of graphs of
// which the first keeps what the second needs to pull cotangents back.
#pragma once

#include <vector>

#include "compile/graph.h"

namespace adjoint {

using GraphMask = std::vector<bool>;

/// (inputs, cotangents of the outputs `seeds`) -> cotangents of the inputs `wanted`.
Graph pull_back(const Graph& graph, const GraphMask& wanted, const GraphMask& seeds);
/// (inputs, tangents of the inputs `moving`) -> tangents of the outputs `results`.
Graph push_forward(const Graph& graph, const GraphMask& moving, const GraphMask& results);
/// The graph for a batch: axis 0 of the inputs `mapped`, and of the outputs that depend on them.
Graph batch_graph(const Graph& graph, const GraphMask& mapped, std::int64_t size);

/// A reverse sweep cut in two where the outputs are known.
struct ForwardBackward {
  Graph forward;   // inputs -> outputs, then what is kept for `backward`
  Graph backward;  // (kept, cotangents of the outputs `seeds`) -> cotangents of `wanted`
  /// What is kept: an input by number, or the next of the forward graph's results (kResult).
  static constexpr std::uint32_t kResult = ~0u;
  std::vector<std::uint32_t> kept;
};
ForwardBackward cut_sweep(const Graph& graph, const GraphMask& wanted, const GraphMask& seeds);

}  // namespace adjoint
