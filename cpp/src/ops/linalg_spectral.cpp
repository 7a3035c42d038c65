// Eigenvalues of symmetric matrices and singular values.
//
// Where vectors turn by V W with a skew W, its entries are quotients by differences of eigenvalues,
// or of squares of singular values. Between equal ones, within the error of the decomposition, no
// vectors are preferred and no derivative exists: a rule gives infinities or nan there, unless what
// meets the quotient is exactly 0. Values alone are served by sums over the vectors, which need
// none (linalg_sums.cpp).
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "adjoint/linalg.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family spectral_family;

double order_cubed(Index m, Index n) {
  return 10.0 * static_cast<double>(m) * static_cast<double>(n) *
         static_cast<double>(std::min(m, n));
}

Tensor antisymmetric(const Tensor& x) { return x - matrix_transpose(x); }

// ------------------------------------------------------------------------------- eigenvalues

/// Of matrices of one order: values, and vectors in the place of the matrix, in row-major order.
template <class T>
class EigenOfOne {
 public:
  EigenOfOne(Index n, bool vectors) : n_(n), vectors_(vectors) {}

  Index operator()(T* a, T* values) {
    if (!triangle_finite(a, n_, false)) {
      fill_nan(values, n_);
      fill_nan(a, n_ * n_);
      return 0;
    }
    if (vectors_ && n_ >= kLongReflectors && has_usual_size(a)) return by_reflectors(a, values);
    if (!whole_) whole_.emplace('U', n_, vectors_);
    const Index info = (*whole_)(a, values);
    if (vectors_) transpose_square(a, n_);
    return info;
  }

 private:
  /// Whether nothing over- or underflows that is computed without scaling.
  bool has_usual_size(const T* a) const {
    T largest = 0;
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j <= i; ++j) largest = std::max(largest, std::abs(a[i * n_ + j]));
    const T least = std::sqrt(std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon());
    return largest > least && largest < 1 / least;
  }
  Index by_reflectors(T* a, T* values) {
    if (!steps_) {
      steps_.emplace(n_);
      reflectors_.emplace(n_ - 1, n_ - 1, n_);
      reduced_ = kernels::workspace<T>(n_ * n_);
      turned_ = kernels::workspace<T>(n_ * n_);
      beside_ = kernels::workspace<T>(n_);
      scales_ = kernels::workspace<T>(n_);
    }
    T* const reduced = reduced_.get();
    T* const turned = turned_.get();
    copy_turned(a, n_, n_, reduced, n_);
    if (const Index info = steps_->reduce(reduced, values, beside_.get(), scales_.get()))
      return info;
    if (const Index info = steps_->solve(values, beside_.get(), turned)) return info;
    copy_turned(turned, n_, n_, a, n_);
    reflectors_->apply(true, reduced + 1, n_, scales_.get(), a + n_);
    return 0;
  }

  Index n_;
  bool vectors_;
  std::optional<kernels::SymmetricEigen<T>> whole_;
  std::optional<kernels::Tridiagonal<T>> steps_;
  std::optional<kernels::Reflectors<T>> reflectors_;
  kernels::Workspace<T> reduced_, turned_, beside_, scales_;
};

