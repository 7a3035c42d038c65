// Linear algebra from C++: values against products of the factors, derivatives against central
// differences and the adjoint identity, errors that name the matrix of a stack. What Python's tests
// compare with other libraries is not repeated. Without a LAPACK on the machine one test is left:
// that the error says so.
#include "adjoint/linalg.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "adjoint/transforms.h"
#include "kernels/blas_library.h"
#include "kernels/lapack.h"

using namespace adjoint;

namespace {

using Values = std::vector<double>;
using Shape = std::vector<std::int64_t>;

Tensor tensor(const Values& data, const Shape& shape) { return Tensor::from_data(data, shape); }

double distance(const Tensor& a, const Tensor& b) {
  const Values x = a.to_vector(), y = b.to_vector();
  REQUIRE(x.size() == y.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
  return worst;
}

const Values kGeneral = {3, 1, -1, 2, 5, 0.5, -1, 2, 4};
const Values kDefinite = {4, 1, 0.5, 1, 5, -1, 0.5, -1, 3};

/// The slope of sum(weights * f) along a direction: by differences, by vjp and by jvp.
void check_slopes(const Function& f, const Tensor& x) {
  Values direction(static_cast<std::size_t>(x.size()));
  for (std::size_t i = 0; i < direction.size(); ++i)
    direction[i] = std::sin(1.3 * static_cast<double>(i) + 0.4);
  const Tensor d = tensor(direction, Shape(x.shape().begin(), x.shape().end()));
  Values weights(static_cast<std::size_t>(f(x).size()));
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = std::cos(0.7 * static_cast<double>(i));
  const Tensor y = f(x), c = tensor(weights, Shape(y.shape().begin(), y.shape().end()));
  const Function loss = [&](const Tensor& at) { return sum(f(at) * c); };
  const double step = 1e-5;
  const double expected = (loss(x + d * step).item() - loss(x - d * step).item()) / (2 * step);
  const Function slope = [&](const Tensor& at) { return sum(grad(loss)(at) * d); };
  CHECK(slope(x).item() == doctest::Approx(expected).epsilon(1e-7));
  CHECK(jvp(loss, x, d).second.item() == doctest::Approx(expected).epsilon(1e-7));
  const double second = (slope(x + d * step).item() - slope(x - d * step).item()) / (2 * step);
  CHECK(jvp(slope, x, d).second.item() == doctest::Approx(second).epsilon(1e-6));
}

std::string message_of(const std::function<void()>& f, ErrorKind kind) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.kind() == kind);
    return e.what();
  }
  return "nothing was raised";
}

}  // namespace

TEST_CASE("linalg: without a LAPACK the error says what to install") {
  if (kernels::has_lapack()) return;
  const std::string text = message_of([] { linalg::inv(eye(2)); }, ErrorKind::runtime);
  CHECK(text.starts_with("[inv] needs LAPACK"));
  CHECK(text.find("ADJOINT_BLAS") != std::string::npos);
}

TEST_CASE("linalg: room is counted in 64 bits") {
  // By hand, from the documentation of dsyevd and dgesdd.
  CHECK(kernels::eigen_work(1, true).numbers == 1);
  CHECK(kernels::eigen_work(100, false).numbers == 201);
  CHECK(kernels::eigen_work(33000, true).numbers == 2178198001);
  CHECK(kernels::eigen_work(33000, true).integers == 165003);
  CHECK(kernels::svd_work('N', 10, 200).numbers == 230);
  CHECK(kernels::svd_work('S', 40000, 40000).numbers == 6400280000);
  CHECK(kernels::svd_work('A', 10, 200).numbers == 660);
  CHECK(kernels::svd_work('A', 10, 200).integers == 80);
  if (!kernels::has_lapack() || kernels::lapack_library()->ilp64) return;
  // A routine of 32 bits would answer with a size that has wrapped around.
  const auto refused = [](auto make) {
    try {
      make();
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::overflow);
      CHECK(std::string(e.what()).find("ADJOINT_BLAS") != std::string::npos);
      return true;
    }
    return false;
  };
  CHECK(refused([] { kernels::SymmetricEigen<double>('U', 33000, true); }));
  CHECK(refused([] { kernels::SymmetricEigen<float>('U', 33000, true); }));
  CHECK(refused([] { kernels::Svd<double>('S', 40000, 40000); }));
  double a = 1, b = 2;
  CHECK(refused(
      [&] { kernels::trsm_right<double>('U', 'N', 'N', 1, 1, &a, 1, &b, std::int64_t{1} << 32); }));
  CHECK(refused([&] { kernels::trsv<double>('U', 'N', 'N', 1, &a, std::int64_t{1} << 32, &b); }));
}

