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

/// `if_true` of the operands where `pred`, one bool, holds, else `if_false`. Only the chosen
/// function runs, inside of programs too; where `pred` differs along a batch both do, and the
/// values are selected.
std::vector<Tensor> cond(const Tensor& pred, const ListFunction& if_true,
                         const ListFunction& if_false, std::span<const Tensor> operands);

/// Steps over the rows, along axis 0, of some arrays: `step` maps carried values and a row of each
/// array to the carried values and what is to be stacked. Returns the last carried values, then the
/// stacks. A program does not grow with the number of steps; reverse mode keeps the carried values
/// of each. `reverse` takes the rows from the last to the first.
std::vector<Tensor> scan(const ListFunction& step, std::span<const Tensor> init,
                         std::span<const Tensor> rows, std::int64_t length, bool reverse = false);

/// Steps while `condition` gives one true bool; in a batch each member stops by its own. Reverse
/// mode of a program needs `max_steps`, as it keeps the carried values of so many.
std::vector<Tensor> while_loop(const ListFunction& condition, const ListFunction& step,
                               std::span<const Tensor> init, std::int64_t max_steps = -1);

}  // namespace adjoint
