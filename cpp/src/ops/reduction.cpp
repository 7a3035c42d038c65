// Reductions. A run of adjacent axes is reduced at once, from the last run to the first; that
// order, and the order inside a run (kernels/reduce.h), depend on the shape alone.
#include "kernels/reduce.h"

#include <algorithm>
#include <numeric>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family reduction_family;

Dims reduced_shape(Layout::Extents shape, const Dims& axes, bool keepdims) {
  Dims out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool reduced =
        std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(i)) != axes.end();
    if (!reduced) out.push_back(shape[i]);
    if (reduced && keepdims) out.push_back(1);
  }
  return out;
}

DType accumulator(const Op& op, DType t) {
  const std::string_view name = op.name;
  return name == "sum" || name == "prod" ? summed_dtype(t) : t;
}

ResultList infer_reduction(const Op& op, std::span<Node* const> in, const Attrs* attrs) {
  const DType t = accumulator(op, in[0]->dtype);
  if (!op.reducers[static_cast<int>(t)])
    raise(ErrorKind::type, op.name,
          "dtype " + std::string(adjoint::name(in[0]->dtype)) +
              " given; the reduction does not exist for it: convert with astype");
  const auto shape = in[0]->layout.shape();
  const auto& [axes, keepdims] = attrs_as<ReduceAttrs>(attrs);
  for (const std::int64_t axis : axes)
    if (shape[axis] == 0 && !op.reducers[static_cast<int>(t)]->identity)
      raise(ErrorKind::value, op.name,
            "axis " + std::to_string(axis) + " of shape " + to_string(shape) +
                " is empty, and the reduction of nothing is undefined");
  return {t, reduced_shape(shape, axes, keepdims)};
}

/// Reduces axes [first, last] of contiguous data of `shape` into `out`.
void reduce_run(const kernels::ReduceKernel* k, const void* in, const Dims& shape, int first,
                int last, void* out) {
  const auto product = [&](std::size_t a, std::size_t b) {
    return std::accumulate(shape.begin() + a, shape.begin() + b, std::int64_t{1},
                           std::multiplies<>());
  };
  const std::int64_t outer = product(0, first);
  const std::int64_t rows = product(first, last + 1);
  if (static_cast<std::size_t>(last) + 1 == shape.size()) {
    kernels::reduce_rows(k, in, outer, rows, out);
  } else {
    kernels::reduce_columns(k, in, outer, rows, product(last + 1, shape.size()), out);
  }
}

void run_reduction(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                   std::uint32_t) {
  const kernels::ReduceKernel* k = op.reducers[static_cast<int>(out->dtype)];
  Tensor x = contiguous(in[0]);
  if (x.dtype() != out->dtype) {
    const RecordingScope off(false);
    x = astype(x, out->dtype);
    materialize(x.node());
  }
  Dims shape(x.shape());
  const Dims& axes = attrs_as<ReduceAttrs>(attrs).axes;
  if (axes.empty()) return share_value(out, x.node(), Layout(x.node()->layout));
  for (std::size_t end = axes.size(); end > 0;) {
    std::size_t begin = end - 1;
    while (begin > 0 && axes[begin - 1] == axes[begin] - 1) --begin;
    Dims smaller = shape;
    for (std::size_t i = begin; i < end; ++i) smaller[axes[i]] = 1;
    Tensor part = Tensor::adopt(new_array(out->dtype, smaller, op.name));
    reduce_run(k, x.node()->data(), shape, static_cast<int>(axes[begin]),
               static_cast<int>(axes[end - 1]), part.node()->data());
    x = part;
    shape = smaller;
    end = begin;
  }
  share_stored(out, x.node());
}

std::int64_t reduced_count(const Tensor& x, const Dims& axes) {
  std::int64_t n = 1;
  for (const std::int64_t a : axes) n *= x.shape()[a];
  return n;
}

const Dims& axes_of(const RuleArgs& args) { return attrs_as<ReduceAttrs>(args.attrs).axes; }

