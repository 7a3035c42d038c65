// What an index means: x[key] and its replacement, as operations.
//
// Integers, slices and new axes are one strided view, the strided part. Each array of the key
// stands for neighbouring axes of that part, seen as one. When there are several, their axes are
// brought together and merged, and so are the indices, each checked against its own axis before.
// Then the entries along one axis are taken or put, and the axes of the result go where the key has
// them: in the place of the arrays when nothing stands between these, else first.
#include "adjoint/index.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "adjoint/ops.h"
#include "graph/apply.h"
#include "ops/indexing.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

/// An array of the key.
struct IndexArray {
  Tensor given;         // integers, or a mask
  int axes;             // it stands for, in x and in the strided part
  int axis;             // the first of them in x
  int part_axis;        // and in the strided part
  std::int64_t extent;  // product of their lengths
  bool is_mask() const { return is_bool(given.dtype()); }
};

/// A key read against a shape.
struct Selection {
  // The strided part: one entry per axis of x, a step of 0 where an integer stands.
  Dims starts, counts, steps;
  bool whole = true;  // nothing is left out or reversed
  Dims part;          // shape of the part
  // The result. Without arrays, `extents` is its shape; with them, their broadcast shape goes in at
  // `place`, and `rest_before` of the part's other axes stand before it.
  Dims extents;
  std::vector<IndexArray> arrays;
  std::size_t place = 0;
  std::int64_t rest_before = 0;
};

[[noreturn]] void raise_mask_shape(const Tensor& mask, Layout::Extents shape, int axis) {
  raise(ErrorKind::index, "index",
        "a mask must have the shape of what it masks: mask of shape " + to_string(mask.shape()) +
            " from axis " + std::to_string(axis) + " on, tensor of shape " + to_string(shape));
}

/// How many axes of x an item stands for; the ellipsis is not asked.
int axes_of(const IndexItem& item) {
  switch (item.kind) {
    case IndexItem::integer:
    case IndexItem::slice: return 1;
    case IndexItem::array: return is_bool(item.tensor.dtype()) ? item.tensor.ndim() : 1;
    case IndexItem::ellipsis:
    case IndexItem::new_axis: break;
  }
  return 0;
}

class KeyReader {
 public:
  explicit KeyReader(Layout::Extents shape) : shape_(shape) {}

  Selection read(IndexKey key) && {
    const int left = axes_left(key);
    for (const IndexItem& item : key) {
      note_neighbours(item.kind == IndexItem::integer || item.kind == IndexItem::array);
      switch (item.kind) {
        case IndexItem::integer: add_integer(item.start); break;
        case IndexItem::slice: add_slice(item); break;
        case IndexItem::ellipsis: add_whole(left); break;
        case IndexItem::new_axis: out_.extents.push_back(1); break;
        case IndexItem::array: add_array(item.tensor); break;
      }
    }
    add_whole(static_cast<int>(shape_.size()) - axis_);
    return std::move(out_);
  }

 private:
  /// The axes that an ellipsis stands for.
  int axes_left(IndexKey key) const {
    int used = 0;
    bool ellipsis = false;
    for (const IndexItem& item : key) {
      if (item.kind == IndexItem::ellipsis && std::exchange(ellipsis, true))
        raise(ErrorKind::index, "index", "more than one ... in the index");
      if (item.kind == IndexItem::array && !is_integer(item.tensor.dtype()) &&
          !is_bool(item.tensor.dtype()))
        raise(ErrorKind::type, "index",
              "an index array must be integer or bool, not " +
                  std::string(name(item.tensor.dtype())) + ": use astype(i, int64)");
      used += axes_of(item);
    }
    if (used > static_cast<int>(shape_.size()))
      raise(ErrorKind::index, "index",
            "too many indices: " + std::to_string(used) + " for shape " + to_string(shape_));
    return static_cast<int>(shape_.size()) - used;
  }

