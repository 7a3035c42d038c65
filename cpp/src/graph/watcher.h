// The window through which anomaly mode sees the work of a thread: what each application gave, and
// what each derivative rule made of it. Closed, as it nearly always is, it costs an application
// one branch on a global.
#pragma once

#include <atomic>
#include <functional>
#include <span>

#include "graph/op.h"
#include "graph/thread_state.h"

namespace adjoint {

class Watcher {
 public:
  virtual ~Watcher() = default;
  /// `out` was just computed, and recorded if it is to be. Raises when something is wrong with it.
  virtual void applied(const Op& op, std::span<Node* const> inputs, Node* out) = 0;
  /// Takes one step of a reverse sweep, which goes through this application.
  virtual void step(const Node* application, const std::function<void()>& take) = 0;
  /// Runs the derivative rule of an application: what it computes on the way is its own affair, but
  /// what it gives is looked at. `slopes` are the cotangent that comes in and `input` the one that
  /// is served; or, where that is negative, the tangents of all inputs (undefined: zero).
  virtual Tensor derive(const RuleArgs& args, int input, std::span<const Tensor> slopes,
                        const std::function<Tensor()>& rule) = 0;
};

/// Number of open watchers in the process: the cheap test before anything else.
extern std::atomic<int> g_open_watchers;

/// The innermost watcher open on this thread, or null.
inline Watcher* open_watcher() {
  if (g_open_watchers.load(std::memory_order_relaxed) == 0) [[likely]]
    return nullptr;
  return thread_state().watcher;
}

}  // namespace adjoint
