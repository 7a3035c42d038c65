// LU factors and what follows from them: solutions, inverses, logarithms of determinants.
//
// The factors themselves have no derivative. What uses them takes the matrix as an input beside
// them, and its rule says how the result depends on the matrix; so one factorisation serves the
// value and the derivatives of every order. They are those of the transposed matrix, which in
// row-major order is what LAPACK sees: x' = P L U.
#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "adjoint/linalg.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family lu_family;

double cubic(Index n) { return static_cast<double>(n) * static_cast<double>(n * n); }

// ------------------------------------------------------------------------------------- factors

void run_lu(const Op& op, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
            std::uint32_t) {
  kernels::need_lapack(op.known_as());
  for (Node* node : out) allocate_value(node, op.known_as());
  const auto shape = in[0]->layout.shape();
  const Index n = shape.back();
  if (out[0]->layout.size() == 0) return;
  copy_value(in[0], out[0]->data());
  with_floating(in[0]->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), cubic(n), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        factor_lu(data_of<T>(out[0]) + i * n * n, n, data_of<Index>(out[1]) + i * n);
    });
  });
}

Op& lu_record = lu_family.define(
    {.name = "lu_factors",
     .kind = OpKind::custom,
     .arity = 1,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const auto shape = in[0]->layout.shape();
       return std::vector<ResultSpec>{{in[0]->dtype, Dims(shape)},
                                      {DType::int64, Dims(shape.first(shape.size() - 1))}};
     },
     .run_all = run_lu,
     .batch_all = batch_all_stacked,
     .internal = true});

std::vector<Tensor> lu_of(const Tensor& a, const char* op) {
  kernels::need_lapack(op);
  Node* const in[] = {a.node()};
  return apply_all(lu_record, in);
}

// -------------------------------------------------------------------------------------- solve

// Inputs are a, b, the factors of a and their pivots.
struct SolveAttrs {
  bool trans;  // the transposed system

  static constexpr auto fields() { return std::tuple(field("trans", &SolveAttrs::trans)); }
};

/// Exchanges rows of x, k entries each, in the order of the factorisation or the reverse one.
template <class T>
void exchange_rows(T* x, Index n, Index k, const Index* pivots, bool forward) {
  for (Index step = 0; step < n; ++step) {
    const Index i = forward ? step : n - 1 - step, j = pivots[i] - 1;
    if (i != j) std::swap_ranges(x + i * k, x + (i + 1) * k, x + j * k);
  }
}

/// X takes the place of B. With a' = P L U it is X' = B' U^-1 L^-1 P', or, of the transposed
/// system, X' = B' P L'^-1 U'^-1.
template <class T>
void solve_from_factors(bool trans, Index n, Index k, const T* lu, Index leading,
                        const Index* pivots, T* b) {
  if (trans) {
    exchange_rows(b, n, k, pivots, true);
    if (k == 1) {
      kernels::trsv<T>('L', 'N', 'U', n, lu, leading, b);
      kernels::trsv<T>('U', 'N', 'N', n, lu, leading, b);
    } else {
      kernels::trsm_right<T>('L', 'T', 'U', k, n, lu, leading, b, k);
      kernels::trsm_right<T>('U', 'T', 'N', k, n, lu, leading, b, k);
    }
    return;
  }
  if (k == 1) {
    kernels::trsv<T>('U', 'T', 'N', n, lu, leading, b);
    kernels::trsv<T>('L', 'T', 'U', n, lu, leading, b);
  } else {
    kernels::trsm_right<T>('U', 'N', 'N', k, n, lu, leading, b, k);
    kernels::trsm_right<T>('L', 'N', 'U', k, n, lu, leading, b, k);
  }
  exchange_rows(b, n, k, pivots, false);
}

void run_solve(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
               std::uint32_t) {
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const auto stack = stack_of(shape);
  const Index n = shape[shape.size() - 2], k = shape.back();
  if (n == 0) return;
  copy_value(in[1], out->data());
  const MatrixReader reader(in[2], MatrixReader::Order::rows);
  const Tensor pivots = contiguous(in[3]);
  const bool trans = attrs_as<SolveAttrs>(attrs).trans;
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack), 2.0 * static_cast<double>(n * n * k), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T* const factors = reader.at<T>(i);
        if (has_zero_on_diagonal(factors, n, reader.leading()))
          failure.report(i, 1);
        else if (k > 0)
          solve_from_factors(trans, n, k, factors, reader.leading(),
                             data_of<Index>(pivots.node()) + i * n, data_of<T>(out) + i * n * k);
      }
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(),
          failure.subject(stack) + " is singular: lstsq or pinv give the shortest solution");
}

Tensor solution(const Tensor& a, const Tensor& b, const Tensor& lu, const Tensor& pivots,
                bool trans);

