// The carrier of a derivative that is given by hand, and the rule under a batch.
#include "transforms/custom.h"

#include <algorithm>
#include <unordered_set>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/apply.h"
#include "graph/holdings.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "ops/structural.h"
#include "transforms/levels.h"

namespace adjoint {

namespace {

struct CarrierAttrs {
  IntrusivePtr<const DerivativeRule> rule;

  static constexpr auto fields() { return std::tuple(field("rule", &CarrierAttrs::rule)); }
};

const DerivativeRule& rule_of(const Attrs* attrs) { return *attrs_as<CarrierAttrs>(attrs).rule; }

std::vector<Tensor> carriers(std::span<const Tensor> inputs,
                             IntrusivePtr<const DerivativeRule> rule);

bool is_of_directions(std::uint32_t serial) {
  return std::ranges::any_of(thread_state().levels, [serial](const Level& level) {
    return level.serial == serial && level.directions;
  });
}

std::vector<bool> values_along(const DerivativeRule& rule, std::span<const bool> mapped) {
  return rule.depends(std::vector<bool>(mapped.begin(), mapped.end()));
}

/// What the values of a rule are like along a batch.
std::vector<ResultSpec> batched_values(const DerivativeRule& rule, const BatchArgs& args) {
  std::vector<ResultSpec> out = rule.values();
  const std::vector<bool> has = values_along(rule, args.mapped);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (has[i]) out[i].shape = prefixed(args.size, out[i].shape);
  return out;
}

/// A rule applied along a batch: the inputs that had the batch when the carrier was batched, and
/// the values that depend on them, have it in every call, and cotangents of other inputs are sums
/// over it.
class BatchedRule final : public DerivativeRule {
 public:
  BatchedRule(IntrusivePtr<const DerivativeRule> rule, const BatchArgs& args)
      : DerivativeRule(batched_values(*rule, args)),
        rule_(std::move(rule)),
        mapped_(args.mapped.begin(), args.mapped.end()),
        has_(values_along(*rule_, args.mapped)),
        size_(args.size),
        outer_(args.serial),
        directions_(is_of_directions(args.serial)) {}

  std::vector<Tensor> pull(std::span<const Tensor> inputs, std::span<const Tensor> cotangents,
                           Wanted wanted) const override {
    std::vector<Tensor> out = pull_from(inputs, cotangents, wanted, true);
    const std::vector<Tensor> shared = pull_from(inputs, cotangents, wanted, false);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (shared[i].defined()) out[i] = out[i].defined() ? out[i] + shared[i] : shared[i];
    return out;
  }

  std::vector<Tensor> push(std::span<const Tensor> inputs,
                           std::span<const Tensor> tangents) const override {
    const TransformLevel level = open();
    stand_in_for(outer_);
    std::vector<Tensor> out = rule_->push(boxed(level, inputs), boxed(level, tangents));
    for (std::size_t i = 0; i < out.size(); ++i)
      if (has_[i] && out[i].defined()) out[i] = opened(level, out[i]);
    return out;
  }

  std::vector<bool> depends(const std::vector<bool>& inputs) const override {
    return rule_->depends(inputs);
  }
  void list(Holdings& out) const override { out.add(rule_.get()); }

 private:
  /// The cotangents of the values that have the batch, or of those that do not: these come once for
  /// all members, and must not be counted for each.
  std::vector<Tensor> pull_from(std::span<const Tensor> inputs, std::span<const Tensor> cotangents,
                                Wanted wanted, bool along) const {
    std::vector<Tensor> given(cotangents.size());
    bool any = false;
    for (std::size_t i = 0; i < given.size(); ++i) {
      if (has_[i] != along || !cotangents[i].defined()) continue;
      given[i] = cotangents[i];
      any = true;
    }
    if (!any) return std::vector<Tensor>(inputs.size());
    const TransformLevel level = open();
    stand_in_for(outer_);
    for (Tensor& ct : given)
      if (along && ct.defined()) ct = level.make_batched(ct, 0);
    std::vector<Tensor> out = rule_->pull(boxed(level, inputs), given, wanted);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!out[i].defined()) continue;
      if (along) {
        out[i] = opened(level, out[i]);
        if (!mapped_[i]) out[i] = sum(out[i], 0);
      } else if (mapped_[i]) {
        out[i] = Tensor();  // the value does not depend on it
      } else if (level.holds(out[i])) {
        // A sweep inside the batch comes here with a cotangent for each member: it stays one.
        out[i] = take(level.split_batched(out[i], 0), Tensor::scalar(0.0, DType::int64), 0);
      }
    }
    return out;
  }

  TransformLevel open() const {
    return directions_ ? TransformLevel::directions(size_) : TransformLevel::batch(size_);
  }

