// Lowering: number the places, find their layouts, build the groups, and give memory to what only
// passes between groups. Views are tried out on memory without content, so that a group can be
// built for the strides it will meet.
#include "compile/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "graph/apply.h"
#include "graph/defer.h"

namespace adjoint {

namespace {

using Index = Graph::Index;
using Step = Partition::Step;
using kernels::FusedProgram;

constexpr std::size_t kSlot = sizeof(std::uint64_t);

/// Offsets for blocks that live for a stretch of the program: best fit, neighbours joined.
class Arena {
 public:
  std::size_t take(std::size_t bytes) {
    const auto fit = by_size_.lower_bound({bytes, 0});
    if (fit == by_size_.end()) {
      const std::size_t at = end_;
      end_ += bytes;
      return at;
    }
    const auto [size, at] = *fit;
    drop(at, size);
    if (size > bytes) put(at + bytes, size - bytes);
    return at;
  }
  void give(std::size_t at, std::size_t bytes) {
    auto next = by_place_.lower_bound(at);
    if (next != by_place_.end() && at + bytes == next->first) {
      bytes += next->second;
      drop(next->first, next->second);
    }
    auto before = by_place_.lower_bound(at);
    if (before != by_place_.begin()) {
      --before;
      if (before->first + before->second == at) {
        const auto [start, size] = *before;
        at = start;
        bytes += size;
        drop(start, size);
      }
    }
    put(at, bytes);
  }
  std::size_t end() const { return end_; }

 private:
  void put(std::size_t at, std::size_t bytes) {
    by_place_.emplace(at, bytes);
    by_size_.emplace(bytes, at);
  }
  void drop(std::size_t at, std::size_t bytes) {
    by_place_.erase(at);
    by_size_.erase({bytes, at});
  }
  std::map<std::size_t, std::size_t> by_place_;
  std::set<std::pair<std::size_t, std::size_t>> by_size_;
  std::size_t end_ = 0;
};

/// Whether elements share memory: a copy would be larger, and slower to read.
bool is_repeated(const Layout& layout) {
  for (int axis = 0; axis < layout.ndim(); ++axis)
    if (layout.strides()[axis] == 0 && layout.shape()[axis] > 1) return true;
  return false;
}

double size_of(const ResultSpec& spec) {
  double n = 1;
  for (const std::int64_t extent : spec.shape) n *= static_cast<double>(extent);
  return n;
}

std::size_t bytes_of(std::span<const ResultSpec> results) {
  std::size_t bytes = 0;
  for (const ResultSpec& spec : results)
    bytes += static_cast<std::size_t>(size_of(spec)) * itemsize(spec.dtype);
  return bytes;
}

class Planner {
 public:
  Planner(const Graph& graph, const Partition& parts, std::span<const std::uint32_t> donated)
      : graph_(graph), donated_(donated), parts_(parts), place_of_(graph.size(), kNoPlace) {}
  Plan run();

 private:
  void number_places();
  PlaceIndex place(Index i);
  void need_nodes();
  void find_last_reads();
  Node* shell(PlaceIndex p);
  void lower(std::uint32_t s);
  void lower_single(const Step& step, Instruction& out);
  void lower_scalars(const Step& step, Instruction& out);
  void lower_group(const Step& step, Instruction& out);
  void choose_givers(const Group& group, Instruction& out);
  void plan_memory(std::uint32_t s);
  PlaceList store(std::span<const PlaceIndex> items);
  bool dies(PlaceIndex p, std::uint32_t s) const { return last_read_[p] == s && !kept_[p]; }

