// The inner loops of a run: point every slot at its memory for the tile at hand, and call the
// kernels.
#include "kernels/fused_lane.h"

#include <algorithm>
#include <cstring>

namespace adjoint::kernels::fused {

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
    columns_ = &own_columns_.emplace(plan_, run_.rows, run_.cols);
  }
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
  if (!run_.whole_rows && own_columns_) own_columns_->end_row();
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
      case Step::Kind::reduce_columns:
        columns_->add(step, at_[step.src[0]], count_, col, width, run_.whole_rows);
        break;
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

}  // namespace adjoint::kernels::fused
