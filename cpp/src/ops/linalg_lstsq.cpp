// Pseudo-inverses, least squares and ranks.
//
// The derivative of a pseudo-inverse P of A along matrices of the same rank is G. H. Golub's and
// V. Pereyra's (1973): dP = -P dA P + P P' dA' (I - A P) + (I - P A) dA' P' P. A least squares
// solution is P times the right side, and has that derivative, whichever way it is computed.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "adjoint/linalg.h"
#include "kernels/blas.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family pseudo_family;

/// Singular values up to so much of the largest count as 0, unless something else is given.
double usual_cutoff(const Tensor& a) {
  return precision_of(a.dtype()) * static_cast<double>(std::max(rows_of(a), columns_of(a)));
}

/// One number for each matrix, without derivative.
Tensor cutoffs(const Tensor& a, const std::optional<Tensor>& given, const char* op) {
  const Layout::Extents stack = stack_of(a.shape());
  Tensor one = given ? astype(*given, a.dtype()) : Tensor::scalar(usual_cutoff(a), a.dtype());
  if (std::ranges::equal(one.shape(), stack)) return one;
  if (!std::ranges::equal(broadcast_shapes(one.shape(), stack, op), stack))
    raise(ErrorKind::value, op,
          "rtol of shape " + to_string(one.shape()) + " for matrices of shape " +
              to_string(a.shape()) + ": it must be a number for each matrix, or for all");
  return broadcast_to(one, stack);
}

// ------------------------------------------------------------------------------ pseudo-inverse

/// Whether |A| |P|, which no quotient of singular values exceeds, shows that all of them count,
/// with room for the rounding in P. Both norms are Frobenius's.
template <class T>
bool has_full_rank(T norm, T inverse_norm, double cutoff) {
  return static_cast<double>(norm) * static_cast<double>(inverse_norm) * cutoff < 1.0 / 16;
}

template <class T>
T squares_of(const T* x, Index n) {
  constexpr Index lanes = 8;
  T sums[lanes] = {};
  Index i = 0;
  for (; i + lanes <= n; i += lanes)
    for (Index k = 0; k < lanes; ++k) sums[k] += x[i + k] * x[i + k];
  for (; i < n; ++i) sums[0] += x[i] * x[i];
  return std::accumulate(sums, sums + lanes, T(0));
}
template <class T>
T norm_of(const T* x, Index n) {
  return std::sqrt(squares_of(x, n));
}

/// The inverses of matrices of one shape: from an LU or a QR factorisation where the matrix turns
/// out to have full rank, which a singular value decomposition takes many times as long to say.
template <class T>
class PseudoInverse {
 public:
  PseudoInverse(Index m, Index n) : m_(m), n_(n), k_(std::min(m, n)), high_(std::max(m, n)) {}

  /// P of singular values above `cutoff` times the largest.
  Index operator()(const T* a, double cutoff, T* out) {
    // Beyond the precision a computed inverse says nothing of its norm.
    const double least = std::max(cutoff, static_cast<double>(std::numeric_limits<T>::epsilon()) *
                                              static_cast<double>(high_));
    const T norm = norm_of(a, m_ * n_);
    if ((m_ == n_ ? invert_square(a, out) : invert_tall(a, out)) &&
        has_full_rank(norm, norm_of(out, m_ * n_), least))
      return 0;
    return from_values(a, out, [&](T share, Index) { return share > static_cast<T>(cutoff); });
  }
  /// P of so many of the largest singular values.
  Index of_rank(const T* a, Index rank, T* out) {
    return from_values(a, out, [&](T, Index number) { return number < rank; });
  }

