// When deferred work runs. When a value is needed, the group it hangs on is collected under one
// lock (collect.h), its members are marked as running, the lock is let go while the group runs, and
// the results are published. A thread that needs a value another thread is computing waits for it,
// never holding the embedding language's lock.
#include "graph/defer.h"

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "base/error_context.h"
#include "graph/apply.h"
#include "graph/collect.h"
#include "graph/node_numbers.h"
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
constexpr std::size_t kAlong = 4;            // values looked at to be computed along with another
constexpr std::int64_t kLongWork = 1 << 16;  // elements above which the host lock is let go

std::mutex g_lock;
/// Never destroyed: statics of a program may compute while they are destroyed.
std::condition_variable& published() {
  static auto* const condition = new std::condition_variable;
  return *condition;
}

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
    n->stored = view.node()->stored;
    view.node()->stored.storage = nullptr;
    n->state.store(State::ready, std::memory_order_release);
    lock.unlock();
    drop_pending_uses(n);
    return;
  }
  Collector group(n, others);
  std::vector<Node*> wanted;
  group.collect(wanted);
  if (wanted.empty()) group.claim();
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
  NodeNumbers reads;
  std::vector<const Node*> stack(nodes.begin(), nodes.end());
  std::size_t bytes = 0;
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    if (state_of(n) != State::deferred) continue;
    for (const Node* in : n->inputs()) {
      const std::uint32_t count = ++reads[in];
      if (state_of(in) == State::deferred && count == 1) stack.push_back(in);
      if (state_of(in) == State::ready && count == in->uses() && in->stored.storage &&
          in->stored.storage->donatable())  // nobody else's
        bytes += in->stored.storage->bytes();
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
  std::uint64_t order = state.last_order();
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
  if (op.reduces)
    space = {Dims(inputs[0]->layout.shape()),
             static_cast<int>(attrs_as<ReduceAttrs>(attrs).axes.size())};
  GroupBuilder builder(space);
  GroupBuilder::Operand operands[3];
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
