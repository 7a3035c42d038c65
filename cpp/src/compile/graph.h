// Graph: a traced function as data. Nodes are hash-consed when they are added: the same operation
// on the same inputs is the same node, so common subexpressions never come to exist. A node's
// inputs come before it, so the order of the nodes is an order in which they can be run.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/holdings.h"
#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

class Graph {
 public:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};  // no entry
  enum class Kind : std::uint8_t { input, constant, apply };

  struct Entry {
    const Op* op;  // null for inputs and constants
    AttrsPtr attrs;
    Dims shape;
    std::uint32_t first;  // of its inputs among the edges; number of an input or a constant
    std::uint32_t count;  // inputs
    DType dtype;
    Kind kind;
    bool tuple = false;        // an application with several results, which its parts are
    std::uint32_t source = 0;  // of an application: number among the sources

    std::int64_t size() const noexcept;
  };

  /// `sources`: places in the user's program, by number; number 0 is none.
  explicit Graph(std::vector<std::string> sources = {""}) : sources_(std::move(sources)) {}

  Index add_input(DType dtype, Layout::Extents shape);
  /// Equal one-element values are one constant, larger ones are told apart by identity. A boxed
  /// value may be a constant of a graph that lives no longer than its level.
  Index add_constant(Node* value);
  /// The node of this application, new or known. Exact identities that the record states are
  /// used on the way, so the node may be an operand.
  Index add(const Op& op, std::span<const Index> inputs, const AttrsPtr& attrs, ResultSpec spec,
            std::uint32_t source = 0);
  /// The same where there are several results: the node of the tuple, of which `add_part` adds the
  /// results.
  Index add_tuple(const Op& op, std::span<const Index> inputs, const AttrsPtr& attrs,
                  std::span<const ResultSpec> specs, std::uint32_t source = 0);
  Index add_part(Index tuple, std::size_t number);
  /// The application that node i of another graph of the same sources is, on these inputs.
  Index add_copy(const Graph& from, Index i, std::span<const Index> inputs);
  std::uint32_t add_source(std::string place);
  void add_output(Index i) { outputs_.push_back(i); }

  std::size_t size() const noexcept { return entries_.size(); }
  const Entry& operator[](Index i) const noexcept { return entries_[i]; }
  std::span<const Index> inputs_of(Index i) const noexcept {
    const Entry& e = entries_[i];
    return {edges_.data() + (e.kind == Kind::apply ? e.first : 0), e.count};
  }
  std::span<const Index> inputs() const noexcept { return inputs_; }
  std::span<const Index> outputs() const noexcept { return outputs_; }
  /// Shapes and dtypes of the results of a tuple.
  std::span<const ResultSpec> results_of(Index tuple) const { return tuples_.at(tuple); }
  /// Shapes and dtypes of the outputs.
  std::vector<ResultSpec> results() const;
  /// The nodes whose values depend on these inputs.
  std::vector<bool> depending_on(const std::vector<bool>& inputs) const;
  /// The nodes whose values these depend on, or, with `derivatives`, their derivatives too.
  std::vector<bool> needed_by(std::span<const Index> nodes, bool derivatives = false) const;
  std::span<const Tensor> constants() const noexcept { return constants_; }
  /// The same value with another history.
  void set_constant(std::size_t number, Tensor value) { constants_[number] = std::move(value); }
  const std::vector<std::string>& sources() const noexcept { return sources_; }
  /// The value of a constant.
  Node* value_of(Index i) const noexcept { return constants_[entries_[i].first].node(); }
  /// Whether some constant belongs to an open level.
  bool captures_levels() const noexcept { return captures_levels_; }

  /// The graph with the constants that belong to open levels or require grad as further inputs.
  Graph closed(std::vector<Tensor>& captured) const;
  /// Applies the graph node by node: recorded, batched or traced like any other work.
  /// `line` is told the place in the program of what is applied.
  std::vector<Tensor> replay(std::span<const Tensor> inputs,
                             const std::string** line = nullptr) const;
  void list(Holdings& out) const {
    for (const Entry& e : entries_) out.add(e.attrs);
  }
  /// One line per node. Above what a line of the user's program applied stands its place, as in
  /// "train.py:12", and what `quote` says of it.
  std::string text(const std::function<std::string(const std::string&)>& quote = {}) const;

 private:
  bool matches(Index i, const Op& op, std::span<const Index> inputs, const AttrsPtr& attrs) const;
  Index simpler(const Op& op, std::span<const Index> inputs, const ResultSpec& spec) const;
  bool is_known(Index i, double number) const;
  Index append(Entry entry);
  std::uint32_t& bucket(std::size_t hash);
  void grow();

  std::vector<Entry> entries_;
  std::vector<Index> edges_;
  std::vector<Index> inputs_;
  std::vector<Index> outputs_;
  std::vector<Tensor> constants_;
  std::vector<std::string> sources_;
  std::unordered_map<Index, std::vector<ResultSpec>> tuples_;
  std::vector<std::size_t> hashes_;   // by entry; 0 for inputs
  std::vector<std::uint32_t> table_;  // open addressing: 1 + entry, 0 when free
  std::size_t hashed_ = 0;
  bool captures_levels_ = false;
};

/// Which nodes a derivative reaches from floating inputs, for a graph that still grows.
class Reach {
 public:
  enum class Mode : std::uint8_t { forward, reverse };
  /// `captured` says whether it also starts at a constant; empty: at none.
  explicit Reach(Mode mode, std::function<bool(const Tensor&)> captured = {})
      : mode_(mode), captured_(std::move(captured)) {}
  /// No derivative starts at this input.
  void exclude(std::uint32_t input);
  bool reaches(const Graph& graph, Graph::Index i);
  /// Whether it reaches node i by way of this operand.
  bool passes(const Graph& graph, Graph::Index i, std::size_t operand);

 private:
  bool starts(const Graph& graph, Graph::Index i) const;

  Mode mode_;
  std::function<bool(const Tensor&)> captured_;
  std::vector<bool> excluded_;  // by input
  std::vector<bool> known_;
};

/// The graph without what its outputs do not need, and with small constant parts computed. The
/// inputs stay as they are.
Graph simplify(const Graph& graph);

}  // namespace adjoint
