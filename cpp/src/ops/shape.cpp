// Views and joins: the same elements in another shape, order or place. Views share the storage of
// their input wherever strides can say what is wanted.
#include <algorithm>
#include <vector>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family shape_family;

// ------------------------------------------------------------------------------------ reshape

/// Strides that give `shape` to the elements of `layout` without moving any; false if none do.
bool reshaped_strides(const Layout& layout, Layout::Extents shape, Dims* strides) {
  Dims extents, steps;  // of the input, without unit axes
  for (int i = 0; i < layout.ndim(); ++i) {
    if (layout.shape()[i] == 1) continue;
    extents.push_back(layout.shape()[i]);
    steps.push_back(layout.strides()[i]);
  }
  strides->assign(shape.size(), 0);
  std::size_t from = 0, to = 0;
  while (from < extents.size() && to < shape.size()) {
    // The shortest stretches of both shapes that hold the same number of elements.
    std::size_t from_end = from + 1, to_end = to + 1;
    std::int64_t have = extents[from], want = shape[to];
    while (have != want) {
      if (have < want) {
        if (from_end == extents.size()) return false;
        have *= extents[from_end++];
      } else {
        if (to_end == shape.size()) return false;
        want *= shape[to_end++];
      }
    }
    for (std::size_t i = from; i + 1 < from_end; ++i)
      if (steps[i] != steps[i + 1] * extents[i + 1]) return false;
    std::int64_t step = steps[from_end - 1];
    for (std::size_t i = to_end; i-- > to;) {
      (*strides)[i] = step;
      step *= shape[i];
    }
    from = from_end;
    to = to_end;
  }
  return true;  // what is left of `shape` are unit axes
}

ResultList infer_reshape(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  const Dims& to = attrs_as<ShapeAttrs>(attrs).shape;
  if (checked_size(to, "reshape") != in[0]->layout.size())
    raise(ErrorKind::value, "reshape",
          "shape " + to_string(in[0]->layout.shape()) + " does not fit shape " + to_string(to) +
              ": the number of elements must stay the same");
  return {in[0]->dtype, to};
}

void run_reshape(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                 std::uint32_t) {
  Node* x = in[0];
  const Layout& layout = x->layout;
  const Dims& to = attrs_as<ShapeAttrs>(attrs).shape;
  if (layout.contiguous()) {
    share_stored(out, x);
    if (layout.offset() != 0) out->layout = Layout(to, Layout(to).strides(), layout.offset());
    return;
  }
  Dims strides;
  if (reshaped_strides(layout, to, &strides)) {
    share_value(out, x, Layout(to, strides, layout.offset()));
    return;
  }
  allocate_value(out, "reshape");
  copy_value(x, out->data());
}

// ------------------------------------------------------------------------------- permute_dims

struct PermuteAttrs {
  Dims axes;

  static constexpr auto fields() { return std::tuple(field("axes", &PermuteAttrs::axes)); }
};

const Dims& order_of(const Attrs* attrs) { return attrs_as<PermuteAttrs>(attrs).axes; }

ResultList infer_permute(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  Dims shape;
  for (const std::int64_t axis : order_of(attrs)) shape.push_back(in[0]->layout.shape()[axis]);
  return {in[0]->dtype, shape};
}

void run_permute(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                 std::uint32_t) {
  const Layout& layout = in[0]->layout;
  Dims strides;
  for (const std::int64_t axis : order_of(attrs)) strides.push_back(layout.strides()[axis]);
  share_value(out, in[0], Layout(Dims(out->layout.shape()), strides, layout.offset()));
}

Tensor batch_permute(const BatchArgs& args) {
  Dims axes{0};
  for (const std::int64_t axis : order_of(args.attrs)) axes.push_back(axis + 1);
  return apply(args.op, {&args.inputs[0]}, make_attrs(PermuteAttrs{std::move(axes)}));
}

// ------------------------------------------------------------------------------- broadcast_to

