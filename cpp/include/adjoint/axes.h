// Axes: those over which a function works. None given means all of them, an empty list none.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

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

}  // namespace adjoint
