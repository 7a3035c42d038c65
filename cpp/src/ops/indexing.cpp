// Reading and replacing parts of a tensor. Every operation is linear in the values it moves, and
// they are each other's transposes: slice with put_slice and add_slice, take with add_at.
//
// Of the indices of the take family, negative ones are counted from the end. Every run checks them,
// so an index out of range raises wherever the application ends up: in a batch, a sweep, a program.
#include <algorithm>
#include <vector>

#include "ops/indexing.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family indexing_family;

// --------------------------------------------------------------------------------------- slice

const SliceAttrs& parts_of(const Attrs* attrs) { return attrs_as<SliceAttrs>(attrs); }

void check_slice(const char* op, Layout::Extents shape, const Attrs* attrs) {
  const SliceAttrs& p = parts_of(attrs);
  bool fits = p.starts.size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    if (p.counts[i] == 0) continue;
    const std::int64_t room = p.steps[i] > 0 ? shape[i] - 1 - p.starts[i] : p.starts[i];
    const std::int64_t step = p.steps[i] > 0 ? p.steps[i] : -p.steps[i];
    fits = p.counts[i] > 0 && p.starts[i] >= 0 && p.starts[i] < shape[i] &&
           (p.counts[i] == 1 || (step > 0 && p.counts[i] - 1 <= room / step));
  }
  if (!fits)
    raise(ErrorKind::index, op,
          "starts " + to_string(p.starts) + ", counts " + to_string(p.counts) + " and steps " +
              to_string(p.steps) + " reach outside of shape " + to_string(shape) +
              " or do not name every axis");
}

Dims slice_shape(const SliceAttrs& p) {
  Dims out;
  for (std::size_t i = 0; i < p.counts.size(); ++i)
    if (p.steps[i] != 0) out.push_back(p.counts[i]);
  return out;
}

/// Where a slice of something laid out as `layout` lies.
Layout sliced(const Layout& layout, const SliceAttrs& p) {
  Dims strides;
  std::int64_t offset = layout.offset();
  bool empty = false;
  for (std::size_t i = 0; i < p.counts.size(); ++i) {
    if (p.steps[i] != 0) strides.push_back(layout.strides()[i] * p.steps[i]);
    offset += layout.strides()[i] * p.starts[i];
    empty |= p.counts[i] == 0;
  }
  return Layout(slice_shape(p), strides, empty ? layout.offset() : offset);
}

void* element(Node* n, std::int64_t offset) {
  char* base = n->stored.storage ? static_cast<char*>(n->stored.storage->data())
                                 : reinterpret_cast<char*>(n->stored.bytes);
  return base + offset * static_cast<std::int64_t>(itemsize(n->dtype));
}

ResultList infer_slice(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  check_slice("slice", in[0]->layout.shape(), attrs);
  return {in[0]->dtype, slice_shape(parts_of(attrs))};
}

void run_slice(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
  Node* x = in[0];
  const Layout layout = sliced(x->layout, parts_of(attrs));
  if (layout.size() == 0) return;
  if (layout.size() == 1) {
    // Cheaper than a share in the storage, which would also keep it from being written in place.
    std::memcpy(out->stored.bytes, element(x, layout.offset()), itemsize(x->dtype));
  } else if (x->stored.storage) {
    share_value(out, x, layout);
  } else if (std::ranges::all_of(layout.strides(), [](std::int64_t s) { return s == 0; })) {
    std::memcpy(out->stored.bytes, element(x, layout.offset()), itemsize(x->dtype));
    out->layout = Layout(layout.shape(), layout.strides(), 0);
  } else {
    allocate_value(out, "slice");
    kernels::strided_copy(itemsize(x->dtype), layout.shape(), element(x, layout.offset()),
                          byte_strides(layout.strides(), x->dtype), out->data(),
                          byte_strides(out->layout.strides(), x->dtype));
  }
}

/// The same parts of every element of a batch.
AttrsPtr batched_slice(const BatchArgs& args) {
  const SliceAttrs& p = parts_of(args.attrs);
  return make_attrs(SliceAttrs{.starts = prefixed(0, p.starts),
                               .counts = prefixed(args.size, p.counts),
                               .steps = prefixed(1, p.steps)});
}

