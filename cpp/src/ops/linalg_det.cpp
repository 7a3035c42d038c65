// Determinants. They are polynomials in the entries, and have every derivative at singular matrices
// too: there the slope, the matrix of cofactors, is no product of the determinant and the inverse.
//
// One operation gives the derivatives of all orders: `det_slope(a, h1, ..., hk)` is the derivative
// of the cofactors of a along h1, ..., hk. It is symmetric in the directions and linear in each,
// and its own derivative along one more is itself with one more; by symmetry the transposed map is
// too.
//
// Its value is the coefficient of t1 ... tk in the cofactors of B = a + sum ti hi, in the algebra
// of numbers with t1² = ... = tk² = 0. With the singular value decomposition a = U S V' in the
// place of a, B is split into the block of the large singular values, inverted in that algebra, and
// the Schur complement of the others, which is small and whose adjugate Faddeev's and Le Verrier's
// recursion gives without dividing by anything that may vanish. A matrix far from singular is a
// large block alone, by its LU factors.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "adjoint/linalg.h"
#include "kernels/blas.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family det_family;

using Mask = std::size_t;  // a set of directions

// ------------------------------------------------------------------------------ long products

/// x 2^power.
double scaled(double x, Index power) {
  constexpr Index far = 1 << 16;  // beyond any number
  return std::ldexp(x, static_cast<int>(std::clamp(power, -far, far)));
}

/// A product whose parts may be too large or too small for a number, though it is not.
class LongProduct {
 public:
  void multiply(double x) {
    if (x == 0 || !std::isfinite(x) || !std::isfinite(mantissa_)) {
      mantissa_ *= x;
      return;
    }
    int of_x = 0, more = 0;
    mantissa_ = std::frexp(mantissa_ * std::frexp(x, &of_x), &more);
    power_ += of_x + more;
  }
  double mantissa() const { return mantissa_; }
  Index power() const { return power_; }
  double value() const { return scaled(mantissa_, power_); }

 private:
  double mantissa_ = 1;
  Index power_ = 0;
};

/// Of a matrix with these factors (linalg_lu.cpp).
template <class T>
LongProduct det_of_factors(const T* lu, Index n, const Index* pivots) {
  LongProduct out;
  for (Index i = 0; i < n; ++i) {
    const T d = lu[i * (n + 1)];
    out.multiply(static_cast<double>(pivots[i] == i + 1 ? d : -d));
  }
  return out;
}

// ---------------------------------------------------------------------------- dense matrices

/// Row-major, in float64 whatever the dtype of the tensors.
struct Dense {
  Index rows = 0, columns = 0;
  std::vector<double> v;

  Dense() = default;
  Dense(Index r, Index c) : rows(r), columns(c), v(static_cast<std::size_t>(r * c), 0.0) {}
  double& at(Index i, Index j) { return v[static_cast<std::size_t>(i * columns + j)]; }
  double at(Index i, Index j) const { return v[static_cast<std::size_t>(i * columns + j)]; }
  bool empty() const { return v.empty(); }  // of matrices of the algebra: zero
};

Dense unit_dense(Index n) {
  Dense out(n, n);
  for (Index i = 0; i < n; ++i) out.at(i, i) = 1;
  return out;
}

Dense flipped(const Dense& x) {
  Dense out(x.columns, x.rows);
  for (Index i = 0; i < x.rows; ++i)
    for (Index j = 0; j < x.columns; ++j) out.at(j, i) = x.at(i, j);
  return out;
}

Dense times(const Dense& a, const Dense& b) {
  Dense out(a.rows, b.columns);
  if (!out.empty())
    kernels::matmul(DType::float64, a.rows, b.columns, a.columns, a.v.data(), a.columns, 1,
                    b.v.data(), b.columns, 1, out.v.data());
  return out;
}

void add_scaled(Dense& sum, double factor, const Dense& x) {
  if (x.empty()) return;
  if (sum.empty()) sum = Dense(x.rows, x.columns);
  for (std::size_t i = 0; i < x.v.size(); ++i) sum.v[i] += factor * x.v[i];
}

double trace_of(const Dense& a, const Dense& b) {  // of the product
  double sum = 0;
  for (Index i = 0; i < a.rows; ++i)
    for (Index j = 0; j < a.columns; ++j) sum += a.at(i, j) * b.at(j, i);
  return sum;
}

Dense block_of(const Dense& x, Index row, Index column, Index rows, Index columns) {
  Dense out(rows, columns);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) out.at(i, j) = x.at(row + i, column + j);
  return out;
}

