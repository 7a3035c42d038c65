// The derivative rules of a record in the two forms that the transforms use.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "adjoint/tensor.h"
#include "graph/op.h"

namespace adjoint {

/// Cotangent of input i, of that input's shape; undefined when it is zero. `spent`: the caller has
/// no more use for the cotangent, so the result may be made in its memory.
Tensor input_cotangent(const RuleArgs& args, int i, Tensor& cotangent, bool spent);

/// Cotangents of all inputs at once, by a rule that serves them so; undefined where zero.
std::vector<Tensor> input_cotangents(const RuleArgs& args, std::span<const Tensor> cotangents);

/// Tangent of the output for these tangents of the inputs (undefined: zero), of the output's
/// shape; undefined when it is zero.
Tensor output_tangent(const RuleArgs& args, std::span<const Tensor> tangents);

/// The same of all outputs, for operations with a `pull` rule.
std::vector<Tensor> output_tangents(const RuleArgs& args, std::span<const Tensor> tangents);

/// Stands for the only output where there may be several.
const Tensor& no_tensor();

/// "the derivative of `sqrt`".
std::string derivative_of(const Op& op);

}  // namespace adjoint
