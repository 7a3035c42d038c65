// The C++ face: tracing a function of tensors, and the function that traces itself once per
// combination of shapes and dtypes.
#include "adjoint/compile.h"

#include <algorithm>
#include <list>
#include <mutex>

#include "compile/function.h"
#include "compile/trace.h"
#include "graph/trace_sink.h"
#include "graph/watcher.h"

namespace adjoint {

namespace {

Graph trace_graph(const ListFunction& f, std::span<const Tensor> examples) {
  Trace trace;
  std::vector<Tensor> arguments;
  for (const Tensor& t : examples) {
    if (!t.defined()) raise(ErrorKind::value, "trace", "an example holds no value");
    arguments.push_back(trace.argument({t.dtype(), Dims(t.shape())}));
  }
  const std::vector<Tensor> results = f(arguments);
  for (const Tensor& t : results)
    if (!t.defined()) raise(ErrorKind::value, "trace", "the function returned an undefined tensor");
  Traced traced = trace.finish(results);
  if (!traced.places.empty())
    raise(ErrorKind::value, "trace",
          "the function runs a backward sweep into captured tensors: pass parameters as inputs and "
          "return their gradients, by `gradients_at`");
  return std::move(traced.graph);
}

/// Programs by shapes and dtypes, the latest used first.
class Cache {
 public:
  explicit Cache(ListFunction f) : f_(std::move(f)) {}

  std::vector<Tensor> call(std::span<const Tensor> inputs) {
    if (open_watcher() || any_trace()) return f_(inputs);
    for (const Tensor& t : inputs)
      if (!t.defined()) raise(ErrorKind::value, "compile", "an input holds no value");
    const Entry entry = find(inputs);
    if (!entry.function) return f_(inputs);
    std::vector<Tensor> given(inputs.begin(), inputs.end());
    given.insert(given.end(), entry.captured.begin(), entry.captured.end());
    return entry.function->call(given);
  }

 private:
  static constexpr std::size_t kMax = 64;
  /// The function of the inputs and of what it has captured that has a history.
  struct Entry {
    std::shared_ptr<const GraphFunction> function;
    std::vector<Tensor> captured;
  };

  static bool fits(const Entry& entry, std::span<const Tensor> inputs) {
    const Graph& graph = entry.function->graph();
    const auto wanted = graph.inputs().first(graph.inputs().size() - entry.captured.size());
    return std::ranges::equal(inputs, wanted, [&](const Tensor& t, Graph::Index i) {
      return t.dtype() == graph[i].dtype && std::ranges::equal(t.shape(), graph[i].shape);
    });
  }

  Entry known(std::span<const Tensor> inputs) {
    const std::lock_guard lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it)
      if (fits(*it, inputs)) {
        entries_.splice(entries_.begin(), entries_, it);
        return entries_.front();
      }
    return {};
  }

  /// The entry for these inputs; empty where the function has captured values of an open
  /// transform, which no later call may see.
  Entry find(std::span<const Tensor> inputs) {
    if (Entry entry = known(inputs); entry.function) return entry;
    const Graph graph = trace_graph(f_, inputs);
    if (graph.captures_levels()) return {};
    Entry entry;
    entry.function = GraphFunction::of(graph.closed(entry.captured));
    const std::lock_guard lock(mutex_);
    entries_.push_front(entry);
    if (entries_.size() > kMax) entries_.pop_back();
    return entry;
  }

  ListFunction f_;
  std::mutex mutex_;
  std::list<Entry> entries_;
};

}  // namespace

std::shared_ptr<const Program> trace(const ListFunction& f, std::span<const Tensor> examples) {
  const Graph graph = trace_graph(f, examples);
  if (graph.captures_levels())
    raise(ErrorKind::value, "trace",
          "the function captures values of an open transform: pass them as inputs");
  return std::make_shared<const CompiledProgram>(graph);
}

ListFunction compile(ListFunction f) {
  auto cache = std::make_shared<Cache>(std::move(f));
  return [cache](std::span<const Tensor> inputs) { return cache->call(inputs); };
}

}  // namespace adjoint
