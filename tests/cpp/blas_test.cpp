// Matrix products against a triple loop in long double, with the error bound of the sum; every
// stride, zero sizes, the same bits for any number of threads, batches, forks, and the choice of
// the library by environment variable.
#include "kernels/blas.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "adjoint/error.h"
#include "base/thread_pool.h"
#include "kernels/gemm.h"

namespace {

// ThreadSanitizer does not let the child of a threaded process start threads.
#ifdef __SANITIZE_THREAD__
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

using adjoint::DType;
using Index = std::int64_t;

template <class T>
constexpr DType kDType = sizeof(T) == 4 ? DType::float32 : DType::float64;

template <class T>
std::vector<T> random_values(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<T> uniform(-1, 1);
  std::vector<T> values(n);
  for (T& v : values) v = uniform(generator);
  return values;
}

/// A matrix in a larger buffer: strides in elements, the place of its first element.
struct View {
  Index row;
  Index col;
  Index start;
  Index size;
};

/// The ways a rows x cols matrix may lie in memory.
std::vector<View> views(Index rows, Index cols) {
  return {
      {cols, 1, 0, rows * cols},                   // row-major
      {1, rows, 0, rows * cols},                   // transposed
      {cols + 3, 1, 2, rows * (cols + 3) + 2},     // rows apart
      {1, rows + 5, 1, cols * (rows + 5) + 1},     // transposed, apart
      {2 * cols, 2, 0, 2 * rows * cols},           // no unit stride
      {-cols, 1, (rows - 1) * cols, rows * cols},  // rows reversed
      {-cols, -1, rows * cols - 1, rows * cols},   // both reversed
      {0, 1, 0, cols},                             // one row repeated
      {1, 0, 0, rows},                             // one column repeated
      {0, 0, 0, 1},                                // one element repeated
  };
}

/// Whether C = A B within the bound of a sum of k products in any order.
template <class T>
bool is_product(Index m, Index n, Index k, const T* a, View va, const T* b, View vb, const T* c) {
  const long double unit = std::numeric_limits<T>::epsilon();
  for (Index i = 0; i < m; ++i) {
    for (Index j = 0; j < n; ++j) {
      long double sum = 0;
      long double size = 0;
      for (Index p = 0; p < k; ++p) {
        const long double term = static_cast<long double>(a[va.start + i * va.row + p * va.col]) *
                                 b[vb.start + p * vb.row + j * vb.col];
        sum += term;
        size += std::fabs(term);
      }
      if (!(std::fabs(c[i * n + j] - sum) <= static_cast<long double>(k + 1) * unit * size))
        return false;
    }
  }
  return true;
}

template <class T, class Multiply>
void check_views(Index m, Index n, Index k, const Multiply& multiply) {
  for (const View& va : views(m, k)) {
    for (const View& vb : views(k, n)) {
      const auto a = random_values<T>(static_cast<std::size_t>(va.size), 1);
      const auto b = random_values<T>(static_cast<std::size_t>(vb.size), 2);
      std::vector<T> c(static_cast<std::size_t>(m * n), std::numeric_limits<T>::quiet_NaN());
      multiply(a.data() + va.start, va, b.data() + vb.start, vb, c.data());
      INFO("m " << m << " n " << n << " k " << k << " A strides " << va.row << ", " << va.col
                << " B strides " << vb.row << ", " << vb.col);
      CHECK(is_product(m, n, k, a.data(), va, b.data(), vb, c.data()));
    }
  }
}

template <class T>
void multiply(Index m, Index n, Index k, const T* a, const T* b, T* c) {
  adjoint::kernels::matmul(kDType<T>, m, n, k, a, k, 1, b, n, 1, c);
}

template <class F>
void with_threads(int n, F&& f) {
  const int before = adjoint::num_threads();
  adjoint::set_num_threads(n);
  f();
  adjoint::set_num_threads(before);
}

bool child_succeeds(pid_t child) {
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

/// Runs one skipped test case of this program with ADJOINT_BLAS set.
bool run_with_blas(const char* value, const char* test_case) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("ADJOINT_BLAS", value, 1);
    const std::string filter = std::string("--test-case=") + test_case;
    execl("/proc/self/exe", "tests", "--no-skip", filter.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  return child_succeeds(child);
}

}  // namespace

TEST_CASE_TEMPLATE("matmul takes every stride", T, float, double) {
  const Index shapes[][3] = {{1, 1, 1},  {2, 3, 4},    {1, 9, 40},  {9, 1, 40},  {1, 1, 200},
                             {13, 7, 1}, {16, 16, 16}, {5, 40, 33}, {37, 6, 50}, {65, 35, 70}};
  for (const auto& [m, n, k] : shapes) {
    check_views<T>(m, n, k, [m = m, n = n, k = k](const T* a, View va, const T* b, View vb, T* c) {
      adjoint::kernels::matmul(kDType<T>, m, n, k, a, va.row, va.col, b, vb.row, vb.col, c);
    });
  }
}

TEST_CASE_TEMPLATE("the built-in product takes every stride and every edge of its blocks", T, float,
                   double) {
  const Index shapes[][3] = {{1, 1, 1}, {6, 16, 3}, {7, 17, 5}, {11, 31, 20}, {97, 18, 257}};
  for (const auto& [m, n, k] : shapes) {
    check_views<T>(m, n, k, [m = m, n = n, k = k](const T* a, View va, const T* b, View vb, T* c) {
      adjoint::kernels::gemm_builtin(m, n, k, a, va.row, va.col, b, vb.row, vb.col, c, n);
    });
  }
  const Index m = 20, n = 530, k = 300;
  const auto a = random_values<T>(m * k, 3);
  const auto b = random_values<T>(k * n, 4);
  std::vector<T> c(m * n);
  adjoint::kernels::gemm_builtin(m, n, k, a.data(), k, Index(1), b.data(), n, Index(1), c.data(),
                                 n);
  CHECK(is_product(m, n, k, a.data(), {k, 1, 0, 0}, b.data(), {n, 1, 0, 0}, c.data()));
}

TEST_CASE_TEMPLATE("products that are cut into panels are right", T, float, double) {
  const Index shapes[][3] = {{300, 250, 64}, {130, 700, 50}, {700, 130, 50},
                             {1, 3000, 300}, {3000, 1, 300}, {2000, 300, 1}};
  for (const auto& [m, n, k] : shapes) {
    const auto a = random_values<T>(static_cast<std::size_t>(m * k), 5);
    const auto b = random_values<T>(static_cast<std::size_t>(k * n), 6);
    std::vector<T> c(static_cast<std::size_t>(m * n), std::numeric_limits<T>::quiet_NaN());
    multiply(m, n, k, a.data(), b.data(), c.data());
    CHECK(is_product(m, n, k, a.data(), {k, 1, 0, 0}, b.data(), {n, 1, 0, 0}, c.data()));
  }
}

TEST_CASE_TEMPLATE("zero sizes: nothing is written, and a sum of nothing is zero", T, float,
                   double) {
  const T one = 1;
  T c[6] = {7, 7, 7, 7, 7, 7};
  multiply<T>(0, 3, 2, &one, &one, c);
  multiply<T>(2, 0, 3, &one, &one, c);
  multiply<T>(0, 0, 0, &one, &one, c);
  for (T x : c) CHECK(x == 7);
  multiply<T>(2, 3, 0, &one, &one, c);
  for (T x : c) CHECK(x == 0);
}

TEST_CASE("infinities and nans go through") {
  const double inf = std::numeric_limits<double>::infinity();
  for (Index n : {1, 2, 20}) {
    std::vector<double> a(static_cast<std::size_t>(n * 20), 0.0);
    std::vector<double> b(static_cast<std::size_t>(20 * n), 1.0);
    std::vector<double> c(static_cast<std::size_t>(n * n));
    a[0] = inf;
    b[0] = 0.0;
    multiply(n, n, 20, a.data(), b.data(), c.data());
    CHECK(std::isnan(c[0]));
    if (n > 1) CHECK(c[1] == inf);
    if (n > 1) CHECK(c[static_cast<std::size_t>(n)] == 0);
  }
}

TEST_CASE_TEMPLATE("the bits are the same for any number of threads", T, float, double) {
  const Index shapes[][3] = {{300, 310, 120}, {512, 512, 40},  {4000, 1, 300},
                             {1, 5000, 200},  {3000, 20, 200}, {700, 800, 1}};
  for (const auto& shape : shapes) {
    const Index m = shape[0], n = shape[1], k = shape[2];
    const auto a = random_values<T>(static_cast<std::size_t>(m * k), 7);
    const auto b = random_values<T>(static_cast<std::size_t>(k * n), 8);
    std::vector<T> first(static_cast<std::size_t>(m * n));
    with_threads(1, [&] { multiply(m, n, k, a.data(), b.data(), first.data()); });
    for (int threads = 2; threads <= 8; ++threads) {
      std::vector<T> c(first.size());
      with_threads(threads, [&] { multiply(m, n, k, a.data(), b.data(), c.data()); });
      CHECK(std::memcmp(first.data(), c.data(), c.size() * sizeof(T)) == 0);
    }
  }
}

TEST_CASE("a batch is its matrices, one by one") {
  const Index shape[2] = {3, 4};
  const Index m = 5, n = 6, k = 7;
  struct Case {
    Index a[2];
    Index b[2];
  };
  const Case cases[] = {
      {{4 * m * k, m * k}, {4 * k * n, k * n}},  // both of their own
      {{4 * m * k, m * k}, {0, 0}},              // one common B: one tall product
      {{0, 0}, {4 * k * n, k * n}},              // one common A
      {{m * k, 0}, {0, k * n}},                  // each broadcasts along one axis
  };
  const auto a = random_values<double>(12 * m * k, 9);
  const auto b = random_values<double>(12 * k * n, 10);
  for (const Case& at : cases) {
    std::vector<double> c(12 * m * n);
    adjoint::kernels::matmul_batched(DType::float64, 2, shape, m, n, k, {a.data(), at.a, k, 1},
                                     {b.data(), at.b, n, 1}, c.data());
    for (Index i = 0; i < 3; ++i) {
      for (Index j = 0; j < 4; ++j) {
        const View va{k, 1, i * at.a[0] + j * at.a[1], 0};
        const View vb{n, 1, i * at.b[0] + j * at.b[1], 0};
        CHECK(is_product(m, n, k, a.data(), va, b.data(), vb, c.data() + (i * 4 + j) * m * n));
      }
    }
  }
}

TEST_CASE("large batches: the bits are the same for any number of threads") {
  const Index m = 24, n = 30, k = 40, count = 300;
  const Index a_stride = m * k, b_stride = k * n;
  const auto a = random_values<float>(static_cast<std::size_t>(count * a_stride), 11);
  const auto b = random_values<float>(static_cast<std::size_t>(count * b_stride), 12);
  std::vector<float> first(static_cast<std::size_t>(count * m * n));
  std::vector<float> c(first.size());
  const auto run = [&](std::vector<float>& to) {
    adjoint::kernels::matmul_batched(DType::float32, 1, &count, m, n, k,
                                     {a.data(), &a_stride, k, 1}, {b.data(), &b_stride, n, 1},
                                     to.data());
  };
  with_threads(1, [&] { run(first); });
  with_threads(4, [&] { run(c); });
  CHECK(std::memcmp(first.data(), c.data(), c.size() * sizeof(float)) == 0);
  for (Index i : {Index(0), Index(151), count - 1})
    CHECK(is_product(m, n, k, a.data(), {k, 1, i * a_stride, 0}, b.data(), {n, 1, i * b_stride, 0},
                     c.data() + i * m * n));
}

TEST_CASE("other dtypes are refused by name") {
  std::int32_t x = 1;
  try {
    adjoint::kernels::matmul(DType::int32, 1, 1, 1, &x, 1, 1, &x, 1, 1, &x);
    FAIL("accepted int32");
  } catch (const adjoint::Error& e) {
    CHECK(e.kind() == adjoint::ErrorKind::type);
    CHECK(std::string(e.what()).find("int32") != std::string::npos);
  }
}

TEST_CASE("products in a child after fork have the parent's bits" *
          doctest::skip(kThreadSanitizer)) {
  const Index n = 300;
  const auto a = random_values<float>(n * n, 13);
  std::vector<float> c(n * n);
  with_threads(3, [&] {
    multiply(n, n, n, a.data(), a.data(), c.data());
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // a hang ends as a failure
      std::vector<float> d(n * n);
      multiply(n, n, n, a.data(), a.data(), d.data());
      _exit(std::memcmp(c.data(), d.data(), n * n * sizeof(float)) == 0 ? 0 : 1);
    }
    CHECK(child_succeeds(child));
  });
}

TEST_CASE("blas child: built-in" * doctest::skip()) {
  CHECK(adjoint::kernels::blas_name() == "built-in");
  const Index n = 100;
  const auto a = random_values<double>(n * n, 14);
  std::vector<double> c(n * n);
  multiply(n, n, n, a.data(), a.data(), c.data());
  CHECK(is_product(n, n, n, a.data(), {n, 1, 0, 0}, a.data(), {n, 1, 0, 0}, c.data()));
}

TEST_CASE("blas child: no such library" * doctest::skip()) {
  std::vector<float> a(64, 1.0f);
  std::vector<float> c(64);
  try {
    multiply<float>(8, 8, 8, a.data(), a.data(), c.data());
    FAIL("opened a library that does not exist");
  } catch (const adjoint::Error& e) {
    CHECK(e.kind() == adjoint::ErrorKind::value);
    CHECK(std::string(e.what()).find("/nowhere/libblas.so") != std::string::npos);
  }
}

TEST_CASE("ADJOINT_BLAS decides") {
  if (access("/proc/self/exe", X_OK) != 0) return;
  CHECK(run_with_blas("builtin", "blas child: built-in"));
  CHECK(run_with_blas("/nowhere/libblas.so", "blas child: no such library"));
}
