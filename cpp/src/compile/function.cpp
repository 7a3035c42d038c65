// A recorded call at level 0 runs the first half of the sweep with the function, and the second
// when cotangents arrive. Under levels the value is made from inputs without history, and the
// derivative is a rule whose two directions are functions of graphs again.
#include "compile/function.h"

#include <algorithm>
#include <tuple>

#include "compile/differentiate.h"
#include "graph/thread_state.h"
#include "ops/structural.h"
#include "transforms/custom.h"
#include "transforms/levels.h"

namespace adjoint {

namespace {

using Mask = GraphFunction::Mask;

/// Functions of one kind that are kept, such as the batches of different sizes.
constexpr std::size_t kMaxDerived = 32;
/// Sets of inputs that require grad whose programs are kept: entries stay where they are, so the
/// first ones do.
constexpr std::size_t kMaxRecorded = 256;

bool any(const Mask& mask) { return std::ranges::find(mask, true) != mask.end(); }

template <class T>
std::vector<T> chosen(std::span<const T> from, const Mask& mask) {
  std::vector<T> out;
  for (std::size_t i = 0; i < from.size(); ++i)
    if (mask[i]) out.push_back(from[i]);
  return out;
}

std::vector<Tensor> run(const CompiledProgram& program, std::span<Node* const> in) {
  SmallVector<Node*, 16> out;
  out.resize(program.graph().outputs().size());
  program.execute(in, {out.data(), out.size()});
  std::vector<Tensor> results;
  results.reserve(out.size());
  for (Node* n : out) results.push_back(Tensor::adopt(n));
  return results;
}

std::vector<Tensor> run(const CompiledProgram& program, std::span<const Tensor> inputs) {
  SmallVector<Node*, 16> in;
  for (const Tensor& t : inputs) in.push_back(t.node());
  return run(program, in);
}

bool in_trace(const Tensor& x) {
  const Node* n = innermost(x.node());
  return n->level != 0;
}

/// The batches along which the value differs, outermost first.
SmallVector<std::uint16_t, 4> batch_levels(const Tensor& x) {
  SmallVector<std::uint16_t, 4> out;
  for (const Node* n = x.node(); n && n->level && n->box != Box::trace; n = n->boxed.primal)
    if (n->box == Box::batch) out.push_back(n->level);
  std::ranges::reverse(out);
  return out;
}

std::vector<ResultSpec> specs_at(const Graph& graph, const Mask& mask) {
  return chosen<ResultSpec>(graph.results(), mask);
}

}  // namespace

struct GraphFunction::Recorded {
  Mask wanted, seeds;
  CompiledProgram forward;
  CompiledProgram backward;
  std::vector<std::uint32_t> kept;

  Recorded(ForwardBackward cut, Mask wanted, Mask seeds)
      : wanted(std::move(wanted)),
        seeds(std::move(seeds)),
        forward(cut.forward),
        backward(cut.backward),
        kept(std::move(cut.kept)) {}
};

/// The derivative of one call.
class GraphFunction::Rule final : public DerivativeRule {
 public:
  Rule(std::shared_ptr<const GraphFunction> f, Mask wanted, Mask seeds)
      : DerivativeRule(specs_at(f->graph(), seeds)),
        f_(std::move(f)),
        wanted_(std::move(wanted)),
        seeds_(std::move(seeds)) {}

  /// What a recorded call has made for its backward program, beside its inputs.
  void keep(std::shared_ptr<const Recorded> recorded, std::vector<Tensor> made) {
    recorded_ = std::move(recorded);
    made_ = std::move(made);
  }

  std::vector<Tensor> pull(std::span<const Tensor> inputs, std::span<const Tensor> given_cotangents,
                           Wanted) const override {
    const bool complete = std::ranges::all_of(given_cotangents, &Tensor::defined);
    const std::vector<Tensor> made =
        complete ? std::vector<Tensor>() : all_defined(given_cotangents);
    const std::span<const Tensor> cotangents = complete ? given_cotangents : made;
    std::vector<Tensor> found;
    if (recorded_ && !thread_state().recording && std::ranges::none_of(cotangents, in_level)) {
      SmallVector<Node*, 16> given;
      std::size_t next = 0;
      for (const std::uint32_t i : recorded_->kept)
        given.push_back((i == ForwardBackward::kResult ? made_[next++] : inputs[i]).node());
      for (const Tensor& ct : cotangents) given.push_back(ct.node());
      found = run(recorded_->backward, given);
    } else {
      std::vector<Tensor> given(inputs.begin(), inputs.end());
      given.insert(given.end(), cotangents.begin(), cotangents.end());
      found = f_->pullback(wanted_, seeds_)->call(given);
    }
    std::vector<Tensor> out(inputs.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < out.size(); ++i)
      if (wanted_[i]) out[i] = std::move(found[next++]);
    return out;
  }

