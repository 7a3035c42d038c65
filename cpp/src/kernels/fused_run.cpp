// Running a plan: cut the space into tiles and the tiles into chunks for threads, point every
// slot at its memory for the tile at hand, and call the kernels.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/intrusive_ptr.h"
#include "base/small_vector.h"
#include "base/thread_pool.h"
#include "kernels/fused_copy.h"
#include "kernels/fused_plan.h"
#include "kernels/reduce.h"
#include "tensor/storage.h"

namespace adjoint::kernels::fused {

namespace {

using std::int64_t;
using std::size_t;

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

constexpr size_t align64(size_t n) { return (n + 63) & ~size_t{63}; }

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
  /// Of the result of a column reduction.
  size_t column_bytes(size_t reduction) const {
    const Step& step = plan.steps[plan.column_reductions[reduction]];
    return static_cast<size_t>(cols) * itemsize(step.reduce->dtype);
  }
  size_t all_column_bytes() const {
    size_t bytes = 0;
    for (size_t k = 0; k < plan.column_reductions.size(); ++k) bytes += column_bytes(k);
    return bytes;
  }
};

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

  /// Results of the column reductions over the rows run so far, one after another; starts anew.
  void finish_columns(char* out);

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
  void reduce_columns(const Step& step, int64_t col, int64_t width);
  void make_columns();
  void copy(const Step& step, int64_t width);

  const Run& run_;
  const Plan& plan_;
  int64_t row_ = 0;
  int64_t count_ = 0;  // rows of the tile
  char** at_;          // per slot
  char** home_;        // per stream, then per row stream: register of a gather or shadow
  char** span_;        // per slot: start of a span
  PairwiseTree* trees_ = nullptr;
  std::vector<ColumnTree> own_columns_;
  ColumnTree* columns_ = nullptr;  // its own, or the owner's
  IntrusivePtr<Storage> heap_, column_heap_;
  alignas(64) char stack_[20 * 1024];
};

Lane::Lane(const Run& run, const Lane* owner) : run_(run), plan_(run.plan) {
  const size_t slots = plan_.slots.size();
  const size_t homes = run.streams.size() + run.row_streams.size();
  const size_t spans = plan_.span_bytes ? slots : 0;
  const size_t trees = run.whole_rows ? 0 : plan_.reductions.size();
  const size_t tables = align64((slots + homes + spans) * sizeof(char*));
  const size_t tree_bytes = align64(trees * sizeof(PairwiseTree));
  const size_t total = tables + tree_bytes + run.tile_area + (owner ? 0 : run.row_area);
  char* p = stack_;
  if (total > sizeof stack_) {
    heap_ = Storage::allocate(total, "fused");
    p = static_cast<char*>(heap_->data());
  }
  at_ = reinterpret_cast<char**>(p);
  home_ = at_ + slots;
  span_ = home_ + homes;
  p += tables;
  if (trees) {
    trees_ = reinterpret_cast<PairwiseTree*>(p);
    for (size_t i = 0; i < trees; ++i)
      new (trees_ + i) PairwiseTree(plan_.steps[plan_.reductions[i]].reduce);
  }
  p += tree_bytes;
  place_registers(p, p + run.tile_area, owner);
  if (owner) {
    columns_ = owner->columns_;
  } else if (!plan_.column_reductions.empty()) {
    make_columns();
  }
}

void Lane::make_columns() {
  size_t bytes = 0;
  const auto scratch = [&](std::uint32_t step) {
    return align64(ColumnTree::scratch(plan_.steps[step].reduce, run_.rows, run_.cols));
  };
  for (std::uint32_t step : plan_.column_reductions) bytes += scratch(step);
  column_heap_ = Storage::allocate(bytes, "fused");
  char* at = static_cast<char*>(column_heap_->data());
  for (std::uint32_t step : plan_.column_reductions) {
    own_columns_.push_back(ColumnTree(plan_.steps[step].reduce, run_.cols, at));
    at += scratch(step);
  }
  columns_ = own_columns_.data();
}