TEST_CASE("linalg: an argument that a routine refuses is an error of ours") {
  if (!kernels::has_lapack()) return;
  // The reference's XERBLA ends the program.
  if (kernels::lapack_library()->path.find("openblas") == std::string::npos) return;
  double a[4] = {1, 0, 0, 1};
  try {
    kernels::potrf('U', 2, a, 1);  // the leading dimension is less than the order
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::runtime);
    CHECK(std::string(e.what()).find("refuses its argument 4") != std::string::npos);
  }
}

TEST_CASE("linalg: factors multiply to the matrix") {
  if (!kernels::has_lapack()) return;
  const Tensor a = tensor(kGeneral, {3, 3}), p = tensor(kDefinite, {3, 3});
  const Tensor l = linalg::cholesky(p);
  CHECK(distance(matmul(l, matrix_transpose(l)), p) < 1e-14);
  const auto [q, r] = linalg::qr(a);
  CHECK(distance(matmul(q, r), a) < 1e-14);
  const auto [w, v] = linalg::eigh(p);
  CHECK(distance(matmul(v * expand_dims(w, 0), matrix_transpose(v)), p) < 1e-14);
  const auto [u, s, vh] = linalg::svd(a, false);
  CHECK(distance(matmul(u * expand_dims(s, 0), vh), a) < 1e-14);
  CHECK(distance(matmul(linalg::inv(a), a), eye(3)) < 1e-14);
  CHECK(distance(linalg::pinv(a), linalg::inv(a)) < 1e-14);
  // By Sarrus' rule.
  CHECK(linalg::det(a).item() == doctest::Approx(39.5).epsilon(1e-14));
  const auto [sign, logarithm] = linalg::slogdet(a);
  CHECK(sign.item() == 1);
  CHECK(logarithm.item() == doctest::Approx(std::log(39.5)).epsilon(1e-14));
  // exp of a nilpotent matrix ends after the square.
  const Tensor n = tensor({0, 1, 2, 0, 0, 3, 0, 0, 0}, {3, 3});
  CHECK(distance(linalg::expm(n), eye(3) + n + matmul(n, n) * 0.5) < 1e-15);
}

TEST_CASE("linalg: solutions of stacks broadcast") {
  if (!kernels::has_lapack()) return;
  const Tensor a = tensor(kGeneral, {3, 3});
  const Tensor b = reshape(arange(0, 18, 1, DType::float64), Shape{2, 3, 3});
  CHECK(distance(matmul(a, linalg::solve(a, b)), b) < 1e-13);
  const Tensor v = tensor({1, 2, 3}, {3});
  CHECK(distance(matmul(a, linalg::solve(a, v)), v) < 1e-14);
  const Tensor upper = triu(a);
  CHECK(distance(matmul(upper, linalg::solve_triangular(a, v)), v) < 1e-14);
  CHECK(distance(matmul(matrix_transpose(upper), linalg::solve_triangular(a, v, 1)), v) < 1e-14);
  const auto [x, residuals, rank, s] = linalg::lstsq(a, v);
  CHECK(distance(x, linalg::solve(a, v)) < 1e-13);
  CHECK(rank.item() == 3);
  CHECK(residuals.size() == 0);
}

