// Operations that a program registers: the public records of adjoint/op.h as records of the
// library. What their rules give is checked, since it comes from outside.
#include "adjoint/op.h"

#include <algorithm>
#include <memory>

#include "ops/structural.h"

namespace adjoint {

Operation make_operation(const Op& op) { return Operation(op); }
JointOperation make_joint_operation(const Op& op) { return JointOperation(op); }

namespace {

/// A record with what it refers to. Never destroyed.
struct OwnElementwise : Op {
  explicit OwnElementwise(ElementwiseOp given) : Op{}, own(std::move(given)) {}
  ElementwiseOp own;
  kernels::TileKernel rows[2];
};

struct OwnArray : Op {
  explicit OwnArray(ArrayOp given) : Op{}, own(std::move(given)) {}
  ArrayOp own;
};

struct OwnArrays : Op {
  explicit OwnArrays(ArraysOp given) : Op{}, own(std::move(given)) {}
  ArraysOp own;
};

const ElementwiseOp& elementwise(const Op& op) {
  return static_cast<const OwnElementwise&>(op).own;
}
const ArrayOp& array(const Op& op) { return static_cast<const OwnArray&>(op).own; }
const ArraysOp& arrays(const Op& op) { return static_cast<const OwnArrays&>(op).own; }

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
ResultSpec result_of(const ArraySpec& spec) {
  return {spec.dtype, Dims(Layout::Extents(spec.shape))};
}

std::vector<ArraySpec> specs_of(std::span<Node* const> inputs) {
  std::vector<ArraySpec> out;
  for (const Node* in : inputs) out.push_back(spec_of(in->dtype, in->layout.shape()));
  return out;
}

/// The elements of the inputs, and memory for those of the results.
struct Views {
  Views(const Op& op, std::span<Node* const> outputs, std::span<Node* const> inputs) {
    for (Node* out : outputs) {
      allocate_value(out, op.name);
      to.push_back({out->dtype, out->layout.shape(), out->layout.size(), out->data()});
    }
    for (Node* in : inputs) {
      held.push_back(contiguous(in));
      Node* n = held.back().node();
      from.push_back({n->dtype, n->layout.shape(), n->layout.size(), n->data()});
    }
  }
  std::vector<Tensor> held;
  std::vector<ArrayView> from;
  std::vector<MutableArrayView> to;
};

ResultList own_infer(const Op& op, std::span<Node* const> inputs, const Attrs*) {
  return result_of(array(op).infer(specs_of(inputs)));
}

void own_run(const Op& op, Node* out, std::span<Node* const> inputs, const Attrs*, std::uint32_t) {
  const Views views(op, {&out, 1}, inputs);
  array(op).run(views.from, views.to[0]);
}

/// The applications to each element of the batch, stacked.
std::vector<Tensor> batch_by_loop(const BatchArgs& args) {
  std::vector<std::vector<Tensor>> results;  // by result
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
    std::vector<Tensor> one = apply_all(args.op, nodes, AttrsPtr(args.attrs));
    results.resize(one.size());
    for (std::size_t r = 0; r < one.size(); ++r) results[r].push_back(std::move(one[r]));
  }
  std::vector<Tensor> out;
  out.reserve(results.size());
  for (const std::vector<Tensor>& members : results) out.push_back(stack(members, 0));
  return out;
}

/// What one element of the batch is like, of each input.
std::vector<ArraySpec> element_specs(const BatchArgs& args) {
  std::vector<ArraySpec> out;
  for (std::size_t i = 0; i < args.inputs.size(); ++i)
    out.push_back(spec_of(args.inputs[i].dtype(), element_shape(args, i)));
  return out;
}

/// Shape and dtype for one element of the batch decide those of an empty one.
ResultSpec batched(const BatchArgs& args, const ArraySpec& one) {
  return {one.dtype, prefixed(args.size, Layout::Extents(one.shape))};
}

Tensor own_batch(const BatchArgs& args) {
  const ArrayOp& own = array(args.op);
  const ResultSpec spec = batched(args, own.infer(element_specs(args)));
  Tensor given = own.batch ? own.batch({args.inputs, args.mapped, args.size}) : Tensor();
  if (given.defined()) return checked(std::move(given), own.name, "batch", spec.shape, spec.dtype);
  return args.size == 0 ? zeros(spec.shape, spec.dtype) : batch_by_loop(args)[0];
}

// ---- Several results ----------------------------------------------------------------------------

/// The tensors that a rule gave, one for each of these, of their shapes and dtypes.
std::vector<Tensor> all_checked(std::vector<Tensor> given, const ArraysOp& own, const char* rule,
                                std::span<const ResultSpec> wanted) {
  if (given.size() != wanted.size())
    raise(ErrorKind::value, own.name,
          std::string("the rule `") + rule + "` gave " + std::to_string(given.size()) +
              " tensors; needed are " + std::to_string(wanted.size()));
  for (std::size_t i = 0; i < given.size(); ++i)
    given[i] = checked(std::move(given[i]), own.name, rule, wanted[i].shape, wanted[i].dtype);
  return given;
}

std::vector<ResultSpec> specs_of(std::span<const Tensor> tensors) {
  std::vector<ResultSpec> out;
  for (const Tensor& t : tensors) out.push_back({t.dtype(), Dims(t.shape())});
  return out;
}

std::vector<Tensor> own_pull(const RuleArgs& args, std::span<const Tensor> cotangents) {
  const ArraysOp& own = arrays(args.op);
  return all_checked(own.pull({args.inputs, args.outputs}, cotangents), own, "pull",
                     specs_of(args.inputs));
}

std::vector<Tensor> own_push(const RuleArgs& args, std::span<const Tensor> tangents) {
  const ArraysOp& own = arrays(args.op);
  if (!own.push)
    raise(ErrorKind::runtime, own.name, "the operation has no forward-mode rule: use reverse mode");
  return all_checked(own.push({args.inputs, args.outputs}, tangents), own, "push",
                     specs_of(args.outputs));
}

ResultList own_infer_all(const Op& op, std::span<Node* const> inputs, const Attrs*) {
  std::vector<ResultSpec> out;
  for (const ArraySpec& spec : arrays(op).infer(specs_of(inputs))) out.push_back(result_of(spec));
  return out;
}

void own_run_all(const Op& op, std::span<Node* const> outputs, std::span<Node* const> inputs,
                 const Attrs*, std::uint32_t) {
  const Views views(op, outputs, inputs);
  arrays(op).run(views.from, views.to);
}

std::vector<Tensor> own_batch_all(const BatchArgs& args) {
  const ArraysOp& own = arrays(args.op);
  std::vector<ResultSpec> specs;
  for (const ArraySpec& one : own.infer(element_specs(args))) specs.push_back(batched(args, one));
  if (own.batch) {
    std::vector<Tensor> given = own.batch({args.inputs, args.mapped, args.size});
    if (!given.empty()) return all_checked(std::move(given), own, "batch", specs);
  }
  if (args.size > 0) return batch_by_loop(args);
  std::vector<Tensor> out;
  out.reserve(specs.size());
  for (const ResultSpec& spec : specs) out.push_back(zeros(spec.shape, spec.dtype));
  return out;
}

std::uint8_t needs(bool inputs, bool output) {
  return static_cast<std::uint8_t>((inputs ? 0x7f : 0) | (output ? kSavesOutput : 0));
}

/// What all kinds have in common, and the registration.
template <class Record>
const Op& register_record(std::unique_ptr<Record> op, int arity, bool reads_outputs) {
  const auto& own = op->own;
  if (own.name.empty()) raise(ErrorKind::value, "register_op", "an operation needs a name");
  op->name = own.name.c_str();
  op->signature = own.signature.c_str();
  op->doc = own.doc.c_str();
  op->arity = static_cast<std::uint8_t>(arity);
  std::ranges::fill(op->needs, needs(own.rule_reads_inputs, reads_outputs));
  register_later(*op);
  return *op.release();
}

/// The nodes of the inputs of an application, which are as many as there should be.
SmallVector<Node*, 8> nodes_of(const Op& op, std::span<const Tensor> inputs) {
  if (inputs.size() != op.arity)
    raise(ErrorKind::type, op.name,
          "takes " + std::to_string(op.arity) + " tensors, got " + std::to_string(inputs.size()) +
              ": " + op.name + op.signature);
  SmallVector<Node*, 8> nodes;
  for (const Tensor& x : inputs) {
    if (!x.defined()) raise(ErrorKind::value, op.name, "an input holds no value");
    nodes.push_back(x.node());
  }
  return nodes;
}

template <class Given>
void check_complete(const Given& given) {
  if (!given.infer || !given.run || given.arity < 1 || given.arity > 32)
    raise(ErrorKind::value, given.name,
          "`infer`, `run` and an arity from 1 to 32 are needed to compute it");
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
  const ElementwiseOp& own = op->own;
  return make_operation(register_record(std::move(op), own.kernels.arity, own.rule_reads_output));
}

Operation register_op(ArrayOp given) {
  check_complete(given);
  auto op = std::make_unique<OwnArray>(std::move(given));
  op->kind = OpKind::custom;
  op->dtypes = DTypeRule::custom;
  if (op->own.vjp) op->vjp = own_vjp;
  if (op->own.jvp) op->jvp = own_jvp;
  op->batch = own_batch;
  op->infer = own_infer;
  op->run = own_run;
  const ArrayOp& own = op->own;
  return make_operation(register_record(std::move(op), own.arity, own.rule_reads_output));
}

JointOperation register_op(ArraysOp given) {
  check_complete(given);
  auto op = std::make_unique<OwnArrays>(std::move(given));
  op->kind = OpKind::custom;
  op->dtypes = DTypeRule::custom;
  if (op->own.pull) op->pull = own_pull;
  if (op->own.pull && !op->own.linear) op->push = own_push;
  op->batch_all = own_batch_all;
  op->infer = own_infer_all;
  op->run_all = own_run_all;
  const ArraysOp& own = op->own;
  return make_joint_operation(register_record(std::move(op), own.arity, own.rule_reads_outputs));
}

Tensor Operation::apply(std::span<const Tensor> inputs) const {
  return Tensor::adopt(adjoint::apply(*op_, nodes_of(*op_, inputs)));
}

std::vector<Tensor> JointOperation::apply(std::span<const Tensor> inputs) const {
  return apply_all(*op_, nodes_of(*op_, inputs));
}

}  // namespace adjoint
