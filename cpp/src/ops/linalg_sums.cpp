// Sums over eigenvectors, V diag(c) V', and over singular vectors, U diag(c) V': the gradients of
// functions of the values alone. They are operations with a rule of their own, because it needs no
// derivative of the vectors. How such a sum changes with the matrix is told by the quotients
// (c_j - c_i) / (w_j - w_i), of which those with c_j = c_i are 0 whatever the values are: so second
// derivatives of a sum of eigenvalues or of a nuclear norm exist where values are equal, as those
// of the vectors do not.
//
// The values and vectors are inputs of the operation, by which its rule has their history, but it
// has no derivative along them: that along the matrix stands for both.
#include <vector>

#include "adjoint/linalg.h"
#include "kernels/blas.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

Tensor reciprocal_gaps(const Tensor& x) {
  const Index n = x.shape().back();
  const double precision = x.dtype() == DType::float32 ? std::numeric_limits<float>::epsilon()
                                                       : std::numeric_limits<double>::epsilon();
  const Tensor gap = as_row(x) - as_column(x);
  if (n == 0) return gap;
  const Tensor bound = as_column(max(abs(x), -1, true)) * (precision * static_cast<double>(n));
  const Tensor zero = scalar_like(gap, 0);
  const Tensor open = reciprocal(where(less_equal(abs(gap), bound), zero, gap));
  return where(equal(eye(n), scalar_like(eye(n), 1)), zero, open);
}

namespace {

Family sums_family;

Tensor plain_sum(const Tensor& left, const Tensor& c, const Tensor& right) {
  return matmul(left * as_row(c), right);
}

Tensor diagonal_of(const Tensor& x) { return adjoint::diagonal(x, 0, -2, -1); }

/// (c_j - c_i) / (x_j - x_i).
Tensor divided_differences(const Tensor& c, const Tensor& x) {
  return mul0(as_row(c) - as_column(c), reciprocal_gaps(x));
}

// -------------------------------------------------------------------------------- eigenvectors

// Inputs: the matrix, c, the eigenvalues and the vectors.

Tensor turned_eigen_sum(const RuleArgs& args, const Tensor& moved) {
  const Tensor &c = args.inputs[1], &w = args.inputs[2], &v = args.inputs[3];
  const Tensor back = matrix_transpose(v);
  const Tensor inner = matmul(matmul(back, symmetric_part(moved)), v);
  return symmetric_part(matmul(matmul(v, mul0(inner, divided_differences(c, w))), back));
}

std::vector<Tensor> pull_eigen_sum(const RuleArgs& args, std::span<const Tensor> cts) {
  const Tensor& v = args.inputs[3];
  const Tensor inner = matmul(matmul(matrix_transpose(v), cts[0]), v);
  return {
      is_wanted(args, 0) ? turned_eigen_sum(args, cts[0]) : Tensor(), diagonal_of(inner), {}, {}};
}

std::vector<Tensor> push_eigen_sum(const RuleArgs& args, std::span<const Tensor> tangents) {
  Tensor out;
  if (tangents[0].defined()) out = turned_eigen_sum(args, tangents[0]);
  const Tensor& v = args.inputs[3];
  if (tangents[1].defined())
    out = plus(out, symmetric_part(plain_sum(v, tangents[1], matrix_transpose(v))));
  return {out};
}

/// left diag(c) right for each matrix, where right is given, or is the transpose of left.
void run_sum(const Op& op, Node* out, Node* given_left, Node* given_c, Node* given_right) {
  allocate_value(out, op.name);
  const auto shape = out->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back(), k = given_c->layout.shape().back();
  const Tensor left = contiguous(given_left), c = contiguous(given_c);
  const Tensor right = given_right ? contiguous(given_right) : left;
  const double work = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), work, [&](Index begin, Index end) {
      std::vector<T> scaled(static_cast<std::size_t>(m * k));
      for (Index i = begin; i < end; ++i) {
        const T* const x = data_of<T>(left.node()) + i * m * k;
        const T* const factors = data_of<T>(c.node()) + i * k;
        for (Index r = 0; r < m; ++r)
          for (Index j = 0; j < k; ++j)
            scaled[static_cast<std::size_t>(r * k + j)] = x[r * k + j] * factors[j];
        kernels::matmul(out->dtype, m, n, k, scaled.data(), k, 1,
                        data_of<T>(right.node()) + i * k * n, given_right ? n : 1,
                        given_right ? 1 : k, data_of<T>(out) + i * m * n);
      }
    });
  });
}

