// The promotion lattice, computed rather than tabulated: a table of 121 entries would hide the
// four rules it follows.
#include "adjoint/dtype.h"

#include <algorithm>
#include <iterator>

namespace adjoint {

namespace {

DType signed_of_size(std::size_t bytes) {
  switch (bytes) {
    case 1: return DType::int8;
    case 2: return DType::int16;
    case 4: return DType::int32;
    default: return DType::int64;
  }
}

}  // namespace

std::optional<DType> dtype_from_name(std::string_view text) {
  const auto* it = std::ranges::find(kDTypes, text, &DTypeInfo::name);
  if (it == std::end(kDTypes)) return std::nullopt;
  return static_cast<DType>(it - std::begin(kDTypes));
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_bool(a)) return b;
  if (is_bool(b)) return a;
  if (is_floating(a) || is_floating(b)) {
    if (is_floating(a) && is_floating(b)) return DType::float64;
    return is_floating(a) ? a : b;
  }
  if (is_signed_integer(a) == is_signed_integer(b)) return itemsize(a) >= itemsize(b) ? a : b;
  const DType s = is_signed_integer(a) ? a : b;
  const DType u = is_signed_integer(a) ? b : a;
  if (itemsize(s) > itemsize(u)) return s;
  if (itemsize(u) == 8) return DType::float64;
  return signed_of_size(2 * itemsize(u));
}

DType promote_weak(DType t, WeakKind kind) {
  switch (kind) {
    case WeakKind::boolean: return t;
    case WeakKind::integer: return is_bool(t) ? DType::int64 : t;
    case WeakKind::floating: return floating_dtype(t);
  }
  return t;
}

}  // namespace adjoint
