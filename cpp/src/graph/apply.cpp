// The one entry. An application goes through the same steps whatever it is: bring the inputs to
// a common dtype, infer the result, hand over to an open transform or run or defer, record.
#include "graph/apply.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "graph/defer.h"
#include "graph/node_pool.h"
#include "graph/results.h"
#include "graph/severed.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "graph/unread.h"
#include "graph/watcher.h"
#include "kernels/strided.h"

namespace adjoint {

namespace {

[[noreturn]] void raise_dtypes(const Op& op, std::span<Node* const> inputs, const char* wanted) {
  std::string text = "dtype";
  if (inputs.size() > 1) text += "s";
  for (std::size_t i = 0; i < inputs.size(); ++i)
    text += (i ? " and " : " ") + std::string(name(inputs[i]->dtype));
  raise(ErrorKind::type, op.name, text + " given; " + wanted);
}

/// Where weak scalars of a trace take part, the others decide first.
DType mixed_dtype(std::span<Node* const> inputs) {
  std::optional<DType> strong;
  std::optional<DType> weak;
  for (const Node* n : inputs) {
    std::optional<DType>& side = traced_weak_kind(n) ? weak : strong;
    side = side ? promote(*side, n->dtype) : n->dtype;
  }
  if (!strong) return *weak;
  if (!weak) return *strong;
  return promote_weak(*strong, is_floating(*weak) ? WeakKind::floating : WeakKind::integer);
}

DType common_dtype(std::span<Node* const> inputs) {
  for (std::size_t i = 1; i < inputs.size(); ++i)
    if (inputs[i]->dtype != inputs[0]->dtype) return mixed_dtype(inputs);
  return inputs[0]->dtype;
}

/// The dtype an elementwise op computes in.
DType working_dtype(const Op& op, std::span<Node* const> inputs) {
  switch (op.dtypes) {
    case DTypeRule::floating: {
      const DType t = common_dtype(inputs);
      return floating_dtype(t);
    }
    case DTypeRule::boolean:
      for (const Node* n : inputs)
        if (!is_bool(n->dtype)) raise_dtypes(op, inputs, "bool is needed: compare first");
      return DType::boolean;
    case DTypeRule::where:
      if (!is_bool(inputs[0]->dtype))
        raise_dtypes(op, inputs.first(1), "the condition must be bool: compare first");
      return common_dtype(inputs.subspan(1));
    default: return common_dtype(inputs);
  }
}

void raise_no_kernel(const Op& op, std::span<Node* const> inputs) {
  raise_dtypes(op, inputs, "the operation does not exist for it: convert with astype");
}

// ---------------------------------------------------------------------------- running now

/// Small work on operands that are all contiguous of the result's shape, or one element.
bool run_direct(Node* out, const kernels::TileKernel* k, std::span<Node* const> inputs) {
  const void* src[3];
  int scalars = 0;
  const std::int64_t n = out->layout.size();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Node* in = inputs[i];
    src[i] = in->data();
    if (in->layout.size() == 1 && n != 1) {
      scalars |= 1 << i;
    } else if (!in->layout.contiguous() || in->layout.size() != n) {
      return false;
    }
  }
  if (scalars == 0) {
    k->vv(src, out->data(), n);
  } else if (k->arity == 2 && scalars != 3) {
    (scalars == 1 ? k->sv : k->vs)(src, out->data(), n);
  } else {
    return false;
  }
  return true;
}

/// Small broadcast work: rows over the last axis; an operand is a row, or one element per row.
bool run_rows(Node* out, const kernels::TileKernel* k, std::span<Node* const> inputs) {
  const auto shape = out->layout.shape();
  const int nd = out->layout.ndim();
  if (nd == 0 || k->arity != 2) return false;
  const std::int64_t n = shape[nd - 1];
  const auto size = static_cast<std::int64_t>(itemsize(inputs[0]->dtype));
  Dims strides[2];
  bool single[2];
  const char* src[2];
  for (int i = 0; i < 2; ++i) {
    strides[i] = broadcast_strides(inputs[i]->layout, shape);
    const std::int64_t last = strides[i][nd - 1];
    if (last != 0 && last != 1 && n > 1) return false;
    single[i] = last == 0 || n == 1;
    src[i] = static_cast<const char*>(inputs[i]->data());
  }
  const auto fn = single[0] == single[1] ? k->vv : single[0] ? k->sv : k->vs;
  if (single[0] && single[1] && n > 1) return false;
  auto* dst = static_cast<char*>(out->data());
  const std::int64_t step = n * static_cast<std::int64_t>(itemsize(out->dtype));
  Dims index(static_cast<std::size_t>(nd - 1), 0);
  while (true) {
    const void* operands[2] = {src[0], src[1]};
    fn(operands, dst, n);
    dst += step;
    int axis = nd - 2;
    for (; axis >= 0; --axis) {
      for (int i = 0; i < 2; ++i) src[i] += strides[i][axis] * size;
      if (++index[axis] < shape[axis]) break;
      for (int i = 0; i < 2; ++i) src[i] -= strides[i][axis] * size * shape[axis];
      index[axis] = 0;
    }
    if (axis < 0) return true;
  }
}

Node* run_elementwise(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                      const kernels::TileKernel* k, Layout::Extents shape) {
  ThreadState& state = thread_state();
  bool pending = false;
  bool foreign = false;
  for (Node* in : inputs) {
    const bool waits = in->is_pending();  // another thread may give it its storage just now
    pending |= waits;
    foreign |= !waits && in->stored.storage && in->stored.storage->is_foreign();
  }
  const std::int64_t size = checked_size(shape, op.name);
  if (size == 0) return new_array(k->out, shape, op.name);
  if (state.deferral && !foreign && !op.fallible && (pending || size >= kDeferSize)) {
    Tensor out = Tensor::adopt(new_node(k->out, Layout(shape)));
    defer(out.node(), op, inputs, attrs);
    return out.detach_node();
  }
  for (Node* in : inputs) materialize(in);
  Tensor out = Tensor::adopt(new_array(k->out, shape, op.name));
  if (size < kDeferSize && (run_direct(out.node(), k, inputs) || run_rows(out.node(), k, inputs)))
    return out.detach_node();
  run_fused_now(out.node(), op, inputs, attrs.get());
  return out.detach_node();
}

// ------------------------------------------------------------------------------ recording

/// Stands in for an operand that no rule will ask for; see graph/unread.h.
Node* unread_operand() {
  static Node* node = [] {
    Node* n = new_node(DType::float64, Layout());
    thread_state().count_nodes(-1);  // not a value of any program
    return n;
  }();
  return node;
}

/// What is held in place of an operand that no rule will ask for. A number is noted, where there is
/// room, and nothing held: programs have many of them. A reference to an array keeps its node
/// alone.
Node* unread_edge(Node* out, Node* in, std::size_t inputs) {
  if (in->level > 0) return unread_operand();
  if (in->layout.ndim() > 0 || !in->is_ready()) return in;
  if (inputs < Node::kInlineInputs && itemsize(in->dtype) <= sizeof(Node*)) {
    void* const place = &out->inline_inputs[Node::kInlineInputs - 1];
    if (!in->stored.storage) [[likely]]
      std::memcpy(place, in->stored.bytes, sizeof(Node*));
    else  // one entry of an array
      std::memcpy(place, in->data(), itemsize(in->dtype));
  }
  return unread_operand();
}

/// Edges and saved values: a saved input is held like by a handle, any other by reference. The
/// rule of an elementwise op reads the shape of the input it serves, and what `needs` declares.
void hold_inputs(Node* out, const Op& op, std::span<Node* const> inputs, std::uint8_t needs) {
  const bool fresh = out->input_count == 0;  // a deferred application has its edges already
  Node** edges = out->inline_inputs;
  if (fresh && inputs.size() > Node::kInlineInputs)
    out->heap_inputs = edges = new Node*[inputs.size()];
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Node* in = inputs[i];
    const bool saved = needs & Node::saved_bit(i);
    if (fresh && op.partial && !saved && !in->requires_grad)
      in = unread_edge(out, in, inputs.size());
    const std::uint64_t count = (fresh ? Node::kReference : 0) + (saved ? Node::kUse : 0);
    if (count) in->counts.fetch_add(count, std::memory_order_relaxed);
    if (fresh) edges[i] = in;
    if (saved && i < 6 && in->is_pending()) {
      in->savers.fetch_add(1, std::memory_order_relaxed);
      out->counted_savers |= Node::saved_bit(i);
    }
  }
  out->input_count = static_cast<std::uint32_t>(inputs.size());
  out->saved = needs;
  if (needs & kSavesOutput) {
    retain_use(out);
    if (out->is_pending()) out->savers.fetch_add(1, std::memory_order_relaxed);
  }
}

