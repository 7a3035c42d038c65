// Entries along one axis, as x[...] needs them: errors speak of the axis that the user counted.
#pragma once

#include <cstdint>
#include <tuple>

#include "adjoint/tensor.h"
#include "graph/attributes.h"

namespace adjoint {

/// Of slice, put_slice and add_slice: an entry per axis each. A step of 0 leaves the axis, of which
/// one element is taken, out of the result.
struct SliceAttrs {
  Dims starts, counts, steps;

  static constexpr auto fields() {
    return std::tuple(field("starts", &SliceAttrs::starts), field("counts", &SliceAttrs::counts),
                      field("steps", &SliceAttrs::steps));
  }
};

/// Of take and of what puts entries back.
struct EntryAttrs {
  std::int64_t axis;
  std::int64_t named_axis;   // as the user counts it
  bool in_brackets = false;  // it stood in those of x[...]

  static constexpr auto fields() {
    return std::tuple(field("axis", &EntryAttrs::axis),
                      field("named_axis", &EntryAttrs::named_axis),
                      field("in_brackets", &EntryAttrs::in_brackets));
  }
};

/// The entries of x along `axis` that integers of any shape name.
Tensor take_entries(const Tensor& x, const Tensor& indices, std::int64_t axis,
                    std::int64_t named_axis);
/// x with those entries replaced; the last of equal indices stays.
Tensor put_entries(const Tensor& x, const Tensor& indices, const Tensor& value, std::int64_t axis,
                   std::int64_t named_axis);
/// x with the value added to those entries; equal indices add up.
Tensor add_entries(const Tensor& x, const Tensor& indices, const Tensor& value, std::int64_t axis,
                   std::int64_t named_axis);
/// x with the larger, or smaller, one of those entries and the values put there. A tie shares the
/// derivative equally among all that have the value.
Tensor extreme_entries(const Tensor& x, const Tensor& indices, const Tensor& value,
                       std::int64_t axis, std::int64_t named_axis, bool largest);
/// Indices as int64 in [0, extent), negative ones counted from the end. The others raise, when the
/// values are known: now, or as a step of a program.
Tensor wrap_indices(const Tensor& indices, std::int64_t extent, std::int64_t named_axis);

}  // namespace adjoint
