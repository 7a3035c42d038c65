// A choice and loops as functions of lists, in every transform. Where values are known they run as
// they would without; inside a trace each function is traced once, and one call runs it. The
// derivative and the batch of a call are calls of the same kind, on derivatives and batches of the
// graphs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "adjoint/compile.h"
#include "adjoint/tensor.h"

namespace adjoint {

/// `if_true` or `if_false` of the operands, for a predicate inside a trace.
std::vector<Tensor> traced_cond(const Tensor& pred, const ListFunction& if_true,
                                const ListFunction& if_false, std::span<const Tensor> operands);

/// As `scan`, inside a trace.
std::vector<Tensor> traced_scan(const ListFunction& step, std::span<const Tensor> carry,
                                std::span<const Tensor> rows, std::int64_t length, bool reverse);

/// As `while_loop`, inside a trace; `limit` is negative without a bound.
std::vector<Tensor> traced_while(const ListFunction& condition, const ListFunction& step,
                                 std::span<const Tensor> carry, std::int64_t limit);

}  // namespace adjoint
