// Reductions over the rows of a space: one result per column, which a lane collects while it goes
// down the rows, and which those of several pieces of the rows are then combined to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/intrusive_ptr.h"
#include "kernels/fused_plan.h"
#include "kernels/reduce.h"
#include "tensor/storage.h"

namespace adjoint::kernels::fused {

/// Memory of a lane is divided at cache lines.
constexpr std::size_t align64(std::size_t n) { return (n + 63) & ~std::size_t{63}; }

/// The column reductions of a plan over some of the rows.
class ColumnReductions {
 public:
  ColumnReductions(const Plan& plan, std::int64_t rows, std::int64_t cols);
  /// Takes `width` columns of `count` rows at `in`; `whole` rows end with them.
  void add(const Step& step, const char* in, std::int64_t count, std::int64_t col,
           std::int64_t width, bool whole);
  /// After the last columns of a row that was given in parts.
  void end_row();
  /// Writes the results one after another, and starts anew.
  void finish(char* out);

  /// Of the results of all.
  static std::size_t bytes(const Plan& plan, std::int64_t cols);
  /// Combines what `finish` gave for consecutive pieces of the rows, one after another, to outputs.
  static void combine(const Plan& plan, std::int64_t cols, const char* pieces, std::int64_t count,
                      std::span<void* const> outputs);

 private:
  const Plan& plan_;
  std::int64_t cols_;
  std::vector<ColumnTree> trees_;
  IntrusivePtr<Storage> memory_;
};

}  // namespace adjoint::kernels::fused
