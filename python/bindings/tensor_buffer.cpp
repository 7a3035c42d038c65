// The buffer protocol and `__array__`: NumPy and others see a tensor's memory without a copy and
// read-only; their memory becomes a tensor by a copy, unless nobody can write to it or sharing is
// asked.
#include <cstring>
#include <memory>
#include <string_view>

#include "convert.h"
#include "foreign.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

const char* format_of(DType t) {
  static constexpr const char* formats[kDTypeCount] = {"?", "b", "h", "i", "q", "B",
                                                       "H", "I", "Q", "f", "d"};
  return formats[static_cast<int>(t)];
}

// What a Py_buffer of ours keeps: the value, however the cell is rebound meanwhile.
struct Export {
  Tensor value;
  std::vector<Py_ssize_t> dims;  // shape, then strides in bytes
};

std::optional<DType> dtype_of_format(std::string_view format, Py_ssize_t item) {
  if (format.empty()) return std::nullopt;
  if (format[0] == '@' || format[0] == '=' || format[0] == '<') format.remove_prefix(1);
  if (format.size() != 1) return std::nullopt;
  static constexpr DType with_sign[] = {DType::int8, DType::int16, DType::int32, DType::int64};
  static constexpr DType without_sign[] = {DType::uint8, DType::uint16, DType::uint32,
                                           DType::uint64};
  const int size = item == 1 ? 0 : item == 2 ? 1 : item == 4 ? 2 : item == 8 ? 3 : -1;
  const char c = format[0];
  if (c == '?' && item == 1) return DType::boolean;
  if (c == 'f' && item == 4) return DType::float32;
  if (c == 'd' && item == 8) return DType::float64;
  if (size < 0) return std::nullopt;
  if (std::string_view("bhilqn").find(c) != std::string_view::npos) return with_sign[size];
  if (std::string_view("BHILQN").find(c) != std::string_view::npos) return without_sign[size];
  return std::nullopt;
}

[[noreturn]] void raise_dtype(PyObject* o, const char* op) {
  std::string shown = "of this element type";
  if (const py::object dtype = optional_attribute(o, "dtype"))
    shown = "of dtype " + text_of(py::str(dtype));
  raise(ErrorKind::type, op,
        "an array " + shown +
            " cannot become a tensor: convert it to bool, an integer type, float32 or float64 in "
            "native byte order");
}

void release_view(void* owner) {
  auto* view = static_cast<Py_buffer*>(owner);
  PyBuffer_Release(view);
  delete view;
}

// NumPy hands out its scalars of dates as bytes.
bool is_numpy_scalar_of_no_dtype(PyObject* o) {
  const std::string_view type = Py_TYPE(o)->tp_name;
  if (type == "numpy.ndarray" || !type.starts_with("numpy.")) return false;
  const py::object dtype = optional_attribute(o, "dtype");
  return dtype && !find_dtype(dtype.ptr());
}

// The block that a buffer describes; nothing where it has no counterpart. The format, the shape and
// the strides may be null: bytes, one axis, row-major.
std::optional<ForeignBlock> block_of(const Py_buffer& view) {
  const std::optional<DType> dtype =
      dtype_of_format(view.format ? view.format : "B", view.itemsize);
  if (!dtype || view.ndim < 0 || view.ndim > kMaxDims) return std::nullopt;
  if (view.ndim > 1 && !view.shape) return std::nullopt;
  ForeignBlock block;
  block.data = view.buf;
  block.dtype = *dtype;
  block.read_only = view.readonly;
  Py_ssize_t elements = 1;
  for (int i = 0; i < view.ndim; ++i) {
    if (view.suboffsets && view.suboffsets[i] >= 0) return std::nullopt;
    const Py_ssize_t extent = view.shape ? view.shape[i] : view.len / view.itemsize;
    if (extent < 0 || __builtin_mul_overflow(elements, extent, &elements)) return std::nullopt;
    block.shape.push_back(extent);
  }
  if (elements > 0 && (!view.buf || view.len / view.itemsize != elements)) return std::nullopt;
  if (!view.strides) {
    block.strides = Dims(Layout(block.shape).strides());
    return block;
  }
  for (int i = 0; i < view.ndim; ++i) {
    if (view.strides[i] % view.itemsize != 0 && block.shape[i] > 1) return std::nullopt;
    block.strides.push_back(view.strides[i] / view.itemsize);
  }
  return block;
}

