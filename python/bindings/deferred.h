// Explanations of groups as Python sees them.
#pragma once

#include <vector>

#include "graph/explain.h"
#include "pytensor.h"

namespace adjoint::python {

struct Explanation {
  std::vector<ExplainedGroup> groups;
};

}  // namespace adjoint::python
