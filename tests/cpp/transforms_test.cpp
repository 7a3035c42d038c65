// Derivatives through the C++ interface: modes and their nestings, special points, depth. All
// expected numbers are derived by hand.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "adjoint/compile.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/node.h"

using namespace adjoint;

namespace {

using Numbers = std::vector<double>;
using Extents = std::vector<std::int64_t>;

constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor vec(const Numbers& v) {
  return Tensor::from_data(v, Extents{static_cast<std::int64_t>(v.size())});
}

void check_close(const Tensor& actual, const Numbers& expected) {
  const Numbers got = actual.to_vector();
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == doctest::Approx(expected[i]).epsilon(1e-12));
  }
}

/// The derivative of a function of one number, by forward mode.
Function slope(const Function& f) {
  return [f](const Tensor& x) { return jvp(f, x, Tensor(1.0)).second; };
}

struct Point {
  const char* name;
  Function f;
  double x;
  double first;
  double second;
};

const std::vector<Point>& points() {
  static const std::vector<Point> table = {
      {"where(x > 0, sqrt(x), 0) at 0",
       [](const Tensor& x) { return where(greater(x, Tensor(0.0)), sqrt(x), Tensor(0.0)); }, 0, 0,
       0},
      {"(sqrt(x) - 1)**2 at 1", [](const Tensor& x) { return square(sqrt(x) - 1.0); }, 1, 0, 0.5},
      {"abs at 0", [](const Tensor& x) { return abs(x); }, 0, 0, 0},
      {"relu at 0", [](const Tensor& x) { return relu(x); }, 0, 0, 0},
      {"x**0 at 0", [](const Tensor& x) { return pow(x, 0.0); }, 0, 0, 0},
      {"x**2 at 0", [](const Tensor& x) { return pow(x, 2.0); }, 0, 0, 2},
      {"x**3 at -2", [](const Tensor& x) { return pow(x, 3.0); }, -2, 12, -12},
      {"0**y at 2", [](const Tensor& y) { return pow(Tensor(0.0), y); }, 2, 0, 0},
      {"maximum tie", [](const Tensor& x) { return maximum(square(x), x); }, 1, 1.5, 1},
      {"clip at its edge",
       [](const Tensor& x) { return clip(square(x), Tensor(-1.0), Tensor(1.0)); }, 1, 2, 2},
      {"rounding", [](const Tensor& x) { return floor(x) + round(x) + sign(x); }, 1.3, 0, 0},
      {"sin(x) / x away from 0",
       [](const Tensor& x) { return where(equal(x, Tensor(0.0)), Tensor(1.0), sin(x) / x); }, 0, 0,
       0},
  };
  return table;
}

}  // namespace

TEST_CASE("gradients of several orders") {
  const Function cube = [](const Tensor& x) { return x * x * x; };
  CHECK(grad(cube)(2.0).item() == 12.0);
  CHECK(grad(grad(cube))(2.0).item() == 12.0);
  CHECK(grad(grad(grad(cube)))(2.0).item() == 6.0);
  const auto [value, first] = value_and_grad(cube)(2.0);
  CHECK(value.item() == 8.0);
  CHECK(first.item() == 12.0);
  CHECK_FALSE(first.requires_grad());
}

TEST_CASE("special points in every nesting of modes") {
  for (const Point& p : points()) {
    CAPTURE(p.name);
    const Tensor x(p.x);
    CHECK(grad(p.f)(x).item() == p.first);
    CHECK(slope(p.f)(x).item() == p.first);
    CHECK(grad(grad(p.f))(x).item() == p.second);
    CHECK(grad(slope(p.f))(x).item() == p.second);
    CHECK(slope(grad(p.f))(x).item() == p.second);
    CHECK(slope(slope(p.f))(x).item() == p.second);
    check_close(vmap(grad(p.f))(vec({p.x, p.x})), {p.first, p.first});
    check_close(vmap(grad(grad(p.f)))(vec({p.x, p.x})), {p.second, p.second});
  }
}

TEST_CASE("special points of deferred work") {
  for (const Point& p : points()) {
    CAPTURE(p.name);
    const Tensor x = vec(Numbers(9000, p.x));
    const Function total = [&](const Tensor& v) { return sum(p.f(v)); };
    const Numbers first = grad(total)(x).to_vector();
    const Numbers second =
        grad([&](const Tensor& v) { return sum(grad(total)(v)); })(x).to_vector();
    bool equal = true;
    for (std::size_t i = 0; i < first.size(); ++i)
      equal &= first[i] == p.first && second[i] == p.second;
    CHECK(equal);
  }
}

