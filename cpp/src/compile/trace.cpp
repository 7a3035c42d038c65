// Boxes stand for values of the graph while the function runs.
#include "compile/trace.h"

#include <algorithm>

#include "graph/apply.h"
#include "transforms/custom.h"
#include "transforms/levels.h"

namespace adjoint {

namespace {

Node* record_traced(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                    const Level& level) {
  return level.trace->record(op, inputs, attrs);
}

std::vector<Tensor> record_all_traced(const Op& op, std::span<Node* const> inputs,
                                      const AttrsPtr& attrs, const Level& level) {
  return level.trace->record_all(op, inputs, attrs);
}

/// Whether a Python int fits an integer type of few bits depends on its value.
void check_cast(const Node* from, DType to) {
  if (traced_weak_kind(from) == WeakKind::integer && !is_floating(to) && to != DType::int64)
    need_value(from);
}

/// Whether a reverse transform may record what is computed from the value. The primal of a dual
/// number is recorded where the dual is not, and one program serves both.
bool may_be_recorded(const Node* n) {
  for (; n && n->level && n->box != Box::trace; n = n->boxed.primal)
    if (n->requires_grad || n->box == Box::dual) return true;
  return n && n->requires_grad;
}

}  // namespace

bool Place::accepts(const Tensor& held) const noexcept {
  const Node* n = held.node();
  if (!n || null) return !n == null;
  return n->dtype == dtype && n->requires_grad == requires_grad && n->leaf == leaf &&
         is_differentiated(held) == moves && std::ranges::equal(n->layout.shape(), shape);
}

/// Reads and writes of cells from outside of a compiled function.
class Trace::Cells final : public CellScope {
 public:
  void attach(Trace& trace) { trace_ = &trace; }
  Tensor read(const Cell& cell) override {
    if (const Redirect* r = redirected(cell)) return Tensor::share(*r->to.at);
    return touched(cell).value;
  }
  void write(const Cell& cell, Tensor value) override {
    if (const Redirect* r = redirected(cell)) return write_cell(r->to, std::move(value));
    Touched& t = touched(cell);
    if (value.defined()) {
      const Standing to = standing(cell);
      const bool some = to.inside && !to.levels.empty();
      if (!to.inside || some) value = trace_->kept(std::move(value), to.kept());
      trace_->names_levels_ |= some;
    }
    trace_->steps_ |= cell.kind == Cell::Kind::gradient && value.defined();
    t.value = value.defined() ? kept_value(cell.leaf, std::move(value), t.value.node()) : Tensor();
  }
  void check(const Cell&, const Tensor&) override {}
  const Cell* stand_in_for(const Cell& cell) override {
    const Redirect* r = redirected(cell);
    return r ? &r->to : nullptr;
  }
  const char* refuses_leaves() const noexcept override { return "compile"; }
  bool is_trace() const noexcept override { return true; }