 private:
  bool invert_square(const T* a, T* out) {
    if (!inverse_) {
      inverse_.emplace(n_);
      pivots_.resize(size(n_));
    }
    std::copy_n(a, n_ * n_, out);
    kernels::getrf(n_, out, n_, pivots_.data());
    return !has_zero_on_diagonal(out, n_, n_) && (*inverse_)(out, pivots_.data()) == 0;
  }
  /// With A or A' = Q R, the taller one, P or P' is R^-1 Q'.
  bool invert_tall(const T* a, T* out) {
    if (!factors_) {
      factors_.emplace(high_, k_, k_);
      scales_.resize(size(k_));
      r_.resize(size(k_ * k_));
      q_.resize(size(high_ * k_));
    }
    T* const q = m_ > n_ ? out : q_.data();
    if (m_ > n_)
      copy_turned(a, m_, n_, q, m_);
    else
      std::copy_n(a, m_ * n_, q);
    if (factors_->factor(q, scales_.data()) != 0) return false;
    for (Index j = 0; j < k_; ++j) std::copy_n(q + j * high_, j + 1, r_.data() + j * k_);
    if (has_zero_on_diagonal(r_.data(), k_, k_)) return false;
    if (factors_->form(q, scales_.data()) != 0) return false;
    kernels::trsm_right<T>('U', 'T', 'N', high_, k_, r_.data(), k_, q, high_);
    if (m_ < n_) copy_turned(q, m_, n_, out, m_);
    return true;
  }
  template <class Counts>
  Index from_values(const T* a, T* out, Counts&& counts) {
    if (!svd_) {
      svd_.emplace('S', n_, m_);
      s_.resize(size(k_));
      a_.resize(size(m_ * n_));
      u_.resize(size(m_ * k_));
      vh_.resize(size(k_ * n_));
    }
    std::copy_n(a, m_ * n_, a_.data());
    if (const Index info = (*svd_)(a_.data(), s_.data(), vh_.data(), u_.data())) return info;
    for (Index i = 0; i < k_; ++i) {
      const T s = s_[size(i)];
      const T factor = s > 0 && counts(s / s_.front(), i) ? 1 / s : T(0);
      for (Index j = 0; j < n_; ++j) vh_[size(i * n_ + j)] *= factor;
    }
    constexpr DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
    kernels::matmul(dtype, n_, m_, k_, vh_.data(), 1, n_, u_.data(), 1, k_, out);
    return 0;
  }
  static std::size_t size(Index n) { return static_cast<std::size_t>(n); }

  Index m_, n_, k_, high_;
  std::optional<kernels::Inverse<T>> inverse_;
  std::optional<kernels::QrFactors<T>> factors_;
  std::optional<kernels::Svd<T>> svd_;
  std::vector<Index> pivots_;
  std::vector<T> scales_, r_, q_, s_, a_, u_, vh_;
};

[[noreturn]] void raise_no_values(const Op& op, const Failure& failure, Layout::Extents stack) {
  raise(ErrorKind::linalg, op.known_as(),
        "the singular values of " + failure.subject(stack) + " did not converge");
}

// Inputs: the matrix and, for each, the share of the largest singular value up to which others
// count as 0.

void run_pinv(const Op& op, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back();
  if (out->layout.size() == 0) return;
  const Tensor a = contiguous(in[0]), limits = contiguous(in[1]);
  const double steps = 4.0 * static_cast<double>(m * n) * static_cast<double>(std::min(m, n));
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), steps, [&](Index begin, Index end) {
      PseudoInverse<T> inverse(m, n);
      for (Index i = begin; i < end; ++i) {
        const T* const x = data_of<T>(a.node()) + i * m * n;
        T* const to = data_of<T>(out) + i * m * n;
        if (!all_finite(x, m * n))
          fill_nan(to, m * n);
        else if (const Index info =
                     inverse(x, static_cast<double>(data_of<T>(limits.node())[i]), to))
          failure.report(i, info);
      }
    });
  });
  if (failure.any()) raise_no_values(op, failure, stack_of(shape));
}

/// P P' / u in a unit u near the largest entry of P, as squares would vanish or overflow.
struct SquareInUnits {
  Tensor unit, product;

  explicit SquareInUnits(const Tensor& p)
      : unit(p.size() == 0 ? scalar_like(p, 1) : binade(max(abs(p), {-2, -1}, true))),
        product(matmul(p / unit, matrix_transpose(p))) {}
};

