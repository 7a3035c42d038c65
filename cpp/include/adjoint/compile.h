// Programs: a function traced once into a graph, simplified, fused and planned, then run as often
// as wanted with no graph building and, from Python, no Python inside.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adjoint/tensor.h"

namespace adjoint {

class Graph;

struct ProgramStats {
  std::size_t nodes = 0;          // operations after simplification
  std::size_t groups = 0;         // fused groups
  std::size_t instructions = 0;   // steps of a run, a group counting as one
  std::size_t bytes_moved = 0;    // read and written by the steps of a run
  std::size_t bytes_planned = 0;  // one block of memory for what passes between groups
};

/// Immutable; may run on many threads at once.
class Program {
 public:
  virtual ~Program() = default;
  /// Runs on tensors of the shapes and dtypes it was traced with; raises otherwise.
  virtual std::vector<Tensor> run(std::span<const Tensor> inputs) const = 0;
  /// One line per operation, readable.
  virtual std::string text() const = 0;
  /// The fused groups, in the order in which they run: what is in them, and why they end.
  virtual std::string groups() const = 0;
  virtual ProgramStats stats() const = 0;
};

using ListFunction = std::function<std::vector<Tensor>(std::span<const Tensor>)>;

/// Traces `f` on inputs of these shapes and dtypes. Tensors that `f` captures enter the program
/// as constants: pass what changes as an input.
std::shared_ptr<const Program> trace(const ListFunction& f, std::span<const Tensor> examples);

/// A function that traces `f` once per combination of shapes and dtypes and runs the program.
/// Inside grad, vmap or jvp the traced graph is differentiated or batched.
ListFunction compile(ListFunction f);

}  // namespace adjoint
