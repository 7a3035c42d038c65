// Running deferred work. When a value is needed, the group it hangs on is collected under one
// lock, its members are marked as running, the lock is let go while the group runs, and the
// results are published. A thread that needs a value another thread is computing waits for it,
// never holding the embedding language's lock.
#include "graph/defer.h"

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/error_context.h"
#include "graph/apply.h"
#include "graph/fuse.h"
#include "graph/node_pool.h"
#include "graph/thread_state.h"

namespace adjoint {

namespace {

constexpr std::uint16_t kMaxDepth = 64;  // chain length of one group
// What waits keeps its operands alive, where immediate work would have let go of them: up to this
// much, or this many times the size of the work, so that an optimizer's update of any size is one
// group. It is what the allocator may keep for reuse too.
constexpr std::size_t kHeldBytes = 256 << 20;
constexpr std::size_t kHeldTimes = 4;
constexpr std::size_t kSpaceSearch = 64;  // nodes looked at for a reduction
constexpr std::size_t kAlong = 4;         // values looked at to be computed along with another
// From this cost on, in adds per element, computing a value again takes longer than reading it from
// memory.
constexpr std::uint32_t kDearCost = 16;
constexpr std::int64_t kLongWork = 1 << 16;  // elements above which the host lock is let go

std::mutex g_lock;
/// Never destroyed: statics of a program may compute while they are destroyed.
std::condition_variable& published() {
  static auto* const condition = new std::condition_variable;
  return *condition;
}

using Role = GroupSpace::Role;
using Operand = GroupBuilder::Operand;

bool is_view(const Node* n) { return n->op->kind == OpKind::view; }
State state_of(const Node* n) { return n->state.load(std::memory_order_acquire); }

GroupValue value_of(const Node* n) {
  if (is_view(n)) return {Making::view, n->layout.shape()};
  if (!n->op->reduces) return {Making::pointwise, n->layout.shape()};
  const Layout::Extents operand = n->inputs()[0]->layout.shape();
  return {reduces_columns(operand.size(), n->attrs->ints) ? Making::columns : Making::reduction,
          n->layout.shape(), operand, static_cast<int>(n->attrs->ints.size())};
}

/// What computing the value costs per element, in adds, where its operands are there.
std::uint32_t own_cost(const Node* n) {
  if (n->op->kind != OpKind::elementwise) return 0;
  return tile_kernel(*n->op, operand_dtype(*n->op, n->inputs()), n->attrs)->cost;
}

/// What will be true of deferred nodes when some groups have run, where it differs from what is.
class Outlook {
 public:
  State state(const Node* n) const {
    const auto it = changes_.find(n);
    if (it != changes_.end() && it->second.state != State::deferred) return it->second.state;
    const State now = state_of(n);
    return now == State::running ? State::ready : now;
  }
  std::uint32_t uses(const Node* n) const {
    const auto it = changes_.find(n);
    return n->uses() - (it == changes_.end() ? 0 : it->second.lost_uses);
  }
  bool computed_once(const Node* n) const {
    const auto it = changes_.find(n);
    return n->computed_once || (it != changes_.end() && it->second.computed_once);
  }
  Parted why(const Node* n) const {
    const auto it = changes_.find(n);
    return it == changes_.end() ? Parted::ready : it->second.why;
  }

  void note(const Node* n, Parted why) { changes_[n].why = why; }
  void leave(const Node* n) { changes_[n].computed_once = true; }
  /// The value is there: its inputs lose a reader each, and those that nobody else asks for go.
  void store(const Node* n) {
    changes_[n].state = State::ready;
    std::vector<const Node*> gone{n};
    while (!gone.empty()) {
      const Node* reader = gone.back();
      gone.pop_back();
      for (const Node* in : reader->inputs()) {
        ++changes_[in].lost_uses;
        if (uses(in) != 0 || state(in) != State::deferred) continue;
        changes_[in].state = State::dropped;
        gone.push_back(in);
      }
    }
  }

