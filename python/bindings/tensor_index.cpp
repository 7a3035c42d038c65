// x[key] and x[key] = value.
//
// Basic keys (ints, slices, None, ...) are one strided view. Keys with arrays are a `take` along
// one axis: the axes under the arrays are brought to the front and merged into one, and so are the
// arrays. Assignment rebinds the cell to a new value, made in the old one's memory when nothing
// else sees it.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "adjoint/ops.h"
#include "graph/apply.h"
#include "graph/op.h"
#include "indexing.h"

namespace adjoint::python {

namespace {

// The strided part of a key: one entry per axis of the tensor.
struct StridedPart {
  Dims starts, counts, steps;
  Dims shape;         // of the part: the axes under ints are left out
  bool whole = true;  // nothing is left out or reversed
};

StridedPart strided_part(const Index& index, Layout::Extents shape) {
  StridedPart b;
  std::size_t axis = 0;
  for (const IndexItem& item : index.items) {
    if (item.kind == IndexItem::new_axis) continue;
    const bool array = item.kind == IndexItem::array;
    // Among arrays, an int is an array of one index.
    const bool keep = array || (index.advanced && item.kind == IndexItem::integer);
    b.starts.push_back(keep ? 0 : item.start);
    b.counts.push_back(keep ? shape[axis] : item.count);
    b.steps.push_back(keep ? 1 : item.kind == IndexItem::integer ? 0 : item.step);
    if (b.steps[axis] != 0) b.shape.push_back(b.counts[axis]);
    b.whole &= b.starts[axis] == 0 && b.counts[axis] == shape[axis] && b.steps[axis] == 1;
    ++axis;
  }
  return b;
}

Tensor reshaped(const Tensor& x, const Dims& shape) {
  return Dims(x.shape()) == shape ? x : reshape(x, shape);
}

Dims basic_shape(const Index& index) {
  Dims out;
  for (const IndexItem& item : index.items)
    if (item.kind != IndexItem::integer) out.push_back(item.count);
  return out;
}

Tensor get_basic(const Tensor& x, const Index& index) {
  const StridedPart b = strided_part(index, x.shape());
  const Tensor y = b.whole ? x : slice(x, b.starts, b.counts, b.steps);
  return reshaped(y, basic_shape(index));
}

// ---- Keys with arrays ---------------------------------------------------------------------------

Tensor binary_op(const char* name, const Tensor& a, const Tensor& b) {
  return apply(find_op(name), {&a, &b});
}

Tensor int_scalar(std::int64_t value) {
  Node* node = new_node(DType::int64, Layout());
  *static_cast<std::int64_t*>(node->data()) = value;
  return Tensor::adopt(node);
}

// Indices as int64 in [0, n): checked where they have a value, wrapped in any case.
Tensor checked_indices(const Tensor& given, std::int64_t n, std::size_t axis) {
  Tensor i = astype(given, DType::int64);
  bool negative = true;
  if (i.node()->level == 0) {
    i = contiguous(i.node());
    negative = false;
    const auto* p = static_cast<const std::int64_t*>(i.node()->data());
    for (std::int64_t k = 0; k < i.size(); ++k) {
      if (p[k] < -n || p[k] >= n)
        raise(ErrorKind::index, "index",
              "index " + std::to_string(p[k]) + " is out of range for axis " +
                  std::to_string(axis) + " of length " + std::to_string(n));
      negative |= p[k] < 0;
    }
  }
  if (!negative) return i;
  const Tensor below = binary_op("less", i, int_scalar(0));
  const Tensor wrapped_index = binary_op("add", i, int_scalar(n));
  return apply(find_op("where"), {&below, &wrapped_index, &i});
}

// How a key with arrays is carried out.
struct Gather {
  Dims order;      // axes of the strided part: those under arrays first
  Dims merged;     // shape after merging those axes into one
  Dims unmerged;   // shape before
  Tensor indices;  // into the merged axis, shape = broadcast of the arrays
  Dims back;       // axes of the result of take, in the order of the key
  Dims shape;      // result with its new axes
};

Gather plan_gather(const Index& index, Layout::Extents shape) {
  Gather g;
  std::vector<std::size_t> array_axes;
  std::vector<const IndexItem*> arrays;
  Dims rest_axes, rest_shape;
  int first_item = -1, last_item = -1, array_items = 0;
  std::size_t axis = 0;
  for (std::size_t k = 0; k < index.items.size(); ++k) {
    const IndexItem& item = index.items[k];
    if (item.kind == IndexItem::new_axis) continue;
    if (item.kind == IndexItem::slice) {
      rest_axes.push_back(static_cast<std::int64_t>(axis));
      rest_shape.push_back(item.count);
    } else {
      array_axes.push_back(axis);
      arrays.push_back(&item);
      ++array_items;
      if (first_item < 0) first_item = static_cast<int>(k);
      last_item = static_cast<int>(k);
    }
    ++axis;
  }
  std::int64_t merged = 1;
  for (std::size_t j = 0; j < arrays.size(); ++j) {
    const std::int64_t n = shape[array_axes[j]];
    const Tensor i = arrays[j]->kind == IndexItem::integer
                         ? int_scalar(arrays[j]->start)
                         : checked_indices(arrays[j]->indices, n, array_axes[j]);
    g.indices = j == 0 ? i : binary_op("add", binary_op("multiply", g.indices, int_scalar(n)), i);
    merged *= n;
    g.order.push_back(static_cast<std::int64_t>(array_axes[j]));
    g.unmerged.push_back(n);
  }
  g.order.append(rest_axes.data(), rest_axes.size());
  g.unmerged.append(rest_shape.data(), rest_shape.size());
  g.merged.push_back(merged);
  g.merged.append(rest_shape.data(), rest_shape.size());

  // Where the broadcast axes of the arrays stand: in place when the arrays are neighbours, else
  // first.
  const int nb = g.indices.ndim();
  const bool neighbours = last_item - first_item + 1 == array_items;
  Dims broadcast(g.indices.shape());
  std::int64_t rest = nb;
  bool placed = !neighbours;
  const auto place = [&] {
    for (int a = 0; a < nb; ++a) g.back.push_back(a);
    g.shape.append(broadcast.data(), broadcast.size());
    placed = true;
  };
  if (placed) {
    placed = false;
    place();
  }
  for (const IndexItem& item : index.items) {
    if (item.kind == IndexItem::new_axis) {
      g.shape.push_back(1);
    } else if (item.kind == IndexItem::slice) {
      g.back.push_back(rest++);
      g.shape.push_back(item.count);
    } else if (!placed) {
      place();
    }
  }
  return g;
}

bool in_order(const Dims& axes) {
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<std::int64_t>(i)) return false;
  return true;
}
Tensor permuted(const Tensor& x, const Dims& axes) {
  return in_order(axes) ? x : permute_dims(x, axes);
}
Dims inverse(const Dims& axes) {
  Dims out(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i)
    out[static_cast<std::size_t>(axes[i])] = static_cast<std::int64_t>(i);
  return out;
}

Tensor get_advanced(const Tensor& x, const Index& index) {
  const StridedPart b = strided_part(index, x.shape());
  const Tensor part = b.whole ? x : slice(x, b.starts, b.counts, b.steps);
  const Gather g = plan_gather(index, x.shape());
  const Tensor rows = reshaped(permuted(part, g.order), g.merged);
  return reshaped(permuted(take(rows, g.indices, 0), g.back), g.shape);
}

// ---- Assignment ---------------------------------------------------------------------------------

// The value in the dtype of x, still in its own shape.
Tensor assigned_value(PyObject* value, const Node* x) {
  if (weak_kind(value)) return Tensor::adopt(scalar_node(value, x->dtype, "setitem"));
  const Tensor v = tensor_argument(value, "setitem");
  if (promote(x->dtype, v.dtype()) != x->dtype)
    raise(ErrorKind::type, "setitem",
          "a value of dtype " + std::string(name(v.dtype())) + " does not fit a tensor of " +
              std::string(name(x->dtype)) + ": convert one with ad.astype");
  return astype(v, x->dtype);
}

Tensor broadcast_value(const Tensor& v, const Dims& shape) {
  Dims own(v.shape());
  while (own.size() > shape.size() && own[0] == 1) own.erase(0);
  bool fits = own.size() <= shape.size();
  for (std::size_t i = 0; fits && i < own.size(); ++i) {
    const std::int64_t extent = shape[shape.size() - own.size() + i];
    fits = own[i] == extent || own[i] == 1;
  }
  if (!fits)
    raise(ErrorKind::value, "setitem",
          "a value of shape " + to_string(v.shape()) + " does not fit the indexed part, shape " +
              to_string(shape));
  const Tensor trimmed = reshaped(v, own);
  return own == shape ? trimmed : broadcast_to(trimmed, shape);
}

Tensor put_advanced(const Tensor& x, const Index& index, const Tensor& value) {
  const StridedPart b = strided_part(index, x.shape());
  const Tensor part = b.whole ? x : slice(x, b.starts, b.counts, b.steps);
  const Gather g = plan_gather(index, x.shape());
  Tensor v = broadcast_value(value, g.shape);
  // The value's axes go back to the order in which `take` would deliver them.
  Dims without_new;
  std::array<std::int64_t, kMaxDims> extents{};
  const Dims broadcast(g.indices.shape());
  for (std::size_t i = 0; i < g.back.size(); ++i) {
    const auto axis = static_cast<std::size_t>(g.back[i]);
    extents[i] = axis < broadcast.size() ? broadcast[axis] : g.merged[1 + axis - broadcast.size()];
    without_new.push_back(extents[i]);
  }
  v = permuted(reshaped(v, without_new), inverse(g.back));
  const Tensor rows = reshaped(permuted(part, g.order), g.merged);
  const Tensor put = put_rows(rows, g.indices, v);
  Tensor filled = permuted(reshaped(put, g.unmerged), inverse(g.order));
  if (b.whole) return filled;
  return put_slice(x, filled, b.starts, b.counts, b.steps, 0);
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

void assign(PyTensor* t, PyObject* key, PyObject* value) {
  refuse_rebind_of_leaf(t, "x[i] = v");
  Node* x = read_node(t);
  const Index index = parse_index(key, x->layout.shape(), true);
  const Tensor v = assigned_value(value, x);
  if (index.mask.defined() && v.size() == 1) {
    const Tensor held = Tensor::share(x);
    const Tensor number = reshaped(v, Dims{});
    const Tensor out = apply(find_op("where"), {&index.mask, &number, &held});
    retain_handle(out.node());
    return rebind_cell(t, out.node());
  }
  if (index.mask.defined() || index.advanced) {
    const Tensor held = Tensor::share(x);
    const Index full = index.mask.defined() ? parse_index(key, x->layout.shape(), false) : index;
    const Tensor out = put_advanced(held, full, v);
    retain_handle(out.node());
    return rebind_cell(t, out.node());
  }
  const StridedPart b = strided_part(index, x->layout.shape());
  const Tensor part = reshaped(broadcast_value(v, basic_shape(index)), b.shape);
  // The cell gives up its handle: when it was the only one, the elements are written in place.
  // That work never lets go of the interpreter's lock, so no other thread sees the cell meanwhile.
  if (!x->is_ready() && x->level == 0) {
    const Tensor held = Tensor::share(x);
    materialize(x);
  }
  const Tensor cell = Tensor::adopt(t->node);
  struct Return {
    const Tensor& tensor;
    ~Return() { const_cast<Tensor&>(tensor).detach_node(); }
  } give_back{cell};  // the count still belongs to the cell
  Tensor out = put_slice(cell, part, b.starts, b.counts, b.steps, 1);
  rebind_cell(t, out.detach_node());
}

}  // namespace

PyObject* tensor_subscript(PyObject* self, PyObject* key) noexcept {
  return guarded([&]() -> PyObject* {
    const Tensor x = Tensor::share(read_node(as_tensor(self)));
    const Index index = parse_index(key, x.shape(), false);
    if (index.advanced) return wrap(get_advanced(x, index));
    PyObject* view = wrap(get_basic(x, index));
    if (view) as_tensor(view)->basic_view = true;
    return view;
  });
}

PyObject* tensor_item_at(PyObject* self, Py_ssize_t i) noexcept {
  return guarded([&]() -> PyObject* {
    py::object key = steal(PyLong_FromSsize_t(i));
    return tensor_subscript(self, key.ptr());
  });
}

int tensor_ass_subscript(PyObject* self, PyObject* key, PyObject* value) noexcept {
  return guarded_int([&] {
    PyTensor* t = as_tensor(self);
    if (!value)
      raise(ErrorKind::type, "index", "elements cannot be deleted: `del x[i]` is not supported");
    if (t->basic_view && is_temporary(self))
      raise(ErrorKind::runtime, "setitem",
            "x[0][1] = v assigns to a temporary and would be lost: write x[0, 1] = v");
    assign(t, key, value);
    return 0;
  });
}

}  // namespace adjoint::python
