// Cholesky factors and triangular systems.
//
// The derivative of a factor is I. Murray's (Differentiation of the Cholesky decomposition, 2016):
// dL = L P(L^-1 dA L^-T), where P takes the lower triangle with half of the diagonal.
#include <string>
#include <vector>

#include "adjoint/linalg.h"
#include "ops/linalg_support.h"

namespace adjoint::linalg {

namespace {

Family cholesky_family;

// ------------------------------------------------------------------------------------ triangular

struct TriangularForm {
  bool lower;  // the triangle that is read
  bool trans;
  bool unit;  // its diagonal is 1

  static constexpr auto fields() {
    return std::tuple(field("lower", &TriangularForm::lower),
                      field("trans", &TriangularForm::trans), field("unit", &TriangularForm::unit));
  }
  TriangularForm transposed() const { return {lower, !trans, unit}; }
};

/// The part of a square matrix that a triangular solve reads.
Tensor triangle_read(const Tensor& x, const TriangularForm& form) {
  const std::int64_t k = form.unit ? 1 : 0;
  return form.lower ? tril(x, -k) : triu(x, k);
}

/// X takes the place of B, contiguous in row-major order: as LAPACK sees it, X' op(A)' = B'.
template <class T>
void solve_in_place(const TriangularForm& form, Index n, Index k, const T* a,
                    const MatrixReader& reader, T* b) {
  const bool flipped = reader.is_transposed();
  const char uplo = form.lower != flipped ? 'U' : 'L';
  const char diag = form.unit ? 'U' : 'N';
  if (k == 1)
    kernels::trsv<T>(uplo, form.trans != flipped ? 'N' : 'T', diag, n, a, reader.leading(), b);
  else
    kernels::trsm_right<T>(uplo, form.trans != flipped ? 'T' : 'N', diag, k, n, a, reader.leading(),
                           b, k);
}

constexpr const char* kZeroOnDiagonal = " is singular: there is a 0 on its diagonal";

void run_solve_triangular(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                          const char* where_singular) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const auto stack = stack_of(shape);
  const Index n = shape[shape.size() - 2], k = shape.back();
  if (out->layout.size() == 0) return;
  copy_value(in[1], out->data());
  const MatrixReader reader(in[0]);
  const auto& form = attrs_as<TriangularForm>(attrs);
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack), static_cast<double>(n * n * k), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T* a = reader.at<T>(i);
        if (!form.unit && has_zero_on_diagonal(a, n, reader.leading()))
          failure.report(i, 1);
        else
          solve_in_place(form, n, k, a, reader, data_of<T>(out) + i * n * k);
      }
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(), failure.subject(stack) + where_singular);
}

std::vector<Tensor> pull_solve_triangular(const RuleArgs& args, std::span<const Tensor> cts) {
  const auto& form = attrs_as<TriangularForm>(args.attrs);
  const Tensor& x = result_of(args);
  Tensor of_a, of_b = apply(args.op, {&args.inputs[0], &cts[0]}, make_attrs(form.transposed()));
  if (args.wanted[0]) {
    const Tensor both =
        form.trans ? matmul(x, matrix_transpose(of_b)) : matmul(of_b, matrix_transpose(x));
    of_a = triangle_read(negative(both), form);
  }
  return {of_a, of_b};
}

std::vector<Tensor> push_solve_triangular(const RuleArgs& args, std::span<const Tensor> tangents) {
  const auto& form = attrs_as<TriangularForm>(args.attrs);
  Tensor right = tangents[1];
  if (tangents[0].defined()) {
    const Tensor moved = triangle_read(tangents[0], form);
    right = plus(negative(matmul(form.trans ? matrix_transpose(moved) : moved, result_of(args))),
                 right);
  }
  return {apply(args.op, {&args.inputs[0], &right}, make_attrs(form))};
}

constexpr std::uint8_t kReadsAandX = 1 | kSavesOutput;

