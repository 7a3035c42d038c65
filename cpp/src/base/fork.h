// What must happen around fork(). A child of a threaded process holds every lock in whatever
// state it was, and none of the threads; each part of the library that keeps locks or threads
// says here how it survives. One place, so that the order is stated and not an accident of which
// part was used first.
#pragma once

namespace adjoint {

/// Where a part stands in the order of locks, outermost first.
enum class ForkLevel : int { graph, kernels, pool, memory };

/// Callbacks of one part; any may be null. `prepare` runs in the parent before the fork, from the
/// outermost level to the innermost; `parent` and `child` run after it, in the reverse order.
/// They may take and release locks, and must neither allocate nor throw.
struct ForkHandlers {
  void (*prepare)() = nullptr;
  void (*parent)() = nullptr;
  void (*child)() = nullptr;
};

/// Adds the handlers of one part for the life of the process. Called once per part, at its first
/// use, without any of the part's locks held.
void register_fork_handlers(ForkLevel level, const ForkHandlers& handlers);

}  // namespace adjoint
