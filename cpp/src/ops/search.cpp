// Sums and products up to each entry, places in sorted rows and of extremes, and what depends on
// which values there are. How many results `nonzero` and the functions of unique values give
// depends on values, which therefore have to be known.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "kernels/reduce.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family search_family;

// ------------------------------------------------------------------------------ cumulative_sum

struct CumulativeAttrs {
  std::int64_t axis;
  bool backward = false;  // from the last entry to the first

  static constexpr auto fields() {
    return std::tuple(field("axis", &CumulativeAttrs::axis),
                      field("backward", &CumulativeAttrs::backward));
  }
};

/// Calls f(at, before) for the places of the elements in memory, and of the entry before along the
/// axis, in the order in which sums and products go; -1 where there is none.
template <class F>
void for_running(Layout::Extents shape, const CumulativeAttrs& attrs, const F& f) {
  const auto axis = static_cast<std::size_t>(attrs.axis);
  const std::int64_t n = shape[axis];
  const std::int64_t outer = product(shape.first(axis));
  const std::int64_t inner = product(shape.subspan(axis + 1));
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t k = 0; k < n; ++k) {
      const std::int64_t at = (o * n + (attrs.backward ? n - 1 - k : k)) * inner;
      const std::int64_t before = k == 0 ? -1 : attrs.backward ? at + inner : at - inner;
      for (std::int64_t i = 0; i < inner; ++i) f(at + i, before < 0 ? before : before + i);
    }
}

/// Each entry combined with the result before it.
template <class Combine>
void run_cumulative(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                    std::uint32_t) {
  allocate_value(out, op.name);
  const Tensor x = contiguous(in[0]);
  with_type(x.dtype(), [&]<class T>(T) {
    const auto* from = static_cast<const T*>(x.node()->data());
    auto* to = static_cast<T*>(out->data());
    for_running(
        x.shape(), attrs_as<CumulativeAttrs>(attrs), [&](std::int64_t at, std::int64_t before) {
          to[at] = before < 0 ? from[at]
                              : static_cast<T>(Combine{}(static_cast<Wrapping<T>>(to[before]),
                                                         static_cast<Wrapping<T>>(from[at])));
        });
  });
}

Op& cumulative_sum_record = search_family.define(
    {.name = "cumulative_sum",
     .kind = OpKind::structural,
     .arity = 1,
     .attrs = attrs_type<CumulativeAttrs>(),
     .transpose =
         [](const RuleArgs& args, int, const Tensor& ct) {
           const auto& [axis, backward] = attrs_as<CumulativeAttrs>(args.attrs);
           return apply(args.op, {&ct}, make_attrs(CumulativeAttrs{axis, !backward}));
         },
     .batch = batch_by_axis<CumulativeAttrs>,
     .infer = infer_same,
     .run = run_cumulative<std::plus<>>});

// ----------------------------------------------------------------------------- cumulative_prod

/// What stands before each entry on the way along an axis: first `start`, of one entry.
Tensor entries_before(const Tensor& x, const CumulativeAttrs& way, double start) {
  const int axis = static_cast<int>(way.axis);
  const std::int64_t n = x.shape()[axis];
  if (n == 0) return x;
  Dims one(x.shape());
  one[axis] = 1;
  const Tensor first = broadcast_to(scalar_like(x, start), one);
  const Tensor others = entries_along(x, axis, way.backward ? 1 : 0, n - 1);
  return concat(way.backward ? std::vector{others, first} : std::vector{first, others}, axis);
}

CumulativeAttrs reversed(const CumulativeAttrs& way) { return {way.axis, !way.backward}; }

/// y = b + a * (y before it), and 0 of such a product where a factor is 0: the derivative of
/// products up to each entry, and its own.
void run_recurrence(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                    std::uint32_t) {
  allocate_value(out, op.name);
  const Tensor factors = contiguous(in[0]), terms = contiguous(in[1]);
  with_type(out->dtype, [&]<class T>(T) {
    const auto* a = static_cast<const T*>(factors.node()->data());
    const auto* b = static_cast<const T*>(terms.node()->data());
    auto* y = static_cast<T*>(out->data());
    for_running(terms.shape(), attrs_as<CumulativeAttrs>(attrs),
                [&](std::int64_t at, std::int64_t before) {
                  const bool none = before < 0 || a[at] == T{0} || y[before] == T{0};
                  y[at] = none ? b[at] : static_cast<T>(b[at] + a[at] * y[before]);
                });
  });
}

Tensor recurrence(const Tensor& factors, const Tensor& terms, const CumulativeAttrs& way);