/// One operation under several names, so that an error bears that of the function that failed.
Op solving_op(const char* name) {
  return {.name = name,
          .kind = OpKind::custom,
          .arity = 2,
          .attrs = attrs_type<TriangularForm>(),
          .pull = pull_solve_triangular,
          .push = push_solve_triangular,
          .needs = {kReadsAandX, kReadsAandX, kReadsAandX},
          .batch = batch_stacked,
          .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
            return {in[1]->dtype, Dims(in[1]->layout.shape())};
          },
          .run = [](const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                    std::uint32_t) { run_solve_triangular(op, out, in, attrs, kZeroOnDiagonal); },
          .fallible = true};
}
Op internal_solving_op(const char* name, const char* serves) {
  Op op = solving_op(name);
  op.internal = true;
  op.serves = serves;
  return op;
}
Op division_of_qr() {
  Op op = internal_solving_op("qr_division", "qr");
  op.run = [](const Op& self, Node* out, std::span<Node* const> in, const Attrs* attrs,
              std::uint32_t) {
    run_solve_triangular(self, out, in, attrs,
                         " has columns that depend on one another: R has a 0 on its diagonal, and "
                         "the factors have no derivative");
  };
  return op;
}

Op& solve_triangular_record = cholesky_family.define(solving_op("solve_triangular"));
Op& cho_solve_record =
    cholesky_family.define(internal_solving_op("half_of_cho_solve", "cho_solve"));
Op& qr_division_record = cholesky_family.define(division_of_qr());

Tensor triangular_solution(const Tensor& a, const Tensor& b, const TriangularForm& form,
                           const Op& op = solve_triangular_record) {
  return apply(op, {&a, &b}, make_attrs(form));
}

// ------------------------------------------------------------------------- triangular products

// op(A) B of a triangular A, of which the other triangle is not read: half the work of a product of
// matrices.

void run_triangular_product(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                            std::uint32_t) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const Index n = shape[shape.size() - 2], k = shape.back();
  if (out->layout.size() == 0) return;
  copy_value(in[1], out->data());
  const MatrixReader reader(in[0]);
  const auto& form = attrs_as<TriangularForm>(attrs);
  const bool flipped = reader.is_transposed();
  const double work = static_cast<double>(n * n) * static_cast<double>(k);
  with_floating(out->dtype, [&]<class T>(T) {
    for_stack(product(stack_of(shape)), work, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        kernels::trmm_right<T>(form.lower != flipped ? 'U' : 'L', form.trans != flipped ? 'T' : 'N',
                               k, n, reader.at<T>(i), reader.leading(), data_of<T>(out) + i * n * k,
                               k);
    });
  });
}

std::vector<Tensor> pull_triangular_product(const RuleArgs& args, std::span<const Tensor> cts) {
  const auto& form = attrs_as<TriangularForm>(args.attrs);
  const Tensor &a = args.inputs[0], &b = args.inputs[1];
  Tensor of_a, of_b;
  if (args.wanted[0])
    of_a = triangle_read(
        form.trans ? matmul(b, matrix_transpose(cts[0])) : matmul(cts[0], matrix_transpose(b)),
        form);
  if (args.wanted[1]) of_b = apply(args.op, {&a, &cts[0]}, make_attrs(form.transposed()));
  return {of_a, of_b};
}

std::vector<Tensor> push_triangular_product(const RuleArgs& args,
                                            std::span<const Tensor> tangents) {
  const auto along = [&](const Tensor& a, const Tensor& b) {
    return apply(args.op, {&a, &b}, same_attrs(args.attrs));
  };
  Tensor out;
  if (tangents[0].defined()) out = along(tangents[0], args.inputs[1]);
  if (tangents[1].defined()) out = plus(out, along(args.inputs[0], tangents[1]));
  return {out};
}

Op& triangular_product_record = cholesky_family.define(
    {.name = "triangular_product",
     .kind = OpKind::custom,
     .arity = 2,
     .attrs = attrs_type<TriangularForm>(),
     .pull = pull_triangular_product,
     .push = push_triangular_product,
     .needs = {3, 3, 3},
     .batch = batch_stacked,
     .infer = [](const Op&, std::span<Node* const> in, const Attrs*) -> ResultList {
       return {in[1]->dtype, Dims(in[1]->layout.shape())};
     },
     .run = run_triangular_product,
     .internal = true});