/// A reduced value seen with its axes kept, then repeated over the original shape.
Tensor expand(const Tensor& reduced, const RuleArgs& args) {
  const auto shape = args.inputs[0].shape();
  return broadcast_to(reshape(reduced, reduced_shape(shape, axes_of(args), true)), shape);
}

Tensor reduce(const Op& op, const Tensor& x, const Dims& axes, bool keepdims) {
  return apply(op, {&x}, make_attrs(ReduceAttrs{axes, keepdims}));
}

/// The batch is axis 0 of the input: the reduced axes move up by one.
Tensor batch_reduction(const BatchArgs& args) {
  ReduceAttrs attrs = attrs_as<ReduceAttrs>(args.attrs);
  for (auto& axis : attrs.axes) ++axis;
  return apply(args.op, {&args.inputs[0]}, make_attrs(std::move(attrs)));
}

}  // namespace

static Op& sum_record = reduction_family.define(
    {.name = "sum",
     .kind = OpKind::reduction,
     .arity = 1,
     .attrs = attrs_type<ReduceAttrs>(),
     .transpose = [](const RuleArgs& args, int, const Tensor& ct) { return expand(ct, args); },
     .batch = batch_reduction,
     .infer = infer_reduction,
     .run = run_reduction,
     .reduces = true,
     .method = true});

namespace {

/// Weights of the elements that equal the extreme: equal shares that sum to one. Of a nan these are
/// the elements that are one.
Tensor extreme_weights(const RuleArgs& args) {
  const Tensor& x = args.inputs[0];
  const Tensor equals = equal(x, expand(args.output, args));
  const Tensor hit =
      astype(is_floating(x.dtype()) ? logical_or(equals, isnan(x)) : equals, x.dtype());
  return hit * expand(reciprocal(reduce(sum_record, hit, axes_of(args), true)), args);
}

Tensor extreme_vjp(const RuleArgs& args, int, const Tensor& ct) {
  return mul0(expand(ct, args), extreme_weights(args));
}

Tensor extreme_jvp(const RuleArgs& args, std::span<const Tensor> t) {
  const auto& [axes, keepdims] = attrs_as<ReduceAttrs>(args.attrs);
  return reduce(sum_record, mul0(t[0], extreme_weights(args)), axes, keepdims);
}

}  // namespace

static Op& max_record = reduction_family.define({.name = "max",
                                                 .kind = OpKind::reduction,
                                                 .arity = 1,
                                                 .attrs = attrs_type<ReduceAttrs>(),
                                                 .vjp = extreme_vjp,
                                                 .jvp = extreme_jvp,
                                                 .needs = {1 | kSavesOutput, 0, 0},
                                                 .batch = batch_reduction,
                                                 .infer = infer_reduction,
                                                 .run = run_reduction,
                                                 .reduces = true,
                                                 .method = true});

static Op& min_record = reduction_family.define({.name = "min",
                                                 .kind = OpKind::reduction,
                                                 .arity = 1,
                                                 .attrs = attrs_type<ReduceAttrs>(),
                                                 .vjp = extreme_vjp,
                                                 .jvp = extreme_jvp,
                                                 .needs = {1 | kSavesOutput, 0, 0},
                                                 .batch = batch_reduction,
                                                 .infer = infer_reduction,
                                                 .run = run_reduction,
                                                 .reduces = true,
                                                 .method = true});