std::vector<Tensor> pull_solve(const RuleArgs& args, std::span<const Tensor> cts) {
  const bool trans = attrs_as<SolveAttrs>(args.attrs).trans;
  const auto& in = args.inputs;
  const Tensor of_b = solution(in[0], cts[0], in[2], in[3], !trans);
  Tensor of_a;
  if (args.wanted[0])
    of_a = negative(trans ? matmul(result_of(args), matrix_transpose(of_b))
                          : matmul(of_b, matrix_transpose(result_of(args))));
  return {of_a, of_b, {}, {}};
}

std::vector<Tensor> push_solve(const RuleArgs& args, std::span<const Tensor> tangents) {
  const bool trans = attrs_as<SolveAttrs>(args.attrs).trans;
  Tensor right = tangents[1];
  if (tangents[0].defined()) {
    const Tensor moved = trans ? matrix_transpose(tangents[0]) : tangents[0];
    right = plus(negative(matmul(moved, result_of(args))), right);
  }
  return {solution(args.inputs[0], right, args.inputs[2], args.inputs[3], trans)};
}

// The matrix too: the rule hands it on, to say what its own result depends on.
constexpr std::uint8_t kReadsFactorsAndX = 1 | 4 | 8 | kSavesOutput;

Op& solve_record = lu_family.define(
    {.name = "solve",
     .kind = OpKind::custom,
     .arity = 4,
     .dtypes = DTypeRule::custom,
     .attrs = attrs_type<SolveAttrs>(),
     .pull = pull_solve,
     .push = push_solve,
     .needs = {kReadsFactorsAndX, kReadsFactorsAndX, kReadsFactorsAndX},
     .constant_inputs = 4 | 8,
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return {in[1]->dtype, Dims(in[1]->layout.shape())};
     },
     .run = run_solve,
     .internal = true,
     .fallible = true});

Tensor solution(const Tensor& a, const Tensor& b, const Tensor& lu, const Tensor& pivots,
                bool trans) {
  return apply(solve_record, {&a, &b, &lu, &pivots}, make_attrs(SolveAttrs{trans}));
}

// -------------------------------------------------------------------------------------- inverse

struct InvAttrs {
  bool lenient;  // a singular matrix gives infinities, where else it is an error

  static constexpr auto fields() { return std::tuple(field("lenient", &InvAttrs::lenient)); }
};

void run_inv(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
             std::uint32_t) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const Index n = shape.back();
  if (out->layout.size() == 0) return;
  copy_value(in[0], out->data());
  const bool lenient = attrs_as<InvAttrs>(attrs).lenient;
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), 2 * cubic(n), [&](Index begin, Index end) {
      kernels::Inverse<T> inverse(n);
      std::vector<Index> pivots(static_cast<std::size_t>(n));
      for (Index i = begin; i < end; ++i) {
        T* const x = data_of<T>(out) + i * n * n;
        factor_lu(x, n, pivots.data());
        if (!has_zero_on_diagonal(x, n, n))
          inverse(x, pivots.data());
        else if (lenient)
          std::fill_n(x, n * n, std::numeric_limits<T>::infinity());
        else
          failure.report(i, 1);
      }
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(),
          failure.subject(stack_of(shape)) + " is singular: pinv gives a pseudo-inverse");
}

Tensor pull_inverse(const Tensor& inverse, const Tensor& ct) {
  const Tensor back = matrix_transpose(inverse);
  return negative(matmul(matmul(back, ct), back));
}
Tensor push_inverse(const Tensor& inverse, const Tensor& tangent) {
  return negative(matmul(matmul(inverse, tangent), inverse));
}

Op& inv_record = lu_family.define(
    {.name = "inv",
     .kind = OpKind::custom,
     .arity = 1,
     .attrs = attrs_type<InvAttrs>(),
     .vjp = [](const RuleArgs& args, int,
               const Tensor& ct) { return pull_inverse(args.output, ct); },
     .jvp = [](const RuleArgs& args,
               std::span<const Tensor> tangents) { return push_inverse(args.output, tangents[0]); },
     .needs = {kSavesOutput, 0, 0},
     .batch = batch_stacked,
     .infer = infer_same,
     .run = run_inv,
     .internal = true,
     .fallible = true});

// Inputs are a, its factors and their pivots. The slope of slogdet.

void run_inverse(const Op& op, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const Index n = shape.back();
  if (out->layout.size() == 0) return;
  copy_value(in[1], out->data());
  const Tensor pivots = contiguous(in[2]);
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), cubic(n), [&](Index begin, Index end) {
      kernels::Inverse<T> inverse(n);
      for (Index i = begin; i < end; ++i) {
        T* const x = data_of<T>(out) + i * n * n;
        if (has_zero_on_diagonal(x, n, n))
          failure.report(i, 1);
        else
          inverse(x, data_of<Index>(pivots.node()) + i * n);
      }
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(),
          failure.subject(stack_of(shape)) +
              " is singular: the logarithm of its determinant has no derivative; det has");
}