constexpr std::uint8_t kAllInputs = 0x7f;

Op& eigen_sum_record = sums_family.define(
    {.name = "eigen_sum",
     .kind = OpKind::custom,
     .arity = 4,
     .pull = pull_eigen_sum,
     .push = push_eigen_sum,
     .needs = {kAllInputs, kAllInputs, kAllInputs},
     .constant_inputs = 4 | 8,
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return {in[0]->dtype, Dims(in[0]->layout.shape())};
     },
     .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
               std::uint32_t) { run_sum(op, out, in[3], in[1], nullptr); },
     .internal = true});

// ---------------------------------------------------------------------------- singular vectors

// Inputs: the matrix, c, U, the singular values and V', of min(m, n) columns and rows.

/// x without what lies in the space of orthonormal columns.
Tensor outside_of(const Tensor& columns, const Tensor& x) {
  return x - matmul(columns, matmul(matrix_transpose(columns), x));
}

Tensor turned_singular_sum(const RuleArgs& args, const Tensor& moved) {
  const Tensor &c = args.inputs[1], &u = args.inputs[2], &s = args.inputs[3];
  const Tensor &vh = args.inputs[4], v = matrix_transpose(vh);
  const Tensor forth = matmul(moved, v), back = matmul(matrix_transpose(moved), u);
  const Tensor inner = matmul(matrix_transpose(u), forth), turned = matrix_transpose(inner);
  const Tensor sums = mul0(as_row(c) + as_column(c), reciprocal(as_row(s) + as_column(s)));
  const Tensor within =
      mul0(inner + turned, divided_differences(c, s)) + mul0(inner - turned, sums);
  Tensor out = matmul(matmul(u, within * 0.5), vh);
  const Tensor ratio = as_row(mul0(c, reciprocal(s)));
  if (rows_of(u) > columns_of(u)) out = out + matmul(mul0(outside_of(u, forth), ratio), vh);
  if (rows_of(v) > columns_of(v))
    out = out + matmul(u, matrix_transpose(mul0(outside_of(v, back), ratio)));
  return out;
}

std::vector<Tensor> pull_singular_sum(const RuleArgs& args, std::span<const Tensor> cts) {
  const Tensor &u = args.inputs[2], &vh = args.inputs[4];
  const Tensor inner = matmul(matmul(matrix_transpose(u), cts[0]), matrix_transpose(vh));
  return {is_wanted(args, 0) ? turned_singular_sum(args, cts[0]) : Tensor(),
          diagonal_of(inner),
          {},
          {},
          {}};
}

std::vector<Tensor> push_singular_sum(const RuleArgs& args, std::span<const Tensor> tangents) {
  Tensor out;
  if (tangents[0].defined()) out = turned_singular_sum(args, tangents[0]);
  if (tangents[1].defined())
    out = plus(out, plain_sum(args.inputs[2], tangents[1], args.inputs[4]));
  return {out};
}

Op& singular_sum_record = sums_family.define(
    {.name = "singular_sum",
     .kind = OpKind::custom,
     .arity = 5,
     .pull = pull_singular_sum,
     .push = push_singular_sum,
     .needs = {kAllInputs, kAllInputs, kAllInputs},
     .constant_inputs = 4 | 8 | 16,
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return {in[0]->dtype, Dims(in[0]->layout.shape())};
     },
     .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs*,
               std::uint32_t) { run_sum(op, out, in[2], in[1], in[4]); },
     .internal = true});

}  // namespace

Tensor eigen_sum(const Tensor& a, const Tensor& c, const Tensor& w, const Tensor& v) {
  return apply(eigen_sum_record, {&a, &c, &w, &v});
}

Tensor singular_sum(const Tensor& a, const Tensor& c, const Tensor& u, const Tensor& s,
                    const Tensor& vh) {
  return apply(singular_sum_record, {&a, &c, &u, &s, &vh});
}

void register_sum_ops() { sums_family.register_all(); }

}  // namespace adjoint::linalg
