// The matrix product. The record works on matrices and stacks of them; the function gives vectors
// a unit axis and takes it away again, so the rules know no other case.
#include <algorithm>
#include <optional>

#include "kernels/blas.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family products_family;

constexpr std::int64_t kLongProduct = 1
                                      << 20;  // multiplications above which the host lock is let go

[[noreturn]] void raise_shapes(Layout::Extents a, Layout::Extents b) {
  raise(ErrorKind::value, "matmul",
        "shapes " + to_string(a) + " and " + to_string(b) +
            " do not multiply: the last axis of the first must be as long as the last but one of "
            "the second (a vector's only axis), and leading axes must broadcast");
}

bool stacks_broadcast(Layout::Extents a, Layout::Extents b) {
  for (std::size_t i = 3; i <= a.size() && i <= b.size(); ++i) {
    const std::int64_t x = a[a.size() - i];
    const std::int64_t y = b[b.size() - i];
    if (x != y && x != 1 && y != 1) return false;
  }
  return true;
}

ResultList infer_matmul(const Op&, std::span<Node* const> in, const Attrs*) {
  const auto a = in[0]->layout.shape();
  const auto b = in[1]->layout.shape();
  if (a.size() < 2 || b.size() < 2 || a.back() != b[b.size() - 2] || !stacks_broadcast(a, b))
    raise_shapes(a, b);
  if (in[0]->dtype != in[1]->dtype || is_bool(in[0]->dtype))
    raise(ErrorKind::type, "matmul",
          "dtypes " + std::string(name(in[0]->dtype)) + " and " + std::string(name(in[1]->dtype)) +
              " given; numbers are needed: convert with astype");
  Dims shape;
  if (a.size() > 2 || b.size() > 2)
    shape = broadcast_shapes(a.first(a.size() - 2), b.first(b.size() - 2), "matmul");
  shape.push_back(a[a.size() - 2]);
  shape.push_back(b.back());
  return {in[0]->dtype, shape};
}

/// One operand against the stack axes of the result.
struct Stacked {
  Dims batch;  // strides over the stack axes
  std::int64_t row, col;

  Stacked(const Layout& x, Layout::Extents stack)
      : row(x.strides()[x.ndim() - 2]), col(x.strides()[x.ndim() - 1]) {
    const std::size_t own = static_cast<std::size_t>(x.ndim()) - 2;
    batch.assign(stack.size(), 0);
    for (std::size_t i = 0; i < own; ++i)
      if (x.shape()[i] != 1) batch[stack.size() - own + i] = x.strides()[i];
  }
};

template <class T>
void integer_product(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, const Stacked& sa,
                     const T* b, const Stacked& sb, T* c) {
  for (std::int64_t i = 0; i < m; ++i) {
    T* row = c + i * n;
    std::fill_n(row, n, T{});
    for (std::int64_t p = 0; p < k; ++p) {
      const auto x = Wrapping<T>(a[i * sa.row + p * sa.col]);
      const T* from = b + p * sb.row;
      for (std::int64_t j = 0; j < n; ++j)
        row[j] = static_cast<T>(Wrapping<T>(row[j]) + x * Wrapping<T>(from[j * sb.col]));
    }
  }
}

template <class T>
void integer_stack(const Node* out, Layout::Extents stack, std::int64_t k, const T* a,
                   const Stacked& sa, const T* b, const Stacked& sb, T* c) {
  const auto shape = out->layout.shape();
  const std::int64_t m = shape[shape.size() - 2];
  const std::int64_t n = shape.back();
  const std::int64_t count = product(stack);
  for (std::int64_t number = 0; number < count; ++number) {
    std::int64_t rest = number, at_a = 0, at_b = 0;
    for (std::size_t d = stack.size(); d-- > 0; rest /= stack[d]) {
      at_a += rest % stack[d] * sa.batch[d];
      at_b += rest % stack[d] * sb.batch[d];
    }
    integer_product(m, n, k, a + at_a, sa, b + at_b, sb, c + number * m * n);
  }
}

/// A stack of matrices times one matrix is one product of all rows. Whether it is one is decided by
/// shapes, since that decides the bits: a matrix that is repeated along a stack is a stack.
void run_rows_product(Node* out, Node* a, Node* b) {
  const Tensor rows = contiguous(a);
  const std::int64_t n = b->layout.shape().back();
  const std::int64_t k = a->layout.shape().back();
  const auto strides = b->layout.strides().last(2);
  kernels::matmul(out->dtype, out->layout.size() / n, n, k, rows.node()->data(), k, 1, b->data(),
                  strides[0], strides[1], out->data());
}

void run_matmul(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  allocate_value(out, "matmul");
  const auto shape = out->layout.shape();
  const auto stack = shape.first(shape.size() - 2);
  const std::int64_t m = shape[shape.size() - 2];
  const std::int64_t n = shape.back();
  const std::int64_t k = in[0]->layout.shape().back();
  if (out->layout.size() == 0) return;
  const Stacked sa(in[0]->layout, stack);
  const Stacked sb(in[1]->layout, stack);
  const void* a = in[0]->data();
  const void* b = in[1]->data();
  std::optional<WithoutHostLock> unlocked;
  if (out->layout.size() >= kLongProduct / std::max<std::int64_t>(k, 1)) unlocked.emplace();
  if (!is_floating(out->dtype)) {
    with_type(out->dtype, [&]<class T>(T) {
      if constexpr (std::is_integral_v<T>)
        integer_stack(out, stack, k, static_cast<const T*>(a), sa, static_cast<const T*>(b), sb,
                      static_cast<T*>(out->data()));
    });
  } else if (!stack.empty() &&
             product(in[1]->layout.shape().first(in[1]->layout.shape().size() - 2)) == 1) {
    run_rows_product(out, in[0], in[1]);
  } else if (stack.empty()) {
    kernels::matmul(out->dtype, m, n, k, a, sa.row, sa.col, b, sb.row, sb.col, out->data());
  } else {
    kernels::matmul_batched(out->dtype, static_cast<int>(stack.size()), stack.data(), m, n, k,
                            {a, sa.batch.data(), sa.row, sa.col},
                            {b, sb.batch.data(), sb.row, sb.col}, out->data());
  }
}

