// Sums over eigenvectors, V diag(c) V', and over singular vectors, U diag(c) V': the gradients of
// functions of the values alone; and the slopes of the values, diag(V' H V) and diag(U' H V): the
// transposed maps. They are operations with a rule of their own, because it needs no derivative of
// the vectors. How they change with the matrix is told by the quotients (c_j - c_i) / (w_j - w_i).
//
// Between equal values the quotient is 0 if the coefficients are constants: so second derivatives
// of a sum of eigenvalues or of a nuclear norm exist where values are equal, as those of the
// vectors do not. Coefficients that follow the values have a limit there, c_i being differentiated
// along w_i less along w_j (A. S. Lewis and H. S. Sendov, Twice differentiable spectral functions,
// 2001). A sweep goes through the function once, from the one vector of slopes that there is, and
// does not learn it. Then the quotient is nan, unless what meets it is nothing but rounding.
//
// The values and vectors are inputs of the operations, by which their rules have their history, but
// there is no derivative along them: that along the matrix stands for both.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "adjoint/linalg.h"
#include "kernels/blas.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

Tensor reciprocal_gaps(const Tensor& x) {
  const Index n = x.shape().back();
  Tensor gap = as_row(x) - as_column(x);
  if (n == 0) return gap;
  const double share = precision_of(x.dtype()) * static_cast<double>(n);
  const Tensor bound = as_column(max(abs(x), -1, true)) * share;
  const Tensor zero = scalar_like(gap, 0);
  const Tensor open = reciprocal(where(less_equal(abs(gap), bound), zero, gap));
  return where(equal(eye(n), scalar_like(eye(n), 1)), zero, open);
}

Tensor nan_where_infinite(const Tensor& quotients, const Tensor& x) {
  return where(isinf(quotients), scalar_like(x, std::numeric_limits<double>::quiet_NaN()), x);
}

namespace {

Family sums_family;

enum class Coefficients : std::uint8_t { constant, moving };  // while the matrix changes

Coefficients kind_of(bool moving) { return moving ? Coefficients::moving : Coefficients::constant; }

/// c q for a quotient q: nan where it is infinite and the coefficients move.
Tensor meet(const Tensor& c, const Tensor& quotients, Coefficients kind) {
  const Tensor out = mul0(c, quotients);
  return kind == Coefficients::constant ? out : nan_where_infinite(quotients, out);
}

/// (c_j - c_i) / (x_j - x_i).
Tensor divided_differences(const Tensor& c, const Tensor& x, Coefficients kind) {
  return meet(as_row(c) - as_column(c), reciprocal_gaps(x), kind);
}

/// The same of (c_j + c_i) / (x_j + x_i).
Tensor divided_sums(const Tensor& c, const Tensor& x, Coefficients kind) {
  return meet(as_row(c) + as_column(c), reciprocal(as_row(x) + as_column(x)), kind);
}

/// How large the rounding is of matrices computed from `x`, which may have no derivative here.
Tensor rounding_of(const Tensor& x) {
  const Tensor fixed = held(x);
  if (fixed.size() == 0) return scalar_like(fixed, 0);
  const auto order = static_cast<double>(std::max(rows_of(x), columns_of(x)));
  return max(abs(fixed), {-2, -1}, true) * (precision_of(x.dtype()) * order);
}

/// `x` with exact zeros for rounding where it meets a nan of `factors`. Its derivative stays, so
/// that a further one is nan.
Tensor without_rounding(const Tensor& x, const Tensor& rounding, const Tensor& factors) {
  const Tensor fixed = held(x);
  const Tensor nothing = logical_and(isnan(factors), less_equal(abs(fixed), rounding));
  return where(nothing, x - fixed, x);
}

/// x factors, where a nan among the factors counts unless it meets 0 or rounding.
Tensor meet_known(const Tensor& x, const Tensor& rounding, const Tensor& factors) {
  return mul0(without_rounding(x, rounding, factors), factors);
}

/// The sums over i of the products x_ij y_ij q_ij, by which the slopes of values change.
Tensor bent(const Tensor& x, const Tensor& x_rounding, const Tensor& y, const Tensor& y_rounding,
            const Tensor& quotients) {
  const Tensor q = nan_where_infinite(quotients, quotients);
  return sum(mul0(without_rounding(x, x_rounding, q) * without_rounding(y, y_rounding, q), q), -2);
}

/// scaled v' where that is symmetric, of n rows and k columns: the lower part in strips, a little
/// more than half of the product, and its mirror image.
template <class T>
void symmetric_product(Index n, Index k, const T* scaled, const T* v, T* out) {
  constexpr Index strip = 64;
  parallel_for((n + strip - 1) / strip, 1, [&](Index begin, Index end) {
    for (Index i = begin * strip; i < std::min(end * strip, n); i += strip) {
      const Index rows = std::min(strip, n - i);  // in column-major order they are columns
      kernels::gemm<T>('T', 'N', i + rows, rows, k, 1, v, k, scaled + i * k, k, 0, out + i * n, n);
    }
  });
  for (Index i = 0; i < n; i += strip)
    for (Index j = 0; j <= i; j += strip)
      for (Index r = i; r < std::min(i + strip, n); ++r)
        for (Index c = j; c < std::min(j + strip, r); ++c) out[c * n + r] = out[r * n + c];
}

/// left diag(c) right for each matrix, where right is given, or is the transpose of left.
void run_sum(const Op& op, Node* out, Node* given_left, Node* given_c, Node* given_right) {
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back(), k = given_c->layout.shape().back();
  const Tensor left = contiguous(given_left), c = contiguous(given_c);
  const Tensor right = given_right ? contiguous(given_right) : left;
  const double work = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), work, [&](Index begin, Index end) {
      const auto scaled = kernels::workspace<T>(m * k);
      for (Index i = begin; i < end; ++i) {
        const T* const x = data_of<T>(left.node()) + i * m * k;
        const T* const factors = data_of<T>(c.node()) + i * k;
        for (Index r = 0; r < m; ++r)
          for (Index j = 0; j < k; ++j) scaled[r * k + j] = x[r * k + j] * factors[j];
        if (!given_right && n >= kLongReflectors)
          symmetric_product(n, k, scaled.get(), x, data_of<T>(out) + i * m * n);
        else
          kernels::matmul(out->dtype, m, n, k, scaled.get(), k, 1,
                          data_of<T>(right.node()) + i * k * n, given_right ? n : 1,
                          given_right ? 1 : k, data_of<T>(out) + i * m * n);
      }
    });
  });
}

