// Statics that compute. A linker runs the initialisers of a program before those of a static
// library, and destroys what the program made first last; neither may be seen. Every static below
// is initialised by work of another kind, and looks at its value again when it is destroyed, after
// `main`. Exits with 0 when all are right.
#include <adjoint/compile.h>
#include <adjoint/op.h>
#include <adjoint/ops.h>
#include <adjoint/transforms.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

using adjoint::Tensor;
using Shape = std::vector<std::int64_t>;

namespace {

void check(double got, double expected, const std::string& what) {
  if (std::abs(got - expected) <= 1e-12 * (1 + std::abs(expected))) return;
  std::printf("wrong: %s: %.17g, not %.17g\n", what.c_str(), got, expected);
  std::_Exit(EXIT_FAILURE);  // statics are being made or destroyed
}

/// Checks a computation when it is made and when it is destroyed.
class Both {
 public:
  Both(std::string what, double expected, std::function<double()> compute)
      : what_(std::move(what)), expected_(expected), compute_(std::move(compute)) {
    check(compute_(), expected_, what_ + " before main");
  }
  ~Both() { check(compute_(), expected_, what_ + " after main"); }
  Both(const Both&) = delete;
  Both& operator=(const Both&) = delete;

  double operator()() const { return compute_(); }

 private:
  std::string what_;
  double expected_;
  std::function<double()> compute_;
};

struct Twice {
  template <class T>
  static T apply(T x) {
    return x + x;
  }
};

const Tensor tensor = adjoint::exp(Tensor(0.0)) + 1.0;
const Both small("a value", 2.0, [] { return tensor.item(); });

const Both gradient("a gradient", std::cos(0.5), [] {
  return adjoint::grad([](const Tensor& x) { return adjoint::sin(x); })(0.5).item();
});

// Large enough to be deferred, and for several threads.
const Tensor large = adjoint::ones(Shape{1 << 20}) * 0.5;
const Both deferred("deferred work", 1 << 20,
                    [] { return adjoint::sum(large * 2.0 * adjoint::exp(large * 0.0)).item(); });

const Both product("a product", 64.0, [] {
  const Tensor x = adjoint::ones(Shape{64, 64});
  return adjoint::max(adjoint::matmul(x, x)).item();
});

const adjoint::Operation twice = adjoint::register_op(adjoint::ElementwiseOp{
    .name = "twice",
    .kernels = adjoint::element_kernels<Twice>(),
    .partial = [](const adjoint::Application&, int) { return Tensor(2.0); }});
const Both own("an operation of the program", 8.0, [] {
  return adjoint::grad([](const Tensor& x) { return twice(x) * twice(x); })(1.0).item();
});

const auto compiled = adjoint::compile([](std::span<const Tensor> in) {
  return std::vector<Tensor>{adjoint::sum(adjoint::tanh(in[0] * 0.0) + twice(in[0]))};
});
const Both program("a compiled function", 2.0 * (1 << 20), [] {
  const Tensor x = large * 2.0;
  return compiled({&x, 1})[0].item();
});

const Both batch("a batch", 3.0, [] {
  const auto f = adjoint::vmap([](const Tensor& x) { return adjoint::sum(x * x); });
  return adjoint::max(f(adjoint::ones(Shape{2, 3}))).item();
});

}  // namespace

int main() {
  check(own(), 8.0, "an operation in main");
  std::puts("all right");
}
