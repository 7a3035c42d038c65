// The reverse sweep. The applications that lie between the outputs and the sources are collected
// with an explicit stack, visited in descending order of their sequence numbers, and each rule
// adds its cotangents to the slots of the inputs. Rules are written in operations, so a recorded
// sweep can be swept again.
#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "base/error_context.h"
#include "base/fork.h"
#include "graph/apply.h"
#include "graph/cell.h"
#include "graph/node_numbers.h"
#include "graph/results.h"
#include "graph/thread_state.h"
#include "graph/trace_sink.h"
#include "graph/watcher.h"
#include "transforms/derive.h"

namespace adjoint {

namespace {

/// Tensors on the inputs and the output of a node that never touch its counts: the graph holds
/// them meanwhile, and the tensors made here are not destroyed.
class Borrowed {
 public:
  explicit Borrowed(Node* n) : count_(n->inputs().size()) {
    tensors_ = count_ < kLocal ? local_ : std::allocator<Tensor>().allocate(count_ + 1);
    for (std::size_t i = 0; i < count_; ++i)
      new (tensors_ + i) Tensor(Tensor::adopt(n->inputs()[i]));
    new (tensors_ + count_) Tensor(Tensor::adopt(n));
  }
  ~Borrowed() {
    if (tensors_ != local_) std::allocator<Tensor>().deallocate(tensors_, count_ + 1);
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  std::span<const Tensor> inputs() const { return {tensors_, count_}; }
  const Tensor& output() const { return tensors_[count_]; }

 private:
  static constexpr std::size_t kLocal = 4;
  union {
    Tensor local_[kLocal];
  };
  Tensor* tensors_;
  std::size_t count_;
};

using Range = std::pair<std::uint64_t, std::uint64_t>;

constexpr std::int64_t kLongStep = 1024;  // elements, or small steps, worth a look at the clock

class Sweep {
 public:
  Sweep(std::span<const Tensor> sources, std::span<const Range> ranges, bool to_leaves)
      : ranges_(ranges), to_leaves_(to_leaves), results_(sources.size()) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (has_left(thread_state(), sources[i].node())) raise_left("gradient");
      want(sources[i].node(), i);
      earliest_ = std::min(earliest_, sources[i].node()->order);
      if (sources[i].leaf()) want(sources[i].leaf(), i);
    }
    std::sort(wanted_.begin(), wanted_.end(), before);
  }
  Sweep(const Sweep&) = delete;
  Sweep& operator=(const Sweep&) = delete;

  void run(std::span<const Tensor> outputs, std::span<const Tensor> cotangents) {
    collect(outputs);
    number();
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (const std::uint32_t slot = numbers_.find(outputs[i].node()))
        add(slots_[slot - 1].cotangent, cotangents[i]);
    std::uint32_t small = 0;
    for (Slot& slot : slots_) {
      if (slot.node->layout.size() >= kLongStep || ++small % kLongStep == 0) check_interrupt();
      try {
        watcher_ ? watched_visit(slot) : visit(slot);
      } catch (...) {
        add_error_context(place_of(slot.node));
        throw;
      }
    }
    if (to_leaves_) add_to_grads();
  }

  std::vector<Tensor> results() { return std::move(results_); }

 private:
  struct Slot {
    Node* node = nullptr;
    Tensor cotangent;
    bool source = false;
    bool expands = false;       // its application is differentiated
    bool useful = false;        // a source, or on the way to one
    std::uint32_t several = 0;  // of a tuple: 1 + the place of its parts' cotangents
  };

  struct Found {
    std::uint64_t order;
    Node* node;
  };
  static bool descending(const Found& a, const Found& b) { return a.order > b.order; }

  /// That a source is found under this node or leaf.
  struct Wanted {
    const void* key;
    std::size_t source;
  };
  static bool before(const Wanted& a, const Wanted& b) {
    return std::less<>()(a.key, b.key) || (a.key == b.key && a.source < b.source);
  }

