// NodeNumbers: the numbers that one walk over the graph gives to the nodes it meets. They are the
// walk's, not the nodes', so that any number of walks may go on at the same time, on threads and
// inside of each other.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>

#include "graph/node.h"

namespace adjoint {

/// A hash table with open addressing. The walk keeps the nodes alive.
class NodeNumbers {
 public:
  NodeNumbers() = default;
  NodeNumbers(const NodeNumbers&) = delete;
  NodeNumbers& operator=(const NodeNumbers&) = delete;

  /// 0 for a node without a number.
  std::uint32_t find(const Node* n) const noexcept {
    for (std::size_t i = first(n);; i = (i + 1) & mask_)
      if (entries_[i].node == n || !entries_[i].node) return entries_[i].number;
  }
  /// The number of `n`, which is given one, 0, if it has none. Valid until the next call.
  std::uint32_t& operator[](const Node* n) {
    if (2 * count_ > mask_) grow();
    std::size_t i = first(n);
    for (; entries_[i].node != n; i = (i + 1) & mask_) {
      if (entries_[i].node) continue;
      entries_[i].node = n;
      ++count_;
      break;
    }
    return entries_[i].number;
  }

 private:
  static constexpr std::size_t kLocal = 64;
  struct Entry {
    const Node* node = nullptr;
    std::uint32_t number = 0;
  };

  /// Nodes lie apart by multiples of 64 bytes; neighbours get neighbouring entries.
  std::size_t first(const Node* n) const noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(n) / 64;
    return (at ^ at >> 12) & mask_;
  }
  void grow() {
    const Entry* old = entries_;
    const std::size_t old_size = mask_ + 1;
    auto larger = std::make_unique<Entry[]>(4 * old_size);
    entries_ = larger.get();
    mask_ = 4 * old_size - 1;
    for (std::size_t i = 0; i < old_size; ++i) {
      if (!old[i].node) continue;
      std::size_t at = first(old[i].node);
      while (entries_[at].node) at = (at + 1) & mask_;
      entries_[at] = old[i];
    }
    heap_ = std::move(larger);
  }

  Entry local_[kLocal];
  std::unique_ptr<Entry[]> heap_;
  Entry* entries_ = local_;
  std::size_t mask_ = kLocal - 1;
  std::size_t count_ = 0;
};

}  // namespace adjoint
