// Tensors made from nothing. They are operations without inputs, so that a trace records how they
// are made instead of holding them as constants. attrs.ints is the shape; doubles beyond
// attrs.number travel as bits in attrs.more. Where all bounds are integers nothing passes through
// a double, which holds them up to 2^53 only; such bounds travel in attrs.more in two halves each.
#include "ops/creation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family family;

std::int64_t as_bits(double v) { return std::bit_cast<std::int64_t>(v); }
double from_bits(std::int64_t v) { return std::bit_cast<double>(v); }

void append_wide(Dims& to, WideInt v) {
  to.push_back(static_cast<std::int64_t>(static_cast<std::uint64_t>(v)));
  to.push_back(static_cast<std::int64_t>(v >> 64));
}
WideInt wide_at(const Dims& from, std::size_t i) {
  return static_cast<WideInt>(from[i + 1]) * (static_cast<WideInt>(1) << 64) +
         static_cast<std::uint64_t>(from[i]);
}

std::string to_string(WideInt v) {
  const bool negative = v < 0;
  std::string digits;
  do {
    const int digit = static_cast<int>(v % 10);
    digits += static_cast<char>('0' + (negative ? -digit : digit));
    v /= 10;
  } while (v != 0);
  if (negative) digits += '-';
  std::ranges::reverse(digits);
  return digits;
}

/// Raises when an integer dtype does not hold the value.
void require_fit(const char* op, WideInt v, DType dtype) {
  with_type(dtype, [&]<class T>(T) {
    if constexpr (std::is_integral_v<T>) {
      if (is_bool(dtype) ||
          (v >= std::numeric_limits<T>::min() && v <= std::numeric_limits<T>::max()))
        return;
      raise(ErrorKind::overflow, op,
            "the value " + to_string(v) + " does not fit " + std::string(name(dtype)) +
                ": use a wider dtype");
    }
  });
}

/// The same of a number that is to be rounded, or cut off, to an integer.
void require_fit(const char* op, double v, DType dtype) {
  if (!is_integer(dtype)) return;
  if (!std::isfinite(v))
    raise(ErrorKind::value, op,
          std::to_string(v) + " is no " + std::string(name(dtype)) + ": use a floating dtype");
  require_fit(op, static_cast<WideInt>(std::clamp(v, -0x1p100, 0x1p100)), dtype);
}

/// A double in any dtype; integers wrap around, fractions are cut off.
template <class T>
T converted(double v) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(v);
  } else {
    if (!(std::abs(v) < 0x1p63)) return v > 0 ? static_cast<T>(static_cast<std::uint64_t>(v)) : T{};
    return static_cast<T>(static_cast<std::int64_t>(v));
  }
}

/// Fills a contiguous value with f(i).
template <class F>
void generate(Node* out, const char* op, F&& f) {
  allocate_value(out, op);
  const std::int64_t n = out->layout.size();
  const bool truth = is_bool(out->dtype);
  with_type(out->dtype, [&]<class T>(T) {
    auto* to = static_cast<T*>(out->data());
    for (std::int64_t i = 0; i < n; ++i)
      to[i] = truth ? static_cast<T>(f(i) != 0.0) : converted<T>(f(i));
  });
}

ResultList infer_from_attrs(const Op&, std::span<Node* const>, const Attrs* attrs) {
  return {attrs->dtype, attrs->ints};
}

void run_zeros(const Op&, Node* out, std::span<Node* const>, const Attrs*, std::uint32_t) {
  allocate_value(out, "zeros");
  std::memset(out->data(), 0, out->nbytes());
}

void run_ones(const Op&, Node* out, std::span<Node* const>, const Attrs*, std::uint32_t) {
  generate(out, "ones", [](std::int64_t) { return 1.0; });
}

/// Fills a contiguous value with the integers f(i).
template <class F>
void generate_integers(Node* out, const char* op, F&& f) {
  allocate_value(out, op);
  const std::int64_t n = out->layout.size();
  const bool truth = is_bool(out->dtype);
  with_type(out->dtype, [&]<class T>(T) {
    auto* to = static_cast<T*>(out->data());
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(truth ? f(i) != 0 : f(i));
  });
}

/// attrs.number = start, attrs.more[0] = step; attrs.flag: attrs.more = start and step, integers.
void run_arange(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs, std::uint32_t) {
  if (attrs->flag) {
    const WideInt first = wide_at(attrs->more, 0);
    const WideInt by = wide_at(attrs->more, 2);
    return generate_integers(out, "arange", [=](std::int64_t i) { return first + i * by; });
  }
  const double start = attrs->number;
  const double step = from_bits(attrs->more[0]);
  generate(out, "arange", [=](std::int64_t i) { return start + static_cast<double>(i) * step; });
}