void record(ThreadState& state, Node* out, const Op& op, std::span<Node* const> inputs,
            const AttrsPtr& attrs) {
  if (state.shadow == state.open_recorders) {
    mark_shadow(state, out);
    return;
  }
  std::uint64_t order = state.last_order();
  std::uint8_t needs = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    order = std::max(order, inputs[i]->order);
    if (inputs[i]->requires_grad && !(i < 8 && op.constant_inputs >> i & 1))
      needs |= op.needs_of(static_cast<std::uint32_t>(i));
  }
  hold_inputs(out, op, inputs, needs);
  out->op = &op;
  if (!out->attrs && attrs) {
    AttrsPtr kept = attrs;
    out->attrs = kept.detach();
  }
  state.order = out->order = order + 1;
  out->requires_grad = true;
  out->recorded = true;
}

/// Whether the inputs that require grad are constants, some of them, to what would be recorded.
bool has_severed(std::span<Node* const> inputs) {
  const ThreadState& state = thread_state();
  return state.constant_order &&
         std::ranges::any_of(inputs, [&](const Node* n) { return is_severed(state, n); });
}

std::vector<Node*> nodes_of(std::span<const Tensor> tensors) {
  std::vector<Node*> out;
  for (const Tensor& t : tensors) out.push_back(t.node());
  return out;
}