  std::vector<Tensor> push(std::span<const Tensor> inputs,
                           std::span<const Tensor> tangents) const override {
    Mask moving(inputs.size(), false);
    std::vector<Tensor> given(inputs.begin(), inputs.end());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if ((moving[i] = wanted_[i] && tangents[i].defined())) given.push_back(tangents[i]);
    return f_->pushforward(moving, seeds_)->call(given);
  }

 private:
  static bool in_level(const Tensor& x) { return x.node()->level != 0; }

  std::shared_ptr<const GraphFunction> f_;
  Mask wanted_, seeds_;
  std::shared_ptr<const Recorded> recorded_;
  std::vector<Tensor> made_;
};

GraphFunction::GraphFunction(Graph graph, Mask moves, Mask recorded,
                             std::span<const std::uint32_t> donated, bool names_levels)
    : graph_(std::move(graph)),
      moves_(std::move(moves)),
      recorded_outputs_(std::move(recorded)),
      program_(graph_, donated),
      names_levels_(names_levels) {}

GraphFunction::~GraphFunction() = default;

std::shared_ptr<const GraphFunction> GraphFunction::of(Graph graph, bool names_levels) {
  Mask moves, recorded;
  Reach forward(Reach::Mode::forward), reverse(Reach::Mode::reverse);
  for (const Graph::Index o : graph.outputs()) {
    recorded.push_back(reverse.reaches(graph, o));
    moves.push_back(recorded.back() || forward.reaches(graph, o));
  }
  const auto out =
      std::make_shared<GraphFunction>(std::move(graph), std::move(moves), std::move(recorded),
                                      std::span<const std::uint32_t>(), names_levels);
  out->derived_from_graph_ = true;
  return out;
}

bool GraphFunction::records() const noexcept { return any(recorded_outputs_); }

Mask GraphFunction::reached(Reach::Mode mode, const Mask& from, const Mask& outputs) const {
  Reach reach(mode);
  for (std::size_t i = 0; i < from.size(); ++i)
    if (!from[i]) reach.exclude(static_cast<std::uint32_t>(i));
  Mask out;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    out.push_back(outputs[i] && reach.reaches(graph_, graph_.outputs()[i]));
  return out;
}

// ------------------------------------------------------------------------- derived functions

/// Two threads may make the same one; the first is kept. What is dropped is let go of without the
/// mutex, since a payload of it may need the embedding language's lock.
template <class Make>
std::shared_ptr<const GraphFunction> GraphFunction::derived(Derived kind, Key key,
                                                            Make make) const {
  Entries& entries = derived_[static_cast<std::size_t>(kind)];
  const auto known = [&]() -> std::shared_ptr<const GraphFunction> {
    const auto at = std::ranges::find(entries, key, &Entries::value_type::first);
    if (at == entries.end()) return nullptr;
    std::rotate(entries.begin(), at, at + 1);
    return entries.front().second;
  };
  {
    const std::lock_guard lock(mutex_);
    if (auto f = known()) return f;
  }
  std::shared_ptr<const GraphFunction> fresh = of(make(), names_levels_);
  std::shared_ptr<const GraphFunction> dropped;
  const std::lock_guard lock(mutex_);
  if (auto f = known()) return f;
  if (entries.size() >= kMaxDerived) {
    dropped = std::move(entries.back().second);
    entries.pop_back();
  }
  entries.emplace(entries.begin(), std::move(key), fresh);
  return fresh;
}

std::shared_ptr<const GraphFunction> GraphFunction::pullback(const Mask& wanted,
                                                             const Mask& seeds) const {
  return derived(Derived::pullback, {wanted, seeds, 0},
                 [&] { return pull_back(graph_, wanted, seeds); });
}

std::shared_ptr<const GraphFunction> GraphFunction::pushforward(const Mask& moving,
                                                                const Mask& results) const {
  const std::int64_t level = names_levels_ ? thread_state().served : 0;
  return derived(Derived::pushforward, {moving, results, level},
                 [&] { return push_forward(graph_, moving, results); });
}

std::shared_ptr<const GraphFunction> GraphFunction::batched(const Mask& mapped,
                                                            std::int64_t size) const {
  return derived(Derived::batch, {mapped, {}, size},
                 [&] { return batch_graph(graph_, mapped, size); });
}

std::shared_ptr<const GraphFunction::Recorded> GraphFunction::recorded(const Mask& wanted) const {
  const auto* latest = latest_.load(std::memory_order_acquire);
  if (latest && latest->first == wanted) return latest->second;
  const auto found = [&](auto at) {
    latest_.store(&*at, std::memory_order_release);
    return at->second;
  };
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = recorded_.find(wanted); it != recorded_.end()) return found(it);
  }
  Mask seeds = reached(Reach::Mode::reverse, wanted, recorded_outputs_);
  Mask leading = connected(wanted);
  auto fresh = std::make_shared<const Recorded>(cut_sweep(graph_, leading, seeds), leading, seeds);
  const std::lock_guard lock(mutex_);
  if (recorded_.size() >= kMaxRecorded) return fresh;
  return found(recorded_.emplace(wanted, std::move(fresh)).first);
}

