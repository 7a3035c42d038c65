// x[key] and x[key] = value: the slots of the type. Assignment rebinds the cell to a new value,
// made in the old one's memory when nothing else sees it. x.at[key] is the same without a cell: its
// methods give a new tensor.
#include <utility>

#include "adjoint/ops.h"
#include "graph/apply.h"
#include "graph/watcher.h"
#include "indexing.h"

namespace adjoint::python {

namespace {

// In the dtype of the tensor; what does not convert to it is left to `index_put` to refuse.
Tensor assigned_value(PyObject* value, DType dtype) {
  if (weak_kind(value)) return Tensor::adopt(scalar_node(value, dtype, "setitem"));
  const Tensor v = tensor_argument(value, "setitem");
  return promote(dtype, v.dtype()) == dtype ? astype(v, dtype) : v;
}

// Only the interpreter's own stack holds this object. A reference count decides an error message
// here, nothing more: at worst a pointless assignment is not reported.
bool is_temporary(PyObject* self) {
#if PY_VERSION_HEX >= 0x030E0000
  return PyUnstable_Object_IsUniqueReferencedTemporary(self);
#else
  return Py_REFCNT(self) == 1;
#endif
}

// The cell gives up its handle: when it was the only one, the elements are written in place. That
// work neither lets go of the interpreter's lock nor runs Python code, so nobody sees the cell
// meanwhile.
Tensor put_in_place(PyTensor* t, const Key& key, const Tensor& v) {
  const Tensor cell = Tensor::adopt(t->node);
  struct Return {
    const Tensor& tensor;
    ~Return() { const_cast<Tensor&>(tensor).detach_node(); }
  } give_back{cell};  // the count still belongs to the cell
  return index_put(cell, key.items(), v, 1);
}

// Reading the key and the value may run code of the user, which may rebind the cell or make it a
// leaf; it keeps its dtype.
void assign(PyTensor* t, PyObject* key_object, PyObject* value) {
  refuse_rebind_of_leaf(t, "x[i] = v");
  const Key key(key_object);
  const Tensor v = assigned_value(value, read_node(t)->dtype);
  refuse_rebind_of_leaf(t, "x[i] = v");
  const bool boxed = read_node(t)->level > 0 || v.node()->level > 0;
  if (!key.basic() || !is_direct(t) || boxed || open_watcher()) {
    Tensor out = index_put(Tensor::share(read_node(t)), key.items(), v);
    return rebind_cell(t, out.detach_node());
  }
  materialize(v.node());
  while (t->node->is_pending()) materialize(Tensor::share(t->node).node());
  Tensor out = put_in_place(t, key, v);
  rebind_cell(t, out.detach_node());
}

// x.at, and x.at[key].
struct At {
  py::object tensor;
};
struct AtPlace {
  py::object tensor, key;

  template <class F>
  py::object changed(F change) const {
    const Key items(key.ptr());
    const Tensor x = Tensor::share(read_node(as_tensor(tensor.ptr())));
    return steal(constant_result(wrap(change(x, items.items()))));
  }
  py::object updated(const py::object& values, IndexUpdate how) const {
    return changed([&](const Tensor& x, IndexKey items) {
      if (how == IndexUpdate::power && is_integer(x.dtype())) check_exponent(values.ptr(), "power");
      return index_update(x, items, how, assigned_value(values.ptr(), x.dtype()));
    });
  }
  py::object set(const py::object& values) const {
    return changed([&](const Tensor& x, IndexKey items) {
      return index_put(x, items, assigned_value(values.ptr(), x.dtype()));
    });
  }
  py::object get() const {
    return changed([](const Tensor& x, IndexKey items) { return index(x, items); });
  }
};

}  // namespace

PyObject* get_at(PyObject* self, void*) {
  return guarded([&] { return py::cast(At{borrow(self)}).release().ptr(); });
}

void init_at(py::module_& m) {
  py::class_<AtPlace> place(m, "_AtPlace", py::module_local(),
                            "Entries of a tensor, as `x[key]` names them. Each method gives a new "
                            "tensor and leaves x alone.");
  py::class_<At>(m, "_At", py::module_local(),
                 "What `x.at` gives: `x.at[key]` names entries, whose methods make a new tensor.")
      .def("__getitem__",
           [](const At& at, py::object key) { return AtPlace{at.tensor, std::move(key)}; });
  place.def("get", &AtPlace::get, "The entries, `x[key]`.");
  place.def(
      "set", &AtPlace::set, py::arg("values"),
      "x with the entries replaced; of equal indices the last stays, and has the derivative.");
  const auto define = [&](const char* name, const char* doc, IndexUpdate how) {
    place.def(
        name, [how](const AtPlace& p, const py::object& values) { return p.updated(values, how); },
        py::arg("values"), doc);
  };
  define("add", "x with values added to the entries; equal indices add up.", IndexUpdate::add);
  define("multiply", "x with the entries multiplied by values, by all of equal indices.",
         IndexUpdate::multiply);
  define("mul", "`multiply` by another name.", IndexUpdate::multiply);
  define("divide", "x with the entries divided by values, by all of equal indices.",
         IndexUpdate::divide);
  define("power", "x with the entries raised to values, to the product of those of equal indices.",
         IndexUpdate::power);
  define("max",
         "x with the larger one of each entry and the values; a tie shares the derivative equally.",
         IndexUpdate::maximum);
  define(
      "min",
      "x with the smaller one of each entry and the values; a tie shares the derivative equally.",
      IndexUpdate::minimum);
}

PyObject* tensor_subscript(PyObject* self, PyObject* key_object) noexcept {
  return guarded([&]() -> PyObject* {
    const Key key(key_object);
    const Tensor x = Tensor::share(read_node(as_tensor(self)));
    PyObject* out = constant_result(wrap(index(x, key.items())));
    if (out) as_tensor(out)->is_view = key.basic();
    return out;
  });
}

PyObject* tensor_item_at(PyObject* self, Py_ssize_t i) noexcept {
  return guarded([&]() -> PyObject* {
    if (i < 0) raise(ErrorKind::index, "index", "index out of range");  // the length was added
    const IndexItem item(i);
    const Tensor x = Tensor::share(read_node(as_tensor(self)));
    PyObject* out = constant_result(wrap(index(x, IndexKey(&item, 1))));
    if (out) as_tensor(out)->is_view = true;
    return out;
  });
}

int tensor_ass_subscript(PyObject* self, PyObject* key, PyObject* value) noexcept {
  return guarded_int([&] {
    PyTensor* t = as_tensor(self);
    if (!value)
      raise(ErrorKind::type, "index", "elements cannot be deleted: `del x[i]` is not supported");
    if (t->is_view && is_temporary(self))
      raise(ErrorKind::runtime, "setitem",
            "x[0][1] = v, or x.T[0] = v, assigns to a temporary and would be lost: write "
            "x[0, 1] = v, with an index of x itself");
    assign(t, key, value);
    return 0;
  });
}

}  // namespace adjoint::python
