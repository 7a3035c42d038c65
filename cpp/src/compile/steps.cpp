#include "compile/steps.h"

#include <algorithm>
#include <cstring>

namespace adjoint {

namespace {

bool is_dense_constant(const Plan& plan, PlaceIndex p) {
  return std::ranges::any_of(plan.constants, [&](const Plan::Constant& c) {
    return c.place == p && c.value.node()->layout.contiguous();
  });
}

/// By place: whether a group writes it.
std::vector<bool> written(const Plan& plan) {
  std::vector<bool> out(plan.places.size(), false);
  for (const Instruction& at : plan.instructions)
    for (const PlaceIndex p : plan.list(at.writes)) out[p] = true;
  return out;
}

}  // namespace

bool Steps::suit(const CompiledProgram& program) {
  if (!program.plain()) return false;
  const Plan& plan = program.plan();
  const std::vector<bool> makes = written(plan);
  return std::ranges::all_of(plan.outputs, [&](PlaceIndex p) {
    return makes[p] || is_dense_constant(plan, p) ||
           std::ranges::find(plan.inputs, p) != plan.inputs.end();
  });
}

Steps::Steps(const CompiledProgram& program)
    : plan_(program.plan()),
      data_(plan_.places.size(), nullptr),
      addresses_(plan_.lists.size(), nullptr),
      readers_begin_(plan_.places.size() + 1, 0),
      readers_(plan_.lists.size()) {
  const auto visit = [this](const auto& visitor) {
    for (const Instruction& at : plan_.instructions)
      for (const PlaceList list : {at.reads, at.writes})
        for (std::uint32_t k = list.begin; k < list.end; ++k) visitor(plan_.lists[k], k);
  };
  visit([this](PlaceIndex p, std::uint32_t) { ++readers_begin_[p + 1]; });
  for (std::size_t p = 0; p < plan_.places.size(); ++p) readers_begin_[p + 1] += readers_begin_[p];
  std::vector<std::uint32_t> next(readers_begin_.begin(), readers_begin_.end() - 1);
  visit([&](PlaceIndex p, std::uint32_t k) { readers_[next[p]++] = k; });

  if (plan_.arena_bytes) arena_ = Storage::allocate(plan_.arena_bytes, "compile");
  for (std::size_t p = 0; p < plan_.places.size(); ++p)
    if (!plan_.places[p].is_node)
      set(static_cast<PlaceIndex>(p), static_cast<char*>(arena_->data()) + plan_.places[p].offset);
  for (const Plan::Constant& c : plan_.constants) set(c.place, c.value.node()->data());

  std::vector<bool> direct = written(plan_);  // and not the place of an earlier result
  for (const PlaceIndex p : plan_.outputs) {
    copy_of_.push_back(direct[p] ? kNoCopy : copies_.size());
    if (!direct[p]) copies_.push_back({p, nullptr, plan_.places[p].bytes});
    direct[p] = false;
  }
}

bool Steps::hands_through(std::size_t i) const {
  return i < plan_.inputs.size() && plan_.outputs[i] == plan_.inputs[i];
}

void Steps::set(PlaceIndex p, void* data) {
  data_[p] = data;
  for (std::uint32_t r = readers_begin_[p]; r < readers_begin_[p + 1]; ++r)
    addresses_[readers_[r]] = data;
}

void Steps::set_input(std::size_t i, const void* data) {
  if (plan_.inputs[i] != kNoPlace) set(plan_.inputs[i], const_cast<void*>(data));
}

void Steps::set_output(std::size_t i, void* data) {
  if (copy_of_[i] == kNoCopy)
    set(plan_.outputs[i], data);
  else
    copies_[copy_of_[i]].to = data;
}

void Steps::run() {
  for (const Instruction& at : plan_.instructions) {
    void* const* const reads = addresses_.data() + at.reads.begin;
    const std::span<const void* const> in(reads, at.reads.end - at.reads.begin);
    const std::span<void* const> out(addresses_.data() + at.writes.begin,
                                     at.writes.end - at.writes.begin);
    if (at.kind == Instruction::Kind::scalars)
      plan_.scalars[at.program].run_element(in, out);
    else
      plan_.groups[at.program].run(in, out);
  }
  for (const Copy& c : copies_)
    if (c.to) std::memcpy(c.to, data_[c.from], c.bytes);
}

}  // namespace adjoint
