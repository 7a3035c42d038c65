// What the derivative rules of several families share.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "adjoint/ops.h"
#include "graph/apply.h"
#include "graph/function.h"
#include "graph/op.h"

namespace adjoint {

/// As it is, or in float64 where it is no floating tensor.
Tensor in_floating(const Tensor& x);
/// Both in the floating dtype of what they give together.
std::pair<Tensor, Tensor> in_one_floating(const Tensor& a, const Tensor& b);

/// In which sums and products of a dtype are taken: in 64 bits for narrow integers, as the array
/// standard asks.
DType summed_dtype(DType t);

/// Integers whose values are known; raises for `op` where a trace or a batch has none yet.
std::vector<std::int64_t> known_integers(const Tensor& x, const char* op);

/// A vector of integers.
Tensor integers_of(const std::vector<std::int64_t>& values);

/// The value without its derivative.
Tensor held(const Tensor& x);

/// Positions of the axes in ascending order; raises for one that is named twice.
Dims chosen_axes(const Axes& axes, int ndim, const char* op);

/// Entries [start, start + count) along an axis, `step` apart.
Tensor entries_along(const Tensor& x, int axis, std::int64_t start, std::int64_t count,
                     std::int64_t step = 1);

/// Whether any entry of a vector and the one after it compare so.
Tensor any_neighbours(const Tensor& x, Tensor (*compare)(const Tensor&, const Tensor&));

/// Sums a value of a broadcast shape back to `shape`: the transpose of broadcasting.
Tensor sum_to_shape(Tensor x, Tensor::Shape shape);

/// low + share (high - low), with what follows where one is infinite or their distance overflows;
/// at the shares 0 and 1 exactly one of the two.
Tensor mix(const Tensor& low, const Tensor& high, const Tensor& share);
/// (a + b) / 2, also where the sum overflows.
Tensor midpoint(const Tensor& a, const Tensor& b);

/// Integers as int64; what lies beyond it becomes the largest one, so that it stays out of range.
Tensor in_int64(const Tensor& x);

/// Zeros of this shape in one element of memory.
Tensor zeros_of(Tensor::Shape shape, DType dtype);

/// The power of two at or below |x|: a unit in which squares neither overflow nor vanish. A step.
Tensor binade(const Tensor& x);

/// Collects the records a file defines, in the order in which they stand there.
class Family {
 public:
  Op& define(Op op) {
    records_.push_back(new Op(op));
    return *records_.back();
  }
  /// A function, whose record stands beside it.
  const FunctionRecord& offer(FunctionRecord f) {
    functions_.push_back(std::move(f));
    return functions_.back();
  }
  void register_all() const {
    for (Op* op : records_) register_op(*op);
    for (const FunctionRecord& f : functions_) register_function(f);
  }

 private:
  std::vector<Op*>& records_ = *new std::vector<Op*>;  // records live as long as the process
  std::deque<FunctionRecord>& functions_ = *new std::deque<FunctionRecord>;
};

}  // namespace adjoint
