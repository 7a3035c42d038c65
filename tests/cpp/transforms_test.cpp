// Derivatives through the C++ interface: modes and their nestings, depth. All expected numbers are
// derived by hand.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/node.h"

using namespace adjoint;

namespace {

using Numbers = std::vector<double>;
using Extents = std::vector<std::int64_t>;

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