// -------------------------------------------------------------------------------------- Cholesky

struct CholeskyAttrs {
  bool upper;  // the triangle that is read, and the factor

  static constexpr auto fields() { return std::tuple(field("upper", &CholeskyAttrs::upper)); }
};

void run_cholesky(const Op& op, Node* out, std::span<Node* const> in, const Attrs* attrs,
                  std::uint32_t) {
  kernels::need_lapack(op.known_as());
  allocate_value(out, op.known_as());
  const auto shape = out->layout.shape();
  const Index n = shape.back();
  const bool upper = attrs_as<CholeskyAttrs>(attrs).upper;
  if (out->layout.size() == 0) return;
  copy_value(in[0], out->data());
  Failure failure;
  with_floating(out->dtype, [&]<class T>(T) {
    const double work = static_cast<double>(n) * n * n / 3;
    for_stack(product(stack_of(shape)), work, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        T* x = data_of<T>(out) + i * n * n;
        if (!triangle_finite(x, n, upper))
          fill_nan(x, n * n);
        else if (const Index info = kernels::potrf(upper ? 'L' : 'U', n, x, n))
          failure.report(i, info);
        clear_triangle(x, n, n, upper);
      }
    });
  });
  if (failure.any())
    raise(ErrorKind::linalg, op.known_as(),
          failure.subject(stack_of(shape)) +
              " is not positive definite: its leading block of order " +
              std::to_string(failure.info()) +
              " is not; adding a small multiple of the unit matrix makes one so that is nearly");
}

/// The lower triangle with half of the diagonal.
Tensor lower_half(const Tensor& x) {
  return tril(x) * (1.0 - 0.5 * eye(columns_of(x), {}, 0, x.dtype()));
}

/// The lower factor, whichever was given.
Tensor lower_factor(const RuleArgs& args, const Tensor& x) {
  return attrs_as<CholeskyAttrs>(args.attrs).upper ? matrix_transpose(x) : x;
}

Tensor vjp_cholesky(const RuleArgs& args, int, const Tensor& given) {
  const Tensor l = lower_factor(args, args.output), ct = lower_factor(args, given);
  const TriangularForm back{.lower = true, .trans = true, .unit = false};
  const Tensor inner = lower_half(triangular_product(l, ct, true, true));
  const Tensor left = triangular_solution(l, inner, back);
  return symmetric_part(triangular_solution(l, matrix_transpose(left), back));
}

Tensor jvp_cholesky(const RuleArgs& args, std::span<const Tensor> tangents) {
  const Tensor l = lower_factor(args, args.output);
  const TriangularForm forth{.lower = true, .trans = false, .unit = false};
  const Tensor left = triangular_solution(l, symmetric_part(tangents[0]), forth);
  const Tensor inner = triangular_solution(l, matrix_transpose(left), forth);
  return lower_factor(args, triangular_product(l, lower_half(inner), true, false));
}

Op& cholesky_record = cholesky_family.define({.name = "cholesky",
                                              .kind = OpKind::custom,
                                              .arity = 1,
                                              .attrs = attrs_type<CholeskyAttrs>(),
                                              .vjp = vjp_cholesky,
                                              .jvp = jvp_cholesky,
                                              .needs = {kSavesOutput, 0, 0},
                                              .batch = batch_stacked,
                                              .infer = infer_same,
                                              .run = run_cholesky,
                                              .fallible = true});

}  // namespace

Tensor triangular_product(const Tensor& a, const Tensor& b, bool lower, bool trans) {
  return apply(triangular_product_record, {&a, &b},
               make_attrs(TriangularForm{.lower = lower, .trans = trans, .unit = false}));
}

Tensor divided_by_r(const Tensor& x, const Tensor& r, bool trans) {
  const TriangularForm form{.lower = false, .trans = !trans, .unit = false};
  return matrix_transpose(triangular_solution(r, matrix_transpose(x), form, qr_division_record));
}

// ------------------------------------------------------------------------------------- functions

