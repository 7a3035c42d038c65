// Derivatives given by hand, linear parts, Taylor series, and calls of programs inside programs.
#include <doctest/doctest.h>

#include <cmath>

#include "adjoint/compile.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "compile/control.h"
#include "compile/taylor.h"
#include "transforms/custom.h"

using namespace adjoint;

namespace {

/// sin(x) and cos(x), with slopes that are ten times too large: the rule shows wherever it is used.
class TenfoldRule final : public DerivativeRule {
 public:
  using DerivativeRule::DerivativeRule;

  std::vector<Tensor> pull(std::span<const Tensor> inputs, std::span<const Tensor> cotangents,
                           Wanted) const override {
    return {(cotangents[0] * cos(inputs[0]) - cotangents[1] * sin(inputs[0])) * 10.0};
  }
  std::vector<Tensor> push(std::span<const Tensor> inputs,
                           std::span<const Tensor> tangents) const override {
    return {tangents[0] * cos(inputs[0]) * 10.0, tangents[0] * sin(inputs[0]) * -10.0};
  }
};

Tensor tenfold(const Tensor& x) {
  const std::vector<Tensor> values = {sin(stop_gradient(x)), cos(stop_gradient(x))};
  if (!is_differentiated(x)) return values[0] * 2.0 + values[1];
  std::vector<ResultSpec> parts;
  for (const Tensor& v : values) parts.push_back({v.dtype(), Dims(v.shape())});
  const std::vector<Tensor> out =
      with_derivative(values, {&x, 1}, IntrusivePtr<const DerivativeRule>(new TenfoldRule(parts)));
  return out[0] * 2.0 + out[1];
}

double slope(double x) { return 20 * std::cos(x) - 10 * std::sin(x); }
double second(double x) { return -20 * std::sin(x) - 10 * std::cos(x); }  // of the rule itself

Tensor vector(std::initializer_list<double> values) {
  const auto n = static_cast<std::int64_t>(values.size());
  return Tensor::from_data({values.begin(), values.size()}, {&n, 1});
}

std::vector<Tensor> no_batch(const BatchArgs&) { return {}; }

}  // namespace

TEST_CASE("a rule given by hand serves every mode") {
  const Tensor x = vector({0.3, -1.2});
  const Function total = [](const Tensor& x) { return sum(tenfold(x)); };
  const auto check = [](const std::vector<double>& found, double (*f)(double)) {
    CHECK(found[0] == doctest::Approx(f(0.3)).epsilon(1e-13));
    CHECK(found[1] == doctest::Approx(f(-1.2)).epsilon(1e-13));
  };
  check(grad(total)(x).to_vector(), slope);
  check(jvp(tenfold, x, vector({1, 1})).second.to_vector(), slope);
  check(vmap(grad(tenfold))(x).to_vector(), slope);
  check(grad([](const Tensor& x) { return sum(vmap(tenfold)(x)); })(x).to_vector(), slope);
  check(jvp(vmap(tenfold), x, vector({1, 1})).second.to_vector(), slope);
  check(vmap(grad(grad(tenfold)))(x).to_vector(), second);
  const std::vector<double> h = hessian(total)(x).to_vector();
  check({h[0], h[3]}, second);
  CHECK(h[1] == 0);
  const ListFunction program =
      compile([&](std::span<const Tensor> in) { return std::vector<Tensor>{grad(total)(in[0])}; });
  check(program({&x, 1})[0].to_vector(), slope);
}

TEST_CASE("a linear part is traced at a point") {
  const Tensor x = vector({0.3, -1.2});
  const Linearized linear = linearize(
      [](std::span<const Tensor> in) { return std::vector<Tensor>{in[0] * sin(in[0])}; }, {&x, 1});
  CHECK(linear.outputs[0].to_vector()[0] == doctest::Approx(0.3 * std::sin(0.3)));
  const Tensor t = vector({2, 1});
  const std::vector<double> out = linear.pushforward->replay({&t, 1})[0].to_vector();
  CHECK(out[0] == doctest::Approx(2 * (std::sin(0.3) + 0.3 * std::cos(0.3))).epsilon(1e-14));
  CHECK(out[1] == doctest::Approx(std::sin(-1.2) - 1.2 * std::cos(-1.2)).epsilon(1e-14));
}

TEST_CASE("taylor gives the derivatives along a direction") {
  const Tensor x(0.4);
  const Tensor t(1.0);
  const auto rows = taylor(
      [](std::span<const Tensor> in) { return std::vector<Tensor>{exp(in[0]) * sin(in[0])}; },
      {&x, 1}, {&t, 1}, 12);
  for (int k = 0; k <= 12; ++k) {  // 2^(k/2) exp(x) sin(x + k pi/4)
    const double expected =
        std::pow(2, k / 2.0) * std::exp(0.4) * std::sin(0.4 + k * std::acos(-1.0) / 4);
    CHECK(rows[static_cast<std::size_t>(k)][0].item() == doctest::Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("loops and choices run inside a program") {
  const std::vector<Tensor> examples = {Tensor(1.0), vector({2, 3, 4})};
  const auto program = trace(
      [](std::span<const Tensor> in) {
        const std::vector<ResultSpec> row = {{DType::float64, {}}, {DType::float64, {}}};
        const Tensor factor = in[0] * 1.0;  // captured by the body
        const ClosedGraph body = trace_closed(
            [&](std::span<const Tensor> v) {
              return std::vector<Tensor>{v[0] * v[1] * factor, v[0] + v[1]};
            },
            row, {}, "scan");
        std::vector<Tensor> inputs = {in[0], in[1]};
        inputs.insert(inputs.end(), body.captured.begin(), body.captured.end());
        std::vector<Tensor> out =
            call(make_scan(*body.graph, 1, 1, 3, false, make_batch(no_batch)), inputs);
        const std::vector<ResultSpec> one = {{DType::float64, {}}};
        const auto graph_of = [&](const ListFunction& f) {
          return trace_closed(f, one, {}, "while_loop").graph;
        };
        const auto test = graph_of([](std::span<const Tensor> v) {
          return std::vector<Tensor>{less(v[0], Tensor(100.0))};
        });
        const auto twice =
            graph_of([](std::span<const Tensor> v) { return std::vector<Tensor>{v[0] * 2.0}; });
        const auto less_one =
            graph_of([](std::span<const Tensor> v) { return std::vector<Tensor>{v[0] - 1.0}; });
        out.push_back(
            call(make_while(*test, *twice, 1, -1, make_batch(no_batch)), {&out[0], 1})[0]);
        const std::vector<Tensor> choice = {greater(out[2], Tensor(100.0)), out[2]};
        out.push_back(call(make_cond(*less_one, *twice, 1, make_batch(no_batch)), choice)[0]);
        return out;
      },
      examples);
  const std::vector<Tensor> out = program->run(examples);
  CHECK(out[0].item() == 24);
  CHECK(out[1].to_vector() == std::vector<double>{3, 5, 10});
  CHECK(out[2].item() == 192);
  CHECK(out[3].item() == 191);
}