  void want(const void* key, std::size_t i) {
    wanted_.push_back({key, i});
    wanted_filter_ |= filter_bit(key);
  }
  std::span<const Wanted> sources_at(const void* key) const {
    if (!(wanted_filter_ & filter_bit(key))) return {};
    const auto first = std::lower_bound(wanted_.begin(), wanted_.end(), Wanted{key, 0}, before);
    auto last = first;
    while (last != wanted_.end() && last->key == key) ++last;
    return {first, last};
  }
  /// One bit for most of the nodes that are no source: spares them the look-up.
  static std::uint64_t filter_bit(const void* key) {
    const auto bits = reinterpret_cast<std::uintptr_t>(key);
    return std::uint64_t{1} << ((bits >> 6 ^ bits >> 12) & 63);
  }
  bool is_wanted(const void* key) const { return !sources_at(key).empty(); }

  bool in_range(const Node* n) const {
    if (ranges_.empty()) return true;
    for (const Range& r : ranges_)
      if (n->order >= r.first && n->order < r.second) return true;
    return false;
  }

  bool is_source(const Node* n) const {
    if (to_leaves_) return n->leaf && n->leaf->owners.load(std::memory_order_relaxed) > 0;
    return is_wanted(n) || (n->leaf && is_wanted(n->leaf));
  }

  /// A source that is a leaf ends the walk: what lies behind belongs to an outer transform.
  bool expands(const Node* n) const {
    return n->recorded && in_range(n) && !(n->leaf && !to_leaves_ && is_source(n));
  }

  /// Every node that may carry a cotangent, in descending order.
  void collect(std::span<const Tensor> outputs) {
    SmallVector<Node*, 64> stack;
    const auto push = [&](Node* n) {
      if (!n->requires_grad) return;
      std::uint32_t& mark = numbers_[n];
      if (mark) return;
      if (to_leaves_ && n->box == Box::trace && !n->recorded && !n->leaf) tell_trace(n);
      if (n->is_shadow() && is_missed(n)) raise_left(to_leaves_ ? "backward" : "gradient");
      found_.push_back({n->order, n});
      mark = 1;
      if (expands(n)) stack.push_back(n);
    };
    for (const Tensor& t : outputs) push(t.node());
    while (!stack.empty()) {
      Node* n = stack.back();
      stack.pop_back();
      for (Node* in : n->inputs()) push(in);
    }
    if (!std::is_sorted(found_.begin(), found_.end(), descending))
      std::sort(found_.begin(), found_.end(), descending);
  }

  /// Of a value without the history it had: whether a source may be in that.
  bool is_missed(const Node* n) const {
    return has_left(thread_state(), n) && in_range(n) && (to_leaves_ || n->order > earliest_);
  }

  /// A value from outside of a trace with a history outside, to which this sweep cannot go on.
  static void tell_trace(const Node* n) {
    const auto& levels = thread_state().levels;
    if (n->level <= levels.size() && levels[n->level - 1u].trace)
      levels[n->level - 1u].trace->sweep_left(n);
  }

  /// One slot per node. Ascending, so that the inputs of a node have theirs.
  void number() {
    slots_.resize(found_.size());
    for (std::size_t i = found_.size(); i-- > 0;) {
      Slot& slot = slots_[i];
      slot.node = found_[i].node;
      numbers_[slot.node] = static_cast<std::uint32_t>(i + 1);
      slot.source = is_source(slot.node);
      slot.expands = expands(slot.node);
      slot.useful = slot.source || (slot.expands && leads_to_source(slot.node));
    }
  }

  bool leads_to_source(const Node* n) const {
    for (std::size_t i = 0; i < n->inputs().size(); ++i) {
      if (n->op->is_constant_in(i)) continue;
      const std::uint32_t slot = numbers_.find(n->inputs()[i]);
      if (slot && slots_[slot - 1].useful) return true;
    }
    return false;
  }

  static void add(Tensor& sum, Tensor ct) {
    if (!sum.defined()) {
      sum = std::move(ct);
      return;
    }
    static const Op& op = find_op("add");
    if (apply_in_place(op, sum.node(), ct.node())) return;
    Node* both[] = {sum.node(), ct.node()};
    sum = Tensor::adopt(apply(op, both));
  }

