// Orthogonal factors, X = Q R.
//
// The rule is written for matrices with at least as many rows as columns and of full column rank.
// Where Q moves by Q W with a skew W, and N = Q' dX R^-1, the strictly lower part of W is that of
// N. Of a complete Q the further columns are any orthonormal ones; they are taken not to turn into
// one another, so functions that depend on the space they span have their derivative. A wide matrix
// is factored by its first columns, and the others follow.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "adjoint/linalg.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family qr_family;

struct QrAttrs {
  bool complete;  // Q is; R has as many rows as Q has columns

  static constexpr auto fields() { return std::tuple(field("complete", &QrAttrs::complete)); }
};

/// x = Q R of one matrix, in row-major order.
template <class T>
class QrOfOne {
 public:
  QrOfOne(Index m, Index n, Index columns)
      : m_(m),
        n_(n),
        columns_(columns),
        factors_(m, n, columns),
        reflectors_(m, std::min(m, n), columns),
        scales_(static_cast<std::size_t>(std::min(m, n))),
        room_(kernels::workspace<T>(m * std::max(columns, n))) {}

  Index operator()(const T* x, T* q, T* r) {
    T* const room = room_.get();
    copy_turned(x, m_, n_, room, m_);
    if (const Index info = factors_.factor(room, scales_.data())) return info;
    copy_turned(room, m_, n_, columns_, r, n_);
    clear_triangle(r, columns_, n_, true);
    if (columns_ >= kLongReflectors) {
      reflectors_.form(room, m_, scales_.data(), q);
      return 0;
    }
    const Index info = factors_.form(room, scales_.data());
    copy_turned(room, columns_, m_, q, columns_);
    return info;
  }

 private:
  Index m_, n_, columns_;
  kernels::QrFactors<T> factors_;
  kernels::Reflectors<T> reflectors_;
  std::vector<T> scales_;
  kernels::Workspace<T> room_;
};

