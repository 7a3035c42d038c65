// Draws from distributions with parameters. Each element has 64 random bits, drawn before from the
// generator's stream, and becomes a function of these and of its parameters alone; where one number
// is not enough, the bits are the key of a Philox stream of its own. So an operation here is pure,
// its batch is that of its elements, and the numbers are the same for any number of threads, in
// every mode and on every machine.
//
// Inputs are of one shape (a row of weights per element aside), parameters float64.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/philox.h"
#include "ops/portable_math.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family random_variates_family;

constexpr std::int64_t kVariateGrain = 1 << 10;

/// Numbers for one element. The first come from its bits, so that a draw that needs one is cheap.
class Variate {
 public:
  explicit Variate(std::uint64_t bits) : bits_(bits) {}

  /// In (0, 1), and so is 1 - x, exactly.
  double unit() { return (static_cast<double>(next() >> 12) + 0.5) * 0x1p-52; }

  /// Marsaglia and Bray's polar method (1964), of which one number is used.
  double normal() {
    for (;;) {
      const double x = 2 * unit() - 1, y = 2 * unit() - 1;
      const double square = x * x + y * y;
      if (square >= 1 || square == 0) continue;
      return x * std::sqrt(-2 * portable::log(square) / square);
    }
  }

  double exponential() { return -portable::log(unit()); }

 private:
  std::uint64_t next() {
    if (drawn_ == 0) {
      drawn_ = 1;
      return bits_;
    }
    const std::uint64_t half = (drawn_ - 1) % 2;
    if (half == 0) {
      const std::uint64_t number = (drawn_ - 1) / 2;
      // The high half of the counter tells these blocks from those of a generator with this key.
      block_ = kernels::philox4x32_10(
          {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), 0, 1},
          {static_cast<std::uint32_t>(bits_), static_cast<std::uint32_t>(bits_ >> 32)});
    }
    ++drawn_;
    return std::uint64_t{block_[2 * half + 1]} << 32 | block_[2 * half];
  }

  std::uint64_t bits_;
  std::uint64_t drawn_ = 0;
  kernels::PhiloxBlock block_{};
};

[[noreturn]] void raise_parameter(const char* name, const char* what, const char* rule,
                                  double value) {
  char shown[32];
  std::snprintf(shown, sizeof shown, "%.17g", std::isnan(value) ? std::abs(value) : value);
  raise(ErrorKind::value, name, std::string(what) + " must be " + rule + ", got " + shown);
}

/// Calls f(bits, element) for the elements of `out`, a few at a time on each thread.
template <class T, class F>
void for_elements(Node* out, Node* bits, const F& f) {
  allocate_value(out, "random");
  const Tensor dense = contiguous(bits);
  const auto* from = static_cast<const std::uint64_t*>(dense.node()->data());
  auto* to = static_cast<T*>(out->data());
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] = f(from[i], i);
  };
  const std::int64_t n = out->layout.size();
  if (n <= kVariateGrain) return run(0, n);
  const WithoutHostLock unlocked;
  parallel_for(n, kVariateGrain, run);
}

/// The elements of a parameter.
class Values {
 public:
  explicit Values(Node* in) : dense_(contiguous(in)) {}
  double operator[](std::int64_t i) const {
    return static_cast<const double*>(dense_.node()->data())[i];
  }
  /// Raises unless `ok` holds for all.
  template <class F>
  void check(const char* name, const char* what, const char* rule, F ok) const {
    for (std::int64_t i = 0; i < dense_.size(); ++i)
      if (!ok((*this)[i])) raise_parameter(name, what, rule, (*this)[i]);
  }

 private:
  Tensor dense_;
};

template <DType Result>
ResultList infer_variate(const Op& op, std::span<Node* const> in, const Attrs*) {
  for (const Node* x : in.subspan(1))
    if (x->dtype != DType::float64 || !x->layout.same_shape(in[0]->layout))
      raise(ErrorKind::value, op.name, "parameters must be float64, of the shape of the bits");
  if (in[0]->dtype != DType::uint64) raise(ErrorKind::value, op.name, "bits must be uint64");
  return {Result, Dims(in[0]->layout.shape())};
}

