// Attributes and methods of Tensor that are no operations of the registry.
#include <cstring>
#include <utility>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "convert.h"
#include "foreign.h"
#include "graph/apply.h"
#include "graph/op.h"
#include "graph/thread_state.h"
#include "named_handles.h"
#include "pytensor.h"

namespace adjoint::python {

namespace {

Node* peek(PyObject* self) { return as_tensor(self)->node; }

// ---- Attributes ---------------------------------------------------------------------------------

PyObject* get_shape(PyObject* self, void*) {
  const auto shape = peek(self)->layout.shape();
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(shape.size()));
  if (!tuple) return nullptr;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    PyObject* extent = PyLong_FromLongLong(shape[i]);
    if (!extent) {
      Py_DECREF(tuple);
      return nullptr;
    }
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), extent);
  }
  return tuple;
}
PyObject* get_dtype(PyObject* self, void*) { return Py_NewRef(dtype_object(peek(self)->dtype)); }
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(peek(self)->layout.ndim()); }
PyObject* get_size(PyObject* self, void*) { return PyLong_FromLongLong(peek(self)->layout.size()); }
PyObject* get_nbytes(PyObject* self, void*) { return PyLong_FromSize_t(peek(self)->nbytes()); }
// As of the array that a tensor becomes: libraries that take arrays ask for it before they convert.
PyObject* get_strides(PyObject* self, void*) noexcept {
  return guarded([&] {
    const Node* node = peek(self);
    const auto itemsize_of = static_cast<std::int64_t>(itemsize(node->dtype));
    py::tuple strides(static_cast<std::size_t>(node->layout.ndim()));
    for (std::size_t i = 0; i < strides.size(); ++i)
      strides[i] = node->layout.strides()[i] * itemsize_of;
    return strides.release().ptr();
  });
}
PyObject* get_device(PyObject*, void*) { return PyUnicode_FromString("cpu"); }

PyObject* call_core(const char* function, PyObject* self) {
  return guarded([&] {
    PyObject* out =
        py::module_::import("adjoint._core").attr(function)(borrow(self)).release().ptr();
    mark_view(out, self);
    return out;
  });
}
PyObject* get_transposed(PyObject* self, void*) noexcept {
  return guarded([&]() -> PyObject* {
    if (peek(self)->layout.ndim() != 2)
      raise(ErrorKind::value, "T",
            "x.T needs two dimensions, shape is " + to_string(peek(self)->layout.shape()) +
                ": use x.mT for stacks of matrices, or ad.permute_dims");
    return call_core("matrix_transpose", self);
  });
}
PyObject* get_matrix_transposed(PyObject* self, void*) {
  return call_core("matrix_transpose", self);
}

PyObject* get_requires_grad(PyObject* self, void*) {
  return guarded([&] {
    PyTensor* t = as_tensor(self);
    const bool requires_grad = read_node(t)->requires_grad;  // a trace learns of it
    return PyBool_FromLong((t->leaf && t->leaf->requires_grad) || requires_grad);
  });
}

void set_requires_grad_value(PyObject* self, bool on) {
  PyTensor* t = as_tensor(self);
  if (on && !is_differentiable(t->node->dtype))
    raise(ErrorKind::type, "requires_grad",
          "a tensor of dtype " + std::string(name(t->node->dtype)) +
              " has no gradient: only floating tensors do, convert with ad.astype");
  if (on ? t->leaf != nullptr : !t->leaf && !read_node(t)->requires_grad) return;
  if (!is_direct(t)) refuse_outside(cell_of(t), "requires_grad");
  Tensor handle = handle_of(t);
  handle.requires_grad_(on);
  Leaf* leaf = handle.leaf();
  if (leaf) retain_owner(leaf);
  Leaf* old_leaf = std::exchange(t->leaf, leaf);
  Node* old_node = std::exchange(t->node, handle.detach_node());
  if (old_leaf) release_owner(old_leaf);
  release_handle(old_node);
}

int set_requires_grad(PyObject* self, PyObject* value, void*) noexcept {
  return guarded_int([&] {
    if (!value) raise(ErrorKind::type, "requires_grad", "cannot be deleted: set it to False");
    set_requires_grad_value(self, flag_argument(value, "requires_grad", "requires_grad"));
    return 0;
  });
}

PyObject* get_is_leaf(PyObject* self, void*) {
  return guarded([&] {
    PyTensor* t = as_tensor(self);
    const bool requires_grad = read_node(t)->requires_grad;
    return PyBool_FromLong(t->leaf != nullptr || !requires_grad);
  });
}

