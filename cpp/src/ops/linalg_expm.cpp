// The exponential of matrices, by scaling and squaring of Padé approximants (N. J. Higham, The
// scaling and squaring method for the matrix exponential revisited, 2005).
//
// Its derivative along E is a block of an exponential of twice the order, that of [[A, E], [0, A]];
// along the transposes it is the transposed map. So derivatives of every order are exponentials.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "adjoint/linalg.h"
#include "kernels/blas.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family expm_family;

// Coefficients of the numerators of order m, and norms up to which they serve double precision.
constexpr std::array<double, 4> kPade3 = {120, 60, 12, 1};
constexpr std::array<double, 6> kPade5 = {30240, 15120, 3360, 420, 30, 1};
constexpr std::array<double, 8> kPade7 = {17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1};
constexpr std::array<double, 10> kPade9 = {17643225600, 8821612800, 2075673600, 302702400, 30270240,
                                           2162160,     110880,     3960,       90,        1};
constexpr std::array<double, 14> kPade13 = {64764752532480000,
                                            32382376266240000,
                                            7771770303897600,
                                            1187353796428800,
                                            129060195264000,
                                            10559470521600,
                                            670442572800,
                                            33522128640,
                                            1323241920,
                                            40840800,
                                            960960,
                                            16380,
                                            182,
                                            1};
constexpr double kNorm3 = 1.495585217958292e-2, kNorm5 = 2.539398330063230e-1;
constexpr double kNorm7 = 9.504178996162932e-1, kNorm9 = 2.097847961257068;
constexpr double kNorm13 = 5.371920351148152;

template <class T>
class Exponential {
 public:
  explicit Exponential(Index n) : n_(n), size_(static_cast<std::size_t>(n * n)) {}

  /// The exponential of `x` in its place; false where a system has no solution.
  bool operator()(T* x) {
    const double norm = norm_of(x);
    if (norm == 0) {
      put_unit(x);
      return true;
    }
    Matrix a(x, x + size_);
    int squarings = 0;
    bool solved;
    if (norm <= kNorm3) {
      solved = approximant(a, kPade3, x);
    } else if (norm <= kNorm5) {
      solved = approximant(a, kPade5, x);
    } else if (norm <= kNorm7) {
      solved = approximant(a, kPade7, x);
    } else if (norm <= kNorm9) {
      solved = approximant(a, kPade9, x);
    } else {
      squarings = std::max(0, static_cast<int>(std::ceil(std::log2(norm / kNorm13))));
      for (T& entry : a) entry = std::ldexp(entry, -squarings);
      solved = approximant13(a, x);
    }
    for (int i = 0; i < squarings; ++i) {
      const Matrix root(x, x + size_);
      multiply(root, root, x);
    }
    return solved;
  }

 private:
  using Matrix = std::vector<T>;

  double norm_of(const T* x) const {
    double largest = 0;
    for (Index i = 0; i < n_; ++i) {
      double row = 0;
      for (Index j = 0; j < n_; ++j) row += std::abs(static_cast<double>(x[i * n_ + j]));
      largest = std::max(largest, row);
    }
    return largest;
  }
  void put_unit(T* x) const {
    std::fill_n(x, size_, T(0));
    for (Index i = 0; i < n_; ++i) x[i * (n_ + 1)] = 1;
  }
  void multiply(const Matrix& a, const Matrix& b, T* out) const {
    constexpr DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
    kernels::matmul(dtype, n_, n_, n_, a.data(), n_, 1, b.data(), n_, 1, out);
  }
  Matrix times(const Matrix& a, const Matrix& b) const {
    Matrix out(size_);
    multiply(a, b, out.data());
    return out;
  }
  void add(Matrix& sum, double factor, const Matrix& x) const {
    for (std::size_t i = 0; i < size_; ++i) sum[i] += static_cast<T>(factor) * x[i];
  }
  void add_unit(Matrix& sum, double factor) const {
    for (Index i = 0; i < n_; ++i)
      sum[static_cast<std::size_t>(i * (n_ + 1))] += static_cast<T>(factor);
  }

