// The window through which an open trace sees the world: applications, and the places (handle
// cells, gradients) that the traced function reads and rebinds.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>

#include "graph/node.h"
#include "graph/op.h"

namespace adjoint {

class TraceSink {
 public:
  virtual ~TraceSink() = default;
  /// Whether the graph may be differentiated once it is traced, and `box` has a derivative in it.
  virtual bool moves(const Node* box) = 0;
  /// One application of which at least one input is traced, or which has none: a boxed result
  /// with one handle count. Inputs of lower level are constants.
  virtual Node* record(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) = 0;
  /// A concrete value made inside the trace from data: a boxed constant.
  virtual Node* constant(Node* value) = 0;
  /// Called before the node at `place` is read or replaced. On the first call for a place its
  /// node becomes an input of the program and a boxed node takes its place until the trace ends;
  /// a place that holds null is guarded to hold null at each later call. `owner` keeps the place
  /// alive.
  virtual void touch(Node** place, const std::function<IntrusivePtr<const Payload>()>& owner) = 0;
};

/// A traced Python number is weak: it takes the dtype of the tensors it meets. Its box says so in
/// `pending`, which has no other use there: 0 is strong, else 1 + the WeakKind.
inline std::optional<WeakKind> traced_weak_kind(const Node* n) noexcept {
  if (n->box != Box::trace || n->pending == 0) return std::nullopt;
  return static_cast<WeakKind>(n->pending - 1);
}

/// Number of open traces in the process: the cheap test before anything else.
extern std::atomic<int> g_open_traces;
/// The innermost trace open on this thread, or null.
TraceSink* current_trace() noexcept;
/// The same, or else the innermost trace that its function does not notice.
TraceSink* any_trace() noexcept;

}  // namespace adjoint