namespace {

/// Products of pairs of entries, then of pairs of pairs and so on, without a division, which a zero
/// would break; on the way back each half of a level is multiplied by the other.
Tensor pairwise_others(const Tensor& x) {
  const std::int64_t rows = x.shape()[0], columns = x.shape()[1];
  const auto part = [&](const Tensor& t, std::int64_t begin, std::int64_t count) {
    return slice(t, Dims{begin, 0}, Dims{count, columns}, Dims{1, 1});
  };
  std::vector<Tensor> levels;
  for (Tensor level = x; level.shape()[0] > 1;) {
    const std::int64_t half = level.shape()[0] / 2;
    levels.push_back(level);
    const Tensor pairs = part(level, 0, half) * part(level, half, half);
    const bool odd = level.shape()[0] % 2 != 0;
    level = odd ? concat(std::vector{pairs, part(level, 2 * half, 1)}, 0) : pairs;
  }
  Tensor others = broadcast_to(scalar_like(x, 1), Dims{std::min<std::int64_t>(rows, 1), columns});
  for (; !levels.empty(); levels.pop_back()) {
    const Tensor& level = levels.back();
    const std::int64_t half = level.shape()[0] / 2;
    const Tensor above = part(others, 0, half);
    std::vector<Tensor> parts = {above * part(level, half, half), above * part(level, 0, half)};
    if (level.shape()[0] % 2 != 0) parts.push_back(part(others, half, 1));
    others = concat(parts, 0);
  }
  return others;
}

/// For each element the product of all others along the reduced axes. Powers of two are taken out
/// before and put back at the end, which changes no bit, so that a part of a product leaves the
/// range only where there are more elements than the fractions' product can do with: 1000, and 100
/// of float32. Being made of operations, it has every derivative itself.
Tensor products_of_others(const RuleArgs& args) {
  const Tensor& x = args.inputs[0];
  const Dims& axes = axes_of(args);
  Dims order = axes;
  for (int i = 0; i < x.ndim(); ++i)
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) order.push_back(i);
  const Tensor front = permute_dims(x, order);
  const std::int64_t rows = reduced_count(x, axes);
  const Tensor table = reshape(front, Dims{rows, product(front.shape().subspan(axes.size()))});
  const auto arranged = [&](const Tensor& others) {
    return permute_dims(reshape(others, front.shape()), inverse_permutation(order));
  };
  if (rows <= 2 || rows > (x.dtype() == DType::float32 ? 100 : 1000))
    return arranged(pairwise_others(table));
  const auto [fraction, exponent] = frexp(table);
  const Tensor power = sum(exponent, 0, true) - exponent;
  // In halves, of which each is a number also where the fraction it meets is small.
  const Tensor half = floor_divide(power, Tensor::scalar(std::int64_t{2}, power.dtype()));
  const Tensor others = ldexp(ldexp(pairwise_others(fraction), half), power - half);
  return arranged(astype(others, x.dtype()));
}

}  // namespace

static Op& prod_record = reduction_family.define(
    {.name = "prod",
     .kind = OpKind::reduction,
     .arity = 1,
     .attrs = attrs_type<ReduceAttrs>(),
     .vjp = [](const RuleArgs& args, int,
               const Tensor& ct) { return mul0(expand(ct, args), products_of_others(args)); },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> t) {
           const auto& [axes, keepdims] = attrs_as<ReduceAttrs>(args.attrs);
           return reduce(sum_record, mul0(t[0], products_of_others(args)), axes, keepdims);
         },
     .needs = {1, 0, 0},
     .batch = batch_reduction,
     .infer = infer_reduction,
     .run = run_reduction,
     .reduces = true,
     .method = true});

static Op& any_record = reduction_family.define({.name = "any",
                                                 .kind = OpKind::reduction,
                                                 .arity = 1,
                                                 .attrs = attrs_type<ReduceAttrs>(),
                                                 .batch = batch_reduction,
                                                 .infer = infer_reduction,
                                                 .run = run_reduction,
                                                 .reduces = true,
                                                 .method = true});

static Op& all_record = reduction_family.define({.name = "all",
                                                 .kind = OpKind::reduction,
                                                 .arity = 1,
                                                 .attrs = attrs_type<ReduceAttrs>(),
                                                 .batch = batch_reduction,
                                                 .infer = infer_reduction,
                                                 .run = run_reduction,
                                                 .reduces = true,
                                                 .method = true});

// --------------------------------------------------------------------------------- functions

