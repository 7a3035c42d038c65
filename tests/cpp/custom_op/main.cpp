// Two operations of a program's own: `squash`, elementwise, and `horner`, on arrays. Both are then
// used in every way the library has, and checked against values derived by hand. Exits with 0 when
// all are right.
#include <adjoint/anomaly.h>
#include <adjoint/compile.h>
#include <adjoint/op.h>
#include <adjoint/ops.h>
#include <adjoint/transforms.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

using adjoint::Tensor;
using Numbers = std::vector<double>;
using Shape = std::vector<std::int64_t>;

namespace {

// ---- squash(x, s) = x / (s + |x|) ---------------------------------------------------------------

struct Squash {
  template <class T>
  static T apply(T x, T s) {
    return x / (s + std::abs(x));
  }
};

const adjoint::Operation squash = adjoint::register_op(
    adjoint::ElementwiseOp{.name = "squash",
                           .signature = "(x, s, /)",
                           .doc = "x / (s + |x|).",
                           .kernels = adjoint::element_kernels<Squash>(),
                           .partial = [](const adjoint::Application& a, int input) -> Tensor {
                             const Tensor& x = a.inputs[0];
                             const Tensor& s = a.inputs[1];
                             const Tensor below = square(s + abs(x));
                             return input == 0 ? s / below : -x / below;
                           },
                           .rule_reads_output = false});

// ---- horner(c, x) = c[0] + c[1] x + c[2] x² + ...
// -------------------------------------------------

void evaluate(std::span<const adjoint::ArrayView> inputs, const adjoint::MutableArrayView& out) {
  const auto c = inputs[0].as<double>();
  const auto x = inputs[1].as<double>();
  const auto y = out.as<double>();
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = 0;
    for (std::size_t k = c.size(); k-- > 0;) y[i] = y[i] * x[i] + c[k];
  }
}

adjoint::ArraySpec infer(std::span<const adjoint::ArraySpec> inputs) {
  const auto [c, x] = std::pair{inputs[0], inputs[1]};
  if (c.dtype != adjoint::DType::float64 || x.dtype != adjoint::DType::float64)
    raise(adjoint::ErrorKind::type, "horner", "needs float64: convert with astype");
  if (c.shape.size() != 1 || c.shape[0] == 0)
    raise(adjoint::ErrorKind::value, "horner", "the coefficients are a vector of at least one");
  return x;
}

extern const adjoint::Operation horner;

/// Coefficients of the derivative.
Tensor slope_of(const Tensor& c) {
  const std::int64_t n = c.size();
  if (n == 1) return adjoint::zeros(Shape{1});
  return slice(c, Shape{1}, Shape{n - 1}, Shape{1}) *
         adjoint::arange(1, static_cast<double>(n), 1, adjoint::DType::float64);
}

Tensor reverse(const adjoint::Application& a, int input, const Tensor& cotangent) {
  const Tensor& c = a.inputs[0];
  const Tensor& x = a.inputs[1];
  if (input == 1) return cotangent * horner(slope_of(c), x);
  std::vector<Tensor> parts;
  for (std::int64_t k = 0; k < c.size(); ++k)
    parts.push_back(sum(cotangent * pow(x, static_cast<double>(k))));
  return stack(parts, 0);
}

Tensor forward(const adjoint::Application& a, std::span<const Tensor> tangents) {
  const Tensor& c = a.inputs[0];
  const Tensor& x = a.inputs[1];
  Tensor by_c = tangents[0].defined() ? horner(tangents[0], x) : Tensor();
  Tensor by_x = tangents[1].defined() ? tangents[1] * horner(slope_of(c), x) : Tensor();
  return !by_c.defined() ? by_x : !by_x.defined() ? by_c : by_c + by_x;
}

/// The elements of x do not see each other, so a batch of them is only a larger x.
Tensor batch(const adjoint::BatchedApplication& a) {
  return a.mapped[0] ? Tensor() : horner(a.inputs[0], a.inputs[1]);
}

const adjoint::Operation horner = adjoint::register_op(
    adjoint::ArrayOp{.name = "horner",
                     .signature = "(c, x, /)",
                     .doc = "The polynomial with these coefficients, the constant first.",
                     .arity = 2,
                     .infer = infer,
                     .run = evaluate,
                     .vjp = reverse,
                     .jvp = forward,
                     .batch = batch,
                     .rule_reads_output = false});

// ---- Checks -------------------------------------------------------------------------------------

int failures = 0;

void check(bool right, const std::string& what) {
  if (right) return;
  std::cout << "wrong: " << what << "\n";
  ++failures;
}

