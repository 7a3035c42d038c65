// Rewrites of a whole graph. Only what leaves every bit as it was is rewritten: identities are
// applied as nodes are added, dead nodes are left behind, and small constant parts are run by the
// kernels that would have run them in the program.
#include "compile/graph.h"
#include "graph/apply.h"
#include "graph/results.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"

namespace adjoint {

namespace {

constexpr std::int64_t kFoldSize = 256;  // elements up to which a constant is worth keeping

/// Elements in memory: what is repeated counts once.
std::int64_t stored_size(const Node* value) {
  std::int64_t n = 1;
  for (int axis = 0; axis < value->layout.ndim(); ++axis)
    if (value->layout.strides()[axis] != 0) n *= value->layout.shape()[axis];
  return n;
}

/// Whether an application to constants is run now: where the result is small, a view, or about as
/// large as what it replaces. A custom op with a payload calls a function of the user, who counts
/// its calls.
bool foldable(const Graph& graph, Graph::Index i) {
  const Graph::Entry& e = graph[i];
  if (e.op->fallible || e.op->run_all || e.op->kind == OpKind::custom ||
      (e.attrs && e.attrs->has_payload()))
    return false;
  std::int64_t room = kFoldSize;
  for (const Graph::Index in : graph.inputs_of(i)) room += 2 * stored_size(graph.value_of(in));
  return e.op->kind == OpKind::view || e.size() <= room;
}

Tensor run_node(const Graph& graph, Graph::Index i, std::span<const Graph::Index> inputs) {
  std::vector<Node*> operands;
  for (const Graph::Index in : inputs) operands.push_back(graph.value_of(in));
  const Graph::Entry& e = graph[i];
  return Tensor::adopt(apply(*e.op, operands, e.attrs));
}

/// The results of an application that depends on its attributes alone.
std::vector<Tensor> fixed_values(const Graph& graph, Graph::Index i) {
  const Graph::Entry& e = graph[i];
  const ResultSpec only{e.dtype, e.shape};
  const auto specs = e.tuple ? graph.results_of(i) : std::span(&only, 1);
  return run_results(*e.op, specs, {}, e.attrs.get(), 0);
}

}  // namespace

Graph simplify(const Graph& graph) {
  const RecordingScope unrecorded(false);  // plain values, whatever the thread is doing
  const DeferralScope undeferred(false);
  const std::vector<bool> live = graph.needed_by(graph.outputs());
  std::vector<Graph::Index> to(graph.size(), 0);
  Graph out(graph.sources());
  bool folded = false;
  std::vector<Tensor> fixed;  // results of the application looked at last, whose parts follow it
  Graph::Index fixed_of = ~Graph::Index{0};
  std::vector<Graph::Index> inputs;
  for (Graph::Index i = 0; i < graph.size(); ++i) {
    const Graph::Entry& e = graph[i];
    if (e.kind == Graph::Kind::input) {
      to[i] = out.add_input(e.dtype, e.shape);
      continue;
    }
    if (!live[i]) continue;
    if (e.kind == Graph::Kind::constant) {
      to[i] = out.add_constant(graph.value_of(i));
      continue;
    }
    if (e.op->fixed_value) {
      fixed = fixed_values(graph, i);
      if (!e.tuple) to[i] = out.add_constant(fixed[0].node());
      fixed_of = i;
      continue;
    }
    if (e.op->part && graph[graph.inputs_of(i)[0]].op->fixed_value) {
      if (const Graph::Index tuple = graph.inputs_of(i)[0]; fixed_of != tuple) {
        fixed = fixed_values(graph, tuple);
        fixed_of = tuple;
      }
      to[i] = out.add_constant(fixed[part_index(e.attrs.get())].node());
      continue;
    }
    if (e.op->transparent) {
      to[i] = to[graph.inputs_of(i)[0]];
      continue;
    }
    inputs.clear();
    bool constant = current_trace() == nullptr;  // a trace around would record creations
    for (const Graph::Index in : graph.inputs_of(i)) {
      inputs.push_back(to[in]);
      constant &= out[to[in]].kind == Graph::Kind::constant && !out.value_of(to[in])->level;
    }
    to[i] = out.add_copy(graph, i, inputs);
    if (!constant || out[to[i]].kind != Graph::Kind::apply || !foldable(out, to[i])) continue;
    to[i] = out.add_constant(run_node(out, to[i], inputs).node());
    folded = true;
  }
  for (const Graph::Index o : graph.outputs()) out.add_output(to[o]);
  return folded ? simplify(out) : out;  // once more, without what was folded
}

}  // namespace adjoint