  /// Arrays and integers are neighbours when nothing else stands between them, be it an ellipsis
  /// for no axis.
  void note_neighbours(bool chooses) {
    if (!chooses) {
      after_ |= begun_;
    } else if (!std::exchange(begun_, true)) {
      out_.place = out_.extents.size();
      out_.rest_before = rest_;
    } else if (after_) {
      out_.place = 0;
      out_.rest_before = 0;
    }
  }

  void add_strided(std::int64_t start, std::int64_t count, std::int64_t step) {
    const std::int64_t n = shape_[axis_++];
    out_.starts.push_back(start);
    out_.counts.push_back(count);
    out_.steps.push_back(step);
    out_.whole &= start == 0 && count == n && step == 1;
    if (step != 0) out_.part.push_back(count);
  }

  void add_integer(std::int64_t i) {
    const std::int64_t n = shape_[axis_];
    if (i < -n || i >= n)
      raise(ErrorKind::index, "index",
            "index " + std::to_string(i) + " is out of range for axis " + std::to_string(axis_) +
                " of length " + std::to_string(n));
    add_strided(i < 0 ? i + n : i, 1, 0);
  }

  void add_slice(const IndexItem& item) {
    const std::int64_t n = shape_[axis_];
    if (item.step == 0) raise(ErrorKind::value, "index", "the step of a slice must not be 0");
    const bool forward = item.step > 0;
    const auto bound = [&](std::int64_t at) {
      if (at < 0) at += n;
      return forward ? std::clamp<std::int64_t>(at, 0, n) : std::clamp<std::int64_t>(at, -1, n - 1);
    };
    const std::int64_t start = bound(item.start);
    const std::int64_t room = forward ? bound(item.stop) - start : start - bound(item.stop);
    // The step may be the least of its type.
    const std::uint64_t step =
        forward ? static_cast<std::uint64_t>(item.step) : -static_cast<std::uint64_t>(item.step);
    const std::int64_t count =
        room > 0 ? 1 + static_cast<std::int64_t>(static_cast<std::uint64_t>(room - 1) / step) : 0;
    add_rest(count > 0 ? start : 0, count, count > 1 ? item.step : 1);
  }

  void add_whole(int axes) {
    for (int i = 0; i < axes; ++i) add_rest(0, shape_[axis_], 1);
  }

  void add_rest(std::int64_t start, std::int64_t count, std::int64_t step) {
    add_strided(start, count, step);
    out_.extents.push_back(count);
    ++rest_;
  }

  void add_array(const Tensor& given) {
    IndexArray a{given, is_bool(given.dtype()) ? given.ndim() : 1, axis_,
                 static_cast<int>(out_.part.size()), 1};
    bool empty =
        false;  // a mask with an axis of length 0 fits any length there, and chooses nothing
    for (int i = 0; i < a.axes; ++i) {
      const std::int64_t n = shape_[axis_];
      if (a.is_mask() && given.shape()[i] != n) {
        if (given.shape()[i] != 0) raise_mask_shape(given, shape_, a.axis);
        empty = true;
      }
      a.extent *= n;
      add_strided(0, n, 1);
    }
    if (empty)
      a.given = zeros_of(
          shape_.subspan(static_cast<std::size_t>(a.axis), static_cast<std::size_t>(a.axes)),
          DType::boolean);
    out_.arrays.push_back(std::move(a));
  }

  Layout::Extents shape_;
  Selection out_;
  int axis_ = 0;           // of x, to be read next
  std::int64_t rest_ = 0;  // axes of the part so far that no array stands for
  bool begun_ = false;     // an array or integer was read
  bool after_ = false;     // and something else after it
};

Tensor reshaped(const Tensor& x, const Dims& shape) {
  return std::ranges::equal(x.shape(), shape) ? x : reshape(x, shape);
}

/// No axes: as they are.
Tensor permuted(const Tensor& x, const Dims& axes) {
  return axes.empty() ? x : permute_dims(x, axes);
}

Tensor strided_part(const Tensor& x, const Selection& s) {
  return s.whole ? x : slice(x, s.starts, s.counts, s.steps);
}

// -------------------------------------------------------------------------------------- arrays

