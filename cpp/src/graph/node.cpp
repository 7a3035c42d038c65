// Creation and release of nodes. Release never recurses: the nodes and values that become free
// are put on a stack of work, so a graph a million nodes deep is freed in a small thread.
#include "graph/node.h"

#include <cstdlib>
#include <functional>
#include <mutex>
#include <new>

#include "base/pools.h"
#include "graph/cell.h"
#include "graph/defer.h"
#include "graph/node_pool.h"
#include "graph/thread_state.h"

namespace adjoint {

// ------------------------------------------------------------------------------------ memory

namespace {

constexpr std::uint32_t kSlabNodes = 256;
constexpr std::uint32_t kKeepPerThread = 1u << 16;

struct FreeNode {
  FreeNode* next;
};

std::mutex g_pool_mutex;
FreeNode* g_shared_free = nullptr;

constexpr std::size_t kLine = 64;
constexpr std::size_t kStep = (sizeof(Node) + kLine - 1) / kLine * kLine;

char* memory_for(std::size_t nodes) {
  void* memory = std::aligned_alloc(kLine, nodes * kStep);
  if (!memory) raise(ErrorKind::memory, "graph", "no memory for graph nodes");
  return static_cast<char*>(memory);
}

FreeNode* new_slab() {
  char* const memory = memory_for(kSlabNodes);
  FreeNode* head = nullptr;
  for (std::uint32_t i = kSlabNodes; i-- > 0;) {
    auto* item = reinterpret_cast<FreeNode*>(memory + i * kStep);
    item->next = head;
    head = item;
  }
  return head;
}

}  // namespace

void* take_node_memory(ThreadState& state) {
  if constexpr (!kPools) return memory_for(1);
  if (!state.free_nodes) {
    FreeNode* list = nullptr;
    {
      const std::lock_guard lock(g_pool_mutex);
      list = std::exchange(g_shared_free, nullptr);
    }
    if (!list) list = new_slab();
    state.free_nodes = reinterpret_cast<Node*>(list);
    state.free_count = 0;
  }
  auto* item = reinterpret_cast<FreeNode*>(state.free_nodes);
  state.free_nodes = reinterpret_cast<Node*>(item->next);
  if (state.free_count) --state.free_count;
  return item;
}

void give_node_memory(ThreadState& state, void* memory) noexcept {
  if constexpr (!kPools) return std::free(memory);
  auto* item = static_cast<FreeNode*>(memory);
  if (state.free_count >= kKeepPerThread) {
    const std::lock_guard lock(g_pool_mutex);
    item->next = g_shared_free;
    g_shared_free = item;
    return;
  }
  item->next = reinterpret_cast<FreeNode*>(state.free_nodes);
  state.free_nodes = reinterpret_cast<Node*>(item);
  ++state.free_count;
}

void release_node_pool(ThreadState& state) noexcept {
  auto* list = reinterpret_cast<FreeNode*>(std::exchange(state.free_nodes, nullptr));
  if (!list) return;
  FreeNode* last = list;
  while (last->next) last = last->next;
  const std::lock_guard lock(g_pool_mutex);
  last->next = g_shared_free;
  g_shared_free = list;
}

void lock_node_pool() noexcept { g_pool_mutex.lock(); }
void unlock_node_pool() noexcept { g_pool_mutex.unlock(); }

// ---------------------------------------------------------------------------------- creation

Node* new_node(DType dtype, Layout layout) {
  ThreadState& state = thread_state();
  Node* n = init_node(state, take_node_memory(state), dtype);
  n->layout = std::move(layout);
  return n;
}

Node* new_array(DType dtype, Layout::Extents shape, const char* op) {
  const std::size_t bytes = static_cast<std::size_t>(checked_size(shape, op)) * itemsize(dtype);
  IntrusivePtr<Storage> storage;
  if (bytes > Stored::kInlineBytes) storage = Storage::allocate(bytes, op);
  Node* n = new_node(dtype, Layout(shape));
  n->stored.storage = storage.detach();
  return n;
}

void share_held(Node* out, const Node* node) {
  out->level = node->level;
  out->box = node->box;
  out->box_serial = node->box_serial;
  if (!node->level) return share_stored(out, node);
  out->state.store(State::boxed, std::memory_order_relaxed);
  if (node->box == Box::trace) {
    out->trace_index = node->trace_index;
    return;
  }
  out->boxed = node->boxed;
  if (out->boxed.primal) retain_handle(out->boxed.primal);
  if (node->box == Box::dual && out->boxed.tangent) retain_handle(out->boxed.tangent);
}

void set_inputs(Node* node, std::span<Node* const> inputs) {
  Node** edges = node->inline_inputs;
  if (inputs.size() > Node::kInlineInputs) {
    edges = new Node*[inputs.size()];
    node->heap_inputs = edges;
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    retain_reference(inputs[i]);
    edges[i] = inputs[i];
  }
  node->input_count = static_cast<std::uint32_t>(inputs.size());
}

// ----------------------------------------------------------------------------------- release

namespace {

constexpr std::uint64_t kReferences = Node::kUse - 1;  // the low half of the counts

/// Gives up a handle that is neither the last use nor the last reference; false if it may be.
bool leave_to_others(Node* n) noexcept {
  std::uint64_t c = n->counts.load(std::memory_order_acquire);
  while ((c >> 32) > 1 && (c & kReferences) > 1)
    if (n->counts.compare_exchange_weak(c, c - Node::kHandle, std::memory_order_acq_rel))
      return true;
  return false;
}

/// The work that one release sets free.
class Reaper {
 public:
  void drop_reference(Node* n) {
    if ((n->counts.load(std::memory_order_acquire) & kReferences) == 1 ||
        (n->counts.fetch_sub(Node::kReference, std::memory_order_acq_rel) & kReferences) == 1)
      dead_.push_back(n);
  }

