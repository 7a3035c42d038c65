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

enum class DTypeKind : std::uint8_t { boolean, signed_integer, unsigned_integer, floating };

/// What is known of an element type: one row of a table.
struct DTypeInfo {
  std::string_view name;  // of the Array API: "bool", "int8", ..., "float64"
  DTypeKind kind;
  std::uint8_t size;    // bytes per element
  bool differentiable;  // values of it have derivatives
  DType floating;       // in which functions such as exp compute it
  DType real;           // of its absolute values
};

// clang-format off
inline constexpr DTypeInfo kDTypes[kDTypeCount] = {
    {"bool",    DTypeKind::boolean,          1, false, DType::float64, DType::boolean},
    {"int8",    DTypeKind::signed_integer,   1, false, DType::float64, DType::int8},
    {"int16",   DTypeKind::signed_integer,   2, false, DType::float64, DType::int16},
    {"int32",   DTypeKind::signed_integer,   4, false, DType::float64, DType::int32},
    {"int64",   DTypeKind::signed_integer,   8, false, DType::float64, DType::int64},
    {"uint8",   DTypeKind::unsigned_integer, 1, false, DType::float64, DType::uint8},
    {"uint16",  DTypeKind::unsigned_integer, 2, false, DType::float64, DType::uint16},
    {"uint32",  DTypeKind::unsigned_integer, 4, false, DType::float64, DType::uint32},
    {"uint64",  DTypeKind::unsigned_integer, 8, false, DType::float64, DType::uint64},
    {"float32", DTypeKind::floating,         4, true,  DType::float32, DType::float32},
    {"float64", DTypeKind::floating,         8, true,  DType::float64, DType::float64},
};
// clang-format on

constexpr const DTypeInfo& info(DType t) { return kDTypes[static_cast<int>(t)]; }

constexpr std::size_t itemsize(DType t) { return info(t).size; }
constexpr std::string_view name(DType t) { return info(t).name; }
/// Whether values have derivatives: not the same question as whether they are real floats.
constexpr bool is_differentiable(DType t) { return info(t).differentiable; }
/// The type in which functions that leave the integers compute.
constexpr DType floating_dtype(DType t) { return info(t).floating; }

constexpr bool is_floating(DType t) { return info(t).kind == DTypeKind::floating; }
constexpr bool is_bool(DType t) { return info(t).kind == DTypeKind::boolean; }
constexpr bool is_signed_integer(DType t) { return info(t).kind == DTypeKind::signed_integer; }
constexpr bool is_unsigned_integer(DType t) { return info(t).kind == DTypeKind::unsigned_integer; }
constexpr bool is_integer(DType t) { return is_signed_integer(t) || is_unsigned_integer(t); }

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