ResultList infer_broadcast(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  const auto from = in[0]->layout.shape();
  const Dims& to = attrs_as<ShapeAttrs>(attrs).shape;
  checked_size(to, "broadcast_to");
  bool fits = from.size() <= to.size();
  for (std::size_t i = 0; fits && i < from.size(); ++i) {
    const std::int64_t extent = to[to.size() - from.size() + i];
    fits = from[i] == extent || from[i] == 1;
  }
  if (!fits)
    raise(ErrorKind::value, "broadcast_to",
          "shape " + to_string(from) + " does not broadcast to shape " + to_string(to) +
              ": extents must be equal or 1, counted from the last axis");
  return {in[0]->dtype, to};
}

void run_broadcast(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                   std::uint32_t) {
  const Layout& layout = in[0]->layout;
  const Dims& to = attrs_as<ShapeAttrs>(attrs).shape;
  share_value(out, in[0], Layout(to, broadcast_strides(layout, to), layout.offset()));
}

Tensor batch_broadcast(const BatchArgs& args) {
  const auto shape = element_shape(args, 0);
  const Dims& to = attrs_as<ShapeAttrs>(args.attrs).shape;
  Dims padded{args.size};
  padded.resize(1 + to.size() - shape.size(), 1);
  padded.append(shape.data(), shape.size());
  return broadcast_to(reshape(args.inputs[0], padded), prefixed(args.size, to));
}

// -------------------------------------------------------------------------------------- concat

struct ConcatAttrs {
  std::int64_t axis;
  Dims starts;  // where each part starts, and the end of the last

  static constexpr auto fields() {
    return std::tuple(field("axis", &ConcatAttrs::axis), field("starts", &ConcatAttrs::starts));
  }
};

ResultList infer_concat(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  const auto axis = static_cast<std::size_t>(attrs_as<ConcatAttrs>(attrs).axis);
  const auto first = in[0]->layout.shape();
  Dims shape(first);
  for (const Node* part : in) {
    const auto other = part->layout.shape();
    bool same = other.size() == first.size();
    for (std::size_t i = 0; same && i < first.size(); ++i) same = i == axis || other[i] == first[i];
    if (!same)
      raise(ErrorKind::value, "concat",
            "shapes " + to_string(first) + " and " + to_string(other) + " do not join along axis " +
                std::to_string(axis) + ": all other extents must be equal");
  }
  shape[axis] = attrs_as<ConcatAttrs>(attrs).starts.back();
  return {in[0]->dtype, shape};
}

void run_concat(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                std::uint32_t) {
  allocate_value(out, "concat");
  const auto axis = static_cast<std::size_t>(attrs_as<ConcatAttrs>(attrs).axis);
  const Dims to = byte_strides(out->layout.strides(), out->dtype);
  const Dims& starts = attrs_as<ConcatAttrs>(attrs).starts;
  auto* base = static_cast<char*>(out->data());
  for (std::size_t i = 0; i < in.size(); ++i) {
    char* dst = base + starts[i] * to[axis];
    if (in[i]->layout.contiguous() && axis == 0) {
      std::memcpy(dst, in[i]->data(), in[i]->nbytes());
    } else {
      kernels::strided_copy(itemsize(out->dtype), in[i]->layout.shape(), in[i]->data(),
                            byte_strides(in[i]->layout.strides(), out->dtype), dst, to);
    }
  }
}

Tensor transpose_concat(const RuleArgs& args, int input, const Tensor& ct) {
  const auto shape = args.inputs[input].shape();
  const auto& attrs = attrs_as<ConcatAttrs>(args.attrs);
  Dims starts(shape.size(), 0);
  starts[attrs.axis] = attrs.starts[input];
  return slice(ct, starts, shape, Dims(shape.size(), 1));
}

Tensor batch_concat(const BatchArgs& args) {
  std::vector<Tensor> parts;
  for (std::size_t i = 0; i < args.inputs.size(); ++i) parts.push_back(mapped_input(args, i));
  return concat(parts, static_cast<int>(attrs_as<ConcatAttrs>(args.attrs).axis) + 1);
}

}  // namespace