Dims chosen_axes(const Axes& axes, int ndim, const char* op) {
  if (axes.all()) return counting(ndim);
  Dims out;
  for (const std::int64_t a : axes.given()) out.push_back(normalize_axis(a, ndim, op));
  std::sort(out.begin(), out.end());
  if (std::adjacent_find(out.begin(), out.end()) != out.end())
    raise(ErrorKind::value, op, "an axis is named twice");
  return out;
}

namespace {

Tensor reduce_in(const Op& op, const Tensor& x, const Axes& axis, bool keepdims,
                 std::optional<DType> dtype) {
  const Dims axes = chosen_axes(axis, x.ndim(), op.name);
  if (!dtype) return reduce(op, x, axes, keepdims);
  return astype(reduce(op, astype(x, *dtype), axes, keepdims), *dtype);
}

Tensor reduce_bools(const Op& op, const Tensor& x, const Axes& axis, bool keepdims) {
  return reduce(op, astype(x, DType::boolean), chosen_axes(axis, x.ndim(), op.name), keepdims);
}

}  // namespace

DType summed_dtype(DType t) {
  if (is_bool(t) || is_signed_integer(t)) return DType::int64;
  return is_unsigned_integer(t) ? DType::uint64 : t;
}

Tensor in_floating(const Tensor& x) {
  return is_floating(x.dtype()) ? x : astype(x, floating_dtype(x.dtype()));
}

std::pair<Tensor, Tensor> in_one_floating(const Tensor& a, const Tensor& b) {
  const DType t = floating_dtype(promote(a.dtype(), b.dtype()));
  return {astype(a, t), astype(b, t)};
}

Tensor sum(const Tensor& x, const Axes& axis, bool keepdims, std::optional<DType> dtype) {
  return reduce_in(sum_record, x, axis, keepdims, dtype);
}
Tensor prod(const Tensor& x, const Axes& axis, bool keepdims, std::optional<DType> dtype) {
  return reduce_in(prod_record, x, axis, keepdims, dtype);
}
Tensor max(const Tensor& x, const Axes& axis, bool keepdims) {
  return reduce(max_record, x, chosen_axes(axis, x.ndim(), "max"), keepdims);
}
Tensor min(const Tensor& x, const Axes& axis, bool keepdims) {
  return reduce(min_record, x, chosen_axes(axis, x.ndim(), "min"), keepdims);
}
Tensor any(const Tensor& x, const Axes& axis, bool keepdims) {
  return reduce_bools(any_record, x, axis, keepdims);
}
Tensor all(const Tensor& x, const Axes& axis, bool keepdims) {
  return reduce_bools(all_record, x, axis, keepdims);
}

Tensor mean(const Tensor& x, const Axes& axis, bool keepdims) {
  const Dims over = chosen_axes(axis, x.ndim(), "mean");
  return reduce(sum_record, in_floating(x), over, keepdims) /
         static_cast<double>(reduced_count(x, over));
}

Tensor var(const Tensor& x, const Axes& axis, double correction, bool keepdims) {
  const Dims over = chosen_axes(axis, x.ndim(), "var");
  const Tensor f = in_floating(x);
  const Tensor centred = f - mean(f, over, true);
  return reduce(sum_record, square(centred), over, keepdims) /
         std::max(static_cast<double>(reduced_count(x, over)) - correction, 0.0);
}

// The squares are taken of distances in units near the largest one, so that they neither vanish nor
// overflow. The unit is a power of two and changes no bit otherwise; being a step, it has no slope.
// At a constant the square root's slope is infinite and the variance's is 0: mul0 gives 0.
Tensor std_(const Tensor& x, const Axes& axis, double correction, bool keepdims) {
  const Dims over = chosen_axes(axis, x.ndim(), "std");
  const Tensor f = in_floating(x);
  const Tensor centred = f - mean(f, over, true);
  const double count = static_cast<double>(reduced_count(x, over));
  if (count == 0) return sqrt(var(f, over, correction, keepdims));
  const Tensor unit = binade(reduce(max_record, abs(centred), over, true));
  const Tensor squares = reduce(sum_record, square(centred / unit), over, true);
  const Tensor deviation = sqrt(squares / std::max(count - correction, 0.0)) * unit;
  return keepdims ? deviation : reshape(deviation, reduced_shape(x.shape(), over, false));
}

