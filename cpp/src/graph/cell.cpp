#include "graph/cell.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include "adjoint/error.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"

namespace adjoint {

std::atomic<int> g_open_cell_scopes{0};

namespace {

std::mutex g_gradients;

class LeafOwner final : public Payload {
 public:
  explicit LeafOwner(Leaf* leaf) : leaf_(leaf) { retain_owner(leaf_); }
  ~LeafOwner() override { release_owner(leaf_); }

 private:
  Leaf* leaf_;
};

constexpr int kPatience = 4;           // failures before others are asked to wait
constexpr int kLongestWait = 1000;     // ms, for work that waits itself for what would wait for it
std::atomic<int> g_prior{0};           // work that others give way to
ADJOINT_THREAD_LOCAL int t_prior = 0;  // of this thread

void give_way() {
  if (g_prior.load(std::memory_order_relaxed) == 0 || t_prior > 0) return;
  const WithoutHostLock without;
  for (int i = 0; i < kLongestWait && g_prior.load(std::memory_order_relaxed) > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

class GradientLock {
 public:
  GradientLock() { lock_gradients(); }
  ~GradientLock() { unlock_gradients(); }
  GradientLock(const GradientLock&) = delete;
  GradientLock& operator=(const GradientLock&) = delete;
};

CellScope* scope_of(const Cell& cell) noexcept {
  const ThreadState* state = t_thread_state;
  CellScope* scope = state ? state->cells : nullptr;
  return scope && scope->is_outside(cell) ? scope : nullptr;
}

Tensor load(const Cell& cell) {
  if (cell.kind == Cell::Kind::gradient) return load_gradient(static_cast<Leaf*>(cell.who));
  return *cell.at ? Tensor::share(*cell.at) : Tensor();
}

void store(const Cell& cell, Tensor value) {
  Node* fresh = kept_value(cell.leaf, std::move(value), *cell.at).detach_node();
  if (cell.kind == Cell::Kind::gradient) {
    give_way();
    const GradientLock lock;
    std::swap(*cell.at, fresh);
  } else {
    std::swap(*cell.at, fresh);
  }
  if (fresh) release_handle(fresh);
}

IntrusivePtr<const Payload> keep_leaf(void* who) {
  return IntrusivePtr<const Payload>(new LeafOwner(static_cast<Leaf*>(who)));
}

}  // namespace

Cell gradient_cell(Leaf* leaf) noexcept {
  return {Cell::Kind::gradient, &leaf->grad, leaf->birth, nullptr, leaf, keep_leaf};
}

Tensor read_cell(const Cell& cell) {
  CellScope* scope = scope_of(cell);
  return scope ? scope->read(cell) : load(cell);
}

void write_cell(const Cell& cell, Tensor value) {
  if (CellScope* scope = scope_of(cell)) {
    // What is kept of a box no longer tells.
    if (value.defined() && value.node()->box != Box::none && has_left(thread_state(), value.node()))
      raise_left("rebind_");
    scope->write(cell, std::move(value));
  } else {
    store(cell, std::move(value));
  }
  if (cell.kind == Cell::Kind::handle) note_assigned(cell);
}

void check_write(const Cell& cell, const Tensor& value) {
  if (CellScope* scope = scope_of(cell)) scope->check(cell, value);
}

Tensor kept_value(Leaf* leaf, Tensor value, const Node* before) {
  if (!leaf) return value;
  const auto& levels = thread_state().levels;
  if (before && before->box == Box::trace && before->requires_grad &&
      before->level <= levels.size() && levels[before->level - 1u].serial == before->box_serial) {
    TraceSink* trace = levels[before->level - 1u].trace;
    if (trace->moves(before)) value = Tensor::adopt(trace->continued(value.node(), before));
  }
  return Tensor::adopt(alias(value.node(), leaf, false));
}

bool was_there(std::uint64_t birth, std::uint64_t since) noexcept {
  return birth >> kBirthBits != since >> kBirthBits || birth <= since;
}

bool is_guarded(const Cell& cell) noexcept { return scope_of(cell) != nullptr; }

void refuse_outside(const Cell& cell, const char* what) {
  for (CellScope* scope = scope_of(cell); scope; scope = scope->outer()) {
    const char* op = scope->refuses_leaves();
    if (op && scope->is_outside(cell))
      raise(ErrorKind::runtime, what,
            std::string("inside ") + op +
                " this would reach a tensor from outside once and not at every run: do it outside");
  }
}

AssignedInReverse::AssignedInReverse() : opened_(thread_state().births) {
  thread_state().assigned = this;
}

AssignedInReverse::~AssignedInReverse() {
  thread_state().assigned = nullptr;
  for (const auto& [cell, owner] : cells_) {
    const Tensor value = read_cell(cell);
    if (!cell.leaf && value.requires_grad()) write_cell(cell, value.detach());
  }
}

void AssignedInReverse::note(const Cell& cell) {
  if (!was_there(cell.birth, opened_)) return;
  if (known_.insert(cell.at).second) cells_.emplace_back(cell, cell.keep(cell.who));
}

void note_assigned(const Cell& cell) {
  if (AssignedInReverse* assigned = thread_state().assigned) assigned->note(cell);
}

// --------------------------------------------------------------------------------- CellScope

CellScope::CellScope() {
  ThreadState& state = thread_state();
  outer_ = state.cells;
  opened_ = state.births;
  state.cells = this;
  g_open_cell_scopes.fetch_add(1, std::memory_order_relaxed);
}

CellScope::~CellScope() { close(); }

void CellScope::close() noexcept {
  if (!std::exchange(open_, false)) return;
  thread_state().cells = outer_;
  g_open_cell_scopes.fetch_sub(1, std::memory_order_relaxed);
}

bool CellScope::is_outside(const Cell& cell) const noexcept {
  return was_there(cell.birth, opened_);
}

/// A level that is open in the second run stands for one of the first, to which the cell may have
/// belonged, though it is older than the level.
Standing CellScope::standing(const Cell& cell) const {
  Standing out;
  const Standing* then = nullptr;
  for (const CellScope* scope = outer_; scope; scope = scope->outer_) {
    if (!then) then = scope->standing_then(cell);
    const std::uint32_t level = scope->forward();
    if (!level && !scope->is_trace()) continue;
    const bool known = then && then->inside;
    if (known ? std::ranges::count(then->levels, level) > 0 : scope->is_outside(cell)) {
      out.outside = true;
      if (level) out.levels.push_back(level);
    } else {
      out.inside = true;
    }
  }
  return out;
}

AttrsPtr Standing::kept() const {
  if (!inside) return make_attrs(KeptAttrs{.everywhere = true, .levels = {}});
  return make_attrs(KeptAttrs{.levels = Dims(levels.begin(), levels.end())});
}

Cell CellScope::resolved(Cell cell) const {
  for (CellScope* scope = outer_; scope; scope = scope->outer_)
    if (scope->is_outside(cell))
      if (const Cell* other = scope->stand_in_for(cell)) cell = *other;
  return cell;
}

Tensor CellScope::read_outside(const Cell& cell) {
  return outer_ && outer_->is_outside(cell) ? outer_->read(cell) : load(cell);
}

void CellScope::write_outside(const Cell& cell, Tensor value) {
  if (outer_ && outer_->is_outside(cell)) return outer_->write(cell, std::move(value));
  store(cell, std::move(value));
}

void CellScope::check_outside(const Cell& cell, const Tensor& value) {
  if (outer_ && outer_->is_outside(cell)) outer_->check(cell, value);
}

void RefusingScope::check(const Cell&, const Tensor&) {
  raise(ErrorKind::runtime, op_,
        "the function assigns to a tensor, or to a generator's state, outside of it: carry the "
        "value through the loop, or return it");
}

void RefusingScope::write(const Cell& cell, Tensor value) { check(cell, value); }

void TrialScope::write(const Cell& cell, Tensor value) {
  const auto [place, fresh] = places_.try_emplace(cell.at, written_.size());
  if (fresh) written_.push_back({cell, cell.keep(cell.who), read_outside(cell), {}});
  write_outside(cell, std::move(value));
  written_[place->second].after = read_outside(cell);
}

void TrialScope::take_back() {
  for (Written& w : written_)
    if (read_outside(w.cell).node() == w.after.node()) write_outside(w.cell, std::move(w.before));
}

// --------------------------------------------------------------------------------- gradients

void lock_gradients() { g_gradients.lock(); }
void unlock_gradients() { g_gradients.unlock(); }
void forget_other_priorities() noexcept { g_prior.store(t_prior, std::memory_order_relaxed); }

Tensor load_gradient(Leaf* leaf) {
  const GradientLock lock;
  return leaf->grad ? Tensor::share(leaf->grad) : Tensor();
}

void load_gradients(std::span<GradientChange> changes) {
  std::vector<Tensor> dropped;  // without the lock
  for (GradientChange& c : changes)
    if (c.expected.defined()) dropped.push_back(std::move(c.expected));
  const GradientLock lock;
  for (GradientChange& c : changes)
    c.expected = c.leaf->grad ? Tensor::share(c.leaf->grad) : Tensor();
}

GradientPriority::~GradientPriority() {
  if (failures_ < kPatience) return;
  --t_prior;
  g_prior.fetch_sub(1, std::memory_order_relaxed);
}

void GradientPriority::failed() {
  if (++failures_ != kPatience) return;
  ++t_prior;
  g_prior.fetch_add(1, std::memory_order_relaxed);
}

bool exchange_gradients(std::span<GradientChange> changes) {
  give_way();
  const GradientLock lock;
  for (const GradientChange& c : changes)
    if (c.leaf->grad != c.expected.node()) return false;
  for (GradientChange& c : changes) {
    Node* before = c.value.detach_node();
    std::swap(c.leaf->grad, before);
    c.value = Tensor::adopt(before);  // released by the caller, without the lock
  }
  return true;
}

void drop_gradient(Leaf* leaf) noexcept {
  lock_gradients();
  Node* dropped = std::exchange(leaf->grad, nullptr);
  unlock_gradients();
  if (dropped) release_handle(dropped);
}

}  // namespace adjoint
