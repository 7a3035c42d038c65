// What a fused program becomes before it runs: steps over numbered slots, grouped into passes
// over the columns, with registers assigned. A program has up to four such plans, one per shape
// of tile; each is made when a run first needs it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/small_vector.h"
#include "kernels/compose.h"
#include "kernels/fused.h"

namespace adjoint::kernels::fused {

/// What a slot points to while a tile is worked on.
enum class SlotKind : std::uint8_t {
  tile,          // register of one element per element of the tile
  constant,      // the same, filled once from a scalar input and never reused
  col_constant,  // the same, from a col input: repeated for every row of the tile
  row,           // register of one element per row of the tile
  span,          // one element per column of the whole row, kept from pass to pass
  full_input,    // the others are the caller's memory
  row_input,
  col_input,
  scalar_input,
  full_output,
  row_output,
  col_output,
};

struct Slot {
  SlotKind kind;
  std::uint8_t size;    // itemsize
  std::uint32_t index;  // the input (also of a constant) or output
};

/// How an operand moves from one row of the tile to the next when a step runs row by row.
enum class Advance : std::uint8_t { none, one, width };

struct Step {
  enum class Kind : std::uint8_t {
    call,       // kernel over the whole tile (over its rows, for a step of class row)
    call_rows,  // kernel once per row
    reduce,
    reduce_columns,
    expand,  // one element per row to one per element
    copy,
  };
  Kind kind;
  std::uint8_t arity;
  Advance advance[kMaxOperands];
  std::uint32_t src[kMaxOperands];
  std::uint32_t dst;
  TileFn fn;
  const ReduceKernel* reduce;
  std::uint32_t reduction;  // number among the reductions of the plan, or its column reductions
};

/// One pass over the columns: steps on values of class row, then steps on tiles.
struct Phase {
  std::uint32_t row_begin, tile_begin, end;      // in steps
  std::uint32_t stream_begin, stream_end;        // in phase_streams
  std::uint32_t span_begin, span_end;            // in phase_spans
  std::uint32_t reduction_begin, reduction_end;  // in reductions
};

enum class PlanKind : std::uint8_t {
  rows,        // a tile is a block of whole rows, or part of one when nothing crosses passes
  short_rows,  // a block of whole rows; row and col operands are expanded to the tile
  long_rows,   // part of one row; values that cross passes are kept for the whole row
  small,       // one row of few elements; see SmallPlan
  element,     // the same of one element
};

struct Plan {
  std::vector<Slot> slots;
  std::vector<Step> steps;
  std::vector<Phase> phases;
  std::vector<std::uint32_t> streams;            // slots of full and col inputs and of full outputs
  std::vector<std::uint32_t> row_streams;        // slots of row inputs and outputs
  std::vector<std::uint32_t> phase_streams;      // indices into streams, phase by phase
  std::vector<std::uint32_t> phase_spans;        // slots, phase by phase
  std::vector<std::uint32_t> reductions;         // steps
  std::vector<std::uint32_t> column_reductions;  // steps
  std::vector<std::int64_t> input_last_use;      // position, -1 when unused
  std::vector<std::int64_t> output_written;      // position
  std::size_t tile_bytes = 0;                    // of registers, per element of the tile
  std::size_t stream_bytes = 0;                  // of inputs and outputs, per element of the tile
  std::size_t span_bytes = 0;                    // per column
  std::size_t row_bytes = 0;                     // per row
  std::uint64_t cost = 1;                        // per element, in adds
  bool row_operands = false;                     // some full step runs row by row
  bool crosses = false;                          // some tile register is read in a later pass
};

/// The plan of a row of few elements: every value is a slot in one flat file, of 8 bytes an
/// element, and the values that have one element for the row are repeated along it.
struct SmallStep {
  TileFn fn;  // null for a reduction
  const ReduceKernel* reduce;
  std::uint32_t arity;
  std::uint32_t dst, src[kMaxOperands];  // slots
};
struct SmallCopy {
  std::uint32_t slot;
  std::uint32_t size;
};
struct SmallPlan {
  std::vector<SmallCopy> inputs;
  std::vector<SmallStep> steps;
  std::vector<SmallCopy> outputs;
  std::uint32_t slots = 0;
};

/// Turns a program into plans; linear in its length.
class Lowering {
 public:
  static Plan lower(const FusedProgram& program, PlanKind kind);
  /// `kind` is small or element.
  static SmallPlan lower_small(const FusedProgram& program, PlanKind kind);

