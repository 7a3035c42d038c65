// Pseudo-inverses, least squares and ranks.
//
// The derivative of a pseudo-inverse P of A along matrices of the same rank is G. H. Golub's and
// V. Pereyra's (1973): dP = -P dA P + P P' dA' (I - A P) + (I - P A) dA' P' P. A least squares
// solution is P times the right side, and has that derivative, whichever way it is computed.
#include <algorithm>
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
  const Tensor one = given ? astype(*given, a.dtype()) : Tensor::scalar(usual_cutoff(a), a.dtype());
  if (std::ranges::equal(one.shape(), stack)) return one;
  if (!std::ranges::equal(broadcast_shapes(one.shape(), stack, op), stack))
    raise(ErrorKind::value, op,
          "rtol of shape " + to_string(one.shape()) + " for matrices of shape " +
              to_string(a.shape()) + ": it must be a number for each matrix, or for all");
  return broadcast_to(one, stack);
}

// ------------------------------------------------------------------------------ pseudo-inverse

template <class T>
class PseudoInverse {
 public:
  PseudoInverse(Index m, Index n)
      : m_(m), n_(n), k_(std::min(m, n)), svd_('S', n, m), s_(k_), u_(m * k_), vh_(k_ * n) {}

  /// The inverse of `a`, which is overwritten, into `out`; of the first singular values for which
  /// `counts(value, its number)`.
  template <class Counts>
  Index operator()(T* a, Counts&& counts, T* out) {
    if (const Index info = svd_(a, s_.data(), vh_.data(), u_.data())) return info;
    for (Index i = 0; i < k_; ++i) {
      const T s = s_[static_cast<std::size_t>(i)];
      const T factor = s > 0 && counts(s / s_.front(), i) ? 1 / s : T(0);
      for (Index j = 0; j < n_; ++j) vh_[static_cast<std::size_t>(i * n_ + j)] *= factor;
    }
    constexpr DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
    kernels::matmul(dtype, n_, m_, k_, vh_.data(), 1, n_, u_.data(), 1, k_, out);
    return 0;
  }

 private:
  Index m_, n_, k_;
  kernels::Svd<T> svd_;
  std::vector<T> s_, u_, vh_;
};

// Inputs: the matrix and, for each, the share of the largest singular value up to which others
// count as 0, or, as int64, its rank.

void run_pinv(const Op& op, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  kernels::need_lapack(op.name);
  allocate_value(out, op.name);
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back();
  if (out->layout.size() == 0) return;
  const Tensor work = Tensor::adopt(new_array(in[0]->dtype, shape, op.name));
  copy_value(in[0], work.node()->data());
  const Tensor limits = contiguous(in[1]);
  const bool ranks = is_integer(limits.dtype());
  const double steps = 20.0 * static_cast<double>(m * n) * static_cast<double>(std::min(m, n));
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), steps, [&](Index begin, Index end) {
      PseudoInverse<T> inverse(m, n);
      for (Index i = begin; i < end; ++i) {
        T* const a = data_of<T>(work.node()) + i * m * n;
        T* const to = data_of<T>(out) + i * m * n;
        if (!all_finite(a, m * n)) {
          fill_nan(to, m * n);
          continue;
        }
        const auto counts = [&](T value, Index number) {
          return ranks ? number < data_of<Index>(limits.node())[i]
                       : value > data_of<T>(limits.node())[i];
        };
        if (const Index info = inverse(a, counts, to)) failure.report(i, info);
      }
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.name,
          "the singular values of " + failure.subject(stack_of(shape)) + " did not converge");
}

/// From the cotangent of P to that of A.
Tensor pull_through_inverse(const Tensor& a, const Tensor& p, const Tensor& ct) {
  const Tensor back = matrix_transpose(p), turned = matrix_transpose(ct);
  const Tensor straight = matmul(matmul(back, ct), back);
  const Tensor outside_rows = turned - matmul(a, matmul(p, turned));
  const Tensor outside_columns = turned - matmul(matmul(turned, p), a);
  return matmul(matmul(outside_rows, p), back) + matmul(back, matmul(p, outside_columns)) -
         straight;
}

Tensor push_through_inverse(const Tensor& a, const Tensor& p, const Tensor& da) {
  const Tensor back = matrix_transpose(p), turned = matrix_transpose(da);
  const Tensor straight = matmul(matmul(p, da), p);
  const Tensor outside_rows = turned - matmul(matmul(turned, a), p);
  const Tensor outside_columns = turned - matmul(p, matmul(a, turned));
  return matmul(matmul(p, back), outside_rows) + matmul(matmul(outside_columns, back), p) -
         straight;
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

// ------------------------------------------------------------------------------- least squares

// Results are the solution, the rank and the singular values.
struct LstsqAttrs {
  double cutoff;

  static constexpr auto fields() { return std::tuple(field("cutoff", &LstsqAttrs::cutoff)); }
};

template <class T>
class SolvedLeastSquares {
 public:
  SolvedLeastSquares(Index m, Index n, Index k, T cutoff)
      : m_(m),
        n_(n),
        k_(k),
        high_(std::max(m, n)),
        solve_(m, n, std::max<Index>(k, 1), cutoff),
        a_(m * n),
        b_(high_ * std::max<Index>(k, 1)) {}

  Index operator()(const T* a, const T* b, T* x, Index* rank, T* s) {
    if (!all_finite(a, m_ * n_)) {
      fill_nan(x, n_ * k_);
      fill_nan(s, std::min(m_, n_));
      *rank = 0;
      return 0;
    }
    const bool finite = all_finite(b, m_ * k_);
    copy_turned(a, m_, n_, a_.data(), m_);
    std::ranges::fill(b_, T(0));
    if (finite) copy_turned(b, m_, k_, b_.data(), high_);
    if (const Index info = solve_(a_.data(), b_.data(), s, rank)) return info;
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < k_; ++j) x[i * k_ + j] = b_[static_cast<std::size_t>(j * high_ + i)];
    if (!finite) fill_nan(x, n_ * k_);
    return 0;
  }

 private:
  Index m_, n_, k_, high_;
  kernels::LeastSquares<T> solve_;
  std::vector<T> a_, b_;
};

