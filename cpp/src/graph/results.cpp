#include "graph/results.h"

#include <algorithm>

#include "graph/thread_state.h"

namespace adjoint {

Node* new_tuple(std::span<const Tensor> values) {
  Node* n = new_node(DType::boolean, Layout());
  n->box = Box::tuple;
  n->results = new std::vector<Node*>;
  n->results->reserve(values.size());
  for (const Tensor& value : values) {
    retain_handle(value.node());
    n->results->push_back(value.node());
    n->level = std::max(n->level, value.node()->level);
  }
  return n;
}

const Op& part_op() {
  static const Op& op = find_op("part");
  return op;
}

AttrsPtr part_attrs(std::size_t i) {
  const auto make = [](std::size_t number) {
    return make_attrs(PartAttrs{.index = static_cast<std::int64_t>(number)});
  };
  static const auto* const first = [&] {
    auto* list = new std::vector<AttrsPtr>;
    for (std::size_t k = 0; k < 16; ++k) list->push_back(make(k));
    return list;
  }();
  return i < first->size() ? (*first)[i] : make(i);
}

Tensor part_of(Node* tuple, std::size_t i) {
  const Node* value = results_of(tuple)[i];
  Tensor out = Tensor::adopt(new_node(value->dtype, value->layout));
  Node* n = out.node();
  share_held(n, value);
  set_inputs(n, {&tuple, 1});
  n->op = &part_op();
  n->attrs = part_attrs(i).detach();
  ThreadState& state = thread_state();
  state.order = n->order = std::max(state.last_order(), tuple->order) + 1;
  n->requires_grad = true;
  n->recorded = true;
  return out;
}

Tensor outline_of(const Node* value) {
  Node* n = new_node(value->dtype, value->layout);
  n->state.store(State::dropped, std::memory_order_relaxed);
  return Tensor::adopt(n);
}

std::vector<Tensor> run_results(const Op& op, std::span<const ResultSpec> specs,
                                std::span<Node* const> inputs, const Attrs* attrs,
                                std::uint32_t donated) {
  std::vector<Tensor> out;
  SmallVector<Node*, 8> nodes;
  for (const ResultSpec& spec : specs) {
    checked_size(spec.shape, op.name);
    out.push_back(Tensor::adopt(new_node(spec.dtype, Layout(spec.shape))));
    nodes.push_back(out.back().node());
  }
  if (op.run_all)
    op.run_all(op, nodes, inputs, attrs, donated);
  else
    op.run(op, nodes[0], inputs, attrs, donated);
  return out;
}

}  // namespace adjoint
