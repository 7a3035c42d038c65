// The window through which anomaly mode sees the work of a thread: what each application gave, and
// what each derivative rule made of it. Closed, as it nearly always is, it costs an application
// one branch on a global.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/op.h"
#include "graph/thread_state.h"

namespace adjoint {

class Watcher {
 public:
  virtual ~Watcher() = default;
  /// `out` was just computed, and recorded if it is to be. Raises when something is wrong with it.
  virtual void applied(const Op& op, std::span<Node* const> inputs, Node* out) = 0;
  /// Where this recorded application was made, in words.
  virtual std::string place_of(const Node* application) const = 0;
  /// Takes one step of a reverse sweep, which goes through this application.
  virtual void step(const Node* application, const std::function<void()>& take) = 0;
  /// Runs the derivative rule of an application, and looks at what it gives. What it computes on
  /// the way is its own affair, unless the rule is given by hand (`by_hand` ops): then it is looked
  /// at as elsewhere. `slopes` are the cotangent that comes in, and `served` the input whose
  /// cotangent comes out, or kAllInputs; or they are the tangents of all inputs (undefined: zero)
  /// that make one of the output, kTangent.
  virtual std::vector<Tensor> derive(const RuleArgs& args, int served,
                                     std::span<const Tensor> slopes,
                                     const std::function<std::vector<Tensor>()>& rule) = 0;
  static constexpr int kAllInputs = -1;
  static constexpr int kTangent = -2;
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
