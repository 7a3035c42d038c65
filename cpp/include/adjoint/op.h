// Operations of a program's own. What is registered here is an operation like any other: it is
// recorded, differentiated to any order, batched, deferred together with its neighbours if it is
// elementwise, and compiled.
//
// There are three kinds. An elementwise operation is a scalar function with its partial
// derivatives. An array operation computes an array from arrays, or several, and has rules for
// derivatives as a whole. Rules are written in operations on tensors, so that they can be
// differentiated in turn.
//
// Register at start, before other threads compute: where statics are initialised, or in main. An
// operation lives as long as the process.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adjoint/tensor.h"

namespace adjoint {

struct Op;

/// A registered operation: call it with as many tensors as it takes.
class Operation {
 public:
  template <std::convertible_to<Tensor>... T>
  Tensor operator()(const T&... inputs) const {
    const Tensor all[] = {Tensor(inputs)...};
    return apply(all);
  }
  Tensor apply(std::span<const Tensor> inputs) const;

 private:
  friend Operation make_operation(const Op& op);
  explicit Operation(const Op& op) : op_(&op) {}
  const Op* op_;
};

/// A registered operation with several results.
class JointOperation {
 public:
  template <std::convertible_to<Tensor>... T>
  std::vector<Tensor> operator()(const T&... inputs) const {
    const Tensor all[] = {Tensor(inputs)...};
    return apply(all);
  }
  std::vector<Tensor> apply(std::span<const Tensor> inputs) const;