PyObject* get_grad(PyObject* self, void*) noexcept {
  return guarded([&]() -> PyObject* {
    PyTensor* t = as_tensor(self);
    // The gradient of an argument may be reached by another way, and a handle may become a leaf.
    if (!is_direct(t)) read_node(t);
    if (!t->leaf) Py_RETURN_NONE;
    Tensor grad = read_cell(gradient_cell(t->leaf));
    if (!grad.defined()) Py_RETURN_NONE;
    PyObject* out = wrap(grad.detach_node());
    if (out) {
      retain(t->leaf);
      as_tensor(out)->gradient_of = t->leaf;
    }
    return out;
  });
}

int set_grad(PyObject* self, PyObject* value, void*) noexcept {
  return guarded_int([&] {
    PyTensor* t = as_tensor(self);
    Tensor fresh;
    if (value && value != Py_None) {
      if (!t->leaf)
        raise(ErrorKind::runtime, "grad",
              "this tensor does not require grad, so it has no place for one: set "
              "x.requires_grad = True first");
      if (!is_tensor(value))
        raise(ErrorKind::type, "grad", "must be a Tensor or None, not " + type_name(value));
      Node* given = read_node(as_tensor(value));
      if (!given->layout.same_shape(t->node->layout) || given->dtype != t->node->dtype)
        raise(ErrorKind::value, "grad",
              "must be like the tensor: shapes " + to_string(given->layout.shape()) + " and " +
                  to_string(t->node->layout.shape()) + ", dtypes " +
                  std::string(name(given->dtype)) + " and " + std::string(name(t->node->dtype)));
      fresh = Tensor::share(given);
    }
    if (!is_direct(t)) read_node(t);
    if (!t->leaf) return 0;
    write_cell(gradient_cell(t->leaf), std::move(fresh));
    return 0;
  });
}

PyObject* get_name(PyObject* self, void*) {
  PyObject* text = as_tensor(self)->name;
  return Py_NewRef(text ? text : Py_None);
}
int set_name(PyObject* self, PyObject* value, void*) {
  if (value && value != Py_None && !PyUnicode_Check(value)) {
    PyErr_SetString(PyExc_TypeError, "[name] must be a str or None");
    return -1;
  }
  set_handle_name(as_tensor(self), value && value != Py_None ? Py_NewRef(value) : nullptr);
  return 0;
}

PyObject* get_dict(PyObject* self, void*) {
  PyObject* dict = PyObject_GenericGetDict(self, nullptr);
  if (dict && !PyObject_GC_IsTracked(self)) PyObject_GC_Track(self);
  return dict;
}

// ---- Methods ------------------------------------------------------------------------------------

PyObject* item(PyObject* self, PyObject*) noexcept {
  return guarded([&]() -> PyObject* {
    Node* node = read_node(as_tensor(self));
    if (node->layout.size() != 1)
      raise(ErrorKind::value, "item",
            "needs exactly one element, shape is " + to_string(node->layout.shape()));
    return element_to_python(host_value(node, "item").node());
  });
}

PyObject* nested_list(Node* element_reader, Node* node, int axis, std::int64_t at) {
  if (axis == node->layout.ndim()) {
    // A scalar node as the window through which one element after the other is read.
    std::memcpy(element_reader->data(),
                static_cast<const char*>(node->data()) +
                    at * static_cast<std::int64_t>(itemsize(node->dtype)),
                itemsize(node->dtype));
    return element_to_python(element_reader);
  }
  const auto i = static_cast<std::size_t>(axis);
  const std::int64_t n = node->layout.shape()[i];
  py::object list = steal(PyList_New(n));
  for (std::int64_t k = 0; k < n; ++k) {
    PyObject* entry =
        nested_list(element_reader, node, axis + 1, at + k * node->layout.strides()[i]);
    if (!entry) return nullptr;
    PyList_SET_ITEM(list.ptr(), k, entry);
  }
  return list.release().ptr();
}

PyObject* tolist(PyObject* self, PyObject*) noexcept {
  return guarded([&] {
    const Tensor value = host_value(read_node(as_tensor(self)), "tolist");
    const Tensor window = Tensor::adopt(new_node(value.dtype(), Layout()));
    return nested_list(window.node(), value.node(), 0, 0);
  });
}

PyObject* detach(PyObject* self, PyObject*) noexcept {
  return guarded([&] {
    Node* node = read_node(as_tensor(self));
    while (node->box == Box::dual) node = node->boxed.primal;
    const Tensor held = Tensor::share(node);
    if (node->level > 0) return wrap(stop_gradient(held));
    return wrap(alias(node, nullptr, false));
  });
}

