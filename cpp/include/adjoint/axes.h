// What parameters of functions hold that are no plain numbers. Axes: those over which a function
// works. None given means all of them, an empty list none.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "adjoint/tensor.h"

namespace adjoint {

class Axes {
 public:
  /// All of them.
  Axes() = default;
  template <std::integral I>
  Axes(I axis)  // NOLINT(google-explicit-constructor): one axis is a list of one
      : axes_(std::in_place, 1, static_cast<std::int64_t>(axis)) {}
  Axes(std::initializer_list<std::int64_t> axes) : axes_(axes) {}
  template <std::convertible_to<std::span<const std::int64_t>> List>
  Axes(const List& axes)  // NOLINT(google-explicit-constructor)
      : Axes(std::span<const std::int64_t>(axes), 0) {}

  bool all() const noexcept { return !axes_; }
  /// As given; only where not all are meant.
  std::span<const std::int64_t> given() const { return *axes_; }

 private:
  Axes(std::span<const std::int64_t> axes, int) : axes_(std::in_place, axes.begin(), axes.end()) {}
  std::optional<std::vector<std::int64_t>> axes_;
};

/// Axes of two tensors over which products are summed: the last n of one with the first n of the
/// other, or lists in the same order.
class AxisPairs {
 public:
  template <std::integral I>
  AxisPairs(I n)  // NOLINT(google-explicit-constructor)
      : count_(static_cast<std::int64_t>(n)) {}
  AxisPairs(std::vector<std::int64_t> first, std::vector<std::int64_t> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  /// Undefined where lists are given.
  std::optional<std::int64_t> count() const noexcept { return count_; }
  std::span<const std::int64_t> first() const noexcept { return first_; }
  std::span<const std::int64_t> second() const noexcept { return second_; }

 private:
  std::optional<std::int64_t> count_;
  std::vector<std::int64_t> first_, second_;
};

/// Integers or other numbers, in a scalar or any shape, that are looked at where they are given: in
/// Python a number or a list keeps its value where a program is recorded.
struct Known {
  Known(Tensor t) : value(std::move(t)) {}  // NOLINT(google-explicit-constructor)
  template <std::integral I>
  Known(I n)  // NOLINT(google-explicit-constructor)
      : value(Tensor::scalar(static_cast<std::int64_t>(n), DType::int64)) {}
  Tensor value;
};

}  // namespace adjoint
