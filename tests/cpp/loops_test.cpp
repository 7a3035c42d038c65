// Choices and loops of C++ functions: closed forms, and what a program gives against what runs
// without one, in every nesting of transforms.
#include <doctest/doctest.h>

#include <cmath>

#include "adjoint/compile.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"

using namespace adjoint;

namespace {

using List = std::vector<Tensor>;
using Tensors = std::span<const Tensor>;
using Values = std::vector<double>;

Tensor vec(const Values& v) {
  const auto n = static_cast<std::int64_t>(v.size());
  return Tensor::from_data(v, {&n, 1});
}

/// sin(x) where x is positive, else x³.
Tensor choice(const Tensor& x) {
  return cond(
      greater(x, Tensor(0.0)), [](Tensors v) { return List{sin(v[0])}; },
      [](Tensors v) { return List{v[0] * v[0] * v[0]}; }, {&x, 1})[0];
}

/// x⁵ by four products, and the sum of the powers on the way, in float32.
Tensor powers(const Tensor& x) {
  const List init = {x, Tensor::scalar(0.0, DType::float32)};
  const List out = scan(
      [&](Tensors v) {
        const Tensor next = v[0] * x;
        return List{next, v[1] + astype(next, DType::float32), next};
      },
      init, {}, 4);
  return out[0] + astype(out[1], DType::float64) + sum(out[2]) * 2.0;  // x⁵ + 3 (x² + ... + x⁵)
}

/// x (1 + x)^n as long as it is below 20, at most 6 times.
Tensor growth(const Tensor& x) {
  return while_loop([](Tensors v) { return List{less(v[0], Tensor(20.0))}; },
                    [&](Tensors v) { return List{v[0] * (x + 1.0)}; }, {&x, 1}, 6)[0];
}

/// A choice in a loop over rows, from the last.
Tensor mixed(const Tensor& x) {
  const Tensor rows = vec({1, -2, 3});
  return scan(
      [&](Tensors v) {
        const Tensor y = v[0] * v[1];
        return List{cond(
            less(v[1], Tensor(0.0)), [&](Tensors u) { return List{u[0] * x}; },
            [](Tensors u) { return List{sin(u[0])}; }, {&y, 1})[0]};
      },
      {&x, 1}, {&rows, 1}, 3, true)[0];
}

void near(const Tensor& found, const Values& want, double tolerance = 1e-12) {
  const Values got = found.to_vector();
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i)
    CHECK(got[i] == doctest::Approx(want[i]).epsilon(tolerance));
}

Function compiled(const Function& f) {
  const ListFunction program = compile([f](Tensors in) { return List{f(in[0])}; });
  return [program](const Tensor& x) { return program({&x, 1})[0]; };
}

}  // namespace

TEST_CASE("a choice and loops have their closed forms") {
  near(choice(0.5), {std::sin(0.5)});
  near(choice(-0.5), {-0.125});
  near(grad(choice)(-0.5), {0.75});
  near(compiled(grad(choice))(0.5), {std::cos(0.5)});
  near(powers(2.0), {32 + 3 * 60});
  near(compiled(grad(powers))(2.0), {80 + 3 * (4 + 12 + 32 + 80)}, 1e-6);
  near(growth(2.0), {54});  // 2 · 3³
  near(compiled(grad(growth))(2.0), {27 + 2 * 27});
  near(growth(0.1), {0.1 * std::pow(1.1, 6)});
}

TEST_CASE("a choice and loops in a program, in every nesting of transforms") {
  const Tensor points = vec({0.4, -0.7, 1.3});
  const Function functions[] = {choice, powers, growth, mixed};
  for (const Function& f : functions) {
    const auto slope = [](const Function& g) {
      return Function([g](const Tensor& x) { return jvp(g, x, Tensor(1.0)).second; });
    };
    const Function nestings[] = {
        vmap(f),
        vmap(grad(f)),
        vmap(slope(f)),
        vmap(grad(grad(f))),
        vmap(grad(slope(f))),
        vmap(slope(slope(f))),
        vmap(slope(grad(f))),
        [&](const Tensor& x) { return grad([&](const Tensor& v) { return sum(vmap(f)(v)); })(x); },
        vmap(compiled(grad(f))),
        vmap(grad(compiled(f))),
    };
    for (const Function& g : nestings) near(compiled(g)(points), g(points).to_vector(), 1e-6);
  }
}

TEST_CASE("what does not fit a choice or a loop is an error") {
  const Tensor x = 1.0;
  const ListFunction same = [](Tensors v) { return List(v.begin(), v.end()); };
  const ListFunction twice = [](Tensors v) { return List{v[0], v[0]}; };
  CHECK_THROWS_WITH(cond(x, same, same, {&x, 1}),
                    doctest::Contains("[cond] the condition must be one bool, not float64"));
  const auto in_program = [&](const ListFunction& f) { compile(f)({&x, 1}); };
  CHECK_THROWS_WITH(
      in_program([&](Tensors in) { return cond(greater(in[0], x), same, twice, in); }),
      doctest::Contains("[cond] both functions must return the same shapes and dtypes, not "
                        "(float64 ()) and (float64 (), float64 ())"));
  const ListFunction narrow = [](Tensors v) { return List{astype(v[0], DType::float32)}; };
  CHECK_THROWS_WITH(scan(narrow, {&x, 1}, {}, 2),
                    doctest::Contains("[scan] every step must return the carried values"));
  CHECK_THROWS_WITH(scan(same, {&x, 1}, {&x, 1}, 2), doctest::Contains("has no row for each of 2"));
  CHECK_THROWS_WITH(scan(same, {&x, 1}, {}, -1), doctest::Contains("must not be negative"));
  const ListFunction small = [](Tensors v) { return List{less(v[0], Tensor(9.0))}; };
  CHECK_THROWS_WITH(while_loop(small, twice, {&x, 1}),
                    doctest::Contains("[while_loop] every step must return"));
  const ListFunction more = [](Tensors v) { return List{v[0] * 2.0}; };
  const ListFunction unbounded = [&](Tensors in) {
    return List{grad([&](const Tensor& v) { return while_loop(small, more, {&v, 1})[0]; })(in[0])};
  };
  CHECK_THROWS_WITH(in_program(unbounded), doctest::Contains("pass max_steps="));
  CHECK(unbounded({&x, 1})[0].item() == 16);
}
