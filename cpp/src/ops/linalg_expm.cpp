// The exponential of matrices, by scaling and squaring of Padé approximants (N. J. Higham, The
// scaling and squaring method for the matrix exponential revisited, 2005). How often to square is
// told by norms of powers (A. H. Al-Mohy and N. J. Higham, A new scaling and squaring algorithm for
// the matrix exponential, 2009): by that of the matrix alone one with large entries above the
// diagonal would be squared until rounding is all that is left.
//
// Its derivative along E is a block of an exponential of twice the order, that of [[A, E], [0, A]];
// along the transposes it is the transposed map. So derivatives of every order are exponentials.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
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
constexpr double kNorm13 = 5.371920351148152;  // of the matrix
constexpr double kRoot13 = 4.25;               // of its powers, by their roots
constexpr double kLastTerm13 = 116.447;        // -log2 of the first term that order 13 leaves out

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
    const bool upper = has_triangle(x, true), lower = has_triangle(x, false);
    int squarings = 0;
    bool solved;
    if (norm <= kNorm3) {
      solved = approximant(kPade3, x);
    } else if (norm <= kNorm5) {
      solved = approximant(kPade5, x);
    } else if (norm <= kNorm7) {
      solved = approximant(kPade7, x);
    } else if (norm <= kNorm9) {
      solved = approximant(kPade9, x);
    } else {
      Powers powers(*this, x);
      squarings = upper || lower || !is_of_derivative(powers.a) ? powers.squarings()
                                                                : powers.squarings_by_norm();
      powers.scale(-squarings);
      solved = approximant13(powers, x);
    }
    // Rounding where there are zeros would grow by what is large elsewhere.
    if (upper) clear_triangle(x, n_, n_, true);
    if (lower) clear_triangle(x, n_, n_, false);
    for (int i = 0; i < squarings; ++i) {
      const Matrix root(x, x + size_);
      multiply(root, root, x);
    }
    return solved;
  }

 private:
  using Matrix = std::vector<T>;

  /// The largest sum of magnitudes of a row.
  double norm_of(const T* x) const {
    double largest = 0;
    for (Index i = 0; i < n_; ++i) {
      double row = 0;
      for (Index j = 0; j < n_; ++j) row += std::abs(static_cast<double>(x[i * n_ + j]));
      largest = std::max(largest, row);
    }
    return largest;
  }
  double norm_of(const Matrix& x) const { return norm_of(x.data()); }

  /// A matrix, its powers 2, 4 and 6, and a power of two by which it has been multiplied.
  struct Powers {
    const Exponential& owner;
    Matrix a, a2, a4, a6;
    int scaled_by = 0;

    Powers(const Exponential& given, const T* x) : owner(given), a(x, x + owner.size_) {
      if (multiply_out()) return;
      // Of numbers divided by 2^spare any sums are finite, and up to `usual` the sixth power is.
      constexpr int usual = std::numeric_limits<T>::max_exponent / 8, spare = 64;
      multiply(a, -spare);
      scaled_by = -spare - std::max(0, std::ilogb(owner.norm_of(a)) - usual);
      multiply(a, scaled_by + spare);
      multiply_out();
    }

    /// So often that the rest of the approximant is below the precision.
    int squarings() const {
      const double d2 = root_of(a2, 2), d4 = root_of(a4, 4), d6 = root_of(a6, 6);
      double bound = std::max(d4, d6);
      // A power that is 0 says something unless it has vanished by its size.
      if (bound == 0 && d2 < std::sqrt(std::sqrt(std::numeric_limits<T>::min()))) bound = d2;
      const double log2_bound = std::log2(bound / kRoot13) - scaled_by;
      const int count = log2_bound > 0 ? static_cast<int>(std::ceil(log2_bound)) : 0;
      return count + squarings_for_rounding(-scaled_by - count);
    }

    /// The same by the norm alone (Higham, 2005).
    int squarings_by_norm() const {
      const double log2_norm = std::log2(owner.norm_of(a) / kNorm13) - scaled_by;
      return log2_norm > 0 ? static_cast<int>(std::ceil(log2_norm)) : 0;
    }

    /// Of the matrix as it was given, times 2^power.
    void scale(int power) {
      power -= scaled_by;
      multiply(a, power);
      multiply(a2, 2 * power);
      multiply(a4, 4 * power);
      multiply(a6, 6 * power);
      scaled_by += power;
    }

   private:
    /// Whether the powers are finite.
    bool multiply_out() {
      a2 = owner.times(a, a);
      a4 = owner.times(a2, a2);
      a6 = owner.times(a4, a2);
      const auto size = static_cast<Index>(owner.size_);
      return all_finite(a2.data(), size) && all_finite(a4.data(), size) &&
             all_finite(a6.data(), size);
    }
    static void multiply(Matrix& x, int power) {
      if (power == 0) return;
      for (T& entry : x) entry = std::ldexp(entry, power);
    }
    double root_of(const Matrix& x, int order) const {
      return std::pow(owner.norm_of(x), 1.0 / order);
    }
    /// More of them, where the magnitudes of a 2^power make the first term that is left out larger
    /// than the powers do. A power of the magnitudes is met by its product with ones.
    int squarings_for_rounding(int power) const {
      constexpr int order = 13, terms = 2 * order + 1;
      constexpr double known = kLastTerm13 - std::numeric_limits<T>::digits;
      const double log2_first = std::log2(owner.norm_of(a)) + power;
      if (log2_first * (terms - 1) <= known) return 0;
      const auto n = static_cast<std::size_t>(owner.n_);
      std::vector<double> v(n, 1.0), next(n);
      double log2_last = 0;  // of the norm of |a|^27
      for (int term = 0; term < terms; ++term) {
        for (std::size_t i = 0; i < n; ++i) {
          next[i] = 0;
          for (std::size_t j = 0; j < n; ++j)
            next[i] += std::abs(static_cast<double>(a[i * n + j])) * v[j];
        }
        const double most = *std::max_element(next.begin(), next.end());
        if (most == 0) return 0;
        for (std::size_t i = 0; i < n; ++i) v[i] = next[i] / most;
        log2_last += std::log2(most) + power;
      }
      const double share = log2_last - log2_first - known;
      return share > 0 ? static_cast<int>(std::ceil(share / (2 * order))) : 0;
    }
  };

  /// Whether it is [[A, E], [0, A]], of which the block of E is wanted. Powers of such a matrix
  /// vanish where those of A do; but what is solved with is not triangular as A may be, and loses
  /// digits by its condition, which large entries spoil. So the norm decides there.
  bool is_of_derivative(const Matrix& x) const {
    const Index half = n_ / 2;
    if (n_ % 2 != 0) return false;
    for (Index i = 0; i < half; ++i)
      for (Index j = 0; j < half; ++j) {
        const auto at = [&](Index row, Index column) {
          return x[static_cast<std::size_t>(row * n_ + column)];
        };
        if (at(half + i, j) != T(0) || at(i, j) != at(half + i, half + j)) return false;
      }
    return true;
  }
  /// Whether all is 0 below the diagonal, or above it.
  bool has_triangle(const T* x, bool upper) const {
    for (Index i = 0; i < n_; ++i) {
      const T* const row = x + i * n_;
      const auto is_zero = [](T entry) { return entry == T(0); };
      if (!(upper ? std::all_of(row, row + i, is_zero)
                  : std::all_of(row + i + 1, row + n_, is_zero)))
        return false;
    }
    return true;
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

  /// Coefficients in a unit in which they are near 1 and below: of large entries with small powers
  /// the products stay finite.
  template <std::size_t N>
  static std::array<double, N> in_units(std::array<double, N> c) {
    const int unit = std::ilogb(c[0]);
    for (double& x : c) x = std::ldexp(x, -unit);
    return c;
  }

  template <std::size_t N>
  bool approximant(const std::array<double, N>& given, T* out) const {
    const std::array<double, N> c = in_units(given);
    const Matrix a(out, out + size_), square = times(a, a);
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
  bool approximant13(const Powers& p, T* out) const {
    const auto c = in_units(kPade13);
    const Matrix &a2 = p.a2, &a4 = p.a4, &a6 = p.a6;
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
    return quotient(times(p.a, half(1)), half(0), out);
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
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
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
           "Where the exponential is too large for the dtype its entries are infinite, and nan\n"
           "where infinities of both signs or an infinity and a 0 would meet.\n"
           "\n"
           "By scaling and squaring (A. H. Al-Mohy and N. J. Higham, 2009). Each order of "
           "differentiation is an\n"
           "exponential of twice the size.",
       .entry = entry_of<expm>()},
  });
}

}  // namespace adjoint::linalg
