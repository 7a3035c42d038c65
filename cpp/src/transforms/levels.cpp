// Forward mode and batching. Inside such a transform a tensor is a box that holds other tensors;
// the interpreters here give an operation on boxes its meaning in operations on what they hold,
// one level down. Each nesting of transforms has a level of its own, so perturbations of different
// transforms never mix.
#include <algorithm>
#include <memory>
#include <unordered_set>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/apply.h"
#include "graph/cell.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "ops/rules.h"
#include "transforms/derive.h"
#include "transforms/levels.h"

namespace adjoint {

namespace {

Node* new_box(Box kind, const Level& level, DType dtype, Layout::Extents shape) {
  Node* n = new_node(dtype, Layout(shape));
  n->level = level.number;
  n->box = kind;
  n->box_serial = level.serial;
  n->state.store(State::boxed, std::memory_order_relaxed);
  n->boxed.primal = nullptr;
  n->boxed.tangent = nullptr;
  return n;
}

Tensor box_dual(const Level& level, Tensor primal, Tensor tangent) {
  Node* n = new_box(Box::dual, level, primal.dtype(), primal.shape());
  n->boxed.primal = primal.detach_node();
  if (tangent.defined()) n->boxed.tangent = tangent.detach_node();
  return Tensor::adopt(n);
}

/// The inputs of an application to dual numbers.
struct DualInputs {
  DualInputs(const Op& op, std::span<Node* const> inputs, const Level& level) {
    for (Node* in : inputs) {
      const bool boxed = in->level == level.number;
      primals.push_back(Tensor::share(boxed ? in->boxed.primal : in));
      tangents.push_back(boxed && in->boxed.tangent ? Tensor::share(in->boxed.tangent) : Tensor());
      moves |= tangents.back().defined();
      nodes.push_back(primals.back().node());
    }
    moves &= op.differentiable() && level.number > thread_state().constant_levels;
  }
  std::vector<Tensor> primals, tangents;
  SmallVector<Node*, 8> nodes;  // of the primals
  bool moves = false;
};

Node* interpret_dual(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                     const Level& level) {
  const DualInputs in(op, inputs, level);
  const Tensor out = Tensor::adopt(apply(op, in.nodes, attrs));
  Tensor tangent;
  if (in.moves && op.no_forward && !ends_tangents(attrs.get(), level.identity))
    tangent = in.tangents[0];
  else if (in.moves && is_differentiable(out.dtype()))
    tangent = output_tangent({op, attrs.get(), in.primals, out}, in.tangents);
  return box_dual(level, out, tangent).detach_node();
}

/// A rule given by hand may have used a dual of the level that it serves.
Tensor below(const Level& level, Tensor tangent) {
  while (tangent.defined() && tangent.node()->level >= level.number)
    tangent = Tensor::share(tangent.node()->boxed.primal);
  return tangent;
}

std::vector<Tensor> interpret_dual_all(const Op& op, std::span<Node* const> inputs,
                                       const AttrsPtr& attrs, const Level& level) {
  const DualInputs in(op, inputs, level);
  std::vector<Tensor> out = apply_all(op, in.nodes, attrs);
  std::vector<Tensor> tangents(out.size());
  if (in.moves) {
    const ServedScope served(level.identity);
    tangents = output_tangents({op, attrs.get(), in.primals, no_tensor(), out}, in.tangents);
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool moves = is_differentiable(out[i].dtype());
    out[i] = box_dual(level, out[i], moves ? below(level, tangents[i]) : Tensor());
  }
  return out;
}

/// The batch of an elementwise operand: unit axes go between the batch and its own axes.
Tensor aligned(const Tensor& inner, int ndim) {
  const auto shape = inner.shape();
  if (static_cast<int>(shape.size()) == ndim + 1) return inner;
  Dims wide{shape[0]};
  wide.resize(static_cast<std::size_t>(ndim) + 2 - shape.size(), 1);
  for (std::size_t i = 1; i < shape.size(); ++i) wide.push_back(shape[i]);
  return reshape(inner, wide);
}

/// The inputs of an application to batches.
struct BatchInputs {
  BatchInputs(std::span<Node* const> inputs, const Level& level) {
    for (Node* in : inputs) {
      mapped.push_back(in->level == level.number);
      inner.push_back(Tensor::share(mapped.back() ? in->boxed.primal : in));
    }
  }
  BatchArgs args(const Op& op, const AttrsPtr& attrs, const Level& level) const {
    return {op, attrs.get(), inner, {mapped.data(), mapped.size()}, level.batch_size, level.serial};
  }
  std::vector<Tensor> inner;
  SmallVector<bool, 8> mapped;
};

[[noreturn]] void raise_no_batch(const Op& op) {
  raise(ErrorKind::runtime, op.name, "the operation has no batching rule");
}

Node* interpret_batch(const Op& op, std::span<Node* const> inputs, const AttrsPtr& attrs,
                      const Level& level) {
  BatchInputs in(inputs, level);
  Tensor out;
  if (op.kind == OpKind::elementwise) {
    int ndim = 0;
    for (const Node* n : inputs) ndim = std::max(ndim, n->layout.ndim());
    SmallVector<Node*, 8> nodes;
    for (std::size_t i = 0; i < in.inner.size(); ++i) {
      if (in.mapped[i]) in.inner[i] = aligned(in.inner[i], ndim);
      nodes.push_back(in.inner[i].node());
    }
    out = Tensor::adopt(apply(op, nodes, attrs));
  } else if (op.batch) {
    out = op.batch(in.args(op, attrs, level));
  } else {
    raise_no_batch(op);
  }
  return box_batch(level, std::move(out)).detach_node();
}

std::vector<Tensor> interpret_batch_all(const Op& op, std::span<Node* const> inputs,
                                        const AttrsPtr& attrs, const Level& level) {
  if (!op.batch_all) raise_no_batch(op);
  const BatchInputs in(inputs, level);
  std::vector<Tensor> out = op.batch_all(in.args(op, attrs, level));
  std::vector<bool> has(out.size(), true);
  if (op.depends)
    has = op.depends(attrs.get(), std::vector<bool>(in.mapped.begin(), in.mapped.end()));
  for (std::size_t i = 0; i < out.size(); ++i)
    if (has[i]) out[i] = box_batch(level, std::move(out[i]));
  return out;
}

Tensor move_axis(const Tensor& x, int from, int to) {
  if (from == to) return x;
  Dims order;
  for (int i = 0; i < x.ndim(); ++i)
    if (i != from) order.push_back(i);
  order.insert(static_cast<std::size_t>(to), from);
  return permute_dims(x, order);
}

/// A handle from outside keeps the primal. What a reverse transform inside has recorded of it stays
/// with it until the level closes, unless it is a leaf, which takes no history.
class DualCells final : public CellScope {
 public:
  explicit DualCells(const Level& level) : level_(level.number), identity_(level.identity) {}
  ~DualCells() override {
    for (const auto& [cell, owner] : recorded_) write_outside(cell, primal(read_outside(cell)));
  }
  /// What a scope outside of this one refuses is not noted: the destructor must not meet it again.
  void write(const Cell& cell, Tensor value) override {
    static const Op& kept = find_op("kept");
    if (cell.leaf || !holds(value) || !value.requires_grad() || !thread_state().recording)
      return write_outside(cell, primal(std::move(value)));
    {
      const WithinScope within(true);
      value = apply(kept, {&value}, make_attrs(KeptAttrs{.levels = {forward()}}));
    }
    write_outside(cell, std::move(value));
    if (known_.insert(cell.at).second) recorded_.emplace_back(cell, cell.keep(cell.who));
  }
  std::uint32_t forward() const noexcept override { return identity_; }

