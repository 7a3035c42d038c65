// Tracing a Python function for a kind of call, and remembering what came of it.
//
// The function gets copies of the handles among its arguments: what it rebinds is rebound on the
// caller's at every call. A captured handle that is an argument too is one with its copy.
#include <algorithm>
#include <deque>
#include <optional>

#include "compile.h"
#include "graph/thread_state.h"
#include "numbers.h"
#include "source_lines.h"

namespace adjoint::python {

namespace {

constexpr std::size_t kMaxKeys = 64;
constexpr std::size_t kMaxVariants = 8;  // of one key

// The arguments of the function while it is traced.
class TracedArguments {
 public:
  TracedArguments(Trace& trace, const Call& call) : call_(call) {
    const auto leaves = call.leaves();
    values_.reserve(leaves.size());
    for (std::uint32_t i = 0; i < leaves.size(); ++i) add(trace, i, leaves[i]);
  }

  std::vector<py::object> rebuilt() const { return call_.rebuild(values_); }
  std::size_t inputs() const noexcept { return inputs_.size(); }

  // The values of copies that were rebound go to `results`, and which those are.
  void take_rebound(Variant& variant, std::vector<Tensor>& results) const {
    for (const auto& [leaf, box] : arrays_)
      if (as_tensor(values_[leaf].ptr())->node != box.node())
        raise(ErrorKind::type, "compile",
              "the function assigns to an argument that is a " +
                  type_name(call_.leaves()[leaf].object) +
                  ", which a program does not write to: pass an ad.tensor, which is given the new "
                  "value, or return it (x = x + 1 in place of x += 1)");
    for (const Copy& c : copies_) {
      const PyTensor* handle = as_tensor(values_[c.leaf].ptr());
      if (handle->leaf != c.original->leaf)
        raise(ErrorKind::runtime, "compile",
              "the function makes an argument a leaf, or no leaf any more: do it outside");
      if (handle->node == c.box.node()) continue;
      variant.rebound.emplace_back(c.leaf, static_cast<std::uint32_t>(results.size()));
      results.push_back(Tensor::share(handle->node));
    }
  }

  // The leaf that the function got this handle as, or kNone.
  std::uint32_t leaf_of(PyObject* handle) const {
    for (const Copy& c : copies_)
      if (values_[c.leaf].ptr() == handle) return c.leaf;
    return LeftHandle::kNone;
  }

  void take_bound(Variant& variant) const {
    for (const Copy& c : copies_)
      if (c.used)
        variant.bound.emplace_back(c.leaf, Identity(reinterpret_cast<PyObject*>(c.original)));
  }

  // The leaves that these inputs of the graph stand for.
  std::vector<std::uint32_t> leaves_at(std::span<const std::uint32_t> inputs) const {
    std::vector<std::uint32_t> out;
    for (const std::uint32_t i : inputs) out.push_back(inputs_[i]);
    return out;
  }

 private:
  struct Copy {
    std::uint32_t leaf;
    PyTensor* original;
    Tensor box;
    bool used = false;
  };

  void add(Trace& trace, std::uint32_t i, const CallLeaf& leaf) {
    if (leaf.kind == CallLeaf::Kind::fixed) {
      values_.push_back(borrow(leaf.object));
      return;
    }
    inputs_.push_back(i);
    if (leaf.kind != CallLeaf::Kind::tensor) {
      const bool whole = leaf.kind == CallLeaf::Kind::weak_int;
      values_.push_back(
          wrapped_value(trace.argument({whole ? DType::int64 : DType::float64,
                                        {},
                                        whole ? WeakKind::integer : WeakKind::floating,
                                        false})));
      return;
    }
    Tensor box = trace.argument_like(Tensor::share(leaf.node));
    if (!is_tensor(leaf.object)) {
      arrays_.emplace_back(i, box);
      values_.push_back(wrapped(std::move(box)));
      return;
    }
    if (leaf.same != i) {
      values_.push_back(values_[leaf.same]);
      return;
    }
    PyTensor* original = as_tensor(leaf.object);
    Copy& copy = copies_.emplace_back(Copy{i, original, box});
    values_.push_back(copy_of_handle(original, std::move(box)));
    trace.redirect(&original->node, cell_of(as_tensor(values_.back().ptr())), &copy.used);
    if (original->leaf) trace.add_leaf(original->leaf, i);
  }

