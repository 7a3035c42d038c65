// Deferred work on demand: ad.eval runs it, ad.explain tells in which groups it would run.
#include "deferred.h"

#include "convert.h"
#include "graph/apply.h"
#include "tree.h"

namespace adjoint::python {

namespace {

// The values in some pytrees that have, or will have, memory of their own.
class PlainValues {
 public:
  PlainValues(const py::args& trees, const char* op) {
    for (const py::handle tree : trees) {
      if (PyUnicode_Check(tree.ptr()) || PyBytes_Check(tree.ptr()))
        raise(ErrorKind::type, op, "needs tensors or trees of them, not " + type_name(tree.ptr()));
      std::vector<py::object> leaves;
      TreeDef::flatten(tree, leaves);
      for (const py::object& leaf : leaves) {
        if (!is_tensor(leaf.ptr())) continue;
        Node* node = as_tensor(leaf.ptr())->node;
        while (node->level > 0 && node->box == Box::dual) node = node->boxed.primal;
        if (node->level > 0) continue;
        held_.push_back(Tensor::share(node));
        nodes_.push_back(node);
      }
    }
  }
  std::span<Node* const> nodes() const { return nodes_; }

 private:
  std::vector<Tensor> held_;
  std::vector<Node*> nodes_;
};

void evaluate(const py::args& trees) { materialize(PlainValues(trees, "eval").nodes()); }

Explanation explain_deferred(const py::args& trees) {
  return {explain(PlainValues(trees, "explain").nodes())};
}

template <class List>
py::tuple as_tuple(const List& items) {
  py::tuple out(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) out[i] = items[i];
  return out;
}

py::list rows(const std::vector<ExplainedValue>& values) {
  py::list out;
  for (const ExplainedValue& v : values) {
    py::dict row;
    row["number"] = v.number;
    row["made_by"] = v.made_by;
    row["inputs"] = as_tuple(v.inputs);
    row["dtype"] = borrow(dtype_object(v.dtype));
    row["shape"] = as_tuple(v.shape);
    row["note"] = v.note;
    out.append(row);
  }
  return out;
}

py::list groups(const Explanation& e) {
  py::list out;
  for (const ExplainedGroup& g : e.groups) {
    py::dict group;
    group["space"] = as_tuple(g.space);
    group["reduced"] = g.reduced;
    group["lead"] = g.lead;
    group["reads"] = rows(g.reads);
    group["operations"] = rows(g.members);
    out.append(group);
  }
  return out;
}

}  // namespace

void init_deferred(py::module_& m) {
  py::class_<Explanation>(
      m, "Explanation", py::module_local(),
      "Which groups some work falls into; prints as text.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> told = ad.explain(ad.exp(ad.ones(100_000)) + 1)\n"
      ">>> len(told), [operation[\"made_by\"] for operation in told.groups[0][\"operations\"]]\n"
      "(1, ['exp', 'add'])")
      .def_property_readonly(
          "groups", &groups,
          "One dict per group, in the order in which they run: its `space`; how many of the "
          "trailing axes (`reduced`) and of the leading ones (`lead`) are reduced over; what it "
          "`reads`, and the `operations` it fuses, each a list of dicts.")
      .def("__len__", [](const Explanation& e) { return e.groups.size(); })
      .def("__repr__", [](const Explanation& e) { return to_string(e.groups); });
  m.def("eval", &evaluate,
        "Compute everything still deferred in the given pytrees.\n\n"
        "Parameters\n"
        "----------\n"
        "*args : Tensor or pytree\n"
        "    Of any shapes and dtypes; what is asked for together is computed together.\n\n"
        "Raises\n"
        "------\n"
        "TypeError\n"
        "    If a leaf is a str.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> y = ad.exp(ad.zeros(100_000)) + 1  # waits\n"
        ">>> ad.eval(y)\n"
        ">>> len(ad.explain(y))\n"
        "0");
  m.def("explain", &explain_deferred,
        "Tell which fused groups `ad.eval` of the given pytrees would run, and run nothing.\n\n"
        "A group reads its operands once and keeps in registers what is not marked as stored. What "
        "it reads\n"
        "comes from memory, or from an earlier group: the note then says why it is not computed in "
        "this one.\n"
        "A value marked as recomputed is computed a second time, instead of being stored, because "
        "that is\n"
        "cheaper than the memory traffic.\n\n"
        "Work that can fail on values, matrix products and indexing run where they stand, so their "
        "results are\n"
        "in memory. The same view of a compiled function is `f.program(x).groups`.\n\n"
        "Parameters\n"
        "----------\n"
        "*args : Tensor or pytree\n\n"
        "Returns\n"
        "-------\n"
        "Explanation\n"
        "    Prints as text; `groups` holds the same as data.\n\n"
        "Raises\n"
        "------\n"
        "TypeError\n"
        "    If a leaf is a str.\n\n"
        "Examples\n"
        "--------\n"
        ">>> import adjoint as ad\n"
        ">>> x = ad.linspace(0.0, 1.0, 10_000)\n"
        ">>> ad.explain(ad.sum(ad.exp(x) * 2.0))\n"
        "group 1 over (10000,), reducing the last axis: 3 operations\n"
        "  %0 = memory : float64 (10000,)\n"
        "  %2 = memory : float64 ()\n"
        "  %1 = exp %0 : float64 (10000,)\n"
        "  %3 = multiply %1 %2 : float64 (10000,)\n"
        "  %4 = sum %3 axes=[0] : float64 ()  # stored");
}

}  // namespace adjoint::python