/// From the cotangent of P to that of A. Of P ct' P, P P' and what they meet, the tall form: with
/// Y = P ct', all but the outermost products are as small as the shorter side.
Tensor pull_through_inverse(const Tensor& a, const Tensor& p, const Tensor& ct) {
  if (rows_of(a) < columns_of(a))
    return matrix_transpose(
        pull_through_inverse(matrix_transpose(a), matrix_transpose(p), matrix_transpose(ct)));
  const Tensor back = matrix_transpose(p), turned = matrix_transpose(ct);
  const Tensor y = matmul(p, turned);
  const Tensor straight = matmul(y, p);  // transposed
  const SquareInUnits both(p);
  const Tensor outside_columns = matmul(turned - matmul(a, y), both.product) * both.unit;
  const Tensor outside_rows = matmul(back, y - matmul(straight, a));
  return outside_columns + outside_rows - matrix_transpose(straight);
}

Tensor push_through_inverse(const Tensor& a, const Tensor& p, const Tensor& da) {
  if (rows_of(a) < columns_of(a))
    return matrix_transpose(
        push_through_inverse(matrix_transpose(a), matrix_transpose(p), matrix_transpose(da)));
  const Tensor turned = matrix_transpose(da);
  const Tensor y = matmul(p, da), y_turned = matrix_transpose(y);
  const SquareInUnits both(p);
  const Tensor within = matmul(matmul(turned, a * both.unit), p / both.unit);
  const Tensor outside = matmul(both.product, turned - within) * both.unit;
  return outside + matmul(y_turned - matmul(p, matmul(a, y_turned)) - y, p);
}

Op& pinv_record = pseudo_family.define(
    {.name = "pinv",
     .kind = OpKind::custom,
     .arity = 2,
     .dtypes = DTypeRule::custom,
     .vjp = [](const RuleArgs& args, int,
               const Tensor& ct) { return pull_through_inverse(args.inputs[0], args.output, ct); },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> tangents) {
           return push_through_inverse(args.inputs[0], args.output, tangents[0]);
         },
     .needs = {1 | kSavesOutput, 0, 0},
     .constant_inputs = 2,
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape();
       return {in[0]->dtype, with_matrix(stack_of(shape), shape.back(), shape[shape.size() - 2])};
     },
     .run = run_pinv,
     .internal = true,
     .fallible = true});

// ------------------------------------------------------------- singular values and factors with
// them

// Results are the singular values, the rank, and what applies the pseudo-inverse P of that rank: of
// a matrix of full rank the QR factors of A or A', the taller one, in column-major order, and the
// scales of its reflectors; of any other P itself. Values and rank have the rule of the first, the
// factors none: what is computed with them takes the matrix beside them.
struct FactorAttrs {
  double cutoff;

  static constexpr auto fields() { return std::tuple(field("cutoff", &FactorAttrs::cutoff)); }
};

template <class T>
class PseudoFactors {
 public:
  PseudoFactors(Index m, Index n, T cutoff)
      : m_(m),
        n_(n),
        k_(std::min(m, n)),
        high_(std::max(m, n)),
        cutoff_(cutoff),
        factors_(high_, k_, k_),
        values_('N', k_, k_),
        inverse_(m, n),
        r_(static_cast<std::size_t>(k_ * k_)) {}

  Index operator()(const T* a, T* s, Index* rank, T* factors, T* scales) {
    std::fill_n(scales, k_, T(0));
    *rank = 0;
    if (!all_finite(a, m_ * n_)) {
      fill_nan(s, k_);
      fill_nan(factors, m_ * n_);
      return 0;
    }
    if (m_ >= n_)
      copy_turned(a, m_, n_, factors, m_);
    else
      std::copy_n(a, m_ * n_, factors);
    if (const Index info = factors_.factor(factors, scales)) return info;
    for (Index j = 0; j < k_; ++j) {
      std::copy_n(factors + j * high_, j + 1, r_.data() + j * k_);
      std::fill_n(r_.data() + j * k_ + j + 1, k_ - j - 1, T(0));
    }
    if (const Index info = values_(r_.data(), s, nullptr, nullptr)) return info;
    while (*rank < k_ && s[*rank] > cutoff_ * s[0]) ++*rank;
    return *rank == k_ ? 0 : inverse_.of_rank(a, *rank, factors);
  }

