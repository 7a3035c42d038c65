// Memory for nodes: a free list per thread, refilled from slabs that are shared by all threads
// and never given back (a process that once held n nodes tends to hold n again).
#pragma once

#include <new>

#include "graph/node.h"
#include "graph/thread_state.h"

namespace adjoint {

/// Raw memory for one node.
void* take_node_memory(ThreadState& state);
void give_node_memory(ThreadState& state, void* memory) noexcept;
/// The plain state of a node: one handle count, ready, no op. Layout and value are the caller's.
inline Node* init_node(ThreadState& state, void* memory, DType dtype) {
  Node* n = new (memory) Node;
  state.count_nodes(1);
  n->counts.store(Node::kHandle, std::memory_order_relaxed);
  n->op = nullptr;
  n->order = state.order;
  n->stored = {};
  n->attrs = nullptr;
  n->leaf = nullptr;
  n->input_count = 0;
  n->savers.store(0, std::memory_order_relaxed);
  n->box_serial = 0;
  n->level = 0;
  n->pending = 0;
  n->dtype = dtype;
  n->state.store(State::ready, std::memory_order_relaxed);
  n->box = Box::none;
  n->saved = 0;
  n->counted_savers = 0;
  n->requires_grad = false;
  n->recorded = false;
  n->computed_once = false;
  return n;
}

/// A scalar whose value, in the node, is still to be written.
inline Node* new_scalar(ThreadState& state, DType dtype) {
  Node* head = state.free_nodes;
  if (!head) [[unlikely]]
    return init_node(state, take_node_memory(state), dtype);
  state.free_nodes = *reinterpret_cast<Node**>(head);
  if (state.free_count) --state.free_count;
  return init_node(state, head, dtype);
}

/// Hands a thread's free list back to the shared pool.
void release_node_pool(ThreadState& state) noexcept;

/// The locks of the pool and of deferral, taken around a fork.
void lock_node_pool() noexcept;
void unlock_node_pool() noexcept;
void lock_deferral() noexcept;
void unlock_deferral() noexcept;

}  // namespace adjoint
