#include "compile/control.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "compile/program.h"
#include "compile/steps.h"
#include "compile/trace.h"
#include "graph/apply.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

/// The results of one run of a program; released when replaced.
class Values {
 public:
  Values() = default;
  ~Values() { clear(); }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;

  void run(const CompiledProgram& program, std::span<Node* const> inputs) {
    std::vector<Node*> fresh(program.graph().outputs().size());
    program.execute(inputs, fresh);
    clear();
    nodes_ = std::move(fresh);
  }
  std::span<Node* const> nodes() const { return nodes_; }

 private:
  void clear() {
    for (Node* n : nodes_) release_handle(n);
    nodes_.clear();
  }
  std::vector<Node*> nodes_;
};

/// Values of a run as the results of the call. They share their memory, unless that may hold more.
void hand_over(std::span<Node* const> from, std::span<Node* const> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    materialize(from[i]);
    const Layout& layout = from[i]->layout;
    if (layout.contiguous() && layout.offset() == 0) {
      share_value(to[i], from[i], layout);
    } else {
      allocate_value(to[i], "call");
      copy_value(from[i], to[i]->data());
    }
  }
}

/// The value in memory of its own layout, without gaps.
Tensor dense(Node* n) {
  materialize(n);
  return contiguous(n);
}

bool is_true(Node* n) {
  materialize(n);
  return *static_cast<const std::uint8_t*>(n->data()) != 0;
}

/// Looks for an interrupt after so many steps as are worth it: to read the clock costs as much as
/// a small step.
class Watch {
 public:
  explicit Watch(double work) : every_(std::max(1.0, std::min(256.0, kWork / (work + 1)))) {}
  void step() {
    if (++steps_ % every_ == 0) check_interrupt();
  }

 private:
  static constexpr double kWork = 1 << 14;  // adds
  std::uint32_t every_;
  std::uint32_t steps_ = 0;
};

/// What the steps of a loop read, made dense once for all of them.
class Dense {
 public:
  explicit Dense(std::span<Node* const> values) {
    for (Node* n : values) {
      kept_.push_back(dense(n));
      nodes_.push_back(kept_.back().node());
    }
  }
  std::span<Node* const> nodes() const { return nodes_; }
  /// They are the inputs from `first` on.
  void give(Steps& steps, std::size_t first) const {
    for (std::size_t i = 0; i < nodes_.size(); ++i) steps.set_input(first + i, nodes_[i]->data());
  }

 private:
  std::vector<Tensor> kept_;
  std::vector<Node*> nodes_;
};

/// The carried values of a loop whose steps run in place. A step reads each in one memory and
/// writes it to another; then the two change places. The caller's values are only read.
class Carried {
 public:
  Carried(Steps& body, std::span<Node* const> state) : body_(body), values_(state.size()) {
    for (std::size_t i = 0; i < state.size(); ++i) {
      values_[i].from = dense(state[i]);
      if (!body.hands_through(i)) values_[i].to = like(state[i]);
    }
  }
  const void* at(std::size_t i) const { return values_[i].from.node()->data(); }

  void step() {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      body_.set_input(i, at(i));
      if (values_[i].to.defined()) body_.set_output(i, values_[i].to.node()->data());
    }
    body_.run();
    for (Value& v : values_) {
      if (!v.to.defined()) continue;
      std::swap(v.from, v.to);
      if (!v.own) v.to = like(v.from.node());
      v.own = true;
    }
  }
  void give(std::span<Node* const> outputs) const {
    std::vector<Node*> nodes;
    for (const Value& v : values_) nodes.push_back(v.from.node());
    hand_over(nodes, outputs);
  }

 private:
  struct Value {
    Tensor from, to;   // nowhere, for a value that is handed through
    bool own = false;  // both memories are the loop's
  };
  static Tensor like(Node* n) {
    return Tensor::adopt(new_array(n->dtype, n->layout.shape(), "loop"));
  }
  Steps& body_;
  std::vector<Value> values_;
};

/// The first `head` nodes, then `tail`.
std::vector<Node*> joined(std::span<Node* const> head, std::span<Node* const> tail) {
  std::vector<Node*> out(head.begin(), head.end());
  out.insert(out.end(), tail.begin(), tail.end());
  return out;
}

class Cond final : public Callee {
 public:
  Cond(const Graph& if_true, const Graph& if_false, std::size_t shared, Batch batch)
      : Callee(if_true.results(), std::move(batch)),
        if_true_(if_true),
        if_false_(if_false),
        shared_(shared) {}

