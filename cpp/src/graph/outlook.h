// What will be true of deferred nodes when some groups have run, where it differs from what is: by
// it a plan is made of groups that have not run.
#pragma once

#include <unordered_map>
#include <vector>

#include "graph/fuse.h"
#include "graph/node.h"

namespace adjoint {

inline State state_of(const Node* n) { return n->state.load(std::memory_order_acquire); }

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

}  // namespace adjoint