Tensor batch_variates(const BatchArgs& args) {
  std::vector<Tensor> inputs;
  std::vector<Node*> nodes;
  for (std::size_t i = 0; i < args.inputs.size(); ++i) {
    inputs.push_back(mapped_input(args, i));
    nodes.push_back(inputs.back().node());
  }
  return Tensor::adopt(adjoint::apply(args.op, std::span<Node* const>(nodes)));
}

// ------------------------------------------------------------------------------- gamma and beta

/// The logarithm of a gamma variate. Marsaglia and Tsang, "A simple method for generating gamma
/// variables" (2000); below 1 with their power of a uniform, in the logarithm, where it does not
/// vanish.
double log_gamma_variate(Variate& random, double a) {
  if (a < 1) return log_gamma_variate(random, a + 1) + portable::log(random.unit()) / a;
  const double d = a - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = random.normal();
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    const double log_v = 3 * portable::log(root);
    if (portable::log(random.unit()) < 0.5 * x * x + d * (1 - v + log_v))
      return portable::log(d) + log_v;
  }
}

void run_gamma(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  const Values a(in[1]);
  a.check("gamma", "a", "finite and at least 0", [](double x) { return x >= 0 && x < HUGE_VAL; });
  for_elements<double>(out, in[0], [&a](std::uint64_t bits, std::int64_t i) {
    Variate random(bits);
    return a[i] == 0 ? 0 : portable::exp(log_gamma_variate(random, a[i]));
  });
}

void run_beta(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  const Values a(in[1]), b(in[2]);
  const auto ok = [](double x) { return x > 0 && x < HUGE_VAL; };
  a.check("beta", "a", "finite and above 0", ok);
  b.check("beta", "b", "finite and above 0", ok);
  for_elements<double>(out, in[0], [&](std::uint64_t bits, std::int64_t i) {
    Variate random(bits);
    const double log_a = log_gamma_variate(random, a[i]);
    const double log_b = log_gamma_variate(random, b[i]);
    if (log_a == log_b && std::isinf(log_a))  // both so small that one of 0 and 1 is drawn
      return random.unit() < a[i] / (a[i] + b[i]) ? 1.0 : 0.0;
    return 1 / (1 + portable::exp(log_b - log_a));
  });
}

[[noreturn]] void raise_no_slope(const Op& op) {
  raise(ErrorKind::type, op.name + std::strlen("random_"),
        "has no derivative by its shape parameters: the draw is accepted or rejected. Use "
        "ad.stop_gradient on them, or another estimator; scale= is differentiable");
}

// ----------------------------------------------------------------------- Poisson and binomial

/// log of the probability of k.
double log_poisson(double k, double mean) {
  if (k == 0) return -mean;
  return -portable::stirling_error(k) - portable::deviance(k, mean) -
         0.5 * (portable::kLogTwoPi + portable::log(k));
}

/// Few: the distribution function is inverted, term by term.
double small_poisson(Variate& random, double mean) {
  double rest = random.unit();
  double probability = portable::exp(-mean);
  for (double k = 0;; ++k) {
    rest -= probability;
    if (rest < 0 || k > 200) return k;
    probability *= mean / (k + 1);
  }
}

/// Many: Hoermann, "The transformed rejection method for generating Poisson random variables"
/// (1993), PTRS.
double large_poisson(Variate& random, double mean) {
  const double b = 0.931 + 2.53 * std::sqrt(mean);
  const double a = -0.059 + 0.02483 * b;
  const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
  const double squeeze = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    const double u = random.unit() - 0.5, v = random.unit();
    const double us = 0.5 - std::fabs(u);
    const double k = std::floor((2 * a / us + b) * u + mean + 0.43);
    if (us >= 0.07 && v <= squeeze) return k;
    if (k < 0 || (us < 0.013 && v > us)) continue;
    if (portable::log(v * inverse_alpha / (a / (us * us) + b)) <= log_poisson(k, mean)) return k;
  }
}

void run_poisson(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  const Values mean(in[1]);
  // Ten standard deviations above it there is still an int64.
  mean.check("poisson", "lam", "from 0 to 9.22e18",
             [](double x) { return x >= 0 && x <= 9.2233720064847e18; });
  for_elements<std::int64_t>(out, in[0], [&mean](std::uint64_t bits, std::int64_t i) {
    Variate random(bits);
    return static_cast<std::int64_t>(mean[i] < 10 ? small_poisson(random, mean[i])
                                                  : large_poisson(random, mean[i]));
  });
}

