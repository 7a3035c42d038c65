// Python functions made from records: built-in functions with a real name, signature and docstring,
// entered without an argument tuple.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "convert.h"
#include "graph/op.h"

namespace adjoint::python {

/// The arguments of one call, matched to the names of a signature.
class Arguments {
 public:
  static constexpr int kMax = 10;

  /// `names` in order; the first `positional_only` cannot be given by name, those from
  /// `keyword_only` on only by name.
  struct Signature {
    const char* op;
    std::span<const char* const> names;
    int required;
    int positional_only;
    int keyword_only;
    int device;  // the parameter of this name, or -1
  };
  Arguments(const Signature& signature, PyObject* const* args, std::size_t nargs,
            PyObject* kwnames);

  PyObject* operator[](int i) const noexcept { return values_[i]; }  // null when left out
  bool given(int i) const noexcept { return values_[i] && values_[i] != Py_None; }
  const char* op() const noexcept { return signature_.op; }

  Tensor tensor(int i) const { return tensor_argument(values_[i], signature_.op); }
  std::vector<Tensor> tensors(int i) const;
  Dims dims(int i) const {
    return dims_argument(values_[i], signature_.op, signature_.names[static_cast<size_t>(i)]);
  }
  std::int64_t integer(int i) const {
    return int_argument(values_[i], signature_.op, signature_.names[static_cast<size_t>(i)]);
  }
  double number(int i) const {
    return number_argument(values_[i], signature_.op, signature_.names[static_cast<size_t>(i)]);
  }
  bool flag(int i, bool otherwise) const {
    if (!values_[i]) return otherwise;
    return flag_argument(values_[i], signature_.op, signature_.names[static_cast<size_t>(i)]);
  }
  std::optional<DType> dtype(int i) const { return optional_dtype(values_[i], signature_.op); }
  /// None: every axis.
  Dims axes(int i, int ndim) const;

 private:
  Signature signature_;
  PyObject* values_[kMax] = {};
};

/// A function of the module that takes Python objects as they are, optionally also a method of
/// Tensor. All others come from the records of the library (graph/function.h).
using FunctionBody = PyObject* (*)(const Arguments&);
void add_function(py::module_& m, const char* name, const char* signature, const char* doc,
                  FunctionBody body, bool method = false);
/// A built-in function of a module that calls another one; `doc` begins with the signature.
void show_as_builtin(const py::handle& home, const std::string& package, const char* name,
                     const char* doc, py::object target);

}  // namespace adjoint::python