Op& inverse_record = lu_family.define(
    {.name = "inverse_of_factors",
     .kind = OpKind::custom,
     .arity = 3,
     .dtypes = DTypeRule::custom,
     .pull = [](const RuleArgs& args, std::span<const Tensor> cts) -> std::vector<Tensor> {
       return {pull_inverse(result_of(args), cts[0]), {}, {}};
     },
     .push = [](const RuleArgs& args, std::span<const Tensor> tangents) -> std::vector<Tensor> {
       return {push_inverse(result_of(args), tangents[0])};
     },
     .needs = {kSavesOutput, kSavesOutput, kSavesOutput},
     .constant_inputs = 2 | 4,
     .batch = batch_stacked,
     .infer = infer_same,
     .run = run_inverse,
     .serves = "slogdet",
     .internal = true,
     .fallible = true});

// -------------------------------------------------------------------------------------- slogdet

// Inputs are a, its factors and their pivots.

void run_slogdet(const Op& op, std::span<Node* const> out, std::span<Node* const> in, const Attrs*,
                 std::uint32_t) {
  for (Node* node : out) allocate_value(node, op.known_as());
  const auto shape = in[1]->layout.shape();
  const Index n = shape.back();
  const Tensor lu = contiguous(in[1]), pivots = contiguous(in[2]);
  with_floating(in[1]->dtype, [&]<class T>(T) {
    for (Index i = 0; i < product(stack_of(shape)); ++i) {
      const T* const x = data_of<T>(lu.node()) + i * n * n;
      const Index* const p = data_of<Index>(pivots.node()) + i * n;
      T sign = 1, logarithm = 0;
      for (Index j = 0; j < n; ++j) {
        const T d = x[j * (n + 1)];
        sign *= std::isnan(d) ? d : static_cast<T>((d > 0) - (d < 0));
        if (p[j] != j + 1) sign = -sign;
        logarithm += std::log(std::abs(d));
      }
      data_of<T>(out[0])[i] = sign;
      data_of<T>(out[1])[i] = logarithm;
    }
  });
}

/// The slope of the logarithm: the transposed inverse.
Tensor logdet_slope(const RuleArgs& args) {
  return matrix_transpose(
      apply(inverse_record, {&args.inputs[0], &args.inputs[1], &args.inputs[2]}));
}

Op& slogdet_record = lu_family.define(
    {.name = "slogdet",
     .kind = OpKind::custom,
     .arity = 3,
     .dtypes = DTypeRule::custom,
     .pull = [](const RuleArgs& args, std::span<const Tensor> cts) -> std::vector<Tensor> {
       if (!cts[1].defined()) return {{}, {}, {}};
       return {mul0(as_matrix(cts[1]), logdet_slope(args)), {}, {}};
     },
     .push = [](const RuleArgs& args, std::span<const Tensor> tangents) -> std::vector<Tensor> {
       return {{}, sum(mul0(logdet_slope(args), tangents[0]), {-2, -1})};
     },
     .needs = {1 | 2 | 4, 1 | 2 | 4, 1 | 2 | 4},
     .constant_inputs = 2 | 4,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       const Dims stack(stack_of(in[0]->layout.shape()));
       return std::vector<ResultSpec>{{in[0]->dtype, stack}, {in[0]->dtype, stack}};
     },
     .run_all = run_slogdet,
     .batch_all = batch_all_stacked,
     .internal = true});

}  // namespace

// ------------------------------------------------------------------------------------- functions

Tensor solve(const Tensor& x1, const Tensor& x2) {
  const Tensor left = square_matrices(x1, "solve");
  const System s(left, x2, "solve");
  // Factored before it is repeated over the right sides.
  const bool repeated = s.a.size() != left.size();
  std::vector<Tensor> f = lu_of(repeated ? astype(left, s.a.dtype()) : s.a, "solve");
  if (repeated) {
    const Dims stack(stack_of(s.a.shape()));
    f[0] = over_stack(f[0], stack);
    f[1] = broadcast_to(f[1], with_axis(stack, rows_of(s.a)));
  }
  return s.given_form(solution(s.a, s.b, f[0], f[1], false));
}

Tensor inverse_or_infinite(const Tensor& x) {
  return apply(inv_record, {&x}, make_attrs(InvAttrs{.lenient = true}));
}

Tensor inv(const Tensor& x) {
  const Tensor a = square_matrices(x, "inv");
  return apply(inv_record, {&a}, make_attrs(InvAttrs{.lenient = false}));
}

