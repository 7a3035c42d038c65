// The runnable form of a graph.
#pragma once

#include <memory>
#include <span>

#include "adjoint/compile.h"
#include "compile/explain.h"
#include "compile/graph.h"
#include "compile/plan.h"

namespace adjoint {

class CompiledProgram final : public Program {
 public:
  /// `donated` names inputs whose memory the caller gives up: each run may take it over.
  explicit CompiledProgram(const Graph& graph, std::span<const std::uint32_t> donated = {});

  std::vector<Tensor> run(std::span<const Tensor> inputs) const override;
  std::string text() const override { return graph_.text(); }
  std::string groups() const override { return to_string(explain(graph_)); }
  ProgramStats stats() const override;

  /// Runs on values of the shapes and dtypes of the graph's inputs, of level 0, which the caller
  /// keeps alive. Fills one handle count per output. Calls into no embedding language, except
  /// through operations that are callbacks.
  void execute(std::span<Node* const> inputs, std::span<Node*> outputs) const;

  const Graph& graph() const noexcept { return graph_; }
  const Plan& plan() const noexcept { return plan_; }
  /// Nothing but groups: no operation of its own to run.
  bool plain() const noexcept { return plain_; }
  void list(Holdings& out) const { graph_.list(out); }

 private:
  class Frame;
  void check(std::span<const Tensor> inputs) const;
  void run_steps(Frame& frame) const;
  std::string place_of(const Instruction& at) const;
  void run_group(Frame& frame, const Instruction& at) const;
  void run_scalars(Frame& frame, const Instruction& at) const;
  void run_single(Frame& frame, const Instruction& at) const;
  void give_view(Frame& frame, const Instruction& at, PlaceIndex result) const;
  std::vector<Tensor> run_all(const Graph::Entry& e, Graph::Index i, std::span<Node* const> inputs,
                              std::uint32_t donated) const;

  Graph graph_;
  Plan plan_;
  bool plain_ = true;
};

}  // namespace adjoint
