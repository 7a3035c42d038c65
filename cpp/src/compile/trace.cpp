// Boxes stand for values of the graph while the function runs. Whatever happens, every touched
// place gets back what it held: a trace has no effect but its result.
#include "compile/trace.h"

#include <algorithm>
#include <unordered_set>

#include "graph/apply.h"

namespace adjoint {

namespace {

Node* record_traced(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                    const Level& level) {
  return level.trace->record(op, inputs, attrs);
}

/// A result of weak numbers is weak. Python's own numbers reach the trace as plain scalars.
std::uint16_t weak_result(const Op& op, std::span<Node* const> inputs, DType dtype) {
  if (op.kind != OpKind::elementwise || is_bool(dtype)) return 0;
  bool any = false;
  for (const Node* in : inputs) {
    const bool weak = traced_weak_kind(in).has_value();
    any |= weak;
    if (!weak && (in->level || in->layout.ndim() != 0)) return 0;
  }
  if (!any) return 0;
  const WeakKind kind = is_floating(dtype) ? WeakKind::floating : WeakKind::integer;
  return static_cast<std::uint16_t>(1 + static_cast<int>(kind));
}

}  // namespace

bool Place::accepts() const noexcept {
  const Node* n = *at;
  if (!n || null) return !n == null;
  return !n->level && n->dtype == dtype && n->requires_grad == requires_grad && n->leaf == leaf &&
         std::ranges::equal(n->layout.shape(), shape);
}

Trace::Trace(SourceFinder find_source, TraceSink* outer)
    : Trace(std::move(find_source), outer, false) {}

Trace::Trace(SourceFinder find_source, TraceSink* outer, bool hidden)
    : scope_(std::make_unique<LevelScope>(Box::trace, record_traced, 0, this, hidden)),
      level_(scope_->level()),
      serial_(scope_->serial()),
      find_source_(std::move(find_source)),
      outer_(outer),
      hidden_(hidden) {}

std::unique_ptr<Trace> Trace::hidden() {
  return std::unique_ptr<Trace>(new Trace({}, nullptr, true));
}

Trace::~Trace() { restore(); }

Node* Trace::box(Graph::Index i, DType dtype, Layout::Extents shape) const {
  Node* n = new_node(dtype, Layout(shape));
  n->level = level_;
  n->box = Box::trace;
  n->box_serial = serial_;
  n->trace_index = i;
  n->state.store(State::boxed, std::memory_order_relaxed);
  return n;
}

Tensor Trace::argument(DType dtype, Layout::Extents shape, std::optional<WeakKind> weak) {
  Node* n = box(graph_.add_input(dtype, shape), dtype, shape);
  if (weak) n->pending = static_cast<std::uint16_t>(1 + static_cast<int>(*weak));
  return Tensor::adopt(n);
}

Graph::Index Trace::index_of(Node* n) {
  if (is_own(n)) return static_cast<Graph::Index>(n->trace_index);
  if (n->level >= level_)
    raise(ErrorKind::runtime, "compile",
          "a value belongs to a transform that has ended: return it from the function instead of "
          "storing it");
  return graph_.add_constant(n);
}

std::uint32_t Trace::source() {
  const std::string* place = find_source_ ? find_source_() : nullptr;
  if (!place) return 0;
  const auto [it, fresh] = sources_.try_emplace(place, 0);
  if (fresh) it->second = graph_.add_source(*place);
  return it->second;
}

Node* Trace::record(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) {
  const ResultSpec spec = infer_result(op, inputs, attrs.get());
  SmallVector<Graph::Index, 8> operands;
  for (Node* in : inputs) operands.push_back(index_of(in));
  const Graph::Index i = graph_.add(op, operands, attrs, spec, source());
  Node* n = box(i, spec.dtype, spec.shape);
  n->pending = weak_result(op, inputs, spec.dtype);
  return n;
}

Node* Trace::constant(Node* value) {
  return box(graph_.add_constant(value), value->dtype, value->layout.shape());
}

bool Trace::moves(const Node* box) {
  return (outer_ || hidden_) && is_own(box) &&
         reach_.reaches(graph_, static_cast<Graph::Index>(box->trace_index));
}

void Trace::touch(Node** at, const std::function<IntrusivePtr<const Payload>()>& owner) {
  if (hidden_) return;
  if (outer_) {
    outer_->touch(at, owner);
    if ((!*at || (*at)->level < level_) && !seen_.contains(at))
      seen_[at] = {*at ? Tensor::share(*at) : Tensor(), owner()};
    return;
  }
  Node* n = *at;
  if (n && n->level) return;
  if (touched_at_.contains(at)) return;
  Touched t{{at, owner(), !n, false, DType::float64, {}, nullptr, Place::kUnchanged, 0},
            Tensor(),
            nullptr};
  if (n) {
    t.place.requires_grad = n->requires_grad;
    t.place.dtype = n->dtype;
    t.place.shape = Dims(n->layout.shape());
    t.place.leaf = n->leaf;
    t.place.input = graph_.add_input(n->dtype, n->layout.shape());
    Node* fresh = box(t.place.input, n->dtype, n->layout.shape());
    fresh->order = n->order;
    fresh->requires_grad = n->requires_grad;
    if (n->leaf) {
      retain(n->leaf);
      fresh->leaf = n->leaf;
    } else if (n->requires_grad && thread_state().recording) {
      captures_history_ = true;
    }
    t.original = Tensor::adopt(n);
    t.box = *at = fresh;
  }
  touched_at_.emplace(at, touched_.size());
  touched_.push_back(std::move(t));
}

void Trace::refuse_rebinding(const char* what) {
  bool rebound = false;
  for (const auto& [at, seen] : seen_) {
    if (*at == seen.held.node()) continue;
    rebound = true;
    if (Node* held = std::exchange(*at, Tensor(seen.held).detach_node())) release_handle(held);
  }
  if (rebound)
    raise(ErrorKind::runtime, what,
          "the function assigns to a tensor, or to a generator's state, outside of it: carry the "
          "value through the loop instead");
}

void Trace::restore() noexcept {
  for (Touched& t : touched_) {
    Node* held = std::exchange(*t.place.at, t.original.detach_node());
    if (held) release_handle(held);
  }
  touched_.clear();
  touched_at_.clear();
  scope_.reset();
}

/// What the places hold at the end becomes outputs of the graph.
void Trace::close_places(Traced& traced, std::vector<Graph::Index>& outputs) {
  std::unordered_set<Node**> gradients;
  for (const Touched& t : touched_)
    if (t.place.leaf) gradients.insert(&t.place.leaf->grad);
  for (Touched& t : touched_) {
    Node* held = *t.place.at;
    bool changed = held != t.box;
    if (!held) {
      if (changed) t.place.output = Place::kCleared;
    } else if (changed) {
      const Graph::Index i = index_of(held);
      changed = t.place.null || i != t.place.input;
      if (changed) {
        t.place.output = static_cast<std::uint32_t>(outputs.size());
        outputs.push_back(i);
      }
      if (!t.place.leaf && held->requires_grad) traced.connected = true;
    }
    if (changed && !traced.steps) traced.steps = t.place.leaf || gradients.contains(t.place.at);
    traced.places.push_back(t.place);
  }
}

Traced Trace::finish(std::span<const Tensor> results) {
  Traced traced;
  std::vector<Graph::Index> outputs;
  for (const Tensor& t : results) {
    outputs.push_back(index_of(t.node()));
    traced.connected |= t.requires_grad();
  }
  traced.captures_history = captures_history_;
  close_places(traced, outputs);
  restore();
  for (const Graph::Index o : outputs) graph_.add_output(o);
  traced.graph = std::move(graph_);
  return traced;
}

}  // namespace adjoint
