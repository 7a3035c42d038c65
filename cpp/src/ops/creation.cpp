// Tensors made from nothing. They are operations without inputs, so that a trace records how they
// are made instead of holding them as constants. Where all bounds are integers nothing passes
// through a double, which holds them up to 2^53 only: that is what `arange_exact` and
// `linspace_exact` are for.
#include "ops/creation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family creation_family;

template <class T>
struct ArangeAttrs {
  Dims shape;
  DType dtype;
  T start, step;

  static constexpr auto fields() {
    return std::tuple(field("shape", &ArangeAttrs::shape), field("dtype", &ArangeAttrs::dtype),
                      field("start", &ArangeAttrs::start), field("step", &ArangeAttrs::step));
  }
};

struct LinspaceAttrs {
  Dims shape;
  DType dtype;
  double start, stop;
  std::int64_t steps;  // on the way from start to stop
  bool endpoint;

  static constexpr auto fields() {
    return std::tuple(field("shape", &LinspaceAttrs::shape), field("dtype", &LinspaceAttrs::dtype),
                      field("start", &LinspaceAttrs::start), field("stop", &LinspaceAttrs::stop),
                      field("steps", &LinspaceAttrs::steps),
                      field("endpoint", &LinspaceAttrs::endpoint));
  }
};

struct ExactLinspaceAttrs {
  Dims shape;
  DType dtype;
  WideInt start, way;  // to the stop
  std::int64_t steps;

  static constexpr auto fields() {
    return std::tuple(
        field("shape", &ExactLinspaceAttrs::shape), field("dtype", &ExactLinspaceAttrs::dtype),
        field("start", &ExactLinspaceAttrs::start), field("way", &ExactLinspaceAttrs::way),
        field("steps", &ExactLinspaceAttrs::steps));
  }
};

struct EyeAttrs {
  Dims shape;
  DType dtype;
  std::int64_t diagonal;

  static constexpr auto fields() {
    return std::tuple(field("shape", &EyeAttrs::shape), field("dtype", &EyeAttrs::dtype),
                      field("diagonal", &EyeAttrs::diagonal));
  }
};

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

