// Data types of tensors and the promotion rules between them. Promotion follows the Python
// Array API standard; what the standard leaves open is settled as in `promote` below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace adjoint {

/// Element type. The order is part of the serialised form and never changes.
enum class DType : std::uint8_t {
  boolean,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float32,
  float64,
};

inline constexpr int kDTypeCount = 11;

/// Bytes per element.
constexpr std::size_t itemsize(DType t) {
  constexpr std::uint8_t sizes[kDTypeCount] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8};
  return sizes[static_cast<int>(t)];
}

constexpr bool is_floating(DType t) { return t == DType::float32 || t == DType::float64; }
constexpr bool is_bool(DType t) { return t == DType::boolean; }
constexpr bool is_signed_integer(DType t) { return t >= DType::int8 && t <= DType::int64; }
constexpr bool is_unsigned_integer(DType t) { return t >= DType::uint8 && t <= DType::uint64; }
constexpr bool is_integer(DType t) { return t >= DType::int8 && t <= DType::uint64; }

/// The Array API name: "bool", "int8", ..., "float64".
std::string_view name(DType t);

/// The type with this Array API name, or nothing.
std::optional<DType> dtype_from_name(std::string_view text);

/// The type two strong operands meet in. Mixed kinds beyond the standard: an integer tensor with
/// float32 gives float32; int64 with uint64 gives float64; bool gives way to everything.
DType promote(DType a, DType b);

/// Kind of a Python scalar, which is weak: it takes the type of the tensor it meets.
enum class WeakKind : std::uint8_t { boolean, integer, floating };

/// The type in which a tensor of type `t` meets a weak scalar: int with float gives float64,
/// bool with int gives int64.
DType promote_weak(DType t, WeakKind kind);

}  // namespace adjoint