// ------------------------------------------------------------------------------- the algebra

/// A matrix of the algebra: entry S is the coefficient of the product of t over S.
using Series = std::vector<Dense>;
using Numbers = std::vector<double>;

/// Calls f for every subset of `set`, itself and the empty one included.
template <class F>
void for_subsets(Mask set, F&& f) {
  for (Mask part = set;; part = (part - 1) & set) {
    f(part);
    if (part == 0) return;
  }
}
template <class F>
void for_members(Mask set, F&& f) {
  for (std::size_t i = 0; set >> i; ++i)
    if (set >> i & 1) f(i);
}

Dense coefficient(const Series& a, const Series& b, Mask set) {
  Dense sum;
  for_subsets(set, [&](Mask part) {
    if (!a[part].empty() && !b[set ^ part].empty())
      add_scaled(sum, 1, times(a[part], b[set ^ part]));
  });
  return sum;
}
Dense coefficient(const Numbers& a, const Series& b, Mask set) {
  Dense sum;
  for_subsets(set, [&](Mask part) { add_scaled(sum, a[part], b[set ^ part]); });
  return sum;
}
template <class A>
Series product_of(const A& a, const Series& b) {
  Series out(b.size());
  for (Mask set = 0; set < b.size(); ++set) out[set] = coefficient(a, b, set);
  return out;
}

/// The inverse of a + sum ti hi, and its determinant, from those of a.
struct Invertible {
  Series inverse;
  Numbers det;

  Invertible(Dense of_a, double det_a, const std::vector<Dense>& h)
      : inverse(Mask{1} << h.size()), det(inverse.size()) {
    inverse[0] = std::move(of_a);
    det[0] = det_a;
    for (Mask set = 1; set < inverse.size(); ++set) {
      Dense sum;
      for_members(set, [&](std::size_t i) {
        add_scaled(sum, -1, times(h[i], inverse[set ^ Mask{1} << i]));
      });
      inverse[set] = times(inverse[0], sum);
      std::size_t first = 0;
      while (!(set >> first & 1)) ++first;
      const Mask rest = set ^ Mask{1} << first;
      for_subsets(rest, [&](Mask part) {
        det[set] += det[part] * trace_of(inverse[rest ^ part], h[first]);
      });
    }
  }
};

/// The adjugate and the determinant of a small matrix of the algebra (Faddeev and Le Verrier).
struct Adjugate {
  Series adjugate;
  Numbers det;

  explicit Adjugate(const Series& c) : adjugate(c.size()), det(c.size()) {
    const Index d = c[0].rows;
    Numbers last(c.size());
    last[0] = 1;
    for (Index k = 1; k <= d; ++k) {
      adjugate = product_of(c, adjugate);
      for (Mask set = 0; set < c.size(); ++set) add_scaled(adjugate[set], last[set], unit_dense(d));
      const Series both = product_of(c, adjugate);
      for (Mask set = 0; set < c.size(); ++set) {
        last[set] = 0;
        for (Index i = 0; i < d && !both[set].empty(); ++i)
          last[set] -= both[set].at(i, i) / static_cast<double>(k);
      }
    }
    const double sign = d % 2 ? 1 : -1;
    for (Dense& part : adjugate)
      for (double& x : part.v) x *= sign;
    for (Mask set = 0; set < c.size(); ++set) det[set] = -sign * last[set];
  }
};

// ------------------------------------------------------------------------------ the cofactors

LongProduct det_of(Dense x) {
  std::vector<Index> pivots(static_cast<std::size_t>(x.rows));
  factor_lu(x.v.data(), x.rows, pivots.data());
  return det_of_factors(x.v.data(), x.rows, pivots.data());
}

/// A matrix times 2^power.
struct Scaled {
  Dense matrix;
  Index power = 0;
};

