// What the package builds custom derivatives and checkpoints from: rules that are Python functions.
#include "transforms/custom.h"
#include "transforms/levels.h"
#include "transforms/overlay.h"

#include <algorithm>
#include <utility>

#include "adjoint/ops.h"
#include "callback.h"
#include "convert.h"
#include "graph/apply.h"
#include "graph/thread_state.h"
#include "numbers.h"
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
class PythonRule final : public DerivativeRule {
 public:
  PythonRule(std::vector<ResultSpec> values, py::object pull, py::object push)
      : DerivativeRule(std::move(values)), pull_(std::move(pull)), push_(std::move(push)) {}

  void list(Holdings& out) const override {
    pull_.list(out);
    push_.list(out);
  }

  std::vector<Tensor> pull(std::span<const Tensor> inputs, std::span<const Tensor> cotangents,
                           Wanted) const override {
    const HostLockScope lock;
    return from_list(call_object(*pull_, to_list(inputs), to_list(all_defined(cotangents))),
                     specs_of(inputs));
  }
  std::vector<Tensor> push(std::span<const Tensor> inputs,
                           std::span<const Tensor> tangents) const override {
    const HostLockScope lock;
    return from_list(call_object(*push_, to_list(inputs), to_list(tangents)), values());
  }

 private:
  Callback pull_;
  Callback push_;
};

py::list attach_derivative(const py::sequence& values, const py::sequence& inputs, py::object pull,
                           py::object push) {
  const std::vector<Tensor> outs = tensors_of(values);
  IntrusivePtr<const DerivativeRule> rule(
      new PythonRule(specs_of(outs), std::move(pull), std::move(push)));
  return to_list(with_derivative(outs, tensors_of(inputs), std::move(rule)));
}

void list_batches(const Tensor& x, SmallVector<std::uint16_t, 4>& out) {
  for (const Node* n = x.node(); n->level && n->box != Box::trace; n = n->boxed.primal)
    if (n->box == Box::batch && std::ranges::find(out, n->level) == out.end())
      out.push_back(n->level);
}

// A tensor of each batch that the values are in, by numbers of their own that each member has
// drawn, and no input is: with it among the inputs the rule is one of that batch.
py::list marks_of_batches(const py::sequence& values, const py::sequence& inputs) {
  SmallVector<std::uint16_t, 4> known;
  for (const Tensor& x : tensors_of(inputs)) list_batches(x, known);
  const std::size_t count = known.size();
  for (const Tensor& y : tensors_of(values)) list_batches(y, known);
  py::list out;
  for (std::size_t i = count; i < known.size(); ++i) {
    const Level level = thread_state().levels[known[i] - 1u];
    out.append(wrapped(box_batch(level, zeros(Dims{level.batch_size}, DType::boolean))));
  }
  return out;
}

template <auto test>
bool any_of(const py::sequence& items) {
  return std::ranges::any_of(tensors_of(items), test);
}

// The same values, for a program as far as possible from being known as such.
py::list barrier_list(const py::sequence& items) {
  std::vector<Tensor> out = tensors_of(items);
  for (Tensor& t : out) t = barrier(t);
  return to_list(out);
}

// Gradients of <outputs, cotangents> at `leaves`, looking only at what was recorded after `start`.
py::list sweep_since(const py::sequence& outputs, const py::sequence& cotangents,
                     const py::sequence& leaves, std::uint64_t start) {
  std::vector<Tensor> xs;
  for (const py::handle s : leaves) xs.push_back(handle_of(as_tensor(s.ptr())));
  const std::pair<std::uint64_t, std::uint64_t> range(start + 1, ~std::uint64_t{0});
  SweepOptions options;
  options.ranges = {&range, 1};
  options.create_graph = thread_state().recording;
  options.undefined_if_unconnected = true;
  return to_list(sweep(tensors_of(outputs), tensors_of(cotangents), xs, options));
}

// A run whose work is recorded with respect to fresh leaves that keep the history of `inputs`.
// `alone`: gradients taken inside are not recorded themselves, as where nothing is open.
py::tuple recorded_run(const py::object& f, const py::sequence& inputs, bool alone) {
  const RecorderScope recorder;
  struct Restore {
    int before = thread_state().open_recorders;
    ~Restore() { thread_state().open_recorders = before; }
  } restore;
  if (alone) thread_state().open_recorders = 0;
  const std::uint64_t start = thread_state().order;
  py::list leaves;
  for (const Tensor& x : tensors_of(inputs)) leaves.append(wrapped(reverse_input(x)));
  return py::make_tuple(call_object(f, leaves), leaves, start);
}