/// The cotangent of the terms: it takes the way back.
Tensor recurrence_back(const Tensor& factors, const Tensor& ct, const CumulativeAttrs& way) {
  const CumulativeAttrs back = reversed(way);
  return recurrence(entries_before(factors, back, 0), ct, back);
}

Op& recurrence_record = search_family.define(
    {.name = "linear_recurrence",
     .signature = "(factors, terms, /)",
     .doc = "Each term plus a factor times the result before it.",
     .kind = OpKind::structural,
     .arity = 2,
     .attrs = attrs_type<CumulativeAttrs>(),
     .vjp =
         [](const RuleArgs& args, int input, const Tensor& ct) {
           const auto& way = attrs_as<CumulativeAttrs>(args.attrs);
           const Tensor back = recurrence_back(args.inputs[0], ct, way);
           return input == 1 ? back : mul0(back, entries_before(args.output, way, 0));
         },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> t) {
           const auto& way = attrs_as<CumulativeAttrs>(args.attrs);
           if (!t[0].defined()) return recurrence(args.inputs[0], t[1], way);
           const Tensor change = mul0(t[0], entries_before(args.output, way, 0));
           return recurrence(args.inputs[0], t[1].defined() ? t[1] + change : change, way);
         },
     .needs = {1 | kSavesOutput, 1, 0},
     .batch =
         [](const BatchArgs& args) {
           CumulativeAttrs way = attrs_as<CumulativeAttrs>(args.attrs);
           ++way.axis;
           return recurrence(mapped_input(args, 0), mapped_input(args, 1), way);
         },
     .infer = infer_same,
     .run = run_recurrence,
     .internal = true});

Tensor recurrence(const Tensor& factors, const Tensor& terms, const CumulativeAttrs& way) {
  return apply(recurrence_record, {&factors, &terms}, make_attrs(CumulativeAttrs(way)));
}

// Products go from entry to entry, so that what they are does not hang on how many follow: no
// product of a part overflows that is not itself a result.
Op& cumulative_prod_record = search_family.define(
    {.name = "cumulative_prod",
     .kind = OpKind::structural,
     .arity = 1,
     .attrs = attrs_type<CumulativeAttrs>(),
     .vjp =
         [](const RuleArgs& args, int, const Tensor& ct) {
           const auto& way = attrs_as<CumulativeAttrs>(args.attrs);
           return mul0(recurrence_back(args.inputs[0], ct, way),
                       entries_before(args.output, way, 1));
         },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> t) {
           const auto& way = attrs_as<CumulativeAttrs>(args.attrs);
           return recurrence(args.inputs[0], mul0(t[0], entries_before(args.output, way, 1)), way);
         },
     .needs = {1 | kSavesOutput, 0, 0},
     .batch = batch_by_axis<CumulativeAttrs>,
     .infer = infer_same,
     .run = run_cumulative<std::multiplies<>>});

// -------------------------------------------------------------------------------- searchsorted

struct SearchAttrs {
  std::int64_t lead;  // leading axes that both inputs have in common, one row each
  bool right;         // after equal ones

  static constexpr auto fields() {
    return std::tuple(field("lead", &SearchAttrs::lead), field("right", &SearchAttrs::right));
  }
};

void run_searchsorted(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                      std::uint32_t) {
  allocate_value(out, op.name);
  const Tensor sorted = contiguous(in[0]), wanted = contiguous(in[1]);
  const bool right = attrs_as<SearchAttrs>(attrs).right;
  const auto lead = static_cast<std::size_t>(attrs_as<SearchAttrs>(attrs).lead);
  const std::int64_t rows = product(sorted.shape().first(lead));
  const std::int64_t n = sorted.shape()[lead];
  const std::int64_t count = product(wanted.shape().subspan(lead));
  auto* to = static_cast<std::int64_t*>(out->data());
  with_type(sorted.dtype(), [&]<class T>(T) {
    const auto* row = static_cast<const T*>(sorted.node()->data());
    const auto* value = static_cast<const T*>(wanted.node()->data());
    for (std::int64_t r = 0; r < rows; ++r, row += n)
      for (std::int64_t i = 0; i < count; ++i, ++value) {
        const T* at = right ? std::upper_bound(row, row + n, *value, comes_before<T>)
                            : std::lower_bound(row, row + n, *value, comes_before<T>);
        *to++ = at - row;
      }
  });
}