/// The adjugate of a block of large singular values and a block of small ones, in the coordinates
/// of the singular vectors.
Scaled adjugate_of_blocks(const std::vector<double>& s, Index large, const std::vector<Dense>& h) {
  const auto n = static_cast<Index>(s.size());
  const Index small = n - large;
  const Mask count = Mask{1} << h.size(), all = count - 1;
  Dense inverse(large, large);
  LongProduct det;
  for (Index i = 0; i < large; ++i) {
    inverse.at(i, i) = 1 / s[static_cast<std::size_t>(i)];
    det.multiply(s[static_cast<std::size_t>(i)]);
  }
  // The complement in a unit of its own: its adjugate has the power small - 1 of that, and its
  // determinant one more. What is below the precision is rounding, and makes no smaller unit.
  const double largest = s.empty() ? 0 : s[0];
  const double scale = large == n ? 0
                                  : std::max(s[static_cast<std::size_t>(large)],
                                             largest * std::numeric_limits<double>::epsilon());
  const int unit = scale > 0 ? std::ilogb(scale) : 0;
  std::vector<Dense> within;
  within.reserve(h.size());
  Series right(count), left(count), c(count);  // inverse * B12, B21 * inverse, the complement
  for (const Dense& x : h) within.push_back(block_of(x, 0, 0, large, large));
  const Invertible b(std::move(inverse), det.mantissa(), within);
  c[0] = Dense(small, small);
  for (Index i = 0; i < small; ++i) c[0].at(i, i) = s[static_cast<std::size_t>(large + i)];
  for (Mask set = 1; set < count; ++set)
    for_members(set, [&](std::size_t i) {
      const Dense& before = b.inverse[set ^ Mask{1} << i];
      add_scaled(right[set], 1, times(before, block_of(h[i], 0, large, large, small)));
      add_scaled(left[set], 1, times(block_of(h[i], large, 0, small, large), before));
    });
  for (Mask set = 1; set < count; ++set)
    for_members(set, [&](std::size_t i) {
      if (set == Mask{1} << i) add_scaled(c[set], 1, block_of(h[i], large, large, small, small));
      const Dense& before = right[set ^ Mask{1} << i];
      if (!before.empty())
        add_scaled(c[set], -1, times(block_of(h[i], large, 0, small, large), before));
    });
  for (Dense& part : c)
    for (double& x : part.v) x = std::ldexp(x, -unit);
  Adjugate schur(c);
  for (double& x : schur.det) x = std::ldexp(x, unit);
  const Series corner = product_of(b.det, schur.adjugate);
  const Series across = product_of(right, corner);
  Dense top = coefficient(schur.det, product_of(b.det, b.inverse), all);
  add_scaled(top, 1, coefficient(across, left, all));
  const Dense down = coefficient(corner, left, all);
  Dense out(n, n);
  const auto put = [&](Index row, Index column, double sign, const Dense& part) {
    for (Index i = 0; i < part.rows; ++i)
      for (Index j = 0; j < part.columns; ++j) out.at(row + i, column + j) = sign * part.at(i, j);
  };
  put(0, 0, 1, top);
  put(0, large, -1, across[all]);
  put(large, 0, -1, down);
  put(large, large, 1, corner[all]);
  return {std::move(out), det.power() + unit * std::max<Index>(small - 1, 0)};
}

/// By singular values; those within the root of the precision of the largest are large.
Scaled cofactors_by_singular_values(const Dense& a, const std::vector<Dense>& h,
                                    const std::string& op) {
  const Index n = a.rows;
  // What LAPACK takes for a is a': its left vectors are the right ones of a.
  Dense copy = a, vt(n, n), u(n, n);
  std::vector<double> s(static_cast<std::size_t>(n));
  kernels::Svd<double> svd('S', n, n);
  if (svd(copy.v.data(), s.data(), vt.v.data(), u.v.data()))
    raise(ErrorKind::linalg, op, "the singular values did not converge");
  const double least = s[0] * std::sqrt(std::numeric_limits<double>::epsilon());
  const Index large = std::count_if(s.begin(), s.end(), [&](double x) { return x > least; });
  std::vector<Dense> turned;
  turned.reserve(h.size());
  for (const Dense& x : h) turned.push_back(times(times(flipped(u), x), flipped(vt)));
  Scaled adjugate = adjugate_of_blocks(s, large, turned);
  const bool turns = (det_of(u).mantissa() < 0) != (det_of(vt).mantissa() < 0);
  if (turns)
    for (double& x : adjugate.matrix.v) x = -x;
  return {times(times(u, flipped(adjugate.matrix)), vt), adjugate.power};
}

