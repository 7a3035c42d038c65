// The ten rounds, one block at a time and for a stretch of consecutive blocks.
#include "kernels/philox.h"

namespace adjoint::kernels {

namespace {

constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
constexpr std::uint32_t kWeyl1 = 0xBB67AE85;

}  // namespace

PhiloxBlock philox4x32_10(PhiloxBlock c, PhiloxKey key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = kMultiplier0 * c[0];
    const std::uint64_t b = kMultiplier1 * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return c;
}

void philox_fill(std::uint64_t key, std::uint64_t first, std::int64_t n,
                 std::uint32_t* out) noexcept {
  const PhiloxKey words{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint64_t number = first + static_cast<std::uint64_t>(i);
    const PhiloxBlock block = philox4x32_10(
        {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), 0, 0},
        words);
    for (int w = 0; w < 4; ++w) out[4 * i + w] = block[w];
  }
}

}  // namespace adjoint::kernels