// ------------------------------------------------------------------------------------- records

static Op& reshape_record = shape_family.define(
    {.name = "reshape",
     .kind = OpKind::view,
     .arity = 1,
     .attrs = attrs_type<ShapeAttrs>(),
     .transpose = [](const RuleArgs& args, int,
                     const Tensor& ct) { return reshape(ct, args.inputs[0].shape()); },
     .batch =
         [](const BatchArgs& args) {
           return reshape(args.inputs[0],
                          prefixed(args.size, attrs_as<ShapeAttrs>(args.attrs).shape));
         },
     .infer = infer_reshape,
     .run = run_reshape,
     .fuses = true});

static Op& permute_dims_record =
    shape_family.define({.name = "permute_dims",
                         .kind = OpKind::view,
                         .arity = 1,
                         .attrs = attrs_type<PermuteAttrs>(),
                         .transpose =
                             [](const RuleArgs& args, int, const Tensor& ct) {
                               return permute_dims(ct, inverse_permutation(order_of(args.attrs)));
                             },
                         .batch = batch_permute,
                         .infer = infer_permute,
                         .run = run_permute});

static Op& broadcast_to_record = shape_family.define(
    {.name = "broadcast_to",
     .kind = OpKind::view,
     .arity = 1,
     .attrs = attrs_type<ShapeAttrs>(),
     .transpose = [](const RuleArgs& args, int,
                     const Tensor& ct) { return sum_to_shape(ct, args.inputs[0].shape()); },
     .batch = batch_broadcast,
     .infer = infer_broadcast,
     .run = run_broadcast,
     .fuses = true});

static Op& concat_record = shape_family.define({.name = "concat",
                                                .kind = OpKind::structural,
                                                .arity = 0xff,
                                                .attrs = attrs_type<ConcatAttrs>(),
                                                .transpose = transpose_concat,
                                                .batch = batch_concat,
                                                .infer = infer_concat,
                                                .run = run_concat});

// ----------------------------------------------------------------------------------- functions

Tensor reshape(const Tensor& x, Tensor::Shape shape) {
  Dims target(shape);
  std::int64_t unknown = -1;
  std::int64_t known = 1;
  bool fits = true;
  for (std::size_t i = 0; i < target.size(); ++i) {
    if (target[i] == -1 && unknown < 0) {
      unknown = static_cast<std::int64_t>(i);
    } else {
      fits &= target[i] >= 0;
      fits &= !__builtin_mul_overflow(known, target[i], &known);
    }
  }
  if (unknown >= 0 && fits) {
    fits = known > 0 && x.size() % known == 0;
    if (fits) target[unknown] = x.size() / known;
  }
  if (!fits)
    raise(ErrorKind::value, "reshape",
          "shape " + to_string(x.shape()) + " does not fit shape " + to_string(shape) +
              ": the number of elements must stay the same, and one extent may be -1 where the "
              "others decide it");
  return apply(reshape_record, {&x}, make_attrs(ShapeAttrs{std::move(target)}));
}

Tensor permute_dims(const Tensor& x, Tensor::Shape axes) {
  if (static_cast<int>(axes.size()) != x.ndim())
    raise(ErrorKind::value, "permute_dims",
          std::to_string(axes.size()) + " axes given for shape " + to_string(x.shape()) +
              ": name every axis once");
  Dims order;
  Dims seen(axes.size(), 0);
  for (const std::int64_t axis : axes) {
    order.push_back(normalize_axis(axis, x.ndim(), "permute_dims"));
    if (seen[order.back()]++)
      raise(ErrorKind::value, "permute_dims",
            "axis " + std::to_string(axis) + " is named twice: name every axis once");
  }
  return apply(permute_dims_record, {&x}, make_attrs(PermuteAttrs{std::move(order)}));
}

