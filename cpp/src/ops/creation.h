// Evenly spaced integers, exact for every integer dtype: bounds of 65 bits, as an interval of
// unsigned ones ends at 2^64.
#pragma once

#include "adjoint/ops.h"
#include "base/wide_int.h"

namespace adjoint {

/// Bounds beyond this are refused.
inline constexpr WideInt kWideLimit = static_cast<WideInt>(1) << 65;

Tensor arange_exact(WideInt start, WideInt stop, WideInt step, DType dtype);
/// `num` integers from start to stop; what lies between two of them is rounded down.
Tensor linspace_exact(WideInt start, WideInt stop, std::int64_t num, bool endpoint, DType dtype);

}  // namespace adjoint