  const Call& call_;
  std::vector<py::object> values_;     // by leaf
  std::vector<std::uint32_t> inputs_;  // leaf of each input
  std::deque<Copy> copies_;
  std::vector<std::pair<std::uint32_t, Tensor>> arrays_;  // leaves that are no handles
};

// What the function returned: tensors become outputs, everything else is part of the program.
std::vector<Tensor> take_results(py::object result, Variant& variant) {
  std::vector<py::object> leaves;
  variant.def = TreeDef::flatten(result, leaves);
  variant.single = is_tensor(result.ptr());
  variant.same = first_of_same(leaves);
  std::vector<Tensor> tensors;
  for (py::object& leaf : leaves) {
    if (is_tensor(leaf.ptr())) {
      tensors.push_back(Tensor::share(read_node(as_tensor(leaf.ptr()))));
      variant.leaves.emplace_back();
    } else {
      variant.leaves.push_back(std::move(leaf));
    }
  }
  return tensors;
}

// The inputs of the program whose memory the caller gives up.
std::vector<std::uint32_t> donated_inputs(const CompiledFunction& c, const Call& call) {
  std::vector<std::uint32_t> out;
  for (const std::int64_t argument : c.donate_argnums) {
    if (argument >= static_cast<std::int64_t>(call.positional())) continue;
    const auto [begin, end] = call.leaves_of(static_cast<std::size_t>(argument));
    for (std::size_t leaf = begin; leaf < end; ++leaf) {
      std::uint32_t input = 0;
      for (std::size_t i = 0; i < leaf; ++i)
        input += call.leaves()[i].kind != CallLeaf::Kind::fixed;
      if (call.leaves()[leaf].kind == CallLeaf::Kind::tensor) out.push_back(input);
    }
  }
  return out;
}

// What the function can see, before it is traced and after. What it puts into the place of a tensor
// meanwhile is taken back, whichever way the trace ends.
class Sight {
 public:
  Sight(PyObject* f, const Call& call) : f_(f) {
    for (const CallLeaf& leaf : call.leaves())
      if (leaf.kind == CallLeaf::Kind::fixed) given_.push_back(leaf.object);
    before_ = Surroundings(f_, given_);
    before_.hold();
  }
  ~Sight() {
    if (taken_) return;
    const py::error_scope kept;
    try {
      std::vector<py::object> replaced;
      take_back(replaced);
    } catch (...) {  // the error on its way tells more
      PyErr_Clear();
    }
  }
  Sight(const Sight&) = delete;
  Sight& operator=(const Sight&) = delete;

  // What the function has put where it can be seen; `replaced`: tensors that were there.
  std::vector<LeftValue> take_back(std::vector<py::object>& replaced) {
    taken_ = true;
    now_.emplace(f_, given_);
    std::vector<LeftValue> left = before_.take_back(*now_, replaced);
    if (!left.empty()) now_.reset();  // it is no more what there is
    return left;
  }

  // What the function has set while it was traced is watched as it left it, but not what every
  // trace changes: that is a count, or a cache, which would make each kind of call trace anew after
  // every other. What it has added to may grow.
  Surroundings after(std::vector<StatePlace>& changed, const std::vector<LeftValue>& left) {
    Surroundings out = now_ ? std::move(*now_) : Surroundings(f_, given_);
    out.accept_tensors(left);
    std::vector<StatePlace> again;
    for (StatePlace& now : before_.changes()) {
      const auto is_now = [&](const StatePlace& p) { return p.is(now); };
      if (now.grown || std::ranges::any_of(changed, is_now))
        again.push_back(std::move(now));
      else if (changed.size() < kMaxChanged)
        changed.push_back(std::move(now));
    }
    out.forget(again);
    return out;
  }

