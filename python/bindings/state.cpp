// What a thread does while it computes (record, defer, with how many helpers), what memory it has
// taken, and the pieces from which the package builds its gradient tape.
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "base/thread_pool.h"
#include "context.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/severed.h"
#include "graph/thread_state.h"
#include "kernels/blas.h"
#include "tensor/storage.h"
#include "transforms.h"

namespace adjoint::python {

namespace {

// A thread-state flag as a context manager and decorator. Re-entrant: the earlier values form a
// stack.
class FlagContext {
 public:
  FlagContext(bool ThreadState::* flag, bool value) : flag_(flag), value_(value) {}

  void enter() {
    before_.push_back(thread_state().*flag_);
    thread_state().*flag_ = value_;
  }
  void exit() {
    if (before_.empty())
      raise(ErrorKind::runtime, "context", "left more often than it was entered");
    thread_state().*flag_ = before_.back();
    before_.pop_back();
  }
  void forget() noexcept { before_.clear(); }

 private:
  bool ThreadState::* flag_;
  bool value_;
  std::vector<bool> before_;
};

// What stands under no_grad is a constant, to transforms that were open outside of it too.
template <bool on>
class GradContext {
 public:
  void enter() {
    ThreadState& state = thread_state();
    before_.push_back({state.recording, state.constant, state.constant_levels, state.constant_order,
                       std::move(state.severed)});
    state.recording = on;
    state.constant = !on;
    state.constant_levels = on ? 0 : static_cast<std::uint16_t>(state.levels.size());
    state.constant_order = on ? 0 : state.order;
    state.severed = nullptr;
  }
  void exit() {
    if (before_.empty())
      raise(ErrorKind::runtime, "context", "left more often than it was entered");
    ThreadState& state = thread_state();
    Before& before = before_.back();
    state.recording = before.recording;
    state.constant = before.constant;
    state.constant_levels = before.levels;
    state.constant_order = before.order;
    state.severed = std::move(before.severed);
    before_.pop_back();
  }
  void forget() noexcept { before_.clear(); }

 private:
  struct Before {
    bool recording, constant;
    std::uint16_t levels;
    std::uint64_t order;
    std::shared_ptr<SeveredValues> severed;
  };
  std::vector<Before> before_;
};
using NoGrad = GradContext<false>;
using EnableGrad = GradContext<true>;

class Deferral : public FlagContext {
 public:
  explicit Deferral(const py::object& enabled)
      : FlagContext(&ThreadState::deferral, flag_argument(enabled.ptr(), "deferral", "enabled")) {}
};

// Open while a tape records; may be closed and opened again. Tapes under one `no_grad` share what
// stands for the values from before it.
class TapeScope {
 public:
  void enter(py::dict accessed) {
    ThreadState& state = thread_state();
    if (state.constant) {
      if (!state.severed) state.severed = severed_ ? severed_ : std::make_shared<SeveredValues>();
      severed_ = state.severed;
    }
    recorder_.emplace();
    g_open_tapes.fetch_add(1, std::memory_order_relaxed);
    push_access_list(accessed.ptr());
  }
  void exit() {
    if (!recorder_) return;
    pop_access_list();
    recorder_.reset();
    g_open_tapes.fetch_sub(1, std::memory_order_relaxed);
  }
  // What stands for a source in the record of the tape, beside itself.
  std::vector<Tensor> others_of(const Tensor& source) const {
    return severed_ ? severed_->stand_ins_of(source) : std::vector<Tensor>();
  }

 private:
  std::optional<RecorderScope> recorder_;
  std::shared_ptr<SeveredValues> severed_;
};

using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

std::vector<Tensor> handles(const py::sequence& items, const char* op) {
  std::vector<Tensor> out;
  for (const py::handle item : py::tuple(items)) {
    if (!is_tensor(item.ptr()))
      raise(ErrorKind::type, op, "needs tensors, not a " + type_name(item.ptr()));
    out.push_back(handle_of(as_tensor(item.ptr())));
  }
  return out;
}

// Gradients at sources and at what stands for them: one for each source.
std::vector<Tensor> sweep_to_all(std::span<const Tensor> ys, std::span<const Tensor> cs,
                                 const std::vector<Tensor>& xs, const TapeScope& tape,
                                 SweepOptions options) {
  std::vector<Tensor> all = xs;
  std::vector<std::size_t> source;
  for (std::size_t i = 0; i < xs.size(); ++i)
    for (Tensor& other : tape.others_of(xs[i])) {
      all.push_back(std::move(other));
      source.push_back(i);
    }
  if (source.empty()) return sweep(ys, cs, xs, options);
  const bool require_connected = std::exchange(options.require_connected, false);
  options.undefined_if_unconnected = true;
  std::vector<Tensor> out = sweep(ys, cs, all, options);
  for (std::size_t k = 0; k < source.size(); ++k) {
    Tensor& sum = out[source[k]];
    const Tensor& part = out[xs.size() + k];
    if (part.defined()) sum = sum.defined() ? sum + part : part;
  }
  out.resize(xs.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i].defined()) continue;
    if (require_connected)
      raise(ErrorKind::value, "gradient",
            "source " + std::to_string(i) + " is not connected to any output");
    out[i] = zeros(xs[i].shape(), xs[i].dtype());
  }
  return out;
}