Tensor expand_dims(const Tensor& x, int axis) {
  Dims shape(x.shape());
  shape.insert(static_cast<std::size_t>(normalize_axis(axis, x.ndim() + 1, "expand_dims")), 1);
  return apply(reshape_record, {&x}, make_attrs(ShapeAttrs{std::move(shape)}));
}

Tensor matrix_transpose(const Tensor& x) {
  if (x.ndim() < 2)
    raise(ErrorKind::value, "matrix_transpose",
          "needs at least two dimensions, shape is " + to_string(x.shape()));
  Dims axes = counting(x.ndim());
  std::swap(axes[axes.size() - 1], axes[axes.size() - 2]);
  return permute_dims(x, axes);
}

Tensor moveaxis(const Tensor& x, Tensor::Shape source, Tensor::Shape destination) {
  const char* const op = "moveaxis";
  if (source.size() != destination.size())
    raise(ErrorKind::value, op, "source and destination must have the same number of axes");
  const auto ndim = static_cast<std::size_t>(x.ndim());
  Dims axes(ndim, -1);
  Dims moved(ndim, 0);
  for (std::size_t i = 0; i < source.size(); ++i) {
    const int from = normalize_axis(source[i], x.ndim(), op);
    const int to = normalize_axis(destination[i], x.ndim(), op);
    if (moved[from]++ || axes[to] >= 0) raise(ErrorKind::value, op, "an axis is named twice");
    axes[to] = from;
  }
  std::int64_t next = 0;
  for (auto& axis : axes) {
    if (axis >= 0) continue;
    while (moved[next]) ++next;
    axis = next++;
  }
  return permute_dims(x, axes);
}

Tensor squeeze(const Tensor& x, const Axes& axis) {
  Dims dropped(static_cast<std::size_t>(x.ndim()), 0);
  for (const std::int64_t at : chosen_axes(axis, x.ndim(), "squeeze")) {
    if (axis.all() && x.shape()[at] != 1) continue;
    if (x.shape()[at] != 1)
      raise(ErrorKind::value, "squeeze",
            "axis " + std::to_string(at) + " of shape " + to_string(x.shape()) +
                " has more or less than one entry: only axes of length 1 can be left out");
    dropped[at] = 1;
  }
  Dims shape;
  for (int i = 0; i < x.ndim(); ++i)
    if (!dropped[i]) shape.push_back(x.shape()[i]);
  return apply(reshape_record, {&x}, make_attrs(ShapeAttrs{std::move(shape)}));
}

Tensor broadcast_to(const Tensor& x, Tensor::Shape shape) {
  return apply(broadcast_to_record, {&x}, make_attrs(ShapeAttrs{Dims(shape)}));
}

Tensor entries_along(const Tensor& x, int axis, std::int64_t start, std::int64_t count,
                     std::int64_t step) {
  Dims starts(static_cast<std::size_t>(x.ndim()), 0);
  Dims steps(static_cast<std::size_t>(x.ndim()), 1);
  Dims counts(x.shape());
  starts[axis] = start;
  counts[axis] = count;
  steps[axis] = step;
  return slice(x, starts, counts, steps);
}

Tensor any_neighbours(const Tensor& x, Tensor (*compare)(const Tensor&, const Tensor&)) {
  const std::int64_t pairs = x.size() - 1;
  return any(compare(entries_along(x, 0, 0, pairs), entries_along(x, 0, 1, pairs)));
}

Tensor flip(const Tensor& x, const Axes& axis) {
  const Dims counts(x.shape());
  Dims starts(counts.size(), 0), steps(counts.size(), 1);
  for (const std::int64_t at : chosen_axes(axis, x.ndim(), "flip")) {
    starts[at] = std::max<std::int64_t>(counts[at] - 1, 0);
    steps[at] = -1;
  }
  return slice(x, starts, counts, steps);
}