 private:
  bool holds(const Tensor& x) const {
    return x.defined() && x.node()->level >= level_ && x.node()->box == Box::dual;
  }
  Tensor primal(Tensor x) const {
    while (holds(x)) x = Tensor::share(x.node()->boxed.primal);
    return x;
  }
  std::uint16_t level_;
  std::uint32_t identity_;
  std::vector<std::pair<Cell, IntrusivePtr<const Payload>>> recorded_;
  std::unordered_set<Node**> known_;  // where these are
};

/// What differs along the batch cannot be kept by one handle.
class BatchCells final : public CellScope {
 public:
  explicit BatchCells(const Level& level) : level_(level.number), serial_(level.serial) {}
  /// Null while the level is closed because an operation on its values is run below it.
  const Level* level() const noexcept {
    const auto& levels = thread_state().levels;
    return level_ <= levels.size() && levels[level_ - 1u].serial == serial_ ? &levels[level_ - 1u]
                                                                            : nullptr;
  }
  void write(const Cell& cell, Tensor value) override {
    check(cell, value);
    write_outside(cell, std::move(value));
  }
  void check(const Cell& cell, const Tensor& value) override {
    if (value.defined())
      for (const Node* n = value.node(); n->level >= level_; n = n->boxed.primal)
        if (n->box_serial == serial_)
          raise(ErrorKind::runtime, "vmap",
                cell.kind == Cell::Kind::gradient
                    ? "a gradient that differs along the batch cannot be added to a tensor from "
                      "outside: use ad.grad inside, and return it"
                    : "a value that differs along the batch cannot be assigned to a tensor from "
                      "outside: return it from the function instead");
    check_outside(cell, value);
  }
  std::uint32_t in_place_of = 0;  // serial of another batch; 0 for none

