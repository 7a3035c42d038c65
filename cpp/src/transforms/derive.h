// The derivative rules of a record in the two forms that the transforms use.
#pragma once

#include <span>
#include <string>

#include "adjoint/tensor.h"
#include "graph/op.h"

namespace adjoint {

/// Cotangent of input i, of that input's shape; undefined when it is zero. `spent`: the caller has
/// no more use for the cotangent, so the result may be made in its memory.
Tensor input_cotangent(const RuleArgs& args, int i, Tensor& cotangent, bool spent);

/// Tangent of the output for these tangents of the inputs (undefined: zero), of the output's
/// shape; undefined when it is zero.
Tensor output_tangent(const RuleArgs& args, std::span<const Tensor> tangents);

/// "the derivative of `sqrt`".
std::string derivative_of(const Op& op);

}  // namespace adjoint