/// attrs.number = start, attrs.more = stop, number of steps; attrs.flag: stop is included. Of
/// integers: attrs.more = number of steps, start and the way to stop. An integer dtype rounds down.
void run_linspace(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs, std::uint32_t) {
  if (attrs->more.size() > 2) {
    const WideInt steps = std::max<std::int64_t>(attrs->more[0], 1);
    const WideInt first = wide_at(attrs->more, 1);
    const WideInt way = wide_at(attrs->more, 3);
    return generate_integers(out, "linspace", [=](std::int64_t i) {
      const WideInt part = i * way;
      return first + part / steps - (part % steps < 0);
    });
  }
  const double start = attrs->number;
  const double stop = from_bits(attrs->more[0]);
  const std::int64_t last = attrs->more[1];
  const auto steps = static_cast<double>(std::max<std::int64_t>(last, 1));
  const double way = stop - start, step = way / steps;
  // Where the way overflows, its ends are taken in shares.
  const bool far = std::isinf(way) && std::isfinite(start) && std::isfinite(stop);
  const bool includes = attrs->flag && last > 0;
  const bool whole = is_integer(out->dtype);
  generate(out, "linspace", [=](std::int64_t i) {
    const auto at = static_cast<double>(i);
    double v = start + at * step;
    if (i == 0) v = start;  // also next to an infinite stop
    if (far) v = start * (1 - at / steps) + stop * (at / steps);
    if (includes && i == last) v = stop;
    return whole ? std::floor(v) : v;
  });
}

/// attrs.more[0] = the diagonal.
void run_eye(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs, std::uint32_t) {
  const std::int64_t cols = attrs->ints[1];
  const std::int64_t k = attrs->more[0];
  generate(out, "eye", [=](std::int64_t i) { return i % cols - i / cols == k ? 1.0 : 0.0; });
}

Op& zeros_record = family.define({.name = "zeros",
                                  .kind = OpKind::structural,
                                  .arity = 0,
                                  .infer = infer_from_attrs,
                                  .run = run_zeros});

Op& ones_record = family.define({.name = "ones",
                                 .kind = OpKind::structural,
                                 .arity = 0,
                                 .infer = infer_from_attrs,
                                 .run = run_ones});

Op& arange_record = family.define({.name = "arange",
                                   .kind = OpKind::structural,
                                   .arity = 0,
                                   .infer = infer_from_attrs,
                                   .run = run_arange});

Op& linspace_record = family.define({.name = "linspace",
                                     .kind = OpKind::structural,
                                     .arity = 0,
                                     .infer = infer_from_attrs,
                                     .run = run_linspace});

Op& eye_record = family.define({.name = "eye",
                                .kind = OpKind::structural,
                                .arity = 0,
                                .infer = infer_from_attrs,
                                .run = run_eye});

Tensor create(const Op& op, Dims shape, DType dtype, double number, Dims more, bool flag = false) {
  checked_size(shape, op.name);
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->ints = std::move(shape);
  attrs->dtype = dtype;
  attrs->number = number;
  attrs->more = std::move(more);
  attrs->flag = flag;
  return Tensor::adopt(apply(op, std::span<Node* const>(), held));
}

}  // namespace

Tensor zeros(Tensor::Shape shape, std::optional<DType> dtype) {
  return create(zeros_record, Dims(shape), dtype.value_or(DType::float64), 0.0, {});
}
Tensor ones(Tensor::Shape shape, std::optional<DType> dtype) {
  return create(ones_record, Dims(shape), dtype.value_or(DType::float64), 0.0, {});
}
Tensor empty(Tensor::Shape shape, std::optional<DType> dtype) { return zeros(shape, dtype); }
Tensor zeros_like(const Tensor& x, std::optional<DType> dtype) {
  return zeros(x.shape(), dtype.value_or(x.dtype()));
}
Tensor ones_like(const Tensor& x, std::optional<DType> dtype) {
  return ones(x.shape(), dtype.value_or(x.dtype()));
}
Tensor empty_like(const Tensor& x, std::optional<DType> dtype) { return zeros_like(x, dtype); }

