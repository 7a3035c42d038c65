// Cells: the places of a program that hold a value and can be given another, that is handles and
// the gradients of leaves. Transforms stand between a function and the cells from outside of it:
// a trace reads and writes through a map of its own, forward mode strips tangents from what is
// written, a batch, a loop or a checkpoint refuses or redirects it.
//
// Every cell knows when it was made (`birth`), so a scope can tell cells from outside of it from
// the function's own, which need no such care.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graph/node.h"

namespace adjoint {

struct Cell {
  enum class Kind : std::uint8_t { handle, gradient };
  Kind kind;
  Node** at;
  std::uint64_t birth;
  Leaf* leaf;  // of a handle, or null: its values belong to it
  void* who;   // the object that the cell is part of
  /// Keeps `at` valid.
  IntrusivePtr<const Payload> (*keep)(void* who);
};

/// The gradient of a leaf as a cell.
Cell gradient_cell(Leaf* leaf) noexcept;

/// What the thread's open scopes make of reading and writing a cell. An undefined tensor is an
/// empty cell. Writing a handle must be given a value of its dtype and shape.
Tensor read_cell(const Cell& cell);
void write_cell(const Cell& cell, Tensor value);
/// Raises what `write_cell` would raise, and writes nothing.
void check_write(const Cell& cell, const Tensor& value);
/// The value as a cell keeps it that held `before`: its leaf's, if it has one.
Tensor kept_value(Leaf* leaf, Tensor value, const Node* before);
/// Whether some scope stands between the running function and the cell.
bool is_guarded(const Cell& cell) noexcept;
/// Raises for `what`, an act that would reach a handle from outside but not its value, where a
/// scope runs the function on other values than the program's own.
void refuse_outside(const Cell& cell, const char* what);

/// Whether a cell of this birth was there at `since` of this thread's births. What another thread
/// makes always was.
bool was_there(std::uint64_t birth, std::uint64_t since) noexcept;

/// Number of open scopes in the process: the cheap test before anything else.
extern std::atomic<int> g_open_cell_scopes;

/// How a cell stands towards forward mode, open now or once what is traced is differentiated.
struct Standing {
  bool inside = false;   // from inside of some level, whose tangents stay with what it holds
  bool outside = false;  // from outside of some level
  std::vector<std::uint32_t> levels;  // the identities of these
  /// The attributes of what a value goes through when the cell keeps it: which tangents end.
  AttrsPtr kept() const;
};

/// One transform's stand towards cells from outside; innermost first. Opened and closed in order.
class CellScope {
 public:
  CellScope();
  virtual ~CellScope();
  CellScope(const CellScope&) = delete;
  CellScope& operator=(const CellScope&) = delete;

  bool is_outside(const Cell& cell) const noexcept;
  virtual Tensor read(const Cell& cell) { return read_outside(cell); }
  virtual void write(const Cell& cell, Tensor value) { write_outside(cell, std::move(value)); }
  virtual void check(const Cell& cell, const Tensor& value) { check_outside(cell, value); }
  /// Why a handle from outside cannot be made a leaf here; null where it can.
  virtual const char* refuses_leaves() const noexcept { return nullptr; }
  /// The cell that the scope has put in the place of this one; null for none.
  virtual const Cell* stand_in_for(const Cell&) { return nullptr; }
  virtual bool is_trace() const noexcept { return false; }
  /// The identity of a level of forward mode; 0 for others.
  virtual std::uint32_t forward() const noexcept { return 0; }
  /// Of a function that is run again: how the cell stood in the first run; null if it did not
  /// occur.
  virtual const Standing* standing_then(const Cell&) const { return nullptr; }
  CellScope* outer() const noexcept { return outer_; }

 protected:
  /// The cell that scopes around this one have put in its place, or itself.
  Cell resolved(Cell cell) const;
  /// What the scopes around this one, and in the end the cell itself, hold or take.
  Tensor read_outside(const Cell& cell);
  void write_outside(const Cell& cell, Tensor value);
  void check_outside(const Cell& cell, const Tensor& value);
  /// How the cell stands towards what is open around this scope.
  Standing standing(const Cell& cell) const;
  /// Gives up the place on the thread before the end of the object's life.
  void close() noexcept;

 private:
  CellScope* outer_;
  std::uint64_t opened_;  // the last birth before
  bool open_ = true;
};

/// While it is open, handles from outside that are rebound keep what they are given; when it closes
/// they keep the value alone, since the inputs of the reverse transform that it belongs to are
/// gone.
class AssignedInReverse {
 public:
  AssignedInReverse();
  ~AssignedInReverse();
  AssignedInReverse(const AssignedInReverse&) = delete;
  AssignedInReverse& operator=(const AssignedInReverse&) = delete;
  void note(const Cell& cell);

 private:
  std::uint64_t opened_;
  std::vector<std::pair<Cell, IntrusivePtr<const Payload>>> cells_;
  std::unordered_set<Node**> known_;  // where these are; they are kept, so no place is met again
};
/// Called whenever a handle is rebound.
void note_assigned(const Cell& cell);

/// For functions that are run other than once in the program's own order: writing raises.
class RefusingScope final : public CellScope {
 public:
  explicit RefusingScope(std::string op) : op_(std::move(op)) {}
  void write(const Cell& cell, Tensor value) override;
  void check(const Cell& cell, const Tensor& value) override;
  const char* refuses_leaves() const noexcept override { return op_.c_str(); }

 private:
  std::string op_;
};

/// A run of a function that may turn out to be the wrong one: what it has assigned can be taken
/// back.
class TrialScope final : public CellScope {
 public:
  void write(const Cell& cell, Tensor value) override;
  /// Gives the cells what they held, except where another thread has assigned meanwhile.
  void take_back();

 private:
  struct Written {
    Cell cell;
    IntrusivePtr<const Payload> owner;
    Tensor before, after;
  };
  std::vector<Written> written_;
  std::unordered_map<Node**, std::size_t> places_;
};

/// Guards the gradients of all leaves while one is read or replaced, never while work runs.
void lock_gradients();
void unlock_gradients();
/// In a child of `fork`, which has no other threads.
void forget_other_priorities() noexcept;
/// The gradient of a leaf as it is outside of every scope.
Tensor load_gradient(Leaf* leaf);
/// Replaces gradients, all or none: false when one is not `expected` any more.
struct GradientChange {
  Leaf* leaf;
  Tensor expected;
  Tensor value;
};
/// Reads all gradients at one time as what is `expected`.
void load_gradients(std::span<GradientChange> changes);
bool exchange_gradients(std::span<GradientChange> changes);
/// For work that changes of other threads make vain again and again: `failed` counts, and after a
/// few times others that would change a gradient wait, though not for ever, while this exists.
class GradientPriority {
 public:
  GradientPriority() = default;
  ~GradientPriority();
  GradientPriority(const GradientPriority&) = delete;
  GradientPriority& operator=(const GradientPriority&) = delete;
  void failed();

 private:
  int failures_ = 0;
};
/// Lets go of the gradient of a leaf that nobody can ask for it any more.
void drop_gradient(Leaf* leaf) noexcept;

}  // namespace adjoint