TEST_CASE("linalg: derivatives of both modes and two orders") {
  if (!kernels::has_lapack()) return;
  const Tensor a = tensor(kGeneral, {3, 3}), p = tensor(kDefinite, {3, 3});
  const auto even = [](const Tensor& x) { return (x + matrix_transpose(x)) * 0.5; };
  check_slopes([&](const Tensor& x) { return linalg::cholesky(even(x)); }, p);
  check_slopes([&](const Tensor& x) { return linalg::eigvalsh(even(x)); }, p);
  check_slopes([&](const Tensor& x) { return square(std::get<1>(linalg::eigh(even(x)))); }, p);
  check_slopes([](const Tensor& x) { return linalg::inv(x); }, a);
  check_slopes([](const Tensor& x) { return linalg::solve(x, x * x); }, a);
  check_slopes([](const Tensor& x) { return std::get<0>(linalg::qr(x)); }, a);
  check_slopes([](const Tensor& x) { return linalg::svdvals(x); }, a);
  check_slopes([](const Tensor& x) { return linalg::det(x); }, a);
  check_slopes([](const Tensor& x) { return std::get<1>(linalg::slogdet(x)); }, a);
  check_slopes([](const Tensor& x) { return linalg::expm(x * 0.3); }, a);
  check_slopes(
      [](const Tensor& x) { return linalg::pinv(slice(x, Shape{0, 0}, Shape{3, 2}, Shape{1, 1})); },
      a);
}

TEST_CASE("linalg: the gradient of a singular determinant is the matrix of cofactors") {
  if (!kernels::has_lapack()) return;
  const Tensor x = tensor({1, 2, 3, 2, 4, 6, 1, 0, 1}, {3, 3});
  const Tensor cofactors = tensor({4, 4, -4, -2, -2, 2, 0, 0, 0}, {3, 3});
  CHECK(distance(grad([](const Tensor& t) { return linalg::det(t); })(x), cofactors) < 1e-13);
}

TEST_CASE("linalg: errors name the matrix of the stack") {
  if (!kernels::has_lapack()) return;
  const Tensor good = eye(2), bad = zeros(Shape{2, 2});
  const Tensor both[] = {good, bad};
  const Tensor x = stack(both);
  CHECK(message_of([&] { linalg::cholesky(x); }, ErrorKind::linalg)
            .starts_with("[cholesky] matrix 1 of the stack is not positive definite"));
  CHECK(message_of([&] { linalg::inv(x); }, ErrorKind::linalg)
            .starts_with("[inv] matrix 1 of the stack is singular"));
  CHECK(message_of([&] { linalg::solve(bad, zeros(Shape{2})); }, ErrorKind::linalg)
            .starts_with("[solve] the matrix is singular"));
  CHECK(message_of([&] { linalg::det(zeros(Shape{2, 3})); }, ErrorKind::value)
            .starts_with("[det] needs square matrices"));
}

TEST_CASE("linalg: calls of LAPACK in column-major order") {
  if (!kernels::has_lapack()) return;
  // [[2, 1], [4, 5]]: rows change places, 2 / 4 is the multiplier.
  Values a = {2, 4, 1, 5};
  std::int64_t pivots[2];
  CHECK(kernels::getrf(2, a.data(), 2, pivots) == 0);
  CHECK(pivots[0] == 2);
  CHECK(pivots[1] == 2);
  CHECK(a == Values{4, 0.5, 5, -1.5});
  std::vector<float> p = {1, 2, 2, 1};
  CHECK(kernels::potrf('L', 2, p.data(), 2) == 2);
  Values one = {3, 0, 0, 4}, s(2), u(4), vt(4);
  CHECK(kernels::Svd<double>('S', 2, 2)(one.data(), s.data(), u.data(), vt.data()) == 0);
  CHECK(s == Values{4, 3});
}