 private:
  SmallPlan assign_elements() const;
  /// An instruction of the program, or several that one super-kernel does.
  struct Job {
    const TileKernel* tile;
    const ReduceKernel* reduce;
    const Composite* composite;
    FusedProgram::Value dst;
    FusedProgram::Value src[kMaxOperands];
  };
  /// What patterns are matched against.
  struct Uses {
    std::vector<std::uint32_t> count;    // per value: reads, and one for an output
    std::vector<std::int64_t> producer;  // per value: instruction, or -1
    std::vector<bool> taken;             // per instruction: done by a super-kernel
  };
  /// A pattern found so far: its operands, and the instructions below the last one.
  struct Match {
    FusedProgram::Value root;
    FusedProgram::Value src[kMaxOperands];
    SmallVector<std::uint32_t, 8> inner;
  };
  /// A value of the program, or one the plan adds: a constant, an expansion, a second output.
  struct Item {
    SlotKind kind;
    std::uint8_t size;
    bool live = false;
    std::uint32_t index;  // of the input or output
    std::uint32_t first_phase = 0, last_phase = 0;
    std::int64_t last_use = -1;  // position
    std::int64_t slot = -1;
    std::int64_t constant = -1;   // item
    std::int64_t expansion = -1;  // item, valid in expansion_phase
    std::uint32_t expansion_phase = 0;
  };
  Lowering(const FusedProgram& program, PlanKind kind) : program_(program), kind_(kind) {}

  void choose_jobs();
  Uses find_uses() const;
  bool match(const Composite& c, int part, FusedProgram::Value v, const Uses& uses,
             Match& found) const;
  bool match_operands(const Composite& c, int part, FusedProgram::Value v, const Uses& uses,
                      Match& found, bool exchanged) const;
  void make_items();
  void emit_steps();
  void emit_row(const Job& job);
  void emit_full(const Job& job);
  void emit_composite(const Job& job);
  void emit_reduce(const Job& job);
  void emit_copy(std::uint32_t output, bool row);
  std::uint32_t add_item(SlotKind kind, std::uint8_t size, std::uint32_t index);
  std::uint32_t constant_of(std::uint32_t item);
  std::uint32_t expansion_of(std::uint32_t item);
  void set_single(Step& step, int operand, std::uint32_t item);
  void set_vector(Step& step, int operand, std::uint32_t item);
  void find_lifetimes();
  void assign_slots();
  std::uint32_t slot_of(std::uint32_t item);
  void release(std::uint32_t item);
  void list_streams();
  void add_up();

  const FusedProgram& program_;
  const PlanKind kind_;
  Plan plan_;
  std::vector<Job> jobs_;
  std::vector<Item> items_;
  std::vector<std::uint32_t> free_[3][4];  // tile, row, span registers by log2 of the itemsize
};

/// The plans of one program, shared by its copies. A plan is published by one atomic pointer:
/// two threads may lower the same plan at once, one of the results is kept.
class Plans {
 public:
  Plans() = default;
  Plans(const Plans&) = delete;
  Plans& operator=(const Plans&) = delete;
  ~Plans();
  const Plan& get(const FusedProgram& program, PlanKind kind);
  const SmallPlan& small(const FusedProgram& program, PlanKind kind);

 private:
  std::atomic<const Plan*> plans_[3] = {};
  std::atomic<const SmallPlan*> small_[2] = {};
};

/// What FusedProgram::run hands on when the space has more than a few elements.
struct RunArguments {
  std::span<const InputBinding> inputs;
  std::span<void* const> outputs;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t forced_tile;
  std::uint32_t levels;
  bool reduces;
  bool flat;
};
void run_tiles(const FusedProgram& program, Plans& plans, const RunArguments& args);

}  // namespace adjoint::kernels::fused
