// Which instruction-set levels this processor and operating system can run. The kernels are
// compiled once per level; this decides which of the copies may be called.
#pragma once

#include <cstdint>
#include <string_view>

namespace adjoint {

enum class IsaLevel : std::uint8_t { baseline, v3, v4, neon };

/// Whether code compiled for the level runs here. Tests the single features, not the level's
/// name, which not every compiler knows.
bool cpu_supports(IsaLevel level);

/// The value of ADJOINT_ISA that selects the level: "baseline", "v3", "v4", "neon".
std::string_view short_name(IsaLevel level);

/// The name shown to users: "baseline", "x86-64-v3", "x86-64-v4", "neon".
std::string_view long_name(IsaLevel level);

}  // namespace adjoint
