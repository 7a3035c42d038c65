// Growing the groups, by the rule of joining that deferral follows too (GroupSpace::parted); the
// groups themselves are built by the same builder.
#include "compile/partition.h"

#include <algorithm>
#include <numeric>

#include "graph/defer.h"

namespace adjoint {

namespace {

using Index = Graph::Index;
using Entry = Graph::Entry;
using Step = Partition::Step;

class Partitioner {
 public:
  explicit Partitioner(const Graph& graph)
      : graph_(graph),
        stage_(graph.size(), 0),
        cluster_(graph.size(), Partition::kNone),
        parted_(graph.size(), Parted::no) {}
  Partition run();

 private:
  struct Cluster {
    Step::Kind kind;
    std::uint32_t stage;
    std::uint32_t parent;  // of the union-find forest; itself for a root
    std::uint32_t members;
    GroupSpace space;
  };

  Making making(Index i) const;
  bool is_scalar(Index i) const;
  std::uint32_t find(std::uint32_t c);
  GroupValue value_of(Index i, Making as) const;
  Parted join_group(Index i, Making as, std::uint32_t latest);
  void place(Index i);
  void place_scalar(Index i, std::uint32_t latest);
  std::uint32_t open(Index i, Step::Kind kind, std::uint32_t stage, GroupSpace space);
  bool in_scalars(Index i) {
    return cluster_[i] != Partition::kNone && clusters_[cluster_[i]].kind == Step::Kind::scalars;
  }
  void collect(Partition& out, const std::vector<bool>& live);
  void mark_crossings(Partition& out, const std::vector<bool>& live);
  void order(Partition& out);

