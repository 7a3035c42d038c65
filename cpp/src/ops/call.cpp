// Results lie in a block at multiples of a cache line, in order. Under a batch a block has the
// batch in front of its bytes, so that a result's part of it is strided.
#include "ops/call.h"

#include "ops/structural.h"

namespace adjoint {

namespace {

constexpr std::int64_t kAlignment = 64;

const Callee& callee_of(const Attrs* attrs) { return static_cast<const Callee&>(*attrs->payload); }

std::int64_t bytes_of(const ResultSpec& spec) {
  const std::int64_t bytes = product(spec.shape) * static_cast<std::int64_t>(itemsize(spec.dtype));
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// One result, at this many bytes from the start of the block.
AttrsPtr part_attrs(const ResultSpec& spec, std::int64_t offset) {
  auto* attrs = new Attrs;
  attrs->ints = spec.shape;
  attrs->dtype = spec.dtype;
  attrs->more.push_back(offset);
  return AttrsPtr(attrs);
}

/// A block of bytes has axes before the bytes, along a batch, as its results do.
void view_part(Node* out, const Node* block, const Attrs* attrs) {
  const auto size = static_cast<std::int64_t>(itemsize(attrs->dtype));
  const auto leading = block->layout.strides().first(block->layout.strides().size() - 1);
  Dims strides;
  for (const std::int64_t s : leading) strides.push_back(s / size);
  const Layout dense(Layout::Extents(attrs->ints).subspan(leading.size()));
  strides.append(dense.strides().data(), dense.strides().size());
  share_value(out, block,
              Layout(attrs->ints, strides, (block->layout.offset() + attrs->more[0]) / size));
}

std::int64_t block_bytes(std::span<const ResultSpec> results) {
  std::int64_t bytes = kAlignment;  // never so few that they would live in the node
  for (const ResultSpec& spec : results) bytes += bytes_of(spec);
  return bytes;
}

/// What one member of the batch is like, whose shape is `batch`, of each value.
std::vector<ResultSpec> members(std::span<Node* const> values, Layout::Extents batch) {
  std::vector<ResultSpec> out;
  for (const Node* n : values)
    out.push_back({n->dtype, Dims(n->layout.shape().subspan(batch.size()))});
  return out;
}

/// Memory for a block, and its parts for results of which each member of the batch is like this.
std::vector<Tensor> open_block(Node* block, std::span<const ResultSpec> results) {
  allocate_value(block, "call");
  const auto batch = block->layout.shape().first(block->layout.shape().size() - 1);
  std::vector<Tensor> parts;
  std::int64_t offset = 0;
  for (const ResultSpec& member : results) {
    ResultSpec whole{member.dtype, Dims(batch)};
    whole.shape.append(member.shape.data(), member.shape.size());
    parts.push_back(Tensor::adopt(new_node(whole.dtype, Layout(whole.shape))));
    view_part(parts.back().node(), block, part_attrs(whole, offset).get());
    offset += bytes_of(member);
  }
  return parts;
}

Family family;

Op& part_record = family.define(
    {.name = "call_result",
     .signature = "(results, /)",
     .doc = "One result of a call.",
     .kind = OpKind::view,
     .arity = 1,
     .dtypes = DTypeRule::custom,
     .batch = [](const BatchArgs& args) -> Tensor {
       auto* attrs = new Attrs(*args.attrs);
       const AttrsPtr held(attrs);
       attrs->ints = prefixed(args.size, attrs->ints);
       return apply(args.op, {&args.inputs[0]}, held);
     },
     .infer = [](std::span<Node* const>,
                 const Attrs* attrs) { return ResultSpec{attrs->dtype, attrs->ints}; },
     .run = [](Node* out, std::span<Node* const> in, const Attrs* attrs,
               std::uint32_t) { view_part(out, in[0], attrs); },
     .internal = true});

/// Copies results, each with a batch as axis 0, into the rows of a block.
Op& pack_record = family.define(
    {.name = "pack_results",
     .signature = "(*results)",
     .doc = "The results of a batch of calls, as bytes.",
     .kind = OpKind::custom,
     .arity = 0xff,
     .dtypes = DTypeRule::custom,
     .batch = [](const BatchArgs& args) -> Tensor {
       std::vector<Tensor> inputs;
       std::vector<Node*> nodes;
       for (std::size_t i = 0; i < args.inputs.size(); ++i) {
         inputs.push_back(mapped_input(args, i));
         nodes.push_back(inputs.back().node());
       }
       return Tensor::adopt(
           apply(args.op, nodes, make_attrs(prefixed(args.size, args.attrs->ints))));
     },
     .infer =
         [](std::span<Node* const> in, const Attrs* attrs) {
           Dims shape = attrs->ints;  // of the batch
           shape.push_back(block_bytes(members(in, attrs->ints)));
           return ResultSpec{DType::uint8, shape};
         },
     .run =
         [](Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
           const std::vector<Tensor> parts = open_block(out, members(in, attrs->ints));
           for (std::size_t i = 0; i < in.size(); ++i) {
             const Layout& from = in[i]->layout;
             Node* to = parts[i].node();
             kernels::strided_copy(itemsize(to->dtype), from.shape(), in[i]->data(),
                                   byte_strides(from.strides(), to->dtype), to->data(),
                                   byte_strides(to->layout.strides(), to->dtype));
           }
         },
     .internal = true});

Op& call_record =
    family.define({.name = "call",
                   .signature = "(*inputs)",
                   .doc = "The results of a function, as bytes.",
                   .kind = OpKind::custom,
                   .arity = 0xff,
                   .dtypes = DTypeRule::custom,
                   .batch = [](const BatchArgs& args) -> Tensor {
                     const std::vector<Tensor> results = callee_of(args.attrs).batch(args);
                     std::vector<Node*> nodes;
                     nodes.reserve(results.size());
                     for (const Tensor& t : results) nodes.push_back(t.node());
                     return Tensor::adopt(apply(pack_record, nodes, make_attrs({args.size})));
                   },
                   .infer =
                       [](std::span<Node* const>, const Attrs* attrs) {
                         return ResultSpec{DType::uint8, {block_bytes(callee_of(attrs).results())}};
                       },
                   .run =
                       [](Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
                         const auto parts = open_block(out, callee_of(attrs).results());
                         std::vector<Node*> nodes;
                         nodes.reserve(parts.size());
                         for (const Tensor& part : parts) nodes.push_back(part.node());
                         callee_of(attrs).run(in, nodes);
                       },
                   .internal = true,
                   .fallible = true});

}  // namespace

std::vector<Tensor> call(const IntrusivePtr<const Callee>& callee, std::span<const Tensor> inputs) {
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->payload = IntrusivePtr<const Payload>(callee.get());
  std::vector<Node*> nodes;
  for (const Tensor& x : inputs) nodes.push_back(x.node());
  const Tensor block = Tensor::adopt(apply(call_record, nodes, held));
  std::vector<Tensor> out;
  std::int64_t offset = 0;
  for (const ResultSpec& spec : callee->results()) {
    out.push_back(apply(part_record, {&block}, part_attrs(spec, offset)));
    offset += bytes_of(spec);
  }
  return out;
}

void register_call_ops() { family.register_all(); }

}  // namespace adjoint