 private:
  std::uint16_t level_;
  std::uint32_t serial_;
};

/// A level and its stand towards cells.
struct LevelAndCells {
  LevelAndCells(std::int64_t batch_size, bool dual, std::uint32_t stands_for, bool directions)
      : level(dual ? Box::dual : Box::batch,
              dual ? Interpreter{interpret_dual, interpret_dual_all}
                   : Interpreter{interpret_batch, interpret_batch_all},
              batch_size, nullptr, false, stands_for) {
    Level& opened = thread_state().levels.back();
    opened.directions = directions;
    if (dual)
      cells = std::make_unique<DualCells>(opened);
    else
      cells = std::make_unique<BatchCells>(opened);
  }
  LevelScope level;
  std::unique_ptr<CellScope> cells;
};

}  // namespace

bool ends_tangents(const Attrs* attrs, std::uint32_t level) {
  const auto& kept = attrs_as<KeptAttrs>(attrs);
  return kept.everywhere || std::ranges::find(kept.levels, level) != kept.levels.end();
}

Tensor box_batch(const Level& level, Tensor inner) {
  Node* n = new_box(Box::batch, level, inner.dtype(), inner.shape().subspan(1));
  n->boxed.primal = inner.detach_node();
  return Tensor::adopt(n);
}

std::vector<Level> batches_around(const Cell& cell) {
  const ThreadState& state = thread_state();
  std::vector<Level> out;
  std::vector<std::uint32_t> replaced;
  for (CellScope* scope = state.cells; scope && scope->is_outside(cell); scope = scope->outer()) {
    if (scope->is_trace()) break;
    const auto* batch = dynamic_cast<const BatchCells*>(scope);
    if (!batch) continue;
    const Level* level = batch->level();
    replaced.push_back(batch->in_place_of);
    if (level && !level->directions && std::ranges::find(replaced, level->serial) == replaced.end())
      out.push_back(*level);
  }
  std::ranges::reverse(out);
  return out;
}

void stand_in_for(std::uint32_t serial) {
  if (auto* batch = dynamic_cast<BatchCells*>(thread_state().cells)) batch->in_place_of = serial;
}

// ---------------------------------------------------------------------------- TransformLevel

TransformLevel TransformLevel::dual_again() { return TransformLevel(-1, thread_state().served); }

TransformLevel::TransformLevel(std::int64_t batch_size, std::uint32_t stands_for, bool directions)
    : batch_size_(batch_size) {
  auto* scope = new LevelAndCells(batch_size, batch_size < 0, stands_for, directions);
  level_ = scope->level.level();
  serial_ = scope->level.serial();
  scope_ = scope;
}

TransformLevel::~TransformLevel() { delete static_cast<LevelAndCells*>(scope_); }

Tensor TransformLevel::make_dual(const Tensor& x, const Tensor& tangent) const {
  if (tangent.defined() &&
      (!std::ranges::equal(x.shape(), tangent.shape()) || x.dtype() != tangent.dtype()))
    raise(ErrorKind::value, "jvp",
          "the tangent is " + std::string(name(tangent.dtype())) + " of shape " +
              to_string(tangent.shape()) + " and the primal " + std::string(name(x.dtype())) +
              " of shape " + to_string(x.shape()) + ": they must be equal");
  const bool constant = thread_state().constant;  // to what is open outside of no_grad
  return box_dual(thread_state().levels[level_ - 1],
                  constant ? constant_part(x) : Tensor::share(x.node()), tangent);
}

std::pair<Tensor, Tensor> TransformLevel::split_dual(const Tensor& y) const {
  Node* n = y.node();
  if (n->box == Box::dual && has_left(thread_state(), n)) raise_left("jvp");
  if (!holds(y)) {
    if (n->level >= level_)
      raise(ErrorKind::runtime, "jvp",
            "the result belongs to a transform that has ended: return it from the transformed "
            "function instead of storing it");
    return {y, Tensor()};
  }
  return {Tensor::share(n->boxed.primal),
          n->boxed.tangent ? Tensor::share(n->boxed.tangent) : Tensor()};
}

bool TransformLevel::holds(const Tensor& y) const {
  return y.node()->level == level_ && y.node()->box_serial == serial_;
}

Tensor TransformLevel::make_batched(const Tensor& x, int axis) const {
  const int at = normalize_axis(axis, x.ndim(), "vmap");
  if (x.shape()[at] != batch_size_)
    raise(ErrorKind::value, "vmap",
          "axis " + std::to_string(axis) + " of shape " + to_string(x.shape()) +
              " does not have the batch size " + std::to_string(batch_size_));
  return box_batch(thread_state().levels[level_ - 1], move_axis(Tensor::share(x.node()), at, 0));
}

Tensor TransformLevel::split_batched(const Tensor& y, int axis) const {
  Node* n = y.node();
  if (n->box == Box::batch && has_left(thread_state(), n)) raise_left("vmap");
  const int at = normalize_axis(axis, y.ndim() + 1, "vmap");
  if (holds(y)) return move_axis(Tensor::share(n->boxed.primal), 0, at);
  Dims shape{batch_size_};
  shape.append(y.shape().data(), y.shape().size());
  return move_axis(broadcast_to(y, shape), 0, at);
}

// ----------------------------------------------------------------------------- stop_gradient

namespace {

Level open_level(const Node* box) {
  const auto& levels = thread_state().levels;
  if (box->level > levels.size() || levels[box->level - 1].serial != box->box_serial)
    raise(ErrorKind::runtime, "stop_gradient", "the tensor belongs to a transform that has ended");
  return levels[box->level - 1];
}

/// The value with `change(innermost)` below the same duals and batches, without tangents.
template <class Change>
Tensor with_innermost(const Tensor& x, Change change) {
  // Boxes are opened from the outermost in and closed again: as many as transforms are nested.
  const WithinScope within(thread_state().within ||
                           (x.node()->level && x.node()->box != Box::trace));
  std::vector<Node*> boxes;
  Node* n = x.node();
  while (n->level && n->box != Box::trace) {
    boxes.push_back(n);
    n = n->boxed.primal;
  }
  Tensor out = change(n);
  while (!boxes.empty()) {
    const Node* box = boxes.back();
    boxes.pop_back();
    const Level level = open_level(box);
    out = box->box == Box::dual ? box_dual(level, out, {}) : box_batch(level, out);
  }
  return out;
}

}  // namespace

Tensor stop_gradient(const Tensor& x) {
  static const Op& stop_record = find_op("stop_gradient");
  return with_innermost(x, [](Node* n) {
    return Tensor::adopt(n->box == Box::trace ? apply(stop_record, {&n, 1})
                                              : alias(n, nullptr, false));
  });
}

Tensor unmarked(const Tensor& shadow) {
  Tensor out = with_innermost(shadow, [](Node* n) {
    Tensor inner = Tensor::adopt(alias(n, nullptr, false));
    inner.node()->requires_grad = n->requires_grad;
    inner.node()->order = n->order;
    return inner;
  });
  out.node()->requires_grad = true;
  out.node()->order = shadow.node()->order;
  return out;
}

namespace {

/// Whether a transform that was open outside of `no_grad` may differentiate the value.
bool moves_outside(const ThreadState& state, const Node* n) {
  for (;; n = n->boxed.primal) {
    if (n->requires_grad && (!state.recording || is_severed(state, n))) return true;
    if (!n->level) return false;
    if (n->box == Box::trace) {
      TraceSink* trace =
          n->level <= state.levels.size() ? state.levels[n->level - 1u].trace : nullptr;
      return trace && trace->moves(n);
    }
    if (n->box == Box::dual && n->boxed.tangent) return true;
  }
}

}  // namespace

Tensor constant_part(const Tensor& x) {
  const ThreadState& state = thread_state();
  const WithinScope within(true);
  Node* n = x.node();
  const bool own = state.recording && n->requires_grad && !is_severed(state, n);
  if (n->level > state.constant_levels && n->box != Box::trace) {
    const Level level = open_level(n);
    Tensor inner = constant_part(Tensor::share(n->boxed.primal));
    Tensor tangent = n->boxed.tangent ? constant_part(Tensor::share(n->boxed.tangent)) : Tensor();
    if (inner.node() == n->boxed.primal && tangent.node() == n->boxed.tangent &&
        (own || !n->requires_grad))
      return x;
    return n->box == Box::batch ? box_batch(level, std::move(inner))
                                : box_dual(level, std::move(inner), std::move(tangent));
  }
  // A leaf that a tape has made inside keeps the tangents that it had.
  if (own && n->level && n->leaf)
    return apply(find_op("kept"), {&x}, make_attrs(KeptAttrs{.everywhere = true, .levels = {}}));
  if (own || n->level > state.constant_levels || !moves_outside(state, n)) return x;
  return n->level ? stop_gradient(x) : x.detach();
}

}  // namespace adjoint
