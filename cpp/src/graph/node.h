// Node: one value of the computation, with the application of the Op that made it.
//
// A node has two counts, kept in one atomic word. *References* (edges and handles) keep the node;
// *value uses* (handles, rules that saved the value, readers of a deferred value) keep the memory.
// At zero uses the storage goes and the edges stay, so a recorded chain of additions holds no
// intermediate. Whether an operation may write into an input's storage is decided by these counts
// and by nothing else.
//
// A node of level 0 holds memory. A node of a higher level stands for a value inside a transform
// and holds other nodes instead: primal and tangent, a batch, or a place in a trace. The node of an
// application with several results, a tuple, holds a node for each (graph/results.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "adjoint/dtype.h"
#include "adjoint/tensor.h"
#include "base/small_vector.h"
#include "graph/attributes.h"
#include "tensor/layout.h"
#include "tensor/storage.h"

namespace adjoint {

struct Op;

/// What a handle owns when it wants gradients. Nodes point to it weakly: when the last handle is
/// gone the gradient is dropped, so no cycle can form at any order of differentiation.
struct Leaf {
  Leaf();
  std::atomic<std::uint32_t> references{1};  // handles and nodes
  std::atomic<std::uint32_t> owners{1};      // handles
  bool requires_grad = true;
  bool of_transform = false;  // the input of a reverse transform
  Node* grad = nullptr;       // one handle count, or null; see graph/cell.h
  std::uint64_t order;        // above the thread's counter before it was made
  std::uint64_t birth;        // of its gradient as a cell
};
void retain(Leaf* leaf) noexcept;
void release(Leaf* leaf) noexcept;
void retain_owner(Leaf* leaf) noexcept;   // as a handle
void release_owner(Leaf* leaf) noexcept;  // as a handle

enum class State : std::uint8_t {
  ready,     // the value is in memory
  deferred,  // not computed yet; the inputs are held as pending readers
  running,   // some thread is computing it
  dropped,   // no use was left, the memory is gone
  boxed,     // level > 0: the value is held by other nodes
};

/// What a node holds in place of memory. Tuples may be of any level, and nobody but the parts of
/// one and who runs a program sees them.
enum class Box : std::uint8_t { none, dual, batch, trace, tuple };

/// A value of level 0: its bytes, where they are few, or the memory they live in.
struct Stored {
  static constexpr std::size_t kInlineBytes = 16;

  Storage* storage;  // null for a value in `bytes`
  alignas(8) unsigned char bytes[kInlineBytes];

  /// Writes one element.
  template <class T>
  void put(T value) noexcept {
    static_assert(sizeof(T) <= kInlineBytes && std::is_trivially_copyable_v<T>);
    std::memcpy(bytes, &value, sizeof value);
  }
};

/// What a dual and a batch hold: a handle count each.
struct Boxed {
  Node* primal;   // batch: the value with the batch as axis 0
  Node* tangent;  // dual: null for zero
};

struct Node {
  static constexpr std::uint64_t kReference = 1;
  static constexpr std::uint64_t kUse = std::uint64_t{1} << 32;
  static constexpr std::uint64_t kHandle = kReference | kUse;
  static constexpr int kInlineInputs = 3;

  // The first cache line is what a walk over the graph reads; the second is the value and its
  // state; a layout's extents come last. Slabs keep nodes aligned to lines.
  std::atomic<std::uint64_t> counts;
  const Op* op;         // null for data
  std::uint64_t order;  // max(thread counter, 1 + max over inputs): a topological order
  union {
    Node* inline_inputs[kInlineInputs];
    Node** heap_inputs;
  };
  std::uint32_t input_count;
  std::uint16_t level;
  std::uint16_t pending;  // deferred nodes below and including this one, saturating
  DType dtype;
  std::atomic<State> state;
  bool requires_grad;  // a leaf, or recorded from one
  bool recorded;       // edges are kept for a backward sweep

