// Control flow inside programs: functions traced into graphs of their own, and the calls that
// choose between them or run them again and again.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "adjoint/compile.h"
#include "compile/graph.h"
#include "compile/trace.h"
#include "ops/call.h"

namespace adjoint {

/// A function as a graph with nothing around it: the values that it takes from open transforms, and
/// those that require grad, are inputs after its own.
struct ClosedGraph {
  std::shared_ptr<const Graph> graph;
  std::vector<Tensor> captured;
};

/// Traces `f` for arguments of these shapes and dtypes, while another trace is open. `what` names
/// the function in errors.
ClosedGraph trace_closed(const ListFunction& f, std::span<const ResultSpec> arguments,
                         SourceFinder find_source, const char* what, bool branch = false);

/// Inputs: a bool, what both functions take, what the first has captured, what the second has.
IntrusivePtr<const Callee> make_cond(const Graph& if_true, const Graph& if_false,
                                     std::size_t shared, Callee::Batch batch);

/// Inputs: the carried values, what `condition` has captured, what `body` has. At most `limit`
/// steps unless it is negative.
IntrusivePtr<const Callee> make_while(const Graph& condition, const Graph& body,
                                      std::size_t carried, std::int64_t limit, Callee::Batch batch);

/// Inputs: the carried values, arrays whose rows the steps take in turn, what `body` has captured.
/// Results: the carried values, then what the steps return, stacked.
IntrusivePtr<const Callee> make_scan(const Graph& body, std::size_t carried, std::size_t rows,
                                     std::int64_t length, bool reverse, Callee::Batch batch);

}  // namespace adjoint
