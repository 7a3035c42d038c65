// A graph as a function of tensors like any other: recorded, batched, in forward mode and at higher
// orders it runs programs, each made once, when it is first needed.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "compile/program.h"

namespace adjoint {

class GraphFunction : public std::enable_shared_from_this<GraphFunction> {
 public:
  /// Which inputs or outputs are meant.
  using Mask = std::vector<bool>;

  /// `moves` names the outputs that have a derivative, `recorded` those that get a history where
  /// an input requires grad. `donated` names inputs whose memory a plain run of `program` may take
  /// over. `names_levels`: of forward mode, in what handles keep.
  GraphFunction(Graph graph, Mask moves, Mask recorded, std::span<const std::uint32_t> donated = {},
                bool names_levels = false);
  /// All outputs that have a derivative.
  static std::shared_ptr<const GraphFunction> of(Graph graph, bool names_levels = false);
  ~GraphFunction();
  GraphFunction(const GraphFunction&) = delete;
  GraphFunction& operator=(const GraphFunction&) = delete;

  const Graph& graph() const noexcept { return graph_; }
  const CompiledProgram& program() const noexcept { return program_; }
  /// Whether a call at level 0 may have to be recorded.
  bool records() const noexcept;
  std::vector<Tensor> call(std::span<const Tensor> inputs) const;
  /// What it holds with the functions made of it. To be asked while nobody else can call it.
  void list(Holdings& out) const;

 private:
  class Rule;
  struct Recorded;
  enum class Derived : std::uint8_t { pullback, pushforward, batch };
  using Key = std::tuple<Mask, Mask, std::int64_t>;
  using Entries = std::vector<std::pair<Key, std::shared_ptr<const GraphFunction>>>;

  /// (inputs, cotangents of `seeds`) -> cotangents of `wanted`.
  std::shared_ptr<const GraphFunction> pullback(const Mask& wanted, const Mask& seeds) const;
  /// (inputs, tangents of `moving`) -> tangents of the outputs `results`.
  std::shared_ptr<const GraphFunction> pushforward(const Mask& moving, const Mask& results) const;
  std::shared_ptr<const GraphFunction> batched(const Mask& mapped, std::int64_t size) const;
  std::shared_ptr<const Recorded> recorded(const Mask& wanted) const;
  template <class Make>
  std::shared_ptr<const GraphFunction> derived(Derived kind, Key key, Make make) const;
  /// The outputs among `outputs` to which a derivative leads from the inputs `from`.
  Mask reached(Reach::Mode mode, const Mask& from, const Mask& outputs) const;

  Mask connected(Mask wanted) const;
  std::vector<Tensor> call_recorded(std::span<const Tensor> inputs, const Mask& wanted) const;
  std::vector<Tensor> call_constant(std::span<const Tensor> inputs) const;
  std::map<std::vector<std::uint16_t>, Mask> by_batches(std::span<const Tensor> inputs,
                                                        const Mask& seeds) const;
  void attach_derivative(std::vector<Tensor>& out, std::span<const Tensor> inputs, Mask wanted,
                         const Mask& seeds, std::span<const std::uint16_t> levels) const;
  std::vector<Tensor> call_batched(std::span<const Tensor> inputs, std::uint16_t level) const;

  Graph graph_;
  Mask moves_, recorded_outputs_;
  CompiledProgram program_;
  bool names_levels_;                       // so a pushforward is of one of them
  bool derived_from_graph_ = false;         // whether a call is recorded is the caller's affair
  mutable std::mutex mutex_;                // of what follows; never held while anything is traced
  mutable std::array<Entries, 3> derived_;  // by kind, the latest used first
  mutable std::map<Mask, std::shared_ptr<const Recorded>> recorded_;
  /// The entry that was asked for last, read without the mutex: entries stay where they are.
  mutable std::atomic<const std::pair<const Mask, std::shared_ptr<const Recorded>>*> latest_{};
};

}  // namespace adjoint
