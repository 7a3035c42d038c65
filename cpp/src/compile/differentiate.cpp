#include "compile/differentiate.h"

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "compile/trace.h"
#include "graph/defer.h"
#include "graph/thread_state.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

using Index = Graph::Index;

/// A trace in which a graph is replayed under its own lines of the program.
class Replay {
 public:
  explicit Replay(const Graph& graph)
      : graph_(graph),
        trace_(Trace::body([this] { return line_ && !line_->empty() ? line_ : nullptr; },
                           "a compiled function")) {}

  Tensor argument(Index i, std::int64_t batch = -1) {
    Dims shape(graph_[i].shape);
    if (batch >= 0) shape = prefixed(batch, shape);
    return trace_->argument({graph_[i].dtype, shape});
  }
  std::vector<Tensor> inputs() {
    std::vector<Tensor> out;
    for (const Index i : graph_.inputs()) out.push_back(argument(i));
    return out;
  }
  std::vector<Tensor> run(std::span<const Tensor> inputs) {
    std::vector<Tensor> out = graph_.replay(inputs, &line_);
    line_ = nullptr;
    return out;
  }
  Graph finish(std::span<const Tensor> outputs) { return std::move(trace_->finish(outputs).graph); }

 private:
  const UnaffectedScope unaffected_;
  const Graph& graph_;
  const std::string* line_ = nullptr;
  std::unique_ptr<Trace> trace_;
};

/// The sweep; with `values`, the graph's own outputs come first.
Graph sweep_graph(const Graph& graph, const GraphMask& wanted, const GraphMask& seeds,
                  bool values) {
  Replay replay(graph);
  std::vector<Tensor> inputs = replay.inputs();
  std::vector<Tensor> sources, outputs, seeded, cotangents;
  {
    const RecorderScope recorder;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!wanted[i]) continue;
      inputs[i] = reverse_input(inputs[i]);
      sources.push_back(inputs[i]);
    }
    outputs = replay.run(inputs);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!seeds[i]) continue;
    seeded.push_back(outputs[i]);
    cotangents.push_back(replay.argument(graph.outputs()[i]));
  }
  SweepOptions options;
  options.create_graph = true;  // the new graph may be differentiated itself
  std::vector<Tensor> found = sweep(seeded, cotangents, sources, options);
  if (values) found.insert(found.begin(), outputs.begin(), outputs.end());
  return replay.finish(found);
}

// ------------------------------------------------------------------------------ cutting in two

// Costs of a kernel from which a value is kept rather than computed again: one that the first half
// has to write to memory anyway costs only the memory, one inside of a fused loop also a store.
constexpr std::uint8_t kDearStored = 8;
constexpr std::uint8_t kDearFused = 16;
constexpr std::uint32_t kMaxAgain = 8;  // applications that are computed again for one value

/// Decides which values of the first half the second half is given.
class Cut {
 public:
  Cut(const Graph& joint, std::size_t inputs, std::size_t outputs)
      : joint_(joint),
        inputs_(inputs),
        values_(joint.outputs().first(outputs)),
        cotangents_(joint.outputs().subspan(outputs)),
        first_(joint.needed_by(values_)),
        late_(joint.size(), false),
        kept_(joint.size(), false),
        repeated_(joint.size(), false) {
    for (Index i = 0; i < joint.size(); ++i) {
      const Graph::Entry& e = joint[i];
      late_[i] = e.kind == Graph::Kind::input && e.first >= inputs;
      for (const Index in : joint.inputs_of(i)) late_[i] = late_[i] || late_[in];
    }
    find_kept();
    find_repeated();
  }

  ForwardBackward run() {
    ForwardBackward out{Graph(joint_.sources()), Graph(joint_.sources()), {}};
    std::vector<Index> kept;
    for (Index i = 0; i < joint_.size(); ++i)
      if (kept_[i]) kept.push_back(i);
    for (const Index i : kept)
      out.kept.push_back(is_input(i) ? joint_[i].first : ForwardBackward::kResult);
    make_forward(out.forward, kept);
    make_backward(out.backward, kept);
    return out;
  }

 private:
  bool is_input(Index i) const { return joint_[i].kind == Graph::Kind::input; }

  /// Whether the second half computes the value itself.
  bool is_own(Index i) const {
    if (joint_[i].kind == Graph::Kind::apply && joint_[i].op->part)  // else it is kept itself
      i = joint_.inputs_of(i)[0];
    return joint_[i].kind == Graph::Kind::apply && !kept_[i] &&
           (late_[i] || !first_[i] || repeated_[i]);
  }

  /// What the second half reads and does not compute.
  void find_kept() {
    std::vector<bool> needed(joint_.size(), false);
    kept_.assign(joint_.size(), false);
    for (const Index o : cotangents_) needed[o] = true;
    for (Index i = static_cast<Index>(joint_.size()); i-- > 0;) {
      if (!needed[i] || joint_[i].kind == Graph::Kind::constant) continue;
      if (late_[i] && is_input(i)) continue;
      if (!is_own(i)) {
        kept_[i] = true;
        continue;
      }
      for (const Index in : joint_.inputs_of(i)) needed[in] = true;
    }
  }

  bool is_cheap(Index i, std::uint8_t dear) const {
    const Graph::Entry& e = joint_[i];
    if (e.kind != Graph::Kind::apply || e.size() <= 1 || e.op->fallible) return false;
    if (e.op->fuses) return true;
    if (e.op->kind != OpKind::elementwise) return false;
    const Index operand = joint_.inputs_of(i)[e.op->dtypes == DTypeRule::where ? 1 : 0];
    const kernels::TileKernel* k = tile_kernel(*e.op, joint_[operand].dtype, e.attrs.get());
    return k && k->cost < dear;
  }

