// Reading and replacing parts of a tensor: x[...] with what NumPy lets stand between the brackets.
//
//   index(x, {Slice(0, 2), Ellipsis, 3, NewAxis, rows})
//
// Integers, slices, `Ellipsis` and `NewAxis` choose a view. Integer tensors choose entries, with
// their broadcast shape in place of the axes that they stand for; bool tensors stand for as many
// axes as they have and choose where they are true. An index out of range raises in every mode,
// inside batches and compiled programs too.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "adjoint/error.h"
#include "adjoint/tensor.h"

namespace adjoint {

/// Elements start, start + step, ... before stop. Negative bounds count from the end; what is left
/// out reaches to it.
struct Slice {
  using Bound = std::optional<std::int64_t>;
  Slice(Bound start = {}, Bound stop = {}, Bound step = {})
      : step(step.value_or(1)), start(start.value_or(first())), stop(stop.value_or(last())) {}

  std::int64_t step;
  std::int64_t start;
  std::int64_t stop;

 private:
  static constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  std::int64_t first() const noexcept { return step < 0 ? kFar : 0; }
  std::int64_t last() const noexcept { return step < 0 ? -kFar - 1 : kFar; }
};

/// All axes that no other item stands for.
inline constexpr struct EllipsisItem {
} Ellipsis;
/// A new axis of length one.
inline constexpr struct NewAxisItem {
} NewAxis;

/// One item between the brackets.
struct IndexItem {
  enum Kind : std::uint8_t { integer, slice, ellipsis, new_axis, array } kind = slice;
  std::int64_t start = 0;  // integer: the position
  std::int64_t stop = std::numeric_limits<std::int64_t>::max();
  std::int64_t step = 1;
  Tensor tensor;  // array: integers, or bools that mask

  /// A whole axis.
  IndexItem() = default;
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  IndexItem(T i) : kind(integer), start(static_cast<std::int64_t>(i)) {
    if (!std::in_range<std::int64_t>(i))
      raise(ErrorKind::index, "index",
            "index " + std::to_string(i) + " is out of range for every axis");
  }
  /// A mask of no axis: a new axis that has one entry, or none.
  template <std::same_as<bool> T>
  IndexItem(T mask) : IndexItem(Tensor::scalar(static_cast<std::int64_t>(mask), DType::boolean)) {}
  IndexItem(const Slice& s) : start(s.start), stop(s.stop), step(s.step) {}
  IndexItem(EllipsisItem) : kind(ellipsis) {}
  IndexItem(NewAxisItem) : kind(new_axis) {}
  IndexItem(Tensor t) : kind(array), tensor(std::move(t)) {}
};

using IndexKey = std::span<const IndexItem>;

/// Entries along one axis: an integer, a slice, or a tensor of integers or of bools that mask.
struct Places {
  template <class Item>
    requires std::constructible_from<IndexItem, Item>
  Places(Item&& i)  // NOLINT(google-explicit-constructor): one item is a key
      : item(std::forward<Item>(i)) {}
  IndexItem item;
};

/// x[key].
Tensor index(const Tensor& x, IndexKey key);
Tensor index(const Tensor& x, std::initializer_list<IndexItem> key);

/// x with the part that the key names replaced by `value`, which broadcasts; of equal indices the
/// last one stays. Bit 0 of `donate`: the caller's handle on x is given up.
Tensor index_put(const Tensor& x, IndexKey key, const Tensor& value, std::uint32_t donate = 0);
Tensor index_put(const Tensor& x, std::initializer_list<IndexItem> key, const Tensor& value);
/// The number takes the dtype of x; one that an integer dtype does not hold raises.
Tensor index_put(const Tensor& x, std::initializer_list<IndexItem> key, double value);

/// How the entries that a key names are combined with values.
enum class IndexUpdate : std::uint8_t { add, multiply, divide, power, maximum, minimum };

/// x with those entries combined with `value`, which broadcasts. Equal indices count each: sums and
/// products of all their values, the largest, the smallest. A tie in these shares the derivative
/// equally.
Tensor index_update(const Tensor& x, IndexKey key, IndexUpdate how, const Tensor& value);

}  // namespace adjoint
