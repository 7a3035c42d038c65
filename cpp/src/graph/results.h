// Applications with several results.
//
// What such an application gives is a list of nodes. Where it is recorded, a node stands for the
// application itself: a tuple, which has the edges and holds the results; and each result that has
// a derivative is a part, a node that shares the value and has one edge, to the tuple. A sweep
// collects the cotangents of the parts at the tuple. Values, dual numbers and batches are tuples of
// values, dual numbers and batches, so a transform gives the results a meaning one by one. One
// result alone is a node like any other, and needs no tuple.
//
// A tuple keeps the values while it has uses: while a rule has saved the results, or until a
// program has read the last part. Of results whose values are gone it still knows shapes and
// dtypes.
#pragma once

#include <span>
#include <vector>

#include "adjoint/tensor.h"
#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

/// A node with one handle count that holds these values, which have no history and are of one
/// level; anything but one of them.
Node* new_tuple(std::span<const Tensor> values);

inline bool is_tuple(const Node* n) noexcept { return n->box == Box::tuple; }
inline std::span<Node* const> results_of(const Node* tuple) noexcept { return *tuple->results; }

/// A result of a recorded application: the value with that history.
Tensor part_of(Node* tuple, std::size_t i);
/// What is known of a value that was released: its shape and dtype.
Tensor outline_of(const Node* value);
/// The attributes that say which result a part is.
AttrsPtr part_attrs(std::size_t i);
inline std::size_t part_index(const Attrs* attrs) {
  return static_cast<std::size_t>(attrs_as<PartAttrs>(attrs).index);
}
/// The record of parts.
const Op& part_op();
/// The operation of the application that gave a value.
inline const Op* maker_of(const Node* n) noexcept {
  return n->op && n->op->part ? n->inputs()[0]->op : n->op;
}

/// Runs an operation of any number of results on ready inputs, into new nodes.
std::vector<Tensor> run_results(const Op& op, std::span<const ResultSpec> specs,
                                std::span<Node* const> inputs, const Attrs* attrs,
                                std::uint32_t donated);

}  // namespace adjoint