 private:
  Index m_, n_, k_, high_;
  T cutoff_;
  kernels::QrFactors<T> factors_;
  kernels::Svd<T> values_;
  PseudoInverse<T> inverse_;
  std::vector<T> r_;
};

void run_pseudo_factors(const Op& op, std::span<Node* const> out, std::span<Node* const> in,
                        const Attrs* attrs, std::uint32_t) {
  kernels::need_lapack(op.known_as());
  for (Node* node : out) allocate_value(node, op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back(), least = std::min(m, n);
  const Index count = product(stack_of(shape));
  if (least == 0) {
    std::fill_n(data_of<Index>(out[1]), count, Index{0});
    return;
  }
  const Tensor a = contiguous(in[0]);
  const double steps = 10.0 * static_cast<double>(m * n) * static_cast<double>(least);
  const double cutoff = attrs_as<FactorAttrs>(attrs).cutoff;
  Failure failure;
  with_floating(in[0]->dtype, [&]<class T>(T) {
    for_stack(count, steps, [&](Index begin, Index end) {
      PseudoFactors<T> factor(m, n, static_cast<T>(cutoff));
      for (Index i = begin; i < end; ++i)
        if (const Index info =
                factor(data_of<T>(a.node()) + i * m * n, data_of<T>(out[0]) + i * least,
                       data_of<Index>(out[1]) + i, data_of<T>(out[2]) + i * m * n,
                       data_of<T>(out[3]) + i * least))
          failure.report(i, info);
    });
  });
  if (failure.any()) raise_no_values(op, failure, stack_of(shape));
}

Op& factors_record = pseudo_family.define(
    {.name = "pseudo_factors",
     .kind = OpKind::custom,
     .arity = 1,
     .attrs = attrs_type<FactorAttrs>(),
     .pull = [](const RuleArgs& args, std::span<const Tensor> cts) -> std::vector<Tensor> {
       if (!cts[0].defined()) return {{}};
       const auto [u, s, vh] = svd(args.inputs[0], false);
       return {singular_sum(args.inputs[0], cts[0], u, s, vh)};
     },
     .push = [](const RuleArgs& args, std::span<const Tensor> tangents) -> std::vector<Tensor> {
       const auto [u, s, vh] = svd(args.inputs[0], false);
       return {singular_slope(tangents[0], args.inputs[0], u, s, vh), {}, {}, {}};
     },
     .needs = {1, 0, 0},
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape(), stack = stack_of(shape);
       const DType dtype = in[0]->dtype;
       const Dims values = with_axis(stack, std::min(shape[shape.size() - 2], shape.back()));
       return std::vector<ResultSpec>{
           {dtype, values}, {DType::int64, Dims(stack)}, {dtype, Dims(shape)}, {dtype, values}};
     },
     .run_all = run_pseudo_factors,
     .batch_all = batch_all_stacked,
     .serves = "lstsq",
     .internal = true,
     .fallible = true});

// ------------------------------------------------------------------------------- least squares

// Inputs are a, b, the rank, the factors and their scales: P b, or P' b.
struct ShortestAttrs {
  bool trans;

  static constexpr auto fields() { return std::tuple(field("trans", &ShortestAttrs::trans)); }
};

template <class T>
class Shortest {
 public:
  /// For k right sides.
  Shortest(Index m, Index n, Index k, bool trans)
      : m_(m),
        n_(n),
        k_(k),
        least_(std::min(m, n)),
        high_(std::max(m, n)),
        trans_(trans),
        reflectors_(high_, least_, k),
        c_(static_cast<std::size_t>(high_ * k)) {}

