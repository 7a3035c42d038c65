// Running deferred work. When a value is needed, the group it hangs on is collected under one
// lock, its members are marked as running, the lock is let go while the group runs, and the
// results are published. A thread that needs a value another thread is computing waits for it,
// never holding the embedding language's lock.
#include "graph/defer.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "graph/apply.h"
#include "graph/fuse.h"
#include "graph/node_pool.h"
#include "graph/thread_state.h"

namespace adjoint {

namespace {

constexpr std::uint16_t kMaxDepth = 64;      // chain length of one group
constexpr std::size_t kMaxMembers = 256;     // nodes of one group
constexpr std::size_t kSpaceSearch = 64;     // nodes looked at for a reduction
constexpr std::int64_t kLongWork = 1 << 16;  // elements above which the host lock is let go

std::mutex g_lock;
std::condition_variable g_published;

using Role = GroupSpace::Role;
using Operand = GroupBuilder::Operand;

bool is_view(const Node* n) { return n->op->kind == OpKind::view; }
State state_of(const Node* n) { return n->state.load(std::memory_order_acquire); }

GroupSpace space_of_reduction(const Node* n) {
  return {Dims(n->inputs()[0]->layout.shape()), static_cast<int>(n->attrs->ints.size())};
}

/// One group while it is being collected and run.
class Collector {
 public:
  explicit Collector(Node* root) : root_(root) {}

  /// Collects; values that must be ready first go to `wanted`. The lock is held.
  void collect(std::vector<Node*>& wanted) {
    space_ = find_space();
    visit_members();
    for (Node* n : externals_)
      if (!n->is_ready()) wanted.push_back(n);
  }

  /// Decides what is stored, builds the program and marks the members as running. The lock is
  /// held: once it is let go another thread may store a member and drop its edges.
  void claim();
  /// Runs the group. The lock is not held.
  void run();
  /// Makes the results visible. The lock is held; edges are dropped afterwards by `settle`.
  void publish();
  void give_up();
  /// Drops what the members no longer need. The lock is not held.
  void settle();

 private:
  struct Member {
    Node* node;
    std::uint32_t readers = 0;  // pending edges from other members
    bool stored = false;
    bool remains = false;  // stays deferred after the run
  };

  GroupSpace find_space() const;
  bool joins(const Node* consumer, const Node* n) const;
  bool view_joins(const Node* n) const;
  void visit_members();
  void decide_outputs();
  IntrusivePtr<Storage> donor_for(const Node* n, std::vector<bool>& taken) const;
  void choose_memory();
  bool donatable(const Node* n) const;

