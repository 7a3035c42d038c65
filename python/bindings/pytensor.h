// The Python Tensor: a CPython heap type whose objects hold one handle on a node. A pybind11 class
// would cost 130 to 260 ns per result, several times the operation itself; this costs about 10.
//
// The pair (node, leaf) is the cell of the handle. Everything that reads a cell to compute with it
// goes through `read_node`, everything that rebinds one through `rebind_cell`: what an open
// transform makes of either is decided there.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>

#include "adjoint/error.h"
#include "adjoint/tensor.h"
#include "base/tls.h"
#include "graph/cell.h"
#include "graph/node.h"
#include "graph/trace_sink.h"
#include "host_lock.h"

namespace adjoint::python {

namespace py = pybind11;

struct PyTensor {
  PyObject_HEAD Node* node;  // one handle count; never null outside of an assignment in progress
  Leaf* leaf;                // one owner count, or null
  PyObject* weakrefs;
  PyObject* dict;
  PyObject* name;             // str or null
  Leaf* gradient_of;          // whose gradient this handle was got as, or null; a reference
  std::uint64_t birth : 63;   // as a cell
  std::uint64_t is_view : 1;  // in NumPy a view: assigning through a temporary is lost
};

extern PyTypeObject* tensor_type;

inline bool is_exact_tensor(PyObject* o) noexcept { return Py_IS_TYPE(o, tensor_type); }
inline bool is_tensor(PyObject* o) noexcept {
  return is_exact_tensor(o) || PyType_IsSubtype(Py_TYPE(o), tensor_type);
}
inline PyTensor* as_tensor(PyObject* o) noexcept { return reinterpret_cast<PyTensor*>(o); }

/// Tells `out`, which a method or attribute of the tensor `self` gives, for a view of it.
inline void mark_view(PyObject* out, PyObject* self) noexcept {
  if (!out || out == self || !is_tensor(out)) return;
  const Node* view = as_tensor(out)->node;
  const Node* whole = as_tensor(self)->node;
  const auto has_memory = [](const Node* n) {
    return n->box == Box::none && n->is_ready() && n->stored.storage;
  };
  // Of a value of a trace or a batch it is not known; assigning through a temporary has no effect.
  as_tensor(out)->is_view = view->level > 0 || (has_memory(view) && has_memory(whole) &&
                                                view->stored.storage == whole->stored.storage);
}

/// A function of any of CPython's signatures, as its tables of methods have it.
template <class F>
PyCFunction method(F* f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

/// A value of a transform was about to leave it unnoticed. Becomes the Python exception
/// TracedValueError, which is both a TypeError and a RuntimeError.
class TracedValue : public Error {
 public:
  explicit TracedValue(const std::string& message) : Error(ErrorKind::traced, message) {}
};
extern PyObject* traced_value_error;
extern PyObject* anomaly_error;
/// Passes through the user's function where a trace needs the value of a number.
extern PyObject* value_needed_error;

/// Turns the C++ exception being handled into the Python one. Call inside `catch (...)`.
void set_python_error() noexcept;
/// Lets exceptions of Python gain lines of context on their way through C++.
void init_error_context();

/// Runs `f` at the border to Python: an exception becomes Python's, the result null.
template <class F>
PyObject* guarded(F&& f) noexcept {
  try {
    return f();
  }
  ADJOINT_CATCH_END
  catch (...) {
    set_python_error();
    return nullptr;
  }
}
template <class F>
int guarded_int(F&& f) noexcept {
  try {
    return f();
  }
  ADJOINT_CATCH_END
  catch (...) {
    set_python_error();
    return -1;
  }
}

/// Throws the Python error that is set.
[[noreturn]] inline void throw_python() { throw py::error_already_set(); }
inline py::object steal(PyObject* o) {
  if (!o) throw_python();
  return py::reinterpret_steal<py::object>(o);
}
/// The result of a Python function.
template <class... Args>
py::object call_object(const py::object& f, const Args&... args) {
  PyObject* const given[sizeof...(args) + 1] = {args.ptr()...};
  return steal(call_python(f.ptr(), given, sizeof...(args), nullptr));
}
inline py::object borrow(PyObject* o) { return py::reinterpret_borrow<py::object>(o); }

// ---- Making and reading handles -----------------------------------------------------------------

/// A new Tensor; takes over one handle count. Null with a Python error set when memory is short.
PyObject* wrap(Node* node) noexcept;
/// The same for a C++ handle, its leaf included.
PyObject* wrap(Tensor&& tensor) noexcept;
inline py::object wrapped(Tensor&& tensor) { return steal(wrap(std::move(tensor))); }

/// The handle as the cell that transforms know.
Cell cell_of(PyTensor* t) noexcept;
Node* read_guarded(PyTensor* t);
void note_access(PyTensor* t);

/// The node to compute with, borrowed from the cell, or from the scope that stands before it.
inline Node* read_node(PyTensor* t) {
  if (!is_exact_tensor(reinterpret_cast<PyObject*>(t))) [[unlikely]]
    note_access(t);
  if (g_open_cell_scopes.load(std::memory_order_relaxed) != 0) [[unlikely]]
    return read_guarded(t);
  return t->node;
}
/// Whether reading and writing reach the cell itself.
inline bool is_direct(PyTensor* t) {
  return g_open_cell_scopes.load(std::memory_order_relaxed) == 0 || !is_guarded(cell_of(t));
}

/// A value as it is here: under `no_grad` a constant.
Tensor constant_here(Tensor value);
/// What an operation returns: under `no_grad` a constant, where it gives an operand itself too.
PyObject* constant_result(PyObject* result);

/// A handle of this class.
py::object handle_of_type(PyTypeObject* type, Tensor value);
/// A handle of the same class, leaf, name and attributes with another value.
py::object copy_of_handle(PyTensor* original, Tensor value);

/// The handle as the C++ API sees it: node and leaf shared.
Tensor handle_of(PyTensor* t);

/// Replaces the value; takes over one handle count. The leaf stays.
void rebind_cell(PyTensor* t, Node* node);

/// While a value computed from this one may be recorded and it is a leaf, its value must not be
/// replaced in place: the record would belong to neither value. Raises for `what`.
void refuse_rebind_of_leaf(const PyTensor* t, const char* what);

/// Lists that collect the Variables read while a tape is open, innermost last.
void push_access_list(PyObject* dict);
void pop_access_list() noexcept;

// ---- Reading values on the host -----------------------------------------------------------------

/// Reverse transforms (not tapes) open on this thread: values connected to their inputs leave them
/// only by `.item()`, `.numpy()` and `.detach()`.
extern ADJOINT_THREAD_LOCAL int t_open_reverse;
class ReverseScope {
 public:
  ReverseScope();
  ~ReverseScope() { --t_open_reverse; }
  ReverseScope(const ReverseScope&) = delete;
  ReverseScope& operator=(const ReverseScope&) = delete;

 private:
  std::optional<AssignedInReverse> assigned_;  // by the outermost, where no tape is open either
};

/// Raises TracedValue when reading the value for `what` would hide it from an open transform.
void refuse_implicit_exit(Node* node, const char* what);
/// The same, and a TypeError where an array that nobody asked for by name would hide a derivative
/// that is being recorded.
void refuse_conversion(Node* node, const char* what);
/// The ready level-0 value: duals give their primal; batches and traces raise for `what`.
Tensor host_value(Node* node, const char* what);
/// Element 0 of a ready level-0 value of one element as a Python number.
PyObject* element_to_python(Node* node);

// ---- Parts of the type, one per file ------------------------------------------------------------

extern PyMethodDef tensor_methods[];
extern PyGetSetDef tensor_getset[];
extern PyMethodDef tensor_buffer_methods[];
PyObject* tensor_subscript(PyObject* self, PyObject* key) noexcept;
PyObject* get_at(PyObject* self, void*);
void init_at(py::module_& m);
int tensor_ass_subscript(PyObject* self, PyObject* key, PyObject* value) noexcept;
PyObject* tensor_item_at(PyObject* self, Py_ssize_t i) noexcept;
int tensor_getbuffer(PyObject* self, Py_buffer* view, int flags) noexcept;
void tensor_releasebuffer(PyObject* self, Py_buffer* view) noexcept;
PyObject* tensor_repr(PyObject* self) noexcept;
PyObject* tensor_str(PyObject* self) noexcept;

/// Adds methods to Tensor after its creation; the table ends with a null name.
void add_methods(PyMethodDef* table);
/// Binds the function that `x @ y` calls.
void bind_matmul(PyObject* function) noexcept;

void init_tensor_type(py::module_& m);
void init_dtype(py::module_& m);
void init_convert(py::module_& m);
void init_methods(py::module_& m);
void init_functions(py::module_& m);
void init_creation(py::module_& m);
void init_random_ops(py::module_& m);
void init_buffer(py::module_& m);
void init_numpy_protocols();
void init_tree(py::module_& m);
void init_transforms(py::module_& m);
void init_compile(py::module_& m);
void init_deferred(py::module_& m);
void init_state(py::module_& m);
void init_anomaly(py::module_& m);

}  // namespace adjoint::python
