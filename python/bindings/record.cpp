// What was recorded to compute a value, as rows of data: the part of `Tensor.graph` that walks over
// nodes. What a picture shows of the rows, and how, is decided in Python.
//
// A value whose memory was let go is computed again, from what is left above it. Adjoints come from
// one sweep whose sources are the values that are shown. Both are constants.
#include "record.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/node_numbers.h"
#include "graph/op.h"
#include "graph/results.h"
#include "graph/unread.h"
#include "named_handles.h"

namespace adjoint::python {

namespace {

/// The node with the edges and the attributes of the application that gave a value: of one result
/// among several it is their tuple.
const Node* application_of(const Node* n) noexcept {
  return n->op && n->op->part ? n->inputs()[0] : n;
}

/// The recorded operands of a value; of data, and of what has no derivative, there are none.
std::span<Node* const> operands_of(const Node* n) noexcept {
  if (!n->recorded || !n->op) return {};
  return application_of(n)->inputs();
}

/// The nodes behind a value, operands before results.
class RecordedNodes {
 public:
  explicit RecordedNodes(const Tensor& output) : output_(output) {
    std::vector<Node*> stack{output.node()};
    places_[output.node()] = 1;
    while (!stack.empty()) {
      Node* n = stack.back();
      stack.pop_back();
      nodes_.push_back(n);
      for (Node* operand : operands_of(n))
        if (!is_unread(operand) && !std::exchange(places_[operand], 1)) stack.push_back(operand);
    }
    std::stable_sort(nodes_.begin(), nodes_.end(),
                     [](const Node* a, const Node* b) { return a->order < b->order; });
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      places_[nodes_[i]] = static_cast<std::uint32_t>(i + 1);
  }

  std::size_t size() const noexcept { return nodes_.size(); }
  Node* operator[](std::size_t place) const { return nodes_[place]; }
  std::size_t place(const Node* n) const { return places_.find(n) - 1; }
  const Tensor& output() const noexcept { return output_; }

  /// The places of at most `limit` nodes, those first to which fewest applications lead from the
  /// output; in ascending order.
  std::vector<std::size_t> nearest(std::size_t limit) const {
    std::vector<bool> seen(size(), false);
    std::vector<std::size_t> queue{place(output_.node())};
    seen[queue[0]] = true;
    for (std::size_t i = 0; i < queue.size() && queue.size() < limit; ++i) {
      for (const Node* operand : operands_of(nodes_[queue[i]])) {
        if (is_unread(operand)) continue;
        const std::size_t p = place(operand);
        if (seen[p] || queue.size() == limit) continue;
        seen[p] = true;
        queue.push_back(p);
      }
    }
    std::sort(queue.begin(), queue.end());
    return queue;
  }

 private:
  Tensor output_;  // holds them all
  std::vector<Node*> nodes_;
  NodeNumbers places_;  // and one more
};

/// Values of nodes; undefined where there is none, as inside of a trace.
class Values {
 public:
  Values(const RecordedNodes& nodes, std::span<const std::size_t> shown)
      : nodes_(nodes),
        made_(nodes.size()),
        readers_(nodes.size(), 0),
        wanted_(nodes.size(), false) {
    for (const std::size_t p : shown) want(p);
    while (!stack_.empty()) {
      const std::size_t p = stack_.back();
      stack_.pop_back();
      for (const Node* operand : operands_of(nodes_[p])) {
        if (is_unread(operand)) continue;
        ++readers_[nodes_.place(operand)];
        want(nodes_.place(operand));
      }
    }
    for (const std::size_t p : shown) ++readers_[p];  // never reaches zero: kept to the end
    for (std::size_t p = 0; p < nodes.size(); ++p) {
      if (!wanted_[p]) continue;
      made_[p] = is_gone(nodes_[p]) ? computed_again(nodes_[p]) : held(nodes_[p]);
      if (is_gone(nodes_[p])) release_operands(nodes_[p]);
    }
  }

  const Tensor& operator[](std::size_t place) const { return made_[place]; }

 private:
  // Neither numbers drawn nor calls of the user's own code are repeated.
  static bool is_repeatable(const Node* n) {
    const Op* op = maker_of(n);
    return op && !op->draws && !op->by_hand && n->level == 0;
  }
  static bool is_gone(const Node* n) noexcept {
    return n->state.load(std::memory_order_acquire) == State::dropped;
  }

  void want(std::size_t place) {
    if (wanted_[place]) return;
    wanted_[place] = true;
    if (is_gone(nodes_[place]) && is_repeatable(nodes_[place])) stack_.push_back(place);
  }

  static Tensor held(Node* n) {
    for (const Node* box = n; box->level > 0; box = box->boxed.primal)
      if (box->box != Box::dual) return {};
    return Tensor::adopt(alias(host_value(n, "graph").node(), nullptr, false));
  }

  Tensor computed_again(const Node* n) const {
    if (!is_repeatable(n)) return {};
    std::vector<Tensor> values;
    std::vector<Node*> inputs;
    const auto operands = operands_of(n);
    for (std::size_t i = 0; i < operands.size(); ++i) {
      values.push_back(is_unread(operands[i]) ? unread_number(n, i)
                                              : made_[nodes_.place(operands[i])]);
      if (!values.back().defined()) return {};
      inputs.push_back(values.back().node());
    }
    const Node* application = application_of(n);
    if (application->attrs) retain(application->attrs);
    const AttrsPtr attrs = AttrsPtr::adopt(application->attrs);
    std::vector<Tensor> results = apply_all(*application->op, inputs, attrs);
    return std::move(results[application == n ? 0 : part_index(n->attrs)]);
  }