Tensor batch_slice(const BatchArgs& args) {
  return apply(args.op, {&args.inputs[0]}, batched_slice(args));
}

Tensor batch_two_slices(const BatchArgs& args) {
  const Tensor x = mapped_input(args, 0);
  const Tensor value = mapped_input(args, 1);
  return apply(args.op, {&x, &value}, batched_slice(args));
}

// ------------------------------------------------------------------------ put_slice, add_slice

ResultList infer_into_slice(const Op& op, std::span<Node* const> in, const Attrs* attrs) {
  check_slice(op.name, in[0]->layout.shape(), attrs);
  const Dims part = slice_shape(parts_of(attrs));
  const auto shape = in[1]->layout.shape();
  if (!std::ranges::equal(shape, part))
    raise(ErrorKind::value, op.name,
          "a value of shape " + to_string(shape) + " does not fit a part of shape " +
              to_string(part));
  if (in[0]->dtype != in[1]->dtype)
    raise(ErrorKind::type, op.name,
          "a value of dtype " + std::string(name(in[1]->dtype)) + " does not fit a tensor of " +
              std::string(name(in[0]->dtype)) + ": convert one with astype");
  return {in[0]->dtype, Dims(in[0]->layout.shape())};
}

/// Makes `out` the value of `x`, in its memory where that is given up.
void start_from(Node* out, Node* x, bool donated, const char* op) {
  if (donated && x->stored.storage) {
    take_value(out, x);
  } else {
    allocate_value(out, op);
    copy_value(x, out->data());
  }
}

void run_put_slice(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                   std::uint32_t donated) {
  Node* value = in[1];
  start_from(out, in[0], donated & 1, "put_slice");
  const Layout layout = sliced(out->layout, parts_of(attrs));
  if (layout.size() == 0) return;
  void* to = element(out, layout.offset());
  if (layout.size() == 1) {
    std::memcpy(to, value->data(), itemsize(out->dtype));
  } else {
    kernels::strided_copy(itemsize(out->dtype), layout.shape(), value->data(),
                          byte_strides(value->layout.strides(), out->dtype), to,
                          byte_strides(layout.strides(), out->dtype));
  }
}

void run_add_slice(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                   std::uint32_t donated) {
  const kernels::TileKernel* add = kernels::find_tile("add", out->dtype);
  if (!add) raise(ErrorKind::type, "add_slice", "bool cannot be added: convert with astype");
  start_from(out, in[0], donated & 1, "add_slice");
  const Layout layout = sliced(out->layout, parts_of(attrs));
  if (layout.size() == 0) return;
  void* at = element(out, layout.offset());
  const Tensor value = contiguous(in[1]);
  if (layout.contiguous()) {
    const void* operands[] = {at, value.node()->data()};
    add->vv(operands, at, layout.size());
    return;
  }
  const Tensor part = Tensor::adopt(new_array(out->dtype, layout.shape(), "add_slice"));
  void* p = part.node()->data();
  const Dims strides = byte_strides(layout.strides(), out->dtype);
  const Dims dense = byte_strides(part.node()->layout.strides(), out->dtype);
  kernels::strided_copy(itemsize(out->dtype), layout.shape(), at, strides, p, dense);
  const void* operands[] = {p, value.node()->data()};
  add->vv(operands, p, layout.size());
  kernels::strided_copy(itemsize(out->dtype), layout.shape(), p, dense, at, strides);
}

extern Op& slice_record;
extern Op& put_slice_record;
extern Op& add_slice_record;

// The cotangent is given up: in a sweep nobody else holds it by then, so a long chain of
// assignments is carried back in one buffer.
Tensor transpose_put_slice(const RuleArgs& args, int input, const Tensor& ct) {
  const AttrsPtr attrs = same_attrs(args.attrs);
  if (input == 1) return apply(slice_record, {&ct}, attrs);
  const Tensor zero = zeros_view(slice_shape(parts_of(args.attrs)), ct.dtype());
  return apply(put_slice_record, {&ct, &zero}, attrs, 1);
}

// ---------------------------------------------------------------------------------------- take

/// A tensor of `shape` seen along one axis: `outer` times `extent` entries of `inner` elements.
struct AxisView {
  std::int64_t outer, extent, inner;
  AxisView(Layout::Extents shape, std::int64_t axis)
      : outer(product(shape.first(axis))),
        extent(shape[axis]),
        inner(product(shape.subspan(axis + 1))) {}
};