Tensor integer(std::int64_t value) { return Tensor::scalar(value, DType::int64); }

/// Whether the value is below duals only.
bool is_known(const Node* n) {
  while (n->box == Box::dual) n = n->boxed.primal;
  return n->level == 0;
}

/// The positions, among all elements, where a mask is true.
Tensor positions_of(const Tensor& given) {
  if (given.ndim() > 0 && !is_known(given.node()))
    raise(ErrorKind::traced, "index by a mask",
          "a mask decides how many elements there are, and inside vmap and compile the values of a "
          "tensor are not known: use a NumPy array of bools as a constant mask, or choose by "
          "ad.where(mask, x, other)");
  const Tensor mask = contiguous(known_value(given.node(), "index by a mask").node());
  const auto* bits = static_cast<const std::uint8_t*>(mask.node()->data());
  const std::int64_t hits = mask.size() - std::count(bits, bits + mask.size(), 0);
  Tensor out = Tensor::adopt(new_array(DType::int64, Dims{hits}, "index"));
  auto* to = static_cast<std::int64_t*>(out.node()->data());
  for (std::int64_t i = 0; i < mask.size(); ++i)
    if (bits[i] != 0) *to++ = i;
  return out;
}

/// The broadcast shape of the arrays' indices.
Dims common_shape(std::span<const Tensor> indices) {
  Dims shape;
  for (const Tensor& i : indices) {
    const auto own = i.shape();
    if (own.size() > shape.size()) {
      Dims wider(own.size() - shape.size(), 1);
      wider.append(shape.data(), shape.size());
      shape = wider;
    }
    for (std::size_t k = 0; k < own.size(); ++k) {
      std::int64_t& extent = shape[shape.size() - own.size() + k];
      if (extent == 1) extent = own[k];
      if (own[k] != 1 && own[k] != extent) {
        std::string text;
        for (const Tensor& t : indices)
          text += (text.empty() ? "" : " and ") + to_string(t.shape());
        raise(ErrorKind::index, "index", "the index arrays do not broadcast: shapes " + text);
      }
    }
  }
  return shape;
}

/// How the entries are reached: the strided part in another order of axes, some of them merged.
struct Gather {
  Dims order;          // axes of the part, empty when they stay
  Dims split, merged;  // its shape then, before and after merging
  std::int64_t axis;   // the merged one
  int named_axis;      // in x, for errors
  Tensor indices;      // along it
  Dims back;           // axes of the entries as the result has them, empty when they stay
  Dims placed;         // shape of the entries then
  Dims result;         // the same with the new axes
};

/// One index tensor for all arrays. With several, each is checked here and now, or by a step of its
/// own, since the merged axis does not tell which was out of range. So are known indices into what
/// is not known yet: the error belongs to the caller's line.
Tensor merged_indices(const Selection& s, bool boxed) {
  std::vector<Tensor> each;
  for (const IndexArray& a : s.arrays)
    each.push_back(a.is_mask() ? positions_of(a.given) : a.given);
  const Dims shape = common_shape(each);
  if (product(shape) == 0) {  // as in NumPy, only single integers are looked at
    Tensor none = zeros(shape, DType::int64);
    for (const IndexArray& a : s.arrays)
      if (!a.is_mask() && a.given.ndim() == 0)
        none = add(none, wrap_indices(a.given, a.extent, a.axis));
    return none;
  }
  Tensor all;
  for (std::size_t j = 0; j < each.size(); ++j) {
    const IndexArray& a = s.arrays[j];
    if (a.axes == 0) continue;
    Tensor i = each[j];
    if (!a.is_mask() && (each.size() > 1 || (boxed && i.node()->level == 0)))
      i = wrap_indices(i, a.extent, a.axis);
    all = all.defined() ? add(multiply(all, integer(a.extent)), i) : i;
  }
  if (!all.defined()) return zeros(shape, DType::int64);
  return std::ranges::equal(all.shape(), shape) ? all : broadcast_to(all, shape);
}

