// Python objects between brackets, read. What they mean for a shape is the library's affair.
#include "indexing.h"

#include <algorithm>

#include "adjoint/ops.h"

namespace adjoint::python {

namespace {

[[noreturn]] void raise_key(PyObject* o) {
  raise(ErrorKind::type, "index",
        "an index must be an int, a slice, None, ..., an integer or bool array, or a tuple of "
        "these, not " +
            type_name(o));
}

// Integer scalars, 0-d integer tensors with a value among them, index as ints do.
bool is_integer(PyObject* o) {
  if (PyLong_CheckExact(o)) return true;
  if (PyBool_Check(o)) return false;
  if (is_tensor(o)) {
    const Node* n = read_node(as_tensor(o));
    return n->layout.ndim() == 0 && adjoint::is_integer(n->dtype) && n->level == 0;
  }
  return PyIndex_Check(o) && !PyList_Check(o) && !is_numpy_bool(o) &&
         !optional_attribute(o, "__len__");
}

IndexItem integer_item(PyObject* o) {
  const py::object number = PyLong_CheckExact(o) ? borrow(o) : steal(PyNumber_Index(o));
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow)
    raise(ErrorKind::index, "index",
          "index " + shown_int(number.ptr()) + " is out of range for every axis");
  return v;
}

IndexItem slice_item(PyObject* o) {
  Py_ssize_t start, stop, step;
  if (PySlice_Unpack(o, &start, &stop, &step) < 0) throw_python();
  return Slice(start, stop, step);
}

// Arrays, lists and tuples are constants where a trace is open: a mask among them has positions.
IndexItem array_item(PyObject* o) {
  if (is_tensor(o)) return Tensor::share(read_node(as_tensor(o)));
  if (PyBool_Check(o)) return o == Py_True;
  py::object listed;
  if (PyRange_Check(o)) {
    listed = steal(PySequence_List(o));
    o = listed.ptr();
  }
  if (PyList_Check(o) || PyTuple_Check(o)) {
    Tensor t = known_from_python(o, std::nullopt, std::nullopt, "index");
    if (t.size() == 0 && is_floating(t.dtype())) t = astype(t, DType::int64);  // of no numbers
    return t;
  }
  if (PyFloat_Check(o) || PyUnicode_Check(o) || PyDict_Check(o)) raise_key(o);
  Node* node = node_from_foreign(o, std::nullopt, "index");
  if (!node) raise_key(o);
  return Tensor::adopt(node);
}

IndexItem read_item(PyObject* o) {
  if (is_integer(o)) return integer_item(o);
  if (PySlice_Check(o)) return slice_item(o);
  if (o == Py_Ellipsis) return Ellipsis;
  if (o == Py_None) return NewAxis;
  return array_item(o);
}

}  // namespace

Key::Key(PyObject* key) {
  if (!PyTuple_Check(key)) {
    few_[0] = read_item(key);
    count_ = 1;
    return;
  }
  // A tuple holds its entries, whatever code of the user runs while they are read.
  const auto n = static_cast<std::size_t>(PyTuple_GET_SIZE(key));
  if (n > few_.size()) many_.resize(n);
  IndexItem* to = n > few_.size() ? many_.data() : few_.data();
  for (std::size_t i = 0; i < n; ++i)
    to[i] = read_item(PyTuple_GET_ITEM(key, static_cast<Py_ssize_t>(i)));
  count_ = n;
}

bool Key::basic() const noexcept {
  return std::ranges::none_of(items(),
                              [](const IndexItem& item) { return item.kind == IndexItem::array; });
}

}  // namespace adjoint::python
