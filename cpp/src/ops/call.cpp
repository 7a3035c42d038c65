// The records of calls, and of the parts of any application with several results.
#include "ops/call.h"

#include "graph/results.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

struct CallAttrs {
  IntrusivePtr<const Callee> callee;

  static constexpr auto fields() { return std::tuple(field("callee", &CallAttrs::callee)); }
};

const Callee& callee_of(const Attrs* attrs) { return *attrs_as<CallAttrs>(attrs).callee; }

Family call_family;

// Sweeps and graphs know what a part is; it is applied as an operation nowhere but in programs.
[[maybe_unused]] Op& part_record = call_family.define(
    {.name = "part",
     .signature = "(results, index, /)",
     .doc = "One of several results.",
     .kind = OpKind::view,
     .arity = 1,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<PartAttrs>(),
     .infer = [](const Op&, std::span<Node* const> in, const Attrs* attrs) -> ResultList {
       const Node* value = results_of(in[0])[part_index(attrs)];
       return {value->dtype, Dims(value->layout.shape())};
     },
     .run =
         [](const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
           const Node* value = results_of(in[0])[part_index(attrs)];
           share_value(out, value, value->layout);
         },
     .internal = true,
     .part = true});

Op& call_record = call_family.define(
    {.name = "call",
     .signature = "(*inputs)",
     .doc = "The results of a function.",
     .kind = OpKind::custom,
     .arity = 0xff,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<CallAttrs>(),
     .infer = [](const Op&, std::span<Node* const>, const Attrs* attrs) -> ResultList {
       return ResultList::held(callee_of(attrs).results());
     },
     .run_all = [](const Op&, std::span<Node* const> out, std::span<Node* const> in,
                   const Attrs* attrs, std::uint32_t) { callee_of(attrs).run(in, out); },
     .batch_all = [](const BatchArgs& args) -> std::vector<Tensor> {
       return callee_of(args.attrs).batch(args);
     },
     .depends = [](const Attrs* attrs, const std::vector<bool>& inputs) -> std::vector<bool> {
       return callee_of(attrs).depends(inputs);
     },
     .internal = true,
     .fallible = true});

}  // namespace

std::vector<Tensor> call(const IntrusivePtr<const Callee>& callee, std::span<const Tensor> inputs) {
  std::vector<Node*> nodes;
  for (const Tensor& x : inputs) nodes.push_back(x.node());
  return apply_all(call_record, nodes, make_attrs(CallAttrs{callee}));
}

void register_call_ops() { call_family.register_all(); }

}  // namespace adjoint