// Whether a derivative of any of the values is wanted with respect to anything that was there at
// `start` of the thread's order.
bool any_connected(const py::sequence& values, std::uint64_t start) {
  return std::ranges::any_of(tensors_of(values),
                             [start](const Tensor& x) { return is_connected(x, start); });
}

// Other handles on the same values, which belong to no leaf.
py::list fresh_handles(const py::sequence& handles) { return to_list(tensors_of(handles)); }

// Calls a function that may not assign to anything outside of it.
py::object run_refusing(std::string who, const py::object& f) {
  const RefusingScope scope(std::move(who));
  return call_object(f);
}

// (result, whether the run was in vain): then what it has assigned is taken back.
py::tuple run_on_trial(const py::object& f, const py::object& in_vain) {
  TrialScope scope;
  py::object result = call_object(f);
  const bool vain = py::bool_(in_vain(result));
  if (vain) scope.take_back();
  return py::make_tuple(std::move(result), vain);
}

// A function run apart from the cells outside of it, once and again. The handles among its
// arguments are such cells: what it reads of them through another name is the same.
class Apart {
 public:
  Apart(std::string who, bool shadows)
      : who_(std::move(who)), reads_(shadows ? Overlay::Reads::shadows : Overlay::Reads::values) {}

  // Where another thread has assigned meanwhile to what the run has read and assigned to, as two
  // that draw from one generator, it is made again.
  py::object run(const py::object& f, const py::sequence& handles) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      py::object result = run_once(f, handles);
      if (settle()) return result;
    }
    raise(ErrorKind::runtime, who_.c_str(),
          "other threads assign again and again to what the function reads and assigns to: give "
          "each a generator, or a tensor, of its own");
  }
  py::list read() const { return to_list(read_); }
  py::list written() const { return to_list(written_); }
  // Whether forward mode goes on with each of these.
  py::list moving() const {
    py::list out;
    for (const bool moves : moving_) out.append(moves);
    return out;
  }
  // Gives the cells that were written these values.
  void write(const py::sequence& values) {
    std::vector<Tensor> fresh;
    for (const py::handle v : values)
      fresh.push_back(v.is_none() ? Tensor() : Tensor::share(read_node(as_tensor(v.ptr()))));
    for (std::size_t i = 0; i < fresh.size(); ++i)
      if (!settled_[i]) check_write(cells_[i].first, fresh[i]);
    for (std::size_t i = 0; i < fresh.size(); ++i)
      if (!settled_[i]) write_cell(cells_[i].first, fresh[i]);
  }
  // A function that runs `f` with these values for what was read, on the handles of the first run:
  // (result, what was written). For one that is gone another stands in: nothing else names it.
  py::cpp_function again() const {
    return py::cpp_function([record = std::shared_ptr<const Overlay::Record>(record_),
                             first = std::shared_ptr<const Handles>(handles_), who = who_,
                             checks = reads_ == Overlay::Reads::shadows](
                                const py::object& f, const py::sequence& values) {
      const std::vector<Tensor> inputs = tensors_of(values);
      py::list handles;
      for (const Handle& h : *first) {
        const py::object known = h.reference();
        auto* type = reinterpret_cast<PyTypeObject*>(h.type.ptr());
        handles.append(known.is_none() ? handle_of_type(type, inputs[h.number]) : known);
      }
      Overlay overlay(*record, inputs, who, checks);
      for (std::size_t i = 0; i < first->size(); ++i)
        overlay.stand_in((*first)[i].number, cell_of(as_tensor(handles[i].ptr())));
      py::object result = call_object(f, handles);
      overlay.check_same();
      return py::make_tuple(result, to_list(overlay.values_written()));
    });
  }

 private:
  py::object run_once(const py::object& f, const py::sequence& handles) {
    record_ = std::make_shared<Overlay::Record>();
    handles_ = std::make_shared<Handles>();
    Overlay overlay(*record_, reads_, who_);
    for (const py::handle h : handles) {
      handles_->push_back({borrow(reinterpret_cast<PyObject*>(Py_TYPE(h.ptr()))),
                           steal(PyWeakref_NewRef(h.ptr(), nullptr)),
                           overlay.expect(cell_of(as_tensor(h.ptr())))});
    }
    try {
      py::object result = call_object(f);
      collect(overlay);
      return result;
    } catch (...) {
      collect(overlay);  // what was written before an error, too
      throw;
    }
  }

  static bool is_as_read(const Cell& cell, const Tensor& original) {
    const Tensor now = read_cell(cell);
    return now.node() == original.node() || now.node() != read_cell(cell).node();
  }

  // Writes what has no derivative, as the state of a generator; the rest waits for `write`. False,
  // and nothing is written, where a cell is not as it was read.
  bool settle() {
    for (std::size_t i = 0; i < cells_.size(); ++i)
      if (!is_as_read(cells_[i].first, expected_[i])) return false;
    for (std::size_t i = 0; i < cells_.size(); ++i)
      if (has_no_derivative(written_[i])) check_write(cells_[i].first, written_[i]);
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      if (!has_no_derivative(written_[i])) continue;
      write_cell(cells_[i].first, written_[i]);
      settled_[i] = true;
    }
    return true;
  }
  static bool has_no_derivative(const Tensor& x) {
    return x.defined() && !is_differentiable(x.dtype());
  }

  void collect(Overlay& overlay) {
    overlay.cut_traces();
    cells_.clear();
    for (const Cell& cell : overlay.cells_written()) cells_.emplace_back(cell, cell.keep(cell.who));
    settled_.assign(cells_.size(), false);
    expected_ = overlay.values_expected();
    read_ = overlay.values_read();
    written_ = overlay.values_written();
    moving_ = overlay.moving_written();
  }

  struct Handle {
    py::object type;
    py::object reference;  // weak
    std::size_t number;    // of its cell, and of what is read from it
  };
  using Handles = std::vector<Handle>;

  std::string who_;
  Overlay::Reads reads_;
  static constexpr int kAttempts = 100;
  std::shared_ptr<Handles> handles_;
  std::shared_ptr<Overlay::Record> record_;
  std::vector<std::pair<Cell, IntrusivePtr<const Payload>>> cells_;
  std::vector<Tensor> read_, written_;
  std::vector<Tensor> expected_;  // what the cells that were written held
  std::vector<bool> settled_;     // which of them have got their values
  std::vector<bool> moving_;
};