Op& searchsorted_record = search_family.define(
    {.name = "searchsorted",
     .kind = OpKind::structural,
     .arity = 2,
     .attrs = attrs_type<SearchAttrs>(),
     .batch =
         [](const BatchArgs& args) {
           const Tensor x1 = mapped_input(args, 0), x2 = mapped_input(args, 1);
           const auto& [lead, right] = attrs_as<SearchAttrs>(args.attrs);
           return apply(args.op, {&x1, &x2}, make_attrs(SearchAttrs{lead + 1, right}));
         },
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return ResultSpec{DType::int64, Dims(in[1]->layout.shape())};
     },
     .run = run_searchsorted});

// ------------------------------------------------------------------------------- argmax, argmin

struct ArgAttrs {
  std::int64_t axis;
  bool keepdims;

  static constexpr auto fields() {
    return std::tuple(field("axis", &ArgAttrs::axis), field("keepdims", &ArgAttrs::keepdims));
  }
};

ResultList infer_arg(const Op& op, std::span<Node* const> in, const Attrs* attrs) {
  const auto axis = static_cast<std::size_t>(attrs_as<ArgAttrs>(attrs).axis);
  Dims shape(in[0]->layout.shape());
  if (!kernels::find_argreduce(op.name, in[0]->dtype))
    raise(ErrorKind::type, op.name,
          "dtype " + std::string(name(in[0]->dtype)) + " has no order: convert with astype");
  if (shape[axis] == 0)
    raise(ErrorKind::value, op.name,
          "axis " + std::to_string(axis) + " of shape " + to_string(shape) +
              " is empty: there is nothing to choose from");
  if (attrs_as<ArgAttrs>(attrs).keepdims) {
    shape[axis] = 1;
  } else {
    shape.erase(axis);
  }
  return {DType::int64, shape};
}

void run_arg(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
             std::uint32_t) {
  Node* x = in[0];
  allocate_value(out, op.name);
  if (out->layout.size() == 0) return;
  const Layout& from = x->layout;
  const int axis = static_cast<int>(attrs_as<ArgAttrs>(attrs).axis);
  const Dims order = moved_axis(from.ndim(), axis, from.ndim() - 1);
  Dims shape, strides;
  for (const std::int64_t a : order) {
    shape.push_back(from.shape()[a]);
    strides.push_back(from.strides()[a]);
  }
  const Tensor seen = Tensor::adopt(new_node(x->dtype, Layout()));
  share_value(seen.node(), x, Layout(shape, strides, from.offset()));
  const Tensor rows = contiguous(seen.node());
  kernels::argreduce_rows(kernels::find_argreduce(op.name, x->dtype), rows.node()->data(),
                          itemsize(x->dtype), out->layout.size(), shape.back(),
                          static_cast<std::int64_t*>(out->data()));
}

Op& argmax_record = search_family.define({.name = "argmax",
                                          .kind = OpKind::structural,
                                          .arity = 1,
                                          .attrs = attrs_type<ArgAttrs>(),
                                          .batch = batch_by_axis<ArgAttrs>,
                                          .infer = infer_arg,
                                          .run = run_arg});

Op& argmin_record = search_family.define({.name = "argmin",
                                          .kind = OpKind::structural,
                                          .arity = 1,
                                          .attrs = attrs_type<ArgAttrs>(),
                                          .batch = batch_by_axis<ArgAttrs>,
                                          .infer = infer_arg,
                                          .run = run_arg});

/// Without an axis, the position among all elements in row-major order.
Tensor extreme_index(const Op& op, const Tensor& x, std::optional<int> axis, bool keepdims) {
  if (axis)
    return apply(op, {&x},
                 make_attrs(ArgAttrs{normalize_axis(*axis, x.ndim(), op.name), keepdims}));
  const Tensor flat = reshape(x, Dims{-1});
  const Tensor found = apply(op, {&flat}, make_attrs(ArgAttrs{0, false}));
  return keepdims ? reshape(found, Dims(static_cast<std::size_t>(x.ndim()), 1)) : found;
}

}  // namespace

// ------------------------------------------------------------------------------- known values

Tensor in_int64(const Tensor& x) {
  if (x.dtype() != DType::uint64) return astype(x, DType::int64);
  const Tensor most = Tensor::scalar(std::numeric_limits<std::int64_t>::max(), DType::uint64);
  return astype(minimum(x, most), DType::int64);
}

std::vector<std::int64_t> known_integers(const Tensor& x, const char* op) {
  const Tensor value = contiguous(in_int64(known_value(x.node(), op).detach()).node());
  const auto* data = static_cast<const std::int64_t*>(value.node()->data());
  return {data, data + value.size()};
}