  void release_operands(const Node* n) {
    if (!is_repeatable(n)) return;
    for (const Node* operand : operands_of(n)) {
      if (is_unread(operand)) continue;
      const std::size_t p = nodes_.place(operand);
      if (--readers_[p] == 0) made_[p] = Tensor();
    }
  }

  const RecordedNodes& nodes_;
  std::vector<Tensor> made_;
  std::vector<std::uint32_t> readers_;
  std::vector<bool> wanted_;
  std::vector<std::size_t> stack_;
};

/// The derivative of the output, times a cotangent, with respect to each node; undefined where
/// there is none.
std::vector<Tensor> adjoints(const RecordedNodes& nodes, std::span<const std::size_t> shown,
                             const Tensor& cotangent) {
  std::vector<Tensor> out(shown.size());
  const Node* output = nodes.output().node();
  if (output->level != 0 || !output->requires_grad) return out;
  std::vector<Tensor> sources;
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    Node* n = nodes[shown[i]];
    if (n->level != 0 || !n->requires_grad) continue;
    sources.push_back(Tensor::share(n));
    rows.push_back(i);
  }
  const Tensor value = Tensor::share(nodes.output().node());
  std::vector<Tensor> found =
      sweep({&value, 1}, {&cotangent, 1}, sources, {.undefined_if_unconnected = true});
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (found[i].defined()) out[rows[i]] = found[i].detach();
  return out;
}

py::object constant_or_none(const Tensor& t) {
  return t.defined() ? wrapped(Tensor(t)) : py::object(py::none());
}

py::dict row_of(const RecordedNodes& nodes, std::size_t place, const NamesOfNodes& names) {
  const Node* n = nodes[place];
  py::dict row;
  row["number"] = place;
  const Op* op = n->recorded ? maker_of(n) : nullptr;
  row["op"] = op ? py::object(py::str(op->name)) : py::object(py::none());
  std::string attrs;
  if (op && application_of(n)->attrs) attrs = to_string(*application_of(n)->attrs);
  if (op && op != n->op) attrs += " result=" + std::to_string(part_index(n->attrs));
  row["attrs"] = py::str(attrs);
  py::list inputs;
  const auto operands = operands_of(n);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (is_unread(operands[i]))
      inputs.append(constant_or_none(unread_number(n, i)));
    else
      inputs.append(nodes.place(operands[i]));
  }
  row["inputs"] = inputs;
  py::list shape;
  for (const std::int64_t extent : n->layout.shape()) shape.append(extent);
  row["shape"] = py::tuple(shape);
  row["dtype"] = borrow(dtype_object(n->dtype));
  row["name"] = names.of(n);
  row["requires_grad"] = n->requires_grad;
  return row;
}

/// (how many nodes there are; rows of those nearest to the value; what others there are, by the
/// names of their operations, "" for data).
py::tuple recorded_graph(const py::object& tensor, std::size_t limit, bool with_values,
                         bool with_adjoints, const py::object& grad, const py::dict& called) {
  const Tensor output = Tensor::share(read_node(as_tensor(tensor.ptr())));
  Tensor cotangent;
  if (with_adjoints && output.node()->level == 0 && output.requires_grad()) {
    cotangent = grad.is_none() ? ones_like(output.detach())
                               : tensor_from_python(grad.ptr(), output.dtype(), {}, "graph");
    if (!cotangent.node()->layout.same_shape(output.node()->layout) ||
        cotangent.dtype() != output.dtype())
      raise(ErrorKind::value, "graph",
            "grad must be like the tensor: shapes " + to_string(cotangent.node()->layout.shape()) +
                " and " + to_string(output.node()->layout.shape()) + ", dtypes " +
                std::string(name(cotangent.dtype())) + " and " + std::string(name(output.dtype())));
  }
  const RecordedNodes nodes(output);
  const std::vector<std::size_t> shown = nodes.nearest(std::max<std::size_t>(limit, 1));
  const NamesOfNodes names(called);
  py::list rows;
  std::vector<bool> is_shown(nodes.size(), false);
  for (const std::size_t p : shown) {
    is_shown[p] = true;
    rows.append(row_of(nodes, p, names));
  }
  if (with_values) {
    const Values values(nodes, shown);
    for (std::size_t i = 0; i < shown.size(); ++i)
      rows[i]["value"] = constant_or_none(values[shown[i]]);
  }
  if (cotangent.defined()) {
    const std::vector<Tensor> found = adjoints(nodes, shown, cotangent);
    for (std::size_t i = 0; i < shown.size(); ++i) rows[i]["adjoint"] = constant_or_none(found[i]);
  }
  std::map<std::string, std::size_t> hidden;
  for (std::size_t p = 0; p < nodes.size(); ++p) {
    if (is_shown[p]) continue;
    const Op* op = nodes[p]->recorded ? maker_of(nodes[p]) : nullptr;
    ++hidden[op ? op->name : ""];
  }
  py::dict others;
  for (const auto& [op, count] : hidden) others[py::str(op)] = count;
  return py::make_tuple(nodes.size(), rows, others);
}

}  // namespace

void init_record(py::module_& m) { m.def("_recorded_graph", &recorded_graph); }

}  // namespace adjoint::python