PyObject* requires_grad_(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"requires_grad", nullptr};
  PyObject* on = Py_True;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:requires_grad_", const_cast<char**>(keywords),
                                   &on))
    return nullptr;
  return guarded([&] {
    set_requires_grad_value(self, flag_argument(on, "requires_grad_", "requires_grad"));
    return Py_NewRef(self);
  });
}

PyObject* backward_method(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"grad", "create_graph", nullptr};
  PyObject* cotangent = Py_None;
  PyObject* create_graph = Py_False;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:backward", const_cast<char**>(keywords),
                                   &cotangent, &create_graph))
    return nullptr;
  return guarded([&]() -> PyObject* {
    const bool differentiable = flag_argument(create_graph, "backward", "create_graph");
    const Tensor output = handle_of(as_tensor(self));
    Tensor given;
    if (cotangent != Py_None)
      given = tensor_from_python(cotangent, output.dtype(), std::nullopt, "backward");
    output.backward(given, differentiable);
    Py_RETURN_NONE;
  });
}

// Integers as one tuple or one by one, as NumPy's methods take them.
Dims listed(PyObject* const* args, Py_ssize_t nargs, const char* op, const char* what) {
  if (nargs == 1) return dims_argument(args[0], op, what);
  Dims out;
  for (Py_ssize_t i = 0; i < nargs; ++i) out.push_back(int_argument(args[i], op, what));
  return out;
}

// round(x), and round(x, n), which NumPy and here `around` round to n decimals.
PyObject* round_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs) noexcept {
  return guarded([&] {
    const py::module_ core = py::module_::import("adjoint._core");
    const bool whole = nargs == 0 || args[0] == Py_None;
    return (whole ? core.attr("round")(borrow(self))
                  : core.attr("around")(borrow(self), borrow(args[0])))
        .release()
        .ptr();
  });
}

PyObject* view_of(PyObject* self, Tensor value) {
  PyObject* out = constant_result(wrap(std::move(value)));
  mark_view(out, self);
  return out;
}

PyObject* reshape_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs) noexcept {
  return guarded([&]() -> PyObject* {
    const Dims shape = listed(args, nargs, "reshape", "shape");
    return view_of(self, reshape(tensor_argument(self, "reshape"), shape));
  });
}

PyObject* view_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs) noexcept {
  return guarded([&]() -> PyObject* {
    if (nargs == 1 && find_dtype(args[0]))
      raise(ErrorKind::type, "view",
            "takes extents, like reshape; the elements in another dtype are astype(dtype)");
    const Dims shape = listed(args, nargs, "view", "shape");
    return view_of(self, reshape(tensor_argument(self, "view"), shape));
  });
}

PyObject* transpose_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs) noexcept {
  return guarded([&]() -> PyObject* {
    const Tensor x = tensor_argument(self, "transpose");
    const auto ndim = static_cast<std::size_t>(x.ndim());
    Dims axes;
    if (nargs == 0 || (nargs == 1 && args[0] == Py_None)) {
      for (std::size_t i = ndim; i-- > 0;) axes.push_back(static_cast<std::int64_t>(i));
    } else {
      axes = listed(args, nargs, "transpose", "axes");
    }
    if (axes.size() != ndim)
      raise(ErrorKind::value, "transpose",
            std::to_string(axes.size()) + " axes for shape " + to_string(x.shape()) +
                ": all are named, as in NumPy; swapaxes exchanges two");
    return view_of(self, permute_dims(x, axes));
  });
}

PyObject* numel(PyObject* self, PyObject*) noexcept { return get_size(self, nullptr); }

PyObject* zero_grad(PyObject* self, PyObject*) noexcept {
  if (set_grad(self, Py_None, nullptr) != 0) return nullptr;
  Py_RETURN_NONE;
}

PyObject* rebind(PyObject* self, PyObject* value) noexcept {
  return guarded([&]() -> PyObject* {
    PyTensor* t = as_tensor(self);
    refuse_rebind_of_leaf(t, "rebind_");
    const Tensor fresh = is_tensor(value)
                             ? Tensor::share(read_node(as_tensor(value)))
                             : tensor_from_python(value, t->node->dtype, std::nullopt, "rebind_");
    Node* node = fresh.node();
    if (!node->layout.same_shape(t->node->layout))
      raise(ErrorKind::value, "rebind_",
            "a handle keeps its shape: shapes " + to_string(t->node->layout.shape()) + " and " +
                to_string(node->layout.shape()));
    if (node->dtype != t->node->dtype)
      raise(ErrorKind::type, "rebind_",
            "a handle keeps its dtype: " + std::string(name(t->node->dtype)) + " and " +
                std::string(name(node->dtype)) + "; convert with ad.astype");
    retain_handle(node);
    rebind_cell(t, node);
    return Py_NewRef(self);
  });
}