namespace {

/// The elements in order, and which of them are equal. Every nan differs from every other.
struct Unique {
  std::vector<std::int64_t> first, inverse, counts;  // places in the flattened tensor

  Unique(const Tensor& x, const char* op) {
    const Tensor flat = reshape(known_value(x.node(), op).detach(), Dims{-1});
    const std::int64_t n = flat.size();
    inverse.resize(static_cast<std::size_t>(n));
    if (n == 0) return;
    const Tensor places = argsort(flat);
    const Tensor sorted = take(flat, places);
    const Tensor differs = not_equal(take(sorted, arange(std::int64_t{1}, n)),
                                     take(sorted, arange(std::int64_t{0}, n - 1)));
    const std::vector<std::int64_t> order = known_integers(places, op);
    const std::vector<std::int64_t> starts = known_integers(differs, op);
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i == 0 || starts[i - 1] != 0) {
        first.push_back(order[i]);
        counts.push_back(0);
      }
      ++counts.back();
      inverse[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(first.size()) - 1;
    }
  }
  Tensor values(const Tensor& x) const { return take(reshape(x, Dims{-1}), integers_of(first)); }
  Tensor places(const Tensor& x) const { return reshape(integers_of(inverse), x.shape()); }
};

}  // namespace

// ----------------------------------------------------------------------------------- functions

namespace {

/// What sums and products up to each entry start from: those of no entries, and all in their dtype.
struct Accumulation {
  int axis;
  Tensor none, x;

  Accumulation(const Tensor& given, std::optional<int> over, std::optional<DType> dtype,
               const char* op,
               Tensor (*reduce)(const Tensor&, const Axes&, bool, std::optional<DType>)) {
    if (!over && given.ndim() != 1)
      raise(ErrorKind::value, op, "needs axis= for a tensor of shape " + to_string(given.shape()));
    axis = normalize_axis(over.value_or(0), given.ndim(), op);
    none = reduce(entries_along(given, axis, 0, 0), axis, true, dtype);
    x = astype(given, none.dtype());
  }
  Tensor with_initial(const Tensor& y, bool wanted) const {
    return wanted ? concat(std::vector{none, y}, axis) : y;
  }
};

}  // namespace

Tensor cumulative_sum(const Tensor& x, std::optional<int> axis, std::optional<DType> dtype,
                      bool include_initial) {
  const Accumulation a(x, axis, dtype, "cumulative_sum", sum);
  const Tensor out = apply(cumulative_sum_record, {&a.x}, make_attrs(CumulativeAttrs{a.axis}));
  return a.with_initial(out, include_initial);
}

Tensor cumulative_prod(const Tensor& x, std::optional<int> axis, std::optional<DType> dtype,
                       bool include_initial) {
  const Accumulation a(x, axis, dtype, "cumulative_prod", prod);
  const Tensor out = apply(cumulative_prod_record, {&a.x}, make_attrs(CumulativeAttrs{a.axis}));
  return a.with_initial(out, include_initial);
}

Tensor cumsum(const Tensor& x, std::optional<int> axis, std::optional<DType> dtype) {
  return axis ? cumulative_sum(x, axis, dtype) : cumulative_sum(ravel(x), 0, dtype);
}
Tensor cumprod(const Tensor& x, std::optional<int> axis, std::optional<DType> dtype) {
  return axis ? cumulative_prod(x, axis, dtype) : cumulative_prod(ravel(x), 0, dtype);
}

Tensor searchsorted(const Tensor& x1, const Tensor& x2, std::string_view side,
                    const std::optional<Tensor>& sorter) {
  const char* const op = "searchsorted";
  if (side != "left" && side != "right")
    raise(ErrorKind::value, op, "side must be 'left' or 'right', not '" + std::string(side) + "'");
  if (x1.ndim() != 1)
    raise(ErrorKind::value, op, "x1 must have one dimension, shape " + to_string(x1.shape()));
  if (sorter && !std::ranges::equal(sorter->shape(), x1.shape()))
    raise(ErrorKind::value, op,
          "sorter of shape " + to_string(sorter->shape()) + " does not sort x1 of shape " +
              to_string(x1.shape()));
  const DType dtype = promote(x1.dtype(), x2.dtype());
  const Tensor row = astype(sorter ? take(x1, *sorter, 0) : x1, dtype);
  const Tensor values = astype(x2, dtype);
  return apply(searchsorted_record, {&row, &values}, make_attrs(SearchAttrs{0, side == "right"}));
}

