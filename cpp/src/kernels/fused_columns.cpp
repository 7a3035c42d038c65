#include "kernels/fused_columns.h"

namespace adjoint::kernels::fused {

namespace {

const ReduceKernel* kernel_of(const Plan& plan, std::uint32_t step) {
  return plan.steps[step].reduce;
}

std::size_t result_bytes(const ReduceKernel* kernel, std::int64_t cols) {
  return static_cast<std::size_t>(cols) * itemsize(kernel->dtype);
}

}  // namespace

ColumnReductions::ColumnReductions(const Plan& plan, std::int64_t rows, std::int64_t cols)
    : plan_(plan), cols_(cols) {
  const auto scratch = [&](std::uint32_t step) {
    return align64(ColumnTree::scratch(kernel_of(plan, step), rows, cols));
  };
  std::size_t bytes = 0;
  for (const std::uint32_t step : plan.column_reductions) bytes += scratch(step);
  memory_ = Storage::allocate(bytes, "fused");
  char* at = static_cast<char*>(memory_->data());
  for (const std::uint32_t step : plan.column_reductions) {
    trees_.push_back(ColumnTree(kernel_of(plan, step), cols, at));
    at += scratch(step);
  }
}

void ColumnReductions::add(const Step& step, const char* in, std::int64_t count, std::int64_t col,
                           std::int64_t width, bool whole) {
  ColumnTree& tree = trees_[step.reduction];
  const auto size = static_cast<std::int64_t>(itemsize(step.reduce->dtype));
  const std::int64_t pitch = step.advance[0] == Advance::none ? 0 : width * size;
  for (std::int64_t r = 0; r < count; ++r) {
    tree.add(col, in + r * pitch, width);
    if (whole) tree.end_row();
  }
}

void ColumnReductions::end_row() {
  for (ColumnTree& tree : trees_) tree.end_row();
}

void ColumnReductions::finish(char* out) {
  for (std::size_t k = 0; k < trees_.size(); ++k) {
    trees_[k].finish(out);
    trees_[k].reset();
    out += result_bytes(kernel_of(plan_, plan_.column_reductions[k]), cols_);
  }
}

std::size_t ColumnReductions::bytes(const Plan& plan, std::int64_t cols) {
  std::size_t sum = 0;
  for (const std::uint32_t step : plan.column_reductions)
    sum += result_bytes(kernel_of(plan, step), cols);
  return sum;
}

void ColumnReductions::combine(const Plan& plan, std::int64_t cols, const char* pieces,
                               std::int64_t count, std::span<void* const> outputs) {
  const std::size_t pitch = bytes(plan, cols);
  for (const std::uint32_t number : plan.column_reductions) {
    const Step& step = plan.steps[number];
    const IntrusivePtr<Storage> scratch =
        Storage::allocate(ColumnTree::scratch(step.reduce, count * kColumnGroup, cols), "fused");
    ColumnTree tree(step.reduce, cols, static_cast<char*>(scratch->data()));
    for (std::int64_t i = 0; i < count; ++i)
      tree.push(pieces + static_cast<std::size_t>(i) * pitch);
    tree.finish(outputs[plan.slots[step.dst].index]);
    pieces += result_bytes(step.reduce, cols);
  }
}

}  // namespace adjoint::kernels::fused