Tensor tensorinv(const Tensor& x, std::int64_t ind) {
  const char* const op = "tensorinv";
  if (ind < 1 || ind >= x.ndim())
    raise(ErrorKind::value, op,
          "ind must part the " + std::to_string(x.ndim()) + " axes in two, got " +
              std::to_string(ind));
  const auto at = static_cast<std::size_t>(ind);
  const auto first = x.shape().first(at), last = x.shape().subspan(at);
  const std::int64_t n = product(first);
  if (n != product(last))
    raise(ErrorKind::value, op,
          "shape " + to_string(x.shape()) + " is no square matrix where it is parted after " +
              std::to_string(ind) + " axes");
  Dims shape(last);
  shape.append(first.data(), first.size());
  return reshape(inv(reshape(x, Dims{n, n})), shape);
}

Tensor tensorsolve(const Tensor& a, const Tensor& b, const Axes& axes) {
  const char* const op = "tensorsolve";
  Tensor moved = a;
  if (!axes.all()) {
    const Dims given(axes.given());
    Dims ends;
    for (std::size_t i = 0; i < given.size(); ++i)
      ends.push_back(static_cast<std::int64_t>(i) - static_cast<std::int64_t>(given.size()));
    moved = moveaxis(a, given, ends);
  }
  const auto lead = static_cast<std::size_t>(b.ndim());
  if (b.ndim() > moved.ndim() || product(moved.shape().first(lead)) != b.size() ||
      product(moved.shape().subspan(lead)) != b.size())
    raise(ErrorKind::value, op,
          "shapes " + to_string(moved.shape()) + " and " + to_string(b.shape()) +
              " make no system: the first " + std::to_string(lead) +
              " axes of one, and the others, must have as many elements as the other");
  const std::int64_t n = b.size();
  const Tensor x = solve(reshape(moved, Dims{n, n}), reshape(b, Dims{n}));
  return reshape(x, moved.shape().subspan(lead));
}

std::tuple<Tensor, Tensor> slogdet(const Tensor& x) {
  const Tensor a = square_matrices(x, "slogdet");
  const std::vector<Tensor> f = lu_of(a, "slogdet");
  Node* const in[] = {a.node(), f[0].node(), f[1].node()};
  std::vector<Tensor> out = apply_all(slogdet_record, in);
  return {std::move(out[0]), std::move(out[1])};
}

void register_lu_ops() {
  lu_family.register_all();
  register_functions({
      {.name = "linalg.solve",
       .signature = "(x1, x2, /)",
       .doc = "The solution x of x1 x = x2.\n"
              "\n"
              "Parameters\n"
              "----------\n"
              "x1 : Tensor, shape (..., n, n)\n"
              "x2 : Tensor, shape (n,) or (..., n, k)\n"
              "    A vector, or matrices of right sides; leading axes broadcast.\n"
              "\n"
              "Raises\n"
              "------\n"
              "LinAlgError\n"
              "    Where a matrix is singular.\n"
              "\n"
              "Examples\n"
              "--------\n"
              ">>> import adjoint as ad\n"
              ">>> a = ad.tensor([[2.0, 0.0], [1.0, 4.0]])\n"
              ">>> ad.linalg.solve(a, ad.tensor([2.0, 9.0])).tolist()\n"
              "[1.0, 2.0]",
       .entry = entry_of<solve>()},
      {.name = "linalg.inv",
       .signature = "(x, /)",
       .doc = "The inverse of square matrices. Raises LinAlgError where one is singular.",
       .entry = entry_of<inv>()},
      {.name = "linalg.tensorinv",
       .signature = "(x, /, ind=2)",
       .doc = "The inverse of the map from tensors of the last axes of x to those of its first "
              "`ind` ones: `tensordot(tensorinv(x, ind), b, ind)` solves `tensordot(x, y, ...) = "
              "b`.\n\n"
              "Raises LinAlgError where there is none.",
       .entry = entry_of<tensorinv>()},
      {.name = "linalg.tensorsolve",
       .signature = "(a, b, /, axes=None)",
       .doc = "The tensor x for which the sum of products of a and x over all axes of x, the last "
              "ones of a, is b.\n\n"
              "`axes` of a are moved to its end first. Raises LinAlgError where a is singular.",
       .entry = entry_of<tensorsolve>()},
      {.name = "linalg.slogdet",
       .signature = "(x, /) -> (sign, logabsdet)",
       .doc = "The sign of the determinant, and the logarithm of its absolute value.\n"
              "\n"
              "Of a singular matrix they are 0 and -inf, and the derivative raises LinAlgError.",
       .entry = entry_of<slogdet>()},
  });
}

}  // namespace adjoint::linalg
