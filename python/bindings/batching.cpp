// vmap of Python functions: axes per argument and per output, each an int, None, or a pytree of
// them that is a prefix of the argument's structure.
#include <optional>

#include "graph/apply.h"
#include "transforms.h"

namespace adjoint::python {

namespace {

using Axis = std::optional<std::int64_t>;

// One axis per leaf. A spec that is an int or None holds for all leaves below it.
std::vector<Axis> axes_for(py::handle spec, py::handle tree, const char* what) {
  struct Pair {
    py::object spec;
    py::object tree;
  };
  std::vector<Axis> out;
  if (!spec.is_none() && !PyLong_CheckExact(spec.ptr())) {
    std::vector<py::object> leaves;
    TreeDef::flatten(tree, leaves);  // refuses one that contains itself
  }
  std::vector<Pair> stack = {{borrow(spec.ptr()), borrow(tree.ptr())}};
  while (!stack.empty()) {
    Pair top = std::move(stack.back());
    stack.pop_back();
    const bool none = top.spec.is_none();
    if (none || PyLong_CheckExact(top.spec.ptr())) {
      std::vector<py::object> leaves;
      TreeDef::flatten(top.tree, leaves);
      const Axis axis = none ? Axis() : Axis(int_argument(top.spec.ptr(), "vmap", what));
      out.insert(out.end(), leaves.size(), axis);
      continue;
    }
    // One level of both: the entries of the spec against the entries of the tree.
    PyObject* s = top.spec.ptr();
    PyObject* t = top.tree.ptr();
    std::vector<Pair> children;
    if (PyDict_CheckExact(s) && PyDict_CheckExact(t)) {
      // By a copy: looking a key up runs its __eq__, which may change the dict.
      for (const auto item : py::reinterpret_steal<py::dict>(PyDict_Copy(t))) {
        PyObject* entry = PyDict_GetItemWithError(s, item.first.ptr());
        if (!entry && PyErr_Occurred()) throw_python();
        if (!entry)
          raise(ErrorKind::value, "vmap", std::string(what) + " lacks an entry of the dict");
        children.push_back({borrow(entry), borrow(item.second.ptr())});
      }
    } else if ((PyTuple_Check(s) || PyList_Check(s)) && (PyTuple_Check(t) || PyList_Check(t)) &&
               PySequence_Fast_GET_SIZE(s) == PySequence_Fast_GET_SIZE(t)) {
      for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(s); ++i)
        children.push_back(
            {borrow(PySequence_Fast_GET_ITEM(s, i)), borrow(PySequence_Fast_GET_ITEM(t, i))});
    } else {
      raise(ErrorKind::value, "vmap",
            std::string(what) +
                " must be an int, None, or match the structure it is for, one entry each");
    }
    for (std::size_t i = children.size(); i-- > 0;) stack.push_back(std::move(children[i]));
  }
  return out;
}

struct MappedArgs {
  std::vector<TensorTree> trees;
  std::vector<std::vector<Axis>> axes;
  std::int64_t size = -1;

  void add(py::handle arg, std::vector<Axis> spec, std::size_t position) {
    TensorTree tree = tensor_tree(arg, "vmap");
    for (std::size_t i = 0; i < tree.leaves.size(); ++i) {
      if (!spec[i]) continue;
      const Tensor& x = tree.leaves[i];
      if (x.ndim() == 0)
        raise(ErrorKind::value, "vmap",
              "argument " + std::to_string(position) +
                  " is 0-d and has no axis to map over: use in_axes=None for it");
      spec[i] = normalize_axis(*spec[i], x.ndim(), "vmap");
      const std::int64_t n = x.shape()[static_cast<std::size_t>(*spec[i])];
      if (size >= 0 && n != size)
        raise(ErrorKind::value, "vmap",
              "mapped axes have lengths " + std::to_string(size) + " and " + std::to_string(n) +
                  " (argument " + std::to_string(position) + ", shape " + to_string(x.shape()) +
                  "): they must be equal");
      size = n;
    }
    trees.push_back(std::move(tree));
    axes.push_back(std::move(spec));
  }
};

}  // namespace

