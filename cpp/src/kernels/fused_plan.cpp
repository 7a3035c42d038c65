// Lowering: order the instructions by pass over the columns, choose the variant of each kernel,
// and assign registers in one walk, a register being free again right after the last step that
// reads it (a kernel may write over an operand that dies).
#include "kernels/fused_plan.h"

#include <bit>

namespace adjoint::kernels::fused {

namespace {

bool is_row(SlotKind k) {
  return k == SlotKind::row || k == SlotKind::row_input || k == SlotKind::row_output;
}

/// The registers that are reused, by index into the free lists; -1 for other slots.
int pool_of(SlotKind k) {
  switch (k) {
    case SlotKind::tile: return 0;
    case SlotKind::row: return 1;
    case SlotKind::span: return 2;
    default: return -1;
  }
}

int log2_size(std::uint8_t size) { return std::countr_zero(static_cast<unsigned>(size)); }

Step make_step(Step::Kind kind, std::uint8_t arity, std::uint32_t dst) {
  Step step{};
  step.kind = kind;
  step.arity = arity;
  step.dst = dst;
  return step;
}

}  // namespace

Plan Lowering::lower(const FusedProgram& program, PlanKind kind) {
  Lowering lowering(program, kind);
  lowering.choose_jobs();
  lowering.make_items();
  lowering.emit_steps();
  lowering.find_lifetimes();
  lowering.assign_slots();
  lowering.list_streams();
  lowering.add_up();
  return std::move(lowering.plan_);
}

std::uint32_t Lowering::add_item(SlotKind kind, std::uint8_t size, std::uint32_t index) {
  Item item{};
  item.kind = kind;
  item.size = size;
  item.index = index;
  item.last_use = item.slot = item.constant = item.expansion = -1;
  items_.push_back(item);
  return static_cast<std::uint32_t>(items_.size() - 1);
}

void Lowering::make_items() {
  items_.reserve(program_.values_.size());
  for (const auto& v : program_.values_) {
    const auto size = static_cast<std::uint8_t>(itemsize(v.dtype));
    const bool row = v.cls == ValueClass::row;
    SlotKind kind = row ? SlotKind::row : SlotKind::tile;
    std::uint32_t index = 0;
    if (v.input < 0 && v.cls == ValueClass::col) {
      kind = SlotKind::col_output;
      index = static_cast<std::uint32_t>(v.output);
    } else if (v.input >= 0) {
      constexpr SlotKind kinds[] = {SlotKind::full_input, SlotKind::row_input, SlotKind::col_input,
                                    SlotKind::scalar_input};
      kind = kinds[static_cast<int>(v.cls)];
      index = static_cast<std::uint32_t>(v.input);
    } else if (v.output >= 0) {
      kind = row ? SlotKind::row_output : SlotKind::full_output;
      index = static_cast<std::uint32_t>(v.output);
    }
    add_item(kind, size, index);
  }
}

void Lowering::emit_steps() {
  // Buckets: of each level first what is of class row, then what works on tiles. Entries are
  // instructions, then outputs that need a copy.
  const auto& values = program_.values_;
  const std::size_t buckets = 2 * std::size_t{program_.levels_};
  const std::size_t job_count = jobs_.size();
  std::vector<std::uint32_t> begin(buckets + 1, 0);
  std::vector<std::uint32_t> bucket_of;
  std::vector<std::uint32_t> copies;
  bucket_of.reserve(job_count);
  for (const Job& job : jobs_) {
    const auto& dst = values[job.dst];
    const bool row = !job.reduce && dst.cls == ValueClass::row;
    const bool ends_pass = job.reduce && dst.cls == ValueClass::row;
    bucket_of.push_back(ends_pass ? 2 * dst.level - 1 : 2 * dst.level + (row ? 0 : 1));
  }
  for (std::size_t o = 0; o < program_.outputs_.size(); ++o) {
    const auto& v = values[program_.outputs_[o]];
    if (v.input < 0 && v.output == static_cast<std::int32_t>(o)) continue;
    copies.push_back(static_cast<std::uint32_t>(o));
    bucket_of.push_back(2 * v.level + (v.cls == ValueClass::row ? 0 : 1));
  }
  for (std::uint32_t b : bucket_of) ++begin[b + 1];
  for (std::size_t b = 0; b < buckets; ++b) begin[b + 1] += begin[b];
  std::vector<std::uint32_t> order(bucket_of.size());
  std::vector<std::uint32_t> next(begin.begin(), begin.end() - 1);
  for (std::size_t i = 0; i < bucket_of.size(); ++i)
    order[next[bucket_of[i]]++] = static_cast<std::uint32_t>(i);

  plan_.output_written.assign(program_.outputs_.size(), -1);
  plan_.steps.reserve(order.size());
  for (std::size_t b = 0; b < buckets; ++b) {
    if (b % 2 == 0) {
      plan_.phases.emplace_back();
      plan_.phases.back().row_begin = static_cast<std::uint32_t>(plan_.steps.size());
      plan_.phases.back().reduction_begin = static_cast<std::uint32_t>(plan_.reductions.size());
    } else {
      plan_.phases.back().tile_begin = static_cast<std::uint32_t>(plan_.steps.size());
    }
    for (std::uint32_t i = begin[b]; i < begin[b + 1]; ++i) {
      if (order[i] >= job_count) {
        emit_copy(copies[order[i] - job_count], b % 2 == 0);
        continue;
      }
      const Job& job = jobs_[order[i]];
      if (job.reduce)
        emit_reduce(job);
      else if (job.composite)
        emit_composite(job);
      else if (b % 2 == 0)
        emit_row(job);
      else
        emit_full(job);
    }
    plan_.phases.back().end = static_cast<std::uint32_t>(plan_.steps.size());
    plan_.phases.back().reduction_end = static_cast<std::uint32_t>(plan_.reductions.size());
  }
}

std::uint32_t Lowering::constant_of(std::uint32_t item) {
  if (items_[item].constant < 0) {
    const SlotKind kind =
        items_[item].kind == SlotKind::col_input ? SlotKind::col_constant : SlotKind::constant;
    const std::uint32_t made = add_item(kind, items_[item].size, items_[item].index);
    items_[item].constant = made;
  }
  return static_cast<std::uint32_t>(items_[item].constant);
}

std::uint32_t Lowering::expansion_of(std::uint32_t item) {
  const auto phase = static_cast<std::uint32_t>(plan_.phases.size() - 1);
  if (items_[item].expansion < 0 || items_[item].expansion_phase != phase) {
    const std::uint32_t made = add_item(SlotKind::tile, items_[item].size, 0);
    items_[item].expansion = made;
    items_[item].expansion_phase = phase;
    Step step = make_step(Step::Kind::expand, 1, made);
    step.src[0] = item;
    plan_.steps.push_back(step);
  }
  return static_cast<std::uint32_t>(items_[item].expansion);
}

/// Operand `operand` of a step over tiles is to be read as a vector.
void Lowering::set_vector(Step& step, int operand, std::uint32_t item) {
  const SlotKind kind = items_[item].kind;
  step.advance[operand] = Advance::width;
  if (is_row(kind)) {
    item = expansion_of(item);
  } else if (kind == SlotKind::scalar_input ||
             (kind == SlotKind::col_input && kind_ == PlanKind::short_rows)) {
    item = constant_of(item);
  } else if (kind == SlotKind::col_input) {
    step.advance[operand] = Advance::none;
    if (step.kind == Step::Kind::call) step.kind = Step::Kind::call_rows;
  }
  step.src[operand] = item;
}

/// Operand `operand` of a step over tiles is to be read as one element.
void Lowering::set_single(Step& step, int operand, std::uint32_t item) {
  step.src[operand] = item;
  step.advance[operand] = Advance::none;
  if (is_row(items_[item].kind)) {
    step.advance[operand] = Advance::one;
    step.kind = Step::Kind::call_rows;
  }
}

void Lowering::emit_full(const Job& job) {
  const TileKernel* kernel = job.tile;
  Step step = make_step(Step::Kind::call, kernel->arity, job.dst);
  step.fn = kernel->vv;
  const auto single = [&](std::uint32_t item) {
    const SlotKind kind = items_[item].kind;
    return kind == SlotKind::scalar_input || (is_row(kind) && kind_ != PlanKind::short_rows);
  };
  int scalar = -1;
  if (kernel->arity == 2) scalar = single(job.src[1]) ? 1 : single(job.src[0]) ? 0 : -1;
  for (int i = 0; i < kernel->arity; ++i) {
    if (i != scalar) {
      set_vector(step, i, job.src[i]);
      continue;
    }
    step.fn = i == 0 ? kernel->sv : kernel->vs;
    set_single(step, i, job.src[i]);
  }
  plan_.row_operands |= step.kind == Step::Kind::call_rows;
  plan_.cost += kernel->cost;
  plan_.steps.push_back(step);
}

void Lowering::emit_composite(const Job& job) {
  Step step =
      make_step(Step::Kind::call, static_cast<std::uint8_t>(job.composite->operands), job.dst);
  step.fn = job.composite->kernel->fn;
  for (const Composite::Part& part : job.composite->parts) {
    if (part.tile) continue;
    const std::uint32_t item = job.src[part.operand];
    part.single ? set_single(step, part.operand, item) : set_vector(step, part.operand, item);
  }
  plan_.row_operands |= step.kind == Step::Kind::call_rows;
  plan_.cost += job.composite->cost;
  plan_.steps.push_back(step);
}

void Lowering::emit_row(const Job& job) {
  const TileKernel* kernel = job.tile;
  Step step = make_step(Step::Kind::call, kernel->arity, job.dst);
  step.fn = kernel->vv;
  for (int i = 0; i < kernel->arity; ++i) {
    const std::uint32_t item = job.src[i];
    const bool scalar = items_[item].kind == SlotKind::scalar_input;
    step.src[i] = scalar && kernel->arity != 2 ? constant_of(item) : item;
    if (scalar && kernel->arity == 2) step.fn = i == 0 ? kernel->sv : kernel->vs;
  }
  plan_.steps.push_back(step);
}

void Lowering::emit_reduce(const Job& job) {
  const bool over_rows = program_.values_[job.dst].cls == ValueClass::col;
  Step step = make_step(over_rows ? Step::Kind::reduce_columns : Step::Kind::reduce, 1, job.dst);
  set_vector(step, 0, job.src[0]);
  auto& list = over_rows ? plan_.column_reductions : plan_.reductions;
  step.reduce = job.reduce;
  step.reduction = static_cast<std::uint32_t>(list.size());
  list.push_back(static_cast<std::uint32_t>(plan_.steps.size()));
  plan_.cost += 1;
  plan_.steps.push_back(step);
}

void Lowering::emit_copy(std::uint32_t output, bool row) {
  const std::uint32_t src = program_.outputs_[output];
  const std::uint32_t dst =
      add_item(row ? SlotKind::row_output : SlotKind::full_output, items_[src].size, output);
  Step step = make_step(Step::Kind::copy, 1, dst);
  if (row) {
    step.src[0] = src;
    step.advance[0] = Advance::one;
  } else {
    set_vector(step, 0, src);
    plan_.cost += 1;
  }
  plan_.steps.push_back(step);
}

void Lowering::find_lifetimes() {
  for (std::uint32_t p = 0; p < plan_.phases.size(); ++p) {
    const Phase& phase = plan_.phases[p];
    for (std::uint32_t i = phase.row_begin; i < phase.end; ++i) {
      const Step& step = plan_.steps[i];
      for (int s = 0; s < step.arity; ++s) {
        items_[step.src[s]].last_use = i;
        items_[step.src[s]].last_phase = p;
      }
      Item& dst = items_[step.dst];
      dst.first_phase = dst.last_phase = p;
      if (dst.kind == SlotKind::full_output || dst.kind == SlotKind::row_output)
        plan_.output_written[dst.index] = i;
    }
  }
  plan_.input_last_use.assign(program_.inputs_.size(), -1);
  for (Item& item : items_) {
    if (item.kind == SlotKind::tile && item.last_phase > item.first_phase) {
      plan_.crosses = true;
      if (kind_ == PlanKind::long_rows) item.kind = SlotKind::span;
    }
    switch (item.kind) {
      case SlotKind::full_input:
      case SlotKind::row_input:
      case SlotKind::col_input:
      case SlotKind::scalar_input:
      case SlotKind::constant:
      case SlotKind::col_constant:
        if (item.last_use > plan_.input_last_use[item.index])
          plan_.input_last_use[item.index] = item.last_use;
        break;
      default: break;
    }
  }
}

std::uint32_t Lowering::slot_of(std::uint32_t index) {
  Item& item = items_[index];
  if (item.slot >= 0) return static_cast<std::uint32_t>(item.slot);
  const int pool = pool_of(item.kind);
  if (pool >= 0) {
    auto& free = free_[pool][log2_size(item.size)];
    item.live = true;
    if (!free.empty()) {
      item.slot = free.back();
      free.pop_back();
      return static_cast<std::uint32_t>(item.slot);
    }
  }
  item.slot = static_cast<std::int64_t>(plan_.slots.size());
  plan_.slots.push_back({item.kind, item.size, item.index});
  return static_cast<std::uint32_t>(item.slot);
}

void Lowering::release(std::uint32_t index) {
  Item& item = items_[index];
  if (!item.live) return;
  item.live = false;
  free_[pool_of(item.kind)][log2_size(item.size)].push_back(static_cast<std::uint32_t>(item.slot));
}

void Lowering::assign_slots() {
  std::vector<std::vector<std::uint32_t>> spans_ending(plan_.phases.size());
  std::uint32_t p = 0;
  for (std::uint32_t i = 0; i < plan_.steps.size(); ++i) {
    for (; i >= plan_.phases[p].end; ++p)
      for (std::uint32_t item : spans_ending[p]) release(item);
    Step& step = plan_.steps[i];
    const std::uint32_t dst = step.dst;
    for (int s = 0; s < step.arity; ++s) {
      const std::uint32_t src = step.src[s];
      step.src[s] = slot_of(src);
      if (items_[src].last_use == i && items_[src].kind != SlotKind::span) release(src);
    }
    step.dst = slot_of(dst);
    if (items_[dst].kind == SlotKind::span)
      spans_ending[items_[dst].last_phase].push_back(dst);
    else if (items_[dst].last_use < 0)
      release(dst);
  }
}

void Lowering::list_streams() {
  std::vector<std::int64_t> stream(plan_.slots.size(), -1);
  std::vector<std::int64_t> seen(plan_.slots.size(), -1);
  for (std::uint32_t p = 0; p < plan_.phases.size(); ++p) {
    Phase& phase = plan_.phases[p];
    phase.stream_begin = static_cast<std::uint32_t>(plan_.phase_streams.size());
    phase.span_begin = static_cast<std::uint32_t>(plan_.phase_spans.size());
    const auto visit = [&](std::uint32_t slot) {
      if (seen[slot] == p) return;
      seen[slot] = p;
      const SlotKind kind = plan_.slots[slot].kind;
      if (kind == SlotKind::span) plan_.phase_spans.push_back(slot);
      if (kind != SlotKind::full_input && kind != SlotKind::full_output &&
          kind != SlotKind::col_input)
        return;
      if (stream[slot] < 0) {
        stream[slot] = static_cast<std::int64_t>(plan_.streams.size());
        plan_.streams.push_back(slot);
      }
      plan_.phase_streams.push_back(static_cast<std::uint32_t>(stream[slot]));
    };
    for (std::uint32_t i = phase.tile_begin; i < phase.end; ++i) {
      for (int s = 0; s < plan_.steps[i].arity; ++s) visit(plan_.steps[i].src[s]);
      visit(plan_.steps[i].dst);
    }
    phase.stream_end = static_cast<std::uint32_t>(plan_.phase_streams.size());
    phase.span_end = static_cast<std::uint32_t>(plan_.phase_spans.size());
  }
}

void Lowering::add_up() {
  for (std::uint32_t s = 0; s < plan_.slots.size(); ++s) {
    const Slot& slot = plan_.slots[s];
    switch (slot.kind) {
      case SlotKind::tile:
      case SlotKind::constant:
      case SlotKind::col_constant: plan_.tile_bytes += slot.size; break;
      case SlotKind::row: plan_.row_bytes += slot.size; break;
      case SlotKind::span: plan_.span_bytes += slot.size; break;
      case SlotKind::full_input:
      case SlotKind::full_output: plan_.stream_bytes += slot.size; break;
      case SlotKind::row_input:
      case SlotKind::row_output: plan_.row_streams.push_back(s); break;
      default: break;
    }
  }
  plan_.cost += plan_.streams.size();
}

SmallPlan Lowering::lower_small(const FusedProgram& program, PlanKind kind) {
  Lowering lowering(program, kind);
  lowering.choose_jobs();
  return lowering.assign_elements();
}

SmallPlan Lowering::assign_elements() const {
  const auto arity_of = [](const Job& job) {
    return job.composite ? job.composite->operands : job.tile ? job.tile->arity : 1;
  };
  const std::size_t count = program_.values_.size();
  std::vector<std::int64_t> last_use(count, -1);
  for (std::size_t i = 0; i < jobs_.size(); ++i)
    for (int s = 0; s < arity_of(jobs_[i]); ++s)
      last_use[jobs_[i].src[s]] = static_cast<std::int64_t>(i);
  for (FusedProgram::Value v : program_.outputs_)
    last_use[v] = static_cast<std::int64_t>(jobs_.size());

  SmallPlan plan;
  std::vector<std::uint32_t> slot(count), free;
  const auto take = [&](FusedProgram::Value v) {
    if (free.empty()) {
      slot[v] = plan.slots++;
    } else {
      slot[v] = free.back();
      free.pop_back();
    }
    return slot[v];
  };
  const auto size_of = [&](FusedProgram::Value v) {
    return static_cast<std::uint32_t>(itemsize(program_.values_[v].dtype));
  };
  for (FusedProgram::Value v : program_.inputs_) plan.inputs.push_back({take(v), size_of(v)});
  plan.steps.reserve(jobs_.size());
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    const Job& job = jobs_[i];
    SmallStep step{};
    step.fn = job.composite ? job.composite->kernel->fn : job.tile ? job.tile->vv : nullptr;
    step.reduce = job.reduce;
    step.arity = static_cast<std::uint32_t>(arity_of(job));
    // Of one element all is read before the result is written. Otherwise a result may not lie where
    // operands of another size, or such as are read again for every element, do.
    if (kind_ == PlanKind::small) step.dst = take(job.dst);
    for (std::uint32_t s = 0; s < step.arity; ++s) {
      step.src[s] = slot[job.src[s]];
      if (last_use[job.src[s]] != static_cast<std::int64_t>(i)) continue;
      free.push_back(step.src[s]);
      last_use[job.src[s]] = -2;
    }
    if (kind_ == PlanKind::element) step.dst = take(job.dst);
    if (last_use[job.dst] < 0) free.push_back(step.dst);
    plan.steps.push_back(step);
  }
  for (FusedProgram::Value v : program_.outputs_) plan.outputs.push_back({slot[v], size_of(v)});
  return plan;
}

namespace {

template <class T, class Make>
const T& get_or_make(std::atomic<const T*>& place, const Make& make) {
  const T* found = place.load(std::memory_order_acquire);
  if (found) [[likely]]
    return *found;
  const T* fresh = new T(make());
  if (place.compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *found;
}

}  // namespace

Plans::~Plans() {
  for (auto& plan : plans_) delete plan.load(std::memory_order_relaxed);
  for (auto& plan : small_) delete plan.load(std::memory_order_relaxed);
}

const Plan& Plans::get(const FusedProgram& program, PlanKind kind) {
  return get_or_make(plans_[static_cast<int>(kind)],
                     [&] { return Lowering::lower(program, kind); });
}

const SmallPlan& Plans::small(const FusedProgram& program, PlanKind kind) {
  return get_or_make(small_[kind == PlanKind::element],
                     [&] { return Lowering::lower_small(program, kind); });
}

}  // namespace adjoint::kernels::fused
