// What a thread carries while it computes: whether it records and defers, the open levels of
// transforms, and its free list of nodes. Reached through one trivially initialised pointer: a
// thread_local object with a constructor costs 25 ns per operation.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "adjoint/tensor.h"
#include "base/tls.h"
#include "graph/node.h"

namespace adjoint {

class AssignedInReverse;
class CellScope;
class SeveredValues;
class TraceSink;
class Watcher;

struct Level;
/// Gives an application on boxed inputs its meaning.
struct Interpreter {
  /// Returns a node with one handle count.
  Node* (*one)(const Op&, std::span<Node* const> inputs, const AttrsPtr&, const Level&);
  /// For operations that may have several results.
  std::vector<Tensor> (*all)(const Op&, std::span<Node* const> inputs, const AttrsPtr&,
                             const Level&);
};

/// One open transform that gives tensors a meaning of its own.
struct Level {
  Box kind;
  std::uint16_t number;
  std::uint32_t serial;
  std::uint32_t identity;   // dual: the serial of the level that it stands for, at first its own
  std::int64_t batch_size;  // batch
  TraceSink* trace;         // trace
  bool hidden;              // trace: not found by `current_trace`
  bool whole;               // trace: of a branch, which takes work on outer values too
  bool directions;          // batch: of directions of one run, not of runs
  Interpreter interpret;
};

/// A number that its thread alone changes, and others may look at.
class OwnCounter {
 public:
  operator std::uint64_t() const noexcept { return value_.load(std::memory_order_relaxed); }
  void operator=(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// What any thread records from now on has a higher order than this.
extern std::atomic<std::uint64_t> g_order_floor;
/// Reverse transforms and tapes that are open in any thread.
extern std::atomic<int> g_open_recorders;
/// The tapes among them: these may ask for any leaf.
extern std::atomic<int> g_open_tapes;

struct ThreadState {
  OwnCounter order;            // of recorded applications
  bool recording = true;       // off inside no_grad, and where nobody asks for a record
  bool constant = false;       // inside no_grad
  bool deferral = true;        // off inside deferral(False)
  Watcher* watcher = nullptr;  // of anomaly mode
  int open_recorders = 0;      // tapes and reverse transforms: sweeps inside them are recorded
  int recorders = 0;           // the same, those included that work done alone does not see
  bool within = false;         // work on the parts of boxes, which no branch takes for its own
  int shadow = -1;             // with so many recorders open only whether, not how
  int first_runs = 0;  // of checkpoints that are under way, second ones inside of them or not
  std::vector<Level> levels;               // level k is levels[k - 1]
  std::uint16_t constant_levels = 0;       // levels that were open when no_grad was entered
  std::uint64_t constant_order = 0;        // what was recorded before; 0 outside of no_grad
  std::shared_ptr<SeveredValues> severed;  // of the tapes that were opened since
  std::uint32_t served = 0;                // identity of the dual level whose tangents a rule gives
  CellScope* cells = nullptr;              // innermost first
  AssignedInReverse* assigned = nullptr;
  std::uint64_t births = 0;    // of cells: the number of the thread, above those of the cells
  Node* free_nodes = nullptr;  // linked through inline_inputs[0]
  std::uint32_t free_count = 0;
  std::int64_t next_check = 0;              // of interrupts: steady clock, ns
  std::atomic<std::int64_t> live_nodes{0};  // made here minus freed here; written by its owner

  /// The order that what is recorded next comes after.
  std::uint64_t last_order() const noexcept {
    return std::max<std::uint64_t>(order, g_order_floor.load(std::memory_order_relaxed));
  }
  /// Whether transforms of other threads alone may want what this one records.
  bool elsewhere_open() const noexcept {
    return recorders == 0 && g_open_recorders.load(std::memory_order_relaxed) > 0;
  }
  void count_nodes(std::int64_t n) noexcept {
    live_nodes.store(live_nodes.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
};

extern ADJOINT_THREAD_LOCAL ThreadState* t_thread_state;
ThreadState& make_thread_state();
inline ThreadState& thread_state() {
  ThreadState* s = t_thread_state;
  return s ? *s : make_thread_state();
}

/// A point in the orders of all threads: what was recorded before has at most the order that is
/// returned, and what is recorded afterwards a higher one, whichever thread does it.
std::uint64_t mark_order();

/// The birth of a cell that is made now: no other in the process has it.
inline std::uint64_t next_birth() { return ++thread_state().births; }
constexpr int kBirthBits = 46;  // of the counter; the number is that of an ended thread, or new

/// Sets a field of the thread for a scope.
template <auto Field>
class FieldScope {
  using Value = std::remove_reference_t<decltype(std::declval<ThreadState&>().*Field)>;

 public:
  explicit FieldScope(Value value)
      : state_(thread_state()), before_(std::exchange(state_.*Field, value)) {}
  ~FieldScope() { state_.*Field = before_; }
  FieldScope(const FieldScope&) = delete;
  FieldScope& operator=(const FieldScope&) = delete;

 private:
  ThreadState& state_;
  Value before_;
};
using RecordingScope = FieldScope<&ThreadState::recording>;
using WithinScope = FieldScope<&ThreadState::within>;
using DeferralScope = FieldScope<&ThreadState::deferral>;
using ServedScope = FieldScope<&ThreadState::served>;

/// Whether the value was recorded before `no_grad` was entered, inside of which a transform records
/// now: to that transform it is a constant.
inline bool is_severed(const ThreadState& state, const Node* n) noexcept {
  return n->order <= state.constant_order && n->requires_grad && state.recording;
}

/// Marks a value of a first run.
inline void mark_shadow(ThreadState& state, Node* n) noexcept {
  n->requires_grad = true;
  n->saved = state.constant ? Node::kInnerShadow : Node::kShadow;
  state.order = n->order = state.last_order() + 1;
}

/// Whether the value has left the first run that made it, other than as a result of the function,
/// and has a history which nobody has kept.
inline bool has_left(const ThreadState& state, const Node* n) noexcept {
  return n->is_shadow() && state.first_runs == 0 && (n->saved == Node::kShadow || state.constant);
}

/// Whether and how deep work was recorded when something was opened, and asking as it was then.
class Opening {
 public:
  Opening()
      : recording_(thread_state().recording),
        levels_(thread_state().constant_levels),
        order_(thread_state().constant_order),
        shadow_(thread_state().shadow) {}
  template <class F>
  auto as_then(F&& f) const {
    const RecordingScope recording(recording_);
    const FieldScope<&ThreadState::constant_levels> levels(levels_);
    const FieldScope<&ThreadState::constant_order> order(order_);
    const FieldScope<&ThreadState::shadow> shadow(shadow_);
    return f();
  }
  bool recording() const noexcept { return recording_; }

 private:
  bool recording_;
  std::uint16_t levels_;
  std::uint64_t order_;
  int shadow_;
};

/// What is made once and used by many must not depend on what was open around its first use: work
/// in this scope is recorded, by no tape and under no watcher.
class UnaffectedScope {
 public:
  UnaffectedScope();
  ~UnaffectedScope();
  UnaffectedScope(const UnaffectedScope&) = delete;
  UnaffectedScope& operator=(const UnaffectedScope&) = delete;

 private:
  bool recording_, constant_, within_;
  int shadow_;
  std::uint64_t constant_order_;
  Watcher* watcher_;
};

/// Opens a level for a scope.
class LevelScope {
 public:
  /// `stands_for`: the identity of another level; 0: none.
  LevelScope(Box kind, Interpreter interpret, std::int64_t batch_size = 0,
             TraceSink* trace = nullptr, bool hidden = false, std::uint32_t stands_for = 0);
  ~LevelScope();
  LevelScope(const LevelScope&) = delete;
  LevelScope& operator=(const LevelScope&) = delete;
  std::uint16_t level() const noexcept { return level_; }
  std::uint32_t serial() const noexcept { return serial_; }

 private:
  std::uint16_t level_;
  std::uint32_t serial_;
};

/// Lets go of the embedding language's lock (Python's GIL) while a thread computes or waits, and
/// asks whether the user wants it to stop; the bindings install the functions.
struct HostLock {
  void* (*leave)() = nullptr;  // returns a token, null when the lock was not held
  void (*enter)(void*) = nullptr;
  void (*interrupt)() = nullptr;  // takes the lock; raises when the work is to stop
};
extern HostLock g_host_lock;

/// Called between the steps of long work, where no lock is held and stopping leaves everything
/// usable: raises what the embedding language makes of a signal. Reads the clock, and asks at most
/// every 50 ms.
void check_interrupt();
class WithoutHostLock {
 public:
  WithoutHostLock() : token_(g_host_lock.leave ? g_host_lock.leave() : nullptr) {}
  ~WithoutHostLock() {
    if (token_) g_host_lock.enter(token_);
  }
  WithoutHostLock(const WithoutHostLock&) = delete;
  WithoutHostLock& operator=(const WithoutHostLock&) = delete;

 private:
  void* token_;
};

}  // namespace adjoint
