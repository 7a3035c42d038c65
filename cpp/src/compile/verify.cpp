// What is checked is what a pass promises, derived anew from its result and by other means than
// the pass used.
#include "compile/verify.h"

#include <algorithm>
#include <map>

#include "graph/apply.h"
#include "graph/results.h"

namespace adjoint {

namespace {

using Index = Graph::Index;

[[noreturn]] void broken(const std::string& what) { raise(ErrorKind::runtime, "compile", what); }

std::string numbered(const char* what, std::size_t i) {
  return std::string(what) + ' ' + std::to_string(i);
}

/// Walks over a plan as a run does, and keeps track of which place holds what.
class PlanWalk {
 public:
  explicit PlanWalk(const Plan& plan)
      : plan_(plan), written_(plan.places.size(), false), last_read_(plan.places.size(), 0) {
    for (const PlaceIndex p : plan.inputs)
      if (p != kNoPlace) written_[p] = true;
    for (const Plan::Constant& c : plan.constants) written_[c.place] = true;
    for (std::size_t s = 0; s < plan.instructions.size(); ++s)
      for (const PlaceIndex p : plan.list(plan.instructions[s].reads)) last_read_[p] = s;
  }

  void run() {
    for (std::size_t s = 0; s < plan_.instructions.size(); ++s) step(s);
    for (const PlaceIndex p : plan_.outputs)
      if (!written_[p]) broken(numbered("no step writes the output at place", p));
  }

 private:
  void step(std::size_t s) {
    const Instruction& at = plan_.instructions[s];
    const auto writes = plan_.list(at.writes);
    const auto givers = plan_.list(at.givers);
    for (const PlaceIndex p : plan_.list(at.reads))
      if (!written_[p]) broken(numbered("a step reads what is not there: place", p));
    for (std::size_t i = 0; i < writes.size(); ++i) {
      const PlaceIndex p = writes[i];
      if (written_[p]) broken(numbered("written twice: place", p));
      written_[p] = true;
      const PlaceIndex giver = i < givers.size() ? givers[i] : kNoPlace;
      if (giver != kNoPlace && last_read_[giver] != s)
        broken(numbered("gives its memory and is read again: place", giver));
      if (!plan_.places[p].is_node) occupy(p, giver);
    }
    for (const PlaceIndex p : plan_.list(at.frees)) {
      if (!written_[p] || last_read_[p] > s) broken(numbered("freed too early: place", p));
      written_[p] = false;
    }
    for (const PlaceIndex p : plan_.list(at.reads))
      if (last_read_[p] == s) vacate(p);
    for (const PlaceIndex p : writes)
      if (last_read_[p] <= s) vacate(p);
  }

  void occupy(PlaceIndex p, PlaceIndex giver) {
    const PlannedPlace& place = plan_.places[p];
    if (place.offset + place.bytes > plan_.arena_bytes)
      broken(numbered("outside of the arena: place", p));
    if (giver != kNoPlace) vacate(giver);
    const auto next = taken_.lower_bound(place.offset);
    const bool above = next != taken_.end() && next->first < place.offset + place.bytes;
    const bool below = next != taken_.begin() && end_of(std::prev(next)->second) > place.offset;
    if (above || below) broken(numbered("overlaps memory in use: place", p));
    taken_[place.offset] = p;
  }
  void vacate(PlaceIndex p) {
    const auto it = taken_.find(plan_.places[p].offset);
    if (it != taken_.end() && it->second == p) taken_.erase(it);
  }
  std::size_t end_of(PlaceIndex p) const { return plan_.places[p].offset + plan_.places[p].bytes; }

  const Plan& plan_;
  std::vector<bool> written_;
  std::vector<std::size_t> last_read_;       // step, by place
  std::map<std::size_t, PlaceIndex> taken_;  // parts of the arena, by offset
};

bool same_spec(const ResultSpec& a, const ResultSpec& b) {
  return a.dtype == b.dtype && a.shape == b.shape;
}

std::string text_of(std::span<const ResultSpec> specs) {
  std::string out;
  for (const ResultSpec& spec : specs)
    out += (out.empty() ? "" : ", ") + std::string(name(spec.dtype)) + ' ' + to_string(spec.shape);
  return out;
}

/// A value of which nothing is looked at but shapes and dtypes.
Tensor shell(std::span<const ResultSpec> specs, bool tuple) {
  std::vector<Tensor> values;
  for (const ResultSpec& spec : specs)
    values.push_back(Tensor::adopt(new_node(spec.dtype, Layout(spec.shape))));
  return tuple ? Tensor::adopt(new_tuple(values)) : values[0];
}

}  // namespace

void verify(const Graph& graph) {
  std::vector<Tensor> shells(graph.size());
  std::vector<Node*> operands;
  for (Index i = 0; i < graph.size(); ++i) {
    const Graph::Entry& e = graph[i];
    operands.clear();
    for (const Index in : graph.inputs_of(i)) {
      if (in >= i) broken(numbered("an input comes after its reader: node", i));
      operands.push_back(shells[in].node());
    }
    const ResultSpec only{e.dtype, e.shape};
    const auto wanted = e.tuple ? graph.results_of(i) : std::span(&only, 1);
    shells[i] = shell(wanted, e.tuple);
    if (e.kind != Graph::Kind::apply) continue;
    const ResultList given = infer_results(*e.op, operands, e.attrs.get());
    if (!std::ranges::equal(given.all(), wanted, same_spec))
      broken(numbered("node", i) + " is " + text_of(wanted) + ", and " + e.op->name +
             (e.attrs ? to_string(*e.attrs) : "") + " gives " + text_of(given.all()));
  }
  for (const Index o : graph.outputs())
    if (o >= graph.size()) broken(numbered("an output is not there: node", o));
}

void verify(const Partition& parts, const Graph& graph) {
  std::vector<bool> done(graph.size(), false);
  for (Index i = 0; i < graph.size(); ++i) done[i] = graph[i].kind != Graph::Kind::apply;
  for (std::uint32_t s = 0; s < parts.steps.size(); ++s) {
    for (const Index i : parts.steps[s].members) {
      if (parts.step_of[i] == s && done[i]) broken(numbered("runs twice: node", i));
      for (const Index in : graph.inputs_of(i)) {
        if (!done[in]) broken(numbered("runs before its inputs: node", i));
        if (parts.step_of[in] != s && !parts.crosses[in])
          broken(numbered("read outside of its step, and does not cross: node", in));
      }
      done[i] = true;
    }
  }
  for (const Index o : graph.outputs())
    if (!done[o] || !parts.crosses[o]) broken(numbered("no step makes the output, node", o));
}

void verify(const Plan& plan) { PlanWalk(plan).run(); }

}  // namespace adjoint