namespace {

constexpr const char* kReduction = "(x, /, axis=None, *, keepdims=False)";
constexpr const char* kAccumulation = "(x, /, axis=None, *, keepdims=False, dtype=None)";
constexpr const char* kMoment = "(x, /, axis=None, *, correction=0.0, keepdims=False)";

}  // namespace

Tensor sum_to_shape(Tensor x, Tensor::Shape shape) {
  const auto from = x.shape();
  if (std::equal(from.begin(), from.end(), shape.begin(), shape.end())) return x;
  const std::size_t lead = from.size() - shape.size();
  Dims axes;
  for (std::size_t i = 0; i < from.size(); ++i)
    if (i < lead || (shape[i - lead] == 1 && from[i] != 1))
      axes.push_back(static_cast<std::int64_t>(i));
  if (axes.empty()) return reshape(x, shape);
  const Tensor summed = reduce(sum_record, x, axes, true);
  return lead ? reshape(summed, shape) : summed;
}

Tensor integers_of(const std::vector<std::int64_t>& values) {
  const std::int64_t shape[] = {static_cast<std::int64_t>(values.size())};
  return Tensor::from_data(values, shape);
}

Tensor mix(const Tensor& low, const Tensor& high, const Tensor& share) {
  const Tensor distance = high - low;
  // Of an infinity or a nan, none of which there is a share of counts as none.
  const Tensor parts = mul0(1.0 - share, low) + mul0(share, high);
  return where(isfinite(distance), low + share * distance, parts);
}

Tensor midpoint(const Tensor& a, const Tensor& b) {
  const Tensor sum = a + b;
  return where(isfinite(sum), sum * 0.5, a * 0.5 + b * 0.5);
}

Tensor zeros_of(Tensor::Shape shape, DType dtype) {
  return broadcast_to(Tensor::scalar(0.0, dtype), shape);
}

void register_reduction_ops() {
  reduction_family.register_all();
  register_functions({
      {.name = "sum",
       .signature = kAccumulation,
       .doc = "Sum over one axis, several, or all; narrow integers are summed in 64 bits.",
       .entry = entry_of<sum>(),
       .method = true},
      {.name = "prod",
       .signature = kAccumulation,
       .doc =
           "Product over one axis, several, or all; narrow integers are multiplied in 64 bits.\n\n"
           "Up to 8 numbers along the last axis, and up to 32 along another, are multiplied in "
           "their order. More are in several parts, of which one may overflow or vanish where "
           "the whole does not.",
       .entry = entry_of<prod>(),
       .method = true},
      {.name = "max",
       .signature = kReduction,
       .doc =
           "Maximum over one axis, several, or all; ties share the derivative equally, and so do "
           "several nan.",
       .entry = entry_of<max>(),
       .method = true},
      {.name = "min",
       .signature = kReduction,
       .doc =
           "Minimum over one axis, several, or all; ties share the derivative equally, and so do "
           "several nan.",
       .entry = entry_of<min>(),
       .method = true},
      {.name = "any",
       .signature = kReduction,
       .doc = "Whether any element holds.",
       .entry = entry_of<any>(),
       .method = true},
      {.name = "all",
       .signature = kReduction,
       .doc = "Whether every element holds.",
       .entry = entry_of<all>(),
       .method = true},
      {.name = "mean",
       .signature = kReduction,
       .doc = "The arithmetic mean over one axis, several, or all.",
       .entry = entry_of<mean>(),
       .method = true},
      {.name = "var",
       .signature = kMoment,
       .doc = "The variance; the divisor is the count minus `correction`.",
       .entry = entry_of<var>(),
       .method = true},
      {.name = "std",
       .signature = kMoment,
       .doc = "The standard deviation; its derivative at a constant is 0.",
       .entry = entry_of<std_>(),
       .method = true},
  });
}

}  // namespace adjoint