void check(const Tensor& actual, const Numbers& expected, const std::string& what) {
  const Numbers got = actual.to_vector();
  bool right = got.size() == expected.size();
  for (std::size_t i = 0; right && i < got.size(); ++i)
    right = std::abs(got[i] - expected[i]) <= 1e-14 * (1 + std::abs(expected[i]));
  check(right, what);
}

Tensor vec(const Numbers& v) {
  return Tensor::from_data(v, Shape{static_cast<std::int64_t>(v.size())});
}

/// What running it raises, or nothing.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const adjoint::Error& e) {
    return e.what();
  }
  return "";
}

void check_squash() {
  const Tensor x = vec({-3, 0, 1});
  const auto f = [](const Tensor& v) { return squash(v, 2.0); };
  check(f(x), {-0.6, 0, 1.0 / 3}, "squash");
  check(squash(vec({1, 2}), reshape(vec({1, 3}), Shape{2, 1})), {0.5, 2.0 / 3, 0.25, 0.4},
        "squash broadcasts");
  const Tensor narrow = astype(x, adjoint::DType::float32);
  check(squash(narrow, Tensor::scalar(2.0, adjoint::DType::float32)).dtype() ==
            adjoint::DType::float32,
        "squash in float32");
  // s / (s + |x|)² and -x / (s + |x|)²; the second derivative in x is -2 s sign(x) / (s + |x|)³.
  const auto total = [&](const Tensor& v) { return sum(f(v)); };
  check(adjoint::grad(total)(x), {0.08, 0.5, 2.0 / 9}, "its gradient");
  check(adjoint::grad([&](const Tensor& s) { return sum(squash(x, s)); })(2.0),
        {3.0 / 25 - 1.0 / 9}, "its gradient in s");
  check(adjoint::jvp(f, x, vec({1, 2, 3})).second, {0.08, 1, 2.0 / 3}, "its jvp");
  check(adjoint::vmap(f)(reshape(x, Shape{3, 1})), {-0.6, 0, 1.0 / 3}, "its batch");
  check(adjoint::hessian(total)(x), {4.0 / 125, 0, 0, 0, 0, 0, 0, 0, -4.0 / 27}, "its hessian");
}

/// Three operands, one of them a single number; integers become float64.
struct Mix {
  template <class T>
  static T apply(T a, T b, T t) {
    return a + t * (b - a);
  }
};

void check_mix() {
  const adjoint::Operation mix = adjoint::register_op(adjoint::ElementwiseOp{
      .name = "mix",
      .kernels = adjoint::element_kernels<Mix>(),
      .partial = [](const adjoint::Application& m, int input) -> Tensor {
        const Tensor& t = m.inputs[2];
        return input == 0 ? 1.0 - t : input == 1 ? t : m.inputs[1] - m.inputs[0];
      }});
  const Tensor a = vec({1, 2}), b = vec({5, 10});
  check(mix(a, b, 0.25), {2, 4}, "mix");
  check(adjoint::grad([&](const Tensor& t) { return sum(mix(a, b, t)); })(0.25), {12}, "its slope");
  check(adjoint::grad([&](const Tensor& v) { return sum(mix(v, b, 0.25)); })(a), {0.75, 0.75},
        "its gradient");
  const Tensor whole = Tensor::from_data(std::vector<std::int64_t>{0, 4}, Shape{2});
  check(mix(whole, b, 0.5), {2.5, 7}, "mix of integers");
}