/// Eigenvalues into out[0]; vectors into out[1] where there is one.
void run_eigen(const Op& op, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
               std::uint32_t) {
  kernels::need_lapack(op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index n = shape.back();
  const bool vectors = out.size() > 1;
  for (Node* node : out) allocate_value(node, op.known_as());
  if (in[0]->layout.size() == 0) return;
  Tensor work;
  if (!vectors) work = Tensor::adopt(new_array(in[0]->dtype, shape, op.known_as()));
  Node* const a = vectors ? out[1] : work.node();
  copy_value(in[0], a->data());
  Failure failure;
  with_floating(a->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), order_cubed(n, n), [&](Index begin, Index end) {
      EigenOfOne<T> eigen(n, vectors);
      for (Index i = begin; i < end; ++i)
        if (const Index info = eigen(data_of<T>(a) + i * n * n, data_of<T>(out[0]) + i * n))
          failure.report(i, info);
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(),
          "the eigenvalues of " + failure.subject(stack_of(shape)) + " did not converge");
}

std::vector<Tensor> pull_eigh(const RuleArgs& args, std::span<const Tensor> cts) {
  const Tensor &w = args.outputs[0], &v = args.outputs[1];
  Tensor out;
  if (cts[0].defined()) out = eigen_sum(args.inputs[0], cts[0], w, v);
  if (cts[1].defined()) {
    const Tensor turn = antisymmetric(matmul(matrix_transpose(v), cts[1]));
    const Tensor gaps = reciprocal_gaps(w);
    Tensor inner = mul0(turn, gaps) * 0.5;
    // V g(w) V' has a slope between equal values that neither cotangent shows.
    if (cts[0].defined()) inner = nan_where_infinite(gaps, inner);
    out = plus(out, symmetric_part(matmul(matmul(v, inner), matrix_transpose(v))));
  }
  return {out};
}

std::vector<Tensor> push_eigh(const RuleArgs& args, std::span<const Tensor> tangents) {
  const Tensor &w = args.outputs[0], &v = args.outputs[1];
  const Tensor inner = matmul(matmul(matrix_transpose(v), symmetric_part(tangents[0])), v);
  return {eigen_slope(tangents[0], args.inputs[0], w, v),
          matmul(v, mul0(inner, reciprocal_gaps(w)))};
}

Op& eigh_record = spectral_family.define(
    {.name = "eigh",
     .kind = OpKind::custom,
     .arity = 1,
     .pull = pull_eigh,
     .push = push_eigh,
     .needs = {1 | kSavesOutput, 0, 0},
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape();
       return std::vector<ResultSpec>{{in[0]->dtype, Dims(shape.first(shape.size() - 1))},
                                      {in[0]->dtype, Dims(shape)}};
     },
     .run_all = run_eigen,
     .batch_all = batch_all_stacked,
     .internal = true,
     .fallible = true});

std::vector<Tensor> eigen_of(const Tensor& a) {
  Node* const in[] = {a.node()};
  return apply_all(eigh_record, in);
}

Op& eigvalsh_record = spectral_family.define(
    {.name = "eigvalsh",
     .kind = OpKind::custom,
     .arity = 1,
     .vjp =
         [](const RuleArgs& args, int, const Tensor& ct) {
           const std::vector<Tensor> f = eigen_of(args.inputs[0]);
           return eigen_sum(args.inputs[0], ct, f[0], f[1]);
         },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> tangents) {
           const std::vector<Tensor> f = eigen_of(args.inputs[0]);
           return eigen_slope(tangents[0], args.inputs[0], f[0], f[1]);
         },
     .needs = {1, 0, 0},
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape();
       return {in[0]->dtype, Dims(shape.first(shape.size() - 1))};
     },
     .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
               std::uint32_t donated) { run_eigen(op, {&out, 1}, in, attrs, donated); },
     .internal = true,
     .fallible = true});

// ---------------------------------------------------------------------------- singular values

struct SvdAttrs {
  bool full;  // all vectors are given, not min(m, n) of them

  static constexpr auto fields() { return std::tuple(field("full", &SvdAttrs::full)); }
};

struct SvdTask {
  Index m, n;
  char job;
  Index columns, rows;  // of U and of V'
};

/// What LAPACK takes for A is A' = V S U': U and V' change places.
template <class T>
Index svd_one(kernels::Svd<T>& svd, const SvdTask& task, T* a, T* s, T* u, T* vh) {
  if (!all_finite(a, task.m * task.n)) {
    fill_nan(s, std::min(task.m, task.n));
    if (task.job == 'N') return 0;
    fill_nan(u, task.m * task.columns);
    fill_nan(vh, task.rows * task.n);
    return 0;
  }
  return svd(a, s, vh, u);
}

void fill_unit(Node* x) {
  const auto shape = x->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back();
  with_floating(x->dtype, [&]<class T>(T) {
    std::fill_n(data_of<T>(x), x->layout.size(), T(0));
    for (Index k = 0; k < product(stack_of(shape)); ++k)
      for (Index i = 0; i < std::min(m, n); ++i) data_of<T>(x)[k * m * n + i * (n + 1)] = 1;
  });
}