PyObject* array_namespace(PyObject*, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"api_version", nullptr};
  PyObject* version = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:__array_namespace__",
                                   const_cast<char**>(keywords), &version))
    return nullptr;
  return guarded([] { return py::module_::import("adjoint").release().ptr(); });
}

PyObject* to_device(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"", "stream", nullptr};
  const char* device = nullptr;
  PyObject* stream = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$O:to_device", const_cast<char**>(keywords),
                                   &device, &stream))
    return nullptr;
  return guarded([&] {
    if (std::strcmp(device, "cpu") != 0)
      raise(ErrorKind::value, "to_device",
            std::string("the only device is 'cpu', not '") + device + "'");
    return Py_NewRef(self);
  });
}

PyObject* format(PyObject* self, PyObject* spec) noexcept {
  return guarded([&]() -> PyObject* {
    if (!PyUnicode_Check(spec))
      raise(ErrorKind::type, "format", "the format must be a str, not " + type_name(spec));
    if (PyUnicode_GetLength(spec) == 0) return PyObject_Str(self);
    Node* node = as_tensor(self)->node;
    if (node->layout.size() != 1)
      raise(ErrorKind::type, "format",
            "a format is for one number, shape is " + to_string(node->layout.shape()));
    py::object number = steal(element_to_python(host_value(node, "format").node()));
    return PyObject_Format(number.ptr(), spec);
  });
}

// ---- Pickle and copy ----------------------------------------------------------------------------

PyObject* reduce(PyObject* self, PyObject*) noexcept {
  return guarded([&] {
    PyTensor* t = as_tensor(self);
    Node* node = read_node(t);
    refuse_implicit_exit(node, "pickle");
    if (!t->leaf && node->requires_grad && thread_state().recording)
      raise(ErrorKind::runtime, "pickle",
            "would lose the derivative of a tensor that was computed from one that requires grad: "
            "pickle x.detach()");
    const Tensor value = contiguous(host_value(node, "pickle").node());
    py::object data =
        steal(PyBytes_FromStringAndSize(static_cast<const char*>(value.node()->data()),
                                        static_cast<Py_ssize_t>(value.node()->nbytes())));
    const py::object none = py::none();
    const py::bool_ leaf(t->leaf && t->leaf->requires_grad);
    py::object grad = steal(get_grad(self, nullptr));
    py::tuple args = py::make_tuple(
        borrow(reinterpret_cast<PyObject*>(Py_TYPE(self))), borrow(dtype_object(value.dtype())),
        steal(get_shape(self, nullptr)), data, leaf, t->name ? borrow(t->name) : none, grad);
    py::object state = t->dict ? borrow(t->dict) : none;
    return py::make_tuple(py::module_::import("adjoint._core").attr("_rebuild"), args, state)
        .release()
        .ptr();
  });
}

py::object rebuild(py::object cls, py::object dtype, py::object shape, py::bytes data,
                   bool requires_grad, py::object name_object, py::object grad) {
  if (!PyType_Check(cls.ptr()) ||
      !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(cls.ptr()), tensor_type))
    raise(ErrorKind::type, "unpickle", "the class is no Tensor");
  const DType t = dtype_from_python(dtype.ptr(), "unpickle");
  const Dims dims = dims_argument(shape.ptr(), "unpickle", "shape");
  const auto bytes = static_cast<std::string_view>(data);
  if (static_cast<std::size_t>(checked_size(dims, "unpickle")) * itemsize(t) != bytes.size())
    raise(ErrorKind::value, "unpickle", "the data does not have the length of the shape");
  Tensor value = Tensor::adopt(new_array(t, dims, "unpickle"));
  if (!bytes.empty()) std::memcpy(value.node()->data(), bytes.data(), bytes.size());
  if (is_bool(t)) normalize_bools(value.node()->data(), value.size());
  auto* type = reinterpret_cast<PyTypeObject*>(cls.ptr());
  py::object self;
  if (type == tensor_type) {
    self = wrapped(std::move(value));
  } else {
    self = steal(type->tp_alloc(type, 0));
    as_tensor(self.ptr())->birth = next_birth();
    as_tensor(self.ptr())->node = value.detach_node();
  }
  if (requires_grad) set_requires_grad_value(self.ptr(), true);
  if (set_name(self.ptr(), name_object.ptr(), nullptr) != 0) throw_python();
  if (!grad.is_none() && set_grad(self.ptr(), grad.ptr(), nullptr) != 0) throw_python();
  return self;
}

