// Running a plan: bind it to the memory of a call, cut the space into tiles and the tiles into
// chunks for threads.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/fused_lane.h"

namespace adjoint::kernels::fused {

namespace {

// Registers and streams of a tile together stay near a first-level cache; the size of a tile
// matters less than that there are few enough calls.
constexpr int64_t kTileBytes = 32768;
constexpr int64_t kMinTile = 64;
constexpr int64_t kMaxTile = 1024;
// Where rows are read in several passes, the registers of a tile take up to this size: as many
// whole rows as fit share the cost of the calls, and of what is done once per row. They still lie
// in a second-level cache.
constexpr int64_t kWholeRowBytes = 64 << 10;
// From this width on a call per row costs less than expanding the row's operand.
constexpr int64_t kCallPerRow = 64;
// Work, in adds of one element, that is worth more than one thread, and of one chunk.
constexpr double kParallelWork = 5e5;
constexpr double kChunkWork = 2.5e5;
constexpr int64_t kMaxChunks = 64;
// Streams of more bytes than this come from beyond the second-level cache.
constexpr size_t kAheadBytes = 2 << 20;
constexpr std::uint32_t kStepsPerStream = 3;
// Below this many rows, a long row itself is cut for threads.
constexpr int64_t kFewRows = 16;

bool is_contiguous(const InputBinding& b, int64_t rows, int64_t cols, int64_t size) {
  if (b.ndim == 0)
    return (cols <= 1 || b.col_stride == size) && (rows <= 1 || b.row_stride == cols * size);
  int64_t expected = size;
  for (int d = b.ndim - 1; d >= 0; --d) {
    if (b.shape[d] != 1 && b.strides[d] != expected) return false;
    expected *= b.shape[d];
  }
  return true;
}

}  // namespace

/// True when the memory of `output` is that of an input which some step reads after the output
/// is first written.
bool Run::read_after_write(size_t output) const {
  const void* memory = args.outputs[output];
  for (size_t i = 0; i < args.inputs.size(); ++i)
    if (args.inputs[i].data == memory && plan.input_last_use[i] > plan.output_written[output])
      return true;
  return false;
}

void Run::bind_stream(std::uint32_t index) {
  const Slot& slot = plan.slots[index];
  Stream s{};
  s.slot = index;
  s.col_step = slot.size;
  s.row_step = cols * slot.size;
  s.mode = Mode::direct;
  if (slot.kind == SlotKind::full_output) {
    s.base = static_cast<char*>(args.outputs[slot.index]);
    if (read_after_write(slot.index)) {
      s.mode = Mode::shadow;
      s.whole_row = !whole_rows && late_shadows;
      any_shadow = true;
    }
  } else {
    const InputBinding& b = args.inputs[slot.index];
    s.base = static_cast<char*>(const_cast<void*>(b.data));
    if (slot.kind == SlotKind::col_input) {
      s.row_step = 0;
    } else if (b.ndim == 0 && tile_rows == 1 && rows == args.rows && b.col_stride == slot.size) {
      s.row_step = b.row_stride;
    } else if (!is_contiguous(b, args.rows, args.cols, slot.size)) {
      s.mode = Mode::gather;
      s.source = {s.base, b.ndim, b.shape, b.strides, slot.size};
      s.dims[0] = args.rows;
      s.dims[1] = args.cols;
      s.dims[2] = b.row_stride;
      s.dims[3] = b.col_stride;
    }
  }
  streams.push_back(s);
}

void Run::bind_row_stream(std::uint32_t index) {
  const Slot& slot = plan.slots[index];
  Stream s{};
  s.slot = index;
  s.row_step = slot.size;
  s.mode = Mode::direct;
  if (slot.kind == SlotKind::row_output) {
    s.base = static_cast<char*>(args.outputs[slot.index]);
    if (read_after_write(slot.index)) {
      s.mode = Mode::shadow;
      any_shadow = true;
    }
  } else {
    const InputBinding& b = args.inputs[slot.index];
    s.base = static_cast<char*>(const_cast<void*>(b.data));
    s.row_step = b.row_stride;
    s.source = {s.base, b.ndim, b.shape, b.strides, slot.size};
    if (b.ndim > 0 || (tile_rows > 1 && b.row_stride != slot.size)) s.mode = Mode::gather;
  }
  row_streams.push_back(s);
}

/// Strided col inputs are made contiguous once for the whole run.
void Run::gather_columns() {
  size_t bytes = 0;
  const auto wanted = [&](const Stream& s) {
    const Slot& slot = plan.slots[s.slot];
    return slot.kind == SlotKind::col_input && args.inputs[slot.index].col_stride != slot.size;
  };
  for (const Stream& s : streams)
    if (wanted(s)) bytes += align64(static_cast<size_t>(cols) * plan.slots[s.slot].size);
  if (bytes == 0) return;
  columns = Storage::allocate(bytes, "fused");
  char* at = static_cast<char*>(columns->data());
  for (Stream& s : streams) {
    if (!wanted(s)) continue;
    const Slot& slot = plan.slots[s.slot];
    copy_strided(s.base, args.inputs[slot.index].col_stride, at, slot.size, cols, slot.size);
    s.base = at;
    at += align64(static_cast<size_t>(cols) * slot.size);
  }
}

void Run::bind() {
  for (std::uint32_t slot : plan.streams) bind_stream(slot);
  for (std::uint32_t slot : plan.row_streams) bind_row_stream(slot);
  for (Stream& s : streams) {
    if (s.mode != Mode::gather || s.source.ndim > 0) continue;
    s.source.ndim = 2;
    s.source.shape = s.dims;
    s.source.strides = s.dims + 2;
  }
  gather_columns();
  measure();
}

/// Processors follow a stream well while one kernel reads it, and lose it while the steps between
/// two tiles work in cache; so a pass of many steps asks ahead. Programs of several passes do not:
/// measured, their short passes stream well enough alone.
void Run::plan_ahead() {
  if (plan.phases.size() > 1 || static_cast<size_t>(rows * cols) * plan.stream_bytes < kAheadBytes)
    return;
  SmallVector<std::uint8_t, 16> seen(streams.size(), 0);
  for (const Phase& phase : plan.phases) {
    Ahead a{static_cast<std::uint32_t>(ahead.size()), 0};
    for (std::uint32_t i = phase.stream_begin; i < phase.stream_end; ++i) {
      const std::uint32_t index = plan.phase_streams[i];
      const Stream& s = streams[index];
      if (seen[index] || s.mode != Mode::direct || s.row_step == 0) continue;
      for (size_t other = 0; other < streams.size(); ++other)
        if (streams[other].base == s.base) seen[other] = 1;
      ahead.push_back(index);
    }
    a.end = static_cast<std::uint32_t>(ahead.size());
    if (phase.end - phase.tile_begin < kStepsPerStream * (a.end - a.begin)) a.begin = a.end;
    ahead_of.push_back(a);
  }
}

/// Bytes of the two areas of a lane.
void Run::measure() {
  const auto tile = [&](size_t size) { return align64(static_cast<size_t>(capacity) * size); };
  const auto row = [&](size_t size) { return align64(static_cast<size_t>(tile_rows) * size); };
  const auto span = [&](size_t size) { return align64(static_cast<size_t>(cols) * size); };
  for (const Slot& slot : plan.slots) {
    switch (slot.kind) {
      case SlotKind::tile:
      case SlotKind::constant:
      case SlotKind::col_constant: tile_area += tile(slot.size); break;
      case SlotKind::row: row_area += row(slot.size); break;
      case SlotKind::span: row_area += span(slot.size); break;
      default: break;
    }
  }
  for (const Stream& s : streams) {
    if (s.mode == Mode::direct) continue;
    const size_t size = plan.slots[s.slot].size;
    (s.whole_row ? row_area : tile_area) += s.whole_row ? span(size) : tile(size);
  }
  for (const Stream& s : row_streams)
    if (s.mode != Mode::direct) row_area += row(plan.slots[s.slot].size);
}

namespace {

/// Few long rows: every pass over a row is cut into chunks of whole subtrees.
void run_long_rows(const Run& run, int64_t chunk) {
  const Plan& plan = run.plan;
  Lane main(run);
  const int64_t chunks = (run.cols + chunk - 1) / chunk;
  for (int64_t r = 0; r < run.rows; ++r) {
    main.begin_rows(r, 1);
    for (const Phase& phase : plan.phases) {
      main.row_steps(phase);
      if (phase.tile_begin == phase.end) continue;
      const auto reductions = static_cast<int64_t>(phase.reduction_end - phase.reduction_begin);
      SmallVector<std::uint64_t, 64> partials(static_cast<size_t>(reductions * chunks), 0);
      parallel_for(run.cols, chunk, [&](int64_t begin, int64_t end) {
        Lane lane(run, &main);
        for (; begin < end; begin += chunk) {
          lane.reset_trees(phase);
          lane.columns(phase, begin, std::min(begin + chunk, end));
          for (int64_t k = 0; k < reductions; ++k)
            lane.tree(phase.reduction_begin + static_cast<std::uint32_t>(k))
                .finish(&partials[static_cast<size_t>(begin / chunk * reductions + k)]);
        }
      });
      main.reset_trees(phase);
      for (int64_t i = 0; i < chunks * reductions; ++i)
        main.tree(phase.reduction_begin + static_cast<std::uint32_t>(i % reductions))
            .push(&partials[static_cast<size_t>(i)]);
      main.finish_trees(phase);
    }
    main.end_rows();
  }
  if (!plan.column_reductions.empty()) {
    const size_t bytes = ColumnReductions::bytes(plan, run.cols);
    const IntrusivePtr<Storage> result = Storage::allocate(bytes, "fused");
    auto* const at = static_cast<char*>(result->data());
    main.column_reductions().finish(at);
    ColumnReductions::combine(plan, run.cols, at, 1, run.args.outputs);
  }
}

/// Rows in pieces of `grain`; with column reductions every piece is a whole subtree of theirs.
void run_pieces(const Run& run, int64_t grain) {
  if (run.plan.column_reductions.empty()) {
    parallel_for(run.rows, grain,
                 [&run](int64_t begin, int64_t end) { Lane(run).run_rows(begin, end); });
    return;
  }
  const auto groups = static_cast<std::uint64_t>((grain + kColumnGroup - 1) / kColumnGroup);
  grain = static_cast<int64_t>(std::bit_ceil(groups)) * kColumnGroup;
  const int64_t pieces = (run.rows + grain - 1) / grain;
  const size_t pitch = ColumnReductions::bytes(run.plan, run.cols);
  const IntrusivePtr<Storage> results =
      Storage::allocate(static_cast<size_t>(pieces) * pitch, "fused");
  char* const at = static_cast<char*>(results->data());
  parallel_for(run.rows, grain, [&](int64_t begin, int64_t end) {
    Lane lane(run);
    for (; begin < end; begin += grain) {
      lane.run_rows(begin, std::min(begin + grain, end));
      lane.column_reductions().finish(at + static_cast<size_t>(begin / grain) * pitch);
    }
  });
  ColumnReductions::combine(run.plan, run.cols, at, pieces, run.args.outputs);
}

int64_t tile_elements(const Plan& plan, const RunArguments& args) {
  int64_t t = args.forced_tile;
  if (t == 0) {
    const auto bytes = static_cast<int64_t>(plan.tile_bytes + plan.stream_bytes);
    t = std::clamp(kTileBytes / std::max<int64_t>(bytes, 1), kMinTile, kMaxTile) / kMinTile *
        kMinTile;
  }
  return args.reduces ? std::max(kBlock, t / kBlock * kBlock) : t;
}

/// Chooses the plan and the shape of a tile.
const Plan& choose_plan(const FusedProgram& program, Plans& plans, const RunArguments& args,
                        int64_t* tile) {
  const Plan& plan = plans.get(program, PlanKind::rows);
  *tile = tile_elements(plan, args);
  if (args.flat) return plan;
  int64_t whole = *tile;
  if (plan.crosses && args.forced_tile == 0)
    whole = std::max(whole,
                     kWholeRowBytes / static_cast<int64_t>(std::max<size_t>(plan.tile_bytes, 1)));
  if (args.cols > whole) {
    if (plan.crosses) return plans.get(program, PlanKind::long_rows);
    return plan;
  }
  *tile = std::max(plan.crosses ? whole : *tile, args.cols);
  if (plan.row_operands && args.cols < kCallPerRow && args.cols * 2 <= *tile)
    return plans.get(program, PlanKind::short_rows);
  return plan;
}

}  // namespace

void run_tiles(const FusedProgram& program, Plans& plans, const RunArguments& args) {
  int64_t tile;
  const Plan& plan = choose_plan(program, plans, args, &tile);
  Run run(plan, args);
  run.rows = args.flat ? 1 : args.rows;
  run.cols = args.flat ? args.rows * args.cols : args.cols;
  if (args.flat && run.cols == 0) return;
  if (!args.flat && run.cols <= tile) {
    run.whole_rows = true;
    run.tile_rows = std::min(run.rows, std::max<int64_t>(1, tile / std::max<int64_t>(1, run.cols)));
    run.tile_cols = run.cols;
  } else {
    run.tile_cols = std::min(tile, run.cols);
    run.late_shadows = plan.phases.size() > 1;
  }
  run.capacity = run.tile_rows * std::max<int64_t>(1, run.tile_cols);
  run.bind();
  run.plan_ahead();

  const double work = static_cast<double>(run.rows) * static_cast<double>(run.cols) *
                      static_cast<double>(plan.cost);
  if (work < kParallelWork || num_threads() == 1) {
    run_pieces(run, run.rows);
    return;
  }
  const auto pieces = [](double amount) {
    return std::clamp<int64_t>(static_cast<int64_t>(amount / kChunkWork), 1, kMaxChunks);
  };
  if (!run.whole_rows && run.rows < kFewRows) {
    const int64_t wanted = run.cols / pieces(work / static_cast<double>(run.rows));
    auto chunk = std::bit_ceil(static_cast<std::uint64_t>(std::max(wanted, kBlock)));
    run_long_rows(run, static_cast<int64_t>(chunk));
    return;
  }
  int64_t grain = (run.rows + pieces(work) - 1) / pieces(work);
  grain = (grain + run.tile_rows - 1) / run.tile_rows * run.tile_rows;
  run_pieces(run, grain);
}

}  // namespace adjoint::kernels::fused
