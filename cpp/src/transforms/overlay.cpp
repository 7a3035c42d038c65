#include "transforms/overlay.h"

#include <utility>

#include "adjoint/transforms.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "transforms/custom.h"

namespace adjoint {

Tensor shadow_of(const Tensor& x) {
  Tensor out = stop_gradient(x);
  if (!is_differentiated(x) && !is_in_body(x)) return out;
  out = Tensor::adopt(alias(out.node(), nullptr, false));
  mark_shadow(thread_state(), out.node());
  return out;
}

Overlay::Overlay(Record& record, Reads reads, std::string who)
    : who_(std::move(who)),
      first_(&record),
      reads_(reads),
      shadow_before_(thread_state().shadow),
      record_(record) {
  record.before = thread_state().births;
  if (reads == Reads::values) return;
  ThreadState& state = thread_state();
  for (const Level& level : state.levels)
    if (level.trace) traces_.emplace_back(level.trace, level.trace->constant_count());
  state.shadow = state.open_recorders;
  ++state.first_runs;
  if (!state.constant) state.recording = true;  // forward mode asks for the shadows too
}

Overlay::~Overlay() {
  thread_state().shadow = shadow_before_;
  if (first_) first_->after = thread_state().births;
  if (!first_ || reads_ == Reads::values) return;
  --thread_state().first_runs;
  thread_state().recording = opening_.recording();
}

Overlay::Overlay(const Record& record, std::span<const Tensor> values, std::string who,
                 bool knows_all)
    : who_(std::move(who)),
      first_(nullptr),
      knows_all_(knows_all),
      reads_(Reads::values),
      shadow_before_(std::exchange(thread_state().shadow, -1)),
      record_(record) {
  std::size_t next = 0;
  for (const Record::Met& met : record.cells) {
    Held held;
    held.cell.at = met.at;
    held.cell.birth = met.birth;
    if (!met.null) held.original = held.value = values[next++];
    at_[met.at] = {held_.size(), met.birth};
    held_.push_back(std::move(held));
  }
  for (const Record::Alias& alias : record.aliases) at_[alias.at] = {alias.number, alias.birth};
}

void Overlay::cut_traces() {
  for (const auto& [trace, constants] : traces_) trace->cut_constants(constants);
}

/// A cell that is at the place of another that has ended is not that one.
const std::size_t* Overlay::find(const Cell& cell) const {
  const auto it = at_.find(cell.at);
  return it == at_.end() || it->second.birth != cell.birth ? nullptr : &it->second.number;
}

const Standing* Overlay::standing_then(const Cell& cell) const {
  const std::size_t* number = first_ ? nullptr : find(cell);
  return number && *number < record_.cells.size() ? &record_.cells[*number].standing : nullptr;
}

void Overlay::stand_in(std::size_t number, const Cell& cell) {
  at_[cell.at] = {number, cell.birth};
}

Overlay::Held& Overlay::meet(const Cell& cell) {
  if (const std::size_t* number = find(cell)) {
    Held& known = held_[*number];
    if (!known.owner) {  // of a record: met for the first time in this run
      known.cell = cell;
      known.owner = cell.keep(cell.who);
    }
    return known;
  }
  if (knows_all_ && cell.kind == Cell::Kind::handle) {
    if (!is_made_constant(cell)) raise_unknown();
    reads_made_ = true;
  }
  Held held{cell, cell.keep(cell.who), read_outside(cell), {}};
  held.value = held.original;
  if (first_) {
    first_->cells.push_back({cell.at, cell.birth, !held.original.defined(), false, standing(cell)});
    if (held.value.defined() && reads_ == Reads::shadows) held.value = first_shadow(held.value);
  }
  at_[cell.at] = {held_.size(), cell.birth};
  held_.push_back(std::move(held));
  return held_.back();
}

std::size_t Overlay::expect(const Cell& cell) {
  const auto number = static_cast<std::size_t>(&held_at(cell) - held_.data());
  first_->expected = held_.size();
  return number;
}

/// Made by the first run, of nothing that has a derivative.
bool Overlay::is_made_constant(const Cell& cell) {
  if (was_there(cell.birth, record_.before) || !was_there(cell.birth, record_.after)) return false;
  const Tensor value = read_outside(cell);
  const Node* n = value.node();
  return n && !n->requires_grad && (n->level == 0 || n->box == Box::trace);
}

void Overlay::check_same() const {
  for (std::size_t i = record_.expected; reads_made_ && i < record_.cells.size(); ++i)
    if (!held_[i].owner && held_[i].original.defined()) raise_unknown();
}

void Overlay::raise_unknown() const {
  raise(
      ErrorKind::runtime, who_,
      "the second run meets a tensor that the first did not: an attribute, an entry or a variable "
      "holds another by now, or was made in the first run; pass the tensor as an argument");
}

/// The function may read a cell under `no_grad` first, and then outside of it.
Tensor Overlay::first_shadow(const Tensor& x) const {
  const WithinScope within(true);
  return opening_.as_then([&] { return shadow_of(x); });
}

Overlay::Held& Overlay::held_at(const Cell& named) {
  if (find(named)) return meet(named);
  const Cell cell = resolved(named);
  Held& held = meet(cell);
  if (cell.at != named.at) {
    const auto number = static_cast<std::size_t>(&held - held_.data());
    at_[named.at] = {number, named.birth};
    if (first_) {
      first_->aliases.push_back({named.at, named.birth, number});
      read_outside(named);  // a first run around this one learns the name too
    }
  }
  return held;
}

Tensor Overlay::read(const Cell& cell) { return held_at(cell).value; }

/// A leaf's values belong together: in a later run, to the input that stands for its first one. It
/// is given them under `no_grad`, where duals have no tangents.
void Overlay::write(const Cell& cell, Tensor value) {
  if (first_) check(cell, value);
  Held& held = held_at(cell);
  const auto number = static_cast<std::size_t>(&held - held_.data());
  if (value.defined() && !first_ && number < record_.cells.size()) {
    const Standing& then = record_.cells[number].standing;
    if (then.outside && (!then.inside || !then.levels.empty()))
      value = apply(find_op("kept"), {&value}, then.kept());
  }
  Leaf* leaf = cell.leaf;
  while (leaf && value.defined() && value.node()->box == Box::dual && !value.node()->boxed.tangent)
    value = Tensor::share(value.node()->boxed.primal);
  if (leaf && !first_ && held.original.defined()) leaf = held.original.node()->leaf;
  held.value = value.defined() ? kept_value(leaf, std::move(value), held.value.node()) : Tensor();
  if (first_) first_->cells[number].written = true;
}

std::vector<Tensor> Overlay::values_read() const {
  std::vector<Tensor> out;
  for (const Held& held : held_)
    if (held.original.defined()) out.push_back(held.original);
  return out;
}

std::vector<Tensor> Overlay::values_written() const {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < record_.cells.size(); ++i)
    if (record_.cells[i].written) out.push_back(held_[i].value);
  return out;
}

std::vector<Tensor> Overlay::values_expected() const {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < record_.cells.size(); ++i)
    if (record_.cells[i].written) out.push_back(held_[i].original);
  return out;
}

std::vector<Cell> Overlay::cells_written() const {
  std::vector<Cell> out;
  for (std::size_t i = 0; i < record_.cells.size(); ++i)
    if (record_.cells[i].written) out.push_back(held_[i].cell);
  return out;
}

std::vector<bool> Overlay::moving_written() const {
  std::vector<bool> out;
  for (const Record::Met& met : record_.cells)
    if (met.written) out.push_back(met.standing.inside);
  return out;
}

}  // namespace adjoint