std::vector<Tensor> nonzero(const Tensor& x) {
  const char* const op = "nonzero";
  if (x.ndim() == 0)
    raise(ErrorKind::value, op, "a scalar has no axes to name places on: reshape it to (1,)");
  const std::vector<std::int64_t> hit = known_integers(astype(x, DType::boolean), op);
  const Layout dense(x.shape());
  std::vector<std::vector<std::int64_t>> places(static_cast<std::size_t>(x.ndim()));
  for (std::size_t i = 0; i < hit.size(); ++i) {
    if (hit[i] == 0) continue;
    for (std::size_t a = 0; a < places.size(); ++a)
      places[a].push_back(static_cast<std::int64_t>(i) / dense.strides()[a] % x.shape()[a]);
  }
  std::vector<Tensor> out;
  out.reserve(places.size());
  for (const auto& along : places) out.push_back(integers_of(along));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> unique_all(const Tensor& x) {
  const Unique u(x, "unique_all");
  return {u.values(x), integers_of(u.first), u.places(x), integers_of(u.counts)};
}
std::tuple<Tensor, Tensor> unique_counts(const Tensor& x) {
  const Unique u(x, "unique_counts");
  return {u.values(x), integers_of(u.counts)};
}
std::tuple<Tensor, Tensor> unique_inverse(const Tensor& x) {
  const Unique u(x, "unique_inverse");
  return {u.values(x), u.places(x)};
}
Tensor unique_values(const Tensor& x) { return Unique(x, "unique_values").values(x); }

Tensor argmax(const Tensor& x, std::optional<int> axis, bool keepdims) {
  return extreme_index(argmax_record, x, axis, keepdims);
}
Tensor argmin(const Tensor& x, std::optional<int> axis, bool keepdims) {
  return extreme_index(argmin_record, x, axis, keepdims);
}

void register_search_ops() {
  search_family.register_all();
  register_functions({
      {.name = "argmax",
       .signature = "(x, /, axis=None, *, keepdims=False)",
       .doc = "The index of the first maximum.",
       .entry = entry_of<argmax>(),
       .method = true},
      {.name = "argmin",
       .signature = "(x, /, axis=None, *, keepdims=False)",
       .doc = "The index of the first minimum.",
       .entry = entry_of<argmin>(),
       .method = true},
      {.name = "cumulative_sum",
       .signature = "(x, /, *, axis=None, dtype=None, include_initial=False)",
       .doc = "Sums of all entries up to each one along an axis; narrow integers in 64 bits.",
       .entry = entry_of<cumulative_sum>()},
      {.name = "cumulative_prod",
       .signature = "(x, /, *, axis=None, dtype=None, include_initial=False)",
       .doc = "Products of all entries up to each one along an axis.",
       .entry = entry_of<cumulative_prod>()},
      {.name = "cumsum",
       .signature = "(x, /, axis=None, dtype=None)",
       .doc = "`cumulative_sum`, of all elements in one axis where none is given.",
       .entry = entry_of<cumsum>(),
       .method = true},
      {.name = "cumprod",
       .signature = "(x, /, axis=None, dtype=None)",
       .doc = "`cumulative_prod`, of all elements in one axis where none is given.",
       .entry = entry_of<cumprod>(),
       .method = true},
      {.name = "searchsorted",
       .signature = "(x1, x2, /, *, side='left', sorter=None)",
       .doc = "Where to put the values x2 into the sorted row x1: before or after equal ones.",
       .entry = entry_of<searchsorted>()},
      {.name = "nonzero",
       .signature = "(x, /) -> tuple",
       .doc = "The places of what is not zero, one tensor of indices for each axis.",
       .entry = entry_of<nonzero>(),
       .method = true},
      {.name = "unique_all",
       .signature = "(x, /) -> (values, indices, inverse_indices, counts)",
       .doc = "The distinct values in order, where each is first, the number of each element's "
              "value, and how often each occurs. Every nan is a value of its own.",
       .entry = entry_of<unique_all>()},
      {.name = "unique_counts",
       .signature = "(x, /) -> (values, counts)",
       .doc = "The distinct values in order, and how often each occurs.",
       .entry = entry_of<unique_counts>()},
      {.name = "unique_inverse",
       .signature = "(x, /) -> (values, inverse_indices)",
       .doc = "The distinct values in order, and the number of each element's value.",
       .entry = entry_of<unique_inverse>()},
      {.name = "unique_values",
       .signature = "(x, /)",
       .doc = "The distinct values in order.",
       .entry = entry_of<unique_values>()},
  });
}

}  // namespace adjoint