void require_indices(const char* op, const Node* indices) {
  if (!is_integer(indices->dtype))
    raise(ErrorKind::type, op,
          "indices must be integers, not " + std::string(name(indices->dtype)) +
              ": use astype(indices, int64)");
}

std::int64_t axis_of(const Attrs* attrs) { return attrs_as<EntryAttrs>(attrs).axis; }

/// The same application along another axis.
AttrsPtr along(std::int64_t axis, const Attrs* attrs) {
  EntryAttrs out = attrs_as<EntryAttrs>(attrs);
  out.axis = axis;
  return make_attrs(out);
}

/// What an error says of indices: who was given them, and for which axis.
struct Asked {
  const char* op;
  std::int64_t axis;

  Asked(const char* name, std::int64_t named_axis, bool in_brackets)
      : op(in_brackets ? "index" : name), axis(named_axis) {}
  Asked(const char* name, const Attrs* attrs)
      : Asked(name, attrs_as<EntryAttrs>(attrs).named_axis,
              attrs_as<EntryAttrs>(attrs).in_brackets) {}
};

[[noreturn]] void raise_out_of_range(const Asked& asked, const std::string& index,
                                     std::int64_t extent) {
  raise(ErrorKind::index, asked.op,
        "index " + index + " is out of range for axis " + std::to_string(asked.axis) +
            " of length " + std::to_string(extent));
}

template <class T>
bool outside(T i, std::int64_t extent) {
  if constexpr (std::is_unsigned_v<T>)
    return std::uint64_t{i} >= static_cast<std::uint64_t>(extent);
  return (static_cast<std::int64_t>(i) < -extent) | (static_cast<std::int64_t>(i) >= extent);
}

/// Writes the indices as positions in [0, extent); raises IndexError for the first that is none.
void write_positions(const Asked& asked, Node* indices, std::int64_t extent, std::int64_t* to) {
  const Tensor dense = contiguous(indices);
  with_type(indices->dtype, [&]<class T>(T) {
    if constexpr (std::is_integral_v<T>) {
      const std::span given(static_cast<const T*>(dense.node()->data()),
                            static_cast<std::size_t>(dense.size()));
      bool any_outside = false;
      for (const T i : given) {
        any_outside |= outside(i, extent);
        const auto at = static_cast<std::int64_t>(i);
        *to++ = at + (at < 0 ? extent : 0);
      }
      if (!any_outside) return;
      const auto first = std::ranges::find_if(given, [&](T i) { return outside(i, extent); });
      raise_out_of_range(asked, std::to_string(*first), extent);
    }
  });
}

std::vector<std::int64_t> positions(const char* op, Node* indices, const Attrs* attrs,
                                    std::int64_t extent) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(indices->layout.size()));
  write_positions({op, attrs}, indices, extent, out.data());
  return out;
}

/// Shape of the entries of x along `axis` that indices of `index_shape` name.
Dims entries_shape(Layout::Extents x, Layout::Extents index_shape, std::int64_t axis) {
  Dims out(x.first(axis));
  out.append(index_shape.data(), index_shape.size());
  out.append(x.data() + axis + 1, x.size() - axis - 1);
  return out;
}

ResultList infer_take(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  require_indices("take", in[1]);
  return {in[0]->dtype,
          entries_shape(in[0]->layout.shape(), in[1]->layout.shape(), axis_of(attrs))};
}

template <class T>
void copy_entries(const T* x, const AxisView& v, std::span<const std::int64_t> index, T* out) {
  for (std::int64_t o = 0; o < v.outer; ++o, x += v.extent) {
    for (const std::int64_t i : index) *out++ = x[i];
  }
}