  void visit(Slot& slot) {
    if (to_leaves_ && slot.source && !slot.cotangent.defined())  // reached by zero slopes only
      slot.cotangent = zeros(slot.node->layout.shape(), slot.node->dtype);
    if (!slot.useful) return;
    if (slot.several) return pull_tuple(slot);
    if (!slot.cotangent.defined()) return;
    Tensor ct = std::move(slot.cotangent);
    if (slot.source) deliver(slot.node, ct);
    if (slot.expands) propagate(slot.node, std::move(ct));
  }

  std::string place_of(const Node* node) const {
    if (!node->op) return "in a backward sweep";
    return "in a backward sweep, in " + derivative_of(*node->op) + ", " +
           (watcher_ ? watcher_->place_of(node) : "whose line anomaly mode (detect_anomaly) tells");
  }

  [[gnu::noinline]] void watched_visit(Slot& slot) {
    watcher_->step(slot.node, [&] { visit(slot); });
  }
  [[gnu::noinline]] Tensor watched_part(const RuleArgs& args, int i, Tensor& ct) {
    return watcher_->derive(args, i, {&ct, 1},
                            [&] { return std::vector{input_cotangent(args, i, ct, false)}; })[0];
  }

  /// Inputs are served from the last to the first: the rule of input 0 gets the cotangent when
  /// nothing else holds it, and may write into its memory.
  void propagate(Node* node, Tensor ct) {
    const Op& op = *node->op;
    if (op.part) return give_tuple(node, std::move(ct));
    const Borrowed values(node);
    const RuleArgs args{op, node->attrs, values.inputs(), values.output(), {&values.output(), 1}};
    if (op.pull) return pull(args, {&ct, 1});
    for (std::size_t i = args.inputs.size(); i-- > 0;) {
      const std::uint32_t index = numbers_.find(args.inputs[i].node());
      if (!index || !slots_[index - 1].useful || op.is_constant_in(i)) continue;
      Slot& slot = slots_[index - 1];
      if (i == 0 && op.accumulate) {
        Tensor sum = std::move(slot.cotangent);
        if (!sum.defined()) sum = zeros(args.inputs[0].shape(), args.inputs[0].dtype());
        slot.cotangent = op.accumulate(args, std::move(sum), ct);
        continue;
      }
      const int at = static_cast<int>(i);
      Tensor part = watcher_ ? watched_part(args, at, ct) : input_cotangent(args, at, ct, i == 0);
      if (part.defined()) add(slot.cotangent, std::move(part));
    }
  }

  /// All inputs at once.
  void pull(RuleArgs args, std::span<const Tensor> cotangents) {
    SmallVector<bool, 16> wanted;
    for (const Tensor& x : args.inputs) {
      const std::uint32_t index = numbers_.find(x.node());
      wanted.push_back(index && slots_[index - 1].useful);
    }
    args.wanted = {{wanted.data(), wanted.size()}};
    std::vector<Tensor> parts = input_cotangents(args, cotangents);
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (wanted[i] && parts[i].defined())
        add(slots_[numbers_.find(args.inputs[i].node()) - 1].cotangent, std::move(parts[i]));
  }

  /// The cotangent of one result waits at the application for the others.
  void give_tuple(const Node* part, Tensor ct) {
    const Node* tuple = part->inputs()[0];
    Slot& slot = slots_[numbers_.find(tuple) - 1];
    if (!slot.several) {
      several_.emplace_back(results_of(tuple).size());
      slot.several = static_cast<std::uint32_t>(several_.size());
    }
    add(several_[slot.several - 1][part_index(part->attrs)], std::move(ct));
  }

