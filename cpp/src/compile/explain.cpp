// A program does not keep its partition; it is made once more, which gives the same.
#include "compile/explain.h"

#include <algorithm>

#include "compile/partition.h"

namespace adjoint {

namespace {

using Index = Graph::Index;
using Step = Partition::Step;

class Explainer {
 public:
  explicit Explainer(const Graph& graph)
      : graph_(graph),
        parts_(partition(graph)),
        read_by_(graph.size(), Partition::kNone),
        group_of_(parts_.steps.size(), 0) {}

  std::vector<ExplainedGroup> run() {
    std::vector<ExplainedGroup> groups;
    for (std::uint32_t s = 0; s < parts_.steps.size(); ++s) {
      if (parts_.steps[s].kind == Step::Kind::single) continue;
      groups.push_back(group(s));
      group_of_[s] = groups.size();
    }
    return groups;
  }

 private:
  ExplainedGroup group(std::uint32_t s) {
    const Step& step = parts_.steps[s];
    ExplainedGroup out{step.space.full, step.space.reduced, step.space.lead, {}, {}};
    for (const Index i : step.members) {
      ExplainedValue v = value_of(i, graph_[i].op->name, parts_.crosses[i] ? "stored" : "");
      if (graph_[i].attrs) v.attrs = to_string(*graph_[i].attrs);
      for (const Index in : graph_.inputs_of(i)) {
        v.inputs.push_back(in);
        if (parts_.step_of[in] == s || read_by_[in] == s) continue;
        read_by_[in] = s;
        out.reads.push_back(read_value(i, in));
      }
      out.members.push_back(std::move(v));
    }
    return out;
  }

  ExplainedValue value_of(Index i, std::string made_by, std::string_view note) const {
    return {i, std::move(made_by), {}, graph_[i].dtype, graph_[i].shape, std::string(note)};
  }

  /// What the group of `reader` reads, and why it does not compute it.
  ExplainedValue read_value(Index reader, Index in) const {
    const Graph::Entry& e = graph_[in];
    if (e.kind == Graph::Kind::input) return value_of(in, "input " + std::to_string(e.first), "");
    if (e.kind == Graph::Kind::constant) return value_of(in, "constant", "");
    const std::size_t group = group_of_[parts_.step_of[in]];
    const Op& maker = e.op->part ? *graph_[graph_.inputs_of(in)[0]].op : *e.op;
    if (!group) return value_of(in, maker.name, describe(Parted::single));
    return value_of(in, "group " + std::to_string(group), describe(why(reader, in)));
  }

  Parted why(Index reader, Index in) const {
    std::uint32_t latest = 0;
    for (const Index other : graph_.inputs_of(reader))
      if (graph_[other].kind == Graph::Kind::apply) latest = std::max(latest, stage_of(other));
    const Parted left = parts_.parted[reader];
    return stage_of(in) < latest || left == Parted::no ? Parted::earlier : left;
  }
  std::uint32_t stage_of(Index i) const { return parts_.steps[parts_.step_of[i]].stage; }

  const Graph& graph_;
  const Partition parts_;
  std::vector<std::uint32_t> read_by_;  // the latest step that reads a node
  std::vector<std::size_t> group_of_;   // by step: number of the group, 0 when it is none
};

}  // namespace

std::vector<ExplainedGroup> explain(const Graph& graph) { return Explainer(graph).run(); }

}  // namespace adjoint