 private:
  struct Change {
    State state = State::deferred;  // meaning: as it is
    bool computed_once = false;
    std::uint32_t lost_uses = 0;
    Parted why = Parted::ready;
  };
  std::unordered_map<const Node*, Change> changes_;
};

/// One group while it is being collected and run. While it is collected, under the lock, every
/// member and external carries its place in `Node::place`.
class Collector {
 public:
  /// `others` are values asked for at the same time: those that fit are computed along with the
  /// root. With an outlook, the group is only planned: as it would be when that has come true.
  Collector(Node* root, std::span<Node* const> others, const Outlook* outlook = nullptr)
      : root_(root), others_(others), outlook_(outlook) {}

  /// Collects; values that must be ready first go to `wanted`. The lock is held until the places
  /// are cleared.
  void collect(std::vector<Node*>& wanted);
  /// Decides what is stored, builds the program and marks the members as running. The lock is
  /// held: once it is let go another thread may store a member and drop its edges.
  void claim();
  void clear_places() noexcept;
  /// Runs the group. The lock is not held.
  void run();
  /// Makes the results visible. The lock is held; edges are dropped afterwards by `settle`.
  void publish();
  void give_up();
  /// Drops what the members no longer need. The lock is not held.
  void settle();
  /// Tells what the group would be, and moves the outlook to after its run. Instead of `claim`.
  PlannedGroup foresee(Outlook& outlook);
  /// Notes why the values that must be ready first are not computed here.
  void note_wanted(Outlook& outlook) const;

 private:
  struct Member {
    Node* node;
    std::uint32_t readers = 0;  // pending edges from other members
    std::uint32_t cost = 0;     // of computing it again, per element
    bool stored = false;
    bool remains = false;  // stays deferred after the run
    bool awaited = false;  // a member that remains reads it
  };
  struct External {
    Node* node;
    Parted why;
    std::uint32_t reads = 0;  // by members
    bool awaited = false;     // a member that remains reads it
  };
  static constexpr std::uint32_t kExternal = 1u << 31;  // in Node::place

  State state(const Node* n) const { return outlook_ ? outlook_->state(n) : state_of(n); }
  std::uint32_t uses(const Node* n) const { return outlook_ ? outlook_->uses(n) : n->uses(); }
  bool computed_once(const Node* n) const {
    return outlook_ ? outlook_->computed_once(n) : n->computed_once;
  }
  static bool is_member(const Node* n) { return n->place && !(n->place & kExternal); }
  Member& member(const Node* n) { return members_[n->place - 1]; }
  External& external(const Node* n) { return externals_[(n->place & ~kExternal) - 1]; }
  bool is_small(const Node* n) const {
    return n->op->reduces || space_.role(n->layout.shape()) != Role::full;
  }

  std::optional<GroupSpace> reduced_space(const Node* n) const;
  GroupSpace find_space() const;
  Parted parted(const Node* n, const Node* consumer) const;
  bool can_take(const Node* other);
  void visit_members(Node* root);
  void find_costs();
  void decide_outputs();
  IntrusivePtr<Storage> donor_for(const Node* n, std::vector<bool>& taken) const;
  void choose_memory();