void run_qr(const Op& op, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
            std::uint32_t) {
  kernels::need_lapack(op.known_as());
  for (Node* node : out) allocate_value(node, op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index m = shape[shape.size() - 2], n = shape.back();
  const Index columns = out[0]->layout.shape().back();
  const Index count = product(stack_of(shape));
  Failure failure;
  with_floating(in[0]->dtype, [&]<class T>(T) {
    T* const q = data_of<T>(out[0]);
    T* const r = data_of<T>(out[1]);
    if (m == 0 || n == 0) {  // nothing to factor: any orthonormal columns
      std::fill_n(q, out[0]->layout.size(), T(0));
      for (Index i = 0; i < count; ++i)
        for (Index j = 0; j < std::min(m, columns); ++j) q[i * m * columns + j * (columns + 1)] = 1;
      return;
    }
    const Tensor x = contiguous(in[0]);
    const double work = 2.0 * static_cast<double>(m * n) * static_cast<double>(columns);
    for_stack(count, work, [&](Index begin, Index end) {
      QrOfOne<T> factor(m, n, columns);
      for (Index i = begin; i < end; ++i)
        if (const Index info =
                factor(data_of<T>(x.node()) + i * m * n, q + i * m * columns, r + i * columns * n))
          failure.report(i, info);
    });
  });
  if (failure.any())
    raise(ErrorKind::runtime, op.known_as(),
          failure.subject(stack_of(shape)) + " was not factored");
}

struct QrParts {
  Tensor q, r, r1;  // r1: the square part of R
  Index n;

  explicit QrParts(const RuleArgs& args)
      : q(args.outputs[0]), r(args.outputs[1]), n(columns_of(args.outputs[1])) {
    r1 = rows_of(r) == n ? r : rows_from(r, 0, n);
  }
  bool complete() const { return columns_of(q) != n; }
  Tensor over_r(const Tensor& x, bool trans) const { return divided_by_r(x, r1, trans); }
};

/// x minus its transpose, below the diagonal.
Tensor skew_below(const Tensor& x) { return tril(x - matrix_transpose(x), -1); }

std::vector<Tensor> pull_qr(const RuleArgs& args, std::span<const Tensor> cts) {
  const QrParts p(args);
  const Tensor& q = p.q;
  Tensor inner, beside;  // the cotangent of the first columns of N, and what lies beside Q
  if (cts[0].defined()) {
    const Tensor k = matmul(matrix_transpose(q), cts[0]);
    if (p.complete()) {
      const Index more = columns_of(q) - p.n;
      inner = skew_below(columns_from(rows_from(k, 0, p.n), 0, p.n));
      const Tensor down = columns_from(rows_from(k, p.n, more), 0, p.n);
      const Tensor across = columns_from(rows_from(k, 0, p.n), p.n, more);
      beside = matmul(columns_from(q, p.n, more), down - matrix_transpose(across));
    } else {
      inner = skew_below(k);
      beside = cts[0] - matmul(q, k);
    }
  }
  if (cts[1].defined()) {
    const Tensor given = p.complete() ? rows_from(cts[1], 0, p.n) : cts[1];
    const Tensor both =  // triu(given) R'
        matrix_transpose(triangular_product(p.r1, matrix_transpose(triu(given)), false, false));
    inner = plus(inner, both - skew_below(both));
  }
  const Tensor q1 = p.complete() ? columns_from(q, 0, p.n) : q;
  return {p.over_r(plus(matmul(q1, inner), beside), true)};
}

std::vector<Tensor> push_qr(const RuleArgs& args, std::span<const Tensor> tangents) {
  const QrParts p(args);
  const Tensor moved = p.over_r(tangents[0], false);
  const Tensor within = matmul(matrix_transpose(p.q), moved);
  const Tensor top = p.complete() ? rows_from(within, 0, p.n) : within;
  const Tensor lower = tril(top, -1);
  const Tensor turn = lower - matrix_transpose(lower);
  const Tensor kept = top - turn;  // the upper triangle of a matrix
  Tensor dr = triu(triangular_product(kept, p.r1, false, false));
  if (!p.complete()) return {moved - matmul(p.q, kept), dr};
  const Index more = columns_of(p.q) - p.n;
  const Tensor down = rows_from(within, p.n, more);
  const Tensor q1 = columns_from(p.q, 0, p.n), q2 = columns_from(p.q, p.n, more);
  const Tensor parts[] = {matmul(q1, turn) + matmul(q2, down),
                          negative(matmul(q1, matrix_transpose(down)))};
  const Tensor rows[] = {dr, zeros_of(with_matrix(stack_of(dr.shape()), more, p.n), dr.dtype())};
  return {concat(parts, -1), concat(rows, -2)};
}

Op& qr_record = qr_family.define(
    {.name = "qr",
     .kind = OpKind::custom,
     .arity = 1,
     .attrs = attrs_type<QrAttrs>(),
     .pull = pull_qr,
     .push = push_qr,
     .needs = {kSavesOutput, 0, 0},
     .infer = [](const Op&, std::span<Node* const> in, const Attrs* attrs) -> ResultList {
       const auto shape = in[0]->layout.shape();
       const Index m = shape[shape.size() - 2], n = shape.back();
       const Index columns = attrs_as<QrAttrs>(attrs).complete ? m : std::min(m, n);
       return std::vector<ResultSpec>{{in[0]->dtype, with_matrix(stack_of(shape), m, columns)},
                                      {in[0]->dtype, with_matrix(stack_of(shape), columns, n)}};
     },
     .run_all = run_qr,
     .batch_all = batch_all_stacked,
     .internal = true});

}  // namespace

std::tuple<Tensor, Tensor> qr(const Tensor& x, std::string_view mode) {
  const char* const op = "qr";
  if (mode != "reduced" && mode != "complete")
    raise(ErrorKind::value, op,
          "mode must be 'reduced' or 'complete', not '" + std::string(mode) + "'");
  const Tensor a = matrices(x, op);
  const Index m = rows_of(a), n = columns_of(a);
  const Tensor first = m < n ? columns_from(a, 0, m) : a;
  Node* const in[] = {first.node()};
  std::vector<Tensor> out = apply_all(qr_record, in, make_attrs(QrAttrs{mode == "complete"}));
  if (m < n) {
    const Tensor rest = matmul(matrix_transpose(out[0]), columns_from(a, m, n - m));
    out[1] = concat(std::vector{out[1], rest}, -1);
  }
  return {std::move(out[0]), std::move(out[1])};
}

void register_qr_ops() {
  qr_family.register_all();
  register_functions({
      {.name = "linalg.qr",
       .signature = "(x, /, *, mode='reduced') -> (Q, R)",
       .doc =
           "Orthonormal columns Q and an upper triangular R with x = Q R.\n"
           "\n"
           "Parameters\n"
           "----------\n"
           "x : Tensor, shape (..., m, n)\n"
           "mode : {'reduced', 'complete'}\n"
           "    Whether Q has min(m, n) columns or all m.\n"
           "\n"
           "Notes\n"
           "-----\n"
           "The derivative needs the first min(m, n) columns of x to be linearly independent,\n"
           "and raises LinAlgError where R has a 0 on its diagonal. The further columns of a\n"
           "complete Q of a tall matrix are any that complete it: only what depends on the space\n"
           "they span has a derivative, and that is given.",
       .entry = entry_of<qr>()},
  });
}

}  // namespace adjoint::linalg