void run_take(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
  const std::int64_t axis = axis_of(attrs);
  const AxisView v(in[0]->layout.shape(), axis);
  const auto index = positions("take", in[1], attrs, v.extent);
  allocate_value(out, "take");
  const Tensor x = contiguous(in[0]);
  const void* src = x.node()->data();
  const std::size_t size = itemsize(out->dtype);
  if (v.inner == 1 && size == 8)
    return copy_entries(static_cast<const std::uint64_t*>(src), v, index,
                        static_cast<std::uint64_t*>(out->data()));
  if (v.inner == 1 && size == 4)
    return copy_entries(static_cast<const std::uint32_t*>(src), v, index,
                        static_cast<std::uint32_t*>(out->data()));
  const std::size_t bytes = static_cast<std::size_t>(v.inner) * size;
  if (bytes == 0) return;
  auto* to = static_cast<char*>(out->data());
  for (std::int64_t o = 0; o < v.outer; ++o) {
    const char* from = static_cast<const char*>(src) + o * v.extent * v.inner * size;
    for (const std::int64_t i : index) {
      std::memcpy(to, from + i * bytes, bytes);
      to += bytes;
    }
  }
}

// --------------------------------------------------------------------------- add_at, put_rows

// Inputs: x, indices, value; the value has the shape that take would give.

ResultList infer_at(const Op& op, std::span<Node* const> in, const Attrs* attrs) {
  require_indices(op.name, in[1]);
  const Dims wanted = entries_shape(in[0]->layout.shape(), in[1]->layout.shape(), axis_of(attrs));
  if (Dims(in[2]->layout.shape()) != wanted)
    raise(ErrorKind::value, op.name,
          "a value of shape " + to_string(in[2]->layout.shape()) + " does not fit the entries of " +
              "shape " + to_string(in[0]->layout.shape()) + " that are named, shape " +
              to_string(wanted));
  if (in[0]->dtype != in[2]->dtype)
    raise(ErrorKind::type, op.name,
          "a value of dtype " + std::string(name(in[2]->dtype)) + " does not fit a tensor of " +
              std::string(name(in[0]->dtype)) + ": convert one with astype");
  return {in[0]->dtype, Dims(in[0]->layout.shape())};
}

/// Calls `put(to, from)` for each row that is put somewhere, in order. A row has `inner` units.
template <class T, class F>
void each_put(const AxisView& v, std::span<const std::int64_t> index, std::int64_t inner, T* base,
              const T* from, F&& put) {
  for (std::int64_t o = 0; o < v.outer; ++o, base += v.extent * inner)
    for (const std::int64_t i : index) {
      put(base + i * inner, from);
      from += inner;
    }
}

void run_add_at(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                std::uint32_t donated) {
  const std::int64_t axis = axis_of(attrs);
  const AxisView v(in[0]->layout.shape(), axis);
  const auto index = positions("add_at", in[1], attrs, v.extent);
  const Tensor value = contiguous(in[2]);
  start_from(out, in[0], donated & 1, "add_at");
  with_type(out->dtype, [&]<class T>(T) {
    each_put(v, index, v.inner, static_cast<T*>(out->data()),
             static_cast<const T*>(value.node()->data()), [&](T* to, const T* from) {
               for (std::int64_t j = 0; j < v.inner; ++j)
                 to[j] = static_cast<T>(Wrapping<T>(to[j]) + Wrapping<T>(from[j]));
             });
  });
}

void run_put_rows(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                  std::uint32_t donated) {
  const std::int64_t axis = axis_of(attrs);
  const AxisView v(in[0]->layout.shape(), axis);
  const auto index = positions("put_rows", in[1], attrs, v.extent);
  const Tensor value = contiguous(in[2]);
  start_from(out, in[0], donated & 1, "put_rows");
  const std::size_t bytes = static_cast<std::size_t>(v.inner) * itemsize(out->dtype);
  if (bytes == 0) return;
  each_put(v, index, static_cast<std::int64_t>(bytes), static_cast<char*>(out->data()),
           static_cast<const char*>(value.node()->data()),
           [&](char* to, const char* from) { std::memcpy(to, from, bytes); });
}

// For floating types a nan stays, as in maximum and minimum.
template <bool Largest>
void run_extreme_at(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                    std::uint32_t donated) {
  const AxisView v(in[0]->layout.shape(), axis_of(attrs));
  const auto index = positions(op.name, in[1], attrs, v.extent);
  const Tensor value = contiguous(in[2]);
  start_from(out, in[0], donated & 1, op.name);
  with_type(out->dtype, [&]<class T>(T) {
    each_put(v, index, v.inner, static_cast<T*>(out->data()),
             static_cast<const T*>(value.node()->data()), [&](T* to, const T* from) {
               for (std::int64_t j = 0; j < v.inner; ++j) {
                 const bool wins = Largest ? from[j] > to[j] : from[j] < to[j];
                 if (wins || from[j] != from[j]) to[j] = from[j];
               }
             });
  });
}

