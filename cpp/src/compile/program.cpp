// Running a program: a table of pointers, a loop over instructions. What a run needs beside its
// results is on the stack, or one block of memory when the arena is large.
#include "compile/program.h"

#include <algorithm>

#include "base/error_context.h"
#include "compile/verify.h"
#include "graph/apply.h"
#include "graph/results.h"
#include "graph/thread_state.h"

namespace adjoint {

namespace {

constexpr double kLongProgram = 1 << 16;  // adds, above which the host lock is let go
constexpr std::size_t kStackArena = 2048;

}  // namespace

/// The values of one run.
class CompiledProgram::Frame {
 public:
  explicit Frame(const Plan& plan) : plan(plan) {
    data.resize(plan.places.size());
    nodes.resize(plan.places.size());
    char* base = stack_;
    if (plan.arena_bytes > kStackArena) {
      heap_ = Storage::allocate(plan.arena_bytes, "compile");
      base = static_cast<char*>(heap_->data());
    }
    if (plan.arena_bytes == 0) return;
    for (std::size_t p = 0; p < plan.places.size(); ++p)
      if (!plan.places[p].is_node) data[p] = base + plan.places[p].offset;
  }
  ~Frame() {
    for (std::size_t p = 0; p < nodes.size(); ++p)
      if (nodes[p] && !lent(p)) release_handle(nodes[p]);
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  /// Takes over one handle count.
  void put(PlaceIndex p, Node* n) {
    nodes[p] = n;
    data[p] = static_cast<char*>(n->data());
  }
  /// The same for a value that may be empty, or a tuple.
  void put_any(PlaceIndex p, Node* n) {
    nodes[p] = n;
    if (!is_tuple(n) && n->layout.size()) data[p] = static_cast<char*>(n->data());
  }
  void free(PlaceList list) {
    for (const PlaceIndex p : plan.list(list)) {
      Node* n = std::exchange(nodes[p], nullptr);
      if (!lent(p)) release_handle(n);
    }
  }
  /// An input that is given up is used without a handle of our own, so that its count tells
  /// whether anyone else uses it.
  bool lent(std::size_t p) const { return plan.places[p].borrowed; }
  void put_input(PlaceIndex p, Node* n) {
    materialize(n);
    if (!n->layout.contiguous()) {
      give(p, Tensor::share(n));
      copies.push_back(contiguous(n));
      n = copies.back().node();
    }
    if (!lent(p)) retain_handle(n);
    put(p, n);
  }
  void give(PlaceIndex p, Tensor value) {
    given.resize(nodes.size());
    given[p] = std::move(value);
  }
  /// The node whose layout is that which the value would have if nothing was compiled.
  Node* as_given(PlaceIndex p) const {
    return given.empty() || !given[p].defined() ? nodes[p] : given[p].node();
  }
  /// The memory of a value that is not read again, or null.
  Storage* take_memory(PlaceIndex giver) {
    if (giver == kNoPlace) return nullptr;
    Node* n = nodes[giver];
    if (!n->gives_memory()) return nullptr;
    n->state.store(State::dropped, std::memory_order_release);
    return std::exchange(n->stored.storage, nullptr);
  }
  /// Makes the node of a place that a group writes.
  void make(PlaceIndex p, PlaceIndex giver) {
    const PlannedPlace& place = plan.places[p];
    if (!place.is_node) return;
    Storage* taken = take_memory(giver);
    Node* n = taken ? new_node(place.dtype, place.layout)
                    : new_array(place.dtype, place.layout.shape(), "compile");
    if (taken) n->stored.storage = taken;
    put(p, n);
  }

  const Plan& plan;
  SmallVector<char*, 48> data;
  SmallVector<Node*, 48> nodes;  // one handle count each unless lent; null in the arena
  std::vector<Tensor> copies;    // of inputs that were not contiguous
  /// By place, if any was not: these inputs and their views as they lie. The rest of a program is
  /// planned for the copies; what is not elementwise reads these, and so has the bits that it has
  /// when nothing is compiled: a product with a transpose has its sums in another order.
  std::vector<Tensor> given;

 private:
  IntrusivePtr<Storage> heap_;
  alignas(64) char stack_[kStackArena];
};

CompiledProgram::CompiledProgram(const Graph& graph, std::span<const std::uint32_t> donated)
    : graph_(simplify(graph)) {
  if (kVerify) verify(graph);
  if (kVerify) verify(graph_);
  const Partition parts = partition(graph_);
  if (kVerify) verify(parts, graph_);
  plan_ = make_plan(graph_, parts, donated);
  if (kVerify) verify(plan_);
  for (const Instruction& at : plan_.instructions) plain_ &= at.kind != Instruction::Kind::single;
}

ProgramStats CompiledProgram::stats() const {
  ProgramStats s;
  for (Graph::Index i = 0; i < graph_.size(); ++i) s.nodes += graph_[i].kind == Graph::Kind::apply;
  s.groups = plan_.groups.size() + plan_.scalars.size();
  s.instructions = plan_.instructions.size();
  s.bytes_moved = plan_.bytes_moved;
  s.bytes_planned = plan_.arena_bytes;
  return s;
}

void CompiledProgram::run_group(Frame& frame, const Instruction& at) const {
  SmallVector<const void*, 16> in;
  SmallVector<void*, 16> out;
  for (const PlaceIndex p : plan_.list(at.reads)) in.push_back(frame.data[p]);
  const auto writes = plan_.list(at.writes);
  const auto givers = plan_.list(at.givers);
  for (std::size_t i = 0; i < writes.size(); ++i) {
    frame.make(writes[i], givers[i]);
    out.push_back(frame.data[writes[i]]);
  }
  plan_.groups[at.program].run(in, out);
}

void CompiledProgram::run_scalars(Frame& frame, const Instruction& at) const {
  SmallVector<const void*, 16> in;
  SmallVector<void*, 16> out;
  for (const PlaceIndex p : plan_.list(at.reads)) in.push_back(frame.data[p]);
  for (const PlaceIndex p : plan_.list(at.writes)) {
    frame.make(p, kNoPlace);
    out.push_back(frame.data[p]);
  }
  plan_.scalars[at.program].run_element(in, out);
}

void CompiledProgram::run_single(Frame& frame, const Instruction& at) const {
  const Graph::Entry& e = graph_[at.node];
  const PlaceIndex result = plan_.list(at.writes)[0];
  SmallVector<Node*, 8> in;
  const auto reads = plan_.list(at.reads);
  const bool is_view = e.op->kind == OpKind::view;
  for (const PlaceIndex p : reads) in.push_back(is_view ? frame.nodes[p] : frame.as_given(p));
  if (e.op->kind == OpKind::elementwise) {  // empty, or may fail: by the usual entry
    frame.put(result, apply(*e.op, in, e.attrs));
    return;
  }
  std::uint32_t donated = at.donors;
  for (std::size_t i = 0; i < in.size() && i < 32 && donated >> i; ++i)
    if (in[i] != frame.nodes[reads[i]] || !in[i]->gives_memory()) donated &= ~(1u << i);
  if (e.op->run_all) {
    std::vector<Tensor> results = run_all(e, at.node, in, donated);
    frame.put_any(result, e.tuple ? new_tuple(results) : results[0].detach_node());
    return;
  }
  Tensor out = Tensor::adopt(new_node(e.dtype, Layout(e.shape)));
  e.op->run(*e.op, out.node(), in, e.attrs.get(), donated);
  // The view of a few bytes is dense where these live in the node, as in the plan, and strided
  // where they are part of a larger value.
  const bool dense = !at.keeps_layout || plan_.places[result].layout.contiguous();
  if (dense && !out.node()->layout.contiguous()) out = contiguous(out.node());
  frame.put_any(result, out.detach_node());
  if (is_view && !frame.given.empty() && !e.op->part) give_view(frame, at, result);
}

/// The view of what is not contiguous, for those that read it as it lies.
void CompiledProgram::give_view(Frame& frame, const Instruction& at, PlaceIndex result) const {
  const Graph::Entry& e = graph_[at.node];
  SmallVector<Node*, 4> in;
  bool any = false;
  for (const PlaceIndex p : plan_.list(at.reads)) {
    in.push_back(frame.as_given(p));
    any |= in.back() != frame.nodes[p];
  }
  if (!any) return;
  Tensor out = Tensor::adopt(new_node(e.dtype, Layout(e.shape)));
  e.op->run(*e.op, out.node(), in, e.attrs.get(), 0);
  frame.give(result, std::move(out));
}

/// The results of an operation that may have several, dense as the plan has it.
std::vector<Tensor> CompiledProgram::run_all(const Graph::Entry& e, Graph::Index i,
                                             std::span<Node* const> inputs,
                                             std::uint32_t donated) const {
  const ResultSpec only{e.dtype, e.shape};
  const auto specs = e.tuple ? graph_.results_of(i) : std::span(&only, 1);
  std::vector<Tensor> out = run_results(*e.op, specs, inputs, e.attrs.get(), donated);
  for (Tensor& t : out)
    if (!t.node()->layout.contiguous()) t = contiguous(t.node());
  return out;
}

/// "in a compiled function: `take` at train.py:12".
std::string CompiledProgram::place_of(const Instruction& at) const {
  const Graph::Entry& e = graph_[at.node];
  std::string out = "in a compiled function: ";
  if (at.kind != Instruction::Kind::single) out += "a group of operations that ends with ";
  out.append("`").append(e.op->name).append("`");
  return e.source ? out + " at " + graph_.sources()[e.source] : out;
}

void CompiledProgram::run_steps(Frame& frame) const {
  const bool is_long = plan_.work >= kLongProgram;
  for (const Instruction& at : plan_.instructions) {
    if (is_long) check_interrupt();
    try {
      switch (at.kind) {
        case Instruction::Kind::group: run_group(frame, at); break;
        case Instruction::Kind::scalars: run_scalars(frame, at); break;
        case Instruction::Kind::single: run_single(frame, at); break;
      }
    } catch (...) {
      add_error_context(place_of(at));
      throw;
    }
    frame.free(at.frees);
  }
}

void CompiledProgram::execute(std::span<Node* const> inputs, std::span<Node*> outputs) const {
  Frame frame(plan_);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (plan_.inputs[i] != kNoPlace) frame.put_input(plan_.inputs[i], inputs[i]);
  for (const Plan::Constant& c : plan_.constants) {
    retain_handle(c.value.node());
    frame.put(c.place, c.value.node());
  }
  if (plain_ && plan_.work < kLongProgram) {
    run_steps(frame);
  } else {
    const RecordingScope unrecorded(false);
    const DeferralScope undeferred(false);
    if (plan_.work < kLongProgram) {
      run_steps(frame);
    } else {
      const WithoutHostLock unlocked;
      run_steps(frame);
    }
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    Node* n = frame.nodes[plan_.outputs[i]];
    if (n->requires_grad) {  // an input handed through: the value, not its history
      outputs[i] = alias(n, nullptr, false);
    } else {
      retain_handle(n);
      outputs[i] = n;
    }
  }
}

void CompiledProgram::check(std::span<const Tensor> inputs) const {
  const auto wanted = graph_.inputs();
  if (inputs.size() != wanted.size())
    raise(
        ErrorKind::type, "program",
        "takes " + std::to_string(wanted.size()) + " inputs, got " + std::to_string(inputs.size()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Graph::Entry& e = graph_[wanted[i]];
    const std::string which = "input " + std::to_string(i);
    if (!inputs[i].defined()) raise(ErrorKind::value, "program", which + " holds no value");
    const Node* n = inputs[i].node();
    if (n->dtype != e.dtype || !std::ranges::equal(n->layout.shape(), e.shape))
      raise(ErrorKind::value, "program",
            which + " has dtype " + std::string(name(n->dtype)) + " and shape " +
                to_string(n->layout.shape()) + ", the program was traced with " +
                std::string(name(e.dtype)) + " and shape " + to_string(e.shape) +
                ": trace again for other inputs");
    if (n->level)
      raise(ErrorKind::value, "program",
            which +
                " belongs to an open transform: call the function made by `compile`, which "
                "replays its graph there");
  }
}

std::vector<Tensor> CompiledProgram::run(std::span<const Tensor> inputs) const {
  check(inputs);
  SmallVector<Node*, 16> in;
  for (const Tensor& t : inputs) in.push_back(t.node());
  SmallVector<Node*, 16> out;
  out.resize(plan_.outputs.size());
  execute(in, {out.data(), out.size()});
  std::vector<Tensor> results;
  results.reserve(out.size());
  for (Node* n : out) results.push_back(Tensor::adopt(n));
  return results;
}

}  // namespace adjoint
