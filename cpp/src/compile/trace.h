// Trace: the sink that turns the applications of a function into a graph, and the cells the
// function reads and rebinds into inputs and outputs of that graph. A trace has no effect on a
// cell: what the function writes stays in a map of the trace's own.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "compile/graph.h"
#include "graph/cell.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"

namespace adjoint {

/// A cell that a program reads anew at every call and may rebind.
struct Place {
  static constexpr std::uint32_t kUnchanged = ~0u;
  static constexpr std::uint32_t kCleared = ~0u - 1;
  static constexpr std::uint32_t kCaptured = ~0u;

  Cell cell;
  IntrusivePtr<const Payload> owner;   // keeps the cell valid
  bool null = true;                    // held nothing when it was first touched
  std::uint32_t argument = kCaptured;  // or it is the gradient of this argument of each call
  bool requires_grad = false;
  bool moves = false;  // the program may be differentiated with respect to it
  DType dtype = DType::float64;
  Dims shape;
  Leaf* leaf = nullptr;               // of the value; compared, never followed
  std::uint32_t output = kUnchanged;  // of the graph: what the cell holds afterwards
  std::uint32_t input = 0;            // of the graph, when not null

  /// Whether this is what the program was traced for.
  bool accepts(const Tensor& held) const noexcept;
};

/// What a trace found.
struct Traced {
  Graph graph;  // inputs: the arguments and the places, in the order they were met; outputs: the
                // results, the rebound arguments, the places
  std::vector<Place> places;
  /// By output: whether it has a derivative, and whether it would be recorded.
  std::vector<bool> moves, recorded;
  /// Gradients were set: a training step.
  bool steps = false;
  /// Handles were rebound that keep tangents of some levels around the call, and of others not: the
  /// graph names these, and serves that call alone.
  bool names_levels = false;
  /// A sweep inside would have to go on in the history of a value from outside.
  bool sweeps_outside = false;
};

/// The place in the user's program that runs now, null when unknown: asked once per operation
/// while tracing. Equal places are one string, which outlives the trace.
using SourceFinder = std::function<const std::string*()>;

/// An argument of a traced function.
struct TracedArgument {
  DType dtype;
  Dims shape;
  std::optional<WeakKind> weak = {};  // it stands for a Python number
  bool moves = true;                  // the graph may be differentiated with respect to it
  bool recorded = true;               // in reverse mode too
};

class Trace final : public TraceSink {
 public:
  /// A function as `compile` traces it.
  explicit Trace(SourceFinder find_source = {});
  /// A function inside another transform's: it may not rebind cells from outside, which raises for
  /// `what`. What it captures of outer levels is constant here.
  static std::unique_ptr<Trace> body(SourceFinder find_source, const char* what);
  /// Work on values from outside belongs to this graph too: it runs where the graph is run.
  void take_outer_work();
  /// A trace that the traced function does not notice: only work on its arguments is recorded, and
  /// everything else is as outside of it.
  static std::unique_ptr<Trace> hidden();
  Tensor argument(const TracedArgument& spec);
  /// An argument for a value, which requires grad where that does, and belongs to its leaf.
  Tensor argument_like(const Tensor& value);
  /// The gradient of this leaf is that of an argument.
  void add_leaf(Leaf* leaf, std::uint32_t argument) { arguments_.emplace(&leaf->grad, argument); }
  /// In place of this cell, which an argument is a copy of, another stands, unless it is null: that
  /// of the copy. `used` is set when the function gets at it.
  void redirect(Node** from, const Cell& to, bool* used) { redirects_[from] = {to, used}; }

  const SourceFinder& source_finder() const noexcept { return find_source_; }
  std::uint32_t serial() const noexcept { return serial_; }
  bool is_own(const Node* n) const noexcept {
    return n->box == Box::trace && n->level == level_ && n->box_serial == serial_;
  }
  /// Whether and how deep work was recorded when it was opened.
  const Opening& opening() const noexcept { return opening_; }
  /// The graph so far, a node of it as a traced value, and the node of a value.
  const Graph& graph() const noexcept { return graph_; }
  Tensor value(Graph::Index i) const {
    return Tensor::adopt(box(i, graph_[i].dtype, graph_[i].shape));
  }
  /// Of a value that the function gives, to its caller or a cell.
  Graph::Index index(const Tensor& t);
  /// The results of a node, of which only a tuple has others than itself.
  std::vector<Tensor> results(Graph::Index i);
  /// Closes the trace. Raises when an output belongs to no graph.
  Traced finish(std::span<const Tensor> outputs);
  ~Trace() override;

  bool moves(const Node* box) override;
  Node* record(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) override;
  std::vector<Tensor> record_all(const Op& op, std::span<Node* const> inputs,
                                 const AttrsPtr& attrs) override;
  Node* constant(Node* value) override;
  std::size_t constant_count() const override { return graph_.constants().size(); }
  void cut_constants(std::size_t from) override;
  void sweep_left(const Node* box) override;
  Node* continued(Node* value, const Node* before) override;
  [[noreturn]] void need_value(const Node* weak) override;
  /// The inputs whose values the function needs.
  std::span<const std::uint32_t> needed() const noexcept { return needed_; }

 private:
  class Cells;
  struct Redirect {
    Cell to;
    bool* used;
  };
  struct Touched {
    Place place;
    Tensor first;  // what was put there at first; undefined for null
    Tensor value;  // what it holds now
  };
  Trace(SourceFinder find_source, std::unique_ptr<CellScope> cells, bool hidden);
  Node* box(Graph::Index i, DType dtype, Layout::Extents shape) const;
  Graph::Index index_of(Node* n);
  SmallVector<Graph::Index, 8> operands_of(std::span<Node* const> inputs);
  /// The operand by way of an operation that ends derivatives, where one reaches it.
  Graph::Index ended(Graph::Index operand, Reach& reach, const char* op);
  bool moves_outside(const Tensor& value) const;
  bool captured_moves(const Tensor& value) const;
  std::uint32_t source();
  Touched& touch(const Cell& cell, Tensor held);
  Tensor kept(Tensor value, const AttrsPtr& ended);
  Graph::Index given_back(Graph::Index i);
  void close_places(Traced& traced, std::vector<Graph::Index>& outputs);
  void close() noexcept;

  std::unique_ptr<LevelScope> scope_;
  std::uint16_t level_;
  std::uint32_t serial_;
  Graph graph_;
  SourceFinder find_source_;
  std::unordered_map<const std::string*, std::uint32_t> sources_;
  std::vector<Touched> touched_;
  std::unordered_map<Node**, std::size_t> touched_at_;
  std::unordered_map<Node**, std::uint32_t> arguments_;  // by the cell of their gradient
  std::unordered_map<Node**, Redirect> redirects_;
  bool sweeps_outside_ = false;
  bool steps_ = false;
  bool names_levels_ = false;
  std::vector<std::uint32_t> needed_;
  Reach reach_, reverse_;
  bool hidden_;
  Opening opening_;
  std::unique_ptr<CellScope> cells_;  // closed before the level
};

}  // namespace adjoint