  const Graph& graph_;
  std::span<const std::uint32_t> donated_;
  const Partition& parts_;
  Plan plan_;
  std::vector<PlaceIndex> place_of_;
  std::vector<std::uint32_t> last_read_;  // step, by place
  std::vector<bool> kept_;                // inputs, constants, outputs
  std::vector<Tensor> shells_;
  std::vector<std::uint32_t> member_;    // by node: number in the group being built
  std::vector<std::uint32_t> external_;  // by place: number in the group being built
  std::uint32_t step_ = 0;
  Arena arena_;
  std::size_t slots_ = 0;
};

PlaceList Planner::store(std::span<const PlaceIndex> items) {
  const auto begin = static_cast<std::uint32_t>(plan_.lists.size());
  plan_.lists.insert(plan_.lists.end(), items.begin(), items.end());
  return {begin, static_cast<std::uint32_t>(plan_.lists.size())};
}

PlaceIndex Planner::place(Index i) {
  if (place_of_[i] != kNoPlace) return place_of_[i];
  const Graph::Entry& e = graph_[i];
  place_of_[i] = static_cast<PlaceIndex>(plan_.places.size());
  std::size_t bytes = static_cast<std::size_t>(e.size()) * itemsize(e.dtype);
  if (e.tuple) bytes = bytes_of(graph_.results_of(i));
  plan_.places.push_back({e.dtype, false, false, bytes, 0, Layout(e.shape)});
  return place_of_[i];
}

void Planner::number_places() {
  // What is not elementwise reads its operands as they lie when nothing is compiled, and a product
  // with a transpose has its sums in another order.
  std::vector<bool> read_as_is(graph_.size(), false);
  for (const Step& step : parts_.steps)
    if (const Op* op = graph_[step.members[0]].op; step.kind == Step::Kind::single &&
                                                   op->kind != OpKind::view &&
                                                   op->kind != OpKind::elementwise)
      for (const Index in : graph_.inputs_of(step.members[0])) read_as_is[in] = true;
  for (const Index i : graph_.inputs())
    plan_.inputs.push_back(parts_.crosses[i] ? place(i) : kNoPlace);
  for (Index i = 0; i < graph_.size(); ++i) {
    if (!parts_.crosses[i]) continue;
    const PlaceIndex p = place(i);
    if (graph_[i].kind != Graph::Kind::constant) continue;
    Node* value = graph_.value_of(i);
    if (value->level) continue;
    materialize(value);
    const bool as_is = is_repeated(value->layout) || read_as_is[i];
    Tensor held = as_is ? Tensor::share(value) : contiguous(value);
    if (held.node()->requires_grad) held = held.detach();
    plan_.places[p].layout = held.node()->layout;
    shells_.resize(plan_.places.size());
    shells_[p] = held;
    plan_.constants.push_back({p, std::move(held)});
  }
  for (const Index o : graph_.outputs()) plan_.outputs.push_back(place(o));
}

void Planner::need_nodes() {
  const auto mark = [this](PlaceIndex p) {
    if (p != kNoPlace) plan_.places[p].is_node = true;
  };
  kept_.assign(plan_.places.size(), false);
  const auto keep = [&](PlaceIndex p) {
    mark(p);
    if (p != kNoPlace) kept_[p] = true;
  };
  for (const PlaceIndex p : plan_.inputs) keep(p);
  for (const std::uint32_t i : donated_)
    if (plan_.inputs[i] != kNoPlace) {
      plan_.places[plan_.inputs[i]].borrowed = true;
      kept_[plan_.inputs[i]] = false;
    }
  for (const PlaceIndex p : plan_.outputs) keep(p);
  for (const Plan::Constant& c : plan_.constants) keep(c.place);
  for (const Step& step : parts_.steps) {
    if (step.kind != Step::Kind::single) continue;
    mark(place_of_[step.members[0]]);
    for (const Index in : graph_.inputs_of(step.members[0])) mark(place_of_[in]);
  }
}

void Planner::find_last_reads() {
  last_read_.assign(plan_.places.size(), 0);
  for (std::uint32_t s = 0; s < parts_.steps.size(); ++s)
    for (const Index i : parts_.steps[s].members)
      for (const Index in : graph_.inputs_of(i))
        if (place_of_[in] != kNoPlace) last_read_[place_of_[in]] = s;
}

/// A node of the place's layout whose memory has no content.
Node* Planner::shell(PlaceIndex p) {
  if (!shells_[p].defined())
    shells_[p] =
        Tensor::adopt(new_array(plan_.places[p].dtype, plan_.places[p].layout.shape(), "compile"));
  return shells_[p].node();
}

void Planner::lower_single(const Step& step, Instruction& out) {
  const Index i = step.members[0];
  const Graph::Entry& e = graph_[i];
  const auto inputs = graph_.inputs_of(i);
  SmallVector<PlaceIndex, 8> reads;
  double elements = static_cast<double>(e.size());
  if (e.tuple)
    for (const ResultSpec& spec : graph_.results_of(i)) elements += size_of(spec);
  for (const Index in : inputs) {
    reads.push_back(place_of_[in]);
    elements = std::max(elements, static_cast<double>(graph_[in].size()));
  }
  for (std::size_t k = 0; k < reads.size() && k < 32; ++k)
    if (dies(reads[k], step_) && std::count(reads.begin(), reads.end(), reads[k]) == 1)
      out.donors |= 1u << k;
  const PlaceIndex result = place_of_[i];
  out.kind = Instruction::Kind::single;
  out.node = i;
  out.reads = store(reads);
  out.writes = store({&result, 1});
  if (e.op->kind == OpKind::contraction && inputs.size() == 2)
    elements =
        std::sqrt(static_cast<double>(e.size()) * static_cast<double>(graph_[inputs[0]].size()) *
                  static_cast<double>(graph_[inputs[1]].size()));
  // What a call or a user's operation runs is not known here: the host lock is let go for it.
  if (e.op->kind == OpKind::custom && (e.op->run_all || !e.op->internal))
    elements = std::numeric_limits<double>::infinity();
  plan_.work += e.op->kind == OpKind::view ? 0 : elements;
  if (e.op->kind != OpKind::view || e.size() == 0) return;
  out.keeps_layout = true;
  if (e.op->part) return;  // results are dense
  SmallVector<Node*, 4> nodes;
  for (const PlaceIndex p : reads) nodes.push_back(shell(p));
  Tensor trial = Tensor::adopt(new_node(e.dtype, Layout(e.shape)));
  e.op->run(*e.op, trial.node(), nodes, e.attrs.get(), 0);
  plan_.places[result].layout = trial.node()->layout;
  shells_[result] = std::move(trial);
}

/// One-element values need no laying out: the program is built without the detour.
void Planner::lower_scalars(const Step& step, Instruction& out) {
  FusedProgram program;
  std::vector<PlaceIndex> reads;
  std::vector<PlaceIndex> writes;
  std::vector<FusedProgram::Value> externals;
  FusedProgram::Value operands[3];
  for (const Index i : step.members) {
    const Graph::Entry& e = graph_[i];
    const auto inputs = graph_.inputs_of(i);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const Index in = inputs[k];
      if (parts_.step_of[in] == step_) {
        operands[k] = member_[in];
        continue;
      }
      std::uint32_t& number = external_[place_of_[in]];
      if (number == Partition::kNone) {
        number = static_cast<std::uint32_t>(reads.size());
        reads.push_back(place_of_[in]);
        externals.push_back(program.add_input(graph_[in].dtype, kernels::ValueClass::scalar));
      }
      operands[k] = externals[number];
    }
    const DType operand = graph_[inputs[e.op->dtypes == DTypeRule::where ? 1 : 0]].dtype;
    if (e.op->kind == OpKind::elementwise)
      member_[i] =
          program.add_tile(tile_kernel(*e.op, operand, e.attrs.get()), {operands, inputs.size()});
    else if (e.op->reduces)
      member_[i] = program.add_reduce(e.op->reducers[static_cast<int>(operand)], operands[0]);
    else
      member_[i] = operands[0];
  }
  for (const Index i : step.members)
    if (parts_.crosses[i]) {
      program.add_output(member_[i]);
      writes.push_back(place_of_[i]);
    }
  program.finalize();
  for (const PlaceIndex p : reads) external_[p] = Partition::kNone;
  out.kind = Instruction::Kind::scalars;
  out.program = static_cast<std::uint32_t>(plan_.scalars.size());
  out.reads = store(reads);
  out.writes = store(writes);
  plan_.scalars.push_back(std::move(program));
  plan_.work += static_cast<double>(step.members.size());
}

void Planner::lower_group(const Step& step, Instruction& out) {
  GroupBuilder builder(step.space);
  std::vector<PlaceIndex> externals;
  std::vector<PlaceIndex> writes;
  GroupBuilder::Operand operands[3];
  for (const Index i : step.members) {
    const auto inputs = graph_.inputs_of(i);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const Index in = inputs[k];
      if (parts_.step_of[in] == step_) {
        operands[k] = {false, static_cast<int>(member_[in]), graph_[in].dtype, nullptr};
        continue;
      }
      const PlaceIndex p = place_of_[in];
      if (external_[p] == Partition::kNone) {
        external_[p] = static_cast<std::uint32_t>(externals.size());
        externals.push_back(p);
      }
      operands[k] = {true, static_cast<int>(external_[p]), graph_[in].dtype,
                     &plan_.places[p].layout};
    }
    const Graph::Entry& e = graph_[i];
    member_[i] = static_cast<std::uint32_t>(
        builder.add(*e.op, e.attrs.get(), e.shape, {operands, inputs.size()}));
  }
  for (const Index i : step.members)
    if (parts_.crosses[i] && !graph_[i].op->fuses) {
      builder.add_output(static_cast<int>(member_[i]));
      writes.push_back(place_of_[i]);
    }
  for (const PlaceIndex p : externals) external_[p] = Partition::kNone;
  Group group = builder.finish();
  std::vector<PlaceIndex> reads;
  for (const int x : group.externals()) reads.push_back(externals[static_cast<std::size_t>(x)]);
  out.kind = Instruction::Kind::group;
  out.program = static_cast<std::uint32_t>(plan_.groups.size());
  out.reads = store(reads);
  out.writes = store(writes);
  choose_givers(group, out);
  plan_.work +=
      static_cast<double>(group.elements()) * static_cast<double>(group.instruction_count());
  plan_.groups.push_back(std::move(group));
}