void Lane::place_registers(char* tile_area, char* row_area, const Lane* owner) {
  const auto take = [](char*& area, int64_t n, size_t size) {
    char* p = area;
    area += align64(static_cast<size_t>(n) * size);
    return p;
  };
  for (size_t i = 0; i < plan_.slots.size(); ++i) {
    const Slot& slot = plan_.slots[i];
    switch (slot.kind) {
      case SlotKind::tile: at_[i] = take(tile_area, run_.capacity, slot.size); break;
      case SlotKind::constant:
        at_[i] = take(tile_area, run_.capacity, slot.size);
        fill(at_[i], run_.args.inputs[slot.index].data, run_.capacity, slot.size);
        break;
      case SlotKind::col_constant: {
        at_[i] = take(tile_area, run_.capacity, slot.size);
        const InputBinding& b = run_.args.inputs[slot.index];
        const int64_t pitch = run_.cols * slot.size;
        copy_strided(static_cast<const char*>(b.data), b.col_stride, at_[i], slot.size, run_.cols,
                     slot.size);
        for (int64_t r = 1; r < run_.tile_rows; ++r)
          std::memcpy(at_[i] + r * pitch, at_[i], static_cast<size_t>(pitch));
        break;
      }
      case SlotKind::row:
        at_[i] = owner ? owner->at_[i] : take(row_area, run_.tile_rows, slot.size);
        break;
      case SlotKind::span:
        at_[i] = span_[i] = owner ? owner->span_[i] : take(row_area, run_.cols, slot.size);
        break;
      case SlotKind::scalar_input:
        at_[i] = static_cast<char*>(const_cast<void*>(run_.args.inputs[slot.index].data));
        break;
      default: at_[i] = owner ? owner->at_[i] : nullptr;
    }
  }
  char** home = home_;
  for (size_t i = 0; i < run_.streams.size(); ++i, ++home) {
    const Stream& s = run_.streams[i];
    if (s.mode == Mode::direct) continue;
    const size_t size = plan_.slots[s.slot].size;
    if (s.whole_row)
      *home = owner ? owner->home_[i] : take(row_area, run_.cols, size);
    else
      *home = take(tile_area, run_.capacity, size);
  }
  for (const Stream& s : run_.row_streams) {
    if (s.mode != Mode::direct && !owner)
      *home = take(row_area, run_.tile_rows, plan_.slots[s.slot].size);
    ++home;
  }
  if (owner) {
    row_ = owner->row_;
    count_ = owner->count_;
  }
}

void Lane::begin_rows(int64_t row, int64_t count) {
  row_ = row;
  count_ = count;
  char** home = home_ + run_.streams.size();
  for (const Stream& s : run_.row_streams) {
    char* p = s.base + row * s.row_step;
    const size_t size = plan_.slots[s.slot].size;
    if (s.mode == Mode::gather && s.source.ndim > 0)
      gather(s.source, row, count, *home);
    else if (s.mode == Mode::gather)
      copy_strided(p, s.row_step, *home, static_cast<int64_t>(size), count, size);
    at_[s.slot] = s.mode == Mode::direct ? p : *home;
    ++home;
  }
  if (run_.whole_rows)
    for (size_t i = 0; i < run_.streams.size(); ++i) place_stream(i, 0, run_.cols);
}

void Lane::place_stream(size_t index, int64_t col, int64_t width) {
  const Stream& s = run_.streams[index];
  if (s.mode == Mode::direct) {
    at_[s.slot] = s.base + row_ * s.row_step + col * s.col_step;
    return;
  }
  at_[s.slot] = home_[index];
  if (s.mode == Mode::gather)
    gather(s.source, row_ * run_.cols + col, count_ * width, home_[index]);
  else if (s.whole_row)
    at_[s.slot] += col * s.col_step;
}

/// Starts asking for the next tile of the phase's streams.
void Lane::start_ahead(const Phase& phase, int64_t n, Request* request) const {
  const Ahead& a = run_.ahead_of[static_cast<size_t>(&phase - plan_.phases.data())];
  request->next = a.begin;
  request->end = a.end;
  int64_t lines = 0;
  for (std::uint32_t i = a.begin; i < a.end; ++i)
    lines += n * run_.streams[run_.ahead[i]].col_step / 64 + 1;
  request->per_step = lines / (phase.end - phase.tile_begin) + 1;
}

/// The share of one step. Inline: gcc takes a function that only prefetches for one without
/// effects and drops the call.
[[gnu::always_inline]] inline void Lane::ask_ahead(Request* request, int64_t n) const {
  for (int64_t k = request->per_step; k > 0; --k) {
    if (request->at >= request->stop) {
      if (request->next == request->end) return;
      const Stream& s = run_.streams[run_.ahead[request->next++]];
      request->at = at_[s.slot] + n * s.col_step;
      request->stop = request->at + n * s.col_step;
    }
    __builtin_prefetch(request->at);
    request->at += 64;
  }
}

