// What the kernel tests share: dtypes of C++ types, buffers at odd addresses, sample values and
// equality of results.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "kernels/table.h"

namespace kernels_support {

using adjoint::DType;

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bool>) return DType::boolean;
  if constexpr (std::is_same_v<T, std::int8_t>) return DType::int8;
  if constexpr (std::is_same_v<T, std::int16_t>) return DType::int16;
  if constexpr (std::is_same_v<T, std::int32_t>) return DType::int32;
  if constexpr (std::is_same_v<T, std::int64_t>) return DType::int64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return DType::uint8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return DType::uint16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return DType::uint32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return DType::uint64;
  if constexpr (std::is_same_v<T, float>) return DType::float32;
  return DType::float64;
}

template <class T>
using Limits = std::numeric_limits<T>;

template <class T>
constexpr bool is_float_type = std::is_floating_point_v<T>;

// Elements at an odd address, with guard bytes behind them.
template <class T>
class Odd {
 public:
  explicit Odd(std::size_t n) : bytes_(1 + n * sizeof(T) + guard, 0xA5), n_(n) {}
  explicit Odd(const std::vector<T>& items) : Odd(items.size()) {
    for (std::size_t i = 0; i < n_; ++i) set(i, items[i]);
  }
  void* data() { return bytes_.data() + 1; }
  const void* at(std::size_t i) const { return bytes_.data() + 1 + i * sizeof(T); }
  T operator[](std::size_t i) const {
    T value;
    std::memcpy(&value, at(i), sizeof value);
    return value;
  }
  // Inlined, g++ 12 imagines a size that wraps around and warns of it.
  [[gnu::noinline]] void set(std::size_t i, T value) {
    std::memcpy(bytes_.data() + 1 + i * sizeof(T), &value, sizeof value);
  }
  bool guard_intact() const {
    return std::all_of(bytes_.end() - guard, bytes_.end(), [](auto b) { return b == 0xA5; });
  }

 private:
  static constexpr std::ptrdiff_t guard = 64;
  std::vector<unsigned char> bytes_;
  std::size_t n_;
};

// Equal as results: the same value, zeros with their sign, nan as nan.
template <class T>
bool same(T a, T b) {
  if constexpr (is_float_type<T>) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
    return a == b && std::signbit(a) == std::signbit(b);
  }
  return a == b;
}

// Values at and around the edges of a type, followed by random ones.
template <class T>
std::vector<T> samples(std::size_t random_count = 40) {
  std::vector<T> v;
  std::mt19937_64 engine(7);
  if constexpr (std::is_same_v<T, bool>) {
    v = {false, true, true, false, false};
    for (std::size_t i = 0; i < random_count; ++i) v.push_back(engine() & 1);
  } else if constexpr (is_float_type<T>) {
    for (T x : {T(0),
                T(0.5),
                T(1),
                T(1.5),
                T(2),
                T(2.5),
                T(3),
                T(0.1),
                T(127.5),
                T(255),
                T(256),
                T(65535.9),
                T(2147483520),
                T(2147483648),
                T(4294967040),
                T(4294967296),
                T(9.2e18),
                T(9223372036854775808.0),
                T(18446744073709551616.0),
                Limits<T>::max(),
                Limits<T>::min(),
                Limits<T>::denorm_min(),
                Limits<T>::infinity()}) {
      v.push_back(x);
      v.push_back(-x);
    }
    v.push_back(Limits<T>::quiet_NaN());
    std::uniform_real_distribution<T> uniform(-10, 10);
    for (std::size_t i = 0; i < random_count; ++i) v.push_back(uniform(engine));
  } else {
    for (int x : {0, 1, 2, 3, 5, 7, 8, 31, 32, 63, 64, 100}) {
      v.push_back(static_cast<T>(x));
      v.push_back(static_cast<T>(-x));
      v.push_back(static_cast<T>(Limits<T>::min() + x));
      v.push_back(static_cast<T>(Limits<T>::max() - x));
    }
    for (std::size_t i = 0; i < random_count; ++i)
      v.push_back(static_cast<T>(engine() >> (i % 3 == 0 ? 57 : 0)));
  }
  return v;
}

#define ALL_INTEGERS                                                                  \
  std::int8_t, std::int16_t, std::int32_t, std::int64_t, std::uint8_t, std::uint16_t, \
      std::uint32_t, std::uint64_t

}  // namespace kernels_support