/// diag(left' H right) for each matrix, where right is given transposed, or is left.
void run_slope(const Op& op, Node* out, Node* given_h, Node* given_left, Node* given_right) {
  allocate_value(out, op.known_as());
  const Tensor h = contiguous(given_h), left = contiguous(given_left);
  const Tensor right = given_right ? contiguous(given_right) : left;
  const Index m = rows_of(h), n = columns_of(h), k = out->layout.shape().back();
  const double work = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(h.shape())), work, [&](Index begin, Index end) {
      std::vector<T> moved(static_cast<std::size_t>(m * k));
      for (Index i = begin; i < end; ++i) {
        kernels::matmul(out->dtype, m, k, n, data_of<T>(h.node()) + i * m * n, n, 1,
                        data_of<T>(right.node()) + i * n * k, given_right ? 1 : k,
                        given_right ? n : 1, moved.data());
        const T* const x = data_of<T>(left.node()) + i * m * k;
        T* const to = data_of<T>(out) + i * k;
        std::fill_n(to, k, T(0));
        for (Index r = 0; r < m; ++r)
          for (Index j = 0; j < k; ++j)
            to[j] += x[r * k + j] * moved[static_cast<std::size_t>(r * k + j)];
      }
    });
  });
}

constexpr std::uint8_t kAllInputs = 0x7f;

ResultList infer_sum(const Op&, std::span<Node* const> in, const Attrs*) {
  return {in[0]->dtype, Dims(in[0]->layout.shape())};
}
ResultList infer_slope(const Op&, std::span<Node* const> in, const Attrs*) {
  return {in[2]->dtype, Dims(in[2]->layout.shape())};
}

// -------------------------------------------------------------------------------- eigenvectors

/// How V diag(c) V' changes as the matrix does by `moved`.
Tensor turned_eigen_sum(const Tensor& moved, const Tensor& c, const Tensor& w, const Tensor& v,
                        Coefficients kind) {
  const Tensor back = matrix_transpose(v);
  const Tensor inner = matmul(matmul(back, symmetric_part(moved)), v);
  const Tensor turn = meet_known(inner, rounding_of(inner), divided_differences(c, w, kind));
  return symmetric_part(matmul(matmul(v, turn), back));
}

// Inputs: the matrix, c, the eigenvalues and the vectors.

std::vector<Tensor> pull_eigen_sum(const RuleArgs& args, std::span<const Tensor> cts) {
  const Tensor &a = args.inputs[0], &c = args.inputs[1], &w = args.inputs[2], &v = args.inputs[3];
  Tensor of_a;
  if (args.wanted[0]) of_a = turned_eigen_sum(cts[0], c, w, v, kind_of(args.wanted[1]));
  return {of_a, eigen_slope(cts[0], a, w, v), {}, {}};
}

std::vector<Tensor> push_eigen_sum(const RuleArgs& args, std::span<const Tensor> tangents) {
  const Tensor &a = args.inputs[0], &c = args.inputs[1], &w = args.inputs[2], &v = args.inputs[3];
  const bool moving = tangents[1].defined();
  Tensor out;
  if (tangents[0].defined()) out = turned_eigen_sum(tangents[0], c, w, v, kind_of(moving));
  if (moving) out = plus(out, eigen_sum(a, tangents[1], w, v));
  return {out};
}