bool wants_record(const Op& op, std::span<Node* const> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i]->requires_grad && !(i < 8 && op.constant_inputs >> i & 1)) return true;
  return false;
}

// ------------------------------------------------------------------------------ dispatch

/// The open level that gives boxed inputs their meaning.
Level level_of(const Op& op, std::span<Node* const> inputs, std::uint16_t number) {
  const ThreadState& state = thread_state();
  const char* why =
      "an input belongs to a transform that has ended: return it from the transformed function "
      "instead of storing it";
  if (number > state.levels.size()) raise(ErrorKind::runtime, op.name, why);
  const Level level = state.levels[number - 1];
  for (const Node* in : inputs)
    if (in->level == number && in->box_serial != level.serial)
      raise(ErrorKind::runtime, op.name, why);
  return level;
}

/// A sweep tells when it comes to a value that has left; what is below a box, and what a trace
/// keeps of it, do not.
void check_present(const Op& op, std::span<Node* const> inputs, const Level& level,
                   std::uint16_t number) {
  const ThreadState& state = thread_state();
  for (const Node* in : inputs)
    if (has_left(state, in) && (in->saved == Node::kShadow ? !state.constant : state.recording) &&
        (level.trace || in->level == number))
      raise_left(op.name);
}

/// Levels opened inside the one that interprets do not see its work: a trace inside of it would
/// take what a rule makes anew for its own.
class InnerLevelsHidden {
 public:
  InnerLevelsHidden(ThreadState& state, std::uint16_t number)
      : state_(state), inner_(state.levels.begin() + number, state.levels.end()) {
    state.levels.resize(number);
  }
  ~InnerLevelsHidden() { state_.levels.insert(state_.levels.end(), inner_.begin(), inner_.end()); }
  InnerLevelsHidden(const InnerLevelsHidden&) = delete;
  InnerLevelsHidden& operator=(const InnerLevelsHidden&) = delete;