  Node* root_;
  std::span<Node* const> others_;
  const Outlook* outlook_;
  GroupSpace space_;
  std::vector<Member> members_;
  std::vector<External> externals_;
  Group group_;
  std::vector<const void*> inputs_;             // data of the group's externals
  std::vector<IntrusivePtr<Storage>> results_;  // by stored member, in order
  std::vector<std::uint64_t> result_bits_;
};

/// The space of the first reduction at or below `n` in which the root has a place.
std::optional<GroupSpace> Collector::reduced_space(const Node* n) const {
  const GroupValue value = value_of(root_);
  SmallVector<const Node*, 64> queue;
  queue.push_back(n);
  for (std::size_t i = 0; i < queue.size() && i < kSpaceSearch; ++i) {
    if (const GroupValue found = value_of(queue[i]); found.making == Making::reduction) {
      GroupSpace space = space_of(found);
      const bool fits = value.making == Making::columns ? space.merge(space_of(value))
                                                        : space.role(value.shape) != Role::none;
      if (queue[i] == root_ || fits) return space;
    }
    for (const Node* in : queue[i]->inputs())
      if (state(in) == State::deferred && std::ranges::find(queue, in) == queue.end())
        queue.push_back(in);
  }
  return std::nullopt;
}

/// The space of a reduction below the root; without one, the root's own shape. The columns of a
/// shape also fit where the rows of it are reduced by what is computed along.
GroupSpace Collector::find_space() const {
  const GroupValue value = value_of(root_);
  if (const auto space = reduced_space(root_)) return *space;
  if (value.making != Making::columns) return {Dims(value.shape)};
  for (const Node* other : others_)
    if (state(other) == State::deferred)
      if (const auto space = reduced_space(other)) return *space;
  return space_of(value);
}

/// Why `n` is not computed where the member `consumer` reads it. A view is another name for its
/// operand, which has to be a member too.
Parted Collector::parted(const Node* n, const Node* consumer) const {
  while (true) {
    if (state(n) != State::deferred) return Parted::ready;
    const Parted why = space_.parted(value_of(n), value_of(consumer));
    if (why != Parted::no || !is_view(n)) return why;
    consumer = n;
    n = n->inputs()[0];
  }
}

void Collector::collect(std::vector<Node*>& wanted) {
  space_ = find_space();
  visit_members(root_);
  for (const External& e : externals_)
    if (state(e.node) != State::ready) wanted.push_back(e.node);
  if (!wanted.empty()) return;
  for (Node* other : others_) {
    while (state(other) == State::deferred && is_view(other)) other = other->inputs()[0];
    if (state(other) == State::deferred && !other->place && can_take(other)) visit_members(other);
  }
  std::sort(members_.begin(), members_.end(),
            [](const Member& a, const Member& b) { return a.node->order < b.node->order; });
  for (std::size_t i = 0; i < members_.size(); ++i)
    members_[i].node->place = static_cast<std::uint32_t>(i + 1);
}

void Collector::clear_places() noexcept {
  for (const Member& m : members_) m.node->place = 0;
  for (const External& e : externals_) e.node->place = 0;
}

/// Whether a value belongs to the space, reads something the group reads or computes, and needs
/// nothing that has to be computed elsewhere first.
bool Collector::can_take(const Node* other) {
  const GroupValue value = value_of(other);
  GroupSpace space = space_;
  if (value.making == Making::columns || value.making == Making::reduction) {
    if (!space.merge(space_of(value))) return false;
  } else if (space.role(value.shape) == Role::none) {
    return false;
  }
  SmallVector<const Node*, 64> found;
  found.push_back(other);
  bool shares = false;
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (const Node* in : found[i]->inputs()) {
      const Parted why = parted(in, found[i]);
      if (why != Parted::no && state(in) != State::ready) return false;
      shares |= in->place != 0 && in->layout.size() > 1;
      if (why == Parted::no && !in->place && std::ranges::find(found, in) == found.end())
        found.push_back(in);
    }
    if (members_.size() + found.size() > kMaxMembers) return false;
  }
  if (!shares) return false;
  space_ = space;
  return true;
}

void Collector::visit_members(Node* root) {
  SmallVector<Node*, 64> stack;
  const auto add_member = [&](Node* n, std::uint32_t readers) {
    members_.push_back({n, readers});
    n->place = static_cast<std::uint32_t>(members_.size());
    stack.push_back(n);
  };
  add_member(root, 0);
  while (!stack.empty()) {
    Node* n = stack.back();
    stack.pop_back();
    for (Node* in : n->inputs()) {
      const Parted why = parted(in, n);
      if (why == Parted::no && is_member(in)) {
        ++member(in).readers;
      } else if (why == Parted::no && !in->place && members_.size() < kMaxMembers) {
        add_member(in, 1);
      } else if (in->place & kExternal) {
        ++external(in).reads;
      } else {
        externals_.push_back({in, why == Parted::no ? Parted::members : why, 1});
        // A member that some other member cannot read is wanted first; it keeps its place.
        if (!in->place) in->place = static_cast<std::uint32_t>(externals_.size()) | kExternal;
      }
    }
  }
}

/// What it would take to compute each member again. Small values are kept, so they cost nothing.
void Collector::find_costs() {
  for (Member& m : members_) {
    if (is_small(m.node)) continue;
    m.cost = own_cost(m.node);
    for (const Node* in : m.node->inputs()) m.cost += is_member(in) ? member(in).cost : 1;
    m.cost = std::min(m.cost, kDearCost);
  }
}

/// Values that somebody holds are stored. One that only rules will read, later, is not: at first
/// it is left to be computed again, and so it stays if that is as cheap as reading it.
void Collector::decide_outputs() {
  const auto again = [this](const Member& m) { return computed_once(m.node); };
  if (std::ranges::any_of(members_, again)) find_costs();  // only they are judged by their cost
  for (auto m = members_.rbegin(); m != members_.rend(); ++m) {
    const Node* n = m->node;
    const std::uint32_t inside = m->readers + n->savers.load(std::memory_order_relaxed);
    const bool demanded = n == root_ || uses(n) > inside;
    const bool kept = uses(n) > m->readers;
    const bool dear = kept && computed_once(n) && m->cost >= kDearCost;
    m->stored = !is_view(n) && (demanded || dear || ((kept || m->awaited) && is_small(n)));
    m->remains = !m->stored && (kept || m->awaited);
    if (!m->remains) continue;
    for (const Node* in : n->inputs())
      (is_member(in) ? member(in).awaited : external(in).awaited) = true;
  }
}

void Collector::claim() {
  decide_outputs();
  GroupBuilder builder(space_);
  for (const Member& m : members_) {
    Operand operands[3];
    std::size_t count = 0;
    for (Node* in : m.node->inputs()) {
      operands[count++] = is_member(in)
                              ? Operand{false, static_cast<int>(in->place - 1), in->dtype, nullptr}
                              : Operand{true, static_cast<int>((in->place & ~kExternal) - 1),
                                        in->dtype, &in->layout};
    }
    builder.add(*m.node->op, m.node->attrs, m.node->layout.shape(), {operands, count});
  }
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (members_[i].stored) builder.add_output(static_cast<int>(i));
  group_ = builder.finish();
  choose_memory();
  for (const int e : group_.externals()) inputs_.push_back(externals_[e].node->data());
  for (Member& m : members_) {
    retain_handle(m.node);
    if (m.stored) m.node->state.store(State::running, std::memory_order_release);
  }
  for (const External& e : externals_) retain_reference(e.node);
}

/// An external that dies with this group gives its memory to a result, where sizes agree.
IntrusivePtr<Storage> Collector::donor_for(const Node* n, std::vector<bool>& taken) const {
  const auto bindings = group_.externals();
  for (std::size_t i = 0; i < bindings.size(); ++i) {
    const External& e = externals_[bindings[i]];
    if (taken[bindings[i]] || !group_.can_alias(i, n->dtype) || e.node->nbytes() != n->nbytes() ||
        std::count(bindings.begin(), bindings.end(), bindings[i]) != 1 || e.awaited ||
        !e.node->gives_memory(e.reads))
      continue;
    taken[bindings[i]] = true;
    return IntrusivePtr<Storage>(e.node->storage);
  }
  return nullptr;
}

void Collector::choose_memory() {
  std::vector<bool> taken(externals_.size(), false);
  for (const Member& m : members_) {
    if (!m.stored) continue;
    const bool large = !is_small(m.node) && m.node->nbytes() > sizeof(std::uint64_t);
    results_.push_back(large ? donor_for(m.node, taken) : IntrusivePtr<Storage>());
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
  for (const External& e : externals_) release_reference(e.node);
  for (const Member& m : members_) release_handle(m.node);
}

PlannedGroup Collector::foresee(Outlook& outlook) {
  decide_outputs();
  PlannedGroup plan{space_, {}, {}};
  for (const External& e : externals_) plan.reads.push_back({e.node, outlook.why(e.node)});
  for (const Member& m : members_) {
    plan.members.push_back({m.node, m.stored, m.remains});
    if (m.stored)
      outlook.store(m.node);
    else if (m.remains)
      outlook.leave(m.node);
  }
  return plan;
}

void Collector::note_wanted(Outlook& outlook) const {
  for (const External& e : externals_)
    if (state(e.node) != State::ready) outlook.note(e.node, e.why);
}

/// Clears the places of a group that is being collected, whatever is thrown. The lock is held.
class PlacesScope {
 public:
  explicit PlacesScope(Collector& group) : group_(group) {}
  ~PlacesScope() { group_.clear_places(); }
  PlacesScope(const PlacesScope&) = delete;
  PlacesScope& operator=(const PlacesScope&) = delete;

 private:
  Collector& group_;
};

Node* node_of(Node* n) { return n; }
Node* node_of(const Tensor& t) { return t.node(); }

/// What may be computed along with the last on the stack: a few of those that wait for their turn.
template <class Stack>
SmallVector<Node*, kAlong> along(const Stack& stack) {
  SmallVector<Node*, kAlong> out;
  for (std::size_t i = stack.size() - 1; i-- > 0 && out.size() < kAlong;)
    out.push_back(node_of(stack[i]));
  return out;
}

/// Makes progress on one deferred node, and on `others` if they fit; values needed first are pushed
/// on `stack`.
void advance(Node* n, std::span<Node* const> others, std::vector<Tensor>& stack) {
  std::unique_lock lock(g_lock);
  if (state_of(n) == State::running) {
    lock.unlock();
    const WithoutHostLock unlocked;  // taken back only after the lock is let go
    std::unique_lock waiting(g_lock);
    published().wait(waiting, [n] { return state_of(n) != State::running; });
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
    n->op->run(*n->op, view.node(), n->inputs(), n->attrs, 0);
    n->layout.restride(view.node()->layout);
    n->bits = view.node()->bits;
    n->storage = std::exchange(view.node()->storage, nullptr);
    n->state.store(State::ready, std::memory_order_release);
    lock.unlock();
    drop_pending_uses(n);
    return;
  }
  Collector group(n, others);
  std::vector<Node*> wanted;
  {
    const PlacesScope places(group);
    group.collect(wanted);
    if (wanted.empty()) group.claim();
  }
  if (!wanted.empty()) {
    for (Node* w : wanted) stack.push_back(Tensor::share(w));
    return;
  }
  lock.unlock();
  try {
    group.run();
  } catch (...) {
    lock.lock();
    group.give_up();
    published().notify_all();
    lock.unlock();
    add_error_context("in deferred work that ends with `" + std::string(n->op->name) +
                      "` of shape " + to_string(n->layout.shape()) +
                      ": without deferral each operation runs at its own line");
    group.settle();
    throw;
  }
  lock.lock();
  group.publish();
  published().notify_all();
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

namespace {

/// Elements of the largest of these values and their inputs. A node keeps its edges at least until
/// it is published, which takes the lock.
std::int64_t largest_of(std::span<const Tensor> values) {
  const std::lock_guard lock(g_lock);
  std::int64_t size = 0;
  for (const Tensor& t : values) {
    size = std::max(size, t.size());
    if (t.node()->is_ready()) continue;
    for (const Node* in : t.node()->inputs()) size = std::max(size, in->layout.size());
  }
  return size;
}

}  // namespace

void materialize(std::span<Node* const> nodes) {
  std::vector<Tensor> stack;
  for (Node* n : nodes) {
    if (n->level)
      raise(ErrorKind::runtime, "eval",
            "the value belongs to an open transform and has no memory of its own");
    if (state_of(n) == State::dropped)
      raise(ErrorKind::runtime, "eval",
            n->op ? "the value was released: no rule had saved it"
                  : "the value was released: its memory was given to a compiled function, as "
                    "donate_argnums says");
    if (!n->is_ready()) stack.push_back(Tensor::share(n));
  }
  if (stack.empty()) return;
  std::unique_ptr<WithoutHostLock> unlocked;
  if (largest_of(stack) >= kLongWork) unlocked = std::make_unique<WithoutHostLock>();
  for (bool started = false; !stack.empty();) {
    Node* n = stack.back().node();
    if (n->is_ready()) {
      stack.pop_back();
      continue;
    }
    if (started) check_interrupt();
    started = true;
    const auto others = along(stack);
    advance(n, others, stack);
  }
}

void foresee(std::span<Node* const> nodes, const std::function<void(const PlannedGroup&)>& report) {
  const std::lock_guard lock(g_lock);
  Outlook outlook;
  std::vector<Node*> stack(nodes.begin(), nodes.end());
  while (!stack.empty()) {
    Node* n = stack.back();
    if (outlook.state(n) != State::deferred) {
      stack.pop_back();
    } else if (is_view(n)) {
      Node* base = n->inputs()[0];
      if (outlook.state(base) == State::ready)
        outlook.store(n);
      else
        stack.push_back(base);
    } else {
      const auto others = along(stack);
      Collector group(n, others, &outlook);
      const PlacesScope places(group);
      std::vector<Node*> wanted;
      group.collect(wanted);
      group.note_wanted(outlook);
      stack.insert(stack.end(), wanted.begin(), wanted.end());
      if (wanted.empty()) report(group.foresee(outlook));
    }
  }
}

namespace {

/// Bytes that only the deferred work below these nodes keeps alive.
std::size_t measure_held(std::span<Node* const> nodes) {
  const std::lock_guard lock(g_lock);
  std::unordered_map<const Node*, std::uint32_t> reads;
  std::vector<const Node*> stack(nodes.begin(), nodes.end());
  std::size_t bytes = 0;
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    if (state_of(n) != State::deferred) continue;
    for (const Node* in : n->inputs()) {
      const std::uint32_t count = ++reads[in];
      if (state_of(in) == State::deferred && count == 1) stack.push_back(in);
      if (state_of(in) == State::ready && count == in->uses() && in->storage &&
          in->storage->donatable())  // nobody else's
        bytes += in->storage->bytes();
    }
  }
  return bytes;
}

/// What `held` of an application is to be. Runs its inputs when they hold more than they may.
std::uint32_t bound_held(const Node* out, std::span<Node* const> inputs) {
  const auto sum = [&](bool pending) {
    std::size_t total = 0;
    for (const Node* in : inputs) {
      if (!in->is_pending())
        total += in->nbytes();
      else if (pending)
        total += std::size_t{in->held} << 10;
    }
    return total;
  };
  std::size_t work = out->nbytes();
  for (const Node* in : inputs) work = std::max(work, in->nbytes());
  const std::size_t bound = std::max(kHeldBytes, kHeldTimes * work);
  std::size_t held = sum(true);
  if (held > bound) {
    const std::size_t measured = measure_held(inputs);  // what is shared was counted twice
    if (measured > bound) materialize(inputs);
    held = sum(false) + (measured > bound ? 0 : measured);
  }
  return static_cast<std::uint32_t>(std::min<std::size_t>(held >> 10, UINT32_MAX));
}

}  // namespace

void defer(Node* out, const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) {
  ThreadState& state = thread_state();
  std::uint64_t order = state.order;
  std::uint16_t depth = 0;
  out->held = bound_held(out, inputs);
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