Tensor transposed(const Tensor& x) {
  return permute_dims(x, moved_axis(x.ndim(), x.ndim() - 1, x.ndim() - 2));
}

/// All rows of a stack of matrices as one matrix.
Tensor all_rows(const Tensor& x) {
  const std::int64_t cols = x.shape().back();
  return reshape(x, Dims{product(x.shape().first(x.shape().size() - 1)), cols});
}

Tensor transpose_matmul(const RuleArgs& args, int input, const Tensor& ct) {
  const Tensor& a = args.inputs[0];
  const Tensor& b = args.inputs[1];
  if (input == 0) return sum_to_shape(matmul(ct, transposed(b)), a.shape());
  // One tall product in place of a stack of them and a sum.
  if (b.ndim() == 2 && a.ndim() > 2) return matmul(transposed(all_rows(a)), all_rows(ct));
  return sum_to_shape(matmul(transposed(a), ct), b.shape());
}

/// The batch goes in front of all stack axes, of which both operands then have equally many.
Tensor stacked_operand(const BatchArgs& args, std::size_t i, std::size_t ndim) {
  const Layout::Extents shape = element_shape(args, i);
  if (!args.mapped[i] || shape.size() == ndim) return args.inputs[i];
  Dims padded{args.size};
  padded.resize(1 + ndim - shape.size(), 1);
  padded.append(shape.data(), shape.size());
  return reshape(args.inputs[i], padded);
}

Tensor batch_matmul(const BatchArgs& args) {
  const Layout::Extents a = element_shape(args, 0);
  const Layout::Extents b = element_shape(args, 1);
  if (!args.mapped[0] && a.size() == 2 && b.size() == 2 && b[1] == 1) {
    // A matrix with a batch of vectors: one product instead of many with one column each.
    const Tensor rows = reshape(args.inputs[1], Dims{args.size, b[0]});
    return reshape(matmul(rows, transposed(args.inputs[0])), Dims{args.size, a[0], 1});
  }
  const std::size_t ndim = std::max(a.size(), b.size());
  const Tensor left = stacked_operand(args, 0, ndim);
  const Tensor right = stacked_operand(args, 1, ndim);
  return apply(args.op, {&left, &right});
}

Op& matmul_record = products_family.define({.name = "matmul",
                                            .kind = OpKind::contraction,
                                            .arity = 2,
                                            .dtypes = DTypeRule::numeric,
                                            .transpose = transpose_matmul,
                                            .needs = {2, 1, 0},
                                            .multilinear = true,
                                            .batch = batch_matmul,
                                            .infer = infer_matmul,
                                            .run = run_matmul});

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype()) {
    const DType dtype = promote(a.dtype(), b.dtype());
    return matmul(astype(a, dtype), astype(b, dtype));
  }
  const bool row = a.ndim() == 1;
  const bool column = b.ndim() == 1;
  if (!row && !column && a.ndim() && b.ndim()) [[likely]]
    return apply(matmul_record, {&a, &b});
  if (a.ndim() == 0 || b.ndim() == 0)
    raise(ErrorKind::value, "matmul",
          "shapes " + to_string(a.shape()) + " and " + to_string(b.shape()) +
              " do not multiply: a scalar is no matrix, use * instead");
  if (a.shape().back() != (column ? b.shape()[0] : b.shape()[b.ndim() - 2]))
    raise_shapes(a.shape(), b.shape());
  const Tensor left = row ? expand_dims(a, 0) : a;
  const Tensor right = column ? expand_dims(b, 1) : b;
  const Tensor y = apply(matmul_record, {&left, &right});
  Dims shape(y.shape());
  if (column) shape.pop_back();
  if (row) shape.erase(shape.size() - (column ? 1 : 2));
  return reshape(y, shape);
}

namespace linalg {

void register_cholesky_ops();
void register_lu_ops();
void register_det_ops();
void register_qr_ops();
void register_spectral_ops();
void register_sum_ops();
void register_lstsq_ops();
void register_expm_ops();
void register_norm_ops();

}  // namespace linalg

void register_linalg_ops() {
  products_family.register_all();
  register_functions({{.name = "matmul",
                       .signature = "(x1, x2, /)",
                       .doc = "The matrix product; leading axes are stacks and broadcast.",
                       .entry = entry_of<matmul>()}});
  linalg::register_cholesky_ops();
  linalg::register_lu_ops();
  linalg::register_det_ops();
  linalg::register_qr_ops();
  linalg::register_spectral_ops();
  linalg::register_sum_ops();
  linalg::register_lstsq_ops();
  linalg::register_expm_ops();
  linalg::register_norm_ops();
}

}  // namespace adjoint