/// Large enough to be deferred with what is around it: the same bits as element by element.
void check_deferred() {
  Numbers values(50000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1e-3 * static_cast<double>(i) - 20;
  const Tensor x = vec(values);
  const auto f = [](const Tensor& v) { return exp(squash(v * 3.0, 0.5)) + 1.0; };
  const Numbers fused = f(x).to_vector();
  bool same = true;
  for (std::size_t i = 0; i < values.size(); i += 97) same &= fused[i] == f(values[i]).item();
  check(same, "squash among its neighbours");
  const auto program = adjoint::trace(
      [&](std::span<const Tensor> in) { return std::vector<Tensor>{f(in[0])}; }, {&x, 1});
  check(program->stats().groups == 1, "one group with its neighbours");
  check(program->run({&x, 1})[0].to_vector() == fused, "squash compiled");
}

void check_horner() {
  const Tensor c = vec({5, -1, 2, 3});  // 5 - x + 2x² + 3x³
  const Tensor x = vec({0, 1, -2});
  const auto p = [&](const Tensor& v) { return horner(c, v); };
  const auto total = [&](const Tensor& v) { return sum(p(v)); };
  check(p(x), {5, 9, -9}, "horner");
  check(p(adjoint::flip(x, Shape{0})), {-9, 9, 5}, "horner of a view");
  check(adjoint::grad(total)(x), {-1, 12, 27}, "its gradient");  // -1 + 4x + 9x²
  check(adjoint::grad([&](const Tensor& k) { return sum(horner(k, x)); })(c), {3, -1, 5, -7},
        "its gradient in c");  // sums of powers
  check(adjoint::jvp(p, x, vec({1, 2, 3})).second, {-1, 24, 81}, "its jvp");
  check(adjoint::hessian(total)(x), {4, 0, 0, 0, 22, 0, 0, 0, -32}, "its hessian");  // 4 + 18x
  check(adjoint::grad(adjoint::grad(adjoint::grad([&](const Tensor& v) { return p(v); })))(1.0),
        {18}, "its third derivative");
  check(adjoint::vmap(p)(reshape(x, Shape{3, 1})), {5, 9, -9}, "its batch");
  const auto over_c = adjoint::vmap([&](const Tensor& k) { return horner(k, x); });
  check(over_c(reshape(vec({1, 2, 0, 3}), Shape{2, 2})), {1, 3, -3, 0, 3, -6},
        "its batch in c, by a loop");
  check(adjoint::vmap(adjoint::grad(total))(reshape(x, Shape{3, 1})), {-1, 12, 27},
        "the batch of its gradient");
  const auto compiled = adjoint::compile([&](std::span<const Tensor> in) {
    const auto [value, slope] =
        adjoint::value_and_grad([&](const Tensor& v) { return sum(exp(p(v) * 0.01)); })(in[0]);
    return std::vector<Tensor>{value, slope};
  });
  const Numbers y = p(x).to_vector(), dy = {-1, 12, 27};
  Numbers expected(3);
  for (std::size_t i = 0; i < 3; ++i) expected[i] = 0.01 * dy[i] * std::exp(0.01 * y[i]);
  check(compiled({&x, 1})[1], expected, "horner compiled");
}

/// The length of a vector in float64, and its direction.
std::vector<adjoint::ArraySpec> infer_polar(std::span<const adjoint::ArraySpec> in) {
  return {{adjoint::DType::float64, {}}, in[0]};
}

void run_polar(std::span<const adjoint::ArrayView> in,
               std::span<const adjoint::MutableArrayView> outs) {
  const auto x = in[0].as<double>();
  double squares = 0;
  for (const double v : x) squares += v * v;
  const double length = std::sqrt(squares);
  outs[0].as<double>()[0] = length;
  for (std::size_t i = 0; i < x.size(); ++i) outs[1].as<double>()[i] = x[i] / length;
}

Tensor inner_product(const Tensor& a, const Tensor& b) { return sum(a * b); }

/// r = |x|, u = x / r: dr = u dx, du = (dx - u (u dx)) / r.
std::vector<Tensor> pull_polar(const adjoint::JointApplication& a, std::span<const Tensor> ct) {
  const Tensor &r = a.outputs[0], &u = a.outputs[1];
  Tensor by_r = ct[0].defined() ? ct[0] * u : Tensor();
  Tensor by_u = ct[1].defined() ? (ct[1] - u * inner_product(u, ct[1])) / r : Tensor();
  return {!by_r.defined() ? by_u : !by_u.defined() ? by_r : by_r + by_u};
}

std::vector<Tensor> push_polar(const adjoint::JointApplication& a, std::span<const Tensor> t) {
  const Tensor along = inner_product(a.outputs[1], t[0]);
  return {along, (t[0] - a.outputs[1] * along) / a.outputs[0]};
}

void check_polar() {
  const adjoint::JointOperation polar =
      adjoint::register_op(adjoint::ArraysOp{.name = "polar",
                                             .signature = "(x, /)",
                                             .infer = infer_polar,
                                             .run = run_polar,
                                             .pull = pull_polar,
                                             .push = push_polar,
                                             .rule_reads_inputs = false});
  const Tensor x = vec({3, 4});
  check(polar(x)[0], {5}, "polar: length");
  check(polar(x)[1], {0.6, 0.8}, "polar: direction");
  const auto length = [&](const Tensor& v) { return polar(v)[0]; };
  const auto first = [&](const Tensor& v) { return sum(polar(v)[1] * vec({1, 0})); };
  const auto both = [&](const Tensor& v) { return polar(v)[0] * first(v); };  // = v[0]
  check(adjoint::grad(length)(x), {0.6, 0.8}, "gradient of the length");
  check(adjoint::grad(first)(x), {0.128, -0.096}, "gradient of the direction");  // y²/r³, -xy/r³
  check(adjoint::grad(both)(x), {1, 0}, "gradient of two applications");
  check(adjoint::grad([&](const Tensor& v) {
          const std::vector<Tensor> y = polar(v);
          return y[0] * sum(y[1] * vec({1, 0}));
        })(x),
        {1, 0}, "gradient of both results");
  check(adjoint::hessian(length)(x), {0.128, -0.096, -0.096, 0.072}, "hessian of the length");
  check(adjoint::hessian(both)(x), {0, 0, 0, 0}, "hessian of both");
  check(adjoint::jvp(first, x, vec({1, 1})).second, {0.032}, "jvp of the direction");
  const Tensor rows = reshape(vec({3, 4, -5, 12}), Shape{2, 2});
  check(adjoint::vmap(length)(rows), {5, 13}, "batch of polar");
  check(adjoint::vmap(adjoint::grad(length))(rows), {0.6, 0.8, -5.0 / 13, 12.0 / 13},
        "batch of its gradient");
  const auto compiled = adjoint::compile([&](std::span<const Tensor> in) {
    return std::vector<Tensor>{polar(in[0])[1], adjoint::grad(length)(in[0])};
  });
  check(compiled({&x, 1})[0], {0.6, 0.8}, "polar compiled");
  check(compiled({&x, 1})[1], {0.6, 0.8}, "its gradient compiled");
  const adjoint::JointOperation wrong = adjoint::register_op(
      adjoint::ArraysOp{.name = "wrong_polar",
                        .infer = infer_polar,
                        .run = run_polar,
                        .pull = [](const adjoint::JointApplication&, std::span<const Tensor>) {
                          return std::vector<Tensor>{};
                        }});
  check(error_of([&] {
          adjoint::grad([&](const Tensor& v) { return wrong(v)[0]; })(x);
        }).starts_with("[wrong_polar] the rule `pull` gave 0 tensors; needed are 1"),
        "a rule that gives too few");
  check(error_of([&] {
          adjoint::jvp([&](const Tensor& v) { return wrong(v)[0]; }, x, x);
        }).starts_with("[wrong_polar] the operation has no forward-mode rule"),
        "no rule for forward mode");
}

void check_errors() {
  check(
      error_of([] { horner(adjoint::zeros(Shape{2, 2}), 1.0); }).starts_with("[horner] the coeff"),
      "what infer raises");
  check(error_of([] { squash(1.0); }).starts_with("[squash] takes 2 tensors, got 1"), "arity");
  check(error_of([] { adjoint::register_op(adjoint::ArrayOp{.name = "empty"}); }) != "",
        "a record with nothing in it");
  check(error_of([] {
          adjoint::register_op(adjoint::ElementwiseOp{
              .name = "squash", .kernels = adjoint::element_kernels<Squash>()});
        }).ends_with("already registered"),
        "a name that is taken");
  const adjoint::Operation wrong = adjoint::register_op(adjoint::ArrayOp{
      .name = "wrong",
      .infer = [](std::span<const adjoint::ArraySpec> in) { return in[0]; },
      .run =
          [](std::span<const adjoint::ArrayView> in, const adjoint::MutableArrayView& out) {
            out.as<double>()[0] = in[0].as<double>()[0];
          },
      .vjp = [](const adjoint::Application&, int, const Tensor&) { return vec({1, 2}); }});
  check(error_of([&] {
          adjoint::grad([&](const Tensor& x) { return wrong(x); })(1.0);
        }).starts_with("[wrong] the rule `vjp` gave float64 of shape (2,)"),
        "a rule that gives the wrong shape");
}

/// The first operation that gives what is not finite is named, and so is one whose derivative does.
void check_anomalies() {
  const Tensor infinite = 0.0;
  adjoint::AnomalyScope scope;
  check(error_of([&] { squash(infinite, 0.0); }).starts_with("[squash] gave 1 nan in 1 value"),
        "an anomaly of squash");
  check(error_of([&] {
          adjoint::grad([](const Tensor& x) { return adjoint::sqrt(x); })(infinite);
        }).starts_with("[sqrt] its derivative gave 1 inf in 1 value\n  backward"),
        "an anomaly of a derivative");
}

}  // namespace

int main() {
  check_squash();
  check_mix();
  check_deferred();
  check_horner();
  check_polar();
  check_errors();
  check_anomalies();
  std::cout << (failures ? "failed" : "all right") << "\n";
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
