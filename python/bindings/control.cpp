// What the package builds control flow inside compiled functions from, linear parts, series, and
// calls of functions on the host.
#include "compile/loops.h"

#include <utility>

#include "adjoint/ops.h"
#include "callback.h"
#include "compile/program.h"
#include "compile/taylor.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/trace_sink.h"
#include "numbers.h"
#include "ops/call.h"
#include "ops/structural.h"
#include "transforms.h"
#include "transforms/custom.h"

namespace adjoint::python {

namespace {

using GraphPtr = std::shared_ptr<const Graph>;

ListFunction list_function(const py::object& f) {
  return [&f](std::span<const Tensor> inputs) { return tensors_of(f(to_list(inputs))); };
}

// A graph as a function of its inputs: a program where nothing has to be recorded or transformed.
class Linear {
 public:
  explicit Linear(GraphPtr graph) : graph_(std::move(graph)) {
    for (const Tensor& c : graph_->constants()) plain_ &= !c.node()->level && !c.requires_grad();
  }
  py::list replay(const py::sequence& inputs) {
    const std::vector<Tensor> in = tensors_of(inputs);
    bool plain = plain_;
    for (const Tensor& t : in) plain &= !t.node()->level && !is_differentiated(t);
    if (!plain) return to_list(graph_->replay(in));
    if (!program_) program_ = std::make_unique<const CompiledProgram>(*graph_);
    return to_list(program_->run(in));
  }

 private:
  GraphPtr graph_;
  std::unique_ptr<const CompiledProgram> program_;
  bool plain_ = true;
};

py::tuple linearize_list(const py::object& f, const py::sequence& primals) {
  Linearized l = linearize(list_function(f), tensors_of(primals));
  return py::make_tuple(to_list(l.outputs), Linear(std::move(l.pushforward)));
}

py::list taylor_list(const py::object& f, const py::sequence& primals, const py::sequence& tangents,
                     int order) {
  py::list out;
  for (const auto& row : taylor(list_function(f), tensors_of(primals), tensors_of(tangents), order))
    out.append(to_list(row));
  return out;
}

// `f(inner, mapped, size)` gives the results for a batch, which is axis 0 of what `mapped` marks.
class PythonBatch final : public Callee::BatchFunction {
 public:
  explicit PythonBatch(py::object f) : f_(std::move(f)) {}
  std::vector<Tensor> run(const BatchArgs& args) const override {
    const HostLockScope lock;
    py::list mapped;
    for (const bool m : args.mapped) mapped.append(py::bool_(m));
    return tensors_of(call_object(*f_, to_list(args.inputs), mapped, py::int_(args.size)));
  }
  std::vector<bool> depends(const std::vector<bool>&) const override { return {}; }
  void list(Holdings& out) const override { f_.list(out); }

 private:
  Callback f_;
};

Callee::Batch batch_function(py::object f) { return Callee::Batch(new PythonBatch(std::move(f))); }

// A Python function of a list of tensors that returns the results as tensors.
class HostCallee final : public Callee {
 public:
  HostCallee(std::vector<ResultSpec> specs, py::object f, Batch batch)
      : Callee(std::move(specs), std::move(batch)), f_(std::move(f)) {}
  void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const override {
    const HostLockScope lock;
    py::list arguments;
    for (Node* n : inputs) arguments.append(wrapped(Tensor::share(n)));
    const std::vector<Tensor> values = tensors_of(call_object(*f_, arguments));
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      materialize(values[i].node());
      allocate_value(outputs[i], "host_op");
      copy_value(values[i].node(), outputs[i]->data());
    }
  }

  void list(Holdings& out) const override {
    Callee::list(out);
    f_.list(out);
  }

 private:
  Callback f_;
};

py::list results(const IntrusivePtr<const Callee>& callee, const py::sequence& inputs) {
  return to_list(call(callee, tensors_of(inputs)));
}

bool is_batched(const py::object& x) {
  for (const Node* n = read_node(as_tensor(x.ptr())); n->level && n->box != Box::trace;
       n = n->boxed.primal)
    if (n->box == Box::batch) return true;
  return false;
}

// Whether any element is true, for all members of all batches.
bool any_true(const py::object& x) {
  Node* n = const_cast<Node*>(innermost(read_node(as_tensor(x.ptr()))));
  const Tensor found = any(Tensor::share(n).detach());
  return found.item() != 0;
}

}  // namespace

void init_control(py::module_& m) {
  py::class_<Linear>(m, "_Linear", py::module_local()).def("replay", &Linear::replay);
  m.def("_linearize", &linearize_list);
  m.def("_taylor", &taylor_list);
  m.def("_tracing", [] { return current_trace() != nullptr; });
  m.def("_choose", [](const py::object& pred, const py::object& f, const py::object& g,
                      const py::sequence& operands) {
    return to_list(traced_cond(Tensor::share(read_node(as_tensor(pred.ptr()))), list_function(f),
                               list_function(g), tensors_of(operands)));
  });
  m.def("_loop", [](const py::object& step, const py::sequence& carry, const py::sequence& rows,
                    std::int64_t length, bool reverse) {
    return to_list(
        traced_scan(list_function(step), tensors_of(carry), tensors_of(rows), length, reverse));
  });
  m.def("_repeat", [](const py::object& condition, const py::object& step,
                      const py::sequence& carry, std::int64_t limit) {
    return to_list(
        traced_while(list_function(condition), list_function(step), tensors_of(carry), limit));
  });
  m.def("_call_host",
        [](py::object f, const py::sequence& specs, py::object batch, const py::sequence& inputs) {
          std::vector<ResultSpec> wanted;
          for (const py::handle spec : specs) {
            const py::sequence pair = py::reinterpret_borrow<py::sequence>(spec);
            const py::object shape = pair[0];
            const py::object dtype = pair[1];
            wanted.push_back({dtype_from_python(dtype.ptr(), "host_op"),
                              dims_argument(shape.ptr(), "host_op", "shape")});
          }
          return results(IntrusivePtr<const Callee>(new HostCallee(
                             std::move(wanted), std::move(f), batch_function(std::move(batch)))),
                         inputs);
        });
  m.def("_is_batched", &is_batched);
  m.def("_is_traced", [](const py::object& x) {
    return innermost(read_node(as_tensor(x.ptr())))->box == Box::trace;
  });
  m.def("_any_true", &any_true);
  m.def("_is_number", [](const py::object& x) {
    return weak_kind(x.ptr()).has_value() || is_traced_number(x.ptr());
  });
}

}  // namespace adjoint::python