/// log of the probability of k out of n. Loader (2000).
double log_binomial(double k, double n, double p) {
  if (k == 0) return n * portable::log_of_rest(p);
  if (k == n) return n * portable::log(p);
  return portable::stirling_error(n) - portable::stirling_error(k) -
         portable::stirling_error(n - k) - portable::deviance(k, n * p) -
         portable::deviance(n - k, n * (1 - p)) +
         0.5 * (portable::log(n / k / (n - k)) - portable::kLogTwoPi);
}

double small_binomial(Variate& random, double n, double p) {
  double rest = random.unit();
  double probability = portable::exp(n * portable::log_of_rest(p));
  const double odds = p / (1 - p);
  for (double k = 0;; ++k) {
    rest -= probability;
    if (rest < 0 || k >= n || k > 200) return k;
    probability *= odds * (n - k) / (k + 1);
  }
}

/// Hoermann, "The generation of binomial random variates" (1993), BTRS.
double large_binomial(Variate& random, double n, double p) {
  const double deviation = std::sqrt(n * p * (1 - p));
  const double b = 1.15 + 2.53 * deviation;
  const double a = -0.0873 + 0.0248 * b + 0.01 * p;
  const double center = n * p + 0.5;
  const double squeeze = 0.92 - 4.2 / b;
  const double alpha = (2.83 + 5.1 / b) * deviation;
  const double at_mode = log_binomial(std::floor((n + 1) * p), n, p);
  for (;;) {
    const double v = random.unit(), u = random.unit() - 0.5;
    const double us = 0.5 - std::fabs(u);
    const double k = std::floor((2 * a / us + b) * u + center);
    if (k < 0 || k > n) continue;
    if (us >= 0.07 && v <= squeeze) return k;
    if (portable::log(v * alpha / (a / (us * us) + b)) <= log_binomial(k, n, p) - at_mode) return k;
  }
}

double binomial_variate(Variate& random, double n, double p) {
  if (p > 0.5) return n - binomial_variate(random, n, 1 - p);
  if (n == 0 || p == 0) return 0;
  return n * p < 10 ? small_binomial(random, n, p) : large_binomial(random, n, p);
}

void run_binomial(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  const Values n(in[1]), p(in[2]);
  n.check("binomial", "n", "a whole number from 0 to 2**53",
          [](double x) { return x >= 0 && x <= 0x1p53 && x == std::floor(x); });
  p.check("binomial", "p", "from 0 to 1", [](double x) { return x >= 0 && x <= 1; });
  for_elements<std::int64_t>(out, in[0], [&](std::uint64_t bits, std::int64_t i) {
    Variate random(bits);
    return static_cast<std::int64_t>(binomial_variate(random, n[i], p[i]));
  });
}

void run_bernoulli(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  const Values p(in[1]);
  p.check("bernoulli", "p", "from 0 to 1", [](double x) { return x >= 0 && x <= 1; });
  for_elements<std::uint8_t>(out, in[0], [&p](std::uint64_t bits, std::int64_t i) {
    return static_cast<std::uint8_t>(Variate(bits).unit() < p[i]);
  });
}

// ------------------------------------------------------------------------------- exponential

void run_exponential(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  for_elements<double>(
      out, in[0], [](std::uint64_t bits, std::int64_t) { return Variate(bits).exponential(); });
}

// -------------------------------------------------------------------------- truncated normal

/// Where a part `u` of the probability between the limits lies below. Always in the tail with at
/// most half of the probability, of which the logarithm says enough.
double truncated_normal_variate(double low, double high, double u) {
  if (low + high < 0) return -truncated_normal_variate(-high, -low, 1 - u);
  double t;
  if (low >= 0) {
    const double upper = portable::log_upper_tail(low);
    const double ratio = portable::exp(portable::log_upper_tail(high) - upper);
    t = portable::upper_tail_inverse(upper + portable::log((1 - u) + u * ratio));
  } else {
    const double below_low = portable::exp(portable::log_upper_tail(-low));
    const double above_high = portable::exp(portable::log_upper_tail(high));
    const double above = (1 - u) * (1 - below_low) + u * above_high;
    const double below = (1 - u) * below_low + u * (1 - above_high);
    t = above <= 0.5 ? portable::upper_tail_inverse(portable::log(above))
                     : -portable::upper_tail_inverse(portable::log(below));
  }
  return t < low ? low : t > high ? high : t;
}