void run_lstsq(const Op& op, std::span<Node* const> out, std::span<Node* const> in,
               const Attrs* attrs, std::uint32_t) {
  kernels::need_lapack(op.name);
  for (Node* node : out) allocate_value(node, op.name);
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back();
  const Index k = in[1]->layout.shape().back(), least = std::min(m, n);
  const Tensor a = contiguous(in[0]), b = contiguous(in[1]);
  const double steps = 10.0 * static_cast<double>(m * n) * static_cast<double>(least + k);
  const double cutoff = attrs_as<LstsqAttrs>(attrs).cutoff;
  Failure failure;
  with_floating(in[0]->dtype, [&]<class T>(T) {
    if (least == 0) {
      std::fill_n(data_of<T>(out[0]), out[0]->layout.size(), T(0));
      std::fill_n(data_of<Index>(out[1]), out[1]->layout.size(), Index{0});
      return;
    }
    for_stack(product(stack_of(shape)), steps, [&](Index begin, Index end) {
      SolvedLeastSquares<T> solve(m, n, k, static_cast<T>(cutoff));
      for (Index i = begin; i < end; ++i)
        if (const Index info =
                solve(data_of<T>(a.node()) + i * m * n, data_of<T>(b.node()) + i * m * k,
                      data_of<T>(out[0]) + i * n * k, data_of<Index>(out[1]) + i,
                      data_of<T>(out[2]) + i * least))
          failure.report(i, info);
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.name,
          "the singular values of " + failure.subject(stack_of(shape)) + " did not converge");
}

/// Of the rank that the value was found with.
Tensor inverse_for(const RuleArgs& args) {
  return apply(pinv_record, {&args.inputs[0], &args.outputs[1]});
}

std::vector<Tensor> pull_lstsq(const RuleArgs& args, std::span<const Tensor> cts) {
  const Tensor &a = args.inputs[0], &b = args.inputs[1];
  Tensor of_a, of_b;
  if (cts[0].defined()) {
    const Tensor p = inverse_for(args);
    of_b = matmul(matrix_transpose(p), cts[0]);
    if (is_wanted(args, 0)) of_a = pull_through_inverse(a, p, matmul(cts[0], matrix_transpose(b)));
  }
  if (cts[2].defined() && is_wanted(args, 0)) {
    const auto [u, s, vh] = svd(a, false);
    of_a = plus(of_a, singular_sum(a, cts[2], u, s, vh));
  }
  return {of_a, of_b};
}

std::vector<Tensor> push_lstsq(const RuleArgs& args, std::span<const Tensor> tangents) {
  const Tensor &a = args.inputs[0], &b = args.inputs[1];
  const Tensor p = inverse_for(args);
  Tensor dx, ds;
  if (tangents[1].defined()) dx = matmul(p, tangents[1]);
  if (tangents[0].defined()) {
    dx = plus(dx, matmul(push_through_inverse(a, p, tangents[0]), b));
    const auto [u, s, vh] = svd(a, false);
    ds = singular_slope(tangents[0], a, u, s, vh);
  }
  return {dx, {}, ds};
}

Op& lstsq_record = pseudo_family.define(
    {.name = "lstsq",
     .kind = OpKind::custom,
     .arity = 2,
     .attrs = attrs_type<LstsqAttrs>(),
     .pull = pull_lstsq,
     .push = push_lstsq,
     .needs = {3 | kSavesOutput, 3 | kSavesOutput, 3 | kSavesOutput},
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape(), stack = stack_of(shape);
       const Index m = shape[shape.size() - 2], n = shape.back();
       return std::vector<ResultSpec>{
           {in[0]->dtype, with_matrix(stack, n, in[1]->layout.shape().back())},
           {DType::int64, Dims(stack)},
           {in[0]->dtype, with_axis(stack, std::min(m, n))}};
     },
     .run_all = run_lstsq,
     .batch_all = batch_all_stacked,
     .internal = true,
     .fallible = true});

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
  a = over_stack(a, stack);
  b = over_stack(b, stack);
  const double cutoff = !rcond ? usual_cutoff(a) : *rcond > 0 ? *rcond : precision_of(a.dtype());
  Node* const in[] = {a.node(), b.node()};
  const std::vector<Tensor> out = apply_all(lstsq_record, in, make_attrs(LstsqAttrs{cutoff}));
  const Tensor residuals = rows_of(a) > columns_of(a) ? sum(square(b - matmul(a, out[0])), -2)
                                                      : zeros(with_axis(stack, 0), a.dtype());
  return {vector ? squeeze(out[0], -1) : out[0], residuals, out[1], out[2]};
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