  /// A use whose holder also holds a reference until after this call.
  void drop_use(Node* n) {
    const std::uint64_t before = n->counts.fetch_sub(Node::kUse, std::memory_order_acq_rel);
    if (before >> 32 == 1) forget_value(n);
  }

  void drop_handle(Node* n) {
    if ((n->counts.load(std::memory_order_acquire) & kReferences) == 1) {
      dead_.push_back(n);  // a use without a reference is the node's own
      return;
    }
    if (leave_to_others(n)) return;
    drop_use(n);
    drop_reference(n);
  }

  void run() {
    while (true) {
      if (!valueless_.empty()) {
        Node* n = valueless_.back();
        valueless_.pop_back();
        abandon_deferred(n);
        drop_reference(n);
      } else if (!dead_.empty()) {
        Node* n = dead_.back();
        dead_.pop_back();
        destroy(n);
      } else {
        return;
      }
    }
  }

 private:
  /// No use is left: the memory goes, the edges stay.
  void forget_value(Node* n) {
    if (n->box != Box::none) {
      n->state.store(State::dropped, std::memory_order_release);
      forget_boxed(n);
      return;
    }
    State s = n->state.load(std::memory_order_acquire);
    if (s == State::ready) {
      if (Storage* storage = std::exchange(n->stored.storage, nullptr)) {
        n->state.store(State::dropped, std::memory_order_release);
        release(storage);
      }
      return;
    }
    if (s == State::deferred) {
      retain_reference(n);
      valueless_.push_back(n);
    }
  }

  /// A deferred value that nobody will ask for: its inputs lose a pending reader each.
  void abandon_deferred(Node* n) {
    if (!withdraw_deferred(n)) return;
    for (Node* input : n->inputs()) drop_use(input);
    if (!n->recorded) drop_edges(n);
  }

  void drop_edges(Node* n) {
    for (Node* input : n->inputs()) drop_reference(input);
    if (n->input_count > Node::kInlineInputs) delete[] n->heap_inputs;
    n->input_count = 0;
  }

  void forget_boxed(Node* n) {
    if (n->box == Box::tuple) {  // what the results are like is still known
      for (Node* result : *n->results) drop_use(result);
      return;
    }
    if (n->box != Box::trace) {
      if (Node* part = std::exchange(n->boxed.primal, nullptr)) drop_handle(part);
    }
    if (n->box == Box::dual) {
      if (Node* part = std::exchange(n->boxed.tangent, nullptr)) drop_handle(part);
    }
  }

  void destroy_boxed(Node* n) {
    if (n->box != Box::tuple) return forget_boxed(n);
    const bool has_values = n->state.load(std::memory_order_acquire) != State::dropped;
    for (Node* result : *n->results) has_values ? drop_handle(result) : drop_reference(result);
    delete n->results;
  }

  void destroy(Node* n) {
    const bool pending = n->state.load(std::memory_order_acquire) == State::deferred;
    const auto inputs = n->inputs();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (pending) drop_use(inputs[i]);
      const std::uint8_t bit = Node::saved_bit(i);
      if (n->saved & bit) {
        if (i < 6 && (n->counted_savers & bit))
          inputs[i]->savers.fetch_sub(1, std::memory_order_relaxed);
        drop_handle(inputs[i]);
      } else {
        drop_reference(inputs[i]);
      }
    }
    if (n->input_count > Node::kInlineInputs) delete[] n->heap_inputs;
    if (n->box != Box::none) {
      destroy_boxed(n);
    } else if (n->stored.storage) {
      release(n->stored.storage);
    }
    if (n->attrs) release(n->attrs);
    if (n->leaf) release(n->leaf);
    n->~Node();
    ThreadState& state = thread_state();
    state.count_nodes(-1);
    give_node_memory(state, n);
  }

  SmallVector<Node*, 32> dead_;
  SmallVector<Node*, 8> valueless_;
};

}  // namespace

void release_reference(Node* n) noexcept {
  Reaper reaper;
  reaper.drop_reference(n);
  reaper.run();
}

void release_use(Node* n) noexcept {
  Reaper reaper;
  reaper.drop_use(n);
  reaper.run();
}

void release_handle(Node* n) noexcept {
  if (leave_to_others(n)) return;
  if ((n->counts.load(std::memory_order_acquire) & kReferences) == 1 && n->input_count == 0 &&
      n->box == Box::none && !n->attrs && !n->leaf && !n->stored.storage) {
    n->~Node();
    ThreadState& state = thread_state();
    state.count_nodes(-1);
    give_node_memory(state, n);
    return;
  }
  Reaper reaper;
  reaper.drop_handle(n);
  reaper.run();
}

// -------------------------------------------------------------------------------------- leaf

Leaf::Leaf() : order(thread_state().last_order() + 1), birth(next_birth()) {}

void retain(Leaf* leaf) noexcept { leaf->references.fetch_add(1, std::memory_order_relaxed); }

void release(Leaf* leaf) noexcept {
  if (leaf->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (leaf->grad) release_handle(leaf->grad);  // of a sweep that met the last owner leaving
  delete leaf;
}

void retain_owner(Leaf* leaf) noexcept {
  leaf->owners.fetch_add(1, std::memory_order_relaxed);
  retain(leaf);
}

void release_owner(Leaf* leaf) noexcept {
  if (leaf->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    if (std::atomic_ref(leaf->grad).load(std::memory_order_relaxed)) drop_gradient(leaf);
  }
  release(leaf);
}

}  // namespace adjoint