extern Op& take_record;
extern Op& add_at_record;
extern Op& put_rows_record;
extern Op& wrap_indices_record;

Tensor transpose_put_rows(const RuleArgs& args, int input, const Tensor& ct) {
  const Tensor& indices = args.inputs[1];
  const std::int64_t axis = axis_of(args.attrs);
  const AttrsPtr attrs = same_attrs(args.attrs);
  if (input == 0) {
    const Tensor zero = zeros_view(entries_shape(ct.shape(), indices.shape(), axis), ct.dtype());
    return apply(put_rows_record, {&ct, &indices, &zero}, attrs, 1);
  }
  // A row reaches the result where it is the last of those put at its index.
  const std::int64_t extent = ct.shape()[axis];
  const Tensor number = reshape(arange(0, indices.size()), indices.shape());
  const Tensor none = zeros_view(Dims{extent}, DType::int64);
  const AttrsPtr along_first = along(0, args.attrs);
  const Tensor last = apply(put_rows_record, {&none, &indices, &number}, along_first);
  const Tensor owner = apply(take_record, {&last, &indices}, along_first);
  Dims extents(indices.shape());
  extents.resize(extents.size() + ct.shape().size() - static_cast<std::size_t>(axis) - 1, 1);
  const Tensor won = reshape(equal(owner, number), extents);
  const Tensor rows = apply(take_record, {&ct, &indices}, attrs);
  return where(won, rows, zeros_view(Dims{}, ct.dtype()));
}

/// The shares of the derivative of max_at and min_at: of x, and of the values.
struct ExtremeShares {
  Tensor x, values;

  explicit ExtremeShares(const RuleArgs& args) {
    const Tensor& indices = args.inputs[1];
    const AttrsPtr attrs = same_attrs(args.attrs);
    const auto attains = [](const Tensor& a, const Tensor& most) {
      return astype(logical_or(equal(a, most), logical_and(isnan(a), isnan(most))), a.dtype());
    };
    const Tensor most = held(args.output);
    const Tensor own = attains(args.inputs[0], most);
    const Tensor put = attains(args.inputs[2], apply(take_record, {&most, &indices}, attrs));
    const Tensor share = reciprocal(apply(add_at_record, {&own, &indices, &put}, attrs));
    x = multiply(own, share);
    values = multiply(put, apply(take_record, {&share, &indices}, attrs));
  }
};

Tensor vjp_extreme_at(const RuleArgs& args, int input, const Tensor& ct) {
  const ExtremeShares shares(args);
  if (input == 0) return multiply(shares.x, ct);
  return multiply(shares.values,
                  apply(take_record, {&ct, &args.inputs[1]}, same_attrs(args.attrs)));
}

Tensor jvp_extreme_at(const RuleArgs& args, std::span<const Tensor> tangents) {
  const ExtremeShares shares(args);
  Tensor base = tangents[0].defined() ? multiply(shares.x, tangents[0])
                                      : zeros_view(args.output.shape(), args.output.dtype());
  if (!tangents[2].defined()) return base;
  const Tensor put = multiply(shares.values, tangents[2]);
  return apply(add_at_record, {&base, &args.inputs[1], &put}, same_attrs(args.attrs));
}

// ------------------------------------------------------------------------------------ batching

struct WrapAttrs {
  std::int64_t extent;
  std::int64_t named_axis;
  bool in_brackets;

  static constexpr auto fields() {
    return std::tuple(field("extent", &WrapAttrs::extent),
                      field("named_axis", &WrapAttrs::named_axis),
                      field("in_brackets", &WrapAttrs::in_brackets));
  }
};