  Node* root_;
  GroupSpace space_;
  std::vector<Member> members_;
  std::unordered_map<const Node*, int> index_;  // members
  std::vector<Node*> externals_;
  std::unordered_map<const Node*, int> external_index_;
  std::unordered_map<const Node*, std::uint32_t> reads_;  // of externals, by members
  Group group_;
  std::vector<const void*> inputs_;             // data of the group's externals
  std::vector<IntrusivePtr<Storage>> results_;  // by stored member, in order
  std::vector<std::uint64_t> result_bits_;
};

/// The space of the first reduction below the root that the root itself belongs to; without one,
/// the root's own shape.
GroupSpace Collector::find_space() const {
  if (root_->op->reduces) return space_of_reduction(root_);
  SmallVector<const Node*, 64> queue;
  queue.push_back(root_);
  for (std::size_t i = 0; i < queue.size() && i < kSpaceSearch; ++i) {
    for (const Node* in : queue[i]->inputs()) {
      if (state_of(in) != State::deferred) continue;
      if (in->op->reduces) {
        const GroupSpace space = space_of_reduction(in);
        if (space.role(root_->layout.shape()) != Role::none) return space;
      }
      if (std::find(queue.begin(), queue.end(), in) == queue.end()) queue.push_back(in);
    }
  }
  return {Dims(root_->layout.shape()), 0};
}

/// A deferred view is another name for its operand, if that is a member of the space too.
bool Collector::view_joins(const Node* n) const {
  const Node* base = n->inputs()[0];
  if (state_of(base) != State::deferred || (is_view(base) && !view_joins(base))) return false;
  const Role from = space_.role(base->layout.shape());
  const Role to = space_.role(n->layout.shape());
  if (from == Role::row && to == Role::full) return space_.aligned(base->layout.shape());
  return from == to && from != Role::none && (!base->op->reduces || joins(n, base));
}

bool Collector::joins(const Node* consumer, const Node* n) const {
  if (state_of(n) != State::deferred) return false;
  const Role role = space_.role(n->layout.shape());
  if (n->op->reduces) {
    const auto shape = n->inputs()[0]->layout.shape();
    if (n->attrs->ints.size() != static_cast<std::size_t>(space_.reduced) ||
        !std::equal(shape.begin(), shape.end(), space_.full.begin(), space_.full.end()))
      return false;
  } else if (role == Role::none) {
    return false;
  }
  if (is_view(n) && !view_joins(n)) return false;
  if (consumer->op->reduces) return role == Role::full && !n->op->reduces;
  const Role to = space_.role(consumer->layout.shape());
  if (is_view(consumer)) return true;
  if (n->op->reduces || role == Role::row) {
    if (to == Role::full) return space_.aligned(n->layout.shape());
    return n->layout.same_shape(consumer->layout) || space_.rows() == 1;
  }
  return to == Role::full;
}

void Collector::visit_members() {
  std::vector<Node*> stack{root_};
  index_.emplace(root_, 0);
  members_.push_back({root_});
  while (!stack.empty()) {
    Node* n = stack.back();
    stack.pop_back();
    for (Node* in : n->inputs()) {
      const auto known = index_.find(in);
      if (known != index_.end() && joins(n, in)) {
        ++members_[known->second].readers;
      } else if (known == index_.end() && joins(n, in) && members_.size() < kMaxMembers) {
        index_.emplace(in, static_cast<int>(members_.size()));
        members_.push_back({in, 1});
        stack.push_back(in);
      } else {
        ++reads_[in];
        if (external_index_.emplace(in, static_cast<int>(externals_.size())).second)
          externals_.push_back(in);
      }
    }
  }
  std::sort(members_.begin(), members_.end(),
            [](const Member& a, const Member& b) { return a.node->order < b.node->order; });
  for (std::size_t i = 0; i < members_.size(); ++i) index_[members_[i].node] = static_cast<int>(i);
}

void Collector::decide_outputs() {
  for (auto it = members_.rbegin(); it != members_.rend(); ++it) {
    Node* n = it->node;
    const std::uint32_t savers = n->savers.load(std::memory_order_relaxed);
    const std::uint32_t inside = it->readers + savers;
    const bool demanded = n == root_ || n->uses() > inside;
    const bool kept = n->uses() > it->readers;
    const bool small = space_.role(n->layout.shape()) != Role::full || n->op->reduces;
    it->stored = !is_view(n) && (demanded || (kept && (small || n->computed_once)));
    if (!it->stored && kept) it->remains = true;
    if (it->remains) {
      for (Node* in : n->inputs()) {
        const auto member = index_.find(in);
        if (member != index_.end() && !members_[member->second].stored)
          members_[member->second].remains = true;
      }
    }
  }
}

void Collector::claim() {
  decide_outputs();
  GroupBuilder builder(space_);
  for (Member& m : members_) {
    Operand operands[3];
    std::size_t count = 0;
    for (Node* in : m.node->inputs()) {
      const auto member = index_.find(in);
      operands[count++] = member != index_.end()
                              ? Operand{false, member->second, in->dtype, nullptr}
                              : Operand{true, external_index_.at(in), in->dtype, &in->layout};
    }
    builder.add(*m.node->op, m.node->attrs, m.node->layout.shape(), {operands, count});
  }
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (members_[i].stored) builder.add_output(static_cast<int>(i));
  group_ = builder.finish();
  choose_memory();
  for (const int e : group_.externals()) inputs_.push_back(externals_[e]->data());
  for (Member& m : members_) {
    retain_handle(m.node);
    if (m.stored) m.node->state.store(State::running, std::memory_order_release);
  }
  for (Node* n : externals_) retain_reference(n);
}

bool Collector::donatable(const Node* n) const {
  const auto reads = reads_.find(n);
  if (!n->storage || n->level || reads == reads_.end() || n->uses() != reads->second ||
      !n->layout.contiguous() || n->layout.offset() != 0 || !n->storage->donatable())
    return false;
  for (const Member& m : members_) {
    if (!m.remains) continue;
    for (const Node* in : m.node->inputs())
      if (in == n) return false;
  }
  return true;
}

/// An external that dies with this group gives its memory to a result, where sizes agree.
IntrusivePtr<Storage> Collector::donor_for(const Node* n, std::vector<bool>& taken) const {
  const auto bindings = group_.externals();
  for (std::size_t i = 0; i < bindings.size(); ++i) {
    Node* in = externals_[bindings[i]];
    if (taken[bindings[i]] || !group_.can_alias(i, n->dtype) || in->nbytes() != n->nbytes() ||
        std::count(bindings.begin(), bindings.end(), bindings[i]) != 1 || !donatable(in))
      continue;
    taken[bindings[i]] = true;
    return IntrusivePtr<Storage>(in->storage);
  }
  return nullptr;
}

void Collector::choose_memory() {
  std::vector<bool> taken(externals_.size(), false);
  for (const Member& m : members_) {
    if (!m.stored) continue;
    const bool full = space_.role(m.node->layout.shape()) == Role::full && !m.node->op->reduces;
    results_.push_back(full && m.node->nbytes() > sizeof(std::uint64_t) ? donor_for(m.node, taken)
                                                                        : IntrusivePtr<Storage>());
  }
  result_bits_.assign(results_.size(), 0);
}

void Collector::run() {
  std::vector<void*> outputs;
  for (const Member& m : members_) {
    if (!m.stored) continue;
    auto& storage = results_[outputs.size()];
    if (!storage && m.node->nbytes() > sizeof(std::uint64_t))
      storage = Storage::allocate(m.node->nbytes(), m.node->op->name);
    outputs.push_back(storage ? storage->data() : &result_bits_[outputs.size()]);
  }
  group_.run(inputs_, outputs);
}

void Collector::publish() {
  std::size_t i = 0;
  for (Member& m : members_) {
    if (m.stored) {
      m.node->bits = result_bits_[i];
      m.node->storage = results_[i++].detach();
      m.node->state.store(State::ready, std::memory_order_release);
    } else if (m.remains) {
      m.node->computed_once = true;
    }
  }
}

void Collector::give_up() {
  for (Member& m : members_)
    if (m.stored) m.node->state.store(State::deferred, std::memory_order_release);
}

/// The value is there: its inputs lose a pending reader each, and, if no rule needs the edges,
/// the edges.
void drop_pending_uses(Node* node) noexcept {
  const SmallVector<Node*, 4> edges{node->inputs()};
  for (Node* in : edges) release_use(in);
  if (node->recorded) return;
  if (node->input_count > Node::kInlineInputs) delete[] node->heap_inputs;
  node->input_count = 0;
  for (Node* in : edges) release_reference(in);
}

void Collector::settle() {
  for (Member& m : members_)
    if (m.stored && m.node->is_ready()) drop_pending_uses(m.node);
  for (Node* n : externals_) release_reference(n);
  for (Member& m : members_) release_handle(m.node);
}

/// Makes progress on one deferred node; values needed first are pushed on `stack`.
void advance(Node* n, std::vector<Tensor>& stack) {
  std::unique_lock lock(g_lock);
  if (state_of(n) == State::running) {
    lock.unlock();
    const WithoutHostLock unlocked;  // taken back only after the lock is let go
    std::unique_lock waiting(g_lock);
    g_published.wait(waiting, [n] { return state_of(n) != State::running; });
    return;
  }
  if (state_of(n) != State::deferred) return;
  if (is_view(n)) {
    Node* base = n->inputs()[0];
    if (!base->is_ready()) {
      stack.push_back(Tensor::share(base));
      return;
    }
    const Tensor view = Tensor::adopt(new_node(n->dtype, n->layout));
    n->op->run(view.node(), n->inputs(), n->attrs, 0);
    n->layout.restride(view.node()->layout);
    n->bits = view.node()->bits;
    n->storage = std::exchange(view.node()->storage, nullptr);
    n->state.store(State::ready, std::memory_order_release);
    lock.unlock();
    drop_pending_uses(n);
    return;
  }
  Collector group(n);
  std::vector<Node*> wanted;
  group.collect(wanted);
  if (!wanted.empty()) {
    for (Node* w : wanted) stack.push_back(Tensor::share(w));
    return;
  }
  group.claim();
  lock.unlock();
  try {
    group.run();
  } catch (...) {
    lock.lock();
    group.give_up();
    g_published.notify_all();
    lock.unlock();
    group.settle();
    throw;
  }
  lock.lock();
  group.publish();
  g_published.notify_all();
  lock.unlock();
  group.settle();
}

}  // namespace

void lock_deferral() noexcept { g_lock.lock(); }
void unlock_deferral() noexcept { g_lock.unlock(); }

void materialize(Node* node) {
  if (node->is_ready()) [[likely]]
    return;
  materialize(std::span<Node* const>(&node, 1));
}

void materialize(std::span<Node* const> nodes) {
  std::vector<Tensor> stack;
  std::int64_t work = 0;
  for (Node* n : nodes) {
    if (n->level)
      raise(ErrorKind::runtime, "eval",
            "the value belongs to an open transform and has no memory of its own");
    if (state_of(n) == State::dropped)
      raise(ErrorKind::runtime, "eval", "the value was released: no rule had saved it");
    if (!n->is_ready()) stack.push_back(Tensor::share(n));
    work = std::max(work, n->layout.size());
    for (Node* in : n->is_ready() ? std::span<Node* const>() : n->inputs())
      work = std::max(work, in->layout.size());
  }
  if (stack.empty()) return;
  std::unique_ptr<WithoutHostLock> unlocked;
  if (work >= kLongWork) unlocked = std::make_unique<WithoutHostLock>();
  while (!stack.empty()) {
    Node* n = stack.back().node();
    if (n->is_ready()) {
      stack.pop_back();
    } else {
      advance(n, stack);
    }
  }
}

void defer(Node* out, const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) {
  ThreadState& state = thread_state();
  std::uint64_t order = state.order;
  std::uint16_t depth = 0;
  for (Node* in : inputs) {
    if (in->is_pending() && in->pending >= kMaxDepth) materialize(in);
    if (in->is_pending()) depth = std::max(depth, in->pending);
    order = std::max(order, in->order);
  }
  out->op = &op;
  if (attrs) {
    AttrsPtr kept = attrs;
    out->attrs = kept.detach();
  }
  state.order = out->order = order + 1;
  out->pending = static_cast<std::uint16_t>(depth + 1);
  set_inputs(out, inputs);
  for (Node* in : inputs) retain_use(in);
  out->state.store(State::deferred, std::memory_order_release);
}

bool withdraw_deferred(Node* node) noexcept {
  const std::lock_guard lock(g_lock);
  if (state_of(node) != State::deferred || node->uses() != 0) return false;
  node->state.store(State::dropped, std::memory_order_release);
  return true;
}

void run_fused_now(Node* out, const Op& op, std::span<Node* const> inputs, const Attrs* attrs) {
  GroupSpace space{Dims(out->layout.shape()), 0};
  if (op.reduces) space = {Dims(inputs[0]->layout.shape()), static_cast<int>(attrs->ints.size())};
  GroupBuilder builder(space);
  Operand operands[3];
  for (std::size_t i = 0; i < inputs.size(); ++i)
    operands[i] = {true, static_cast<int>(i), inputs[i]->dtype, &inputs[i]->layout};
  builder.add_output(builder.add(op, attrs, out->layout.shape(), {operands, inputs.size()}));
  const Group group = builder.finish();
  const void* data[3];
  std::size_t n = 0;
  for (const int e : group.externals()) data[n++] = inputs[e]->data();
  void* result = out->data();
  std::unique_ptr<WithoutHostLock> unlocked;
  if (group.elements() >= kLongWork) unlocked = std::make_unique<WithoutHostLock>();
  group.run({data, n}, {&result, 1});
}

}  // namespace adjoint