  void pull_tuple(Slot& slot) {
    check_interrupt();
    Node* tuple = slot.node;
    const std::vector<Tensor> cotangents = std::move(several_[slot.several - 1]);
    const Borrowed values(tuple);
    const bool saved = tuple->saved & kSavesOutput;
    std::vector<Tensor> outputs;
    for (std::size_t i = 0; i < cotangents.size(); ++i) {
      Node* value = results_of(tuple)[i];
      const bool recorded = saved && thread_state().recording && is_differentiable(value->dtype);
      outputs.push_back(recorded ? part_of(tuple, i)
                        : saved  ? Tensor::share(value)
                                 : outline_of(value));
    }
    pull({*tuple->op, tuple->attrs, values.inputs(), values.output(), outputs}, cotangents);
  }

  void deliver(Node* node, const Tensor& ct) {
    if (to_leaves_) {
      leaf_cotangents_.emplace_back(node->leaf, ct);
      return;
    }
    const auto by_leaf = node->leaf ? sources_at(node->leaf) : std::span<const Wanted>();
    for (const Wanted& w : sources_at(node))
      if (std::ranges::find(by_leaf, w.source, &Wanted::source) == by_leaf.end())
        give(w.source, ct);  // else the source is found by node and by leaf
    for (const Wanted& w : by_leaf) give(w.source, ct);
  }

  void give(std::size_t source, const Tensor& ct) {
    Tensor& result = results_[source];
    result = result.defined() ? result + ct : ct;
  }

  void add_to_grads();

  std::span<const Range> ranges_;
  bool to_leaves_;
  Watcher* watcher_ = open_watcher();
  NodeNumbers numbers_;
  SmallVector<Found, 32> found_;
  std::vector<Slot> slots_;
  std::vector<std::vector<Tensor>> several_;  // cotangents of the results of tuples
  SmallVector<Wanted, 8> wanted_;             // by key
  std::uint64_t wanted_filter_ = 0;
  std::uint64_t earliest_ = UINT64_MAX;  // order among the sources
  std::vector<Tensor> results_;
  std::vector<std::pair<Leaf*, Tensor>> leaf_cotangents_;
};

/// Whether the gradients are reached themselves, and not some scope before them.
bool is_direct(std::span<const GradientChange> changes) {
  return std::ranges::none_of(
      changes, [](const GradientChange& c) { return is_guarded(gradient_cell(c.leaf)); });
}

/// All gradients change, or none: whatever stops a sweep, it can be run again. Where another thread
/// has added to one meanwhile, the sum is made anew.
void Sweep::add_to_grads() {
  static const Op& op = find_op("add");
  auto& list = leaf_cotangents_;
  if (list.empty()) return;
  std::ranges::stable_sort(list, {}, &std::pair<Leaf*, Tensor>::first);
  std::vector<GradientChange> changes;
  for (const auto& [leaf, ct] : list)
    if (changes.empty() || changes.back().leaf != leaf) changes.push_back({leaf, {}, {}});
  const bool direct = is_direct(changes);
  GradientPriority priority;
  for (;; priority.failed()) {
    if (direct) load_gradients(changes);
    auto next = list.begin();
    for (GradientChange& c : changes) {
      if (!direct) c.expected = read_cell(gradient_cell(c.leaf));
      c.value = c.expected;
      for (; next != list.end() && next->first == c.leaf; ++next) {
        Node* both[] = {c.value.node(), next->second.node()};
        c.value = c.value.defined() ? Tensor::adopt(apply(op, both)) : next->second;
      }
    }
    if (!direct) {
      for (const GradientChange& c : changes) check_write(gradient_cell(c.leaf), c.value);
      for (GradientChange& c : changes) write_cell(gradient_cell(c.leaf), std::move(c.value));
      return;
    }
    if (exchange_gradients(changes)) return;
  }
}

enum class Askers : std::uint8_t { transforms, tapes_too };

/// Whether the history of the outputs leads to a leaf that a reverse transform or tape of another
/// thread may be asked about: the inputs of transforms are their own, the leaves of users any
/// tape's. Levels of the thread itself are looked through.
bool leads_elsewhere(std::span<const Tensor> outputs, std::span<const Tensor> sources,
                     Askers askers) {
  if (!thread_state().elsewhere_open()) return false;
  const bool any_leaf =
      askers == Askers::tapes_too && g_open_tapes.load(std::memory_order_relaxed) > 0;
  const auto is_asked = [&](const Leaf* leaf) {
    if (leaf->owners.load(std::memory_order_relaxed) == 0) return false;
    if (!leaf->of_transform) return any_leaf;
    return std::ranges::none_of(sources, [leaf](const Tensor& s) { return s.leaf() == leaf; });
  };
  // In a trace, and in the first run of a checkpoint, a value stands for one whose history is not
  // seen here.
  const bool shadows = thread_state().shadow == thread_state().open_recorders;
  std::vector<const Node*> stack;
  std::unordered_set<const Node*> seen;
  const auto push = [&](const Node* n) {
    if (n && (n->requires_grad || n->level) && seen.insert(n).second) stack.push_back(n);
  };
  for (const Tensor& y : outputs) push(y.node());
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    const bool stands =
        n->requires_grad && !n->recorded && (shadows || (n->level && n->box == Box::trace));
    if (n->leaf ? is_asked(n->leaf) : stands) return true;
    if (n->recorded)
      for (const Node* in : n->inputs()) push(in);
    if (n->level && n->box != Box::trace) {
      push(n->boxed.primal);
      if (n->box == Box::dual) push(n->boxed.tangent);
    }
  }
  return false;
}