namespace {

Tensor joined(std::span<const Tensor> parts, int axis) {
  if (parts.empty()) raise(ErrorKind::value, "concat", "needs at least one tensor");
  if (parts[0].ndim() == 0)
    raise(ErrorKind::value, "concat",
          "scalars have no axis to join along: use stack, or reshape them to (1,)");
  const int at = normalize_axis(axis, parts[0].ndim(), "concat");
  DType dtype = parts[0].dtype();
  for (const Tensor& part : parts) dtype = promote(dtype, part.dtype());
  Dims starts{0};
  std::vector<Tensor> converted;
  std::vector<Node*> nodes;
  converted.reserve(parts.size());
  for (const Tensor& part : parts) {
    converted.push_back(part.dtype() == dtype ? part : astype(part, dtype));
    nodes.push_back(converted.back().node());
    starts.push_back(starts.back() + (at < part.ndim() ? part.shape()[at] : 0));
  }
  return Tensor::adopt(apply(concat_record, nodes, make_attrs(ConcatAttrs{at, std::move(starts)})));
}

}  // namespace

Tensor concat(std::span<const Tensor> arrays, std::optional<int> axis) {
  if (axis) return joined(arrays, *axis);
  std::vector<Tensor> flat;
  flat.reserve(arrays.size());
  for (const Tensor& x : arrays) flat.push_back(reshape(x, Dims{-1}));
  return joined(flat, 0);
}

Tensor stack(std::span<const Tensor> parts, int axis) {
  if (parts.empty()) raise(ErrorKind::value, "stack", "needs at least one tensor");
  const Dims shape(parts[0].shape());
  std::vector<Tensor> expanded;
  expanded.reserve(parts.size());
  const int at = normalize_axis(axis, parts[0].ndim() + 1, "stack");
  for (const Tensor& part : parts) {
    if (Dims(part.shape()) != shape)
      raise(ErrorKind::value, "stack",
            "shapes " + to_string(shape) + " and " + to_string(part.shape()) +
                " cannot be stacked: all must be equal");
    expanded.push_back(expand_dims(part, at));
  }
  return concat(expanded, at);
}

void register_shape_ops() {
  shape_family.register_all();
  register_functions({
      {.name = "reshape",
       .signature = "(x, /, shape, *, copy=None)",
       .doc = "The same elements in another shape; one extent may be -1.",
       .entry = entry_of<reshape>()},
      {.name = "permute_dims",
       .signature = "(x, /, axes)",
       .doc = "The axes in another order.",
       .entry = entry_of<permute_dims>(),
       .method = true},
      {.name = "matrix_transpose",
       .signature = "(x, /)",
       .doc = "The last two axes exchanged.",
       .entry = entry_of<matrix_transpose>()},
      {.name = "moveaxis",
       .signature = "(x, source, destination, /)",
       .doc = "Axes moved to other positions.",
       .entry = entry_of<moveaxis>()},
      {.name = "expand_dims",
       .signature = "(x, /, axis=0)",
       .doc = "A new axis of length one.",
       .entry = entry_of<expand_dims>()},
      {.name = "squeeze",
       .signature = "(x, /, axis=None)",
       .doc = "Without the given axes, which have length one; without all such axes where none is "
              "given.",
       .entry = entry_of<squeeze>(),
       .method = true},
      {.name = "broadcast_to",
       .signature = "(x, /, shape)",
       .doc = "Repeated to a larger shape.",
       .entry = entry_of<broadcast_to>()},
      {.name = "flip",
       .signature = "(x, /, axis=None)",
       .doc = "Elements in reverse along the axes.",
       .entry = entry_of<flip>()},
      {.name = "concat",
       .signature = "(arrays, /, axis=0)",
       .doc = "Tensors joined along an axis; of all elements where it is None.",
       .entry = entry_of<concat>()},
      {.name = "stack",
       .signature = "(arrays, /, axis=0)",
       .doc = "Tensors joined along a new axis.",
       .entry = entry_of<stack>()},
  });
}

}  // namespace adjoint