Tensor arange(double start, double stop, double step, DType dtype) {
  const double count = std::ceil((stop - start) / step);
  if (step == 0 || !std::isfinite(start) || !std::isfinite(stop) || std::isnan(step) ||
      count >= 0x1p62)
    raise(ErrorKind::value, "arange",
          "needs finite bounds and a step that leads from one to the other: start " +
              std::to_string(start) + ", stop " + std::to_string(stop) + ", step " +
              std::to_string(step));
  const std::int64_t n = count > 0 ? static_cast<std::int64_t>(count) : 0;
  if (n > 0) {
    require_fit("arange", start, dtype);
    require_fit("arange", start + static_cast<double>(n - 1) * step, dtype);
  }
  return create(arange_record, Dims{n}, dtype, start, Dims{as_bits(step)});
}

Tensor arange_exact(WideInt start, WideInt stop, WideInt step, DType dtype) {
  if (step == 0) raise(ErrorKind::value, "arange", "the step must not be 0");
  const WideInt way = step > 0 ? stop - start : start - stop;
  const WideInt count = way > 0 ? (way - 1) / (step > 0 ? step : -step) + 1 : 0;
  if (count > std::numeric_limits<std::int64_t>::max())
    raise(ErrorKind::value, "arange", to_string(count) + " values are more than memory addresses");
  if (count > 0) {
    require_fit("arange", start, dtype);
    require_fit("arange", start + (count - 1) * step, dtype);
  }
  Dims more;
  append_wide(more, start);
  append_wide(more, step);
  return create(arange_record, Dims{static_cast<std::int64_t>(count)}, dtype, 0.0, std::move(more),
                true);
}

Tensor arange_integers(std::int64_t start, std::int64_t stop, std::int64_t step, DType dtype) {
  return arange_exact(start, stop, step, dtype);
}

Tensor linspace_exact(WideInt start, WideInt stop, std::int64_t num, bool endpoint, DType dtype) {
  if (num < 0)
    raise(ErrorKind::value, "linspace", "num must not be negative, got " + std::to_string(num));
  if (num > 0) require_fit("linspace", start, dtype);
  if (num > 1) require_fit("linspace", stop, dtype);
  Dims more{endpoint ? num - 1 : num};
  append_wide(more, start);
  append_wide(more, stop - start);
  return create(linspace_record, Dims{num}, dtype, 0.0, std::move(more));
}

Tensor linspace(double start, double stop, std::int64_t num, bool endpoint, DType dtype) {
  if (num < 0)
    raise(ErrorKind::value, "linspace", "num must not be negative, got " + std::to_string(num));
  if (num > 0) require_fit("linspace", std::floor(start), dtype);
  if (num > 1) require_fit("linspace", std::floor(stop), dtype);
  return create(linspace_record, Dims{num}, dtype, start,
                Dims{as_bits(stop), endpoint ? num - 1 : num}, endpoint);
}

Tensor eye(std::int64_t n_rows, std::optional<std::int64_t> n_cols, std::int64_t k,
           std::optional<DType> dtype) {
  return create(eye_record, Dims{n_rows, n_cols.value_or(n_rows)}, dtype.value_or(DType::float64),
                0.0, Dims{k});
}

namespace {

constexpr const char* kOfShape = "(shape, *, dtype=None, device=None)";
constexpr const char* kLike = "(x, /, *, dtype=None, device=None)";

}  // namespace

void register_creation_ops() {
  family.register_all();
  register_functions({
      {.name = "zeros",
       .signature = kOfShape,
       .doc = "A tensor of zeros; float64 unless `dtype` says otherwise.",
       .entry = entry_of<zeros>()},
      {.name = "ones",
       .signature = kOfShape,
       .doc = "A tensor of ones; float64 unless `dtype` says otherwise.",
       .entry = entry_of<ones>()},
      {.name = "empty",
       .signature = kOfShape,
       .doc = "A tensor whose values are of no interest (zeros).",
       .entry = entry_of<empty>()},
      {.name = "zeros_like",
       .signature = kLike,
       .doc = "Zeros shaped as `x`.",
       .entry = entry_of<zeros_like>()},
      {.name = "ones_like",
       .signature = kLike,
       .doc = "Ones shaped as `x`.",
       .entry = entry_of<ones_like>()},
      {.name = "empty_like",
       .signature = kLike,
       .doc = "A tensor shaped as `x` whose values are of no interest (zeros).",
       .entry = entry_of<empty_like>()},
      {.name = "eye",
       .signature = "(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)",
       .doc = "Ones on the k-th diagonal, zeros elsewhere.",
       .entry = entry_of<eye>()},
  });
}

}  // namespace adjoint