  Leaf* leaf;
  const Attrs* attrs;
  union {                         // by `box`
    Stored stored;                // none
    Boxed boxed;                  // dual, batch
    std::uint64_t trace_index;    // trace: position in the graph
    std::vector<Node*>* results;  // tuple: a reference each, and a use while it has uses itself
  };
  std::atomic<std::uint32_t> savers;  // rules that saved this value while it was deferred
  union {
    std::uint32_t box_serial;  // which opening of the level made this box
    std::uint32_t held;        // deferred: KiB that waiting keeps alive, at most; saturating
  };
  Box box;
  std::uint8_t saved;  // bit i: input i's value is saved, 6: all after it too; 7: the output's
  std::uint8_t counted_savers;  // the subset of `saved` that was counted in `savers`
  bool computed_once;           // a deferred value that was computed without being stored
  Layout layout;

  std::span<Node* const> inputs() const noexcept {
    return {input_count <= kInlineInputs ? inline_inputs : heap_inputs, input_count};
  }
  /// In `saved` of a shadow, a value whose history a first run has not kept (ThreadState::shadow);
  /// one that is made under `no_grad` is a constant outside of that.
  static constexpr std::uint8_t kShadow = 1;
  static constexpr std::uint8_t kInnerShadow = 2;
  bool is_shadow() const noexcept { return requires_grad && !recorded && saved != 0; }
  std::uint32_t uses() const noexcept {
    return static_cast<std::uint32_t>(counts.load(std::memory_order_acquire) >> 32);
  }
  bool is_ready() const noexcept { return state.load(std::memory_order_acquire) == State::ready; }
  bool is_pending() const noexcept {
    const State s = state.load(std::memory_order_acquire);
    return s == State::deferred || s == State::running;
  }
  /// The bit of `saved` that speaks of input i.
  static std::uint8_t saved_bit(std::size_t i) noexcept {
    return static_cast<std::uint8_t>(1u << (i < 6 ? i : 6));
  }
  /// First element; the node must be ready and of level 0.
  void* data() noexcept {
    if (!stored.storage) return stored.bytes;
    return static_cast<char*>(stored.storage->data()) +
           layout.offset() * static_cast<std::int64_t>(itemsize(dtype));
  }
  /// Whether a result may take the memory of this value over from its last `users`: the storage is
  /// the library's, nobody else sees it, and the value fills it from the start.
  bool gives_memory(std::uint32_t users = 1) const noexcept {
    return level == 0 && stored.storage && uses() == users && layout.contiguous() &&
           layout.offset() == 0 && stored.storage->donatable();
  }
  std::size_t nbytes() const noexcept {
    return static_cast<std::size_t>(layout.size()) * itemsize(dtype);
  }
};

/// The value below every dual and batch: of level 0, or a place in a trace.
inline const Node* innermost(const Node* n) noexcept {
  while (n->level && n->box != Box::trace) n = n->boxed.primal;
  return n;
}

/// A node with one handle count, ready state, no op; the caller fills the value.
Node* new_node(DType dtype, Layout layout);
/// The same with memory for a contiguous value (none is needed for a few bytes).
Node* new_array(DType dtype, Layout::Extents shape, const char* op);

/// Gives `out`, of level 0, the value of `in`, in the same memory.
inline void share_stored(Node* out, const Node* in) noexcept {
  out->stored = in->stored;
  if (out->stored.storage) retain(out->stored.storage);
}

/// Gives `out` what a node holds that does not wait: its memory, or the nodes of its box.
void share_held(Node* out, const Node* node);

/// Stores the edges of an application: one reference on each input.
void set_inputs(Node* node, std::span<Node* const> inputs);

inline void retain_reference(Node* n) noexcept {
  n->counts.fetch_add(Node::kReference, std::memory_order_relaxed);
}
inline void retain_use(Node* n) noexcept {
  n->counts.fetch_add(Node::kUse, std::memory_order_relaxed);
}
inline void retain_handle(Node* n) noexcept {
  n->counts.fetch_add(Node::kHandle, std::memory_order_relaxed);
}
void release_reference(Node* n) noexcept;
void release_use(Node* n) noexcept;
void release_handle(Node* n) noexcept;

/// Live nodes of the whole process, for leak tests and `memory_stats`.
std::int64_t live_node_count() noexcept;

}  // namespace adjoint