PyObject* call_vmap(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                    std::size_t nargs, PyObject* kwnames) {
  const std::size_t nkw = kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : 0;
  const bool per_argument = PyTuple_Check(spec.in_axes.ptr()) || PyList_Check(spec.in_axes.ptr());
  const py::tuple in_axes = per_argument ? entries_of(spec.in_axes.ptr()) : py::tuple();
  if (per_argument && in_axes.size() != nargs)
    raise(ErrorKind::value, "vmap",
          "in_axes has " + std::to_string(in_axes.size()) + " entries, the call has " +
              std::to_string(nargs) + " positional arguments");
  MappedArgs mapped;
  for (std::size_t i = 0; i < nargs; ++i) {
    const py::object axes = per_argument ? py::object(in_axes[i]) : spec.in_axes;
    mapped.add(args[i], axes_for(axes, args[i], "in_axes"), i);
  }
  // Arguments given by name are mapped over axis 0.
  for (std::size_t i = nargs; i < nargs + nkw; ++i)
    mapped.add(args[i], axes_for(py::int_(0), args[i], "in_axes"), i);
  if (mapped.size < 0)
    raise(ErrorKind::value, "vmap", "no argument is mapped: every entry of in_axes is None");

  std::vector<Tensor> results;
  TensorTree out;
  {
    const TransformLevel level = spec.directions ? TransformLevel::directions(mapped.size)
                                                 : TransformLevel::batch(mapped.size);
    std::vector<py::object> owned;
    std::vector<PyObject*> values;
    for (std::size_t i = 0; i < mapped.trees.size(); ++i) {
      std::vector<Tensor> leaves = mapped.trees[i].leaves;
      for (std::size_t k = 0; k < leaves.size(); ++k)
        if (mapped.axes[i][k])
          leaves[k] = level.make_batched(leaves[k], static_cast<int>(*mapped.axes[i][k]));
      owned.push_back(to_python(mapped.trees[i].def, std::move(leaves)));
      values.push_back(owned.back().ptr());
    }
    const py::object result = steal(call_python(f, values.data(), nargs, kwnames));
    const std::vector<Axis> axes = axes_for(spec.out_axes, result, "out_axes");
    out = tensor_tree(result, "vmap");
    for (std::size_t k = 0; k < out.leaves.size(); ++k) {
      const Tensor& y = out.leaves[k];
      if (!axes[k]) {
        if (level.holds(y))
          raise(ErrorKind::value, "vmap",
                "out_axes is None for an output that differs along the batch: give it an axis");
        results.push_back(y);
        continue;
      }
      results.push_back(level.split_batched(y, normalize_axis(*axes[k], y.ndim() + 1, "vmap")));
    }
  }
  return to_python(out.def, std::move(results)).release().ptr();
}

void init_batching(py::module_& m) {
  // For derivatives along many directions at a time: axis 0 of every argument and result.
  m.def("_directions", [](py::object f) {
    TransformSpec spec;
    spec.kind = TransformKind::vmap;
    spec.in_axes = spec.out_axes = py::int_(0);
    spec.directions = true;
    return make_transform(std::move(spec), std::move(f));
  });
  m.def(
      "vmap",
      [](py::object f, py::object in_axes, py::object out_axes) {
        TransformSpec spec;
        spec.kind = TransformKind::vmap;
        spec.in_axes = std::move(in_axes);
        spec.out_axes = std::move(out_axes);
        return make_transform(std::move(spec), std::move(f));
      },
      py::arg("f"), py::arg("in_axes") = 0, py::arg("out_axes") = 0,
      "Return `f` mapped over an axis of its arguments, without a loop.\n\n"
      "Parameters\n"
      "----------\n"
      "f : callable\n"
      "    From tensors or pytrees of them to a tensor or a pytree of them; it is written for one "
      "member\n"
      "    of the batch.\n"
      "in_axes, out_axes : int, None, tuple or pytree, default 0\n"
      "    The axis of each argument and result that counts the members; None of one that is not "
      "mapped.\n"
      "    One for all, or a tuple with one entry per argument, or pytrees of these.\n\n"
      "Returns\n"
      "-------\n"
      "callable\n"
      "    Takes arguments that have one axis more than those of `f`.\n\n"
      "Raises\n"
      "------\n"
      "TypeError\n"
      "    If `f` is no function.\n"
      "ValueError\n"
      "    At a call, if nothing is mapped, lengths differ, or `in_axes` does not fit the "
      "arguments.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> dot = lambda a, b: ad.sum(a * b)\n"
      ">>> ad.vmap(dot, in_axes=(0, None))(ad.eye(2), ad.tensor([3.0, 4.0])).tolist()\n"
      "[3.0, 4.0]");
}

}  // namespace adjoint::python
