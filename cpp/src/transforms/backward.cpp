// The reverse sweep. The applications that lie between the outputs and the sources are collected
// with an explicit stack, visited in descending order of their sequence numbers, and each rule
// adds its cotangents to the slots of the inputs. Rules are written in operations, so a recorded
// sweep can be swept again.
#include <algorithm>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "base/fork.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "transforms/derive.h"

namespace adjoint {

namespace {

/// Numbers nodes. One sweep at a time marks the nodes themselves; any other that runs meanwhile
/// (on another thread, or inside a rule) keeps a map.
class Marks {
 public:
  Marks() : direct_(!g_busy.test_and_set(std::memory_order_acquire)) {}
  ~Marks() {
    if (!direct_) return;
    for (Node* n : marked_) n->slot = 0;
    g_busy.clear(std::memory_order_release);
  }
  Marks(const Marks&) = delete;
  Marks& operator=(const Marks&) = delete;

  /// Index of the node plus one, 0 when it has none.
  std::uint32_t find(const Node* n) const {
    if (direct_) return n->slot;
    const auto it = map_.find(n);
    return it == map_.end() ? 0 : it->second;
  }
  void set(Node* n, std::uint32_t slot) {
    if (direct_) {
      if (!n->slot) marked_.push_back(n);
      n->slot = slot;
    } else {
      map_[n] = slot;
    }
  }

 private:
  static std::atomic_flag g_busy;
  bool direct_;
  std::vector<Node*> marked_;
  std::unordered_map<const Node*, std::uint32_t> map_;
};
std::atomic_flag Marks::g_busy = ATOMIC_FLAG_INIT;

/// Tensors on the inputs of a node without touching their counts: the graph holds them.
class BorrowedInputs {
 public:
  explicit BorrowedInputs(const Node* n) {
    const auto inputs = n->inputs();
    if (inputs.size() > kLocal) many_.reserve(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs.size() > kLocal) {
        many_.push_back(Tensor::adopt(inputs[i]));
      } else {
        few_[i] = Tensor::adopt(inputs[i]);
      }
    }
    count_ = inputs.size();
  }
  ~BorrowedInputs() {
    for (Tensor& t : few_) t.detach_node();
    for (Tensor& t : many_) t.detach_node();
  }
  BorrowedInputs(const BorrowedInputs&) = delete;
  BorrowedInputs& operator=(const BorrowedInputs&) = delete;
  std::span<const Tensor> get() const { return {count_ > kLocal ? many_.data() : few_, count_}; }

