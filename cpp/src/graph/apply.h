// The one entry: every operation, from Python, C++ or a derivative rule, is an `apply`.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "adjoint/tensor.h"
#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// Applies `op`: checks, infers (errors are raised here), then runs now, defers, or hands over to
/// the interpreter of the highest level among the inputs; records when an input requires grad.
/// Returns a node with one handle count. Bit i of `donate` says that the caller gives up its
/// handle on input i: its storage may be taken over when nothing else uses the value.
Node* apply(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs = nullptr,
            std::uint32_t donate = 0);

Tensor apply(const Op& op, std::initializer_list<const Tensor*> inputs,
             const AttrsPtr& attrs = nullptr, std::uint32_t donate = 0);

/// The same for operations that may have several results, or none; for any other a list of one.
std::vector<Tensor> apply_all(const Op& op, std::span<Node* const> inputs,
                              const AttrsPtr& attrs = nullptr, std::uint32_t donate = 0);

/// Writes op(target, other) into `target`, for scalars outside of transforms whose target nothing
/// but the caller's one handle can see, and where nothing is to be recorded. False, with nothing
/// done, in any other case.
bool apply_in_place(const Op& op, Node* target, Node* other);

/// Shapes and dtypes of the results; of an elementwise op the operands already have their dtypes.
ResultList infer_results(const Op& op, std::span<Node* const> inputs, const Attrs* attrs);

/// Computes the value if it is still deferred. Raises for a boxed or dropped node.
void materialize(Node* node);
void materialize(std::span<Node* const> nodes);

/// The value below every dual, computed; raises for `what` where a batch or a trace has none yet.
Tensor known_value(Node* node, const char* what);

/// Ensures the value is contiguous in memory; returns a handle to it (possibly the same node).
Tensor contiguous(Node* node);

/// Raises for `what` that the derivative of a shadow is wanted outside of the first run (node.h).
[[noreturn]] void raise_left(const char* what);

/// A new node with the same value and no history; with `leaf`, a leaf of it. The alias keeps an
/// edge to the original when that requires grad and `keep_history` is set.
Node* alias(Node* node, Leaf* leaf, bool keep_history);

}  // namespace adjoint
