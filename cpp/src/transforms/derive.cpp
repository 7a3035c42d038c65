// One rule per record gives both modes: the vjp and the jvp of partials and of linear maps are
// derived here.
#include "transforms/derive.h"

#include <algorithm>

#include "adjoint/ops.h"
#include "graph/apply.h"
#include "graph/watcher.h"
#include "ops/rules.h"

namespace adjoint {

namespace {

Tensor times(const Partial& p, const Tensor& t) {
  switch (p.kind) {
    case Partial::zero: return {};
    case Partial::one: return t;
    case Partial::minus_one: return negative(t);
    case Partial::value: return mul0(t, p.tensor());
  }
  return {};
}

void accumulate(Tensor& sum, Tensor part) {
  if (!part.defined()) return;
  sum = sum.defined() ? add(sum, part) : std::move(part);
}

std::vector<Tensor> apply_all_with(const RuleArgs& args, std::span<const Tensor> inputs) {
  SmallVector<Node*, 8> nodes;
  for (const Tensor& t : inputs) nodes.push_back(t.node());
  return apply_all(args.op, nodes, AttrsPtr(args.attrs));
}

Tensor apply_with(const RuleArgs& args, std::span<const Tensor> inputs) {
  return apply_all_with(args, inputs)[0];
}

/// What a jointly linear operation is applied to for its tangents.
std::vector<Tensor> linear_inputs(const RuleArgs& args, std::span<const Tensor> tangents) {
  std::vector<Tensor> inputs(args.inputs.begin(), args.inputs.end());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (i < 8 && args.op.constant_inputs >> i & 1) continue;
    inputs[i] = tangents[i].defined() ? tangents[i]
                                      : zeros_of(args.inputs[i].shape(), args.inputs[i].dtype());
  }
  return inputs;
}

std::vector<Tensor> forward_rules(const RuleArgs& args, std::span<const Tensor> tangents) {
  return args.op.push ? args.op.push(args, tangents)
                      : apply_all_with(args, linear_inputs(args, tangents));
}

Tensor multilinear_tangent(const RuleArgs& args, std::span<const Tensor> tangents) {
  Tensor sum;
  std::vector<Tensor> inputs(args.inputs.begin(), args.inputs.end());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!tangents[i].defined()) continue;
    inputs[i] = tangents[i];
    accumulate(sum, apply_with(args, inputs));
    inputs[i] = args.inputs[i];
  }
  return sum;
}

Tensor forward_rule(const RuleArgs& args, std::span<const Tensor> tangents) {
  const Op& op = args.op;
  Tensor sum;
  if (op.partial) {
    for (std::size_t i = 0; i < tangents.size(); ++i)
      if (tangents[i].defined())
        accumulate(sum, times(op.partial(args, static_cast<int>(i)), tangents[i]));
    if (sum.defined() && !std::ranges::equal(sum.shape(), args.output.shape()))
      sum = broadcast_to(sum, args.output.shape());
    return sum;
  }
  if (op.transpose)
    return op.multilinear ? multilinear_tangent(args, tangents)
                          : apply_with(args, linear_inputs(args, tangents));
  if (op.pull) return forward_rules(args, tangents)[0];
  if (!op.jvp)
    raise(ErrorKind::runtime, op.name, "the operation has no forward-mode rule: use reverse mode");
  return op.jvp(args, tangents);
}

}  // namespace

const Tensor& no_tensor() {
  static const Tensor none;
  return none;
}

std::string derivative_of(const Op& op) {
  if (op.by_hand) return "a derivative given by hand";
  return std::string("the derivative of `").append(op.name).append("`");
}

Tensor input_cotangent(const RuleArgs& args, int i, Tensor& cotangent, bool spent) {
  const Op& op = args.op;
  if (op.partial) {
    static const Op& product = find_op("mul0");
    const Partial p = op.partial(args, i);
    if (p.kind == Partial::zero) return {};
    Tensor part;
    if (p.kind != Partial::value ||
        (spent && apply_in_place(product, cotangent.node(), p.tensor().node()))) {
      part = spent ? std::move(cotangent) : cotangent;
    } else {
      part = mul0(cotangent, p.tensor());
    }
    if (!part.node()->layout.same_shape(args.inputs[i].node()->layout))
      part = sum_to_shape(std::move(part), args.inputs[i].shape());
    // The sign is turned after the sum: less work, the same bits.
    return p.kind == Partial::minus_one ? negative(part) : part;
  }
  if (op.transpose) return op.transpose(args, i, cotangent);
  return op.vjp(args, i, cotangent);
}

std::vector<Tensor> input_cotangents(const RuleArgs& args, std::span<const Tensor> cotangents) {
  if (Watcher* watcher = open_watcher()) [[unlikely]]
    return watcher->derive(args, Watcher::kAllInputs, cotangents,
                           [&] { return args.op.pull(args, cotangents); });
  return args.op.pull(args, cotangents);
}

std::vector<Tensor> output_tangents(const RuleArgs& args, std::span<const Tensor> tangents) {
  if (Watcher* watcher = open_watcher()) [[unlikely]]
    return watcher->derive(args, Watcher::kTangent, tangents,
                           [&] { return forward_rules(args, tangents); });
  return forward_rules(args, tangents);
}

Tensor output_tangent(const RuleArgs& args, std::span<const Tensor> tangents) {
  if (Watcher* watcher = open_watcher()) [[unlikely]]
    return watcher->derive(args, Watcher::kTangent, tangents,
                           [&] { return std::vector{forward_rule(args, tangents)}; })[0];
  return forward_rule(args, tangents);
}

}  // namespace adjoint
