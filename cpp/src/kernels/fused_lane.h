// One run of a plan, and a lane: what one thread needs to go through tiles of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/intrusive_ptr.h"
#include "base/small_vector.h"
#include "kernels/fused_columns.h"
#include "kernels/fused_copy.h"
#include "kernels/fused_plan.h"
#include "kernels/reduce.h"
#include "tensor/storage.h"

namespace adjoint::kernels::fused {

using std::int64_t;
using std::size_t;

enum class Mode : std::uint8_t {
  direct,  // points into the caller's memory
  gather,  // a strided input, copied to a register
  shadow,  // an output whose memory is still to be read as an input: a register, copied late
};

/// A slot that moves with the tile: base + row * row_step + col * col_step.
struct Stream {
  char* base;
  int64_t row_step;
  int64_t col_step;
  std::uint32_t slot;
  Mode mode;
  bool whole_row;   // a shadow that holds a whole row
  int64_t dims[4];  // shape and strides of a Source that has none of its own
  Source source;
};

/// What the steps of one phase ask for ahead of the next tile: streams [begin, end) of
/// Run::ahead, evenly over the steps so that the queue of outstanding misses does not fill.
struct Ahead {
  std::uint32_t begin, end;
};

/// Everything that is fixed for one run and shared by its threads.
struct Run {
  const Plan& plan;
  const RunArguments& args;
  int64_t rows = 0, cols = 0;  // of the space as it is walked
  int64_t tile_rows = 1;       // rows per tile
  int64_t tile_cols = 0;       // columns per tile
  int64_t capacity = 0;        // elements of a tile register
  bool whole_rows = false;     // every tile is made of whole rows
  bool late_shadows = false;   // shadows are copied after the last pass over a row
  bool any_shadow = false;
  size_t tile_area = 0, row_area = 0;
  SmallVector<Stream, 8> streams;
  SmallVector<Stream, 4> row_streams;
  SmallVector<Ahead, 2> ahead_of;  // per phase; empty when nothing is asked for ahead
  SmallVector<std::uint32_t, 4> ahead;
  IntrusivePtr<Storage> columns;  // col inputs that had to be made contiguous

  Run(const Plan& p, const RunArguments& a) : plan(p), args(a) {}
  void bind();
  void bind_stream(std::uint32_t slot);
  void bind_row_stream(std::uint32_t slot);
  void gather_columns();
  bool read_after_write(size_t output) const;
  void plan_ahead();
  void measure();
};

/// One thread's registers and its table of pointers. A lane that works on part of a row shares
/// the row's registers and spans with the lane that owns the row.
class Lane {
 public:
  explicit Lane(const Run& run, const Lane* owner = nullptr);

  void begin_rows(int64_t row, int64_t count);
  void run_rows(int64_t begin, int64_t end);
  void row_steps(const Phase& phase);
  void tile_steps(const Phase& phase, int64_t col, int64_t width);
  void columns(const Phase& phase, int64_t begin, int64_t end);
  void end_rows();

  /// Of the rows run so far.
  ColumnReductions& column_reductions() { return *columns_; }

  void reset_trees(const Phase& phase);
  void finish_trees(const Phase& phase);
  PairwiseTree& tree(std::uint32_t reduction) { return trees_[reduction]; }

 private:
  struct Request {
    const char* at;
    const char* stop;
    std::uint32_t next, end;  // streams of Run::ahead still to ask for
    int64_t per_step;         // cache lines; 0 when nothing is asked for
  };
  void place_registers(char* tile_area, char* row_area, const Lane* owner);
  void place_stream(size_t index, int64_t col, int64_t width);
  void start_ahead(const Phase& phase, int64_t n, Request* request) const;
  void ask_ahead(Request* request, int64_t n) const;
  void copy_shadows(int64_t col, int64_t width);
  void call_rows(const Step& step, int64_t width);
  void expand(const Step& step, int64_t width);
  void reduce(const Step& step, int64_t width);
  void copy(const Step& step, int64_t width);

  const Run& run_;
  const Plan& plan_;
  int64_t row_ = 0;
  int64_t count_ = 0;  // rows of the tile
  char** at_;          // per slot
  char** home_;        // per stream, then per row stream: register of a gather or shadow
  char** span_;        // per slot: start of a span
  PairwiseTree* trees_ = nullptr;
  std::optional<ColumnReductions> own_columns_;
  ColumnReductions* columns_ = nullptr;  // its own, or the owner's
  IntrusivePtr<Storage> heap_;
  alignas(64) char stack_[20 * 1024];
};

}  // namespace adjoint::kernels::fused