 private:
  friend JointOperation make_joint_operation(const Op& op);
  explicit JointOperation(const Op& op) : op_(&op) {}
  const Op* op_;
};

/// One application, as its derivative rules see it.
struct Application {
  std::span<const Tensor> inputs;
  const Tensor& output;
};

// ---- Elementwise --------------------------------------------------------------------------------

/// A loop over `n` elements of each operand, contiguous and at any alignment; `out` may be one of
/// the operands. It runs on several threads at once, and throws nothing.
using ElementLoop = void (*)(const void* const* in, void* out, std::int64_t n);

/// The loops of a scalar function, made by `element_kernels`: for float32 and float64; for vectors,
/// and with the first or the second of two operands one element for all.
struct ElementKernels {
  int arity = 0;
  ElementLoop loops[2][3] = {};
};

namespace detail {

template <class T>
T load_element(const void* array, std::int64_t i) {
  T x;
  std::memcpy(&x, static_cast<const char*>(array) + i * static_cast<std::int64_t>(sizeof(T)),
              sizeof(T));
  return x;
}

/// Bit k of Single: operand k is one element for all.
template <class F, class T, unsigned Single, std::size_t... K>
void element_loop(const void* const* in, void* out, std::int64_t n, std::index_sequence<K...>) {
  const T single[] = {load_element<T>(in[K], 0)...};
  for (std::int64_t i = 0; i < n; ++i) {
    const T y = F::apply((Single >> K & 1 ? single[K] : load_element<T>(in[K], i))...);
    std::memcpy(static_cast<char*>(out) + i * static_cast<std::int64_t>(sizeof(T)), &y, sizeof(T));
  }
}

template <class F, class T, std::size_t Arity, unsigned Single>
void element_loop_of(const void* const* in, void* out, std::int64_t n) {
  element_loop<F, T, Single>(in, out, n, std::make_index_sequence<Arity>());
}

template <class F, std::size_t Arity>
constexpr ElementKernels element_kernels_of() {
  ElementKernels k{static_cast<int>(Arity),
                   {{element_loop_of<F, float, Arity, 0>}, {element_loop_of<F, double, Arity, 0>}}};
  if constexpr (Arity == 2) {
    k.loops[0][1] = element_loop_of<F, float, 2, 1>;
    k.loops[0][2] = element_loop_of<F, float, 2, 2>;
    k.loops[1][1] = element_loop_of<F, double, 2, 1>;
    k.loops[1][2] = element_loop_of<F, double, 2, 2>;
  }
  return k;
}

}  // namespace detail

/// The kernels of a type with a static `template <class T> T apply(T x)`, of one to three numbers.
/// Compile it with -ffp-contract=off for the same bits in every variant of the loop.
template <class F>
constexpr ElementKernels element_kernels() {
  if constexpr (requires { F::apply(1.0); })
    return detail::element_kernels_of<F, 1>();
  else if constexpr (requires { F::apply(1.0, 1.0); })
    return detail::element_kernels_of<F, 2>();
  else
    return detail::element_kernels_of<F, 3>();
}

/// Operands are promoted and broadcast; integers and bools become float64.
struct ElementwiseOp {
  std::string name;
  std::string signature = "";  // "(x, scale, /)"
  std::string doc = "";
  ElementKernels kernels = {};
  /// d(output)/d(input i), of the output's shape and dtype or one element; undefined where zero.
  /// It may be infinite or nan where the cotangent is 0; a product inside the rule with that
  /// property is written as `mul0`. Without a rule the result is a constant.
  std::function<Tensor(const Application&, int input)> partial = {};
  bool rule_reads_inputs = true;  // values that no rule reads are released early
  bool rule_reads_output = true;
};

// ---- On arrays ----------------------------------------------------------------------------------

/// Shape and dtype of an operand or a result.
struct ArraySpec {
  DType dtype;
  std::vector<std::int64_t> shape;
};

/// The elements of an operand, contiguous and in row-major order.
struct ArrayView {
  DType dtype;
  Tensor::Shape shape;
  std::int64_t size;
  const void* data;
  /// As elements of a C++ type, of which the caller knows that it is that of the dtype.
  template <class T>
  std::span<const T> as() const {
    return {static_cast<const T*>(data), static_cast<std::size_t>(size)};
  }
};

/// The elements of a result, to be written.
struct MutableArrayView {
  DType dtype;
  Tensor::Shape shape;
  std::int64_t size;
  void* data;
  template <class T>
  std::span<T> as() const {
    return {static_cast<T*>(data), static_cast<std::size_t>(size)};
  }
};

/// An application inside `vmap`: inputs that are mapped have the batch as axis 0.
struct BatchedApplication {
  std::span<const Tensor> inputs;
  std::span<const bool> mapped;
  std::int64_t size;  // of the batch
};

struct ArrayOp {
  std::string name;
  std::string signature = "";
  std::string doc = "";
  int arity = 1;
  /// Shape and dtype of the result. Raises for what does not fit, by `adjoint::raise`.
  std::function<ArraySpec(std::span<const ArraySpec> inputs)> infer = {};
  /// Fills the result; depends on the inputs' elements alone. May run on any thread.
  std::function<void(std::span<const ArrayView> inputs, const MutableArrayView& out)> run = {};
  /// The cotangent of input i, of its shape and dtype; undefined where zero. Without a rule the
  /// result is a constant.
  std::function<Tensor(const Application&, int input, const Tensor& cotangent)> vjp = {};
  /// The tangent of the output for these tangents of the inputs, undefined where zero. Needed for
  /// forward mode, and so for `hessian`.
  std::function<Tensor(const Application&, std::span<const Tensor> tangents)> jvp = {};
  /// The results for a batch, which is their axis 0; undefined to leave it to a loop over the
  /// batch, as without a rule.
  std::function<Tensor(const BatchedApplication&)> batch = {};
  bool rule_reads_inputs = true;
  bool rule_reads_output = true;
};

// ---- With several results -----------------------------------------------------------------------

/// One application, as its derivative rules see it.
struct JointApplication {
  std::span<const Tensor> inputs;
  std::span<const Tensor> outputs;
};

/// As ArrayOp, with a list of results, each of its own shape and dtype. Those of integers and bools
/// have no derivative.
struct ArraysOp {
  std::string name;
  std::string signature = "";
  std::string doc = "";
  int arity = 1;
  std::function<std::vector<ArraySpec>(std::span<const ArraySpec> inputs)> infer = {};
  std::function<void(std::span<const ArrayView> inputs, std::span<const MutableArrayView> outs)>
      run = {};
  /// From a cotangent per result, undefined where none came, to one per input, undefined where
  /// zero.
  std::function<std::vector<Tensor>(const JointApplication&, std::span<const Tensor> cotangents)>
      pull = {};
  /// From a tangent per input, undefined where zero, to one per result, the same.
  std::function<std::vector<Tensor>(const JointApplication&, std::span<const Tensor> tangents)>
      push = {};
  bool linear = false;  // jointly in all inputs: its tangents are its results, without a `push`
  /// The results for a batch, which is their axis 0; empty to leave it to a loop over the batch.
  std::function<std::vector<Tensor>(const BatchedApplication&)> batch = {};
  bool rule_reads_inputs = true;
  bool rule_reads_outputs = true;
};

/// Raises when the record is incomplete, or the name is taken; while no tensor has been made, a
/// name that is taken ends the program with the first one.
Operation register_op(ElementwiseOp op);
Operation register_op(ArrayOp op);
JointOperation register_op(ArraysOp op);

}  // namespace adjoint