void Lane::copy_shadows(int64_t col, int64_t width) {
  for (size_t i = 0; i < run_.streams.size(); ++i) {
    const Stream& s = run_.streams[i];
    if (s.mode != Mode::shadow) continue;
    std::memcpy(s.base + row_ * s.row_step + col * s.col_step, home_[i],
                static_cast<size_t>(count_ * width * s.col_step));
  }
}

void Lane::end_rows() {
  if (!run_.whole_rows)
    for (ColumnTree& tree : own_columns_) tree.end_row();
  if (!run_.any_shadow) return;
  if (run_.whole_rows || run_.late_shadows) copy_shadows(0, run_.cols);
  char** home = home_ + run_.streams.size();
  for (const Stream& s : run_.row_streams) {
    if (s.mode == Mode::shadow)
      std::memcpy(s.base + row_ * s.row_step, *home, static_cast<size_t>(count_ * s.row_step));
    ++home;
  }
}

void Lane::call_rows(const Step& step, int64_t width) {
  const void* in[kMaxOperands];
  int64_t advance[kMaxOperands] = {};
  for (int i = 0; i < step.arity; ++i) {
    in[i] = at_[step.src[i]];
    const int64_t size = plan_.slots[step.src[i]].size;
    if (step.advance[i] != Advance::none)
      advance[i] = step.advance[i] == Advance::one ? size : width * size;
  }
  char* out = at_[step.dst];
  const int64_t out_advance = width * plan_.slots[step.dst].size;
  for (int64_t r = 0;;) {
    step.fn(in, out, width);
    if (++r == count_) break;
    for (int i = 0; i < step.arity; ++i) in[i] = static_cast<const char*>(in[i]) + advance[i];
    out += out_advance;
  }
}

void Lane::expand(const Step& step, int64_t width) {
  const size_t size = plan_.slots[step.dst].size;
  const char* in = at_[step.src[0]];
  char* out = at_[step.dst];
  for (int64_t r = 0; r < count_; ++r, in += size, out += width * size) fill(out, in, width, size);
}

void Lane::reduce(const Step& step, int64_t width) {
  const auto size = static_cast<int64_t>(itemsize(step.reduce->dtype));
  const char* in = at_[step.src[0]];
  if (run_.whole_rows) {
    char* out = at_[step.dst];
    if (step.advance[0] == Advance::width) {
      reduce_row_group(step.reduce, in, count_, width, out);
      return;
    }
    for (int64_t r = 0; r < count_; ++r) reduce_row(step.reduce, in, width, out + r * size);
    return;
  }
  std::uint64_t partial = 0;
  for (int64_t c = 0; c < width; c += kBlock) {
    step.reduce->block(in + c * size, std::min(kBlock, width - c), &partial);
    trees_[step.reduction].push(&partial);
  }
}

void Lane::reduce_columns(const Step& step, int64_t col, int64_t width) {
  ColumnTree& tree = columns_[step.reduction];
  const auto size = static_cast<int64_t>(itemsize(step.reduce->dtype));
  const int64_t pitch = step.advance[0] == Advance::none ? 0 : width * size;
  const char* in = at_[step.src[0]];
  for (int64_t r = 0; r < count_; ++r) {
    tree.add(col, in + r * pitch, width);
    if (run_.whole_rows) tree.end_row();
  }
}

void Lane::finish_columns(char* out) {
  for (ColumnTree& tree : own_columns_) {
    tree.finish(out);
    tree.reset();
    out += run_.column_bytes(static_cast<size_t>(&tree - own_columns_.data()));
  }
}

void Lane::copy(const Step& step, int64_t width) {
  const int64_t bytes = width * plan_.slots[step.dst].size;
  const int64_t pitch = step.advance[0] == Advance::none ? 0 : bytes;
  const char* in = at_[step.src[0]];
  char* out = at_[step.dst];
  for (int64_t r = 0; r < count_; ++r)
    std::memmove(out + r * bytes, in + r * pitch, static_cast<size_t>(bytes));
}

void Lane::row_steps(const Phase& phase) {
  for (std::uint32_t i = phase.row_begin; i < phase.tile_begin; ++i) {
    const Step& step = plan_.steps[i];
    if (step.kind == Step::Kind::copy) {
      std::memmove(at_[step.dst], at_[step.src[0]],
                   static_cast<size_t>(count_) * plan_.slots[step.dst].size);
      continue;
    }
    const void* const in[3] = {at_[step.src[0]], at_[step.src[1]], at_[step.src[2]]};
    step.fn(in, at_[step.dst], count_);
  }
}