  void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const override {
    const auto both = inputs.subspan(1, shared_);
    const std::size_t first = if_true_.graph().inputs().size() - shared_;
    const bool chosen = is_true(inputs[0]);
    const auto own =
        chosen ? inputs.subspan(1 + shared_, first) : inputs.subspan(1 + shared_ + first);
    Values values;
    values.run(chosen ? if_true_ : if_false_, joined(both, own));
    hand_over(values.nodes(), outputs);
  }

  void list(Holdings& out) const override {
    Callee::list(out);
    if_true_.list(out);
    if_false_.list(out);
  }

 private:
  CompiledProgram if_true_, if_false_;
  std::size_t shared_;
};

class While final : public Callee {
 public:
  While(const Graph& condition, const Graph& body, std::size_t carried, std::int64_t limit,
        Batch batch)
      : Callee(body.results(), std::move(batch)),
        condition_(condition),
        body_(body),
        carried_(carried),
        limit_(limit),
        in_place_(Steps::suit(condition_) && Steps::suit(body_)) {}

  void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const override {
    in_place_ ? run_in_place(inputs, outputs) : run_by_nodes(inputs, outputs);
  }

  void list(Holdings& out) const override {
    Callee::list(out);
    condition_.list(out);
    body_.list(out);
  }

 private:
  void run_in_place(std::span<Node* const> inputs, std::span<Node* const> outputs) const {
    const std::size_t first = condition_.graph().inputs().size() - carried_;
    Steps test(condition_);
    Steps body(body_);
    const Dense of_condition(inputs.subspan(carried_, first));
    const Dense of_body(inputs.subspan(carried_ + first));
    of_condition.give(test, carried_);
    of_body.give(body, carried_);
    Carried state(body, inputs.first(carried_));
    std::uint8_t go_on = 0;
    test.set_output(0, &go_on);
    Watch watch(condition_.plan().work + body_.plan().work);
    for (std::int64_t step = 0; step != limit_; ++step) {
      watch.step();
      for (std::size_t i = 0; i < carried_; ++i) test.set_input(i, state.at(i));
      test.run();
      if (!go_on) break;
      state.step();
    }
    state.give(outputs);
  }

  void run_by_nodes(std::span<Node* const> inputs, std::span<Node* const> outputs) const {
    const std::size_t first = condition_.graph().inputs().size() - carried_;
    const Dense of_condition(inputs.subspan(carried_, first));
    const Dense of_body(inputs.subspan(carried_ + first));
    std::span<Node* const> state = inputs.first(carried_);
    Values values;
    Values test;
    for (std::int64_t step = 0; step != limit_; ++step) {
      check_interrupt();
      test.run(condition_, joined(state, of_condition.nodes()));
      if (!is_true(test.nodes()[0])) break;
      values.run(body_, joined(state, of_body.nodes()));
      state = values.nodes();
    }
    hand_over(state, outputs);
  }

  CompiledProgram condition_, body_;
  std::size_t carried_;
  std::int64_t limit_;
  bool in_place_;
};

class Scan final : public Callee {
 public:
  Scan(const Graph& body, std::size_t carried, std::size_t rows, std::int64_t length, bool reverse,
       Batch batch)
      : Callee(stacked(body, carried, length), std::move(batch)),
        body_(body),
        carried_(carried),
        rows_(rows),
        length_(length),
        reverse_(reverse),
        in_place_(Steps::suit(body_)) {}

  void run(std::span<Node* const> inputs, std::span<Node* const> outputs) const override {
    in_place_ ? run_in_place(inputs, outputs) : run_by_nodes(inputs, outputs);
  }

  void list(Holdings& out) const override {
    Callee::list(out);
    body_.list(out);
  }

 private:
  void run_in_place(std::span<Node* const> inputs, std::span<Node* const> outputs) const {
    Steps body(body_);
    const Dense arrays(inputs.subspan(carried_, rows_));
    const Dense captured(inputs.subspan(carried_ + rows_));
    captured.give(body, carried_ + rows_);
    for (Node* stacked : outputs.subspan(carried_)) allocate_value(stacked, "scan");
    Carried state(body, inputs.first(carried_));
    Watch watch(body_.plan().work);
    for (std::int64_t step = 0; step < length_; ++step) {
      watch.step();
      const std::int64_t at = reverse_ ? length_ - 1 - step : step;
      for (std::size_t i = 0; i < rows_; ++i)
        body.set_input(carried_ + i, row_at(arrays.nodes()[i], at));
      for (std::size_t i = carried_; i < outputs.size(); ++i)
        body.set_output(i, row_at(outputs[i], at));
      state.step();
    }
    state.give(outputs.first(carried_));
  }