// Whether a derivative, a batch or a trace leads through the value. The copy of a leaf is another
// leaf, except inside of a transform, whose arguments are leaves too.
bool handle_is_connected(py::object self) {
  PyTensor* t = as_tensor(self.ptr());
  const Node* node = read_node(t);
  return node->level > 0 || (node->requires_grad && (!t->leaf || t_open_reverse > 0));
}

py::object connected_copy(py::object self) {
  PyTensor* t = as_tensor(self.ptr());
  return handle_of_type(Py_TYPE(self.ptr()), clone(Tensor::share(read_node(t))));
}

PyObject* copy_method(PyObject* self, PyObject*) noexcept {
  return guarded([&] {
    return py::module_::import("adjoint._copying").attr("copied")(borrow(self)).release().ptr();
  });
}

PyObject* deepcopy_method(PyObject* self, PyObject* memo) noexcept {
  return guarded([&] {
    return py::module_::import("adjoint._copying")
        .attr("copied")(borrow(self), borrow(memo))
        .release()
        .ptr();
  });
}

PyObject* graph(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  return guarded([&] {
    const py::object draw = py::module_::import("adjoint._graph").attr("graph");
    const py::tuple all = py::make_tuple(borrow(self)) + borrow(args);
    return PyObject_Call(draw.ptr(), all.ptr(), kwargs);
  });
}

constexpr int kKeywords = METH_VARARGS | METH_KEYWORDS;

}  // namespace