// Its buffer is the data alone.
void refuse_masked(PyObject* o, const char* op) {
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(o));
  if (std::string_view(Py_TYPE(o)->tp_name).starts_with("numpy.")) return;
  if (!PyObject_HasAttrString(type, "filled") || !PyObject_HasAttrString(type, "mask")) return;
  raise(ErrorKind::type, op,
        "a masked array would lose its mask: pass x.filled(value), with a value for what is "
        "masked, or x.compressed(), without it");
}

bool is_writable(PyObject* o) {
  Py_buffer view;
  if (!PyObject_CheckBuffer(o)) return false;
  if (PyObject_GetBuffer(o, &view, PyBUF_FULL) != 0) {
    PyErr_Clear();
    return false;
  }
  PyBuffer_Release(&view);
  return true;
}

// Whether memory that is read-only here is so for everyone: a view may be read-only of an array
// that is written to. Each object is asked for what it is a view of.
bool is_read_only_throughout(PyObject* o) {
  py::object at = borrow(o);
  for (int depth = 0; depth < 64; ++depth) {
    if (is_writable(at.ptr())) return false;
    py::object below = optional_attribute(at.ptr(), PyMemoryView_Check(at.ptr()) ? "obj" : "base");
    if (!below || below.is_none()) return true;
    at = std::move(below);
  }
  return false;
}

Node* node_from_buffer(PyObject* o, std::optional<bool> copy, const char* op) {
  refuse_masked(o, op);
  if (is_numpy_scalar_of_no_dtype(o)) raise_dtype(o, op);
  auto view = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(o, view.get(), PyBUF_FULL_RO) != 0) {
    if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError) &&
        !PyErr_ExceptionMatches(PyExc_TypeError))
      throw_python();
    PyErr_Clear();
    raise_dtype(o, op);
  }
  std::unique_ptr<Py_buffer, void (*)(void*)> owner(view.release(), release_view);
  std::optional<ForeignBlock> block = block_of(*owner);
  if (!block) raise_dtype(o, op);
  block->read_only = block->read_only && !copy && is_read_only_throughout(o);
  return node_over(*block, copy, owner.release(), release_view, op);
}

// Lets go of foreign memory from whichever thread dropped the last value on it.
struct Owner {
  void* context;
  void (*release)(void*);
};

void release_owner_with_lock(void* p) {
  auto* owner = static_cast<Owner*>(p);
  if (Py_IsInitialized()) {
    const HostLockScope lock;
    owner->release(owner->context);
  }
  delete owner;
}

/// Calls `f(row)` with the first element of every row, for a block that is not empty.
template <class F>
void for_each_row(const ForeignBlock& block, F f) {
  const auto item = static_cast<std::int64_t>(itemsize(block.dtype));
  const std::size_t nd = block.shape.size();
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < nd; ++i) rows *= block.shape[i];
  Dims index(nd ? nd - 1 : 0, 0);
  const char* src = static_cast<const char*>(block.data);
  for (std::int64_t r = 0; r < rows; ++r) {
    f(src);
    for (std::size_t axis = nd - 1; nd > 1 && axis-- > 0;) {
      src += block.strides[axis] * item;
      if (++index[axis] < block.shape[axis]) break;
      src -= block.strides[axis] * item * block.shape[axis];
      index[axis] = 0;
    }
  }
}