/// Brings the axes under arrays together: where they are when they are neighbours, else in front.
void merge_axes(Gather& g, const Selection& s) {
  Dims under;
  std::int64_t extent = 1;
  for (const IndexArray& a : s.arrays) {
    for (int k = 0; k < a.axes; ++k) under.push_back(a.part_axis + k);
    extent *= a.extent;
  }
  const auto n = static_cast<std::int64_t>(s.part.size());
  const auto m = static_cast<std::int64_t>(under.size());
  if (m == 0) {
    g.axis = s.rest_before;
  } else if (under.back() - under[0] + 1 == m) {
    g.axis = under[0];
  } else {
    g.axis = 0;
    g.order = under;
    for (std::int64_t k = 0; k < n; ++k)
      if (std::ranges::find(under, k) == under.end()) g.order.push_back(k);
  }
  for (std::int64_t k = 0; k < n; ++k)
    g.split.push_back(s.part[static_cast<std::size_t>(g.order.empty() ? k : g.order[k])]);
  g.merged = Dims(Layout::Extents(g.split).first(g.axis));
  g.merged.push_back(extent);
  g.merged.append(g.split.data() + g.axis + m, g.split.size() - g.axis - m);
}

/// Where the axes of the indices stand among the others.
void place_axes(Gather& g, const Selection& s) {
  const auto shape = g.indices.shape();
  const auto k = static_cast<std::int64_t>(shape.size());
  Dims rest(g.merged);
  rest.erase(static_cast<std::size_t>(g.axis));
  if (s.rest_before != g.axis) {  // then they stand first
    for (std::int64_t a = 0; a < k; ++a) g.back.push_back(g.axis + a);
    for (std::int64_t a = 0; a < g.axis; ++a) g.back.push_back(a);
    for (auto a = g.axis; a < static_cast<std::int64_t>(rest.size()); ++a) g.back.push_back(a + k);
  }
  const auto with_indices = [&](const Dims& others, std::size_t at) {
    Dims out(Layout::Extents(others).first(at));
    out.append(shape.data(), shape.size());
    out.append(others.data() + at, others.size() - at);
    return out;
  };
  g.placed = with_indices(rest, static_cast<std::size_t>(s.rest_before));
  g.result = with_indices(s.extents, s.place);
}

Gather plan_gather(const Selection& s, bool boxed) {
  Gather g;
  merge_axes(g, s);
  g.named_axis = s.arrays[0].axis;
  g.indices = merged_indices(s, boxed);
  place_axes(g, s);
  return g;
}

Tensor get_entries(const Tensor& x, const Selection& s) {
  const Gather g = plan_gather(s, x.node()->level > 0);
  const Tensor rows = reshaped(permuted(strided_part(x, s), g.order), g.merged);
  const Tensor entries = take_entries(rows, g.indices, g.axis, g.named_axis);
  return reshaped(permuted(entries, g.back), g.result);
}

// ---------------------------------------------------------------------------------- assignment

/// The value without leading axes of length one that the part does not have.
Tensor trimmed(const Tensor& v, std::size_t ndim) {
  Dims own(v.shape());
  while (own.size() > ndim && own[0] == 1) own.erase(0);
  return reshaped(v, own);
}

Tensor broadcast_value(const Tensor& value, const Dims& shape) {
  const Tensor v = trimmed(value, shape.size());
  const auto own = v.shape();
  bool fits = own.size() <= shape.size();
  for (std::size_t i = 0; fits && i < own.size(); ++i) {
    const std::int64_t extent = shape[shape.size() - own.size() + i];
    fits = own[i] == extent || own[i] == 1;
  }
  if (!fits)
    raise(ErrorKind::value, "setitem",
          "a value of shape " + to_string(value.shape()) +
              " does not fit the indexed part, shape " + to_string(shape));
  return std::ranges::equal(own, shape) ? v : broadcast_to(v, shape);
}

