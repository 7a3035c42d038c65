// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011): a block of four words is a function of a counter and a
// key, so any part of a stream can be computed by any thread.
#pragma once

#include <array>
#include <cstdint>

namespace adjoint::kernels {

using PhiloxBlock = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

PhiloxBlock philox4x32_10(PhiloxBlock counter, PhiloxKey key) noexcept;

/// Blocks [first, first + n) of the stream of `key` into `out`, four words each. The number of a
/// block is the low half of its counter; the high half is 0.
void philox_fill(std::uint64_t key, std::uint64_t first, std::int64_t n,
                 std::uint32_t* out) noexcept;

}  // namespace adjoint::kernels