  std::vector<Tensor> boxed(const TransformLevel& level, std::span<const Tensor> values) const {
    std::vector<Tensor> out(values.begin(), values.end());
    for (std::size_t i = 0; i < out.size(); ++i)
      if (mapped_[i] && out[i].defined()) out[i] = level.make_batched(out[i], 0);
    return out;
  }

  Tensor opened(const TransformLevel& level, const Tensor& x) const {
    Tensor out = level.split_batched(x, 0);
    for (const Node* n = out.node(); n->level && n->box != Box::trace; n = n->boxed.primal)
      if (n->box_serial == outer_)
        raise(ErrorKind::value, "vmap",
              "a derivative given by hand uses a value that is mapped outside of it: pass it as an "
              "argument");
    return out;
  }

  IntrusivePtr<const DerivativeRule> rule_;
  std::vector<bool> mapped_;  // by input
  std::vector<bool> has_;     // by value
  std::int64_t size_;
  std::uint32_t outer_;  // serial of the level at which the carrier was batched
  bool directions_;
};

Family family;

Op& carrier_record = family.define(
    {.name = "derivative_carrier",
     .signature = "(*inputs)",
     .doc = "-0.0 everywhere; the derivative is the rule it carries.",
     .kind = OpKind::custom,
     .arity = 0xff,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<CarrierAttrs>(),
     .pull = [](const RuleArgs& args, std::span<const Tensor> cotangents) -> std::vector<Tensor> {
       return rule_of(args.attrs).pull(args.inputs, cotangents, args.wanted);
     },
     .push = [](const RuleArgs& args, std::span<const Tensor> tangents) -> std::vector<Tensor> {
       return rule_of(args.attrs).push(args.inputs, tangents);
     },
     .needs = {0x7f, 0x7f, 0x7f},
     .infer = [](const Op&, std::span<Node* const>, const Attrs* attrs) -> ResultList {
       return ResultList::held(rule_of(attrs).values());
     },
     .run_all =
         [](const Op&, std::span<Node* const> outputs, std::span<Node* const>, const Attrs*,
            std::uint32_t) {
           for (Node* out : outputs) {
             out->stored = Tensor::scalar(-0.0, out->dtype).node()->stored;
             const Dims shape(out->layout.shape());
             out->layout = Layout(shape, Dims(shape.size(), 0), 0);
           }
         },
     .batch_all = [](const BatchArgs& args) -> std::vector<Tensor> {
       return carriers(args.inputs,
                       IntrusivePtr<const DerivativeRule>(new BatchedRule(
                           IntrusivePtr<const DerivativeRule>(&rule_of(args.attrs)), args)));
     },
     .depends = [](const Attrs* attrs, const std::vector<bool>& inputs) -> std::vector<bool> {
       return rule_of(attrs).depends(inputs);
     },
     .internal = true,
     .fixed_value = true,
     .by_hand = true});

/// For what has the value of its input and parameters that do not speak of axes.
Tensor batch_same(const BatchArgs& args) {
  return apply(args.op, {&args.inputs[0]}, same_attrs(args.attrs));
}

/// Tells one barrier from another.
class Token final : public Payload {};

struct BarrierAttrs {
  IntrusivePtr<const Token> token;

  static constexpr auto fields() { return std::tuple(field("token", &BarrierAttrs::token)); }
};

Op& barrier_record = family.define(
    {.name = "barrier",
     .signature = "(x, /)",
     .doc = "The same value, in a program not merged with what is computed from x itself.",
     .kind = OpKind::view,
     .arity = 1,
     .attrs = attrs_type<BarrierAttrs>(),
     .transpose = [](const RuleArgs&, int, const Tensor& ct) { return ct; },
     .batch = batch_same,
     .infer = infer_same,
     .run = run_same,
     .internal = true});

Op& attached_record = family.define(
    {.name = "attached",
     .signature = "(value, carrier, /)",
     .doc = "The value, with the derivative of the carrier.",
     .kind = OpKind::view,
     .arity = 2,
     .vjp = [](const RuleArgs&, int, const Tensor& ct) { return ct; },
     .jvp = [](const RuleArgs&, std::span<const Tensor> tangents) -> Tensor { return tangents[1]; },
     .constant_inputs = 1,
     .batch = [](const BatchArgs& args) -> Tensor {
       const Tensor value = mapped_input(args, 0);
       const Tensor carried = mapped_input(args, 1);
       return apply(args.op, {&value, &carried});
     },
     .infer = infer_same,
     .run = run_same,
     .internal = true,
     .transparent = true});

[[maybe_unused]] Op& unrecorded_record = family.define(
    {.name = "unrecorded",
     .signature = "(x, /)",
     .doc = "The same value, where work is not recorded: cotangents do not pass.",
     .kind = OpKind::view,
     .arity = 1,
     .vjp = [](const RuleArgs&, int, const Tensor&) -> Tensor { return {}; },
     .jvp = [](const RuleArgs&, std::span<const Tensor> tangents) -> Tensor { return tangents[0]; },
     .batch = batch_same,
     .infer = infer_same,
     .run = run_same,
     .internal = true,
     .transparent = true,
     .no_reverse = true});