 private:
  static constexpr std::size_t kLocal = 3;
  Tensor few_[kLocal];
  std::vector<Tensor> many_;
  std::size_t count_ = 0;
};

using Range = std::pair<std::uint64_t, std::uint64_t>;

class Sweep {
 public:
  Sweep(std::span<const Tensor> sources, std::span<const Range> ranges, bool to_leaves)
      : ranges_(ranges), to_leaves_(to_leaves), results_(sources.size()) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      wanted_[sources[i].node()].push_back(i);
      if (sources[i].leaf()) wanted_[sources[i].leaf()].push_back(i);
    }
  }

  void run(std::span<const Tensor> outputs, std::span<const Tensor> cotangents) {
    collect(outputs);
    mark_useful();
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (const std::uint32_t slot = marks_.find(outputs[i].node()))
        add(slots_[slot - 1], cotangents[i]);
    for (Slot& slot : slots_) visit(slot);
  }

  std::vector<Tensor> results() { return std::move(results_); }

 private:
  struct Slot {
    Node* node = nullptr;
    Tensor cotangent;
    bool source = false;
    bool useful = false;
    bool stops = false;  // a source that is a leaf: its history belongs to an outer transform
  };

  bool in_range(const Node* n) const {
    if (ranges_.empty()) return true;
    for (const Range& r : ranges_)
      if (n->order >= r.first && n->order < r.second) return true;
    return false;
  }

  bool is_source(const Node* n) const {
    if (to_leaves_) return n->leaf && n->leaf->owners.load(std::memory_order_relaxed) > 0;
    return wanted_.contains(n) || (n->leaf && wanted_.contains(n->leaf));
  }

  /// A source that is a leaf ends the walk: what lies behind belongs to an outer transform.
  bool stops(const Node* n, bool source) const { return source && n->leaf && !to_leaves_; }

  bool expands(const Node* n) const {
    return n->op && in_range(n) && !stops(n, n->leaf && is_source(n));
  }

  void collect(std::span<const Tensor> outputs) {
    std::vector<std::pair<std::uint64_t, Node*>> found;
    std::vector<Node*> stack;
    const auto push = [&](Node* n) {
      if (!n->requires_grad || marks_.find(n)) return;
      found.emplace_back(n->order, n);
      marks_.set(n, 1);
      if (expands(n)) stack.push_back(n);
    };
    for (const Tensor& t : outputs) push(t.node());
    while (!stack.empty()) {
      Node* n = stack.back();
      stack.pop_back();
      for (Node* in : n->inputs()) push(in);
    }
    if (!std::is_sorted(found.begin(), found.end(), std::greater<>()))
      std::sort(found.begin(), found.end(), std::greater<>());
    slots_.resize(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      Slot& slot = slots_[i];
      slot.node = found[i].second;
      slot.source = is_source(slot.node);
      slot.stops = stops(slot.node, slot.source);
      marks_.set(slot.node, static_cast<std::uint32_t>(i + 1));
    }
  }

  void mark_useful() {
    for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
      it->useful = it->source;
      if (it->stops || it->useful || !it->node->op || !in_range(it->node)) continue;
      for (const Node* in : it->node->inputs()) {
        const std::uint32_t slot = marks_.find(in);
        if (slot && slots_[slot - 1].useful) {
          it->useful = true;
          break;
        }
      }
    }
  }

  void add(Slot& slot, Tensor ct) {
    if (!slot.cotangent.defined()) {
      slot.cotangent = std::move(ct);
      return;
    }
    static const Op& op = find_op("add");
    Node* both[] = {slot.cotangent.node(), ct.node()};
    slot.cotangent = Tensor::adopt(apply(op, both));
  }

  void visit(Slot& slot) {
    if (to_leaves_ && slot.source && !slot.cotangent.defined())  // reached by zero slopes only
      slot.cotangent = zeros(slot.node->layout.shape(), slot.node->dtype);
    if (!slot.useful || !slot.cotangent.defined()) return;
    Tensor ct = std::move(slot.cotangent);
    if (slot.source) deliver(slot.node, ct);
    if (slot.stops || !slot.node->op || !in_range(slot.node)) return;
    propagate(slot.node, std::move(ct));
  }

  /// Inputs are served from the last to the first: the rule of input 0 gets the cotangent when
  /// nothing else holds it, and may write into its memory.
  void propagate(Node* node, Tensor ct) {
    const Op& op = *node->op;
    const BorrowedInputs inputs(node);
    Tensor output = Tensor::adopt(node);
    struct GiveBack {
      Tensor& t;
      ~GiveBack() { t.detach_node(); }
    } give_back{output};
    const RuleArgs args{op, node->attrs, inputs.get(), output};
    for (std::size_t i = args.inputs.size(); i-- > 0;) {
      const std::uint32_t index = marks_.find(args.inputs[i].node());
      if (!index || !slots_[index - 1].useful || (i < 8 && op.constant_inputs >> i & 1)) continue;
      Slot& slot = slots_[index - 1];
      if (i == 0 && op.accumulate) {
        Tensor sum = std::move(slot.cotangent);
        if (!sum.defined()) sum = zeros(args.inputs[0].shape(), args.inputs[0].dtype());
        slot.cotangent = op.accumulate(args, std::move(sum), ct);
        continue;
      }
      Tensor part = input_cotangent(args, static_cast<int>(i), ct);
      if (part.defined()) add(slot, std::move(part));
    }
  }

  void deliver(Node* node, const Tensor& ct) {
    if (to_leaves_) {
      add_to_grad(node->leaf, ct);
      return;
    }
    const void* keys[2] = {node, node->leaf};
    for (const void* key : keys) {
      const auto found = key ? wanted_.find(key) : wanted_.end();
      if (found == wanted_.end()) continue;
      for (const std::size_t i : found->second) {
        if (key == node && node->leaf && wanted_.contains(node->leaf) &&
            std::ranges::count(wanted_.at(node->leaf), i))
          continue;  // the same source by node and by leaf
        results_[i] = results_[i].defined() ? results_[i] + ct : ct;
      }
    }
  }

  static void add_to_grad(Leaf* leaf, const Tensor& ct);

  std::span<const Range> ranges_;
  bool to_leaves_;
  Marks marks_;
  std::vector<Slot> slots_;
  std::unordered_map<const void*, std::vector<std::size_t>> wanted_;
  std::vector<Tensor> results_;
};