Op& eigen_sum_record =
    sums_family.define({.name = "eigen_sum",
                        .kind = OpKind::custom,
                        .arity = 4,
                        .pull = pull_eigen_sum,
                        .push = push_eigen_sum,
                        .needs = {kAllInputs, kAllInputs, kAllInputs},
                        .constant_inputs = 4 | 8,
                        .batch = batch_stacked,
                        .infer = infer_sum,
                        .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
                                  std::uint32_t) { run_sum(op, out, in[3], in[1], nullptr); },
                        .internal = true});

// Inputs: the tangent H, the matrix, the eigenvalues and the vectors. What the slopes meet follows
// the matrix, for all that their rules can see.

std::vector<Tensor> pull_eigen_slope(const RuleArgs& args, std::span<const Tensor> cts) {
  const Tensor &h = args.inputs[0], &a = args.inputs[1], &w = args.inputs[2], &v = args.inputs[3];
  Tensor of_a;
  if (args.wanted[1]) of_a = turned_eigen_sum(h, cts[0], w, v, Coefficients::moving);
  return {eigen_sum(a, cts[0], w, v), of_a, {}, {}};
}

std::vector<Tensor> push_eigen_slope(const RuleArgs& args, std::span<const Tensor> tangents) {
  const Tensor &h = args.inputs[0], &a = args.inputs[1], &w = args.inputs[2], &v = args.inputs[3];
  Tensor out;
  if (tangents[0].defined()) out = eigen_slope(tangents[0], a, w, v);
  if (!tangents[1].defined()) return {out};
  const auto inner = [&](const Tensor& moved) {
    return matmul(matmul(matrix_transpose(v), symmetric_part(moved)), v);
  };
  const Tensor one = inner(h), two = inner(tangents[1]);
  const Tensor sums = bent(one, rounding_of(one), two, rounding_of(two), reciprocal_gaps(w));
  return {plus(out, sums * 2.0)};
}

Op& eigen_slope_record =
    sums_family.define({.name = "eigen_slope",
                        .kind = OpKind::custom,
                        .arity = 4,
                        .pull = pull_eigen_slope,
                        .push = push_eigen_slope,
                        .needs = {kAllInputs, kAllInputs, kAllInputs},
                        .constant_inputs = 4 | 8,
                        .batch = batch_stacked,
                        .infer = infer_slope,
                        .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
                                  std::uint32_t) { run_slope(op, out, in[0], in[3], nullptr); },
                        .internal = true});

// ---------------------------------------------------------------------------- singular vectors

/// x without what lies in the space of orthonormal columns.
Tensor outside_of(const Tensor& columns, const Tensor& x) {
  return x - matmul(columns, matmul(matrix_transpose(columns), x));
}

/// The singular value decomposition of matrices, of min(m, n) columns and rows.
struct ThinFactors {
  const Tensor &u, &s, &vh;
};

/// A change of the matrix as the vectors see it.
struct Moved {
  Tensor inner;                      // U' H V
  Tensor beside_left, beside_right;  // what of H V and H' U leaves their spaces, if it can
  Tensor rounding;

  Moved(const Tensor& h, const ThinFactors& f) {
    const Tensor v = matrix_transpose(f.vh);
    const Tensor forth = matmul(h, v), back = matmul(matrix_transpose(h), f.u);
    inner = matmul(matrix_transpose(f.u), forth);
    if (rows_of(f.u) > columns_of(f.u)) beside_left = outside_of(f.u, forth);
    if (rows_of(v) > columns_of(v)) beside_right = outside_of(v, back);
    rounding = rounding_of(forth);
    if (beside_right.defined()) rounding = maximum(rounding, rounding_of(back));
  }
  Tensor even() const { return inner + matrix_transpose(inner); }
  Tensor odd() const { return inner - matrix_transpose(inner); }
};

Tensor turned_singular_sum(const Tensor& h, const Tensor& c, const ThinFactors& f,
                           Coefficients kind) {
  const Moved moved(h, f);
  const Tensor even = meet_known(moved.even(), moved.rounding, divided_differences(c, f.s, kind));
  const Tensor odd = meet_known(moved.odd(), moved.rounding, divided_sums(c, f.s, kind));
  Tensor out = matmul(matmul(f.u, (even + odd) * 0.5), f.vh);
  const Tensor ratio = as_row(meet(c, reciprocal(f.s), kind));
  if (moved.beside_left.defined())
    out = out + matmul(meet_known(moved.beside_left, moved.rounding, ratio), f.vh);
  if (moved.beside_right.defined())
    out =
        out + matmul(f.u, matrix_transpose(meet_known(moved.beside_right, moved.rounding, ratio)));
  return out;
}

