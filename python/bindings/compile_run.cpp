// Running a program for a call: what it is handed, what it gives up, and what is written back.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "compile.h"
#include "graph/apply.h"
#include "graph/thread_state.h"

namespace adjoint::python {

namespace {

// What stands in a handle whose value is given up: of its shape, with nothing in it.
Node* released_like(const Node* n) {
  Node* out = new_node(n->dtype, Layout(n->layout.shape()));
  out->requires_grad = n->requires_grad;
  if (n->leaf) retain(out->leaf = n->leaf);
  out->state.store(State::dropped, std::memory_order_release);
  return out;
}

// What a call hands to the program: a handle count on each, which is the only one on what is given
// up. So no other thread that gets hold of the argument can change or free it during the run.
class Bound {
 public:
  Bound(const Variant& v, Call& call) {
    for (const CallLeaf& leaf : call.leaves()) {
      switch (leaf.kind) {
        case CallLeaf::Kind::fixed: break;
        case CallLeaf::Kind::tensor: hold(Tensor::share(leaf.node)); break;
        case CallLeaf::Kind::weak_int:
          nodes_.push_back(scalar_node(leaf.object, DType::int64, "compile"));
          break;
        case CallLeaf::Kind::weak_float:
          nodes_.push_back(scalar_node(leaf.object, DType::float64, "compile"));
          break;
      }
    }
    for (const Place& p : v.places)
      if (!p.null) hold(read_cell(cell_in(p, call)));
    for (const std::uint32_t i : v.donated) give(call, i);
  }
  ~Bound() {
    for (const Given& g : given_) take_back(g);
    for (Node* n : nodes_)
      if (n) release_handle(n);
  }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;
  std::span<Node* const> nodes() const { return nodes_; }
  bool gives() const { return !given_.empty(); }

  // Whether the call is more than a run of the program.
  bool is_special(const Variant& v) const {
    const bool records = v.function->records();
    return std::ranges::any_of(
        nodes_, [&](const Node* n) { return n->level || (records && n->requires_grad); });
  }

 private:
  struct Given {
    std::uint32_t input;
    PyTensor* handle;  // null for what was made of an array
    Node* released;    // what stands in the handle, which has its count
  };

  void hold(Tensor value) { nodes_.push_back(value.detach_node()); }

  void give(Call& call, std::uint32_t input) {
    Node* n = nodes_[input];
    if (n->level || (n->requires_grad && !n->leaf)) return;  // a history is kept
    if (std::count(nodes_.begin(), nodes_.end(), n) != 1) return;
    const std::size_t leaf = call.leaf_of_input(input);
    const CallLeaf& own = call.leaves()[leaf];
    PyTensor* handle = own.is_handle() ? as_tensor(own.object) : nullptr;
    if (handle && (handle->node != n || !is_direct(handle))) return;
    call.let_go(leaf);
    given_.push_back({input, handle, nullptr});
    if (!handle) return;
    given_.back().released = released_like(n);
    release_handle(std::exchange(handle->node, given_.back().released));
  }

  // The value of an argument whose memory was not taken.
  void take_back(const Given& g) noexcept {
    Node*& n = nodes_[g.input];
    if (!g.handle || g.handle->node != g.released) return;
    if (n->state.load(std::memory_order_acquire) == State::dropped) return;
    release_handle(std::exchange(g.handle->node, std::exchange(n, nullptr)));
  }

  SmallVector<Node*, 16> nodes_;
  SmallVector<Given, 4> given_;
};

// The results of a call, each with one handle count.
class Outputs {
 public:
  Outputs(const Variant& v, const Bound& bound) {
    const GraphFunction& f = *v.function;
    if (!bound.is_special(v)) {
      nodes_.resize(f.graph().outputs().size());
      f.program().execute(bound.nodes(), {nodes_.data(), nodes_.size()});
      return;
    }
    std::vector<Tensor> inputs;
    for (Node* n : bound.nodes()) inputs.push_back(Tensor::share(n));
    for (Tensor& t : f.call(inputs)) nodes_.push_back(t.detach_node());
  }
  ~Outputs() {
    for (Node* n : nodes_)
      if (n) release_handle(n);
  }
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  Tensor operator[](std::size_t i) const { return Tensor::share(nodes_[i]); }