/// A derived function that a record holds too is not this one's own.
void GraphFunction::list(Holdings& out) const {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  graph_.list(out);
  program_.list(out);
  for (const Entries& entries : derived_)
    for (const auto& [key, f] : entries)
      if (f.use_count() == 1) f->list(out);
  for (const auto& [wanted, pair] : recorded_) {
    if (pair.use_count() != 1) continue;
    pair->forward.list(out);
    pair->backward.list(out);
  }
}

// -------------------------------------------------------------------------------------- calls

std::vector<Tensor> GraphFunction::call(std::span<const Tensor> inputs) const {
  if (std::ranges::any_of(inputs, in_trace)) return graph_.replay(inputs);
  const bool leveled = std::ranges::any_of(inputs, [](const Tensor& x) { return x.node()->level; });
  Mask wanted;
  for (const Tensor& x : inputs)
    wanted.push_back(is_differentiable(x.dtype()) &&
                     (leveled ? is_differentiated(x)
                              : x.requires_grad() && !is_severed(thread_state(), x.node())));
  if (!leveled) {
    if (!records() || !any(wanted)) return run(program_, inputs);
    // A traced function was told what is recorded, and may have said so itself, under no_grad.
    if (derived_from_graph_ && !thread_state().recording) return run(program_, inputs);
    const ThreadState& state = thread_state();
    const FieldScope<&ThreadState::constant_order> said(state.recording ? state.constant_order : 0);
    const RecordingScope recording(true);
    return call_recorded(inputs, wanted);
  }
  std::vector<Tensor> out = call_constant(inputs);
  Mask seeds = reached(Reach::Mode::forward, wanted, moves_);
  const Mask swept = reached(Reach::Mode::reverse, wanted, recorded_outputs_);
  for (std::size_t i = 0; i < seeds.size(); ++i) seeds[i] = seeds[i] || swept[i];
  if (!any(wanted) || !any(seeds)) return out;
  for (const auto& [levels, group] : by_batches(inputs, seeds))
    attach_derivative(out, inputs, wanted, group, levels);
  return out;
}

/// The outputs among `seeds`, by the batch levels on which they depend: an output that is the same
/// for every member must not get the derivative of one that differs.
std::map<std::vector<std::uint16_t>, Mask> GraphFunction::by_batches(std::span<const Tensor> inputs,
                                                                     const Mask& seeds) const {
  std::map<std::uint16_t, Mask> mapped;  // inputs by the level along which they differ
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (const std::uint16_t level : batch_levels(inputs[i]))
      mapped.try_emplace(level, inputs.size(), false).first->second[i] = true;
  std::vector<std::vector<std::uint16_t>> levels(seeds.size());
  for (const auto& [level, from] : mapped) {
    const std::vector<bool> depends = graph_.depending_on(from);
    for (std::size_t i = 0; i < seeds.size(); ++i)
      if (depends[graph_.outputs()[i]]) levels[i].push_back(level);
  }
  std::map<std::vector<std::uint16_t>, Mask> out;
  for (std::size_t i = 0; i < seeds.size(); ++i)
    if (seeds[i]) out.try_emplace(levels[i], seeds.size(), false).first->second[i] = true;
  return out;
}

