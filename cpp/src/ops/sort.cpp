// Orders. A sort is stable in both directions, and nan counts as larger than every number.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family sort_family;

struct OrderAttrs {
  std::int64_t axis;
  bool descending;

  static constexpr auto fields() {
    return std::tuple(field("axis", &OrderAttrs::axis),
                      field("descending", &OrderAttrs::descending));
  }
};

/// Calls body(values, stride, start) for every row along the axis of contiguous x; `start` is the
/// offset of its first element.
template <class F>
void for_rows(Layout::Extents shape, std::int64_t axis, F&& body) {
  const std::int64_t outer = product(shape.first(axis));
  const std::int64_t inner = product(shape.subspan(axis + 1));
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < inner; ++i) body(o * shape[axis] * inner + i, inner);
}

template <class T>
void order_row(const T* x, std::int64_t stride, std::span<std::int64_t> order, bool descending) {
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [=](std::int64_t i, std::int64_t j) {
    const T a = x[i * stride];
    const T b = x[j * stride];
    return descending ? comes_before(b, a) : comes_before(a, b);
  });
}

/// Calls write(offset of the element of the result, offset of the row, stride, source position).
template <class F>
void run_ordered(Node* x, const Attrs* attrs, F&& write) {
  const auto shape = x->layout.shape();
  const auto& by = attrs_as<OrderAttrs>(attrs);
  std::vector<std::int64_t> order(static_cast<std::size_t>(shape[by.axis]));
  with_type(x->dtype, [&]<class T>(T) {
    const auto* data = static_cast<const T*>(x->data());
    for_rows(shape, by.axis, [&](std::int64_t start, std::int64_t stride) {
      order_row(data + start, stride, order, by.descending);
      for (std::size_t i = 0; i < order.size(); ++i)
        write(start + static_cast<std::int64_t>(i) * stride, start, stride, order[i]);
    });
  });
}

void run_argsort(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                 std::uint32_t) {
  allocate_value(out, "argsort");
  const Tensor x = contiguous(in[0]);
  auto* to = static_cast<std::int64_t*>(out->data());
  run_ordered(
      x.node(), attrs,
      [to](std::int64_t at, std::int64_t, std::int64_t, std::int64_t source) { to[at] = source; });
}

void run_sort(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
  allocate_value(out, "sort");
  const Tensor x = contiguous(in[0]);
  const std::size_t size = itemsize(out->dtype);
  auto* to = static_cast<char*>(out->data());
  const auto* from = static_cast<const char*>(x.node()->data());
  run_ordered(x.node(), attrs,
              [=](std::int64_t at, std::int64_t start, std::int64_t stride, std::int64_t source) {
                std::memcpy(to + at * size, from + (start + source * stride) * size, size);
              });
}

ResultSpec infer_order(const Op& op, std::span<Node* const> in, DType dtype) {
  if (in[0]->layout.ndim() == 0)
    raise(ErrorKind::value, op.name, "a scalar has no axis to sort along: reshape it to (1,)");
  return {dtype, Dims(in[0]->layout.shape())};
}

Op& argsort_record = sort_family.define(
    {.name = "argsort",
     .kind = OpKind::structural,
     .arity = 1,
     .attrs = attrs_type<OrderAttrs>(),
     .batch = batch_by_axis<OrderAttrs>,
     .infer = [](const Op& op, std::span<Node* const> in, const Attrs*) -> ResultList {
       return infer_order(op, in, DType::int64);
     },
     .run = run_argsort});

Tensor argsort_of(const Tensor& x, std::int64_t axis, bool descending) {
  return apply(argsort_record, {&x}, make_attrs(OrderAttrs{axis, descending}));
}

/// y[..., i, ...] = x[..., order[..., i, ...], ...] along the axis.
Tensor reordered(const Tensor& x, const Tensor& order, std::int64_t axis) {
  const Dims last = moved_axis(x.ndim(), static_cast<int>(axis), x.ndim() - 1);
  const Tensor rows = permute_dims(x, last);
  const std::int64_t n = rows.shape().back();
  const std::int64_t count = product(rows.shape().first(rows.shape().size() - 1));
  Node* extent = new_node(DType::int64, Layout());
  extent->stored.put<std::int64_t>(n);
  const Tensor first = multiply(arange(0, count), Tensor::adopt(extent));
  const Tensor index =
      add(reshape(permute_dims(order, last), Dims{count, n}), reshape(first, Dims{count, 1}));
  const Tensor y = take(reshape(rows, Dims{count * n}), index, 0);
  return permute_dims(reshape(y, rows.shape()), inverse_permutation(last));
}

// The slope of a sort is a permutation: its transpose puts every cotangent back where the element
// came from.
Tensor vjp_sort(const RuleArgs& args, int, const Tensor& ct) {
  const auto& [axis, descending] = attrs_as<OrderAttrs>(args.attrs);
  const Tensor order = argsort_of(args.inputs[0], axis, descending);
  return reordered(ct, argsort_of(order, axis, false), axis);
}

Tensor jvp_sort(const RuleArgs& args, std::span<const Tensor> tangents) {
  const auto& [axis, descending] = attrs_as<OrderAttrs>(args.attrs);
  return reordered(tangents[0], argsort_of(args.inputs[0], axis, descending), axis);
}

[[maybe_unused]] Op& sort_record = sort_family.define(
    {.name = "sort",
     .kind = OpKind::structural,
     .arity = 1,
     .attrs = attrs_type<OrderAttrs>(),
     .vjp = vjp_sort,
     .jvp = jvp_sort,
     .needs = {1, 0, 0},
     .batch = batch_by_axis<OrderAttrs>,
     .infer = [](const Op& op, std::span<Node* const> in, const Attrs*) -> ResultList {
       return infer_order(op, in, in[0]->dtype);
     },
     .run = run_sort});

}  // namespace

Tensor sort(const Tensor& x, int axis, bool descending, bool) {
  return apply(sort_record, {&x},
               make_attrs(OrderAttrs{normalize_axis(axis, x.ndim(), "sort"), descending}));
}
Tensor argsort(const Tensor& x, int axis, bool descending, bool) {
  return argsort_of(x, normalize_axis(axis, x.ndim(), "argsort"), descending);
}

namespace {

constexpr const char* kOrder = "(x, /, axis=-1, *, descending=False, stable=True)";

}  // namespace

void register_sort_ops() {
  sort_family.register_all();
  register_functions({
      {.name = "sort",
       .signature = kOrder,
       .doc = "The elements in order along an axis; nan counts as larger than every number.\n\n"
              "Equal elements keep their order, whatever `stable` says.",
       .entry = entry_of<sort>(),
       .method = true},
      {.name = "argsort",
       .signature = kOrder,
       .doc = "The indices that put the elements in order along an axis.\n\n"
              "Equal elements keep their order, whatever `stable` says.",
       .entry = entry_of<argsort>(),
       .method = true},
  });
}

}  // namespace adjoint