/// Of a matrix of moderate entries.
Scaled cofactors_of_balanced(const Dense& a, const std::vector<Dense>& h, const std::string& op) {
  const Index n = a.rows;
  Dense lu = a;
  double norm = 0;  // the 1-norm of a', which LAPACK sees
  for (Index i = 0; i < n; ++i) {
    double row = 0;
    for (Index j = 0; j < n; ++j) row += std::abs(a.at(i, j));
    norm = std::max(norm, row);
  }
  std::vector<Index> pivots(static_cast<std::size_t>(n));
  const Index info = kernels::getrf(n, lu.v.data(), n, pivots.data());
  const double least = std::sqrt(std::numeric_limits<double>::epsilon());
  if (info > 0 || !(kernels::gecon(n, lu.v.data(), n, norm) > least))
    return cofactors_by_singular_values(a, h, op);
  const LongProduct det = det_of_factors(lu.v.data(), n, pivots.data());
  kernels::Inverse<double>{n}(lu.v.data(), pivots.data());
  const Invertible b(std::move(lu), det.mantissa(), h);
  return {flipped(coefficient(b.det, b.inverse, b.inverse.size() - 1)), det.power()};
}

/// Powers of two by which rows and columns are divided, so that the largest entry of each is near
/// 1. Then determinants of parts neither vanish nor overflow where those of the whole do not, and
/// rows that differ in size alone do not look as if they depended on one another.
struct Balance {
  std::vector<int> rows, columns;

  explicit Balance(const Dense& a)
      : rows(static_cast<std::size_t>(a.rows)), columns(static_cast<std::size_t>(a.columns)) {
    const auto power_of = [](double largest) { return largest > 0 ? std::ilogb(largest) : 0; };
    for (Index i = 0; i < a.rows; ++i) {
      double largest = 0;
      for (Index j = 0; j < a.columns; ++j) largest = std::max(largest, std::abs(a.at(i, j)));
      rows[static_cast<std::size_t>(i)] = power_of(largest);
    }
    for (Index j = 0; j < a.columns; ++j) {
      double largest = 0;
      for (Index i = 0; i < a.rows; ++i)
        largest = std::max(largest, std::abs(scaled(a.at(i, j), -row(i))));
      columns[static_cast<std::size_t>(j)] = power_of(largest);
    }
  }
  int row(Index i) const { return rows[static_cast<std::size_t>(i)]; }
  int column(Index j) const { return columns[static_cast<std::size_t>(j)]; }
  Index total() const {
    return std::accumulate(rows.begin(), rows.end(), Index{0}) +
           std::accumulate(columns.begin(), columns.end(), Index{0});
  }
  /// The matrix divided, and by a power of two more, so that its largest entry is near 1.
  Scaled divided(const Dense& x) const {
    int power = std::numeric_limits<int>::min();
    for (Index i = 0; i < x.rows; ++i)
      for (Index j = 0; j < x.columns; ++j)
        if (x.at(i, j) != 0) power = std::max(power, std::ilogb(x.at(i, j)) - row(i) - column(j));
    if (power == std::numeric_limits<int>::min()) power = 0;
    Scaled out{x, power};
    for (Index i = 0; i < x.rows; ++i)
      for (Index j = 0; j < x.columns; ++j)
        out.matrix.at(i, j) = scaled(x.at(i, j), -row(i) - column(j) - power);
    return out;
  }
};

/// With A = R A' C, of powers of two, the cofactors of A are det R det C R^-1 (those of A') C^-1;
/// and the directions, in which they are linear, may have units of their own.
Dense cofactors(const Dense& a, const std::vector<Dense>& h, const std::string& op) {
  const Balance balance(a);
  Scaled balanced = balance.divided(a);
  Index power = balance.total() + balanced.power * (a.rows - 1);
  std::vector<Dense> directions;
  for (const Dense& x : h) {
    Scaled direction = balance.divided(x);
    // The matrix and its directions meet in one sum, whose unit is that of the matrix.
    power += direction.power - balanced.power;
    directions.push_back(std::move(direction.matrix));
  }
  Scaled out = cofactors_of_balanced(balanced.matrix, directions, op);
  for (Index i = 0; i < a.rows; ++i)
    for (Index j = 0; j < a.columns; ++j)
      out.matrix.at(i, j) =
          scaled(out.matrix.at(i, j), power + out.power - balance.row(i) - balance.column(j));
  return std::move(out.matrix);
}

template <class T>
bool is_zero(T x) {
  return x == T(0);
}
template <class T>
Dense dense_copy(const T* x, Index n) {
  Dense out(n, n);
  std::copy_n(x, n * n, out.v.begin());
  return out;
}