Tensor cholesky(const Tensor& x, bool upper) {
  const Tensor a = square_matrices(x, "cholesky");
  return apply(cholesky_record, {&a}, make_attrs(CholeskyAttrs{upper}));
}

Tensor solve_triangular(const Tensor& given_a, const Tensor& given_b, std::int64_t trans,
                        bool lower, bool unit_diagonal) {
  const char* const op = "solve_triangular";
  if (trans < 0 || trans > 2)
    raise(ErrorKind::value, op,
          "trans must be 0 for a x = b, or 1 or 2 for a' x = b, got " + std::to_string(trans));
  const System s(given_a, given_b, op);
  return s.given_form(
      triangular_solution(s.a, s.b, TriangularForm{lower, trans != 0, unit_diagonal}));
}

Tensor cho_solve(const Tensor& c, const Tensor& b, bool lower) {
  const System s(c, b, "cho_solve");
  const auto solve = [&](const Tensor& right, bool trans) {
    return triangular_solution(s.a, right, TriangularForm{lower, trans, false}, cho_solve_record);
  };
  return s.given_form(solve(solve(s.b, !lower), lower));
}

void register_cholesky_ops() {
  cholesky_family.register_all();
  register_functions({
      {.name = "linalg.cholesky",
       .signature = "(x, /, *, upper=False)",
       .doc = "The triangular factor of symmetric positive definite matrices: x = L L', or U' U.\n"
              "\n"
              "Parameters\n"
              "----------\n"
              "x : Tensor, shape (..., n, n)\n"
              "    Its lower triangle is read, the upper one where `upper` is given.\n"
              "upper : bool\n"
              "    Whether to give the upper factor, which is the transpose.\n"
              "\n"
              "Returns\n"
              "-------\n"
              "Tensor, shape (..., n, n)\n"
              "    Zero in the other triangle; nan where x is not finite. The derivative is that\n"
              "    along symmetric matrices: gradients are symmetric.\n"
              "\n"
              "Raises\n"
              "------\n"
              "LinAlgError\n"
              "    Where a matrix is not positive definite.\n"
              "\n"
              "Examples\n"
              "--------\n"
              ">>> import adjoint as ad\n"
              ">>> ad.linalg.cholesky(ad.tensor([[4.0, 2.0], [2.0, 5.0]])).tolist()\n"
              "[[2.0, 0.0], [1.0, 2.0]]",
       .entry = entry_of<cholesky>()},
      {.name = "linalg.solve_triangular",
       .signature = "(a, b, /, *, trans=0, lower=False, unit_diagonal=False)",
       .doc = "The solution x of a x = b, or a' x = b where `trans` is 1 or 2, of triangular a.\n"
              "\n"
              "Parameters\n"
              "----------\n"
              "a : Tensor, shape (..., n, n)\n"
              "    Only its upper triangle is read, or, with `lower`, the lower one; where "
              "`unit_diagonal` is\n"
              "    given its diagonal counts as 1.\n"
              "b : Tensor, shape (n,) or (..., n, k)\n"
              "    A vector, or matrices of right sides.\n"
              "\n"
              "Raises\n"
              "------\n"
              "LinAlgError\n"
              "    Where there is a 0 on a diagonal.",
       .entry = entry_of<solve_triangular>()},
      {.name = "linalg.cho_solve",
       .signature = "(c, b, /, *, lower=True)",
       .doc = "The solution x of a x = b, from a Cholesky factor c of a as `cholesky` gives it: a\n"
              "lower one, or an upper one where `lower` is False. The other triangle is not read.\n"
              "\n"
              "SciPy's pair of a factor and a flag is not taken: the flag is `lower` here.\n"
              "\n"
              "Examples\n"
              "--------\n"
              ">>> import adjoint as ad\n"
              ">>> a = ad.tensor([[4.0, 2.0], [2.0, 5.0]])\n"
              ">>> ad.linalg.cho_solve(ad.linalg.cholesky(a), ad.tensor([8.0, 12.0])).tolist()\n"
              "[1.0, 2.0]",
       .entry = entry_of<cho_solve>()},
  });
}

}  // namespace adjoint::linalg