/// Gives the outputs `seeds`, which depend on no batch but these, their derivative.
void GraphFunction::attach_derivative(std::vector<Tensor>& out, std::span<const Tensor> inputs,
                                      Mask wanted, const Mask& seeds,
                                      std::span<const std::uint16_t> levels) const {
  std::vector<Tensor> given(inputs.begin(), inputs.end());
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto own = batch_levels(given[i]);
    if (std::ranges::includes(levels, own)) continue;
    given[i] = zeros_view(given[i].shape(), given[i].dtype());
    wanted[i] = false;
  }
  if (!any(wanted)) return;
  IntrusivePtr<const DerivativeRule> rule(new Rule(shared_from_this(), std::move(wanted), seeds));
  std::vector<Tensor> moved = with_derivative(chosen<Tensor>(out, seeds), given, std::move(rule));
  std::size_t next = 0;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (seeds[i]) out[i] = std::move(moved[next++]);
}

/// Without the inputs from which no derivative leads to an output that is recorded.
Mask GraphFunction::connected(Mask wanted) const {
  std::vector<bool> needed(graph_.size(), false);
  for (std::size_t i = 0; i < recorded_outputs_.size(); ++i)
    if (recorded_outputs_[i]) needed[graph_.outputs()[i]] = true;
  for (auto i = static_cast<Graph::Index>(graph_.size()); i-- > 0;) {
    const Graph::Entry& e = graph_[i];
    if (!needed[i] || e.kind != Graph::Kind::apply || e.op->no_reverse) continue;
    for (std::size_t k = 0; k < e.count; ++k)
      if (e.op->differentiable() && !e.op->is_constant_in(k)) needed[graph_.inputs_of(i)[k]] = true;
  }
  for (std::size_t i = 0; i < wanted.size(); ++i)
    wanted[i] = wanted[i] && needed[graph_.inputs()[i]];
  return wanted;
}

std::vector<Tensor> GraphFunction::call_recorded(std::span<const Tensor> inputs,
                                                 const Mask& wanted) const {
  const std::shared_ptr<const Recorded> pair = recorded(wanted);
  if (!any(pair->seeds)) return run(program_, inputs);
  std::vector<Tensor> out = run(pair->forward, inputs);
  const auto results = static_cast<std::ptrdiff_t>(graph_.outputs().size());
  std::vector<Tensor> made(std::make_move_iterator(out.begin() + results),
                           std::make_move_iterator(out.end()));
  out.resize(graph_.outputs().size());
  auto* rule = new Rule(shared_from_this(), pair->wanted, pair->seeds);
  IntrusivePtr<const DerivativeRule> held(rule);
  rule->keep(pair, std::move(made));
  std::vector<Tensor> moved =
      recorded_with_derivative(chosen<Tensor>(out, pair->seeds), inputs, std::move(held));
  std::size_t next = 0;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (pair->seeds[i]) out[i] = std::move(moved[next++]);
  return out;
}

/// The values, without history or tangents.
std::vector<Tensor> GraphFunction::call_constant(std::span<const Tensor> inputs) const {
  std::vector<Tensor> values;
  std::uint16_t level = 0;
  for (const Tensor& x : inputs) {
    Node* n = x.node();
    while (n->box == Box::dual) n = n->boxed.primal;
    values.push_back(n->requires_grad ? Tensor::share(n).detach() : Tensor::share(n));
    level = std::max(level, n->level);
  }
  return level ? call_batched(values, level) : run(program_, values);
}

std::vector<Tensor> GraphFunction::call_batched(std::span<const Tensor> inputs,
                                                std::uint16_t number) const {
  const Level level = thread_state().levels[number - 1u];
  Mask mapped;
  std::vector<Tensor> inner;
  for (const Tensor& x : inputs) {
    const Node* n = x.node();
    mapped.push_back(n->level == number);
    if (mapped.back() && n->box_serial != level.serial)
      raise(ErrorKind::runtime, "compile",
            "an input belongs to a transform that has ended: return it from the transformed "
            "function instead of storing it");
    inner.push_back(mapped.back() ? Tensor::share(n->boxed.primal) : x);
  }
  std::vector<Tensor> out = batched(mapped, level.batch_size)->call_constant(inner);
  const std::vector<bool> depends = graph_.depending_on(mapped);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (depends[graph_.outputs()[i]]) out[i] = box_batch(level, std::move(out[i]));
  return out;
}

}  // namespace adjoint