std::vector<Tensor> seeds(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
                          const char* what) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& y = outputs[i];
    if (!is_differentiable(y.dtype()))
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

bool is_recorded_outside(std::span<const Tensor> outputs, std::span<const Tensor> sources) {
  return thread_state().open_recorders > 0 || leads_elsewhere(outputs, sources, Askers::tapes_too);
}

std::vector<Tensor> sweep(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
                          std::span<const Tensor> sources, const SweepOptions& options) {
  for (const Tensor& s : sources)
    if (!is_differentiable(s.dtype()))
      raise(ErrorKind::type, "gradient",
            "the gradient of a tensor of dtype " + std::string(name(s.dtype())) +
                " is undefined: convert it to a floating dtype first");
  const RecordingScope recording(options.create_graph || is_recorded_outside(outputs, sources));
  const std::vector<Tensor> cts = seeds(outputs, cotangents, "gradient");
  Sweep run(sources, options.ranges, false);
  run.run(outputs, cts);
  std::vector<Tensor> results = run.results();
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].defined()) continue;
    if (options.require_connected)
      raise(ErrorKind::value, "gradient",
            "source " + std::to_string(i) + " is not connected to any output");
    if (!options.undefined_if_unconnected)
      results[i] = zeros(sources[i].shape(), sources[i].dtype());
  }
  return results;
}

void backward(std::span<const Tensor> outputs, std::span<const Tensor> cotangents,
              bool create_graph) {
  if (thread_state().shadow == thread_state().open_recorders)
    raise(ErrorKind::runtime, "backward",
          "inside checkpoint nothing is recorded yet: call it outside, or use ad.grad");
  for (const Tensor& y : outputs)
    if (!y.requires_grad())
      raise(ErrorKind::runtime, "backward",
            "the tensor was not computed from anything that requires grad, or not recorded");
  const RecordingScope recording(create_graph || thread_state().open_recorders > 0 ||
                                 leads_elsewhere(outputs, {}, Askers::transforms));
  const FieldScope<&ThreadState::constant_order> asked(
      create_graph ? 0 : thread_state().constant_order);
  const std::vector<Tensor> cts = seeds(outputs, cotangents, "backward");
  Sweep run({}, {}, true);
  run.run(outputs, cts);
}

// -------------------------------------------------------------------------- members of Tensor

void Tensor::backward(const Tensor& cotangent, bool create_graph) const {
  adjoint::backward({this, 1}, {&cotangent, 1}, create_graph);
}

Tensor Tensor::grad() const { return leaf_ ? read_cell(gradient_cell(leaf_)) : Tensor(); }

void Tensor::zero_grad() {
  if (leaf_) write_cell(gradient_cell(leaf_), {});
}

}  // namespace adjoint