py::list tape_sweep(const py::sequence& outputs, py::object cotangents, const py::sequence& sources,
                    const py::sequence& stretches, bool require_connected, const TapeScope& tape) {
  const std::vector<Tensor> ys = handles(outputs, "gradient");
  const std::vector<Tensor> xs = handles(sources, "gradient");
  std::vector<Tensor> cs;
  if (!cotangents.is_none()) cs = handles(py::sequence(cotangents), "gradient");
  SweepOptions options;
  options.require_connected = require_connected;
  Ranges ranges;
  for (const py::handle stretch : stretches) {
    const py::tuple ends = py::reinterpret_borrow<py::tuple>(stretch);
    ranges.emplace_back(ends[0].cast<std::uint64_t>(), ends[1].cast<std::uint64_t>());
  }
  options.ranges = ranges;
  py::list out;
  for (Tensor& g : sweep_to_all(ys, cs, xs, tape, options)) out.append(wrapped(std::move(g)));
  return out;
}

// A second handle on the same value and leaf: outlives changes to the first.
py::object share_handle(py::object x) {
  return wrapped(std::move(handles(py::make_tuple(x), "share")[0]));
}

py::dict memory_stats() {
  const StorageStats s = storage_stats();
  py::dict out;
  out["live"] = s.live;
  out["cached"] = s.cached;
  out["peak"] = s.peak;
  out["live_nodes"] = live_node_count();
  return out;
}

py::object set_cache_limit(const py::object& limit) {
  std::size_t bytes = kNoCacheLimit;
  if (!limit.is_none()) {
    const std::int64_t n = int_argument(limit.ptr(), "set_cache_limit", "limit");
    if (n < 0)
      raise(ErrorKind::value, "set_cache_limit",
            "limit must not be negative, got " + std::to_string(n) + ": 0 keeps nothing");
    bytes = static_cast<std::size_t>(n);
  }
  const std::size_t before = set_storage_cache_limit(bytes);
  if (before == kNoCacheLimit) return py::none();
  return py::int_(before);
}

void set_threads(py::object n) {
  const std::int64_t count = int_argument(n.ptr(), "set_num_threads", "n");
  if (count < 1 || count > 4096)
    raise(ErrorKind::value, "set_num_threads",
          "n must be from 1 to 4096, got " + std::to_string(count));
  set_num_threads(static_cast<int>(count));
}