 private:
  ThreadState& state_;
  std::vector<Level> inner_;
};

/// Calls `run` with the level that gives boxed inputs of at most this level their meaning.
template <class Run>
auto interpret(const Op& op, std::span<Node* const> inputs, std::uint16_t number, Run run) {
  const auto& levels = thread_state().levels;
  for (std::size_t k = levels.size(); k > number && !thread_state().within; --k)
    if (levels[k - 1].whole) {
      number = static_cast<std::uint16_t>(k);
      break;
    }
  const Level level = level_of(op, inputs, number);
  if (op.differentiable() && !op.no_reverse) check_present(op, inputs, level, number);
  std::optional<InnerLevelsHidden> hidden;
  if (thread_state().levels.size() > number) hidden.emplace(thread_state(), number);
  return run(level);
}

Node* interpret_one(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                    std::uint16_t number) {
  return interpret(op, inputs, number, [&](const Level& level) {
    return level.interpret.one(op, inputs, attrs, level);
  });
}

/// The short way for operations on scalars of one dtype, null when it does not apply: what is left
/// of an application when there is nothing to convert, broadcast, defer or allocate.
Node* apply_scalars(const Op& op, std::span<Node* const> inputs) {
  if (inputs.size() > 2) return nullptr;
  Node* a = inputs.front();
  Node* b = inputs.back();
  const kernels::TileKernel* k = op.tiles[static_cast<int>(a->dtype)];
  if (!k || a->dtype != b->dtype || (a->layout.ndim() | b->layout.ndim() | a->level | b->level) ||
      !a->is_ready() || !b->is_ready())
    return nullptr;
  ThreadState& state = thread_state();
  if ((a->requires_grad | b->requires_grad) && has_severed(inputs)) return nullptr;
  Node* out = new_scalar(state, k->out);
  const void* src[2] = {a->data(), b->data()};
  k->vv(src, out->stored.bytes, 1);
  if ((a->requires_grad | b->requires_grad) && state.recording && is_differentiable(k->out) &&
      op.differentiable())
    record(state, out, op, inputs, nullptr);
  return out;
}

/// Attributes are of the type that the record names, or there are none.
void check_attrs(const Op& op, const AttrsPtr& attrs) {
  if ((attrs ? &attrs->type() : nullptr) != op.attrs) [[unlikely]]
    raise_wrong_attrs(op.name, op.attrs, attrs.get());
}

Node* apply_elementwise(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs);

/// The application on its inputs converted to the dtype it computes in.
Node* apply_converted(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                      DType working) {
  if (op.of_wide_integers && is_floating(working) && is_integer(inputs[0]->dtype) &&
      is_integer(inputs[1]->dtype))
    return op.of_wide_integers(op, Tensor::share(inputs[0]), Tensor::share(inputs[1]))
        .detach_node();
  static const Op& cast = find_op("astype");
  const AttrsPtr cast_attrs = make_attrs(CastAttrs{.dtype = working});
  Tensor converted[3];
  Node* nodes[3];
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    nodes[i] = inputs[i];
    if ((i == 0 && op.dtypes == DTypeRule::where) || inputs[i]->dtype == working) continue;
    converted[i] = Tensor::adopt(apply(cast, inputs.subspan(i, 1), cast_attrs));
    nodes[i] = converted[i].node();
  }
  return apply_elementwise(op, {nodes, inputs.size()}, attrs);
}