// The levels of the batches along which a value differs, and the level of the trace that it is a
// value of, or 0: batches around that are not known.
py::tuple batch_levels(const py::object& x) {
  py::set out;
  const Node* n = read_node(as_tensor(x.ptr()));
  for (; n->level && n->box != Box::trace; n = n->boxed.primal)
    if (n->box == Box::batch) out.add(n->level);
  return py::make_tuple(py::frozenset(out), n->level);
}

// The extents of the batches that a handle is from outside of.
py::tuple batches_of(const py::object& handle) {
  py::list out;
  for (const Level& level : batches_around(cell_of(as_tensor(handle.ptr()))))
    out.append(level.batch_size);
  return py::tuple(out);
}

// A value whose first axes are those batches.
py::object as_batched(const py::object& x, const py::object& handle) {
  Tensor out = Tensor::share(read_node(as_tensor(x.ptr())));
  for (const Level& level : batches_around(cell_of(as_tensor(handle.ptr()))))
    out = box_batch(level, std::move(out));
  return wrapped(std::move(out));
}

}  // namespace

py::list to_list(std::span<const Tensor> tensors) {
  py::list out;
  for (const Tensor& t : tensors)
    out.append(t.defined()
                   ? wrapped_value(constant_here(constant_in_trace(Tensor::share(t.node()))))
                   : py::none());
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
  m.def("_any_moving", &any_of<has_tangent>);
  m.def("_any_in_body", &any_of<is_in_body>);
  m.def("_recorders_open", [] { return thread_state().open_recorders > 0; });
  m.def("_recorded_outside",
        [](const py::sequence& values) { return is_recorded_outside(tensors_of(values), {}); });
  m.def("_recorders_anywhere",
        [] { return thread_state().open_recorders > 0 || thread_state().elsewhere_open(); });
  m.def("_marks_of_batches", &marks_of_batches);
  m.def("_barrier", &barrier_list);
  m.def("_sweep_since", &sweep_since);
  m.def("_recorded_run", &recorded_run);
  m.def("_any_connected", &any_connected);
  m.def("_fresh", &fresh_handles);
  m.def("_refusing", &run_refusing);
  m.def("_on_trial", &run_on_trial);
  m.def("_batch_levels", &batch_levels);
  m.def("_batches_of", &batches_of);
  m.def("_as_batched", &as_batched);
  py::class_<Apart>(m, "_Apart", py::module_local())
      .def(py::init<std::string, bool>())
      .def("run", &Apart::run)
      .def("read", &Apart::read)
      .def("written", &Apart::written)
      .def("moving", &Apart::moving)
      .def("write", &Apart::write)
      .def("again", &Apart::again);
}

}  // namespace adjoint::python