  void run_by_nodes(std::span<Node* const> inputs, std::span<Node* const> outputs) const {
    std::span<Node* const> state = inputs.first(carried_);
    const Dense arrays(inputs.subspan(carried_, rows_));
    const Dense captured(inputs.subspan(carried_ + rows_));
    for (Node* stacked : outputs.subspan(carried_)) allocate_value(stacked, "scan");
    Values values;
    for (std::int64_t step = 0; step < length_; ++step) {
      check_interrupt();
      const std::int64_t at = reverse_ ? length_ - 1 - step : step;
      std::vector<Tensor> views;
      std::vector<Node*> in(state.begin(), state.end());
      for (Node* array : arrays.nodes()) {
        views.push_back(row(array, at));
        in.push_back(views.back().node());
      }
      in.insert(in.end(), captured.nodes().begin(), captured.nodes().end());
      values.run(body_, in);
      state = values.nodes().first(carried_);
      for (std::size_t i = carried_; i < outputs.size(); ++i)
        copy_row(values.nodes()[i], outputs[i], at);
    }
    hand_over(state, outputs.first(carried_));
  }

  static std::vector<ResultSpec> stacked(const Graph& body, std::size_t carried,
                                         std::int64_t length) {
    std::vector<ResultSpec> out = body.results();
    for (std::size_t i = carried; i < out.size(); ++i)
      out[i].shape = prefixed(length, out[i].shape);
    return out;
  }

  /// Where row `at` of a contiguous value begins.
  void* row_at(Node* n, std::int64_t at) const {
    return static_cast<char*>(n->data()) +
           static_cast<std::size_t>(at) * (n->nbytes() / static_cast<std::size_t>(length_));
  }

  Tensor row(Node* whole, std::int64_t at) const {
    const auto shape = whole->layout.shape().subspan(1);
    const Layout packed(shape);
    Tensor out = Tensor::adopt(new_node(whole->dtype, Layout(shape)));
    if (whole->stored.storage)
      share_value(out.node(), whole,
                  Layout(shape, packed.strides(), whole->layout.offset() + at * packed.size()));
    else  // so few bytes that they live in the node
      std::memcpy(out.node()->stored.bytes, row_at(whole, at), out.node()->nbytes());
    return out;
  }

  void copy_row(Node* value, Node* to, std::int64_t at) const {
    materialize(value);
    copy_value(value, row_at(to, at));
  }

  CompiledProgram body_;
  std::size_t carried_, rows_;
  std::int64_t length_;
  bool reverse_;
  bool in_place_;
};

}  // namespace

ClosedGraph trace_closed(const ListFunction& f, std::span<const ResultSpec> arguments,
                         SourceFinder find_source, const char* what, bool branch) {
  const std::unique_ptr<Trace> trace = Trace::body(std::move(find_source), what);
  if (branch) trace->take_outer_work();
  std::vector<Tensor> inputs;
  for (const ResultSpec& spec : arguments)
    inputs.push_back(trace->argument({spec.dtype, spec.shape}));
  const std::vector<Tensor> results = f(inputs);
  const Traced traced = trace->finish(results);
  ClosedGraph out;
  out.graph = std::make_shared<const Graph>(traced.graph.closed(out.captured));
  return out;
}

IntrusivePtr<const Callee> make_cond(const Graph& if_true, const Graph& if_false,
                                     std::size_t shared, Callee::Batch batch) {
  return IntrusivePtr<const Callee>(new Cond(if_true, if_false, shared, std::move(batch)));
}

IntrusivePtr<const Callee> make_while(const Graph& condition, const Graph& body,
                                      std::size_t carried, std::int64_t limit,
                                      Callee::Batch batch) {
  return IntrusivePtr<const Callee>(new While(condition, body, carried, limit, std::move(batch)));
}

IntrusivePtr<const Callee> make_scan(const Graph& body, std::size_t carried, std::size_t rows,
                                     std::int64_t length, bool reverse, Callee::Batch batch) {
  return IntrusivePtr<const Callee>(
      new Scan(body, carried, rows, length, reverse, std::move(batch)));
}

}  // namespace adjoint