/// A value that dies here may give its memory to a result.
void Planner::choose_givers(const Group& group, Instruction& out) {
  const std::vector<PlaceIndex> reads(plan_.list(out.reads).begin(), plan_.list(out.reads).end());
  std::vector<PlaceIndex> givers;
  for (const PlaceIndex w :
       std::vector<PlaceIndex>(plan_.list(out.writes).begin(), plan_.list(out.writes).end())) {
    const PlannedPlace& to = plan_.places[w];
    PlaceIndex giver = kNoPlace;
    for (std::size_t i = 0; i < reads.size() && giver == kNoPlace && to.bytes > kSlot; ++i) {
      const PlannedPlace& from = plan_.places[reads[i]];
      if (from.is_node == to.is_node && from.bytes == to.bytes && dies(reads[i], step_) &&
          group.can_alias(i, to.dtype) && std::count(reads.begin(), reads.end(), reads[i]) == 1 &&
          std::find(givers.begin(), givers.end(), reads[i]) == givers.end())
        giver = reads[i];
    }
    givers.push_back(giver);
  }
  out.givers = store(givers);
}

/// Offsets for what this step writes, and what it frees.
void Planner::plan_memory(std::uint32_t s) {
  Instruction& at = plan_.instructions[s];
  const auto rounded = [](std::size_t bytes) { return (bytes + 63) & ~std::size_t{63}; };
  const auto reads = plan_.list(at.reads);
  const auto writes = plan_.list(at.writes);
  const auto givers = plan_.list(at.givers);
  const auto read_before = [&](std::size_t i) {  // scalars have each read once
    return at.kind != Instruction::Kind::scalars &&
           std::find(reads.begin(), reads.begin() + i, reads[i]) != reads.begin() + i;
  };
  if (!at.keeps_layout) {
    for (const PlaceIndex p : writes) plan_.bytes_moved += plan_.places[p].bytes;
    for (std::size_t i = 0; i < reads.size(); ++i)
      if (!read_before(i)) plan_.bytes_moved += plan_.places[reads[i]].bytes;
  }
  for (std::size_t i = 0; i < writes.size(); ++i) {
    PlannedPlace& p = plan_.places[writes[i]];
    if (p.is_node) continue;
    if (p.bytes <= kSlot)
      p.offset = slots_++;
    else if (i < givers.size() && givers[i] != kNoPlace)
      p.offset = plan_.places[givers[i]].offset;
    else
      p.offset = arena_.take(rounded(p.bytes));
  }
  SmallVector<PlaceIndex, 8> frees;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    const PlaceIndex p = reads[i];
    if (!dies(p, s) || read_before(i)) continue;
    if (plan_.places[p].is_node)
      frees.push_back(p);
    else if (plan_.places[p].bytes > kSlot &&
             std::find(givers.begin(), givers.end(), p) == givers.end())
      arena_.give(plan_.places[p].offset, rounded(plan_.places[p].bytes));
  }
  at.frees = store(frees);
}