Node* apply_elementwise(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs) {
  check_attrs(op, attrs);
  const DType working = working_dtype(op, inputs);
  for (std::size_t i = op.dtypes == DTypeRule::where ? 1 : 0; i < inputs.size(); ++i)
    if (inputs[i]->dtype != working && !op.casts)
      return apply_converted(op, inputs, attrs, working);
  const kernels::TileKernel* k = tile_kernel(op, working, attrs.get());
  if (!k) raise_no_kernel(op, inputs);

  std::uint16_t level = 0;
  bool grad = false;
  Layout::Extents shape = inputs[0]->layout.shape();
  Dims merged;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Node* in = inputs[i];
    level = std::max(level, in->level);
    grad |= in->requires_grad;
    if (i == 0 || in->layout.ndim() == 0 || in->layout.same_shape(inputs[0]->layout)) continue;
    const auto other = in->layout.shape();
    if (shape.empty()) {
      shape = other;
    } else if (!std::equal(shape.begin(), shape.end(), other.begin(), other.end())) {
      merged = broadcast_shapes(shape, other, op.name);
      shape = merged;
    }
  }
  if (grad && has_severed(inputs)) {
    const std::vector<Tensor> others = severed_inputs(inputs);
    return apply_elementwise(op, nodes_of(others), attrs);
  }
  Node* out = level ? interpret_one(op, inputs, attrs, level)
                    : run_elementwise(op, inputs, attrs, k, shape);
  if (grad && is_differentiable(k->out) && op.differentiable() && thread_state().recording &&
      wants_record(op, inputs))
    record(thread_state(), out, op, inputs, attrs);
  return out;
}

/// Whether an application is deferred: a view of a deferred value, or a large reduction over
/// trailing or leading axes.
bool joins_groups(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                  DType result) {
  if (!thread_state().deferral || !(op.reduces || op.fuses)) return false;
  const Node* in = inputs[0];
  if (op.fuses) return in->is_pending();
  if (in->dtype != result || in->layout.size() == 0) return false;
  if (!in->is_pending() &&
      (in->layout.size() < kDeferSize || (in->stored.storage && in->stored.storage->is_foreign())))
    return false;
  const Dims& axes = attrs_as<ReduceAttrs>(attrs.get()).axes;
  if (reduces_columns(static_cast<std::size_t>(in->layout.ndim()), axes)) return true;
  const auto first = in->layout.ndim() - static_cast<std::int64_t>(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != first + static_cast<std::int64_t>(i)) return false;
  return !axes.empty();
}

/// Which of the inputs that the caller gives up nobody else uses.
std::uint32_t donors_among(std::span<Node* const> inputs, std::uint32_t donate) {
  std::uint32_t donated = 0;
  for (std::size_t i = 0; i < inputs.size() && i < 32; ++i) {
    Node* in = inputs[i];
    if ((donate >> i & 1) && in->gives_memory() &&
        std::count(inputs.begin(), inputs.end(), in) == 1)
      donated |= 1u << i;
  }
  return donated;
}

Node* run_general(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                  const ResultSpec& spec, std::uint32_t donate) {
  if (joins_groups(op, inputs, attrs, spec.dtype)) {
    Tensor out = Tensor::adopt(new_node(spec.dtype, Layout(spec.shape)));
    defer(out.node(), op, inputs, attrs);
    return out.detach_node();
  }
  for (Node* in : inputs) materialize(in);
  const std::uint32_t donated = donors_among(inputs, donate);
  checked_size(spec.shape, op.name);
  Tensor out = Tensor::adopt(new_node(spec.dtype, Layout(spec.shape)));
  op.run(op, out.node(), inputs, attrs.get(), donated);
  return out.detach_node();
}

Node* apply_rarely(Watcher* watcher, const Op& op, std::span<Node* const> inputs,
                   const AttrsPtr& attrs, std::uint32_t donate);