  const Graph& graph_;
  std::vector<std::uint32_t> stage_;
  std::vector<std::uint32_t> cluster_;
  std::vector<Cluster> clusters_;
  std::vector<std::uint32_t> scalars_at_;  // cluster of the scalars of a stage
  std::vector<Parted> parted_;             // from the groups of its latest inputs, by node
};

Making Partitioner::making(Index i) const {
  const Entry& e = graph_[i];
  const auto inputs = graph_.inputs_of(i);
  if (e.size() == 0 || inputs.empty() || e.op->fallible) return Making::single;
  const DType operand = graph_[inputs[e.op->dtypes == DTypeRule::where ? 1 : 0]].dtype;
  if (e.op->kind == OpKind::elementwise)
    return tile_kernel(*e.op, operand, e.attrs.get()) ? Making::pointwise : Making::single;
  if (e.op->fuses) return Making::view;
  if (!e.op->reduces || e.dtype != operand || !e.op->reducers[static_cast<int>(operand)])
    return Making::single;
  // Trailing or leading axes of more than one element altogether.
  const Dims& shape = graph_[inputs[0]].shape;
  const Dims& axes = attrs_as<ReduceAttrs>(e.attrs.get()).axes;
  const bool columns = reduces_columns(shape.size(), axes);
  const std::size_t first = columns ? 0 : shape.size() - axes.size();
  std::int64_t reduced = 1;
  for (std::size_t k = 0; k < axes.size(); ++k) {
    if (axes[k] != static_cast<std::int64_t>(first + k)) return Making::single;
    reduced *= shape[first + k];
  }
  if (reduced <= 1 && graph_[inputs[0]].size() != 1) return Making::single;
  return columns ? Making::columns : Making::reduction;
}

bool Partitioner::is_scalar(Index i) const {
  if (graph_[i].size() != 1) return false;
  for (const Index in : graph_.inputs_of(i))
    if (graph_[in].size() != 1) return false;
  return true;
}

std::uint32_t Partitioner::find(std::uint32_t c) {
  while (clusters_[c].parent != c) c = clusters_[c].parent = clusters_[clusters_[c].parent].parent;
  return c;
}

GroupValue Partitioner::value_of(Index i, Making as) const {
  const Entry& e = graph_[i];
  if (as != Making::reduction && as != Making::columns) return {as, e.shape};
  return {as, e.shape, graph_[graph_.inputs_of(i)[0]].shape,
          static_cast<int>(attrs_as<ReduceAttrs>(e.attrs.get()).axes.size())};
}

/// Joins the groups of the latest inputs, merged into one, or tells why not.
Parted Partitioner::join_group(Index i, Making as, std::uint32_t latest) {
  const auto inputs = graph_.inputs_of(i);
  SmallVector<std::uint32_t, 4> roots;
  std::uint32_t members = 1;
  GroupSpace space;
  const GroupSpace* first = nullptr;
  for (const Index in : inputs) {
    if (stage_[in] != latest) continue;
    const std::uint32_t c = find(cluster_[in]);
    if (clusters_[c].kind != Step::Kind::group) return Parted::single;
    if (std::find(roots.begin(), roots.end(), c) != roots.end()) continue;
    roots.push_back(c);
    members += clusters_[c].members;
    const GroupSpace& s = clusters_[c].space;
    if (!first) {
      first = &s;
      space = s;
    } else if (!(s.full == space.full)) {
      return Parted::shape;
    } else if (!space.merge(s)) {
      return Parted::axes;
    }
  }
  if (members > kMaxMembers) return Parted::members;
  const GroupValue reader = value_of(i, as);
  if (as == Making::reduction || as == Making::columns) {
    if (!std::ranges::equal(reader.operand, space.full)) return Parted::shape;
    if (!space.merge(space_of(reader))) return Parted::axes;
  }
  for (const Index in : inputs) {
    if (stage_[in] != latest) continue;
    const Parted why = space.parted(value_of(in, making(in)), reader);
    if (why != Parted::no) return why;
  }
  const std::uint32_t root = roots[0];
  for (const std::uint32_t c : roots) clusters_[c].parent = root;
  clusters_[root].members = members;
  clusters_[root].space = std::move(space);
  cluster_[i] = root;
  stage_[i] = latest;
  return Parted::no;
}

std::uint32_t Partitioner::open(Index i, Step::Kind kind, std::uint32_t stage, GroupSpace space) {
  const auto c = static_cast<std::uint32_t>(clusters_.size());
  clusters_.push_back({kind, stage, c, 1, std::move(space)});
  cluster_[i] = c;
  stage_[i] = stage;
  return c;
}

/// All scalars of a stage are one group, connected or not: it has no registers to run out of. Those
/// that follow from inputs alone come before all else, at stage 0: an array that meets such a
/// number (a step size, a bias correction) late in its group need not leave the group for it.
void Partitioner::place_scalar(Index i, std::uint32_t latest) {
  std::uint32_t stage = latest;
  for (const Index in : graph_.inputs_of(i))
    if (cluster_[in] != Partition::kNone && stage_[in] == stage && !in_scalars(in)) {
      ++stage;
      break;
    }
  if (scalars_at_.size() <= stage) scalars_at_.resize(stage + 1, Partition::kNone);
  if (scalars_at_[stage] == Partition::kNone) {
    scalars_at_[stage] = open(i, Step::Kind::scalars, stage, {});
    return;
  }
  cluster_[i] = scalars_at_[stage];
  stage_[i] = stage;
}

void Partitioner::place(Index i) {
  std::uint32_t latest = 0;
  for (const Index in : graph_.inputs_of(i)) latest = std::max(latest, stage_[in]);
  const Making as = making(i);
  if (latest > 0) {
    parted_[i] = as == Making::single ? Parted::single : join_group(i, as, latest);
    if (parted_[i] == Parted::no) return;
  }
  if (as != Making::single && is_scalar(i)) return place_scalar(i, latest);
  const Entry& e = graph_[i];
  if (as == Making::pointwise) {
    open(i, Step::Kind::group, latest + 1, {e.shape, 0});
  } else if (as == Making::reduction || as == Making::columns) {
    open(i, Step::Kind::group, latest + 1, space_of(value_of(i, as)));
  } else {
    open(i, Step::Kind::single, latest + 1, {});
  }
}

/// Roots become steps.
void Partitioner::collect(Partition& out, const std::vector<bool>& live) {
  std::vector<std::uint32_t> number(clusters_.size(), Partition::kNone);
  for (Index i = 0; i < graph_.size(); ++i) {
    if (!live[i] || cluster_[i] == Partition::kNone) continue;
    const std::uint32_t c = find(cluster_[i]);
    if (number[c] == Partition::kNone) {
      number[c] = static_cast<std::uint32_t>(out.steps.size());
      const Cluster& cluster = clusters_[c];
      Step& step = out.steps.emplace_back();
      step.kind = cluster.kind;
      step.stage = 2 * cluster.stage;
      step.space = cluster.space;
    }
    out.step_of[i] = number[c];
    out.steps[number[c]].members.push_back(i);
  }
}

/// Finds the values that leave their step. A view inside a group is only a name: where it is read
/// outside, it becomes a step of its own behind the group.
void Partitioner::mark_crossings(Partition& out, const std::vector<bool>& live) {
  for (const Index o : graph_.outputs()) out.crosses[o] = true;
  for (auto i = static_cast<Index>(graph_.size()); i-- > 0;) {
    if (!live[i] || out.step_of[i] == Partition::kNone) continue;
    const std::uint32_t own = out.step_of[i];
    for (const Index in : graph_.inputs_of(i))
      if (out.step_of[in] != own) out.crosses[in] = true;
    if (!out.crosses[i] || !graph_[i].op->fuses || out.steps[own].kind != Step::Kind::group)
      continue;
    out.crosses[graph_.inputs_of(i)[0]] = true;
    const std::uint32_t stage = out.steps[own].stage + 1;
    Step& step = out.steps.emplace_back();
    step.stage = stage;
    step.members.push_back(i);
  }
}

void Partitioner::order(Partition& out) {
  std::vector<std::uint32_t> by(out.steps.size());
  std::iota(by.begin(), by.end(), 0);
  std::sort(by.begin(), by.end(), [&](std::uint32_t a, std::uint32_t b) {
    const Step& x = out.steps[a];
    const Step& y = out.steps[b];
    return x.stage != y.stage ? x.stage < y.stage : x.members[0] < y.members[0];
  });
  std::vector<Step> sorted;
  std::vector<std::uint32_t> to(by.size());
  for (std::uint32_t i = 0; i < by.size(); ++i) {
    to[by[i]] = i;
    sorted.push_back(std::move(out.steps[by[i]]));
  }
  out.steps = std::move(sorted);
  for (std::uint32_t& s : out.step_of)
    if (s != Partition::kNone) s = to[s];
}

Partition Partitioner::run() {
  const std::vector<bool> live = graph_.needed_by(graph_.outputs());
  for (Index i = 0; i < graph_.size(); ++i)
    if (live[i] && graph_[i].kind == Graph::Kind::apply) place(i);
  Partition out;
  out.step_of.assign(graph_.size(), Partition::kNone);
  out.crosses.assign(graph_.size(), false);
  collect(out, live);
  mark_crossings(out, live);
  order(out);
  out.parted = std::move(parted_);
  return out;
}

}  // namespace

Partition partition(const Graph& graph) { return Partitioner(graph).run(); }

}  // namespace adjoint