  template <std::size_t N>
  bool approximant(const Matrix& a, const std::array<double, N>& c, T* out) const {
    const Matrix square = times(a, a);
    Matrix odd(size_), even(size_), power = square;
    add_unit(odd, c[1]);
    add_unit(even, c[0]);
    for (std::size_t k = 2; k < N; k += 2) {
      add(even, c[k], power);
      add(odd, c[k + 1], power);
      if (k + 2 < N) power = times(power, square);
    }
    return quotient(times(a, odd), even, out);
  }
  bool approximant13(const Matrix& a, T* out) const {
    const auto& c = kPade13;
    const Matrix a2 = times(a, a), a4 = times(a2, a2), a6 = times(a4, a2);
    const auto half = [&](std::size_t first) {
      Matrix high(size_);
      add(high, c[first + 12], a6);
      add(high, c[first + 10], a4);
      add(high, c[first + 8], a2);
      Matrix sum = times(a6, high);
      add(sum, c[first + 6], a6);
      add(sum, c[first + 4], a4);
      add(sum, c[first + 2], a2);
      add_unit(sum, c[first]);
      return sum;
    };
    return quotient(times(a, half(1)), half(0), out);
  }
  /// (even + odd) (even - odd)^-1: polynomials in one matrix commute, so the transposed order in
  /// which LAPACK sees them does not matter.
  bool quotient(const Matrix& odd, const Matrix& even, T* out) const {
    Matrix below(size_);
    for (std::size_t i = 0; i < size_; ++i) {
      out[i] = even[i] + odd[i];
      below[i] = even[i] - odd[i];
    }
    std::vector<Index> pivots(static_cast<std::size_t>(n_));
    if (kernels::getrf(n_, below.data(), n_, pivots.data()) > 0) return false;
    kernels::trsm_right<T>('U', 'N', 'N', n_, n_, below.data(), n_, out, n_);
    kernels::trsm_right<T>('L', 'N', 'U', n_, n_, below.data(), n_, out, n_);
    for (Index i = n_ - 1; i >= 0; --i) {
      const Index j = pivots[static_cast<std::size_t>(i)] - 1;
      if (i != j) std::swap_ranges(out + i * n_, out + (i + 1) * n_, out + j * n_);
    }
    return true;
  }

  Index n_;
  std::size_t size_;
};

void run_expm(const Op& op, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  kernels::need_lapack(op.name);
  allocate_value(out, op.name);
  const auto shape = out->layout.shape();
  const Index n = shape.back();
  if (out->layout.size() == 0) return;
  copy_value(in[0], out->data());
  const double work = 20.0 * static_cast<double>(n * n) * static_cast<double>(n);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), work, [&](Index begin, Index end) {
      Exponential<T> exponential(n);
      for (Index i = begin; i < end; ++i) {
        T* const x = data_of<T>(out) + i * n * n;
        if (!all_finite(x, n * n) || !exponential(x)) fill_nan(x, n * n);
      }
    });
  });
}

/// The derivative of the exponential of a along e, in units near the largest entry of e.
Tensor along(const Op& op, const Tensor& a, const Tensor& e) {
  const Index n = columns_of(a);
  if (a.size() == 0) return e;
  const Tensor unit = binade(max(abs(e), {-2, -1}, true));
  const Tensor top[] = {a, e / unit}, bottom[] = {zeros_of(a.shape(), a.dtype()), a};
  const Tensor rows[] = {concat(top, -1), concat(bottom, -1)};
  const Tensor block = concat(rows, -2);
  const Tensor whole = apply(op, {&block});
  return entries_along(entries_along(whole, whole.ndim() - 2, 0, n), whole.ndim() - 1, n, n) * unit;
}

Op& expm_record = expm_family.define(
    {.name = "expm",
     .kind = OpKind::custom,
     .arity = 1,
     .vjp = [](const RuleArgs& args, int,
               const Tensor& ct) { return along(args.op, matrix_transpose(args.inputs[0]), ct); },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> tangents) {
           return along(args.op, args.inputs[0], tangents[0]);
         },
     .needs = {1, 0, 0},
     .batch = batch_stacked,
     .infer = infer_same,
     .run = run_expm,
     .internal = true});

}  // namespace

Tensor expm(const Tensor& x) {
  const Tensor a = square_matrices(x, "expm");
  return apply(expm_record, {&a});
}

void register_expm_ops() {
  expm_family.register_all();
  register_functions({
      {.name = "linalg.expm",
       .signature = "(x, /)",
       .doc =
           "The exponential of square matrices, the sum of x**k / k!; nan where x is not finite.\n"
           "\n"
           "Notes\n"
           "-----\n"
           "By scaling and squaring (N. J. Higham, 2005). Each order of differentiation is an\n"
           "exponential of twice the size.",
       .entry = entry_of<expm>()},
  });
}

}  // namespace adjoint::linalg