void Planner::lower(std::uint32_t s) {
  step_ = s;
  const Step& step = parts_.steps[s];
  Instruction out{};
  out.node = step.members.back();
  switch (step.kind) {
    case Step::Kind::single: lower_single(step, out); break;
    case Step::Kind::scalars: lower_scalars(step, out); break;
    case Step::Kind::group: lower_group(step, out); break;
  }
  plan_.instructions.push_back(out);
  plan_memory(s);
}

Plan Planner::run() {
  number_places();
  need_nodes();
  find_last_reads();
  shells_.resize(plan_.places.size());
  member_.assign(graph_.size(), 0);
  external_.assign(plan_.places.size(), Partition::kNone);
  for (std::uint32_t s = 0; s < parts_.steps.size(); ++s) lower(s);
  const std::size_t head = (slots_ * kSlot + 63) & ~std::size_t{63};
  for (PlannedPlace& p : plan_.places) {
    if (p.is_node) continue;
    p.offset = p.bytes <= kSlot ? p.offset * kSlot : p.offset + head;
  }
  plan_.arena_bytes = arena_.end() ? head + arena_.end() : slots_ * kSlot;
  return std::move(plan_);
}

}  // namespace

Plan make_plan(const Graph& graph, const Partition& parts, std::span<const std::uint32_t> donated) {
  return Planner(graph, parts, donated).run();
}

}  // namespace adjoint
