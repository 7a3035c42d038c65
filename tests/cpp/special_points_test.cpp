// The table of special points (tests/python/special_points.py) through the C++ interface: orders 1
// and 2, in every mode and nesting of modes. The rows are the table's own, read as C++.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "adjoint/compile.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/apply.h"

using namespace adjoint;

namespace {

using Numbers = std::vector<double>;
using Extents = std::vector<std::int64_t>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// What the expressions call; it works on the last axis.

const Extents kLast{-1};

Tensor sum_of(const Tensor& x) { return sum(x, kLast); }
Tensor prod_of(const Tensor& x) { return prod(x, kLast); }
Tensor max_of(const Tensor& x) { return max(x, kLast); }
Tensor min_of(const Tensor& x) { return min(x, kLast); }
Tensor var_of(const Tensor& x) { return var(x, kLast, 0, false); }
Tensor std_of(const Tensor& x) { return std_(x, kLast, 0, false); }
Tensor norm_of(const Tensor& x) { return sqrt(sum_of(square(x))); }

Tensor logsumexp_of(const Tensor& x) {
  const Tensor top = max(x, kLast, true);
  const Tensor finite = stop_gradient(where(isfinite(top), top, 0.0));
  return log(sum_of(exp(x - finite))) + squeeze(finite, kLast);
}

Tensor softmax_of(const Tensor& x) {
  const Tensor e = exp(x - stop_gradient(max(x, kLast, true)));
  return e / sum(e, kLast, true);
}

Tensor entropy_of(const Tensor& x) {
  const Tensor p = softmax_of(x);
  return -sum_of(mul0(p, log(p)));
}

template <class... Index>
Tensor pick_of(const Tensor& x, Index... index) {
  const std::vector<std::int64_t> indices{index...};
  const auto count = static_cast<std::int64_t>(indices.size());
  return take(x, Tensor::from_data(indices, Extents{count}), -1);
}

Tensor entry_of(const Tensor& x, int index) { return squeeze(pick_of(x, index), kLast); }

Tensor sort_of(const Tensor& x) { return sort(x, -1); }

Tensor number(const Tensor& condition) { return astype(condition, DType::float32); }
Tensor whole(const Tensor& x) { return astype(astype(x, DType::int64), DType::float32); }

struct Point {
  const char* name;
  Function f;
  Numbers x;
  Numbers gradient;
  Numbers hessian;  // by rows; empty where order 2 is open

  Tensor at() const { return Tensor::from_data(x, Extents{size()}); }
  Tensor copies(std::int64_t rows) const { return add(at(), zeros(Extents{rows, size()})); }
  std::int64_t size() const { return static_cast<std::int64_t>(x.size()); }
  Function loss() const {
    return [this](const Tensor& v) { return sum(f(v)); };
  }
  Numbers row(std::int64_t i) const {
    return Numbers(hessian.begin() + i * size(), hessian.begin() + (i + 1) * size());
  }
};

const std::vector<Point>& points() {
  static const std::vector<Point> table = {
#include "special_points.inc"
  };
  return table;
}

/// Whether these are the expected numbers, or rows of them.
bool close(const Tensor& actual, const Numbers& expected) {
  const Numbers got = actual.to_vector();
  if (got.empty() || got.size() % expected.size() != 0) return false;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double want = expected[i % expected.size()];
    if (got[i] != want && !(std::abs(got[i] - want) <= 1e-14 + 1e-13 * std::abs(want)))
      return false;
  }
  return true;
}

Tensor unit(const Point& p, std::int64_t i) {
  Numbers v(p.x.size(), 0.0);
  v[static_cast<std::size_t>(i)] = 1.0;
  return Tensor::from_data(v, Extents{p.size()});
}

using Nest = Tensor (*)(const Function& f, const Tensor& x, const Tensor& v);

Tensor forward(const Function& f, const Tensor& x, const Tensor& v) { return jvp(f, x, v).second; }
Tensor reverse_over_reverse(const Function& f, const Tensor& x, const Tensor& v) {
  return grad([&](const Tensor& y) { return sum(grad(f)(y) * v); })(x);
}
Tensor forward_over_reverse(const Function& f, const Tensor& x, const Tensor& v) {
  return forward(grad(f), x, v);
}
Tensor reverse_over_forward(const Function& f, const Tensor& x, const Tensor& v) {
  return grad([&](const Tensor& y) { return forward(f, y, v); })(x);
}

constexpr Nest kNests[] = {reverse_over_reverse, forward_over_reverse, reverse_over_forward};

constexpr std::int64_t kMany = 1 << 15;  // elements that are deferred

}  // namespace

TEST_CASE("special points: first derivatives") {
  for (const Point& p : points()) {
    CAPTURE(p.name);
    CHECK(close(grad(p.loss())(p.at()), p.gradient));
    for (std::int64_t i = 0; i < p.size(); ++i)
      CHECK(
          close(forward(p.loss(), p.at(), unit(p, i)), {p.gradient[static_cast<std::size_t>(i)]}));
    CHECK(close(vmap(grad(p.loss()))(p.copies(3)), p.gradient));
    CHECK(close(grad(p.loss())(p.copies(kMany / p.size())), p.gradient));
  }
}

TEST_CASE("special points: second derivatives in every nesting of modes") {
  for (const Point& p : points()) {
    if (p.hessian.empty()) continue;
    CAPTURE(p.name);
    CHECK(close(hessian(p.loss())(p.at()), p.hessian));
    for (std::int64_t i = 0; i < p.size(); ++i) {
      const Tensor v = unit(p, i);
      for (const Nest nest : kNests) {
        CHECK(close(nest(p.loss(), p.at(), v), p.row(i)));
        const Function one = [&](const Tensor& x) { return nest(p.loss(), x, v); };
        CHECK(close(vmap(one)(p.copies(3)), p.row(i)));
        const Tensor many = p.copies(kMany / p.size());
        CHECK(close(nest(p.loss(), many, add(v, zeros(many.shape()))), p.row(i)));
      }
      for (std::int64_t j = 0; j < p.size(); ++j) {
        const Tensor w = unit(p, j);
        const Function slope = [&](const Tensor& x) { return forward(p.loss(), x, w); };
        CHECK(close(forward(slope, p.at(), v), {p.row(i)[static_cast<std::size_t>(j)]}));
      }
    }
  }
}

TEST_CASE("special points: compiled") {
  for (const Point& p : points()) {
    CAPTURE(p.name);
    const auto first = compile(
        [&](std::span<const Tensor> in) { return std::vector<Tensor>{grad(p.loss())(in[0])}; });
    for (const Tensor& x : {p.at(), p.copies(kMany / p.size())})
      CHECK(close(first(std::vector<Tensor>{x})[0], p.gradient));
    if (p.hessian.empty()) continue;
    for (std::int64_t i = 0; i < p.size(); ++i) {
      const Tensor v = unit(p, i);
      const auto second = compile([&](std::span<const Tensor> in) {
        std::vector<Tensor> out;
        for (const Nest nest : kNests) out.push_back(nest(p.loss(), in[0], v));
        return out;
      });
      for (const Tensor& t : second(std::vector<Tensor>{p.at()})) CHECK(close(t, p.row(i)));
    }
  }
}