 private:
  SmallVector<Node*, 16> nodes_;
};

struct Write {
  Cell cell;
  Tensor expected;  // of what is no argument: what the program has read
  Tensor value;
};

std::vector<Write> writes_of(const Variant& v, const Call& call, const Bound& bound,
                             const Outputs& outputs) {
  std::vector<Write> out;
  for (const auto& [leaf, output] : v.rebound)
    out.push_back({cell_of(as_tensor(call.leaves()[leaf].object)), {}, outputs[output]});
  std::size_t input = v.arguments;
  for (const Place& p : v.places) {
    const std::size_t own = p.null ? 0 : input++;
    if (p.output == Place::kUnchanged) continue;
    out.push_back({cell_in(p, call), p.null ? Tensor() : Tensor::share(bound.nodes()[own]),
                   p.output == Place::kCleared ? Tensor() : outputs[p.output]});
  }
  return out;
}

bool is_plain_gradient(const Write& w) {
  return w.cell.kind == Cell::Kind::gradient && !is_guarded(w.cell);
}

// Of a program that draws: whether no generator it has drawn from has been used meanwhile.
bool are_as_read(const std::vector<Write>& writes) {
  return std::ranges::all_of(writes, [](const Write& w) {
    return w.cell.kind != Cell::Kind::handle || w.cell.leaf || is_guarded(w.cell) ||
           !w.expected.defined() || *w.cell.at == w.expected.node();
  });
}

// Nothing is written, and false returned, where another thread has changed a gradient, or a
// generator, since the program read it. With `force`, that is written over.
bool write_back(std::vector<Write> writes, bool draws, bool force) {
  for (const Write& w : writes) check_write(w.cell, w.value);
  if (draws && !force && !are_as_read(writes)) return false;
  std::vector<GradientChange> gradients;
  for (Write& w : writes)
    if (is_plain_gradient(w))
      gradients.push_back({static_cast<Leaf*>(w.cell.who), w.expected, std::move(w.value)});
  while (!exchange_gradients(gradients)) {
    if (!force) return false;
    load_gradients(gradients);
  }
  for (Write& w : writes)
    if (!is_plain_gradient(w)) write_cell(w.cell, std::move(w.value));
  return true;
}

py::object copy_of(const py::object& leaf) {
  return py::module_::import("copy").attr("copy")(leaf);
}

std::vector<py::object> result_leaves(const Variant& v, const Outputs& outputs) {
  std::vector<py::object> leaves = v.leaves;
  std::size_t next = 0;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const bool tensor = !leaves[i];
    if (tensor || v.own[i]) {
      if (v.same[i] != i)
        leaves[i] = leaves[v.same[i]];
      else
        leaves[i] = tensor ? wrapped(outputs[next]) : copy_of(leaves[i]);
    }
    next += tensor;
  }
  return leaves;
}

// What the function has left behind, with values of this call: one handle in all places of what is
// one to the function.
void put_left(const Variant& v, const Call& call, const Outputs& outputs) {
  std::map<PyObject*, py::object> made;
  for (const LeftHandle& l : v.left_handles)
    made.emplace(l.handle.ptr(),
                 l.argument != LeftHandle::kNone
                     ? borrow(call.leaves()[l.argument].object)
                     : copy_of_handle(as_tensor(l.handle.ptr()), outputs[l.output]));
  for (const LeftValue& left : v.left) left.spot.put(with_replaced(left.value.ptr(), made).ptr());
}

PyObject* build_result(const Variant& v, const Call& call, const Outputs& outputs) {
  put_left(v, call, outputs);
  if (v.single) return wrap(outputs[0].detach_node());
  return v.def.unflatten(result_leaves(v, outputs)).release().ptr();
}

bool rebinds(const Variant& v) {
  return !v.rebound.empty() || std::ranges::any_of(v.places, [](const Place& p) {
    return p.output != Place::kUnchanged;
  });
}

}  // namespace

PyObject* run_variant(const Variant& v, Call& call) {
  std::optional<Bound> bound(std::in_place, v, call);
  const bool gives = bound->gives();
  const Outputs outputs(v, *bound);
  if (!rebinds(v)) {
    bound.reset();
    return build_result(v, call, outputs);
  }
  std::vector<Write> changes = writes_of(v, call, *bound, outputs);
  if (gives) bound.reset();
  if (write_back(std::move(changes), v.draws, gives)) return build_result(v, call, outputs);
  call.hold();  // `bound` has kept what another thread may have put other values in the place of
  return nullptr;
}

}  // namespace adjoint::python