/// Indices into the entries of a whole batch, laid out one element of it after the other.
Tensor flat_indices(const BatchArgs& args, std::int64_t extent) {
  const auto& [axis, named_axis, in_brackets] = attrs_as<EntryAttrs>(args.attrs);
  const Tensor wrapped = apply(wrap_indices_record, {&args.inputs[1]},
                               make_attrs(WrapAttrs{extent, named_axis, in_brackets}));
  const auto shape = element_shape(args, 1);
  Dims column(1 + shape.size(), 1);
  column[0] = args.size;
  const Tensor first = arange(0, args.size);
  Node* scale = new_node(DType::int64, Layout());
  scale->stored.put<std::int64_t>(extent);
  const Tensor offsets = multiply(reshape(first, column), Tensor::adopt(scale));
  return add(wrapped, offsets);
}

/// x with the batch at axis 0 and the indexed axis at 1, those two merged.
Tensor merge_axis(const Tensor& x, std::int64_t axis) {
  const Tensor moved = permute_dims(x, moved_axis(x.ndim(), static_cast<int>(axis) + 1, 1));
  Dims shape(moved.shape().subspan(1));
  shape[0] *= moved.shape()[0];
  return reshape(moved, shape);
}

Tensor batch_take(const BatchArgs& args) {
  const std::int64_t axis = axis_of(args.attrs);
  if (!args.mapped[1])
    return apply(args.op, {&args.inputs[0], &args.inputs[1]}, along(axis + 1, args.attrs));
  if (!args.mapped[0]) {
    const Tensor y = apply(args.op, {&args.inputs[0], &args.inputs[1]}, same_attrs(args.attrs));
    return permute_dims(y, moved_axis(y.ndim(), static_cast<int>(axis), 0));
  }
  const Tensor& x = args.inputs[0];
  const Tensor merged = merge_axis(x, axis);
  const Tensor indices = flat_indices(args, x.shape()[axis + 1]);
  // Axes now: batch, indices, those before `axis`, those after it.
  const Tensor y = apply(args.op, {&merged, &indices}, along(0, args.attrs));
  const int k = indices.ndim();
  Dims axes{0};
  for (std::int64_t i = 0; i < axis; ++i) axes.push_back(k + i);
  for (int i = 1; i < k; ++i) axes.push_back(i);
  for (int i = k + static_cast<int>(axis); i < y.ndim(); ++i) axes.push_back(i);
  return permute_dims(y, axes);
}

Tensor batch_at(const BatchArgs& args) {
  const std::int64_t axis = axis_of(args.attrs);
  const Tensor x = mapped_input(args, 0);
  const Tensor value = mapped_input(args, 2);
  if (!args.mapped[1])
    return apply(args.op, {&x, &args.inputs[1], &value}, along(axis + 1, args.attrs));
  const Tensor merged = merge_axis(x, axis);
  const Tensor indices = flat_indices(args, x.shape()[axis + 1]);
  const int k = indices.ndim();
  Dims axes{0};
  for (int i = 1; i < k; ++i) axes.push_back(axis + i);
  for (int i = 1; i <= axis; ++i) axes.push_back(i);
  for (int i = k + static_cast<int>(axis); i < value.ndim(); ++i) axes.push_back(i);
  const Tensor entries = permute_dims(value, axes);
  const Tensor y = apply(args.op, {&merged, &indices, &entries}, along(0, args.attrs));
  Dims shape(y.shape().subspan(1));
  shape.insert(0, x.shape()[axis + 1]);
  shape.insert(0, args.size);
  return permute_dims(reshape(y, shape), moved_axis(x.ndim(), 1, static_cast<int>(axis) + 1));
}

}  // namespace

// ------------------------------------------------------------------------------------- records