void copy_block(const ForeignBlock& block, char* dst) {
  const auto item = static_cast<std::int64_t>(itemsize(block.dtype));
  const std::int64_t row = block.shape.empty() ? 1 : block.shape.back();
  const std::int64_t step = block.shape.empty() ? item : block.strides.back() * item;
  for_each_row(block, [&](const char* src) {
    if (step == item) {
      std::memcpy(dst, src, static_cast<std::size_t>(row * item));
      dst += row * item;
    } else {
      for (std::int64_t i = 0; i < row; ++i, dst += item)
        std::memcpy(dst, src + i * step, static_cast<std::size_t>(item));
    }
  });
}

/// Whether the bytes of a block of bools, which is not empty, are all 0 or 1.
bool are_bools(const ForeignBlock& block) {
  const std::int64_t row = block.shape.empty() ? 1 : block.shape.back();
  const std::int64_t step = block.shape.empty() ? 1 : block.strides.back();
  unsigned found = 0;
  for_each_row(block, [&](const char* src) {
    for (std::int64_t i = 0; i < row; ++i) found |= static_cast<unsigned char>(src[i * step]);
  });
  return found <= 1;
}

/// Whether the block can be memory of a tensor; raises where `copy=False` asks for it in vain.
bool can_share(const ForeignBlock& block, std::int64_t size, std::optional<bool> copy,
               const char* op) {
  const char* why = nullptr;
  if (reinterpret_cast<std::uintptr_t>(block.data) % itemsize(block.dtype) != 0)
    why = "copy=False, but the memory is not aligned to its element type";
  else if (is_bool(block.dtype) && size > 0 && !are_bools(block))
    why = "copy=False, but the memory holds bools of other bytes than 0 and 1, which a copy mends";
  if (why && copy == false) raise(ErrorKind::value, op, why);
  return !why;
}

void refuse_write(int flags) {
  if (flags & PyBUF_WRITABLE)
    raise(ErrorKind::buffer, "buffer",
          "the memory of a tensor is read-only: take x.numpy().copy() for an array to write to");
}

// A handle whose buffer may be taken inside a reverse transform: the exit was asked for.
py::object without_history(const Tensor& value) {
  return steal(wrap(alias(value.node(), nullptr, false)));
}

PyObject* tensor_array(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"dtype", "copy", nullptr};
  PyObject* dtype = Py_None;
  PyObject* copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:__array__", const_cast<char**>(keywords),
                                   &dtype, &copy))
    return nullptr;
  return guarded([&] {
    std::optional<bool> copied;
    if (copy != Py_None) copied = flag_argument(copy, "__array__", "copy");
    Node* node = read_node(as_tensor(self));
    refuse_conversion(node, "__array__");
    py::object plain = without_history(host_value(node, "__array__"));
    // The buffer of the memoryview, not of the tensor: NumPy would ask for __array__ again.
    py::object view = steal(PyMemoryView_FromObject(plain.ptr()));
    py::object numpy = py::module_::import("numpy");
    py::object array = numpy.attr("asarray")(view);
    if (PyList_Check(dtype) || PyTuple_Check(dtype) || PyDict_Check(dtype))
      raise(ErrorKind::type, "__array__", "a tensor has no fields: dtype must be one type");
    const py::object own = array.attr("dtype");
    const py::object wanted = dtype == Py_None ? own : numpy.attr("dtype")(borrow(dtype));
    const bool same = own.equal(wanted);
    if (copied == false && !same)
      raise(ErrorKind::value, "__array__", "copy=False cannot convert the dtype");
    if (!same) array = array.attr("astype")(wanted);
    if (copied == true && same) array = array.attr("copy")();
    return array.release().ptr();
  });
}

PyObject* tensor_numpy(PyObject* self, PyObject*) noexcept {
  return guarded([&] {
    py::object plain = without_history(host_value(read_node(as_tensor(self)), "numpy"));
    py::object view = steal(PyMemoryView_FromObject(plain.ptr()));
    return py::module_::import("numpy").attr("asarray")(view).release().ptr();
  });
}

}  // namespace