/// The singular values into out.back(), or, of three results, U, the values and V'.
void run_svd(const Op& op, std::span<Node* const> out, std::span<Node* const> in,
             const Attrs* attrs, std::uint32_t) {
  kernels::need_lapack(op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back(), k = std::min(m, n);
  const bool vectors = out.size() > 1;
  Node* const u = vectors ? out[0] : nullptr;
  Node* const vh = vectors ? out[2] : nullptr;
  Node* const s = vectors ? out[1] : out[0];
  for (Node* node : out) allocate_value(node, op.known_as());
  if (in[0]->layout.size() == 0) {
    for (Node* node : {u, vh})
      if (node && node->layout.size() > 0) fill_unit(node);
    return;
  }
  const Tensor work = Tensor::adopt(new_array(in[0]->dtype, shape, op.known_as()));
  copy_value(in[0], work.node()->data());
  const bool all = vectors && attrs_as<SvdAttrs>(attrs).full;
  const Index columns = all ? m : k, rows = all ? n : k;
  Failure failure;
  with_floating(s->dtype, [&]<class T>(T) {
    const SvdTask task{m, n, !vectors ? 'N' : all ? 'A' : 'S', columns, rows};
    for_stack(product(stack_of(shape)), order_cubed(m, n), [&](Index begin, Index end) {
      kernels::Svd<T> svd(task.job, n, m);
      for (Index i = begin; i < end; ++i)
        if (const Index info =
                svd_one(svd, task, data_of<T>(work.node()) + i * m * n, data_of<T>(s) + i * k,
                        vectors ? data_of<T>(u) + i * m * columns : nullptr,
                        vectors ? data_of<T>(vh) + i * rows * n : nullptr))
          failure.report(i, info);
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(),
          "the singular values of " + failure.subject(stack_of(shape)) + " did not converge");
}

struct SvdParts {
  Tensor u, s, v;  // all columns that there are
  Tensor u1, v1;   // as many as there are values
  Index k;

  explicit SvdParts(const RuleArgs& args)
      : u(args.outputs[0]),
        s(args.outputs[1]),
        v(matrix_transpose(args.outputs[2])),
        k(s.shape().back()) {
    u1 = columns_of(u) == k ? u : columns_from(u, 0, k);
    v1 = columns_of(v) == k ? v : columns_from(v, 0, k);
  }
  /// s_j / (s_i + s_j), a half where both are 0. The quotients s_j / (s_j² - s_i²) are made as
  /// these over s_j - s_i, as squares of values would vanish or overflow.
  Tensor shares() const {
    if (k == 0) return as_row(s) + as_column(s);
    const Tensor part = s / binade(max(s, -1, true)), across = as_row(part);
    const Tensor total = across + as_column(part);
    const Tensor nothing = equal(total, scalar_like(s, 0));
    return where(nothing, scalar_like(s, 0.5), across / where(nothing, scalar_like(s, 1), total));
  }
};

/// From the cotangent of one side's vectors: what turns within the space of its first k columns,
/// as the antisymmetric part, and what leaves it, to be divided by the singular values.
struct SideCotangent {
  Tensor turn, beside;

  SideCotangent(const Tensor& vectors, const Tensor& first, const Tensor& ct) {
    const Index k = columns_of(first), more = columns_of(vectors) - k;
    const Tensor all = matmul(matrix_transpose(vectors), ct);
    if (more == 0) {
      turn = antisymmetric(all);
      if (rows_of(first) > k) beside = ct - matmul(first, all);
      return;
    }
    turn = antisymmetric(columns_from(rows_from(all, 0, k), 0, k));
    const Tensor down = columns_from(rows_from(all, k, more), 0, k);
    const Tensor across = columns_from(rows_from(all, 0, k), k, more);
    beside = matmul(columns_from(vectors, k, more), down - matrix_transpose(across));
  }
};

std::vector<Tensor> pull_svd(const RuleArgs& args, std::span<const Tensor> cts) {
  const SvdParts p(args);
  const Tensor vt = matrix_transpose(p.v1);
  Tensor out, inner;
  if (cts[1].defined()) out = singular_sum(args.inputs[0], cts[1], p.u1, p.s, vt);
  if (!cts[0].defined() && !cts[2].defined()) return {out};
  const Tensor gaps = reciprocal_gaps(p.s), shares = p.shares();
  const Tensor inverse = as_row(reciprocal(p.s));
  // U g(s) V' has slopes between equal values, and beside those of 0, that no cotangent shows.
  const auto divided = [&](const Tensor& x, const Tensor& quotients) {
    const Tensor out = mul0(x, quotients);
    return cts[1].defined() ? nan_where_infinite(quotients, out) : out;
  };
  if (cts[0].defined()) {
    const SideCotangent side(p.u, p.u1, cts[0]);
    inner = divided(side.turn * shares, gaps);
    if (side.beside.defined()) out = plus(out, matmul(divided(side.beside, inverse), vt));
  }
  if (cts[2].defined()) {
    const SideCotangent side(p.v, p.v1, matrix_transpose(cts[2]));
    inner = plus(inner, divided(side.turn * matrix_transpose(shares), gaps));
    if (side.beside.defined())
      out = plus(out, matmul(p.u1, matrix_transpose(divided(side.beside, inverse))));
  }
  return {plus(out, matmul(matmul(p.u1, inner), vt))};
}

/// The tangent of one side's vectors: `turn` within the first columns, `leaving` out of them, and
/// of further columns what keeps all orthonormal.
Tensor side_tangent(const Tensor& vectors, const Tensor& first, const Tensor& turn,
                    const Tensor& leaving) {
  const Index k = columns_of(first), more = columns_of(vectors) - k;
  Tensor within = matmul(first, turn);
  if (rows_of(first) == k) return within;
  if (more == 0) return within + leaving - matmul(first, matmul(matrix_transpose(first), leaving));
  const Tensor others = columns_from(vectors, k, more);
  const Tensor down = matmul(matrix_transpose(others), leaving);
  const Tensor parts[] = {within + matmul(others, down),
                          negative(matmul(first, matrix_transpose(down)))};
  return concat(parts, -1);
}

std::vector<Tensor> push_svd(const RuleArgs& args, std::span<const Tensor> tangents) {
  const SvdParts p(args);
  const Tensor forth = matmul(tangents[0], p.v1);                   // dA V
  const Tensor back = matmul(matrix_transpose(tangents[0]), p.u1);  // dA' U
  const Tensor inner = matmul(matrix_transpose(p.u1), forth);       // U' dA V
  const Tensor shares = p.shares();
  const Tensor right = inner * shares, left = inner * matrix_transpose(shares);
  const Tensor gaps = reciprocal_gaps(p.s), inverse = as_row(reciprocal(p.s));
  const Tensor du =
      side_tangent(p.u, p.u1, mul0(right + matrix_transpose(right), gaps), mul0(forth, inverse));
  const Tensor dv =
      side_tangent(p.v, p.v1, mul0(left + matrix_transpose(left), gaps), mul0(back, inverse));
  const Tensor ds = singular_slope(tangents[0], args.inputs[0], p.u1, p.s, matrix_transpose(p.v1));
  return {du, ds, matrix_transpose(dv)};
}

Op& svd_record = spectral_family.define(
    {.name = "svd",
     .kind = OpKind::custom,
     .arity = 1,
     .attrs = attrs_type<SvdAttrs>(),
     .pull = pull_svd,
     .push = push_svd,
     .needs = {1 | kSavesOutput, 0, 0},
     .infer = [](const Op&, std::span<Node* const> in, const Attrs* attrs) -> ResultList {
       const auto shape = in[0]->layout.shape(), stack = stack_of(shape);
       const Index m = shape[shape.size() - 2], n = shape.back(), k = std::min(m, n);
       const DType dtype = in[0]->dtype;
       const bool full = attrs_as<SvdAttrs>(attrs).full;
       return std::vector<ResultSpec>{{dtype, with_matrix(stack, m, full ? m : k)},
                                      {dtype, with_axis(stack, k)},
                                      {dtype, with_matrix(stack, full ? n : k, n)}};
     },
     .run_all = run_svd,
     .batch_all = batch_all_stacked,
     .internal = true,
     .fallible = true});

std::vector<Tensor> svd_of(const Tensor& a, bool full) {
  Node* const in[] = {a.node()};
  return apply_all(svd_record, in, make_attrs(SvdAttrs{full}));
}

Op& svdvals_record = spectral_family.define(
    {.name = "svdvals",
     .kind = OpKind::custom,
     .arity = 1,
     .vjp =
         [](const RuleArgs& args, int, const Tensor& ct) {
           const std::vector<Tensor> f = svd_of(args.inputs[0], false);
           return singular_sum(args.inputs[0], ct, f[0], f[1], f[2]);
         },
     .jvp =
         [](const RuleArgs& args, std::span<const Tensor> tangents) {
           const std::vector<Tensor> f = svd_of(args.inputs[0], false);
           return singular_slope(tangents[0], args.inputs[0], f[0], f[1], f[2]);
         },
     .needs = {1, 0, 0},
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape();
       return {in[0]->dtype,
               with_axis(stack_of(shape), std::min(shape[shape.size() - 2], shape.back()))};
     },
     .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
               std::uint32_t donated) { run_svd(op, {&out, 1}, in, attrs, donated); },
     .internal = true,
     .fallible = true});

}  // namespace

// ------------------------------------------------------------------------------------- functions

std::tuple<Tensor, Tensor> eigh(const Tensor& x) {
  std::vector<Tensor> out = eigen_of(square_matrices(x, "eigh"));
  return {std::move(out[0]), std::move(out[1])};
}

Tensor eigvalsh(const Tensor& x) {
  const Tensor a = square_matrices(x, "eigvalsh");
  return apply(eigvalsh_record, {&a});
}

std::tuple<Tensor, Tensor, Tensor> svd(const Tensor& x, bool full_matrices) {
  std::vector<Tensor> out = svd_of(matrices(x, "svd"), full_matrices);
  return {std::move(out[0]), std::move(out[1]), std::move(out[2])};
}

Tensor svdvals(const Tensor& x) {
  const Tensor a = matrices(x, "svdvals");
  return apply(svdvals_record, {&a});
}

void register_spectral_ops() {
  spectral_family.register_all();
  register_functions({
      {.name = "linalg.eigh",
       .signature = "(x, /) -> (eigenvalues, eigenvectors)",
       .doc =
           "Eigenvalues of symmetric matrices in ascending order, and orthonormal vectors.\n"
           "\n"
           "Parameters\n"
           "----------\n"
           "x : Tensor, shape (..., n, n)\n"
           "    Its lower triangle is read.\n"
           "\n"
           "Returns\n"
           "-------\n"
           "eigenvalues : Tensor, shape (..., n)\n"
           "eigenvectors : Tensor, shape (..., n, n)\n"
           "    As columns; nan, as the values, where x is not finite.\n"
           "\n"
           "Raises\n"
           "------\n"
           "LinAlgError\n"
           "    Where the iteration does not converge.\n"
           "\n"
           "Notes\n"
           "-----\n"
           "The derivative is that along symmetric matrices. Of the vectors of eigenvalues that\n"
           "are equal, to n times the precision of the largest, none exists: it is inf or nan\n"
           "there. In reverse mode what does not change at all as they turn into one another, as\n"
           "the projector on the space they span, has its derivative; in forward mode the vectors\n"
           "have infinite tangents, and the projector's is nan, unless along what does not turn\n"
           "them. The first derivative of the values is always finite; a function of values and\n"
           "vectors together has nan in reverse mode where values are equal.\n"
           "\n"
           "Examples\n"
           "--------\n"
           ">>> import adjoint as ad\n"
           ">>> ad.linalg.eigh(ad.tensor([[0.0, 2.0], [2.0, 0.0]])).eigenvalues.tolist()\n"
           "[-2.0, 2.0]",
       .entry = entry_of<eigh>()},
      {.name = "linalg.eigvalsh",
       .signature = "(x, /)",
       .doc =
           "The eigenvalues of symmetric matrices in ascending order; the lower triangle is\n"
           "read.\n"
           "\n"
           "Any first derivative is finite, where some are equal too. There the second one of a\n"
           "linear function of the values, with coefficients that are constant along the matrix,\n"
           "is finite in `hvp` and in reverse over reverse mode, and that of any other is nan,\n"
           "unless along a direction that keeps them equal: `slogdet`, `trace` and sums of "
           "squares\n"
           "have theirs.",
       .entry = entry_of<eigvalsh>()},
      {.name = "linalg.svd",
       .signature = "(x, /, *, full_matrices=True) -> (U, S, Vh)",
       .doc = "The singular value decomposition x = U S Vh, values in descending order.\n"
              "\n"
              "Parameters\n"
              "----------\n"
              "x : Tensor, shape (..., m, n)\n"
              "full_matrices : bool\n"
              "    Whether U is m x m and Vh n x n, or they have min(m, n) columns and rows.\n"
              "\n"
              "Raises\n"
              "------\n"
              "LinAlgError\n"
              "    Where the iteration does not converge.\n"
              "\n"
              "Notes\n"
              "-----\n"
              "Of the vectors of values that are equal or 0 no derivative exists, as for `eigh`.\n"
              "Where U or Vh have further rows or columns these are any that complete them: what\n"
              "depends on the space they span has its derivative. Use full_matrices=False where\n"
              "they are not needed. The first derivative of the values is always finite.",
       .entry = entry_of<svd>()},
      {.name = "linalg.svdvals",
       .signature = "(x, /)",
       .doc =
           "The singular values of matrices in descending order.\n"
           "\n"
           "Any first derivative is finite, of equal values too; for second ones see `eigvalsh`,\n"
           "and where values are 0 they are nan likewise.",
       .entry = entry_of<svdvals>()},
  });
}

}  // namespace adjoint::linalg
