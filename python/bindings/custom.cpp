// What the package builds custom derivatives and checkpoints from: rules that are Python functions.
#include "transforms/custom.h"

#include <algorithm>
#include <utility>

#include "adjoint/ops.h"
#include "callback.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "transforms.h"

namespace adjoint::python {

namespace {

// Tensors of the given shapes and dtypes from what a rule returned; None is zero.
std::vector<Tensor> from_list(const py::object& result, std::span<const ResultSpec> wanted) {
  const py::sequence items = result;
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const py::object item = items[i];
    if (item.is_none()) {
      out.emplace_back();
      continue;
    }
    Tensor t = tensor_argument(item.ptr(), "rule");
    if (!std::ranges::equal(t.shape(), wanted[i].shape))
      raise(ErrorKind::value, "rule",
            "a derivative given by hand has shape " + to_string(t.shape()) +
                " where the value it belongs to has shape " + to_string(wanted[i].shape));
    out.push_back(t.dtype() == wanted[i].dtype ? t : astype(t, wanted[i].dtype));
  }
  return out;
}

// `pull(inputs, cotangents)` and `push(inputs, tangents)` give lists with None for zero.
class PythonRule final : public JointRule {
 public:
  PythonRule(std::vector<ResultSpec> parts, py::object pull, py::object push)
      : JointRule(std::move(parts)), pull_(std::move(pull)), push_(std::move(push)) {}

 protected:
  std::vector<Tensor> pull_parts(std::span<const Tensor> inputs,
                                 std::span<const Tensor> cotangents) const override {
    const py::gil_scoped_acquire lock;
    return from_list((*pull_)(to_list(inputs), to_list(cotangents)), specs_of(inputs));
  }
  std::vector<Tensor> push_parts(std::span<const Tensor> inputs,
                                 std::span<const Tensor> tangents) const override {
    const py::gil_scoped_acquire lock;
    return from_list((*push_)(to_list(inputs), to_list(tangents)), parts());
  }

 private:
  Callback pull_;
  Callback push_;
};

py::list attach_derivative(const py::sequence& values, const py::sequence& inputs, py::object pull,
                           py::object push) {
  const std::vector<Tensor> outs = tensors_of(values);
  IntrusivePtr<const JointRule> rule(
      new PythonRule(specs_of(outs), std::move(pull), std::move(push)));
  return to_list(with_derivative(outs, tensors_of(inputs), std::move(rule)));
}

template <auto test>
bool any_of(const py::sequence& items) {
  return std::ranges::any_of(tensors_of(items), test);
}

// Inside a dual or a batch.
bool is_boxed(const Tensor& x) { return innermost(x.node()) != x.node(); }

// The same values, for a program as far as possible from being known as such.
py::list barrier_list(const py::sequence& items) {
  std::vector<Tensor> out = tensors_of(items);
  for (Tensor& t : out) t = barrier(t);
  return to_list(out);
}

// Gradients of <outputs, cotangents> at `leaves` and `captured`, looking only at what was recorded
// after `start`.
py::list sweep_since(const py::sequence& outputs, const py::sequence& cotangents,
                     const py::sequence& leaves, const py::sequence& captured,
                     std::uint64_t start) {
  const std::vector<Tensor> ys = tensors_of(outputs);
  const std::vector<Tensor> cs = tensors_of(cotangents);
  std::vector<Tensor> xs;
  for (const py::handle s : leaves) xs.push_back(handle_of(as_tensor(s.ptr())));
  const std::vector<Tensor> found = captured_before(ys, start, xs);
  for (const Tensor& c : tensors_of(captured)) {
    if (std::ranges::find(found, c.node(), &Tensor::node) == found.end())
      raise(ErrorKind::runtime, "checkpoint",
            "a tensor that the function closes over is not the one it used when it ran: it was "
            "assigned to since, or the tape that watched it has ended; pass it as an argument");
    xs.push_back(c);
  }
  const std::pair<std::uint64_t, std::uint64_t> range(start + 1, ~std::uint64_t{0});
  SweepOptions options;
  options.ranges = {&range, 1};
  options.create_graph = thread_state().recording;
  return to_list(sweep(ys, cs, xs, options));
}

// A run whose work is recorded with respect to fresh leaves that keep the history of `inputs`.
py::tuple recorded_run(const py::object& f, const py::sequence& inputs) {
  const RecorderScope recorder;
  const std::uint64_t start = thread_state().order;
  py::list leaves;
  for (const Tensor& x : tensors_of(inputs)) leaves.append(wrapped(reverse_input(x)));
  return py::make_tuple(f(leaves), leaves, start);
}

}  // namespace

py::list to_list(std::span<const Tensor> tensors) {
  py::list out;
  for (const Tensor& t : tensors)
    out.append(t.defined() ? wrapped(constant_in_trace(Tensor::share(t.node()))) : py::none());
  return out;
}

std::vector<Tensor> tensors_of(const py::sequence& items) {
  std::vector<Tensor> out;
  for (const py::handle item : py::tuple(items)) {
    if (!is_tensor(item.ptr()))
      raise(ErrorKind::type, "core", "needs a list of tensors, not of " + type_name(item.ptr()));
    out.push_back(Tensor::share(read_node(as_tensor(item.ptr()))));
  }
  return out;
}

std::vector<ResultSpec> specs_of(std::span<const Tensor> tensors) {
  std::vector<ResultSpec> out;
  for (const Tensor& t : tensors) out.push_back({t.dtype(), Dims(t.shape())});
  return out;
}

void init_custom(py::module_& m) {
  m.def("_attach_derivative", &attach_derivative);
  m.def("_any_differentiated", &any_of<is_differentiated>);
  m.def("_any_in_body", &any_of<is_in_body>);
  m.def("_recorders_open", [] { return thread_state().open_recorders > 0; });
  m.def("_any_boxed", &any_of<is_boxed>);
  m.def("_barrier", &barrier_list);
  m.def("_sweep_since", &sweep_since);
  m.def("_recorded_run", &recorded_run);
  m.def("_captured_before", [](const py::sequence& outputs, std::uint64_t start) {
    return to_list(captured_before(tensors_of(outputs), start));
  });
}

}  // namespace adjoint::python