PyGetSetDef tensor_getset[] = {
    {"shape", get_shape, nullptr, "Extents, a tuple of ints.", nullptr},
    {"dtype", get_dtype, nullptr, "Element type.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of dimensions.", nullptr},
    {"size", get_size, nullptr, "Number of elements.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes of the elements.", nullptr},
    {"strides", get_strides, nullptr,
     "Bytes from one element to the next along each axis, a tuple of ints, as of `x.numpy()`.",
     nullptr},
    {"device", get_device, nullptr, "Always 'cpu'.", nullptr},
    {"T", get_transposed, nullptr, "The transpose of a matrix.", nullptr},
    {"at", get_at, nullptr,
     "`x.at[key].add(values)` and its like: a new tensor with some entries changed.\n\n"
     "The methods are JAX's: `set`, `add`, `multiply` (`mul`), `divide`, `power`, `max`, `min`, "
     "and\n"
     "`get`. The key is that of `x[key]`.\n\n"
     ">>> import adjoint as ad\n"
     ">>> x = ad.zeros(3)\n"
     ">>> x.at[[0, 2, 2]].add(1.0).tolist()\n"
     "[1.0, 0.0, 2.0]\n",
     nullptr},
    {"mT", get_matrix_transposed, nullptr, "The transpose of the last two axes.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad,
     "Whether gradients reach this tensor; settable, which makes the handle a leaf.", nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Whether it was made by the user, not by an operation.",
     nullptr},
    {"grad", get_grad, set_grad, "The gradient accumulated by `backward`, or None; settable.",
     nullptr},
    {"name", get_name, set_name, "A name for printing, or None; settable.", nullptr},
    {"__dict__", get_dict, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef tensor_methods[] = {
    {"item", item, METH_NOARGS,
     "item($self)\n--\n\nThe single element as a Python number.\n\n"
     "No derivative passes; inside `grad` and `jvp` it is the value at the current point."},
    {"tolist", tolist, METH_NOARGS, "tolist($self)\n--\n\nThe elements as nested lists."},
    {"detach", detach, METH_NOARGS,
     "detach($self)\n--\n\nThe same value without history: no derivative passes."},
    {"requires_grad_", method(requires_grad_), kKeywords,
     "requires_grad_($self, requires_grad=True)\n--\n\nMake this handle a leaf; return it."},
    {"backward", method(backward_method), kKeywords,
     "backward($self, grad=None, *, create_graph=False)\n--\n\n"
     "Add the gradient of this tensor to ``.grad`` of every leaf it was computed from.\n\n"
     "`grad` is the cotangent, needed unless the tensor has one element."},
    {"graph", method(graph), kKeywords,
     "graph($self, *, values=True, adjoints=True, grad=None, names=None, max_nodes=60)\n--\n\n"
     "What was recorded to compute this tensor, as a graph that prints and draws itself.\n\n"
     "In a terminal it is a tree; in a notebook a picture, with buttons that step forwards\n"
     "through the operations and backwards through the adjoints; ``save`` writes it to a file.\n"
     "Its nodes are values: data, and results of operations with their operands.\n\n"
     "A value whose memory was let go is computed again for it, if its operands are known;\n"
     "random numbers and calls of functions of your own are not repeated. Inside of a transform\n"
     "there are neither values nor adjoints.\n\n"
     "Parameters\n----------\n"
     "values, adjoints : bool, default True\n"
     "    Show them. The adjoint of a value is the derivative of this tensor by it.\n"
     "grad : Tensor, optional\n"
     "    The cotangent that adjoints begin with, of shape and dtype of this tensor; ones by\n"
     "    default, so that the adjoints are derivatives of its sum.\n"
     "names : mapping of str to Tensor, optional\n"
     "    What tensors are called, beside those that have a `name`; ``locals()`` is one. A name\n"
     "    is that of a handle: when nobody holds it any more the name is forgotten.\n"
     "max_nodes : int, default 60\n"
     "    Show so many nodes, those next to this tensor; the others are counted.\n\n"
     "Returns\n-------\nRecordedGraph\n\n"
     "Raises\n------\n"
     "ValueError\n    If `grad` is not like this tensor, or `max_nodes` is not positive.\n\n"
     "Examples\n--------\n"
     ">>> import adjoint as ad\n"
     ">>> w = ad.tensor(3.0, requires_grad=True, name=\"w\")\n"
     ">>> print((w**2 + 1.0).graph())\n"
     "add(·, 1)  float64 ()  = 10  adjoint 1\n"
     "└─ square  float64 ()  = 9   adjoint 1\n"
     "   └─ w    float64 ()  = 3   adjoint 6"},
    {"zero_grad", zero_grad, METH_NOARGS, "zero_grad($self)\n--\n\nForget the gradient."},
    {"rebind_", rebind, METH_O,
     "rebind_($self, value, /)\n--\n\nGive the handle a new value of the same shape and dtype.\n\n"
     "Every alias of the handle sees it. A leaf stays one; while operations are recorded its\n"
     "value cannot be replaced: use `no_grad`."},
    {"reshape", method(reshape_method), METH_FASTCALL,
     "reshape($self, /, *shape)\n--\n\nThe same elements in another shape; one extent may be -1."},
    {"view", method(view_method), METH_FASTCALL,
     "view($self, /, *shape)\n--\n\n`reshape` by PyTorch's name."},
    {"transpose", method(transpose_method), METH_FASTCALL,
     "transpose($self, /, *axes)\n--\n\nThe axes in another order, reversed if none are given.\n\n"
     "As in NumPy all are named; `swapaxes` exchanges two, which is PyTorch's `transpose`."},
    {"__round__", method(round_method), METH_FASTCALL,
     "__round__($self, ndigits=None, /)\n--\n\n`round`, and `around` with a number of digits."},
    {"numel", numel, METH_NOARGS, "numel($self)\n--\n\nThe number of elements."},
    {"to_device", method(to_device), kKeywords,
     "to_device($self, device, /, *, stream=None)\n--\n\nReturn the tensor; the device is 'cpu'."},
    {"__array_namespace__", method(array_namespace), kKeywords,
     "__array_namespace__($self, *, api_version=None)\n--\n\nThe module `adjoint`."},
    {"__format__", format, METH_O, "__format__($self, format_spec, /)\n--\n\n"},
    {"__reduce__", reduce, METH_NOARGS, "__reduce__($self)\n--\n\nValue, requires_grad, grad."},
    {"__copy__", copy_method, METH_NOARGS,
     "__copy__($self)\n--\n\nA leaf gives another leaf, a computed tensor its clone."},
    {"__deepcopy__", deepcopy_method, METH_O, "__deepcopy__($self, memo, /)\n--\n\n"},
    {nullptr, nullptr, 0, nullptr}};

void init_methods(py::module_& m) {
  add_methods(tensor_buffer_methods);
  init_at(m);
  m.def("_rebuild", &rebuild);
  m.def("_is_connected", &handle_is_connected);
  m.def("_connected_copy", &connected_copy);
}

}  // namespace adjoint::python