  /// A right side that is not finite has a solution of nan; the others keep theirs.
  void operator()(const T* b, Index rank, const T* factors, const T* scales, T* x) {
    const Index from = trans_ ? n_ : m_, to = trans_ ? m_ : n_;
    T* const c = c_.data();
    std::copy_n(b, from * k_, c);
    const bool finite = all_finite(b, from * k_);
    if (!finite) clear_unknown(from, c);
    solve(rank, factors, scales, c, x);
    if (finite) return;
    for (Index j = 0; j < k_; ++j)
      if (unknown_[static_cast<std::size_t>(j)])
        for (Index i = 0; i < to; ++i) x[i * k_ + j] = std::numeric_limits<T>::quiet_NaN();
  }

 private:
  /// Notes the right sides that are not finite, and puts zeros in their places.
  void clear_unknown(Index rows, T* c) {
    unknown_.assign(static_cast<std::size_t>(k_), false);
    for (Index i = 0; i < rows * k_; ++i)
      if (!std::isfinite(c[i])) unknown_[static_cast<std::size_t>(i % k_)] = true;
    for (Index i = 0; i < rows * k_; ++i)
      if (unknown_[static_cast<std::size_t>(i % k_)]) c[i] = 0;
  }
  void solve(Index rank, const T* factors, const T* scales, T* c, T* x) {
    const Index from = trans_ ? n_ : m_, to = trans_ ? m_ : n_;
    if (rank < least_) {
      constexpr DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
      kernels::matmul(dtype, to, k_, from, factors, trans_ ? 1 : m_, trans_ ? m_ : 1, c, k_, 1, x);
      return;
    }
    // In column-major order the right sides are rows. That of the taller is x' = b' Q R^-T.
    if (trans_ == (m_ < n_)) {
      reflectors_.apply(false, factors, high_, scales, c);
      divide(false, factors, c);
    } else {
      std::fill_n(c + least_ * k_, (high_ - least_) * k_, T(0));
      divide(true, factors, c);
      reflectors_.apply(true, factors, high_, scales, c);
    }
    std::copy_n(c, to * k_, x);
  }
  void divide(bool by_r, const T* r, T* c) const {
    if (k_ == 1)
      kernels::trsv<T>('U', by_r ? 'T' : 'N', 'N', least_, r, high_, c);
    else
      kernels::trsm_right<T>('U', by_r ? 'N' : 'T', 'N', k_, least_, r, high_, c, k_);
  }

  Index m_, n_, k_, least_, high_;
  bool trans_;
  kernels::Reflectors<T> reflectors_;
  std::vector<T> c_;
  std::vector<bool> unknown_;  // by right side
};