void Lane::tile_steps(const Phase& phase, int64_t col, int64_t width) {
  if (!run_.whole_rows) {
    for (std::uint32_t i = phase.stream_begin; i < phase.stream_end; ++i)
      place_stream(plan_.phase_streams[i], col, width);
    for (std::uint32_t i = phase.span_begin; i < phase.span_end; ++i) {
      const std::uint32_t slot = plan_.phase_spans[i];
      at_[slot] = span_[slot] + col * plan_.slots[slot].size;
    }
  }
  const int64_t n = count_ * width;
  Request request{};
  if (!run_.ahead.empty() && phase.tile_begin != phase.end) start_ahead(phase, n, &request);
  for (std::uint32_t i = phase.tile_begin; i < phase.end; ++i) {
    const Step& step = plan_.steps[i];
    if (request.per_step) ask_ahead(&request, n);
    const void* in[kMaxOperands];
    for (int s = 0; s < step.arity; ++s) in[s] = at_[step.src[s]];
    switch (step.kind) {
      case Step::Kind::call: step.fn(in, at_[step.dst], n); break;
      case Step::Kind::call_rows:
        if (count_ == 1)
          step.fn(in, at_[step.dst], n);
        else
          call_rows(step, width);
        break;
      case Step::Kind::reduce: reduce(step, width); break;
      case Step::Kind::reduce_columns: reduce_columns(step, col, width); break;
      case Step::Kind::expand: expand(step, width); break;
      case Step::Kind::copy: copy(step, width); break;
    }
  }
  if (run_.any_shadow && !run_.whole_rows && !run_.late_shadows) copy_shadows(col, width);
}

void Lane::reset_trees(const Phase& phase) {
  for (std::uint32_t i = phase.reduction_begin; i < phase.reduction_end; ++i) trees_[i].reset();
}

void Lane::finish_trees(const Phase& phase) {
  for (std::uint32_t i = phase.reduction_begin; i < phase.reduction_end; ++i)
    trees_[i].finish(at_[plan_.steps[plan_.reductions[i]].dst]);
}

/// The part [begin, end) of one row, one pass.
void Lane::columns(const Phase& phase, int64_t begin, int64_t end) {
  for (int64_t c = begin; c < end; c += run_.tile_cols)
    tile_steps(phase, c, std::min(run_.tile_cols, end - c));
}

/// All passes over rows [begin, end).
void Lane::run_rows(int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; r += run_.tile_rows) {
    begin_rows(r, std::min(run_.tile_rows, end - r));
    for (const Phase& phase : plan_.phases) {
      row_steps(phase);
      if (run_.whole_rows) {
        tile_steps(phase, 0, run_.cols);
        continue;
      }
      reset_trees(phase);
      if (phase.tile_begin != phase.end) columns(phase, 0, run_.cols);
      finish_trees(phase);
    }
    end_rows();
  }
}

/// The results of the column reductions of consecutive pieces, one piece after another.
void write_columns(const Run& run, const char* pieces, int64_t count) {
  const Plan& plan = run.plan;
  const size_t pitch = run.all_column_bytes();
  size_t offset = 0;
  for (size_t k = 0; k < plan.column_reductions.size(); ++k) {
    const Step& step = plan.steps[plan.column_reductions[k]];
    const IntrusivePtr<Storage> scratch = Storage::allocate(
        ColumnTree::scratch(step.reduce, count * kColumnGroup, run.cols), "fused");
    ColumnTree tree(step.reduce, run.cols, static_cast<char*>(scratch->data()));
    for (int64_t i = 0; i < count; ++i) tree.push(pieces + static_cast<size_t>(i) * pitch + offset);
    tree.finish(run.args.outputs[plan.slots[step.dst].index]);
    offset += run.column_bytes(k);
  }
}

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
    const IntrusivePtr<Storage> result = Storage::allocate(run.all_column_bytes(), "fused");
    main.finish_columns(static_cast<char*>(result->data()));
    write_columns(run, static_cast<char*>(result->data()), 1);
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
  const size_t pitch = run.all_column_bytes();
  const IntrusivePtr<Storage> results =
      Storage::allocate(static_cast<size_t>(pieces) * pitch, "fused");
  char* const at = static_cast<char*>(results->data());
  parallel_for(run.rows, grain, [&](int64_t begin, int64_t end) {
    Lane lane(run);
    for (; begin < end; begin += grain) {
      lane.run_rows(begin, std::min(begin + grain, end));
      lane.finish_columns(at + static_cast<size_t>(begin / grain) * pitch);
    }
  });
  write_columns(run, at, pieces);
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