TEST_CASE("special points of compiled functions") {
  for (const Point& p : points()) {
    CAPTURE(p.name);
    const auto program = compile([&](std::span<const Tensor> in) {
      return std::vector<Tensor>{grad(p.f)(in[0]), grad(grad(p.f))(in[0])};
    });
    const std::vector<Tensor> out = program(std::vector<Tensor>{Tensor(p.x)});
    CHECK(out[0].item() == p.first);
    CHECK(out[1].item() == p.second);
  }
}

TEST_CASE("norms, ties and log-sum-exp") {
  const Function norm = [](const Tensor& x) { return sqrt(sum(square(x))); };
  check_close(grad(norm)(vec({0, 0})), {0, 0});
  check_close(grad(norm)(vec({3, 4})), {0.6, 0.8});
  check_close(grad([](const Tensor& x) { return max(x); })(vec({1, 3, 3})), {0, 0.5, 0.5});
  check_close(grad([](const Tensor& x) { return std_(x, {}, 0, false); })(vec({2, 2})), {0, 0});
  const Function logsumexp = [](const Tensor& x) {
    const Tensor top = max(x);
    const Tensor m = stop_gradient(where(isfinite(top), top, Tensor(0.0)));
    return log(sum(exp(x - m))) + m;
  };
  check_close(grad(logsumexp)(vec({-kInf, -kInf})), {0, 0});
  check_close(grad(logsumexp)(vec({1, 1})), {0.5, 0.5});
}

TEST_CASE("perturbations are not confused") {
  for (const auto& outer : {std::function(slope), std::function<Function(const Function&)>(grad)}) {
    for (const auto& inner :
         {std::function(slope), std::function<Function(const Function&)>(grad)}) {
      const Function one = [&](const Tensor& x) {
        return x * inner([&](const Tensor& y) { return x + y; })(1.0);
      };
      CHECK(outer(one)(1.0).item() == 1.0);
      const Function two = [&](const Tensor& x) {
        return inner([&](const Tensor& y) { return x * y * y; })(x);
      };
      CHECK(outer(two)(5.0).item() == 20.0);
    }
  }
}

TEST_CASE("vjp, hessian and several inputs") {
  const Function f = [](const Tensor& x) { return sum(x * x * x); };
  check_close(hessian(f)(vec({1, 2})), {6, 0, 0, 12});
  const auto [y, pullback] = vjp([](const Tensor& x) { return sin(x); }, vec({0, 0}));
  check_close(y, {0, 0});
  check_close(pullback(vec({2, 3})), {2, 3});
  check_close(pullback(vec({1, 1})), {1, 1});
  const std::vector<Tensor> inputs{Tensor(2.0), Tensor(3.0)};
  const auto slopes =
      gradients_at([](std::span<const Tensor> in) { return in[0] * in[1] * in[1]; }, inputs);
  CHECK(slopes[0].item() == 9.0);
  CHECK(slopes[1].item() == 12.0);
}

TEST_CASE("backward adds to the leaf's gradient") {
  Tensor x = vec({1, 2}).requires_grad_();
  const Tensor y = sum(square(x));
  y.backward();
  y.backward();
  check_close(x.grad(), {4, 8});
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  x.rebind(vec({5, 6}));
  sum(square(x)).backward();
  check_close(x.grad(), {10, 12});
}

TEST_CASE("errors of the transforms") {
  const Tensor i = Tensor::scalar(std::int64_t{3}, DType::int64);
  CHECK_THROWS_AS(grad([](const Tensor& x) { return x; })(i), Error);
  CHECK_THROWS_AS(grad([](const Tensor& x) { return x; })(vec({1, 2})), Error);
  CHECK_THROWS_AS(jvp([](const Tensor& x) { return x; }, vec({1, 2}), vec({1})), Error);
  CHECK_THROWS_AS(vec({1}).backward(), Error);
}

TEST_CASE("a long chain is built, swept and freed") {
  const std::int64_t before = live_node_count();
  {
    Tensor x = Tensor(2.0).requires_grad_();
    Tensor y = x;
    for (int i = 0; i < 1'000'000; ++i) y = y + 1.0;
    y.backward();
    CHECK(x.grad().item() == 1.0);
  }
  CHECK(live_node_count() == before);
}
