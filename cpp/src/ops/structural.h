// What the operations that move or create elements share: sharing and allocating values, types
// chosen at run time, copies between strided places, and the batching of unmapped inputs.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "graph/thread_state.h"
#include "kernels/strided.h"
#include "ops/rules.h"

namespace adjoint {

/// Calls f with a value of the C++ type that holds elements of `dtype` (bool: std::uint8_t).
template <class F>
decltype(auto) with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::int8: return f(std::int8_t{});
    case DType::int16: return f(std::int16_t{});
    case DType::int32: return f(std::int32_t{});
    case DType::int64: return f(std::int64_t{});
    case DType::uint16: return f(std::uint16_t{});
    case DType::uint32: return f(std::uint32_t{});
    case DType::uint64: return f(std::uint64_t{});
    case DType::float32: return f(float{});
    case DType::float64: return f(double{});
    case DType::boolean:
    case DType::uint8: break;
  }
  return f(std::uint8_t{});
}

/// The type in which sums of T wrap around instead of overflowing.
template <class T, bool = std::is_integral_v<T>>
struct WrappingType {
  using type = T;
};
template <class T>
struct WrappingType<T, true> {
  // Narrow unsigned types would be promoted to int, whose products overflow.
  using type = std::conditional_t<(sizeof(T) < 4), std::uint32_t, std::make_unsigned_t<T>>;
};
template <class T>
using Wrapping = typename WrappingType<T>::type;

/// The order of sorts and searches: nan counts as larger than every number.
template <class T>
bool comes_before(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(a) || std::isnan(b)) return !std::isnan(a) && std::isnan(b);
  return a < b;
}

/// Gives a contiguous `out` its memory; a few bytes live in the node.
inline void allocate_value(Node* out, const char* op) {
  if (out->nbytes() > Stored::kInlineBytes)
    out->stored.storage = Storage::allocate(out->nbytes(), op).detach();
}

/// `out` becomes another name for the elements of `in`, laid out as `layout`. The offset of a
/// value that lives in its node is always 0.
inline void share_value(Node* out, const Node* in, Layout layout) {
  out->layout = std::move(layout);
  share_stored(out, in);
}

/// For records whose value is that of input 0.
inline ResultList infer_same(const Op&, std::span<Node* const> in, const Attrs*) {
  return {in[0]->dtype, Dims(in[0]->layout.shape())};
}
inline void run_same(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  share_value(out, in[0], in[0]->layout);
}

/// `out` takes over the memory of `in`, which apply found to be free for it.
inline void take_value(Node* out, Node* in) {
  out->stored.storage = std::exchange(in->stored.storage, nullptr);
  in->state.store(State::dropped, std::memory_order_release);
}

inline Dims byte_strides(Layout::Extents strides, DType dtype) {
  Dims out(strides);
  for (auto& s : out) s *= static_cast<std::int64_t>(itemsize(dtype));
  return out;
}

/// Copies the elements of `in` to the contiguous memory at `to`.
inline void copy_value(Node* in, void* to) {
  const auto& layout = in->layout;
  if (layout.contiguous()) {
    std::memcpy(to, in->data(), in->nbytes());
    return;
  }
  const Layout dense(layout.shape());
  kernels::strided_copy(itemsize(in->dtype), layout.shape(), in->data(),
                        byte_strides(layout.strides(), in->dtype), to,
                        byte_strides(dense.strides(), in->dtype));
}

/// Zeros of this shape in one element of memory: a constant of derivative rules, never recorded.
inline Tensor zeros_view(Tensor::Shape shape, DType dtype) {
  return Tensor::adopt(new_node(dtype, Layout(shape, Dims(shape.size(), 0), 0)));
}

/// Attributes of what is made with a shape and a dtype.
struct ArrayAttrs {
  Dims shape;
  DType dtype;

  static constexpr auto fields() {
    return std::tuple(field("shape", &ArrayAttrs::shape), field("dtype", &ArrayAttrs::dtype));
  }
};

/// Attributes of what only has a shape to be given.
struct ShapeAttrs {
  Dims shape;

  static constexpr auto fields() { return std::tuple(field("shape", &ShapeAttrs::shape)); }
};

/// Keeps the parameters of the application that a rule differentiates.
inline AttrsPtr same_attrs(const Attrs* attrs) { return AttrsPtr(attrs); }

/// 0, 1, ..., n - 1.
inline Dims counting(std::int64_t n) {
  Dims out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(i);
  return out;
}

/// Axis `from` is taken out and put back at `to`.
inline Dims moved_axis(int ndim, int from, int to) {
  Dims axes = counting(ndim);
  axes.erase(static_cast<std::size_t>(from));
  axes.insert(static_cast<std::size_t>(to), from);
  return axes;
}

inline Dims inverse_permutation(const Dims& axes) {
  Dims out(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i)
    out[static_cast<std::size_t>(axes[i])] = static_cast<std::int64_t>(i);
  return out;
}

inline Dims prefixed(std::int64_t first, Layout::Extents rest) {
  Dims out{first};
  out.append(rest.data(), rest.size());
  return out;
}

inline std::int64_t product(Layout::Extents extents) {
  std::int64_t n = 1;
  for (const std::int64_t e : extents) n *= e;
  return n;
}

/// Shape of input i of a batching rule for one element of the batch.
inline Layout::Extents element_shape(const BatchArgs& args, std::size_t i) {
  return args.inputs[i].shape().subspan(args.mapped[i] ? 1 : 0);
}

/// Input i of a batching rule with the batch as axis 0; an unmapped one is repeated.
inline Tensor mapped_input(const BatchArgs& args, std::size_t i) {
  if (args.mapped[i]) return args.inputs[i];
  return broadcast_to(args.inputs[i], prefixed(args.size, args.inputs[i].shape()));
}

/// For operations with an `axis` among their attributes, on whose position nothing else depends.
template <class A>
Tensor batch_by_axis(const BatchArgs& args) {
  A attrs = attrs_as<A>(args.attrs);
  ++attrs.axis;
  return apply(args.op, {&args.inputs[0]}, make_attrs(std::move(attrs)));
}

}  // namespace adjoint