Node* apply_general(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                    std::uint32_t donate) {
  if (op.run_all) [[unlikely]]
    return apply_rarely(nullptr, op, inputs, attrs, donate);
  check_attrs(op, attrs);
  std::uint16_t level = 0;
  bool grad = false;
  for (const Node* in : inputs) {
    level = std::max(level, in->level);
    grad |= in->requires_grad;
  }
  if (grad && has_severed(inputs)) {
    const std::vector<Tensor> others = severed_inputs(inputs);
    return apply_general(op, nodes_of(others), attrs, donate);
  }
  const ResultList specs = op.infer(op, inputs, attrs.get());
  const ResultSpec& spec = specs.only();
  Node* out;
  if (level) {
    out = interpret_one(op, inputs, attrs, level);
  } else if (inputs.empty() && g_open_traces.load(std::memory_order_relaxed) && current_trace()) {
    out = current_trace()->record(op, inputs, attrs);
  } else {
    out = run_general(op, inputs, attrs, spec, donate);
  }
  if (grad && is_differentiable(spec.dtype) && op.differentiable() && thread_state().recording &&
      wants_record(op, inputs))
    record(thread_state(), out, op, inputs, attrs);
  return out;
}

/// Records an application of several results: their values go to a tuple, and each of `out` that
/// has a derivative becomes a part of it. A result that does not depend on the batch that its level
/// stands for comes from the application below, and has its history from there.
void record_all(ThreadState& state, std::vector<Tensor>& out, const Op& op,
                std::span<Node* const> inputs, const AttrsPtr& attrs, std::uint16_t level) {
  const bool shadow = state.shadow == state.open_recorders;
  const auto is_here = [&](const Tensor& t) { return !op.depends || t.node()->level >= level; };
  if (std::ranges::none_of(out, is_here)) return;
  if (!shadow && out.size() == 1) return record(state, out[0].node(), op, inputs, attrs);
  Tensor tuple;
  if (!shadow) {
    tuple = Tensor::adopt(new_tuple(out));
    record(state, tuple.node(), op, inputs, attrs);
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!is_differentiable(out[i].dtype()) || !is_here(out[i])) continue;
    if (shadow)
      record(state, out[i].node(), op, inputs, attrs);
    else
      out[i] = part_of(tuple.node(), i);
  }
}

std::vector<Tensor> apply_several(const Op& op, std::span<Node* const> inputs,
                                  const AttrsPtr& attrs, std::uint32_t donate) {
  check_attrs(op, attrs);
  if (has_severed(inputs)) {
    const std::vector<Tensor> others = severed_inputs(inputs);
    return apply_several(op, nodes_of(others), attrs, donate);
  }
  std::uint16_t level = 0;
  for (const Node* in : inputs) level = std::max(level, in->level);
  const ResultList specs = op.infer(op, inputs, attrs.get());
  std::vector<Tensor> out;
  if (level) {
    out = interpret(op, inputs, level,
                    [&](const Level& at) { return at.interpret.all(op, inputs, attrs, at); });
  } else if (inputs.empty() && g_open_traces.load(std::memory_order_relaxed) && current_trace()) {
    out = current_trace()->record_all(op, inputs, attrs);
  } else {
    for (Node* in : inputs) materialize(in);
    out = run_results(op, specs.all(), inputs, attrs.get(), donors_among(inputs, donate));
  }
  const auto moves = [](const Tensor& t) { return is_differentiable(t.dtype()); };
  if (op.differentiable() && thread_state().recording && wants_record(op, inputs) &&
      std::ranges::any_of(out, moves))
    record_all(thread_state(), out, op, inputs, attrs, level);
  return out;
}