  /// What the first half has in memory: results, and operands of what is not fused.
  std::vector<bool> find_stored() const {
    std::vector<bool> stored(joint_.size(), false);
    for (const Index o : values_) stored[o] = true;
    for (Index i = 0; i < joint_.size(); ++i) {
      if (!first_[i] || joint_[i].kind != Graph::Kind::apply) continue;
      const Op& op = *joint_[i].op;
      if (!op.fuses && !op.reduces && op.kind != OpKind::elementwise)
        for (const Index in : joint_.inputs_of(i)) stored[in] = true;
    }
    return stored;
  }

  /// What is cheap to compute again from values that are at hand is not kept.
  void find_repeated() {
    const std::vector<bool> stored = find_stored();
    std::vector<std::uint32_t> again(joint_.size(), kMaxAgain + 1);  // 0: at hand
    for (Index i = 0; i < joint_.size(); ++i) {
      if (late_[i]) continue;
      if (joint_[i].kind != Graph::Kind::apply) {
        again[i] = 0;
        continue;
      }
      if (kept_[i]) again[i] = 0;
      if (!is_cheap(i, stored[i] ? kDearStored : kDearFused)) continue;
      std::uint32_t count = 1;
      for (const Index in : joint_.inputs_of(i)) count += again[in];
      if (count > kMaxAgain) continue;
      repeated_[i] = true;
      again[i] = count;
    }
    find_kept();
  }

  Index copy(Graph& to, std::vector<Index>& at, Index i) const {
    const Graph::Entry& e = joint_[i];
    if (e.kind == Graph::Kind::constant) return to.add_constant(joint_.value_of(i));
    std::vector<Index> operands;
    for (const Index in : joint_.inputs_of(i)) operands.push_back(at[in]);
    return to.add_copy(joint_, i, operands);
  }

  void make_forward(Graph& to, std::span<const Index> kept) const {
    std::vector<Index> at(joint_.size(), Graph::kNone);
    std::vector<Index> wanted(values_.begin(), values_.end());
    for (const Index i : kept)
      if (!is_input(i)) wanted.push_back(i);
    const std::vector<bool> needed = joint_.needed_by(wanted);
    for (Index i = 0; i < joint_.size(); ++i) {
      if (is_input(i)) {
        if (joint_[i].first < inputs_) at[i] = to.add_input(joint_[i].dtype, joint_[i].shape);
      } else if (needed[i]) {
        at[i] = copy(to, at, i);
      }
    }
    for (const Index i : wanted) to.add_output(at[i]);
  }

  void make_backward(Graph& to, std::span<const Index> kept) const {
    std::vector<Index> at(joint_.size(), Graph::kNone);
    for (const Index i : kept) at[i] = to.add_input(joint_[i].dtype, joint_[i].shape);
    for (const Index i : joint_.inputs())
      if (late_[i]) at[i] = to.add_input(joint_[i].dtype, joint_[i].shape);
    std::vector<bool> needed(joint_.size(), false);
    for (const Index o : cotangents_) needed[o] = true;
    for (Index i = static_cast<Index>(joint_.size()); i-- > 0;)
      if (needed[i] && at[i] == Graph::kNone)
        for (const Index in : joint_.inputs_of(i)) needed[in] = true;
    for (Index i = 0; i < joint_.size(); ++i)
      if (needed[i] && at[i] == Graph::kNone) at[i] = copy(to, at, i);
    for (const Index o : cotangents_) to.add_output(at[o]);
  }

  const Graph& joint_;
  std::size_t inputs_;
  std::span<const Index> values_, cotangents_;
  std::vector<bool> first_;     // the outputs need it
  std::vector<bool> late_;      // depends on a cotangent
  std::vector<bool> kept_;      // given by the first half to the second
  std::vector<bool> repeated_;  // of the first half, computed again by the second
};

}  // namespace

Graph pull_back(const Graph& graph, const GraphMask& wanted, const GraphMask& seeds) {
  return sweep_graph(graph, wanted, seeds, false);
}

ForwardBackward cut_sweep(const Graph& graph, const GraphMask& wanted, const GraphMask& seeds) {
  const Graph joint = simplify(sweep_graph(graph, wanted, seeds, true));
  return Cut(joint, graph.inputs().size(), graph.outputs().size()).run();
}

Graph push_forward(const Graph& graph, const GraphMask& moving, const GraphMask& results) {
  Replay replay(graph);
  std::vector<Tensor> inputs = replay.inputs();
  std::vector<Tensor> tangents;
  {
    const TransformLevel level = TransformLevel::dual_again();
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (moving[i]) inputs[i] = level.make_dual(inputs[i], replay.argument(graph.inputs()[i]));
    const std::vector<Tensor> outputs = replay.run(inputs);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!results[i]) continue;
      const auto [primal, tangent] = level.split_dual(outputs[i]);
      tangents.push_back(tangent.defined() ? tangent : zeros(primal.shape(), primal.dtype()));
    }
  }
  return replay.finish(tangents);
}

Graph batch_graph(const Graph& graph, const GraphMask& mapped, std::int64_t size) {
  Replay replay(graph);
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < mapped.size(); ++i)
    inputs.push_back(replay.argument(graph.inputs()[i], mapped[i] ? size : -1));
  std::vector<Tensor> outputs;
  {
    const TransformLevel level = TransformLevel::batch(size);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (mapped[i]) inputs[i] = level.make_batched(inputs[i], 0);
    for (const Tensor& y : replay.run(inputs))
      outputs.push_back(level.holds(y) ? level.split_batched(y, 0) : y);
  }
  return replay.finish(outputs);
}

}  // namespace adjoint
