// Python functions that the graph keeps.
#pragma once

#include <utility>

#include "graph/holdings.h"
#include "pytensor.h"

namespace adjoint::python {

/// A Python object that may outlive the interpreter, and that any thread may drop.
class Callback {
 public:
  explicit Callback(py::object f) : f_(std::move(f)) {}
  ~Callback() {
    if (!Py_IsInitialized()) {
      f_.release();
      return;
    }
    const HostLockScope lock;
    Py_XDECREF(f_.release().ptr());
  }
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  const py::object& operator*() const noexcept { return f_; }
  void list(Holdings& out) const { out.add_object(f_.ptr()); }

 private:
  py::object f_;
};

}  // namespace adjoint::python