int tensor_getbuffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  view->obj = nullptr;
  return guarded_int([&] {
    refuse_write(flags);
    Node* node = read_node(as_tensor(self));
    refuse_conversion(node, "buffer");
    auto kept = std::make_unique<Export>();
    kept->value = host_value(node, "buffer");
    const bool any_strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
    if (!any_strides) kept->value = contiguous(kept->value.node());
    Node* n = kept->value.node();
    if ((flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS ||
        (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS) {
      kept->value = contiguous(n);
      n = kept->value.node();
    } else if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && n->layout.ndim() > 1) {
      raise(ErrorKind::buffer, "buffer", "column-major memory is not available: use x.T");
    }
    if (n->stored.storage) n->stored.storage->mark_exported();
    const auto item = static_cast<Py_ssize_t>(itemsize(n->dtype));
    for (const std::int64_t extent : n->layout.shape()) kept->dims.push_back(extent);
    for (const std::int64_t stride : n->layout.strides()) kept->dims.push_back(stride * item);
    view->buf = n->data();
    view->len = n->layout.size() * item;
    view->readonly = 1;
    view->itemsize = item;
    view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(format_of(n->dtype)) : nullptr;
    view->ndim = n->layout.ndim();
    view->shape = (flags & PyBUF_ND) ? kept->dims.data() : nullptr;
    view->strides = any_strides ? kept->dims.data() + view->ndim : nullptr;
    view->suboffsets = nullptr;
    view->internal = kept.release();
    view->obj = Py_NewRef(self);
    return 0;
  });
}

void tensor_releasebuffer(PyObject*, Py_buffer* view) noexcept {
  delete static_cast<Export*>(view->internal);
}

Node* node_over(const ForeignBlock& block, std::optional<bool> copy, void* owner,
                void (*release)(void*), const char* op) {
  struct Guard {
    void* owner;
    void (*release)(void*);
    ~Guard() {
      if (owner) release(owner);
    }
  } guard{owner, release};
  const std::int64_t size = checked_size(block.shape, op);
  const std::size_t bytes = static_cast<std::size_t>(size) * itemsize(block.dtype);
  const bool wanted = !copy.value_or(!block.read_only) && (copy == false || bytes > 8);
  if (!wanted || !can_share(block, size, copy, op)) {
    Node* node = new_array(block.dtype, block.shape, op);
    if (size > 0) copy_block(block, static_cast<char*>(node->data()));
    if (is_bool(block.dtype)) normalize_bools(node->data(), size);
    return node;
  }
  Layout layout(block.shape, block.strides, 0);
  Tensor node = Tensor::adopt(new_node(block.dtype, std::move(layout)));
  auto* kept = new Owner{owner, release};
  guard.owner = nullptr;
  node.node()->stored.storage =
      Storage::foreign(block.data, bytes, kept, release_owner_with_lock).detach();
  return node.detach_node();
}

Node* node_from_foreign(PyObject* o, std::optional<bool> copy, const char* op) {
  if (PyBytes_Check(o) || PyByteArray_Check(o) || PyUnicode_Check(o) || PyType_Check(o))
    return nullptr;
  if (PyObject_CheckBuffer(o)) return node_from_buffer(o, copy, op);
  if (const py::object method = optional_attribute(o, "__dlpack__")) {
    const py::object capsule = method();
    return node_from_dlpack_capsule(capsule.ptr(), copy, op);
  }
  if (const py::object method = optional_attribute(o, "__array__")) {
    const py::object array = method();
    if (array.is(borrow(o)) || !PyObject_CheckBuffer(array.ptr())) return nullptr;
    return node_from_buffer(array.ptr(), copy, op);
  }
  return nullptr;
}

PyMethodDef tensor_buffer_methods[] = {
    {"__array__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(tensor_array)),
     METH_VARARGS | METH_KEYWORDS,
     "__array__($self, dtype=None, *, copy=None)\n--\n\nThe value as a NumPy array, read-only "
     "where it shares the memory."},
    {"numpy", tensor_numpy, METH_NOARGS,
     "numpy($self)\n--\n\nThe value as a read-only NumPy array on the same memory.\n\n"
     "No derivative passes; inside `grad` and `jvp` it is the value at the current point."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace adjoint::python