void run_shortest(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                  std::uint32_t) {
  allocate_value(out, op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back(), least = std::min(m, n);
  const Index k = out->layout.shape().back();
  const bool trans = attrs_as<ShortestAttrs>(attrs).trans;
  if (out->layout.size() == 0) return;
  const Tensor b = contiguous(in[1]), ranks = contiguous(in[2]);
  const Tensor factors = contiguous(in[3]), scales = contiguous(in[4]);
  const Index from = trans ? n : m, to = trans ? m : n;
  with_floating(out->dtype, [&]<class T>(T) {
    if (least == 0) {
      std::fill_n(data_of<T>(out), out->layout.size(), T(0));
      return;
    }
    for_stack(product(stack_of(shape)), 4.0 * static_cast<double>(m * n * k),
              [&](Index begin, Index end) {
                Shortest<T> solve(m, n, k, trans);
                for (Index i = begin; i < end; ++i)
                  solve(data_of<T>(b.node()) + i * from * k, data_of<Index>(ranks.node())[i],
                        data_of<T>(factors.node()) + i * m * n,
                        data_of<T>(scales.node()) + i * least, data_of<T>(out) + i * to * k);
              });
  });
}

/// P and P' as maps of thin matrices, for the rules of `shortest`: of the matrix that its solution
/// belongs to, which where `trans` is the transposed one.
struct PseudoMaps {
  const RuleArgs& args;
  bool trans;

  explicit PseudoMaps(const RuleArgs& given)
      : args(given), trans(attrs_as<ShortestAttrs>(given.attrs).trans) {}
  Tensor matrix() const { return trans ? matrix_transpose(args.inputs[0]) : args.inputs[0]; }
  Tensor inverse(const Tensor& x) const { return with(x, trans); }
  Tensor inverse_transposed(const Tensor& x) const { return with(x, !trans); }

 private:
  Tensor with(const Tensor& x, bool turned) const {
    const auto& in = args.inputs;
    return apply(args.op, {&in[0], &x, &in[2], &in[3], &in[4]}, make_attrs(ShortestAttrs{turned}));
  }
};

std::vector<Tensor> pull_shortest(const RuleArgs& args, std::span<const Tensor> cts) {
  const PseudoMaps p(args);
  const Tensor of_b = p.inverse_transposed(cts[0]);
  if (!args.wanted[0]) return {{}, of_b, {}, {}, {}};
  const Tensor a = p.matrix(), &x = result_of(args);
  const Tensor left[] = {negative(of_b), args.inputs[1] - matmul(a, x), p.inverse_transposed(x)};
  const Tensor right[] = {x, p.inverse(of_b), cts[0] - matmul(matrix_transpose(a), of_b)};
  const Tensor one = concat(p.trans ? right : left, -1), two = concat(p.trans ? left : right, -1);
  return {matmul(one, matrix_transpose(two)), of_b, {}, {}, {}};
}

std::vector<Tensor> push_shortest(const RuleArgs& args, std::span<const Tensor> tangents) {
  const PseudoMaps p(args);
  if (!tangents[0].defined()) return {p.inverse(tangents[1])};
  const Tensor a = p.matrix(), &x = result_of(args);
  const Tensor da = p.trans ? matrix_transpose(tangents[0]) : tangents[0];
  const Tensor back = matrix_transpose(da);
  const Tensor residual = args.inputs[1] - matmul(a, x);
  const Tensor right =
      plus(p.inverse_transposed(matmul(back, residual)) - matmul(da, x), tangents[1]);
  const Tensor along = matmul(back, p.inverse_transposed(x));
  return {p.inverse(right - matmul(a, along)) + along};
}

constexpr std::uint8_t kAllOfShortest = 0x1f | kSavesOutput;

Op& shortest_record = pseudo_family.define(
    {.name = "shortest_solution",
     .kind = OpKind::custom,
     .arity = 5,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<ShortestAttrs>(),
     .pull = pull_shortest,
     .push = push_shortest,
     .needs = {kAllOfShortest, kAllOfShortest, kAllOfShortest},
     .constant_inputs = 4 | 8 | 16,
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs* attrs) -> ResultList {
       const auto shape = in[0]->layout.shape();
       const bool trans = attrs_as<ShortestAttrs>(attrs).trans;
       return {in[1]->dtype,
               with_matrix(stack_of(shape), trans ? shape[shape.size() - 2] : shape.back(),
                           in[1]->layout.shape().back())};
     },
     .run = run_shortest,
     .serves = "lstsq",
     .internal = true});

}  // namespace

// ------------------------------------------------------------------------------------- functions

