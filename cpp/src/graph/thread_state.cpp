// Creation of the per-thread state, its return of nodes at thread exit, and levels.
#include "graph/thread_state.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/fork.h"
#include "graph/cell.h"
#include "graph/node_pool.h"
#include "graph/op.h"
#include "graph/trace_sink.h"
#include "graph/watcher.h"

namespace adjoint {

ADJOINT_THREAD_LOCAL ThreadState* t_thread_state = nullptr;
std::atomic<std::uint64_t> g_order_floor{0};
std::atomic<int> g_open_recorders{0};
std::atomic<int> g_open_tapes{0};
HostLock g_host_lock;
std::atomic<int> g_open_traces{0};
std::atomic<int> g_open_watchers{0};

namespace {

std::atomic<std::uint32_t> g_level_serial{0};

/// 0 is no level's, also when the numbers begin again.
std::uint32_t next_level_serial() noexcept {
  std::uint32_t serial = 0;
  while (serial == 0) serial = g_level_serial.fetch_add(1, std::memory_order_relaxed) + 1;
  return serial;
}

std::mutex g_states_mutex;
std::int64_t g_live_of_ended_threads = 0;
std::uint64_t g_order_of_ended_threads = 0;
std::uint64_t g_thread_numbers = 0;

// Never destroyed: threads may end while the process does.
std::vector<ThreadState*>& states() {
  static auto* list = new std::vector<ThreadState*>;
  return *list;
}
/// Where another thread may go on.
std::vector<std::uint64_t>& births_of_ended_threads() {
  static auto* list = new std::vector<std::uint64_t>;
  return *list;
}

void destroy_state(void* p) {
  auto* state = static_cast<ThreadState*>(p);
  release_node_pool(*state);
  t_thread_state = nullptr;
  const std::lock_guard lock(g_states_mutex);
  g_live_of_ended_threads += state->live_nodes.load(std::memory_order_relaxed);
  g_order_of_ended_threads = std::max<std::uint64_t>(g_order_of_ended_threads, state->order);
  births_of_ended_threads().push_back(state->births);
  std::erase(states(), state);
  delete state;
}

// A child must find every lock of the graph free.
void lock_graph() {
  lock_deferral();
  g_states_mutex.lock();
  lock_gradients();
  lock_node_pool();
}
void unlock_graph() {
  unlock_node_pool();
  unlock_gradients();
  g_states_mutex.unlock();
  unlock_deferral();
}

void unlock_graph_in_child() {
  forget_other_priorities();
  unlock_graph();
}

pthread_key_t set_up_process() {
  register_fork_handlers(ForkLevel::graph, {lock_graph, unlock_graph, unlock_graph_in_child});
  pthread_key_t key;
  pthread_key_create(&key, destroy_state);
  return key;
}

/// ADJOINT_DEFER=0 turns deferral off for the whole process.
bool defers_by_default() {
  static const bool on = [] {
    const char* text = std::getenv("ADJOINT_DEFER");
    return !text || std::string_view(text) != "0";
  }();
  return on;
}

}  // namespace

ThreadState& make_thread_state() {
  all_ops();  // whoever makes a node may apply a record directly: the table has to be complete
  static const pthread_key_t key = set_up_process();
  auto* state = new ThreadState;
  state->deferral = defers_by_default();
  t_thread_state = state;
  pthread_setspecific(key, state);
  const std::lock_guard lock(g_states_mutex);
  if (auto& births = births_of_ended_threads(); births.empty()) {
    state->births = ++g_thread_numbers << kBirthBits;
  } else {
    state->births = births.back();
    births.pop_back();
  }
  states().push_back(state);
  return *state;
}

std::int64_t live_node_count() noexcept {
  const std::lock_guard lock(g_states_mutex);
  std::int64_t sum = g_live_of_ended_threads;
  for (const ThreadState* s : states()) sum += s->live_nodes.load(std::memory_order_relaxed);
  return sum;
}

std::uint64_t mark_order() {
  const std::lock_guard lock(g_states_mutex);
  std::uint64_t last = std::max(g_order_floor.load(std::memory_order_relaxed),  //
                                g_order_of_ended_threads);
  for (const ThreadState* s : states()) last = std::max<std::uint64_t>(last, s->order);
  g_order_floor.store(last, std::memory_order_relaxed);
  return last;
}

void check_interrupt() {
  if (!g_host_lock.interrupt) return;
  constexpr std::int64_t interval = 50'000'000;
  const auto clock = std::chrono::steady_clock::now().time_since_epoch();
  const std::int64_t now = std::chrono::nanoseconds(clock).count();
  ThreadState& state = thread_state();
  if (now < state.next_check) return;
  state.next_check = now + interval;
  g_host_lock.interrupt();
}

UnaffectedScope::UnaffectedScope()
    : recording_(std::exchange(thread_state().recording, true)),
      constant_(std::exchange(thread_state().constant, false)),
      within_(std::exchange(thread_state().within, false)),
      shadow_(std::exchange(thread_state().shadow, -1)),
      constant_order_(std::exchange(thread_state().constant_order, 0)),
      watcher_(std::exchange(thread_state().watcher, nullptr)) {}

UnaffectedScope::~UnaffectedScope() {
  ThreadState& state = thread_state();
  state.recording = recording_;
  state.constant = constant_;
  state.within = within_;
  state.shadow = shadow_;
  state.constant_order = constant_order_;
  state.watcher = watcher_;
}

LevelScope::LevelScope(Box kind, Interpreter interpret, std::int64_t batch_size, TraceSink* trace,
                       bool hidden, std::uint32_t stands_for)
    : serial_(next_level_serial()) {
  ThreadState& state = thread_state();
  level_ = static_cast<std::uint16_t>(state.levels.size() + 1);
  state.levels.push_back({kind, level_, serial_, stands_for ? stands_for : serial_, batch_size,
                          trace, hidden, false, false, interpret});
  if (trace && !hidden) g_open_traces.fetch_add(1, std::memory_order_relaxed);
}

LevelScope::~LevelScope() {
  ThreadState& state = thread_state();
  const Level& own = state.levels[level_ - 1];
  if (own.trace && !own.hidden) g_open_traces.fetch_sub(1, std::memory_order_relaxed);
  state.levels.resize(level_ - 1);
}

namespace {

TraceSink* innermost_trace(bool hidden) noexcept {
  const ThreadState* state = t_thread_state;
  if (!state) return nullptr;
  for (auto it = state->levels.rbegin(); it != state->levels.rend(); ++it)
    if (it->trace && it->hidden == hidden) return it->trace;
  return nullptr;
}

}  // namespace

TraceSink* current_trace() noexcept { return innermost_trace(false); }

TraceSink* any_trace() noexcept {
  TraceSink* trace = current_trace();
  return trace ? trace : innermost_trace(true);
}

void need_value(const Node* weak) {
  const auto& levels = thread_state().levels;
  if (weak->level <= levels.size()) {
    const Level& level = levels[weak->level - 1u];
    if (level.trace && level.serial == weak->box_serial) level.trace->need_value(weak);
  }
  raise(ErrorKind::runtime, "compile",
        "a number belongs to a trace that has ended: return it from the function instead of "
        "storing it");
}

}  // namespace adjoint
