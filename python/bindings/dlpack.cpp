// DLPack: tensors to and from other libraries through its C structs, version 1.x with the read-only
// flag, and the unversioned form for consumers that do not know better.
#include <cstring>
#include <memory>
#include <vector>

#include "convert.h"
#include "foreign.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

// ---- The ABI (dmlc/dlpack 1.0), declared here: a page of C does not deserve a dependency --------

struct DLDevice {
  std::int32_t device_type;
  std::int32_t device_id;
};
struct DLDataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // elements; null: row-major
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};
struct DLPackVersion {
  std::uint32_t major;
  std::uint32_t minor;
};
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor dl_tensor;
};
constexpr std::int32_t kCpu = 1;
constexpr std::uint8_t kInt = 0, kUInt = 1, kFloat = 2, kBool = 6;
constexpr std::uint64_t kReadOnly = 1;
constexpr const char* kName = "dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";

DLDataType to_dl(DType t) {
  const auto bits = static_cast<std::uint8_t>(8 * itemsize(t));
  const std::uint8_t code = is_bool(t)               ? kBool
                            : is_signed_integer(t)   ? kInt
                            : is_unsigned_integer(t) ? kUInt
                                                     : kFloat;
  return {code, bits, 1};
}

std::optional<DType> from_dl(DLDataType d) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const DLDataType mine = to_dl(static_cast<DType>(i));
    if (mine.code == d.code && mine.bits == d.bits && d.lanes == 1) return static_cast<DType>(i);
  }
  return std::nullopt;
}

// ---- Export -------------------------------------------------------------------------------------

template <class Managed>
struct Exported {
  Managed managed = {};
  Tensor value;
  std::vector<std::int64_t> dims;
};

template <class Managed>
Managed* export_value(Tensor value) {
  auto owned = std::make_unique<Exported<Managed>>();
  Exported<Managed>* e = owned.get();
  e->value = std::move(value);
  Node* n = e->value.node();
  if (n->stored.storage) n->stored.storage->mark_exported();
  for (const std::int64_t extent : n->layout.shape()) e->dims.push_back(extent);
  for (const std::int64_t stride : n->layout.strides()) e->dims.push_back(stride);
  const int nd = n->layout.ndim();
  e->managed.dl_tensor = {n->data(),      {kCpu, 0},           nd, to_dl(n->dtype),
                          e->dims.data(), e->dims.data() + nd, 0};
  e->managed.manager_ctx = e;
  e->managed.deleter = [](Managed* m) { delete static_cast<Exported<Managed>*>(m->manager_ctx); };
  return &owned.release()->managed;
}

template <class Managed>
void delete_unconsumed(PyObject* capsule, const char* capsule_name) {
  if (!PyCapsule_IsValid(capsule, capsule_name)) return;
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, capsule_name));
  if (m->deleter) m->deleter(m);
}

bool wants_version_1(PyObject* max_version) {
  if (!max_version || max_version == Py_None) return false;
  if (!PyTuple_Check(max_version) || PyTuple_GET_SIZE(max_version) < 1)
    raise(ErrorKind::type, "__dlpack__", "max_version must be a tuple (major, minor)");
  return int_argument(PyTuple_GET_ITEM(max_version, 0), "__dlpack__", "max_version") >= 1;
}

void check_dl_device(PyObject* device) {
  if (!device || device == Py_None) return;
  const Dims d = dims_argument(device, "__dlpack__", "dl_device");
  if (d.size() != 2 || d[0] != kCpu)
    raise(ErrorKind::buffer, "__dlpack__", "the data is on the CPU, device (1, 0)");
}

Tensor fresh_copy(const Tensor& value) {
  const Tensor packed = contiguous(value.node());
  Tensor out = Tensor::adopt(new_array(packed.dtype(), packed.shape(), "__dlpack__"));
  std::memcpy(out.node()->data(), packed.node()->data(), packed.node()->nbytes());
  return out;
}

PyObject* tensor_dlpack(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"stream", "max_version", "dl_device", "copy", nullptr};
  PyObject *stream = nullptr, *max_version = nullptr, *device = nullptr, *copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", const_cast<char**>(keywords),
                                   &stream, &max_version, &device, &copy))
    return nullptr;
  return guarded([&]() -> PyObject* {
    check_dl_device(device);
    const bool copied = copy != Py_None && flag_argument(copy, "__dlpack__", "copy");
    const bool version_1 = wants_version_1(max_version);
    Node* node = read_node(as_tensor(self));
    refuse_implicit_exit(node, "__dlpack__");
    Tensor value = host_value(node, "__dlpack__");
    if (version_1) {
      auto* m =
          export_value<DLManagedTensorVersioned>(copied ? fresh_copy(value) : std::move(value));
      m->version = {1, 0};
      m->flags = copied ? 0 : kReadOnly;
      PyObject* capsule = PyCapsule_New(m, kVersionedName, [](PyObject* c) {
        delete_unconsumed<DLManagedTensorVersioned>(c, kVersionedName);
      });
      if (!capsule) m->deleter(m);
      return capsule;
    }
    // The old form cannot say "read-only".
    if (!copied)
      raise(ErrorKind::buffer, "__dlpack__",
            "the memory of a tensor is read-only, and this consumer does not ask for DLPack 1.0 "
            "(max_version=(1, 0)), which can say so: hand it x.numpy().copy(), or call "
            "x.__dlpack__(copy=True)");
    auto* m = export_value<DLManagedTensor>(fresh_copy(value));
    PyObject* capsule =
        PyCapsule_New(m, kName, [](PyObject* c) { delete_unconsumed<DLManagedTensor>(c, kName); });
    if (!capsule) m->deleter(m);
    return capsule;
  });
}

