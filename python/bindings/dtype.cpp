// The eleven DType objects. They are equal to, and accepted in place of, their names and NumPy's
// dtypes, and know their NumPy dtype without importing NumPy before it is asked for.
#include <array>

#include "convert.h"

namespace adjoint::python {

namespace {

struct PyDType {
  PyObject_HEAD DType value;
};

PyTypeObject* g_dtype_type = nullptr;
std::array<PyObject*, kDTypeCount> g_dtypes = {};

DType value_of(PyObject* o) { return reinterpret_cast<PyDType*>(o)->value; }
PyObject* name_of(PyObject* o) {
  const std::string_view text = name(value_of(o));
  return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

std::optional<DType> from_unicode(PyObject* o) {
  Py_ssize_t n = 0;
  const char* text = PyUnicode_AsUTF8AndSize(o, &n);
  if (!text) {  // a lone surrogate: no name of ours
    PyErr_Clear();
    return std::nullopt;
  }
  return dtype_from_name({text, static_cast<std::size_t>(n)});
}

std::optional<DType> from_attribute(PyObject* o, const char* attribute) {
  const py::object text = optional_attribute(o, attribute);
  return text && PyUnicode_Check(text.ptr()) ? from_unicode(text.ptr()) : std::nullopt;
}

// NumPy is recognised by its names, so that it need not be imported.
bool from_numpy(PyObject* o) {
  PyTypeObject* type = PyType_Check(o) ? reinterpret_cast<PyTypeObject*>(o) : Py_TYPE(o);
  return std::string_view(type->tp_name).starts_with("numpy");
}

std::optional<DType> lookup(PyObject* o) {
  if (Py_IS_TYPE(o, g_dtype_type)) return value_of(o);
  if (PyUnicode_Check(o)) return from_unicode(o);
  if (o == reinterpret_cast<PyObject*>(&PyBool_Type)) return DType::boolean;
  if (o == reinterpret_cast<PyObject*>(&PyLong_Type)) return DType::int64;
  if (o == reinterpret_cast<PyObject*>(&PyFloat_Type)) return DType::float64;
  if (!from_numpy(o)) return std::nullopt;
  if (PyType_Check(o)) {
    const std::optional<DType> t = from_attribute(o, "__name__");
    // NumPy 1 calls its bool type bool_.
    if (!t && std::string_view(reinterpret_cast<PyTypeObject*>(o)->tp_name) == "numpy.bool_")
      return DType::boolean;
    return t;
  }
  const py::object native = optional_attribute(o, "isnative");
  return native.ptr() == Py_True ? from_attribute(o, "name") : std::nullopt;
}

PyObject* dtype_repr(PyObject* self) {
  return PyUnicode_FromFormat("adjoint.%s", name(value_of(self)).data());
}

PyObject* dtype_richcompare(PyObject* a, PyObject* b, int how) noexcept {
  return guarded([&]() -> PyObject* {
    if (how != Py_EQ && how != Py_NE) Py_RETURN_NOTIMPLEMENTED;
    const std::optional<DType> other = lookup(b);
    if (!other && !PyUnicode_Check(b)) Py_RETURN_NOTIMPLEMENTED;
    const bool equal = other == value_of(a);
    return PyBool_FromLong(equal == (how == Py_EQ));
  });
}

Py_hash_t dtype_hash(PyObject* self) {
  PyObject* text = name_of(self);
  if (!text) return -1;
  const Py_hash_t h = PyObject_Hash(text);
  Py_DECREF(text);
  return h;
}

PyObject* dtype_reduce(PyObject* self, PyObject*) {
  PyObject* text = name_of(self);
  return text ? Py_BuildValue("O(N)", reinterpret_cast<PyObject*>(g_dtype_type), text) : nullptr;
}

PyObject* dtype_new(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  static const char* const keywords[] = {"dtype", nullptr};
  PyObject* o = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:DType", const_cast<char**>(keywords), &o))
    return nullptr;
  return guarded([&] { return Py_NewRef(dtype_object(dtype_from_python(o, "DType"))); });
}

PyObject* get_name(PyObject* self, void*) { return name_of(self); }
PyObject* get_itemsize(PyObject* self, void*) {
  return PyLong_FromSize_t(itemsize(value_of(self)));
}
// NumPy's letter.
char kind_letter(DType t) {
  return is_bool(t) ? 'b' : is_signed_integer(t) ? 'i' : is_unsigned_integer(t) ? 'u' : 'f';
}
PyObject* get_kind(PyObject* self, void*) {
  return PyUnicode_FromFormat("%c", kind_letter(value_of(self)));
}
PyObject* get_numpy(PyObject* self, void*) noexcept {
  return guarded([&] {
    return py::module_::import("numpy").attr("dtype")(steal(name_of(self))).release().ptr();
  });
}

// What else code that was written for arrays asks an array's dtype for.
PyObject* get_of_numpy(PyObject* self, void* attribute) noexcept {
  return guarded([&] {
    const py::object dtype = steal(get_numpy(self, nullptr));
    return PyObject_GetAttrString(dtype.ptr(), static_cast<const char*>(attribute));
  });
}

PyGetSetDef dtype_getset[] = {
    {"name", get_name, nullptr, "The Array API name, as in 'float64'.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes per element.", nullptr},
    {"kind", get_kind, nullptr,
     "NumPy's letter: 'b' for bool, 'i' and 'u' for integers, 'f' for floating. `isdtype` asks "
     "for\n"
     "kinds by the names of the array standard.",
     nullptr},
    {"type", get_of_numpy, nullptr, "The class of NumPy's scalars.", const_cast<char*>("type")},
    {"char", get_of_numpy, nullptr, "NumPy's letter for the type, as in 'd' for float64.",
     const_cast<char*>("char")},
    {"num", get_of_numpy, nullptr, "NumPy's number of the type.", const_cast<char*>("num")},
    {"dtype", get_numpy, nullptr,
     "The NumPy dtype; also what makes a DType acceptable to NumPy's functions.", nullptr},
    {"__numpy_dtype__", get_numpy, nullptr, "The same, for NumPy 2.4 and newer.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef dtype_methods[] = {{"__reduce__", dtype_reduce, METH_NOARGS, nullptr},
                               {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyObject* dtype_object(DType t) noexcept { return g_dtypes[static_cast<std::size_t>(t)]; }

std::string type_name(PyObject* o) { return Py_TYPE(o)->tp_name; }

std::optional<DType> find_dtype(PyObject* o) { return lookup(o); }

DType dtype_from_python(PyObject* o, const char* op) {
  if (const std::optional<DType> t = lookup(o)) return *t;
  raise(ErrorKind::type, op,
        "dtype " + shown(o) +
            " is not supported: use one of ad.bool, ad.int8 to ad.int64, ad.uint8 to ad.uint64, "
            "ad.float32, ad.float64, in native byte order");
}

std::optional<DType> optional_dtype(PyObject* o, const char* op) {
  if (!o || o == Py_None) return std::nullopt;
  return dtype_from_python(o, op);
}

void init_dtype(py::module_& m) {
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("DType(dtype)\n--\n\n"
                                    "The element type of a tensor. Equal to its name and to "
                                    "NumPy's dtype of the same name.\n\n"
                                    "Parameters\n"
                                    "----------\n"
                                    "dtype : str, DType, NumPy dtype or type\n\n"
                                    "Raises\n"
                                    "------\n"
                                    "TypeError\n"
                                    "    If there is no such dtype here.\n\n"
                                    "Examples\n"
                                    "--------\n"
                                    ">>> import adjoint as ad\n"
                                    ">>> ad.DType(\"float32\") is ad.float32, ad.float32 == "
                                    "\"float32\", ad.float32.itemsize\n"
                                    "(True, True, 4)")},
      {Py_tp_new, reinterpret_cast<void*>(dtype_new)},
      {Py_tp_repr, reinterpret_cast<void*>(dtype_repr)},
      {Py_tp_str, reinterpret_cast<void*>(name_of)},
      {Py_tp_richcompare, reinterpret_cast<void*>(dtype_richcompare)},
      {Py_tp_hash, reinterpret_cast<void*>(dtype_hash)},
      {Py_tp_getset, dtype_getset},
      {Py_tp_methods, dtype_methods},
      {0, nullptr}};
  PyType_Spec spec = {"adjoint.DType", sizeof(PyDType), 0, Py_TPFLAGS_DEFAULT, slots};
  py::object type = steal(PyType_FromSpec(&spec));
  g_dtype_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  for (int i = 0; i < kDTypeCount; ++i) {
    PyDType* o = PyObject_New(PyDType, g_dtype_type);
    if (!o) throw_python();
    o->value = static_cast<DType>(i);
    g_dtypes[static_cast<std::size_t>(i)] = reinterpret_cast<PyObject*>(o);
    const std::string text(name(o->value));
    m.attr(text.c_str()) = borrow(g_dtypes[static_cast<std::size_t>(i)]);
  }
  m.attr("DType") = type;
  type.release();  // kept for the life of the process
}

}  // namespace adjoint::python