Tensor pinv(const Tensor& x, const std::optional<Tensor>& rtol) {
  const Tensor a = matrices(x, "pinv");
  const Tensor least = cutoffs(a, rtol, "pinv");
  return apply(pinv_record, {&a, &least});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> lstsq(const Tensor& left, const Tensor& right,
                                                 std::optional<double> rcond) {
  const char* const op = "lstsq";
  auto [a, b] = in_one_dtype(matrices(left, op), right);
  const bool vector = b.ndim() == 1;
  if (vector) b = expand_dims(b, 1);
  if (b.ndim() < 2 || rows_of(b) != rows_of(a))
    raise(ErrorKind::value, op,
          "shapes " + to_string(left.shape()) + " and " + to_string(right.shape()) +
              " make no system: a right side is a vector (m,) or matrices (..., m, k), of as many "
              "rows as the left side");
  if (rcond && !(*rcond < 1))
    raise(ErrorKind::value, op,
          "rcond must be below 1, got " + std::to_string(*rcond) + ": no singular value is left");
  const Dims stack = broadcast_shapes(stack_of(a.shape()), stack_of(b.shape()), op);
  const double cutoff = !rcond ? usual_cutoff(a) : *rcond > 0 ? *rcond : precision_of(a.dtype());
  Node* const in[] = {a.node()};
  std::vector<Tensor> f = apply_all(factors_record, in, make_attrs(FactorAttrs{cutoff}));
  // Factored before they are repeated over the right sides.
  if (!std::ranges::equal(stack, stack_of(a.shape()))) {
    const Index least = std::min(rows_of(a), columns_of(a));
    a = over_stack(a, stack);
    for (const int i : {0, 3}) f[i] = broadcast_to(f[i], with_axis(stack, least));
    f[1] = broadcast_to(f[1], stack);
    f[2] = over_stack(f[2], stack);
  }
  b = over_stack(b, stack);
  const Tensor x = apply(shortest_record, {&a, &b, &f[1], &f[2], &f[3]},
                         make_attrs(ShortestAttrs{.trans = false}));
  const Tensor residuals = rows_of(a) > columns_of(a) ? sum(square(b - matmul(a, x)), -2)
                                                      : zeros(with_axis(stack, 0), a.dtype());
  return {vector ? squeeze(x, -1) : x, residuals, f[1], f[0]};
}

Tensor matrix_rank(const Tensor& x, const std::optional<Tensor>& rtol) {
  const char* const op = "matrix_rank";
  const Tensor a = matrices(x, op), s = svdvals(a);
  const Dims stack(stack_of(a.shape()));
  if (columns_of(as_row(s)) == 0) return zeros(stack, DType::int64);
  const Tensor least = max(s, -1) * cutoffs(a, rtol, op);
  return sum(astype(greater(s, as_column(least)), DType::int64), -1);
}

void register_lstsq_ops() {
  pseudo_family.register_all();
  register_functions({
      {.name = "linalg.pinv",
       .signature = "(x, /, *, rtol=None)",
       .doc =
           "The Moore-Penrose pseudo-inverse of matrices.\n"
           "\n"
           "Parameters\n"
           "----------\n"
           "x : Tensor, shape (..., m, n)\n"
           "rtol : float or Tensor, optional\n"
           "    Singular values up to so much of the largest count as 0; max(m, n) times the\n"
           "    precision of the dtype, if it is None. A tensor broadcasts over the stack.\n"
           "\n"
           "Notes\n"
           "-----\n"
           "The derivative is that along matrices of the same rank; along others the inverse of a\n"
           "matrix without full rank jumps. It is nan where x is not finite.",
       .entry = entry_of<pinv>()},
      {.name = "linalg.lstsq",
       .signature = "(a, b, /, *, rcond=None) -> (solution, residuals, rank, singular_values)",
       .doc =
           "The x that minimises |b - a x|, and of several such the shortest.\n"
           "\n"
           "Parameters\n"
           "----------\n"
           "a : Tensor, shape (..., m, n)\n"
           "b : Tensor, shape (m,) or (..., m, k)\n"
           "    A vector, or matrices of right sides; leading axes broadcast.\n"
           "rcond : float, optional\n"
           "    Singular values up to so much of the largest count as 0; max(m, n) times the\n"
           "    precision of the dtype, if it is None, and the precision if it is not positive.\n"
           "\n"
           "Returns\n"
           "-------\n"
           "solution : Tensor, shape (n,) or (..., n, k)\n"
           "residuals : Tensor, shape (..., k)\n"
           "    Sums of squared residuals; none, shape (..., 0), where m <= n.\n"
           "rank : Tensor of int64, shape (...)\n"
           "singular_values : Tensor, shape (..., min(m, n))\n"
           "\n"
           "Notes\n"
           "-----\n"
           "The derivative is that along matrices a of the rank that is given.",
       .entry = entry_of<lstsq>()},
      {.name = "linalg.matrix_rank",
       .signature = "(x, /, *, rtol=None)",
       .doc = "How many singular values of matrices are larger than `rtol` times the largest;\n"
              "`rtol` is max(m, n) times the precision of the dtype, if it is None.",
       .entry = entry_of<matrix_rank>()},
  });
}

}  // namespace adjoint::linalg
