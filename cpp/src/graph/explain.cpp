// Values are numbered in the order in which the work mentions them; one number means one value
// throughout an explanation.
#include "graph/explain.h"

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "graph/defer.h"

namespace adjoint {

namespace {

class Explainer {
 public:
  void add(const PlannedGroup& plan) {
    ExplainedGroup out{plan.space.full, plan.space.reduced, plan.space.lead, {}, {}};
    for (const PlannedGroup::Member& m : plan.members) {
      for (const Node* in : m.node->inputs()) number_of(in);
      number_of(m.node);
    }
    for (const PlannedGroup::Read& read : plan.reads) out.reads.push_back(read_value(read));
    std::ranges::sort(out.reads, {}, &ExplainedValue::number);
    for (const PlannedGroup::Member& m : plan.members) {
      ExplainedValue v = value_of(m.node);
      v.made_by = m.node->op->name;
      if (m.node->attrs) v.attrs = to_string(*m.node->attrs);
      for (const Node* in : m.node->inputs()) v.inputs.push_back(number_of(in));
      v.note = m.stored ? "stored" : m.remains ? "recomputed when asked for" : "";
      if (m.node->computed_once) v.note += v.note.empty() ? "recomputed" : ", recomputed";
      out.members.push_back(std::move(v));
      if (m.stored) made_in_[m.node] = groups.size() + 1;
    }
    groups.push_back(std::move(out));
  }

  std::vector<ExplainedGroup> groups;

 private:
  std::size_t number_of(const Node* n) {
    return numbers_.emplace(n, numbers_.size()).first->second;
  }

  ExplainedValue value_of(const Node* n) {
    return {number_of(n), "", {}, n->dtype, Dims(n->layout.shape()), ""};
  }

  ExplainedValue read_value(const PlannedGroup::Read& read) {
    ExplainedValue v = value_of(read.node);
    const auto made = made_in_.find(read.node);
    v.made_by = made == made_in_.end() ? "memory" : "group " + std::to_string(made->second);
    if (read.why != Parted::ready) v.note = describe(read.why);
    return v;
  }

  std::unordered_map<const Node*, std::size_t> numbers_;
  std::unordered_map<const Node*, std::size_t> made_in_;  // number of the group
};

void print(std::ostream& out, const ExplainedValue& v) {
  out << "\n  %" << v.number << " = " << v.made_by;
  for (const std::size_t in : v.inputs) out << " %" << in;
  out << v.attrs << " : " << name(v.dtype) << ' ' << to_string(v.shape);
  if (!v.note.empty()) out << "  # " << v.note;
}

void print_axes(std::ostream& out, const char* what, int axes) {
  if (axes) out << what;
  if (axes == 1) out << " axis";
  if (axes > 1) out << ' ' << axes << " axes";
}

}  // namespace

std::vector<ExplainedGroup> explain(std::span<Node* const> nodes) {
  Explainer explainer;
  foresee(nodes, [&](const PlannedGroup& plan) { explainer.add(plan); });
  return std::move(explainer.groups);
}

std::string to_string(std::span<const ExplainedGroup> groups) {
  std::ostringstream out;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const ExplainedGroup& g = groups[i];
    out << (i ? "\ngroup " : "group ") << i + 1 << " over " << to_string(g.space);
    print_axes(out, ", reducing the last", g.reduced);
    print_axes(out, g.reduced ? " and the first" : ", reducing the first", g.lead);
    out << ": " << g.members.size() << (g.members.size() > 1 ? " operations" : " operation");
    for (const ExplainedValue& v : g.reads) print(out, v);
    for (const ExplainedValue& v : g.members) print(out, v);
  }
  return groups.empty() ? "nothing is deferred" : out.str();
}

}  // namespace adjoint
