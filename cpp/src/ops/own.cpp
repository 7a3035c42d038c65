// Operations that a program registers: the public records of adjoint/op.h as records of the
// library. What their rules give is checked, since it comes from outside.
#include "adjoint/op.h"

#include <algorithm>
#include <memory>

#include "ops/structural.h"

namespace adjoint {

Operation make_operation(const Op& op) { return Operation(op); }

namespace {

/// A record with what it refers to. Never destroyed.
struct OwnElementwise : Op {
  explicit OwnElementwise(ElementwiseOp given) : Op{}, own(std::move(given)) {}
  ElementwiseOp own;
  kernels::TileKernel rows[2];
};

struct OwnArray;

/// Infer and run see the attributes of an application, not its record.
class OwnRecord final : public Payload {
 public:
  explicit OwnRecord(const OwnArray& op) : op_(op) {}
  const OwnArray& op() const noexcept { return op_; }

 private:
  const OwnArray& op_;
};

struct OwnArray : Op {
  explicit OwnArray(ArrayOp given) : Op{}, own(std::move(given)) {
    auto* attrs = new Attrs;
    attrs->payload = IntrusivePtr<const Payload>(new OwnRecord(*this));
    same_for_all = AttrsPtr(attrs);
  }
  ArrayOp own;
  AttrsPtr same_for_all;
};

const ElementwiseOp& elementwise(const Op& op) {
  return static_cast<const OwnElementwise&>(op).own;
}
const ArrayOp& array(const Op& op) { return static_cast<const OwnArray&>(op).own; }
const ArrayOp& array(const Attrs* attrs) {
  return static_cast<const OwnRecord&>(*attrs->payload).op().own;
}

/// What a rule gave, or an error that says what it should have given.
Tensor checked(Tensor given, const std::string& name, const std::string& rule, Tensor::Shape shape,
               DType dtype) {
  if (!given.defined() || (std::ranges::equal(given.shape(), shape) && given.dtype() == dtype))
    return given;
  raise(ErrorKind::value, name,
        "the rule `" + rule + "` gave " + std::string(adjoint::name(given.dtype())) + " of shape " +
            to_string(given.shape()) + "; needed is " + std::string(adjoint::name(dtype)) +
            " of shape " + to_string(shape));
}

Partial own_partial(const RuleArgs& args, int i) {
  const ElementwiseOp& own = elementwise(args.op);
  Tensor made = own.partial({args.inputs, args.output}, i);
  if (!made.defined()) return {Partial::zero};
  const Tensor& y = args.output;
  if (made.size() == 1 && made.dtype() == y.dtype()) return {Partial::value, reshape(made, {})};
  return {Partial::value, checked(std::move(made), own.name, "partial", y.shape(), y.dtype())};
}

Tensor own_vjp(const RuleArgs& args, int i, const Tensor& cotangent) {
  const ArrayOp& own = array(args.op);
  const Tensor& x = args.inputs[static_cast<std::size_t>(i)];
  return checked(own.vjp({args.inputs, args.output}, i, cotangent), own.name, "vjp", x.shape(),
                 x.dtype());
}

Tensor own_jvp(const RuleArgs& args, std::span<const Tensor> tangents) {
  const ArrayOp& own = array(args.op);
  return checked(own.jvp({args.inputs, args.output}, tangents), own.name, "jvp",
                 args.output.shape(), args.output.dtype());
}

ArraySpec spec_of(DType dtype, Layout::Extents shape) {
  return {dtype, {shape.begin(), shape.end()}};
}

ResultSpec own_infer(std::span<Node* const> inputs, const Attrs* attrs) {
  std::vector<ArraySpec> specs;
  for (const Node* in : inputs) specs.push_back(spec_of(in->dtype, in->layout.shape()));
  const ArraySpec out = array(attrs).infer(specs);
  return {out.dtype, Dims(Layout::Extents(out.shape))};
}

void own_run(Node* out, std::span<Node* const> inputs, const Attrs* attrs, std::uint32_t) {
  const ArrayOp& own = array(attrs);
  allocate_value(out, own.name.c_str());
  std::vector<Tensor> held;
  std::vector<ArrayView> views;
  for (Node* in : inputs) {
    held.push_back(contiguous(in));
    Node* n = held.back().node();
    views.push_back({n->dtype, n->layout.shape(), n->layout.size(), n->data()});
  }
  own.run(views, {out->dtype, out->layout.shape(), out->layout.size(), out->data()});
}

/// The applications to each element of the batch, stacked.
Tensor batch_by_loop(const BatchArgs& args) {
  std::vector<Tensor> results;
  for (std::int64_t k = 0; k < args.size; ++k) {
    std::vector<Tensor> inputs;
    SmallVector<Node*, 8> nodes;
    for (std::size_t i = 0; i < args.inputs.size(); ++i) {
      const Tensor& x = args.inputs[i];
      if (!args.mapped[i]) {
        inputs.push_back(x);
      } else {
        Dims starts(x.shape().size(), 0), counts(x.shape()), steps(x.shape().size(), 1);
        starts[0] = k;
        counts[0] = 1;
        steps[0] = 0;  // takes the axis away
        inputs.push_back(slice(x, starts, counts, steps));
      }
      nodes.push_back(inputs.back().node());
    }
    results.push_back(Tensor::adopt(apply(args.op, nodes, AttrsPtr(args.attrs))));
  }
  return stack(results, 0);
}

/// Shape and dtype for one element of the batch decide those of an empty one.
ResultSpec batched_spec(const BatchArgs& args) {
  std::vector<ArraySpec> specs;
  for (std::size_t i = 0; i < args.inputs.size(); ++i)
    specs.push_back(spec_of(args.inputs[i].dtype(), element_shape(args, i)));
  const ArraySpec one = array(args.op).infer(specs);
  return {one.dtype, prefixed(args.size, Layout::Extents(one.shape))};
}

Tensor own_batch(const BatchArgs& args) {
  const ArrayOp& own = array(args.op);
  const ResultSpec spec = batched_spec(args);
  Tensor given = own.batch ? own.batch({args.inputs, args.mapped, args.size}) : Tensor();
  if (given.defined()) return checked(std::move(given), own.name, "batch", spec.shape, spec.dtype);
  return args.size == 0 ? zeros(spec.shape, spec.dtype) : batch_by_loop(args);
}

std::uint8_t needs(bool inputs, bool output) {
  return static_cast<std::uint8_t>((inputs ? 0x7f : 0) | (output ? kSavesOutput : 0));
}

/// What both kinds have in common, and the registration.
template <class Record>
Operation register_record(std::unique_ptr<Record> op, int arity) {
  const auto& own = op->own;
  if (own.name.empty()) raise(ErrorKind::value, "register_op", "an operation needs a name");
  op->name = own.name.c_str();
  op->signature = own.signature.c_str();
  op->doc = own.doc.c_str();
  op->arity = static_cast<std::uint8_t>(arity);
  std::ranges::fill(op->needs, needs(own.rule_reads_inputs, own.rule_reads_output));
  register_later(*op);
  return make_operation(*op.release());
}

}  // namespace

Operation register_op(ElementwiseOp given) {
  if (given.kernels.arity < 1)
    raise(ErrorKind::value, given.name, "kernels are needed: adjoint::element_kernels<F>()");
  auto op = std::make_unique<OwnElementwise>(std::move(given));
  const ElementKernels& kernels = op->own.kernels;
  op->kind = OpKind::elementwise;
  op->dtypes = DTypeRule::floating;
  op->kernel = "";  // none of the library's
  constexpr std::uint8_t dear = 16;
  for (int k = 0; k < 2; ++k) {
    const DType t = k == 0 ? DType::float32 : DType::float64;
    const auto& loops = kernels.loops[k];
    op->rows[k] = {op->own.name.c_str(),
                   t,
                   t,
                   static_cast<std::uint8_t>(kernels.arity),
                   dear,
                   loops[0],
                   loops[1],
                   loops[2]};
    op->tiles[static_cast<int>(t)] = &op->rows[k];
  }
  if (op->own.partial) op->partial = own_partial;
  const int arity = kernels.arity;
  return register_record(std::move(op), arity);
}

Operation register_op(ArrayOp given) {
  if (!given.infer || !given.run || given.arity < 1 || given.arity > 32)
    raise(ErrorKind::value, given.name,
          "`infer`, `run` and an arity from 1 to 32 are needed to compute it");
  auto op = std::make_unique<OwnArray>(std::move(given));
  op->kind = OpKind::custom;
  op->dtypes = DTypeRule::custom;
  if (op->own.vjp) op->vjp = own_vjp;
  if (op->own.jvp) op->jvp = own_jvp;
  op->batch = own_batch;
  op->infer = own_infer;
  op->run = own_run;
  const int arity = op->own.arity;
  return register_record(std::move(op), arity);
}

Tensor Operation::apply(std::span<const Tensor> inputs) const {
  if (inputs.size() != op_->arity)
    raise(ErrorKind::type, op_->name,
          "takes " + std::to_string(op_->arity) + " tensors, got " + std::to_string(inputs.size()) +
              ": " + op_->name + op_->signature);
  SmallVector<Node*, 8> nodes;
  for (const Tensor& x : inputs) {
    if (!x.defined()) raise(ErrorKind::value, op_->name, "an input holds no value");
    nodes.push_back(x.node());
  }
  const bool plain = op_->kind == OpKind::elementwise;
  return Tensor::adopt(adjoint::apply(
      *op_, nodes, plain ? AttrsPtr() : static_cast<const OwnArray*>(op_)->same_for_all));
}

}  // namespace adjoint
