// The key of x[...] by NumPy's rules.
#include "indexing.h"

#include <cstring>
#include <optional>

#include "graph/apply.h"

namespace adjoint::python {

namespace {

[[noreturn]] void raise_key(PyObject* o) {
  raise(ErrorKind::type, "index",
        "an index must be an int, a slice, None, ..., an integer or bool array, or a tuple of "
        "these, not " +
            type_name(o));
}

// One entry of the key before the axes are counted.
struct Part {
  PyObject* object;  // borrowed from the key, a tuple or the object itself
  Tensor array;      // defined: an integer or bool array
  int axes;          // how many axes it consumes; -1 for the ellipsis
};

// Integer scalars, 0-d integer tensors with a value among them, index as ints do.
bool is_integer_index(PyObject* o) {
  if (PyLong_CheckExact(o)) return true;
  if (PyBool_Check(o)) return false;
  if (is_tensor(o)) {
    const Node* n = as_tensor(o)->node;
    return n->layout.ndim() == 0 && is_integer(n->dtype) && n->level == 0;
  }
  return PyIndex_Check(o) && !PyList_Check(o) && !PyObject_HasAttrString(o, "__len__");
}

Part classify(PyObject* o) {
  if (o == Py_Ellipsis) return {o, {}, -1};
  if (o == Py_None) return {o, {}, 0};
  if (PySlice_Check(o) || is_integer_index(o)) return {o, {}, 1};
  if (PyBool_Check(o) || PyFloat_Check(o) || PyUnicode_Check(o) || PyDict_Check(o)) raise_key(o);
  Tensor array;
  if (is_tensor(o))
    array = Tensor::share(read_node(as_tensor(o)));
  else if (PyList_Check(o) || PyTuple_Check(o))
    array = tensor_from_python(o, std::nullopt, std::nullopt, "index");
  else if (Node* node = node_from_foreign(o, std::nullopt, "index"))
    array = constant_in_trace(Tensor::adopt(node));
  else
    raise_key(o);
  if (array.size() == 0 && !is_tensor(o) && is_floating(array.dtype()))
    array = tensor_from_python(o, DType::int64, std::nullopt, "index");  // the empty list
  if (is_floating(array.dtype()))
    raise(ErrorKind::type, "index",
          "an index array must be integer or bool, not " + std::string(name(array.dtype())) +
              ": use ad.astype(i, ad.int64)");
  if (is_bool(array.dtype()) && array.ndim() == 0) raise_key(o);
  const int axes = is_bool(array.dtype()) ? array.ndim() : 1;
  return {o, std::move(array), axes};
}

IndexItem integer_item(PyObject* o, std::size_t axis, std::int64_t n) {
  const py::object number = steal(PyNumber_Index(o));
  int overflow = 0;
  const std::int64_t i = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow || i < -n || i >= n)
    raise(ErrorKind::index, "index",
          "index " + (overflow ? "of more than 64 bits" : std::to_string(i)) +
              " is out of range for axis " + std::to_string(axis) + " of length " +
              std::to_string(n));
  return {IndexItem::integer, i < 0 ? i + n : i, 1, 1, {}};
}

IndexItem slice_item(PyObject* o, std::int64_t n) {
  Py_ssize_t start, stop, step;
  if (PySlice_Unpack(o, &start, &stop, &step) < 0) throw_python();
  const Py_ssize_t count = PySlice_AdjustIndices(n, &start, &stop, step);
  return {IndexItem::slice, count > 0 ? start : 0, count > 0 ? step : 1, count, {}};
}

IndexItem whole(std::int64_t n) { return {IndexItem::slice, 0, 1, n, {}}; }

// The positions where a mask is true, one index array per axis of the mask.
void add_mask(const Tensor& mask, std::size_t axis, Layout::Extents shape,
              std::vector<IndexItem>& items) {
  for (int i = 0; i < mask.ndim(); ++i)
    if (mask.shape()[static_cast<std::size_t>(i)] != shape[axis + static_cast<std::size_t>(i)])
      raise(ErrorKind::index, "index",
            "a mask must have the shape of what it masks: mask of shape " +
                to_string(mask.shape()) + ", tensor of shape " + to_string(shape));
  const Tensor value = contiguous(host_value(mask.node(), "index by a mask").node());
  const auto* bits = static_cast<const std::uint8_t*>(value.node()->data());
  std::int64_t hits = 0;
  for (std::int64_t i = 0; i < value.size(); ++i) hits += bits[i] != 0;
  std::vector<std::int64_t*> out;
  for (int i = 0; i < mask.ndim(); ++i) {
    Tensor t = Tensor::adopt(new_array(DType::int64, Dims{hits}, "index"));
    out.push_back(static_cast<std::int64_t*>(t.node()->data()));
    items.push_back({IndexItem::array, 0, 1, 1, std::move(t)});
  }
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < value.size(); ++i) {
    if (!bits[i]) continue;
    std::int64_t rest = i;
    for (int k = mask.ndim(); k-- > 0;) {
      const std::int64_t extent = mask.shape()[static_cast<std::size_t>(k)];
      out[static_cast<std::size_t>(k)][at] = rest % extent;
      rest /= extent;
    }
    ++at;
  }
}

}  // namespace

Index index_of_mask(const Tensor& mask) {
  Index out;
  out.advanced = true;
  add_mask(mask, 0, mask.shape(), out.items);
  return out;
}

Index parse_index(PyObject* key, Layout::Extents shape, bool keep_mask) {
  Index out;
  std::vector<Part> parts;
  if (PyTuple_Check(key)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i)
      parts.push_back(classify(PyTuple_GET_ITEM(key, i)));
  } else {
    parts.push_back(classify(key));
  }
  int used = 0;
  bool ellipsis = false;
  for (const Part& p : parts) {
    if (p.axes >= 0) {
      used += p.axes;
    } else if (std::exchange(ellipsis, true)) {
      raise(ErrorKind::index, "index", "more than one ... in the index");
    }
  }
  const int ndim = static_cast<int>(shape.size());
  if (used > ndim)
    raise(ErrorKind::index, "index",
          "too many indices: " + std::to_string(used) + " for shape " + to_string(shape));
  if (keep_mask && parts.size() == 1 && parts[0].array.defined() &&
      is_bool(parts[0].array.dtype()) && used == ndim &&
      Dims(parts[0].array.shape()) == Dims(shape)) {
    out.mask = parts[0].array;
    return out;
  }
  std::size_t axis = 0;
  const auto fill = [&](int n) {
    for (int i = 0; i < n; ++i) out.items.push_back(whole(shape[axis++]));
  };
  for (const Part& p : parts) {
    if (p.axes < 0) {
      fill(ndim - used);
    } else if (p.object == Py_None) {
      out.items.push_back({IndexItem::new_axis, 0, 1, 1, {}});
    } else if (p.array.defined()) {
      out.advanced = true;
      if (is_bool(p.array.dtype()))
        add_mask(p.array, axis, shape, out.items);
      else
        out.items.push_back({IndexItem::array, 0, 1, 1, p.array});
      axis += static_cast<std::size_t>(p.axes);
    } else if (PySlice_Check(p.object)) {
      out.items.push_back(slice_item(p.object, shape[axis++]));
    } else {
      out.items.push_back(integer_item(p.object, axis, shape[axis]));
      ++axis;
    }
  }
  fill(ndim - static_cast<int>(axis));
  return out;
}

}  // namespace adjoint::python