/// x with the entries replaced that `change(rows, gather, value)` replaces in the merged part.
template <class F>
Tensor with_entries(const Tensor& x, const Selection& s, const Tensor& value, F change) {
  const Gather g = plan_gather(s, x.node()->level > 0);
  Tensor v = reshaped(broadcast_value(value, g.result), g.placed);
  if (!g.back.empty()) v = permute_dims(v, inverse_permutation(g.back));
  const Tensor rows = reshaped(permuted(strided_part(x, s), g.order), g.merged);
  Tensor filled = reshaped(change(rows, g, v), g.split);
  if (!g.order.empty()) filled = permute_dims(filled, inverse_permutation(g.order));
  return s.whole ? filled : put_slice(x, filled, s.starts, s.counts, s.steps);
}

Tensor put_entries_of(const Tensor& x, const Selection& s, const Tensor& value) {
  return with_entries(x, s, value, [](const Tensor& rows, const Gather& g, const Tensor& v) {
    return put_entries(rows, g.indices, v, g.axis, g.named_axis);
  });
}

/// The mask, over as many axes as x has from its first one on, where the key is one and nothing
/// else. Undefined otherwise.
Tensor only_mask(const Tensor& x, const Selection& s, IndexKey key) {
  if (s.arrays.size() != 1 || !s.arrays[0].is_mask() ||
      std::ranges::any_of(key, [](const IndexItem& item) {
        return item.kind != IndexItem::array && item.kind != IndexItem::ellipsis;
      }))
    return {};
  const IndexArray& a = s.arrays[0];
  Dims extents(a.given.shape());
  extents.resize(static_cast<std::size_t>(x.ndim() - a.axis), 1);
  return reshaped(a.given, extents);
}

/// Where the key is one mask, and the value one for every place that it may choose, the result is a
/// choice between the value and x: no position need be known. Undefined otherwise.
Tensor put_where(const Tensor& x, const Selection& s, IndexKey key, const Tensor& value) {
  const Tensor mask = only_mask(x, s, key);
  if (!mask.defined()) return {};
  const IndexArray& a = s.arrays[0];
  const auto after = static_cast<std::size_t>(x.ndim() - a.axis - a.axes);
  Tensor v = value.size() == 1 ? reshaped(value, {}) : value;
  if (v.ndim() > 0) {
    if (is_known(a.given.node())) return {};
    v = trimmed(v, after);
    if (static_cast<std::size_t>(v.ndim()) > after) return {};
    v = broadcast_value(v, Dims(x.shape().subspan(x.shape().size() - after)));
  }
  return where(mask, v, x);
}

// -------------------------------------------------------------------------------------- update

Tensor combined(IndexUpdate how, const Tensor& old, const Tensor& v) {
  switch (how) {
    case IndexUpdate::add: return add(old, v);
    case IndexUpdate::multiply: return multiply(old, v);
    case IndexUpdate::divide: return divide(old, v);
    case IndexUpdate::power: return pow(old, v);
    case IndexUpdate::maximum: return maximum(old, v);
    case IndexUpdate::minimum: break;
  }
  return minimum(old, v);
}

/// For each row the product of all values put there, 1 where there is none. The values are sorted
/// by row, and multiplied up over 1, 2, 4, ... neighbours of the same row: no division, which a
/// zero would break. Of equal indices the last is put, which has the whole product.
Tensor products_at(const Tensor& rows, const Gather& g, const Tensor& value) {
  const std::int64_t count = g.indices.size(), extent = rows.shape()[g.axis];
  const int axis = static_cast<int>(g.axis);
  Dims shape(rows.shape());
  shape[g.axis] = count;
  const Tensor places = reshape(wrap_indices(g.indices, extent, g.named_axis), Dims{count});
  const Tensor order = argsort(places);
  const Tensor at = take(places, order, 0);
  Tensor all = take(reshape(value, shape), order, axis);
  for (std::int64_t step = 1; step < count; step *= 2) {
    const std::int64_t n = count - step;
    const Tensor later = entries_along(all, axis, step, n);
    Dims line(shape.size(), 1);
    line[g.axis] = n;
    const Tensor same =
        reshape(equal(entries_along(at, 0, step, n), entries_along(at, 0, 0, n)), line);
    const Tensor grown = where(same, multiply(later, entries_along(all, axis, 0, n)), later);
    all = concat(std::vector{entries_along(all, axis, 0, step), grown}, axis);
  }
  return put_entries(ones_like(rows), at, all, g.axis, g.named_axis);
}