void run_truncated_normal(const Op&, Node* out, std::span<Node* const> in, const Attrs*,
                          std::uint32_t) {
  const Values low(in[1]), high(in[2]);
  for (std::int64_t i = 0; i < out->layout.size(); ++i)
    if (!(low[i] < high[i]))
      raise(
          ErrorKind::value, "truncated_normal",
          "needs lower < upper, got " + std::to_string(low[i]) + " and " + std::to_string(high[i]));
  for_elements<double>(out, in[0], [&](std::uint64_t bits, std::int64_t i) {
    return truncated_normal_variate(low[i], high[i], Variate(bits).unit());
  });
}

/// The draw z moves with a limit c by its share of the densities' ratio: from F(z) = u.
Tensor truncated_slope(const RuleArgs& args, int input) {
  const Tensor& z = args.output;
  const Tensor& limit = args.inputs[static_cast<std::size_t>(input)];
  const Tensor twelve = Tensor::scalar(std::int64_t{12}, DType::uint64);
  const Tensor u =
      (astype(bitwise_right_shift(args.inputs[0], twelve), DType::float64) + 0.5) * 0x1p-52;
  const Tensor ratio = exp((z - limit) * (z + limit) * 0.5);
  return input == 1 ? (1.0 - u) * ratio : u * ratio;
}

// -------------------------------------------------------------------------------- categorical

/// Sums up to each weight, a row after the other.
std::vector<double> cumulated(const Tensor& weights, std::int64_t n) {
  const auto* from = static_cast<const double*>(weights.node()->data());
  std::vector<double> sums(static_cast<std::size_t>(weights.size()));
  double sum = 0;
  for (std::int64_t i = 0; i < weights.size(); ++i) {
    if (i % n == 0) sum = 0;
    if (!(from[i] >= 0 && from[i] < HUGE_VAL))
      raise_parameter("categorical", "probabilities", "finite and at least 0", from[i]);
    sums[static_cast<std::size_t>(i)] = sum += from[i];
    if (i % n == n - 1 && !(sum > 0 && sum < HUGE_VAL))
      raise_parameter("categorical", "the sum of the probabilities", "finite and above 0", sum);
  }
  return sums;
}

/// The rows of weights belong to the trailing axes of the bits.
ResultList infer_categorical(const Op& op, std::span<Node* const> in, const Attrs*) {
  const auto shape = in[0]->layout.shape(), rows = in[1]->layout.shape();
  const bool fits = !rows.empty() && rows.size() - 1 <= shape.size() &&
                    std::ranges::equal(rows.first(rows.size() - 1), shape.last(rows.size() - 1));
  if (!fits || in[0]->dtype != DType::uint64 || in[1]->dtype != DType::float64)
    raise(ErrorKind::value, op.name, "weights must be rows for the trailing axes of the bits");
  if (rows.back() == 0) raise(ErrorKind::value, "categorical", "there is nothing to choose from");
  return {DType::int64, Dims(shape)};
}

void run_categorical(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  const Tensor weights = contiguous(in[1]);
  const std::int64_t n = weights.shape().back();
  const std::int64_t rows = weights.size() / n;
  const std::vector<double> sums = cumulated(weights, n);
  for_elements<std::int64_t>(out, in[0], [&](std::uint64_t bits, std::int64_t i) {
    const double* first = sums.data() + i % rows * n;
    // The first sum above it; never one of weight 0, as the total times a unit is below the total.
    const double point =
        std::min(Variate(bits).unit() * first[n - 1], std::nextafter(first[n - 1], 0.0));
    return std::upper_bound(first, first + n, point) - first;
  });
}

