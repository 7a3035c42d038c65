// Where in the user's program an operation is applied; asked only while tracing.
#pragma once

#include <string>
#include <unordered_map>

#include "pytensor.h"

namespace adjoint::python {

class SourceLines {
 public:
  /// "file:line" of the innermost frame outside of this package; null without one. Equal places
  /// are one string, which lives as long as this object.
  const std::string* current();

 private:
  struct Code {
    py::object object;  // keeps the key alive
    std::string file;   // empty inside of the package
    std::unordered_map<int, std::string> lines;
  };
  std::unordered_map<PyObject*, Code> codes_;
};

}  // namespace adjoint::python