void* leave_host() { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; }
void enter_host(void* token) {
  taking_host_lock([token] { PyEval_RestoreThread(static_cast<PyThreadState*>(token)); });
}
// Runs the handlers of signals that have arrived; KeyboardInterrupt is what Ctrl-C's raises.
void interrupt_host() {
  const HostLockScope lock;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace

void init_state(py::module_& m) {
  g_host_lock = {leave_host, enter_host, interrupt_host};

  def_context<NoGrad>(
      m, "no_grad",
      "Context manager and decorator: nothing is recorded, and leaves may be rebound in place.\n\n"
      "What is computed inside is a constant to every transform and tape that was open outside of "
      "it.\n\n"
      "Raises\n"
      "------\n"
      "TypeError\n"
      "    As a decorator, of what is no function, or a generator or coroutine.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> w = ad.tensor(2.0, requires_grad=True)\n"
      ">>> with ad.no_grad():\n"
      "...     w -= 0.5\n"
      ">>> w.item(), w.requires_grad\n"
      "(1.5, True)",
      py::init<>());
  def_context<EnableGrad>(
      m, "enable_grad",
      "Context manager and decorator: record again inside `no_grad`.\n\n"
      "Raises\n"
      "------\n"
      "TypeError\n"
      "    As a decorator, of what is no function, or a generator or coroutine.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> w = ad.tensor(2.0, requires_grad=True)\n"
      ">>> with ad.no_grad(), ad.enable_grad():\n"
      "...     y = w * w\n"
      ">>> y.requires_grad\n"
      "True",
      py::init<>());
  def_context<Deferral>(m, "deferral",
                        "Context manager and decorator: whether large elementwise work may wait to "
                        "be fused with what follows.\n"
                        "Results are the same bits either way.\n\n"
                        "Parameters\n"
                        "----------\n"
                        "enabled : bool\n\n"
                        "Raises\n"
                        "------\n"
                        "TypeError\n"
                        "    If `enabled` is no bool.\n\n"
                        "Examples\n"
                        "--------\n"
                        ">>> import adjoint as ad\n"
                        ">>> with ad.deferral(False):\n"
                        "...     y = ad.exp(ad.zeros(100_000))\n"
                        ">>> len(ad.explain(y))  # nothing waits\n"
                        "0",
                        py::init<const py::object&>(), py::arg("enabled"));
  m.def(
      "is_grad_enabled", [] { return thread_state().recording; },
      "Whether operations on tensors that require grad are recorded on this thread.\n\n"
      "Returns\n"
      "-------\n"
      "bool\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> with ad.no_grad():\n"
      "...     ad.is_grad_enabled()\n"
      "False");
  m.def("memory_stats", &memory_stats,
        "Tell what memory the library has taken, over all threads.\n\n"
        "Returns\n-------\n"
        "dict\n"
        "    ``live``: bytes in arrays that exist, foreign memory apart.\n"
        "    ``cached``: bytes of freed arrays, kept for reuse.\n"
        "    ``peak``: the highest ``live`` since the start, or since `reset_peak_memory`.\n"
        "    ``live_nodes``: values that exist, recorded and deferred ones included.\n\n"
        "Examples\n--------\n"
        ">>> import adjoint as ad\n"
        ">>> before = ad.memory_stats()\n"
        ">>> x = ad.zeros((1000, 1000))\n"
        ">>> after = ad.memory_stats()\n"
        ">>> after[\"live\"] - before[\"live\"], after[\"live_nodes\"] - before[\"live_nodes\"]\n"
        "(8000000, 1)");
  m.def(
      "set_cache_limit", &set_cache_limit, py::arg("limit"),
      "Set how many bytes of freed arrays are kept for reuse at most; return the limit before.\n\n"
      "Fresh memory from the system costs more than the arithmetic that fills it, so freed arrays "
      "are kept.\n"
      "With None, as at the start, that is at most the larger of 256 MiB and half of the ``peak`` "
      "of\n"
      "`memory_stats`. What is above a limit goes back to the system at once, oldest first; blocks "
      "up to\n"
      "32 KiB are kept apart from it. When memory runs out, all that is kept is given back before "
      "an\n"
      "operation fails with a MemoryError.\n\n"
      "Parameters\n"
      "----------\n"
      "limit : int or None\n"
      "    In bytes.\n\n"
      "Returns\n"
      "-------\n"
      "int or None\n\n"
      "Raises\n"
      "------\n"
      "TypeError\n"
      "    If `limit` is no int.\n"
      "ValueError\n"
      "    If it is negative.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> before = ad.set_cache_limit(64 << 20)\n"
      ">>> ad.set_cache_limit(before)\n"
      "67108864");
  m.def("_set_blas_candidate", &kernels::set_blas_candidate,
        "Name a library to try at the first matrix product, its symbols' prefix and suffix, and "
        "whether its integers have 64 bits.",
        py::arg("path"), py::arg("prefix"), py::arg("suffix"), py::arg("ilp64"));
  m.def("blas_name", &kernels::blas_name,
        "The library that serves matrix products, opened if none is yet; or \"built-in\".\n\n"
        "Returns\n"
        "-------\n"
        "str\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> isinstance(ad.blas_name(), str)\n"
        "True");
  m.def("reset_peak_memory", &reset_peak_storage,
        "Start the `peak` of `memory_stats` over.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> ad.reset_peak_memory()\n"
        ">>> stats = ad.memory_stats()\n"
        ">>> stats[\"peak\"] == stats[\"live\"]\n"
        "True");
  m.def("clear_cache", &clear_storage_cache,
        "Give memory kept for reuse back to the system.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> before = ad.memory_stats()[\"cached\"]\n"
        ">>> ad.clear_cache()\n"
        ">>> ad.memory_stats()[\"cached\"] <= before\n"
        "True");
  m.def("set_num_threads", &set_threads, py::arg("n"),
        "Use up to `n` threads, the caller included, for one large operation. Results do not "
        "depend on it.\n\n"
        "Parameters\n"
        "----------\n"
        "n : int\n"
        "    At least 1.\n\n"
        "Raises\n"
        "------\n"
        "TypeError\n"
        "    If `n` is no int.\n"
        "ValueError\n"
        "    If it is not positive.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> before = ad.get_num_threads()\n"
        ">>> ad.set_num_threads(1)\n"
        ">>> ad.get_num_threads()\n"
        "1\n"
        ">>> ad.set_num_threads(before)");
  m.def("get_num_threads", &num_threads,
        "Threads used for one large operation.\n\n"
        "Returns\n"
        "-------\n"
        "int\n"
        "    All cores of the process, unless ``ADJOINT_NUM_THREADS`` or `set_num_threads` says "
        "otherwise.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> ad.get_num_threads() >= 1\n"
        "True");

  py::class_<TapeScope>(m, "_TapeScope", py::module_local())
      .def(py::init<>())
      .def("enter", &TapeScope::enter)
      .def("exit", &TapeScope::exit);
  // For work of the package's own: unlike under no_grad nothing becomes a constant.
  m.def("_unrecorded", [](const py::object& f) {
    const RecordingScope off(false);
    return call_object(f);
  });
  m.def("_order", [] { return std::uint64_t{thread_state().order}; });
  m.def("_mark_order", &mark_order);
  m.def("_sweep", &tape_sweep);
  m.def("_share", &share_handle);
}

}  // namespace adjoint::python
