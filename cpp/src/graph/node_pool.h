// Memory for nodes: a free list per thread, refilled from slabs that are shared by all threads
// and never given back (a process that once held n nodes tends to hold n again).
#pragma once

#include "graph/node.h"
#include "graph/thread_state.h"

namespace adjoint {

/// Raw memory for one node.
void* take_node_memory(ThreadState& state);
void give_node_memory(ThreadState& state, void* memory) noexcept;
/// Hands a thread's free list back to the shared pool.
void release_node_pool(ThreadState& state) noexcept;

/// The lock under which groups are collected and published; taken around a fork.
void lock_node_pool() noexcept;
void unlock_node_pool() noexcept;

}  // namespace adjoint