template <class A>
ResultList infer_made(const Op&, std::span<Node* const>, const Attrs* attrs) {
  const A& made = attrs_as<A>(attrs);
  return {made.dtype, made.shape};
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

void run_arange(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs, std::uint32_t) {
  const double start = attrs_as<ArangeAttrs<double>>(attrs).start;
  const double step = attrs_as<ArangeAttrs<double>>(attrs).step;
  generate(out, "arange", [=](std::int64_t i) { return start + static_cast<double>(i) * step; });
}

void run_arange_exact(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs,
                      std::uint32_t) {
  const WideInt start = attrs_as<ArangeAttrs<WideInt>>(attrs).start;
  const WideInt step = attrs_as<ArangeAttrs<WideInt>>(attrs).step;
  generate_integers(out, "arange", [=](std::int64_t i) { return start + i * step; });
}

/// An integer dtype rounds down.
void run_linspace(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs, std::uint32_t) {
  const auto& made = attrs_as<LinspaceAttrs>(attrs);
  const double start = made.start;
  const double stop = made.stop;
  const std::int64_t last = made.steps;
  const auto steps = static_cast<double>(std::max<std::int64_t>(last, 1));
  const double way = stop - start, step = way / steps;
  // Where the way overflows, its ends are taken in shares.
  const bool far = std::isinf(way) && std::isfinite(start) && std::isfinite(stop);
  const bool includes = made.endpoint && last > 0;
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

void run_linspace_exact(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs,
                        std::uint32_t) {
  const auto& made = attrs_as<ExactLinspaceAttrs>(attrs);
  const WideInt start = made.start, way = made.way;
  const WideInt steps = std::max<std::int64_t>(made.steps, 1);
  generate_integers(out, "linspace", [=](std::int64_t i) {
    const WideInt part = i * way;
    return start + part / steps - (part % steps < 0);
  });
}

void run_eye(const Op&, Node* out, std::span<Node* const>, const Attrs* attrs, std::uint32_t) {
  const std::int64_t k = attrs_as<EyeAttrs>(attrs).diagonal;
  const std::int64_t cols = out->layout.shape()[1];
  generate(out, "eye", [=](std::int64_t i) { return i % cols - i / cols == k ? 1.0 : 0.0; });
}

template <class A>
Op& define_made(const char* name, decltype(Op::run) run) {
  return creation_family.define({.name = name,
                                 .kind = OpKind::structural,
                                 .arity = 0,
                                 .attrs = attrs_type<A>(),
                                 .infer = infer_made<A>,
                                 .run = run});
}

Op& zeros_record = define_made<ArrayAttrs>("zeros", run_zeros);
Op& ones_record = define_made<ArrayAttrs>("ones", run_ones);
Op& arange_record = define_made<ArangeAttrs<double>>("arange", run_arange);
Op& arange_exact_record = define_made<ArangeAttrs<WideInt>>("arange_exact", run_arange_exact);
Op& linspace_record = define_made<LinspaceAttrs>("linspace", run_linspace);
Op& linspace_exact_record = define_made<ExactLinspaceAttrs>("linspace_exact", run_linspace_exact);
Op& eye_record = define_made<EyeAttrs>("eye", run_eye);

/// `name` is that of the function that is called.
template <class A>
Tensor create(const Op& op, const char* name, A made) {
  checked_size(made.shape, name);
  return Tensor::adopt(apply(op, std::span<Node* const>(), make_attrs(std::move(made))));
}

}  // namespace

Tensor zeros(Tensor::Shape shape, std::optional<DType> dtype) {
  return create(zeros_record, "zeros", ArrayAttrs{Dims(shape), dtype.value_or(DType::float64)});
}
Tensor ones(Tensor::Shape shape, std::optional<DType> dtype) {
  return create(ones_record, "ones", ArrayAttrs{Dims(shape), dtype.value_or(DType::float64)});
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
  return create(arange_record, "arange", ArangeAttrs<double>{{n}, dtype, start, step});
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
  return create(arange_exact_record, "arange",
                ArangeAttrs<WideInt>{{static_cast<std::int64_t>(count)}, dtype, start, step});
}

Tensor arange_integers(std::int64_t start, std::int64_t stop, std::int64_t step, DType dtype) {
  return arange_exact(start, stop, step, dtype);
}

Tensor linspace_exact(WideInt start, WideInt stop, std::int64_t num, bool endpoint, DType dtype) {
  if (num < 0)
    raise(ErrorKind::value, "linspace", "num must not be negative, got " + std::to_string(num));
  if (num > 0) require_fit("linspace", start, dtype);
  if (num > 1) require_fit("linspace", stop, dtype);
  return create(linspace_exact_record, "linspace",
                ExactLinspaceAttrs{{num}, dtype, start, stop - start, endpoint ? num - 1 : num});
}

Tensor linspace(double start, double stop, std::int64_t num, bool endpoint, DType dtype) {
  if (num < 0)
    raise(ErrorKind::value, "linspace", "num must not be negative, got " + std::to_string(num));
  if (num > 0) require_fit("linspace", std::floor(start), dtype);
  if (num > 1) require_fit("linspace", std::floor(stop), dtype);
  return create(linspace_record, "linspace",
                LinspaceAttrs{{num}, dtype, start, stop, endpoint ? num - 1 : num, endpoint});
}

Tensor eye(std::int64_t n_rows, std::optional<std::int64_t> n_cols, std::int64_t k,
           std::optional<DType> dtype) {
  return create(eye_record, "eye",
                EyeAttrs{{n_rows, n_cols.value_or(n_rows)}, dtype.value_or(DType::float64), k});
}

namespace {

constexpr const char* kOfShape = "(shape, *, dtype=None, device=None)";
constexpr const char* kLike = "(x, /, *, dtype=None, device=None)";

}  // namespace

void register_creation_ops() {
  creation_family.register_all();
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