PyObject* tensor_dlpack_device(PyObject*, PyObject*) { return Py_BuildValue("(ii)", kCpu, 0); }

// ---- Import -------------------------------------------------------------------------------------

ForeignBlock block_of(const DLTensor& t, bool read_only, const char* op) {
  if (t.device.device_type != kCpu)
    raise(ErrorKind::buffer, op, "the array is not in CPU memory: copy it to the CPU first");
  const std::optional<DType> dtype = from_dl(t.dtype);
  if (!dtype)
    raise(ErrorKind::type, op,
          "the array's element type has no counterpart: convert it to bool, an integer type, "
          "float32 or float64");
  if (t.ndim < 0 || t.ndim > kMaxDims || (t.ndim > 0 && !t.shape))
    raise(ErrorKind::buffer, op, "the capsule describes no array of up to 64 dimensions");
  ForeignBlock block;
  block.dtype = *dtype;
  block.read_only = read_only;
  for (int i = 0; i < t.ndim; ++i) block.shape.push_back(t.shape[i]);
  const std::int64_t size = checked_size(block.shape, op);
  if (size > 0 && !t.data) raise(ErrorKind::buffer, op, "the capsule holds no data");
  block.data = static_cast<char*>(t.data) + (t.data ? t.byte_offset : 0);
  block.strides =
      t.strides ? Dims(t.strides, t.strides + t.ndim) : Dims(Layout(block.shape).strides());
  return block;
}

template <class Managed>
Node* import_managed(Managed* m, bool read_only, std::optional<bool> copy, const char* op) {
  constexpr auto let_go = [](void* p) {
    auto* managed = static_cast<Managed*>(p);
    if (managed->deleter) managed->deleter(managed);
  };
  std::unique_ptr<Managed, decltype(let_go)> owner(m);
  const ForeignBlock block = block_of(m->dl_tensor, read_only, op);
  return node_over(block, copy, owner.release(), let_go, op);
}

PyObject* from_dlpack(PyObject*, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const keywords[] = {"", "device", "copy", nullptr};
  PyObject *o = nullptr, *device = nullptr, *copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OO:from_dlpack", const_cast<char**>(keywords),
                                   &o, &device, &copy))
    return nullptr;
  return guarded([&]() -> PyObject* {
    std::optional<bool> wanted;
    if (copy != Py_None) wanted = flag_argument(copy, "from_dlpack", "copy");
    if (device && (PyTuple_Check(device) || PyList_Check(device)))
      check_dl_device(device);
    else
      check_device(device, "from_dlpack");
    if (is_tensor(o)) return wrap(tensor_from_python(o, std::nullopt, std::nullopt, "from_dlpack"));
    const py::object method = optional_attribute(o, "__dlpack__");
    if (!method)
      raise(ErrorKind::type, "from_dlpack",
            "a " + type_name(o) + " has no __dlpack__ method: use ad.asarray");
    py::object capsule;
    try {
      capsule = method(py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& e) {
      if (!e.matches(PyExc_TypeError)) throw;
      capsule = method();  // a producer from before version 1
    }
    return wrap(constant_in_trace(
        Tensor::adopt(node_from_dlpack_capsule(capsule.ptr(), wanted, "from_dlpack"))));
  });
}

PyMethodDef dlpack_methods[] = {
    {"__dlpack__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(tensor_dlpack)),
     METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "A DLPack capsule on the same memory, marked read-only."},
    {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self)\n--\n\nThe CPU: (1, 0)."},
    {nullptr, nullptr, 0, nullptr}};

PyMethodDef from_dlpack_def = {
    "from_dlpack", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(from_dlpack)),
    METH_VARARGS | METH_KEYWORDS,
    "from_dlpack(x, /, *, device=None, copy=None)\n--\n\n"
    "A tensor of another library's array, through DLPack.\n\n"
    "Parameters\n"
    "----------\n"
    "x : array with ``__dlpack__``\n"
    "    Of any shape, in the memory of the CPU.\n"
    "device : \"cpu\", optional\n"
    "copy : bool, optional\n"
    "    True copies, False never does; None copies unless the producer marks the memory "
    "read-only.\n\n"
    "Returns\n"
    "-------\n"
    "Tensor\n"
    "    Of the dtype of `x`.\n\n"
    "Raises\n"
    "------\n"
    "TypeError\n"
    "    If `x` has no ``__dlpack__``, or a dtype that is none of ours.\n\n"
    "Examples\n"
    "--------\n"
    ">>> import adjoint as ad\n"
    ">>> import numpy as np\n"
    ">>> ad.from_dlpack(np.array([1.0, 2.0])).tolist()\n"
    "[1.0, 2.0]"};

}  // namespace

Node* node_from_dlpack_capsule(PyObject* capsule, std::optional<bool> copy, const char* op) {
  if (PyCapsule_IsValid(capsule, kVersionedName)) {
    auto* m = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, kVersionedName));
    if (m->version.major != 1)
      raise(ErrorKind::buffer, op, "the capsule is of a DLPack version other than 1");
    if (PyCapsule_SetName(capsule, "used_dltensor_versioned") != 0) throw_python();
    return import_managed(m, (m->flags & kReadOnly) != 0, copy, op);
  }
  if (PyCapsule_IsValid(capsule, kName)) {
    auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, kName));
    if (PyCapsule_SetName(capsule, "used_dltensor") != 0) throw_python();
    return import_managed(m, false, copy, op);
  }
  raise(ErrorKind::buffer, op, "__dlpack__ did not return a fresh DLPack capsule");
}

void init_buffer(py::module_& m) {
  add_methods(dlpack_methods);
  py::str package("adjoint");
  m.attr("from_dlpack") = steal(PyCFunction_NewEx(&from_dlpack_def, m.ptr(), package.ptr()));
}

}  // namespace adjoint::python
