// Trace: the sink that turns the applications of a function into a graph, and the places the
// function reads and rebinds into inputs and outputs of that graph.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "compile/graph.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"

namespace adjoint {

/// A handle cell, or a gradient, that a program reads anew at every call and may rebind.
struct Place {
  static constexpr std::uint32_t kUnchanged = ~0u;
  static constexpr std::uint32_t kCleared = ~0u - 1;

  Node** at;
  IntrusivePtr<const Payload> owner;  // keeps `at` valid
  bool null;                          // held nothing when it was first touched
  bool requires_grad = false;
  DType dtype = DType::float64;
  Dims shape;
  Leaf* leaf = nullptr;               // of the cell; compared, never followed
  std::uint32_t output = kUnchanged;  // of the graph: what the place holds afterwards
  std::uint32_t input = 0;            // of the graph, when not null

  /// Whether the place holds what the program was traced for.
  bool accepts() const noexcept;
};

/// What a trace found.
struct Traced {
  Graph graph;  // inputs: the arguments, then the places; outputs: the results, then the places
  std::vector<Place> places;
  /// Parameters or gradients were rebound: a training step.
  bool steps = false;
  /// Something that leaves the trace is connected to a captured tensor that requires grad.
  bool connected = false;
  /// A captured value has a history of its own, into which a sweep inside would have to go on.
  bool captures_history = false;
};

/// The place in the user's program that runs now, null when unknown: asked once per operation
/// while tracing. Equal places are one string, which outlives the trace.
using SourceFinder = std::function<const std::string*()>;

class Trace final : public TraceSink {
 public:
  /// With `outer`, a trace within that one: places belong to the outer trace, whose boxes are
  /// constants here.
  explicit Trace(SourceFinder find_source = {}, TraceSink* outer = nullptr);
  /// A trace that the traced function does not notice: only work on its arguments is recorded, and
  /// everything else is as outside of it.
  static std::unique_ptr<Trace> hidden();
  /// An argument of the function, traced. With `weak`, it stands for a Python number.
  Tensor argument(DType dtype, Layout::Extents shape, std::optional<WeakKind> weak = {});
  /// The graph so far, a node of it as a traced value, and the node of a value.
  const Graph& graph() const noexcept { return graph_; }
  Tensor value(Graph::Index i) const {
    return Tensor::adopt(box(i, graph_[i].dtype, graph_[i].shape));
  }
  Graph::Index index(const Tensor& t) { return index_of(t.node()); }
  /// Closes the trace: every place gets back what it held. Raises, with the places restored, when
  /// an output belongs to no graph.
  Traced finish(std::span<const Tensor> outputs);
  /// Raises, with the places restored, when the function has rebound a place of the outer trace.
  void refuse_rebinding(const char* what);
  ~Trace() override;

  bool moves(const Node* box) override;
  Node* record(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) override;
  Node* constant(Node* value) override;
  void touch(Node** place, const std::function<IntrusivePtr<const Payload>()>& owner) override;

 private:
  Trace(SourceFinder find_source, TraceSink* outer, bool hidden);
  struct Touched {
    Place place;
    Tensor original;  // undefined for null
    Node* box;        // what was put there; compared, never followed
  };
  Node* box(Graph::Index i, DType dtype, Layout::Extents shape) const;
  bool is_own(const Node* n) const noexcept {
    return n->box == Box::trace && n->level == level_ && n->box_serial == serial_;
  }
  Graph::Index index_of(Node* n);
  std::uint32_t source();
  void close_places(Traced& traced, std::vector<Graph::Index>& outputs);
  void restore() noexcept;

  std::unique_ptr<LevelScope> scope_;
  std::uint16_t level_;
  std::uint32_t serial_;
  Graph graph_;
  SourceFinder find_source_;
  std::unordered_map<const std::string*, std::uint32_t> sources_;
  std::vector<Touched> touched_;
  std::unordered_map<Node**, std::size_t> touched_at_;
  bool captures_history_ = false;
  Reach reach_{true};
  TraceSink* outer_;
  bool hidden_;
  struct Seen {
    Tensor held;
    IntrusivePtr<const Payload> owner;
  };
  std::unordered_map<Node**, Seen> seen_;  // places of the outer trace
};

}  // namespace adjoint