Tensor batch_categorical(const BatchArgs& args) {
  const Tensor bits = mapped_input(args, 0);
  if (!args.mapped[1]) return apply(args.op, {&bits, &args.inputs[1]});
  // Each element with a row of its own, so that the batch is the first of all axes in both.
  Tensor weights = args.inputs[1];
  Dims aligned = prefixed(args.size, Dims());
  for (int i = bits.ndim(); i > weights.ndim() - 1; --i) aligned.push_back(1);
  for (const std::int64_t extent : weights.shape().subspan(1)) aligned.push_back(extent);
  Dims full(bits.shape());
  full.push_back(weights.shape().back());
  weights = broadcast_to(reshape(weights, aligned), full);
  return apply(args.op, {&bits, &weights});
}

// -------------------------------------------------------------------------------- the records

Tensor refuse_vjp(const RuleArgs& args, int, const Tensor&) { raise_no_slope(args.op); }
Tensor refuse_jvp(const RuleArgs& args, std::span<const Tensor>) { raise_no_slope(args.op); }

// Further fields stand between those of all.
#define ADJOINT_VARIATE(id, inputs, parameters, result, text, ...)          \
  [[maybe_unused]] Op& random_##id##_record =                               \
      random_variates_family.define({.name = "random_" #id,                 \
                                     .signature = parameters,               \
                                     .doc = text,                           \
                                     .kind = OpKind::structural,            \
                                     .arity = inputs,                       \
                                     .dtypes = DTypeRule::custom,           \
                                     __VA_ARGS__.batch = batch_variates,    \
                                     .infer = infer_variate<DType::result>, \
                                     .run = run_##id,                       \
                                     .internal = true,                      \
                                     .fallible = true});

ADJOINT_VARIATE(bernoulli, 2, "(bits, p, /)", boolean, "True with probability p.")
ADJOINT_VARIATE(binomial, 3, "(bits, n, p, /)", int64, "How many of n are true.")
ADJOINT_VARIATE(exponential, 1, "(bits, /)", float64, "Of mean 1.")
ADJOINT_VARIATE(poisson, 2, "(bits, lam, /)", int64, "Counts of this mean.")
ADJOINT_VARIATE(gamma, 2, "(bits, a, /)", float64, "Gamma variates of scale 1.", .vjp = refuse_vjp,
                .jvp = refuse_jvp, .constant_inputs = 1, )
ADJOINT_VARIATE(beta, 3, "(bits, a, b, /)", float64, "Beta variates.", .vjp = refuse_vjp,
                .jvp = refuse_jvp, .constant_inputs = 1, )
#undef ADJOINT_VARIATE

[[maybe_unused]] Op& categorical_record = random_variates_family.define(
    {.name = "random_categorical",
     .signature = "(bits, weights, /)",
     .doc = "Positions with probabilities in proportion to the weights.",
     .kind = OpKind::structural,
     .arity = 2,
     .dtypes = DTypeRule::custom,
     .batch = batch_categorical,
     .infer = infer_categorical,
     .run = run_categorical,
     .internal = true,
     .fallible = true});

[[maybe_unused]] Op& truncated_normal_record = random_variates_family.define(
    {.name = "random_truncated_normal",
     .signature = "(bits, lower, upper, /)",
     .doc = "Standard normal between two limits.",
     .kind = OpKind::structural,
     .arity = 3,
     .dtypes = DTypeRule::custom,
     .vjp = [](const RuleArgs& args, int input,
               const Tensor& ct) { return mul0(ct, truncated_slope(args, input)); },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> tangents) {
           Tensor sum;
           for (int i = 1; i < 3; ++i) {
             const Tensor& tangent = tangents[static_cast<std::size_t>(i)];
             if (!tangent.defined()) continue;
             const Tensor term = mul0(tangent, truncated_slope(args, i));
             sum = sum.defined() ? sum + term : term;
           }
           return sum;
         },
     .needs = {0, 1 | 2 | kSavesOutput, 1 | 4 | kSavesOutput},
     .constant_inputs = 1,
     .batch = batch_variates,
     .infer = infer_variate<DType::float64>,
     .run = run_truncated_normal,
     .internal = true,
     .fallible = true});

}  // namespace

void register_random_variates() { random_variates_family.register_all(); }

}  // namespace adjoint