void run_det_slope(const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
                   std::uint32_t) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const Index n = shape.back();
  if (out->layout.size() == 0) return;
  std::vector<Tensor> held;
  for (Node* x : in) held.push_back(contiguous(x));
  const double work = 8.0 * static_cast<double>(n * n) * static_cast<double>(n);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), work, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        T* const to = data_of<T>(out) + i * n * n;
        std::vector<Dense> h;
        bool finite = true, still = false;
        for (const Tensor& x : held) {
          const T* const from = data_of<T>(x.node()) + i * n * n;
          finite = finite && all_finite(from, n * n);
          still = still || (!h.empty() && std::all_of(from, from + n * n, is_zero<T>));
          h.push_back(dense_copy(from, n));
        }
        // Along 0 nothing changes, as for mul0, whatever the matrix.
        if (still) {
          std::fill_n(to, n * n, T(0));
          continue;
        }
        if (!finite) {
          fill_nan(to, n * n);
          continue;
        }
        const Dense a = std::move(h.front());
        h.erase(h.begin());
        const Dense slope = cofactors(a, h, op.known_as());
        std::transform(slope.v.begin(), slope.v.end(), to,
                       [](double x) { return static_cast<T>(x); });
      }
    });
  });
}

/// The same application with another tensor as input i, or as a further direction.
Tensor det_slope_with(const RuleArgs& args, std::size_t i, const Tensor& x) {
  SmallVector<Node*, 8> nodes;
  for (std::size_t k = 0; k < args.inputs.size(); ++k)
    nodes.push_back(k == i && i > 0 ? x.node() : args.inputs[k].node());
  if (i == 0) nodes.push_back(x.node());
  return Tensor::adopt(apply(args.op, nodes));
}

Op& det_slope_record =
    det_family.define({.name = "det_slope",
                       .kind = OpKind::custom,
                       .arity = 0xff,
                       .vjp =
                           [](const RuleArgs& args, int input, const Tensor& ct) {
                             return det_slope_with(args, static_cast<std::size_t>(input), ct);
                           },
                       .jvp =
                           [](const RuleArgs& args, std::span<const Tensor> tangents) {
                             Tensor sum;
                             for (std::size_t i = 0; i < tangents.size(); ++i)
                               if (tangents[i].defined())
                                 sum = plus(sum, det_slope_with(args, i, tangents[i]));
                             return sum;
                           },
                       .needs = {0x7f, 0x7f, 0x7f},
                       .batch = batch_stacked,
                       .infer = infer_same,
                       .run = run_det_slope,
                       .serves = "det",
                       .internal = true,
                       .fallible = true});

// -------------------------------------------------------------------------------------- det

void run_det(const Op& op, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const Tensor x = contiguous(in[0]);
  const Index n = x.shape().back();
  const double work = static_cast<double>(n * n) * static_cast<double>(n);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(out->layout.size(), work, [&](Index begin, Index end) {
      std::vector<T> lu(static_cast<std::size_t>(n * n));
      std::vector<Index> pivots(static_cast<std::size_t>(n));
      for (Index i = begin; i < end; ++i) {
        std::copy_n(data_of<T>(x.node()) + i * n * n, n * n, lu.begin());
        factor_lu(lu.data(), n, pivots.data());
        data_of<T>(out)[i] = static_cast<T>(det_of_factors(lu.data(), n, pivots.data()).value());
      }
    });
  });
}

Op& det_record = det_family.define(
    {.name = "det",
     .kind = OpKind::custom,
     .arity = 1,
     .vjp =
         [](const RuleArgs& args, int, const Tensor& ct) {
           return mul0(as_matrix(ct), apply(det_slope_record, {&args.inputs[0]}));
         },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> tangents) {
           return sum(mul0(apply(det_slope_record, {&args.inputs[0]}), tangents[0]), {-2, -1});
         },
     .needs = {1, 0, 0},
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return {in[0]->dtype, Dims(stack_of(in[0]->layout.shape()))};
     },
     .run = run_det,
     .internal = true});

}  // namespace

Tensor det(const Tensor& x) {
  const Tensor a = square_matrices(x, "det");
  return apply(det_record, {&a});
}

void register_det_ops() {
  det_family.register_all();
  register_functions({
      {.name = "linalg.det",
       .signature = "(x, /)",
       .doc = "The determinant of square matrices.\n"
              "\n"
              "Its gradient is the matrix of cofactors, of singular matrices too.\n"
              "\n"
              "Examples\n"
              "--------\n"
              ">>> import adjoint as ad\n"
              ">>> ad.round(ad.grad(ad.linalg.det)(ad.tensor([[1.0, 2.0], [2.0, 4.0]]))).tolist()\n"
              "[[4.0, -2.0], [-2.0, 1.0]]",
       .entry = entry_of<det>()},
  });
}

}  // namespace adjoint::linalg
