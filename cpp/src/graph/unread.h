// Operands that no rule will ask for, so that `y + 1.0` does not keep the 1.0. A drawing of the
// record still tells the number: it is noted where a third edge would be.
#pragma once

#include "adjoint/tensor.h"
#include "graph/node.h"

namespace adjoint {

/// Whether this stands in for an operand that was not kept.
bool is_unread(const Node* n) noexcept;
/// The number that was operand i of a recorded application; undefined where it was not noted, as of
/// three operands and inside of transforms.
Tensor unread_number(const Node* application, std::size_t i);

}  // namespace adjoint