/// Keeps a leaf for a trace that reads or rebinds its gradient.
class LeafOwner : public Payload {
 public:
  explicit LeafOwner(Leaf* leaf) : leaf_(leaf) { retain_owner(leaf_); }
  ~LeafOwner() override { release_owner(leaf_); }

 private:
  Leaf* leaf_;
};

void Sweep::add_to_grad(Leaf* leaf, const Tensor& ct) {
  touch_grad(leaf);
  Node* fresh;
  if (leaf->grad) {
    Node* both[] = {leaf->grad, ct.node()};
    static const Op& op = find_op("add");
    fresh = apply(op, both);
  } else {
    fresh = Tensor(ct).detach_node();
  }
  if (Node* before = std::exchange(leaf->grad, fresh)) release_handle(before);
}

std::vector<Tensor> seeds(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
                          const char* what) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& y = outputs[i];
    if (!is_floating(y.dtype()))
      raise(ErrorKind::type, what,
            "the output has dtype " + std::string(name(y.dtype())) +
                ", and only floating values have derivatives");
    if (i < cotangents.size() && cotangents[i].defined()) {
      const Tensor& ct = cotangents[i];
      if (!std::ranges::equal(ct.shape(), y.shape()))
        raise(ErrorKind::value, what,
              "the cotangent has shape " + to_string(ct.shape()) + " and the output " +
                  to_string(y.shape()) + ": they must be equal");
      out.push_back(ct.dtype() == y.dtype() ? ct : astype(ct, y.dtype()));
    } else {
      if (y.size() != 1)
        raise(ErrorKind::value, what,
              "the output has shape " + to_string(y.shape()) +
                  "; a gradient is of one number: reduce it, or give a cotangent");
      out.push_back(broadcast_to(Tensor::scalar(1.0, y.dtype()), y.shape()));
    }
  }
  return out;
}

}  // namespace

void touch_grad(Leaf* leaf) {
  if (g_open_traces.load(std::memory_order_relaxed) == 0) return;
  if (TraceSink* trace = current_trace())
    trace->touch(&leaf->grad, [leaf] { return IntrusivePtr<const Payload>(new LeafOwner(leaf)); });
}

std::vector<Tensor> sweep(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
                          std::span<const Tensor> sources, const SweepOptions& options) {
  for (const Tensor& s : sources)
    if (!is_floating(s.dtype()))
      raise(ErrorKind::type, "gradient",
            "the gradient of a tensor of dtype " + std::string(name(s.dtype())) +
                " is undefined: convert it to a floating dtype first");
  const RecordingScope recording(options.create_graph || thread_state().open_recorders > 0);
  const std::vector<Tensor> cts = seeds(outputs, cotangents, "gradient");
  Sweep run(sources, options.ranges, false);
  run.run(outputs, cts);
  std::vector<Tensor> results = run.results();
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].defined()) continue;
    if (options.require_connected)
      raise(ErrorKind::value, "gradient",
            "source " + std::to_string(i) + " is not connected to any output");
    results[i] = zeros(sources[i].shape(), sources[i].dtype());
  }
  return results;
}

void backward(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
              bool create_graph) {
  for (const Tensor& y : outputs)
    if (!y.requires_grad())
      raise(ErrorKind::runtime, "backward",
            "the tensor was not computed from anything that requires grad, or not recorded");
  const RecordingScope recording(create_graph || thread_state().open_recorders > 0);
  const std::vector<Tensor> cts = seeds(outputs, cotangents, "backward");
  Sweep run({}, {}, true);
  run.run(outputs, cts);
}

// -------------------------------------------------------------------------- members of Tensor

void Tensor::backward(const Tensor& cotangent, bool create_graph) const {
  adjoint::backward({this, 1}, {&cotangent, 1}, create_graph);
}

Tensor Tensor::grad() const {
  if (!leaf_) return {};
  touch_grad(leaf_);
  return leaf_->grad ? share(leaf_->grad) : Tensor();
}

void Tensor::zero_grad() {
  if (!leaf_) return;
  touch_grad(leaf_);
  if (Node* before = std::exchange(leaf_->grad, nullptr)) release_handle(before);
}

}  // namespace adjoint