Tensor update_entries(const Tensor& x, const Selection& s, IndexUpdate how, const Tensor& value) {
  return with_entries(x, s, value, [how](const Tensor& rows, const Gather& g, const Tensor& v) {
    switch (how) {
      case IndexUpdate::add: return add_entries(rows, g.indices, v, g.axis, g.named_axis);
      case IndexUpdate::maximum:
      case IndexUpdate::minimum:
        return extreme_entries(rows, g.indices, v, g.axis, g.named_axis,
                               how == IndexUpdate::maximum);
      default: return combined(how, rows, products_at(rows, g, v));
    }
  });
}

Tensor put_strided(const Tensor& x, const Selection& s, const Tensor& value, std::uint32_t donate) {
  const Tensor v = reshaped(broadcast_value(value, s.extents), s.part);
  return put_slice(x, v, s.starts, s.counts, s.steps, donate);
}

}  // namespace

Tensor index(const Tensor& x, IndexKey key) {
  const Selection s = KeyReader(x.shape()).read(key);
  return s.arrays.empty() ? reshaped(strided_part(x, s), s.extents) : get_entries(x, s);
}

namespace {

Tensor fitting(const Tensor& value, const Tensor& x) {
  if (promote(x.dtype(), value.dtype()) != x.dtype())
    raise(ErrorKind::type, "setitem",
          "a value of dtype " + std::string(name(value.dtype())) + " does not fit a tensor of " +
              std::string(name(x.dtype())) + ": convert one with astype");
  return astype(value, x.dtype());
}

}  // namespace

Tensor index_update(const Tensor& x, IndexKey key, IndexUpdate how, const Tensor& value) {
  const Selection s = KeyReader(x.shape()).read(key);
  const Tensor v = fitting(value, x);
  if (how == IndexUpdate::divide && !is_floating(x.dtype()))
    raise(ErrorKind::type, "at",
          "a tensor of " + std::string(name(x.dtype())) +
              " does not hold quotients: convert it with astype");
  if (std::ranges::any_of(s.arrays, [](const IndexArray& a) { return !a.is_mask(); }))
    return update_entries(x, s, how, v);
  if (const Tensor mask = only_mask(x, s, key); mask.defined() && v.size() == 1)
    return where(mask, combined(how, x, reshaped(v, {})), x);
  return index_put(x, key, combined(how, index(x, key), v));  // each entry is named once
}

Tensor index_put(const Tensor& x, IndexKey key, const Tensor& value, std::uint32_t donate) {
  const Selection s = KeyReader(x.shape()).read(key);
  const Tensor v = fitting(value, x);
  if (s.arrays.empty()) return put_strided(x, s, v, donate);
  const Tensor chosen = put_where(x, s, key, v);
  return chosen.defined() ? chosen : put_entries_of(x, s, v);
}

Tensor index(const Tensor& x, std::initializer_list<IndexItem> key) {
  return index(x, IndexKey(key.begin(), key.size()));
}

Tensor index_put(const Tensor& x, std::initializer_list<IndexItem> key, const Tensor& value) {
  return index_put(x, IndexKey(key.begin(), key.size()), value);
}

Tensor index_put(const Tensor& x, std::initializer_list<IndexItem> key, double value) {
  const bool fits = is_floating(x.dtype()) || std::trunc(value) == value;
  if (!fits)
    raise(ErrorKind::type, "setitem",
          "the number " + std::to_string(value) + " does not fit a tensor of " +
              std::string(name(x.dtype())) + ": round it, or convert the tensor with astype");
  return index_put(x, key, Tensor::scalar(value, x.dtype()));
}

}  // namespace adjoint