 private:
  const Redirect* redirected(const Cell& cell) {
    const auto it = trace_->redirects_.find(cell.at);
    if (it == trace_->redirects_.end()) return nullptr;
    *it->second.used = true;
    return &it->second;
  }
  Touched& touched(const Cell& cell) {
    const auto it = trace_->touched_at_.find(cell.at);
    return it != trace_->touched_at_.end() ? trace_->touched_[it->second]
                                           : trace_->touch(cell, read_outside(cell));
  }
  Trace* trace_ = nullptr;
};

Trace::Trace(SourceFinder find_source)
    : Trace(std::move(find_source), std::make_unique<Cells>(), false) {
  static_cast<Cells&>(*cells_).attach(*this);
}

Trace::Trace(SourceFinder find_source, std::unique_ptr<CellScope> cells, bool hidden)
    : scope_(std::make_unique<LevelScope>(Box::trace, Interpreter{record_traced, record_all_traced},
                                          0, this, hidden)),
      level_(scope_->level()),
      serial_(scope_->serial()),
      find_source_(std::move(find_source)),
      reach_(Reach::Mode::forward, [this](const Tensor& x) { return captured_moves(x); }),
      reverse_(Reach::Mode::reverse, [this](const Tensor& x) { return captured_moves(x); }),
      hidden_(hidden),
      cells_(std::move(cells)) {}

std::unique_ptr<Trace> Trace::body(SourceFinder find_source, const char* what) {
  return std::unique_ptr<Trace>(
      new Trace(std::move(find_source), std::make_unique<RefusingScope>(what), false));
}

void Trace::take_outer_work() { thread_state().levels[level_ - 1u].whole = true; }

std::unique_ptr<Trace> Trace::hidden() {
  return std::unique_ptr<Trace>(new Trace({}, nullptr, true));
}

Trace::~Trace() { close(); }

void Trace::close() noexcept {
  cells_.reset();
  scope_.reset();
}

Node* Trace::box(Graph::Index i, DType dtype, Layout::Extents shape) const {
  Node* n = new_node(dtype, Layout(shape));
  n->level = level_;
  n->box = Box::trace;
  n->box_serial = serial_;
  n->trace_index = i;
  n->state.store(State::boxed, std::memory_order_relaxed);
  return n;
}

Tensor Trace::argument(const TracedArgument& spec) {
  const Graph::Index i = graph_.add_input(spec.dtype, spec.shape);
  if (!spec.moves) reach_.exclude(graph_[i].first);
  if (!spec.moves || !spec.recorded) reverse_.exclude(graph_[i].first);
  Node* n = box(i, spec.dtype, spec.shape);
  if (spec.weak) mark_weak(n, *spec.weak, kWeakBits);
  return Tensor::adopt(n);
}

Tensor Trace::argument_like(const Tensor& value) {
  const Node* n = value.node();
  Tensor out = argument({n->dtype,
                         Dims(n->layout.shape()),
                         {},
                         moves_outside(value) || n->requires_grad,
                         may_be_recorded(n)});
  Node* fresh = out.node();
  fresh->order = n->order;
  fresh->requires_grad = n->requires_grad;
  if (n->leaf) {
    retain(n->leaf);
    fresh->leaf = n->leaf;
  }
  return out;
}

Graph::Index Trace::index(const Tensor& t) {
  if (has_left(thread_state(), t.node())) raise_left("compile");
  return index_of(t.node());
}

Graph::Index Trace::index_of(Node* n) {
  if (is_own(n)) return static_cast<Graph::Index>(n->trace_index);
  if (n->level >= level_)
    raise(ErrorKind::runtime, "compile",
          "a value belongs to a transform that has ended: return it from the function instead of "
          "storing it");
  return graph_.add_constant(n);
}

void Trace::cut_constants(std::size_t from) {
  for (std::size_t i = from; i < graph_.constants().size(); ++i) {
    const Tensor& value = graph_.constants()[i];
    if (value.node()->is_shadow() || value.node()->recorded)
      graph_.set_constant(i, unmarked(value));
  }
}

std::uint32_t Trace::source() {
  const std::string* place = find_source_ ? find_source_() : nullptr;
  if (!place) return 0;
  const auto [it, fresh] = sources_.try_emplace(place, 0);
  if (fresh) it->second = graph_.add_source(*place);
  return it->second;
}

Graph::Index Trace::ended(Graph::Index operand, Reach& reach, const char* op) {
  if (!reach.reaches(graph_, operand)) return operand;
  const Graph::Entry& e = graph_[operand];
  return graph_.add(find_op(op), {&operand, 1}, {}, {e.dtype, e.shape}, source());
}

/// Whether a value from outside is differentiated where the trace was opened: the function may read
/// it under `no_grad`.
bool Trace::moves_outside(const Tensor& value) const {
  return opening_.as_then([&] { return is_differentiated(value); });
}

/// Whether some transform around the trace differentiates a value that the function captures.
bool Trace::captured_moves(const Tensor& value) const {
  return opening_.as_then([&] { return is_differentiated(value) || is_in_body(value); });
}

SmallVector<Graph::Index, 8> Trace::operands_of(std::span<Node* const> inputs) {
  const ThreadState& state = thread_state();
  const bool constant = level_ <= state.constant_levels;              // under no_grad
  const bool unrecorded = !constant && !hidden_ && !state.recording;  // no_grad outside, or a sweep
  SmallVector<Graph::Index, 8> operands;
  for (Node* in : inputs) {
    Graph::Index i = index_of(in);
    if (constant) i = ended(ended(i, reach_, "stop_gradient"), reverse_, "stop_gradient");
    if (unrecorded) i = ended(i, reverse_, "unrecorded");
    operands.push_back(i);
  }
  return operands;
}

Node* Trace::record(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) {
  if (op.casts) check_cast(inputs[0], attrs_as<CastAttrs>(attrs.get()).dtype);
  const ResultList specs = infer_results(op, inputs, attrs.get());
  const ResultSpec& spec = specs.only();
  checked_size(spec.shape, op.name);
  return box(graph_.add(op, operands_of(inputs), attrs, spec, source()), spec.dtype, spec.shape);
}

std::vector<Tensor> Trace::record_all(const Op& op, std::span<Node* const> inputs,
                                      const AttrsPtr& attrs) {
  const ResultList specs = infer_results(op, inputs, attrs.get());
  const auto all = specs.all();
  for (const ResultSpec& spec : all) checked_size(spec.shape, op.name);
  const auto operands = operands_of(inputs);
  return results(all.size() == 1 ? graph_.add(op, operands, attrs, all[0], source())
                                 : graph_.add_tuple(op, operands, attrs, all, source()));
}

std::vector<Tensor> Trace::results(Graph::Index i) {
  std::vector<Tensor> out;
  if (!graph_[i].tuple) {
    out.push_back(value(i));
    return out;
  }
  for (std::size_t k = 0; k < graph_.results_of(i).size(); ++k)
    out.push_back(value(graph_.add_part(i, k)));
  return out;
}

Node* Trace::constant(Node* value) {
  return box(graph_.add_constant(value), value->dtype, value->layout.shape());
}

bool Trace::moves(const Node* box) {
  if (!is_own(box)) return false;
  const auto i = static_cast<Graph::Index>(box->trace_index);
  return reach_.reaches(graph_, i) || reverse_.reaches(graph_, i);
}

void Trace::sweep_left(const Node* box) { sweeps_outside_ |= is_own(box); }

Node* Trace::continued(Node* value, const Node* before) {
  static const Op& attached = find_op("attached");
  Graph::Index own = index_of(value);
  own = ended(ended(own, reach_, "stop_gradient"), reverse_, "stop_gradient");
  const Graph::Index both[] = {own, static_cast<Graph::Index>(before->trace_index)};
  return box(graph_.add(attached, both, {}, {value->dtype, Dims(value->layout.shape())}, source()),
             value->dtype, value->layout.shape());
}

void Trace::need_value(const Node* weak) {
  std::vector<bool> reached(graph_.size(), false);
  reached[static_cast<Graph::Index>(weak->trace_index)] = true;
  for (Graph::Index i = static_cast<Graph::Index>(graph_.size()); i-- > 0;) {
    if (!reached[i]) continue;
    if (graph_[i].kind == Graph::Kind::input) needed_.push_back(graph_[i].first);
    for (const Graph::Index in : graph_.inputs_of(i)) reached[in] = true;
  }
  throw ValueNeeded();
}

/// The value as a handle from outside keeps it, where forward mode may be open around a call; the
/// attributes name the levels whose tangents end.
Tensor Trace::kept(Tensor value, const AttrsPtr& ended) {
  const Node* n = value.node();
  if (!is_own(n) || !reach_.reaches(graph_, static_cast<Graph::Index>(n->trace_index)))
    return value;
  return apply(find_op("kept"), {&value}, ended);
}

/// The first meeting with a cell: its value becomes an input of the program.
Trace::Touched& Trace::touch(const Cell& cell, Tensor held) {
  Touched t;
  t.place.cell = cell;
  t.place.owner = cell.keep(cell.who);
  t.place.null = !held.defined();
  if (const auto it = arguments_.find(cell.at); it != arguments_.end())
    t.place.argument = it->second;
  if (const Node* n = held.node()) {
    t.place.requires_grad = n->requires_grad;
    t.place.moves = moves_outside(held);
    t.place.dtype = n->dtype;
    t.place.shape = Dims(n->layout.shape());
    t.place.leaf = n->leaf;
    t.first = argument_like(held);
    t.place.input = graph_[index_of(t.first.node())].first;
    t.value = t.first;
  }
  touched_at_.emplace(cell.at, touched_.size());
  return touched_.emplace_back(std::move(t));
}

/// An output, which under `no_grad` is a constant also where it is an input itself.
Graph::Index Trace::given_back(Graph::Index i) {
  const bool unrecorded = !hidden_ && !thread_state().recording;
  return unrecorded && graph_[i].kind == Graph::Kind::input ? ended(i, reverse_, "unrecorded") : i;
}

/// What the cells hold at the end becomes outputs of the graph.
void Trace::close_places(Traced& traced, std::vector<Graph::Index>& outputs) {
  for (Touched& t : touched_) {
    const bool was = t.first.defined();
    if (!t.value.defined()) {
      if (was) t.place.output = Place::kCleared;
    } else {
      const Graph::Index i = index(t.value);
      if (!was || i != index_of(t.first.node())) {
        t.place.output = static_cast<std::uint32_t>(outputs.size());
        outputs.push_back(given_back(i));
      }
    }
    traced.places.push_back(std::move(t.place));
  }
  touched_.clear();
}

Traced Trace::finish(std::span<const Tensor> results) {
  Traced traced;
  std::vector<Graph::Index> outputs;
  for (const Tensor& t : results) outputs.push_back(given_back(index(t)));
  close_places(traced, outputs);
  traced.steps = steps_;
  traced.names_levels = names_levels_;
  traced.sweeps_outside = sweeps_outside_;
  for (const Graph::Index o : outputs) {
    traced.recorded.push_back(reverse_.reaches(graph_, o));
    traced.moves.push_back(traced.recorded.back() || reach_.reaches(graph_, o));
  }
  close();
  for (const Graph::Index o : outputs) graph_.add_output(o);
  traced.graph = std::move(graph_);
  return traced;
}

}  // namespace adjoint
