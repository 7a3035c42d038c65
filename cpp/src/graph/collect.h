// Which deferred values are computed together: a group is collected down from the value that is
// needed, and it is decided which members are stored and in whose memory. When that happens, and
// which thread does it, is the affair of defer.cpp.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "graph/defer.h"
#include "graph/fuse.h"
#include "graph/node_numbers.h"
#include "graph/op.h"
#include "graph/outlook.h"

namespace adjoint {

inline bool is_view(const Node* n) { return n->op->kind == OpKind::view; }

/// The value is there: its inputs lose a pending reader each, and, if no rule needs the edges,
/// the edges.
void drop_pending_uses(Node* node) noexcept;

/// One group while it is being collected and run.
class Collector {
 public:
  /// `others` are values asked for at the same time: those that fit are computed along with the
  /// root. With an outlook, the group is only planned: as it would be when that has come true.
  Collector(Node* root, std::span<Node* const> others, const Outlook* outlook = nullptr)
      : root_(root), others_(others), outlook_(outlook) {}

  /// Collects; values that must be ready first go to `wanted`. The lock is held.
  void collect(std::vector<Node*>& wanted);
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
  static constexpr std::uint32_t kExternal = 1u << 31;  // in places_

  State state(const Node* n) const { return outlook_ ? outlook_->state(n) : state_of(n); }
  std::uint32_t uses(const Node* n) const { return outlook_ ? outlook_->uses(n) : n->uses(); }
  bool computed_once(const Node* n) const {
    return outlook_ ? outlook_->computed_once(n) : n->computed_once;
  }
  /// Null for a node that is no member.
  Member* member(const Node* n) {
    const std::uint32_t place = places_.find(n);
    return place && !(place & kExternal) ? &members_[place - 1] : nullptr;
  }
  External& external(const Node* n) { return externals_[(places_.find(n) & ~kExternal) - 1]; }
  bool is_small(const Node* n) const {
    return n->op->reduces || space_.role(n->layout.shape()) != GroupSpace::Role::full;
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
  NodeNumbers places_;  // 1 + the index of a member, or of an external
  Group group_;
  std::vector<const void*> inputs_;             // data of the group's externals
  std::vector<IntrusivePtr<Storage>> results_;  // by stored member, in order
  std::vector<Stored> small_results_;
};

}  // namespace adjoint