// Inputs: the matrix, c, U, the singular values and V'.

std::vector<Tensor> pull_singular_sum(const RuleArgs& args, std::span<const Tensor> cts) {
  const auto& in = args.inputs;
  Tensor of_a;
  if (args.wanted[0])
    of_a = turned_singular_sum(cts[0], in[1], {in[2], in[3], in[4]}, kind_of(args.wanted[1]));
  return {of_a, singular_slope(cts[0], in[0], in[2], in[3], in[4]), {}, {}, {}};
}

std::vector<Tensor> push_singular_sum(const RuleArgs& args, std::span<const Tensor> tangents) {
  const auto& in = args.inputs;
  const bool moving = tangents[1].defined();
  Tensor out;
  if (tangents[0].defined())
    out = turned_singular_sum(tangents[0], in[1], {in[2], in[3], in[4]}, kind_of(moving));
  if (moving) out = plus(out, singular_sum(in[0], tangents[1], in[2], in[3], in[4]));
  return {out};
}

Op& singular_sum_record =
    sums_family.define({.name = "singular_sum",
                        .kind = OpKind::custom,
                        .arity = 5,
                        .pull = pull_singular_sum,
                        .push = push_singular_sum,
                        .needs = {kAllInputs, kAllInputs, kAllInputs},
                        .constant_inputs = 4 | 8 | 16,
                        .batch = batch_stacked,
                        .infer = infer_sum,
                        .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
                                  std::uint32_t) { run_sum(op, out, in[2], in[1], in[4]); },
                        .internal = true});

// Inputs: the tangent H, the matrix, U, the singular values and V'.

std::vector<Tensor> pull_singular_slope(const RuleArgs& args, std::span<const Tensor> cts) {
  const auto& in = args.inputs;
  Tensor of_a;
  if (args.wanted[1])
    of_a = turned_singular_sum(in[0], cts[0], {in[2], in[3], in[4]}, Coefficients::moving);
  return {singular_sum(in[1], cts[0], in[2], in[3], in[4]), of_a, {}, {}, {}};
}

std::vector<Tensor> push_singular_slope(const RuleArgs& args, std::span<const Tensor> tangents) {
  const auto& in = args.inputs;
  const ThinFactors f{in[2], in[3], in[4]};
  Tensor out;
  if (tangents[0].defined()) out = singular_slope(tangents[0], in[1], in[2], in[3], in[4]);
  if (!tangents[1].defined()) return {out};
  const Moved one(in[0], f), two(tangents[1], f);
  const auto along = [&](const Tensor& x, const Tensor& y, const Tensor& quotients) {
    return bent(x, one.rounding, y, two.rounding, quotients);
  };
  Tensor sums = along(one.even(), two.even(), reciprocal_gaps(f.s));
  sums = sums + along(one.odd(), two.odd(), reciprocal(as_row(f.s) + as_column(f.s)));
  sums = sums * 0.5;
  const Tensor inverse = as_row(reciprocal(f.s));
  if (one.beside_left.defined()) sums = sums + along(one.beside_left, two.beside_left, inverse);
  if (one.beside_right.defined()) sums = sums + along(one.beside_right, two.beside_right, inverse);
  return {plus(out, sums)};
}

Op& singular_slope_record = sums_family.define(
    {.name = "singular_slope",
     .kind = OpKind::custom,
     .arity = 5,
     .pull = pull_singular_slope,
     .push = push_singular_slope,
     .needs = {kAllInputs, kAllInputs, kAllInputs},
     .constant_inputs = 4 | 8 | 16,
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return {in[3]->dtype, Dims(in[3]->layout.shape())};
     },
     .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
               std::uint32_t) { run_slope(op, out, in[0], in[2], in[4]); },
     .internal = true});

}  // namespace

Tensor eigen_sum(const Tensor& a, const Tensor& c, const Tensor& w, const Tensor& v) {
  return apply(eigen_sum_record, {&a, &c, &w, &v});
}

Tensor eigen_slope(const Tensor& h, const Tensor& a, const Tensor& w, const Tensor& v) {
  return apply(eigen_slope_record, {&h, &a, &w, &v});
}

Tensor singular_sum(const Tensor& a, const Tensor& c, const Tensor& u, const Tensor& s,
                    const Tensor& vh) {
  return apply(singular_sum_record, {&a, &c, &u, &s, &vh});
}

Tensor singular_slope(const Tensor& h, const Tensor& a, const Tensor& u, const Tensor& s,
                      const Tensor& vh) {
  return apply(singular_slope_record, {&h, &a, &u, &s, &vh});
}

void register_sum_ops() { sums_family.register_all(); }

}  // namespace adjoint::linalg
