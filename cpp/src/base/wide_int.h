// Integers of 128 bits, for sums and products of two of 64.
#pragma once

#include <algorithm>
#include <string>

namespace adjoint {

__extension__ using WideInt = __int128;

inline std::string to_string(WideInt v) {
  const bool negative = v < 0;
  std::string digits;
  do {
    const int digit = static_cast<int>(v % 10);
    digits += static_cast<char>('0' + (negative ? -digit : digit));
    v /= 10;
  } while (v != 0);
  if (negative) digits += '-';
  std::ranges::reverse(digits);
  return digits;
}

}  // namespace adjoint