/// Nothing waits, so that the values are known here, and the inputs are there to be reported. They
/// are held, since a report may run code of the user.
[[gnu::noinline]] std::vector<Tensor> apply_watched(Watcher& watcher, const Op& op,
                                                    std::span<Node* const> inputs,
                                                    const AttrsPtr& attrs) {
  const DeferralScope now(false);
  std::vector<Tensor> held;
  for (Node* in : inputs) held.push_back(Tensor::share(in));
  std::vector<Tensor> out;
  if (op.run_all)
    out = apply_several(op, inputs, attrs, 0);
  else
    out.push_back(Tensor::adopt(op.kind == OpKind::elementwise
                                    ? apply_elementwise(op, inputs, attrs)
                                    : apply_general(op, inputs, attrs, 0)));
  for (const Tensor& t : out) watcher.applied(op, inputs, t.node());
  return out;
}

/// What `apply` does where it is not the usual way: kept apart, as a list on the stack costs the
/// usual way nanoseconds.
[[gnu::noinline]] Node* apply_rarely(Watcher* watcher, const Op& op, std::span<Node* const> inputs,
                                     const AttrsPtr& attrs, std::uint32_t donate) {
  std::vector<Tensor> out = watcher ? apply_watched(*watcher, op, inputs, attrs)
                                    : apply_several(op, inputs, attrs, donate);
  if (out.size() != 1)
    raise(ErrorKind::runtime, op.name,
          "has " + std::to_string(out.size()) + " results here: use apply_all");
  return out[0].detach_node();
}

}  // namespace

Node* apply(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
            std::uint32_t donate) {
  if (Watcher* watcher = open_watcher()) [[unlikely]]
    return apply_rarely(watcher, op, inputs, attrs, donate);
  if (op.kind == OpKind::elementwise) {
    if (Node* out = apply_scalars(op, inputs)) return out;
    return apply_elementwise(op, inputs, attrs);
  }
  return apply_general(op, inputs, attrs, donate);
}

std::vector<Tensor> apply_all(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                              std::uint32_t donate) {
  if (Watcher* watcher = open_watcher()) [[unlikely]]
    return apply_watched(*watcher, op, inputs, attrs);
  if (op.run_all) return apply_several(op, inputs, attrs, donate);
  std::vector<Tensor> out;
  out.push_back(Tensor::adopt(apply(op, inputs, attrs, donate)));
  return out;
}

bool apply_in_place(const Op& op, Node* target, Node* other) {
  const kernels::TileKernel* k = op.tiles[static_cast<int>(target->dtype)];
  if (!k || k->out != target->dtype || target->dtype != other->dtype ||
      (target->layout.ndim() | other->layout.ndim() | target->level | other->level) ||
      !target->is_ready() || !other->is_ready() || target->stored.storage ||
      target->requires_grad || target->counts.load(std::memory_order_acquire) != Node::kHandle ||
      (other->requires_grad && thread_state().recording) || open_watcher())
    return false;
  const void* src[2] = {target->stored.bytes, other->data()};
  k->vv(src, target->stored.bytes, 1);
  return true;
}

Tensor apply(const Op& op, std::initializer_list<const Tensor*> inputs, const AttrsPtr& attrs,
             std::uint32_t donate) {
  Node* nodes[8];
  std::size_t n = 0;
  for (const Tensor* t : inputs) nodes[n++] = t->node();
  return Tensor::adopt(apply(op, {nodes, n}, attrs, donate));
}

const kernels::TileKernel* tile_kernel(const Op& op, DType operand, const Attrs* attrs) {
  if (!op.casts) return op.tiles[static_cast<int>(operand)];
  static const auto* casts = [] {
    auto* table = new const kernels::TileKernel*[kDTypeCount][kDTypeCount];
    for (int a = 0; a < kDTypeCount; ++a)
      for (int b = 0; b < kDTypeCount; ++b)
        table[a][b] = kernels::find_cast(static_cast<DType>(a), static_cast<DType>(b));
    return table;
  }();
  return casts[static_cast<int>(operand)][static_cast<int>(attrs_as<CastAttrs>(attrs).dtype)];
}