namespace {

Op& slice_record = indexing_family.define(
    {.name = "slice",
     .signature = "(x, starts, counts, steps, /)",
     .doc = "Elements start, start + step, ... of every axis.",
     .kind = OpKind::view,
     .arity = 1,
     .attrs = attrs_type<SliceAttrs>(),
     .transpose =
         [](const RuleArgs& args, int, const Tensor& ct) {
           const Tensor zero = zeros_view(args.inputs[0].shape(), ct.dtype());
           return apply(put_slice_record, {&zero, &ct}, same_attrs(args.attrs));
         },
     .accumulate =
         [](const RuleArgs& args, Tensor sum, const Tensor& ct) {
           return apply(add_slice_record, {&sum, &ct}, same_attrs(args.attrs), 1);
         },
     .batch = batch_slice,
     .infer = infer_slice,
     .run = run_slice,
     .internal = true});

Op& put_slice_record = indexing_family.define({.name = "put_slice",
                                               .signature = "(x, value, starts, counts, steps, /)",
                                               .doc = "x with the elements of a slice replaced.",
                                               .kind = OpKind::structural,
                                               .arity = 2,
                                               .attrs = attrs_type<SliceAttrs>(),
                                               .transpose = transpose_put_slice,
                                               .batch = batch_two_slices,
                                               .infer = infer_into_slice,
                                               .run = run_put_slice,
                                               .internal = true});

Op& add_slice_record = indexing_family.define(
    {.name = "add_slice",
     .signature = "(x, value, starts, counts, steps, /)",
     .doc = "x with a value added to the elements of a slice.",
     .kind = OpKind::structural,
     .arity = 2,
     .attrs = attrs_type<SliceAttrs>(),
     .transpose =
         [](const RuleArgs& args, int input, const Tensor& ct) {
           return input == 0 ? ct : apply(slice_record, {&ct}, same_attrs(args.attrs));
         },
     .batch = batch_two_slices,
     .infer = infer_into_slice,
     .run = run_add_slice,
     .internal = true});

Op& take_record = indexing_family.define(
    {.name = "take",
     .kind = OpKind::structural,
     .arity = 2,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<EntryAttrs>(),
     .transpose =
         [](const RuleArgs& args, int, const Tensor& ct) {
           const Tensor zero = zeros_view(args.inputs[0].shape(), ct.dtype());
           return apply(add_at_record, {&zero, &args.inputs[1], &ct}, same_attrs(args.attrs));
         },
     .accumulate =
         [](const RuleArgs& args, Tensor sum, const Tensor& ct) {
           return apply(add_at_record, {&sum, &args.inputs[1], &ct}, same_attrs(args.attrs), 1);
         },
     .needs = {2, 0, 0},
     .constant_inputs = 2,
     .batch = batch_take,
     .infer = infer_take,
     .run = run_take,
     .fallible = true});

Op& add_at_record = indexing_family.define(
    {.name = "add_at",
     .signature = "(x, indices, value, /, *, axis)",
     .doc = "x with a value added to the entries that are named; equal indices add up.",
     .kind = OpKind::structural,
     .arity = 3,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<EntryAttrs>(),
     .transpose =
         [](const RuleArgs& args, int input, const Tensor& ct) {
           if (input == 0) return ct;
           return apply(take_record, {&ct, &args.inputs[1]}, same_attrs(args.attrs));
         },
     .needs = {0, 0, 2},
     .constant_inputs = 2,
     .batch = batch_at,
     .infer = infer_at,
     .run = run_add_at,
     .internal = true,
     .fallible = true});

Op& put_rows_record = indexing_family.define(
    {.name = "put_rows",
     .signature = "(x, indices, value, /, *, axis)",
     .doc = "x with the entries that are named replaced; the last of equal indices stays.",
     .kind = OpKind::structural,
     .arity = 3,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<EntryAttrs>(),
     .transpose = transpose_put_rows,
     .needs = {2, 0, 2},
     .constant_inputs = 2,
     .batch = batch_at,
     .infer = infer_at,
     .run = run_put_rows,
     .internal = true,
     .fallible = true});

Op& extreme_at(const char* name, const char* doc, decltype(Op::run) run) {
  return indexing_family.define({.name = name,
                                 .signature = "(x, indices, value, /, *, axis)",
                                 .doc = doc,
                                 .kind = OpKind::structural,
                                 .arity = 3,
                                 .dtypes = DTypeRule::custom,
                                 .attrs = attrs_type<EntryAttrs>(),
                                 .vjp = vjp_extreme_at,
                                 .jvp = jvp_extreme_at,
                                 .needs = {7 | kSavesOutput, 0, 7 | kSavesOutput},
                                 .constant_inputs = 2,
                                 .batch = batch_at,
                                 .infer = infer_at,
                                 .run = run,
                                 .internal = true,
                                 .fallible = true});
}
Op& max_at_record = extreme_at("max_at", "x with the larger one of the named entries and values.",
                               run_extreme_at<true>);
Op& min_at_record = extreme_at("min_at", "x with the smaller one of the named entries and values.",
                               run_extreme_at<false>);

Op& wrap_indices_record = indexing_family.define(
    {.name = "wrap_indices",
     .signature = "(indices, extent, /)",
     .doc = "Negative indices counted from the end; raises where one is out of range.",
     .kind = OpKind::structural,
     .arity = 1,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<WrapAttrs>(),
     .batch =
         [](const BatchArgs& args) {
           return apply(args.op, {&args.inputs[0]}, same_attrs(args.attrs));
         },
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       require_indices("take", in[0]);
       return ResultSpec{DType::int64, Dims(in[0]->layout.shape())};
     },
     .run =
         [](const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
           allocate_value(out, "take");
           const auto& [extent, named_axis, in_brackets] = attrs_as<WrapAttrs>(attrs);
           write_positions({"take", named_axis, in_brackets}, in[0], extent,
                           static_cast<std::int64_t*>(out->data()));
         },
     .internal = true,
     .fallible = true});

