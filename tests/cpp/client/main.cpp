// A program of a user of the installed library: fits a line by gradient descent. The loss and its
// gradient are traced once and run a thousand times. Exits with 0 when the fit is right.
#include <adjoint/compile.h>
#include <adjoint/dtype.h>
#include <adjoint/ops.h>
#include <adjoint/transforms.h>

#include <cmath>
#include <iostream>
#include <span>
#include <vector>

using adjoint::Tensor;

namespace {

/// Mean squared error of the line p[0] x + p[1].
Tensor loss(const Tensor& p, const Tensor& x, const Tensor& y) {
  const Tensor slope = adjoint::slice(p, std::vector<std::int64_t>{0}, std::vector<std::int64_t>{1},
                                      std::vector<std::int64_t>{1});
  const Tensor offset = adjoint::slice(p, std::vector<std::int64_t>{1},
                                       std::vector<std::int64_t>{1}, std::vector<std::int64_t>{1});
  return adjoint::mean(adjoint::square(slope * x + offset - y));
}

}  // namespace

int main() {
  std::vector<double> xs, ys;
  for (int i = 0; i < 20; ++i) {
    xs.push_back(0.1 * i);
    ys.push_back(3.0 * xs.back() - 0.5);
  }
  const std::vector<std::int64_t> shape{20};
  const Tensor x = Tensor::from_data(xs, shape);
  const Tensor y = Tensor::from_data(ys, shape);

  const auto step = adjoint::compile([](std::span<const Tensor> in) {
    const auto [value, slope] =
        adjoint::value_and_grad([&](const Tensor& p) { return loss(p, in[1], in[2]); })(in[0]);
    return std::vector<Tensor>{value, in[0] - 0.3 * slope};
  });

  Tensor p = adjoint::zeros(std::vector<std::int64_t>{2});
  const double before = loss(p, x, y).item();
  double value = before;
  for (int i = 0; i < 1000; ++i) {
    const std::vector<Tensor> out = step(std::vector<Tensor>{p, x, y});
    value = out[0].item();
    p = out[1];
  }
  const std::vector<double> fitted = p.to_vector();
  std::cout << "loss " << before << " -> " << value << ", line " << fitted[0] << " x + "
            << fitted[1] << "\n";
  const bool right = std::abs(fitted[0] - 3.0) < 1e-9 && std::abs(fitted[1] + 0.5) < 1e-9;
  const bool met =
      adjoint::promote(adjoint::DType::int32, adjoint::DType::float32) == adjoint::DType::float32;
  return right && met ? 0 : 1;
}