ResultList infer_results(const Op& op, std::span<Node* const> inputs, const Attrs* attrs) {
  if (op.kind != OpKind::elementwise) return op.infer(op, inputs, attrs);
  Dims shape(inputs[0]->layout.shape());
  for (const Node* in : inputs.subspan(1)) {
    const auto other = in->layout.shape();
    if (!std::equal(shape.begin(), shape.end(), other.begin(), other.end()))
      shape = broadcast_shapes(shape, other, op.name);
  }
  return {tile_kernel(op, operand_dtype(op, inputs), attrs)->out, shape};
}

DType operand_dtype(const Op& op, std::span<Node* const> inputs) {
  return inputs[op.dtypes == DTypeRule::where ? 1 : 0]->dtype;
}

Tensor known_value(Node* node, const char* what) {
  Tensor held = Tensor::share(node);
  while (held.node()->level > 0) {
    Node* n = held.node();
    if (n->box == Box::batch)
      raise(ErrorKind::traced, what,
            "inside vmap a tensor stands for a whole batch and has no single value: use ad.where "
            "to choose, or return the value and read it outside");
    if (traced_weak_kind(n)) need_value(n);
    if (n->box == Box::trace)
      raise(ErrorKind::traced, what,
            "inside compile a tensor has no value yet: use ad.where to choose, make the argument "
            "static, or return the value and read it outside");
    held = Tensor::share(n->boxed.primal);
  }
  materialize(held.node());
  return held;
}

Tensor contiguous(Node* node) {
  materialize(node);
  if (node->layout.contiguous()) return Tensor::share(node);
  Tensor out = Tensor::adopt(new_array(node->dtype, node->layout.shape(), "copy"));
  const auto size = static_cast<std::int64_t>(itemsize(node->dtype));
  Dims from(node->layout.strides());
  Dims to(out.node()->layout.strides());
  for (auto& s : from) s *= size;
  for (auto& s : to) s *= size;
  kernels::strided_copy(itemsize(node->dtype), node->layout.shape(), node->data(), from,
                        out.node()->data(), to);
  return out;
}

namespace {

/// Gives `out` the value of `node`: what it holds, or what it will be.
void share_state(Node* out, Node* node, const Op& op) {
  if (node->is_pending()) {
    defer(out, op, {&node, 1}, nullptr);
    return;
  }
  share_held(out, node);
}

}  // namespace

void raise_left(const char* what) {
  raise(ErrorKind::runtime, what,
        "a value was computed in a function under checkpoint and left it by an attribute, an entry "
        "or a variable, so its derivative would be lost: return it, or detach it");
}

Node* alias(Node* node, Leaf* leaf, bool keep_history) {
  static const Op& op = find_op("alias");
  if (!node->level && !node->is_pending()) materialize(node);  // raises when it was dropped
  Node* out = new_node(node->dtype, node->layout);
  share_state(out, node, op);
  if (keep_history && node->requires_grad) record(thread_state(), out, op, {&node, 1}, nullptr);
  if (leaf) {
    retain(leaf);
    out->leaf = leaf;
    out->requires_grad = true;
    ThreadState& state = thread_state();
    const std::uint64_t order = std::max(state.last_order(), node->order) + 1;
    state.order = order;
    out->order = std::max(out->order, order);
  }
  return out;
}

bool is_unread(const Node* n) noexcept { return n == unread_operand(); }

Tensor unread_number(const Node* application, std::size_t i) {
  const auto inputs = application->inputs();
  if (application->level > 0 || inputs.size() != 2 || !is_unread(inputs[i])) return {};
  if (application->op->dtypes == DTypeRule::custom) return {};
  const Node* other = inputs[1 - i];  // by all other rules operands are of one dtype
  if (itemsize(other->dtype) > sizeof(Node*)) return {};
  Tensor number = Tensor::adopt(new_array(other->dtype, {}, "graph"));
  std::memcpy(number.node()->data(), &application->inline_inputs[Node::kInlineInputs - 1],
              itemsize(other->dtype));
  return number;
}

}  // namespace adjoint