 private:
  static constexpr std::size_t kMaxChanged = 256;
  PyObject* f_;
  std::vector<PyObject*> given_;
  Surroundings before_;
  std::optional<Surroundings> now_;
  bool taken_ = false;
};

// The values of what the function has left behind are further outputs.
void take_left(Variant& variant, const TracedArguments& arguments, std::vector<LeftValue> left,
               std::vector<Tensor>& outputs) {
  std::vector<py::object> traced;
  for (const LeftValue& l : left) add_traced(l.value.ptr(), traced);
  const std::vector<std::uint32_t> same = first_of_same(traced);
  for (std::size_t i = 0; i < traced.size(); ++i) {
    if (same[i] != i) continue;
    PyTensor* handle = as_tensor(traced[i].ptr());
    const std::uint32_t argument = arguments.leaf_of(traced[i].ptr());
    if (handle->leaf && argument == LeftHandle::kNone)
      raise(ErrorKind::runtime, "compile",
            "the function makes a tensor that requires grad and keeps it in an attribute or "
            "variable: make it before the first call");
    variant.left_handles.push_back(
        {traced[i], static_cast<std::uint32_t>(outputs.size()), argument});
    outputs.push_back(Tensor::share(read_node(handle)));
  }
  variant.left = std::move(left);
}

// Whether the value of a place is used; the function may have asked no more than whether it
// requires grad.
bool uses_place(const Graph& graph, const Place& place) {
  if (place.null) return false;
  const Graph::Index input = graph.inputs()[place.input];
  if (std::ranges::find(graph.outputs(), input) != graph.outputs().end()) return true;
  for (Graph::Index i = 0; i < graph.size(); ++i)
    if (graph[i].kind == Graph::Kind::apply &&
        std::ranges::find(graph.inputs_of(i), input) != graph.inputs_of(i).end())
      return true;
  return false;
}

// A tensor that the function reads, and then puts another in the place of: the next call of a
// program would read the first one again.
void refuse_lost_state(const Graph& graph, const std::vector<Place>& places,
                       const std::vector<py::object>& replaced) {
  for (const py::object& was : replaced)
    for (const Place& p : places)
      if (p.cell.who == was.ptr() && uses_place(graph, p))
        raise(ErrorKind::runtime, "compile",
              "the function keeps a tensor in an attribute or variable from one call to the next: "
              "give the tensor a new value instead of putting another in its place, as in "
              "`self.h[...] = h` or `self.h.rebind_(h)`");
}

// A step's results have no history: it would keep the parameters that the step has replaced.
GraphFunction::Mask recorded_outputs(const Traced& traced, std::size_t results) {
  GraphFunction::Mask out = traced.recorded;
  if (traced.steps) std::fill_n(out.begin(), results, false);
  return out;
}

py::object run_traced(PyObject* f, const Call& call, const TracedArguments& arguments) {
  const std::vector<py::object> values = arguments.rebuilt();
  std::vector<PyObject*> args;
  args.reserve(values.size());
  for (const py::object& a : values) args.push_back(a.ptr());
  return py::reinterpret_steal<py::object>(
      call_python(f, args.data(), call.positional(), call.kwnames()));
}

// Whether a program is worth remembering: nothing of an open transform is in it.
bool judge_kept(const Traced& traced, const Variant& variant, const Call& call) {
  return !traced.graph.captures_levels() && !traced.names_levels &&
         std::ranges::all_of(variant.places, [&](const Place& p) {
           return p.null || read_cell(cell_in(p, call)).node()->level == 0;
         });
}

// What the trace found becomes the program, where one can stand for the function.
void finish_variant(Variant& variant, Traced traced, const CompiledFunction& c, const Call& call,
                    std::size_t results) {
  for (Place& p : variant.places)
    if (p.argument != Place::kCaptured) p.owner = {};
  variant.kept = judge_kept(traced, variant, call);
  const bool copied = find_own_leaves(variant);
  if (!copied || traced.sweeps_outside || traced.graph.captures_levels()) {
    variant.leaves.clear();
    variant.left.clear();
    variant.left_handles.clear();
    return;
  }
  for (Graph::Index i = 0; i < traced.graph.size(); ++i)
    variant.draws |= traced.graph[i].op && traced.graph[i].op->draws;
  variant.donated = donated_inputs(c, call);
  GraphFunction::Mask recorded = recorded_outputs(traced, results);
  variant.function = std::make_shared<const GraphFunction>(
      std::move(traced.graph), std::move(traced.moves), std::move(recorded), variant.donated,
      traced.names_levels);
}

}  // namespace

std::shared_ptr<const Variant> trace_call(CompiledFunction& c, PyObject* f, const Call& call,
                                          std::vector<std::uint32_t>& needed) {
  auto variant = std::make_shared<Variant>();
  Sight sight(f, call);
  SourceLines lines;
  Trace trace([&lines] { return lines.current(); });
  const TracedArguments arguments(trace, call);
  py::object result = run_traced(f, call, arguments);
  if (!trace.needed().empty()) {
    PyErr_Clear();
    needed = arguments.leaves_at(trace.needed());
    return nullptr;
  }
  if (!result) throw_python();
  if (PyGen_Check(result.ptr()) || PyCoro_CheckExact(result.ptr()))
    raise(ErrorKind::type, "compile",
          "the function is a generator or a coroutine, whose body runs after the call: return a "
          "list or another tree of tensors");
  std::vector<py::object> replaced;
  std::vector<Tensor> outputs = take_results(std::move(result), *variant);
  const std::size_t results = outputs.size();
  arguments.take_rebound(*variant, outputs);
  take_left(*variant, arguments, sight.take_back(replaced), outputs);
  Traced traced = trace.finish(outputs);
  arguments.take_bound(*variant);
  variant->arguments = arguments.inputs();
  variant->places = std::move(traced.places);
  refuse_lost_state(traced.graph, variant->places, replaced);
  variant->around = sight.after(c.changed, variant->left);
  finish_variant(*variant, std::move(traced), c, call, results);
  return variant;
}

// ---- The cache ----------------------------------------------------------------------------------

namespace {

template <class T>
void to_front(std::vector<std::shared_ptr<T>>& list, const std::shared_ptr<T>& entry) {
  const auto at = std::ranges::find(list, entry);
  if (at != list.end()) std::rotate(list.begin(), at, at + 1);
}

}  // namespace

// Comparing keys may run code of the user's, and other threads: the list is walked in a copy then.
std::shared_ptr<CacheEntry> CompiledFunction::find_entry(const Call& call) const {
  const auto first = [&](const std::vector<std::shared_ptr<CacheEntry>>& list) {
    for (const auto& entry : list)
      if (entry->key.accepts(call)) return entry;
    return std::shared_ptr<CacheEntry>();
  };
  return call.runs_code() ? first(std::vector(entries)) : first(entries);
}

std::shared_ptr<const Variant> CompiledFunction::known(Call& call) {
  while (const std::shared_ptr<CacheEntry> found = find_entry(call)) {
    if (!entries.empty() && found != entries.front()) to_front(entries, found);
    if (!found->needed.empty()) {
      call.fix(found->needed);
      continue;
    }
    for (std::size_t i = 0; i < found->variants.size(); ++i) {
      std::shared_ptr<const Variant> chosen = found->variants[i];
      if (!chosen->accepts(call)) continue;
      if (i) to_front(found->variants, chosen);
      return chosen;
    }
    break;
  }
  return nullptr;
}

std::shared_ptr<CacheEntry> CompiledFunction::entry_for(const Call& call, CallKey key) {
  if (auto entry = find_entry(call)) return entry;
  auto fresh = std::make_shared<CacheEntry>(CacheEntry{std::move(key)});
  std::erase_if(entries, [](const auto& entry) { return entry->key.is_gone(); });
  entries.insert(entries.begin(), fresh);
  if (entries.size() > kMaxKeys) entries.pop_back();
  return fresh;
}

std::shared_ptr<const Variant> CompiledFunction::find(PyObject* f, Call& call) {
  if (auto v = known(call)) {
    ++hits;
    return v;
  }
  ++misses;
  call.hold();
  while (true) {
    CallKey key(call);  // refuses what cannot be part of one, before anything is run
    std::vector<std::uint32_t> needed;
    std::shared_ptr<const Variant> fresh = trace_call(*this, f, call, needed);
    if (!fresh) {
      entry_for(call, std::move(key))->needed = needed;
      call.fix(needed);
      if (auto v = known(call)) return v;
      continue;
    }
    if (!fresh->kept) return fresh;
    const std::shared_ptr<CacheEntry> entry = entry_for(call, std::move(key));
    entry->variants.insert(entry->variants.begin(), fresh);
    if (entry->variants.size() > kMaxVariants) entry->variants.pop_back();
    return fresh;
  }
}

}  // namespace adjoint::python