[[maybe_unused]] Op& kept_record =
    family.define({.name = "kept",
                   .signature = "(x, /)",
                   .doc = "The same value, as a handle keeps it: tangents do not pass.",
                   .kind = OpKind::view,
                   .arity = 1,
                   .attrs = attrs_type<KeptAttrs>(),
                   .vjp = [](const RuleArgs&, int, const Tensor& ct) { return ct; },
                   .jvp = [](const RuleArgs&, std::span<const Tensor>) -> Tensor { return {}; },
                   .batch = batch_same,
                   .infer = infer_same,
                   .run = run_same,
                   .internal = true,
                   .transparent = true,
                   .no_forward = true});

[[maybe_unused]] Op& stop_record = family.define({.name = "stop_gradient",
                                                  .signature = "(x, /)",
                                                  .doc = "The same value; no derivative passes.",
                                                  .kind = OpKind::view,
                                                  .arity = 1,
                                                  .batch = batch_same,
                                                  .infer = infer_same,
                                                  .run = run_same,
                                                  .internal = true,
                                                  .transparent = true});

std::vector<Tensor> carriers(std::span<const Tensor> inputs,
                             IntrusivePtr<const DerivativeRule> rule) {
  std::vector<Node*> nodes;
  for (const Tensor& x : inputs) nodes.push_back(x.node());
  return apply_all(carrier_record, nodes, make_attrs(CarrierAttrs{std::move(rule)}));
}

}  // namespace

void register_transform_ops() { family.register_all(); }

std::vector<Tensor> DerivativeRule::all_defined(std::span<const Tensor> cotangents) const {
  std::vector<Tensor> out(cotangents.begin(), cotangents.end());
  for (std::size_t i = 0; i < out.size(); ++i)
    if (!out[i].defined()) out[i] = zeros(values_[i].shape, values_[i].dtype);
  return out;
}

// -------------------------------------------------------------------------------- with_derivative

std::vector<Tensor> with_derivative(std::span<const Tensor> values, std::span<const Tensor> inputs,
                                    IntrusivePtr<const DerivativeRule> rule) {
  std::vector<Tensor> out = carriers(inputs, std::move(rule));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = add(values[i], out[i]);
  return out;
}

std::vector<Tensor> recorded_with_derivative(std::span<const Tensor> values,
                                             std::span<const Tensor> inputs,
                                             IntrusivePtr<const DerivativeRule> rule) {
  std::vector<Tensor> out = carriers(inputs, std::move(rule));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = apply(attached_record, {&values[i], &out[i]});
  return out;
}

bool is_differentiated(const Tensor& x) noexcept {
  const ThreadState& state = thread_state();
  for (const Node* n = x.node(); n; n = n->boxed.primal) {
    if (state.recording && n->requires_grad && !is_severed(state, n)) return true;
    if (!n->level || n->box == Box::trace) return false;
    if (n->box == Box::dual && n->boxed.tangent && n->level > state.constant_levels) return true;
  }
  return false;
}

bool has_tangent(const Tensor& x) noexcept {
  for (const Node* n = x.node(); n && n->level && n->box != Box::trace; n = n->boxed.primal)
    if (n->box == Box::dual && n->boxed.tangent && n->level > thread_state().constant_levels)
      return true;
  return false;
}

namespace {

/// Whether recorded work leads from the node to one from before `start`.
bool leads_before(const Node* from, std::uint64_t start) {
  std::vector<const Node*> stack{from};
  std::unordered_set<const Node*> seen{from};
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    if (n->order <= start || (n->leaf && n->leaf->order <= start)) return true;
    if (!n->recorded) continue;
    for (const Node* in : n->inputs())
      if (in->requires_grad && seen.insert(in).second) stack.push_back(in);
  }
  return false;
}

}  // namespace

bool is_in_body(const Tensor& x) {
  const Node* n = innermost(x.node());
  const auto& levels = thread_state().levels;
  if (!n->level || n->level > levels.size()) return false;
  TraceSink* trace = levels[n->level - 1u].trace;
  return trace && trace->moves(n);
}

Tensor barrier(const Tensor& x) {
  if (!current_trace()) return x;
  return apply(barrier_record, {&x},
               make_attrs(BarrierAttrs{IntrusivePtr<const Token>(new Token)}));
}

bool is_connected(const Tensor& x, std::uint64_t start) {
  const ThreadState& state = thread_state();
  for (const Node* n = x.node();; n = n->boxed.primal) {
    if (state.recording && n->requires_grad && !is_severed(state, n) && leads_before(n, start))
      return true;
    if (!n->level || n->box == Box::trace) break;
    if (n->box == Box::dual && n->boxed.tangent && n->level > state.constant_levels) return true;
  }
  return is_in_body(x);
}

}  // namespace adjoint
