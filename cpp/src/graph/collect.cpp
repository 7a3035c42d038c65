#include "graph/collect.h"

#include <algorithm>
#include <utility>

#include "graph/apply.h"

namespace adjoint {

namespace {

constexpr std::size_t kSpaceSearch = 64;  // nodes looked at for a reduction
// From this cost on, in adds per element, computing a value again takes longer than reading it from
// memory.
constexpr std::uint32_t kDearCost = 16;

using Role = GroupSpace::Role;
using Operand = GroupBuilder::Operand;

GroupValue value_of(const Node* n) {
  if (is_view(n)) return {Making::view, n->layout.shape()};
  if (!n->op->reduces) return {Making::pointwise, n->layout.shape()};
  const Layout::Extents operand = n->inputs()[0]->layout.shape();
  const Dims& axes = attrs_as<ReduceAttrs>(n->attrs).axes;
  return {reduces_columns(operand.size(), axes) ? Making::columns : Making::reduction,
          n->layout.shape(), operand, static_cast<int>(axes.size())};
}

/// What computing the value costs per element, in adds, where its operands are there.
std::uint32_t own_cost(const Node* n) {
  if (n->op->kind != OpKind::elementwise) return 0;
  return tile_kernel(*n->op, operand_dtype(*n->op, n->inputs()), n->attrs)->cost;
}

}  // namespace

void drop_pending_uses(Node* node) noexcept {
  const SmallVector<Node*, 4> edges{node->inputs()};
  for (Node* in : edges) release_use(in);
  if (node->recorded) return;
  if (node->input_count > Node::kInlineInputs) delete[] node->heap_inputs;
  node->input_count = 0;
  for (Node* in : edges) release_reference(in);
}

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
    if (state(other) == State::deferred && !places_.find(other) && can_take(other))
      visit_members(other);
  }
  std::sort(members_.begin(), members_.end(),
            [](const Member& a, const Member& b) { return a.node->order < b.node->order; });
  for (std::size_t i = 0; i < members_.size(); ++i)
    places_[members_[i].node] = static_cast<std::uint32_t>(i + 1);
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
      const bool known = places_.find(in) != 0;
      shares |= known && in->layout.size() > 1;
      if (why == Parted::no && !known && std::ranges::find(found, in) == found.end())
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
    places_[n] = static_cast<std::uint32_t>(members_.size());
    stack.push_back(n);
  };
  add_member(root, 0);
  while (!stack.empty()) {
    Node* n = stack.back();
    stack.pop_back();
    for (Node* in : n->inputs()) {
      const Parted why = parted(in, n);
      const std::uint32_t place = places_.find(in);
      if (why == Parted::no && place && !(place & kExternal)) {
        ++members_[place - 1].readers;
      } else if (why == Parted::no && !place && members_.size() < kMaxMembers) {
        add_member(in, 1);
      } else if (place & kExternal) {
        ++externals_[(place & ~kExternal) - 1].reads;
      } else {
        externals_.push_back({in, why == Parted::no ? Parted::members : why, 1});
        // A member that some other member cannot read is wanted first; it keeps its place.
        if (!place) places_[in] = static_cast<std::uint32_t>(externals_.size()) | kExternal;
      }
    }
  }
}

/// What it would take to compute each member again. Small values are kept, so they cost nothing.
void Collector::find_costs() {
  for (Member& m : members_) {
    if (is_small(m.node)) continue;
    m.cost = own_cost(m.node);
    for (const Node* in : m.node->inputs()) {
      const Member* inner = member(in);
      m.cost += inner ? inner->cost : 1;
    }
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
    for (const Node* in : n->inputs()) {
      Member* inner = member(in);
      (inner ? inner->awaited : external(in).awaited) = true;
    }
  }
}

void Collector::claim() {
  decide_outputs();
  GroupBuilder builder(space_);
  for (const Member& m : members_) {
    Operand operands[3];
    std::size_t count = 0;
    for (Node* in : m.node->inputs()) {
      const std::uint32_t place = places_.find(in);
      operands[count++] =
          place & kExternal
              ? Operand{true, static_cast<int>((place & ~kExternal) - 1), in->dtype, &in->layout}
              : Operand{false, static_cast<int>(place - 1), in->dtype, nullptr};
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
    return IntrusivePtr<Storage>(e.node->stored.storage);
  }
  return nullptr;
}

void Collector::choose_memory() {
  std::vector<bool> taken(externals_.size(), false);
  for (const Member& m : members_) {
    if (!m.stored) continue;
    const bool large = !is_small(m.node) && m.node->nbytes() > Stored::kInlineBytes;
    results_.push_back(large ? donor_for(m.node, taken) : IntrusivePtr<Storage>());
  }
  small_results_.assign(results_.size(), {});
}

void Collector::run() {
  std::vector<void*> outputs;
  for (const Member& m : members_) {
    if (!m.stored) continue;
    auto& storage = results_[outputs.size()];
    if (!storage && m.node->nbytes() > Stored::kInlineBytes)
      storage = Storage::allocate(m.node->nbytes(), m.node->op->name);
    outputs.push_back(storage ? storage->data() : small_results_[outputs.size()].bytes);
  }
  group_.run(inputs_, outputs);
}

void Collector::publish() {
  std::size_t i = 0;
  for (Member& m : members_) {
    if (m.stored) {
      m.node->stored = small_results_[i];
      m.node->stored.storage = results_[i++].detach();
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

}  // namespace adjoint