AttrsPtr slice_attrs(Tensor::Shape starts, Tensor::Shape counts, Tensor::Shape steps,
                     const char* op) {
  if (starts.size() != counts.size() || starts.size() != steps.size())
    raise(ErrorKind::value, op, "starts, counts and steps must have one entry per axis each");
  return make_attrs(
      SliceAttrs{.starts = Dims(starts), .counts = Dims(counts), .steps = Dims(steps)});
}

}  // namespace

// ----------------------------------------------------------------------------------- functions

Tensor slice(const Tensor& x, Tensor::Shape starts, Tensor::Shape counts, Tensor::Shape steps) {
  return apply(slice_record, {&x}, slice_attrs(starts, counts, steps, "slice"));
}

Tensor put_slice(const Tensor& x, const Tensor& value, Tensor::Shape starts, Tensor::Shape counts,
                 Tensor::Shape steps, std::uint32_t donate) {
  const AttrsPtr attrs = slice_attrs(starts, counts, steps, "put_slice");
  const Dims part = slice_shape(parts_of(attrs.get()));
  if (std::ranges::equal(value.shape(), part))
    return apply(put_slice_record, {&x, &value}, attrs, donate);
  const Tensor repeated = broadcast_to(value, part);
  return apply(put_slice_record, {&x, &repeated}, attrs, donate);
}

Tensor take(const Tensor& x, const Tensor& indices, std::optional<int> axis) {
  if (!axis && x.ndim() != 1)
    raise(ErrorKind::value, "take", "needs axis= for a tensor of shape " + to_string(x.shape()));
  const int at = normalize_axis(axis.value_or(0), x.ndim(), "take");
  return apply(take_record, {&x, &indices}, make_attrs(EntryAttrs{at, at}));
}

Tensor take_entries(const Tensor& x, const Tensor& indices, std::int64_t axis,
                    std::int64_t named_axis) {
  return apply(take_record, {&x, &indices}, make_attrs(EntryAttrs{axis, named_axis, true}));
}

Tensor put_entries(const Tensor& x, const Tensor& indices, const Tensor& value, std::int64_t axis,
                   std::int64_t named_axis) {
  return apply(put_rows_record, {&x, &indices, &value},
               make_attrs(EntryAttrs{axis, named_axis, true}));
}

Tensor add_entries(const Tensor& x, const Tensor& indices, const Tensor& value, std::int64_t axis,
                   std::int64_t named_axis) {
  return apply(add_at_record, {&x, &indices, &value},
               make_attrs(EntryAttrs{axis, named_axis, true}));
}

Tensor extreme_entries(const Tensor& x, const Tensor& indices, const Tensor& value,
                       std::int64_t axis, std::int64_t named_axis, bool largest) {
  return apply(largest ? max_at_record : min_at_record, {&x, &indices, &value},
               make_attrs(EntryAttrs{axis, named_axis, true}));
}

Tensor wrap_indices(const Tensor& indices, std::int64_t extent, std::int64_t named_axis) {
  return apply(wrap_indices_record, {&indices}, make_attrs(WrapAttrs{extent, named_axis, true}));
}

void register_indexing_ops() {
  indexing_family.register_all();
  register_functions({
      {.name = "take",
       .signature = "(x, indices, /, axis=None)",
       .doc = "Entries along an axis, chosen by a 1-d integer tensor.",
       .entry = entry_of<take>(),
       .method = true},
  });
}

}  // namespace adjoint
