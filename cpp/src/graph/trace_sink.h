// The window through which an open trace sees the applications of a function.
#pragma once

#include <atomic>
#include <optional>
#include <span>
#include <vector>

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
  /// The same for an operation that may have several results.
  virtual std::vector<Tensor> record_all(const Op& op, std::span<Node* const> inputs,
                                         const AttrsPtr& attrs) = 0;
  /// A concrete value made inside the trace from data: a boxed constant.
  virtual Node* constant(Node* value) = 0;
  /// Number of constants so far.
  virtual std::size_t constant_count() const = 0;
  /// Takes the history away from constants that came after so many.
  virtual void cut_constants(std::size_t from) = 0;
  /// A sweep inside has come to a value from outside that has a history of its own, in which it
  /// would go on.
  virtual void sweep_left(const Node* box) = 0;
  /// A new value of a leaf whose value was `before`, made under `no_grad`: a box with one handle
  /// count whose derivative is the leaf's.
  virtual Node* continued(Node* value, const Node* before) = 0;
  /// The function needs to know the value of a number that it was given: throws ValueNeeded.
  [[noreturn]] virtual void need_value(const Node* weak) = 0;
};

/// Goes through the user's function to whoever traces it: the function is to be traced again with
/// the value of a number in place of the number.
struct ValueNeeded {};

/// A traced Python number is weak: it takes the dtype of the tensors it meets. Its box says so in
/// `pending`, which has no other use there: 0 is strong, else 1 + the WeakKind; and in `savers` how
/// many bits an integer may need.
inline std::optional<WeakKind> traced_weak_kind(const Node* n) noexcept {
  if (n->box != Box::trace || n->pending == 0) return std::nullopt;
  return static_cast<WeakKind>(n->pending - 1);
}

inline void mark_weak(Node* box, WeakKind kind, std::uint32_t bits) noexcept {
  box->pending = static_cast<std::uint16_t>(1 + static_cast<int>(kind));
  box->savers.store(bits, std::memory_order_relaxed);
}
inline constexpr std::uint32_t kWeakBits = 53;  // of an argument: what a double holds exactly
/// Asks the trace that a weak number belongs to for its value.
[[noreturn]] void need_value(const Node* weak);

/// Number of open traces in the process: the cheap test before anything else.
extern std::atomic<int> g_open_traces;
/// The innermost trace open on this thread, or null.
TraceSink* current_trace() noexcept;
/// The same, or else the innermost trace that its function does not notice.
TraceSink* any_trace() noexcept;

}  // namespace adjoint
