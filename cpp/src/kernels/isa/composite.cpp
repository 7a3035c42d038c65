// Super-kernels: chains of arithmetic in one loop, composed of the scalar functions of the tile
// kernels. A chain saves the trips of its intermediate values through the first-level cache, and
// its streams are waited for together instead of one after another.
//
// The expression of a super-kernel is also its pattern, by which the planner finds it in programs
// (kernels/compose.cpp). The chains are those of optimizers, normalisations, softmax and the
// derivatives of activations; longer patterns are tried first.
#include "kernels/isa/arithmetic-inl.h"
#include "kernels/isa/math_activation-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

#define ADJOINT_NAMED_UNARY(name, Function) \
  template <class T>                        \
  ADJOINT_INLINE T name(T x) {              \
    return Function::apply(x);              \
  }
#define ADJOINT_NAMED_BINARY(name, Function) \
  template <class T>                         \
  ADJOINT_INLINE T name(T a, T b) {          \
    return Function::apply(a, b);            \
  }
ADJOINT_NAMED_BINARY(add, Add)
ADJOINT_NAMED_BINARY(subtract, Subtract)
ADJOINT_NAMED_BINARY(multiply, Multiply)
ADJOINT_NAMED_BINARY(divide, Divide)
ADJOINT_NAMED_BINARY(mul0, Mul0)
ADJOINT_NAMED_UNARY(square, Square)
ADJOINT_NAMED_UNARY(sqrt, Sqrt)
#undef ADJOINT_NAMED_UNARY
#undef ADJOINT_NAMED_BINARY

using math::sigmoid_slope;
using math::tanh_slope;

// Between the two the library has a bool, here it is the number that the bool becomes.
template <class T>
ADJOINT_INLINE T equal(T a, T b) {
  return a == b ? T{1} : T{0};
}
template <class T>
ADJOINT_INLINE T cast(T x) {
  return x;
}
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// What a pattern says of its operands.
struct Operands {
  bool used[kMaxOperands] = {};
  bool single[kMaxOperands] = {};  // one element for the whole tile
};

consteval Operands operands_of(const char* pattern) {
  Operands o;
  for (const char* p = pattern; *p; ++p) {
    const bool starts = p == pattern || p[-1] == '(' || p[-1] == ' ';
    if (!starts || (*p != 'v' && *p != 's') || !is_digit(p[1])) continue;
    o.used[p[1] - '0'] = true;
    o.single[p[1] - '0'] = *p == 's';
  }
  return o;
}

template <class F, class T>
[[gnu::noinline]] void composite_loop(const void* const* in, void* out, std::int64_t n) {
  constexpr Operands o = operands_of(F::pattern);
  // Operands that are not used stand for any that is: they are never read.
  const auto pointer = [in](int i) {
    return static_cast<const Mem<T>*>(in[operands_of(F::pattern).used[i] ? i : 0]);
  };
  const Mem<T>* const p0 = pointer(0);
  const Mem<T>* const p1 = pointer(1);
  const Mem<T>* const p2 = pointer(2);
  const Mem<T>* const p3 = pointer(3);
  const Mem<T>* const p4 = pointer(4);
  const Mem<T>* const p5 = pointer(5);
  const T s0 = *p0, s1 = *p1, s2 = *p2, s3 = *p3, s4 = *p4, s5 = *p5;
  Mem<T>* result = static_cast<Mem<T>*>(out);
  ADJOINT_INDEPENDENT
  for (std::int64_t i = 0; i < n; ++i) {
    const auto read = [i](const Mem<T>* p, T single, bool is_single) {
      return is_single ? single : static_cast<T>(p[i]);
    };
    result[i] =
        F::apply(read(p0, s0, o.single[0] || !o.used[0]), read(p1, s1, o.single[1] || !o.used[1]),
                 read(p2, s2, o.single[2] || !o.used[2]), read(p3, s3, o.single[3] || !o.used[3]),
                 read(p4, s4, o.single[4] || !o.used[4]), read(p5, s5, o.single[5] || !o.used[5]));
  }
}

// `v` and `s` of the same number are two names of one parameter; the pattern uses one of them.
#define ADJOINT_COMPOSITE(Name, ...)                                                 \
  struct Name {                                                                      \
    static constexpr const char* pattern = #__VA_ARGS__;                             \
    template <class T>                                                               \
    ADJOINT_INLINE T apply(T v0, T v1, T v2, T v3, T v4, T v5) {                     \
      [[maybe_unused]] const T s0 = v0, s1 = v1, s2 = v2, s3 = v3, s4 = v4, s5 = v5; \
      return __VA_ARGS__;                                                            \
    }                                                                                \
  };
#define ADJOINT_COMPOSITES(X)                                                   \
  X(AdamStep, add(v0, divide(multiply(v1, s2), add(divide(sqrt(v3), s4), s5)))) \
  X(SecondMoment, add(multiply(v0, s1), multiply(multiply(v2, v2), s3)))        \
  X(FirstMoment, add(multiply(v0, s1), multiply(v2, s3)))                       \
  X(PullbackSum, mul0(add(mul0(v0, s1), s2), v3))                               \
  X(ShareOfExtreme, add(v0, mul0(multiply(v1, s2), s3)))                        \
  X(PullbackPair, add(mul0(v0, s1), mul0(v2, s3)))                              \
  X(PullbackTanh, mul0(v0, tanh_slope(v1, v2)))                                 \
  X(PullbackSigmoid, mul0(v0, sigmoid_slope(v1, v2)))                           \
  X(PullbackRow, mul0(v0, multiply(v1, s2)))                                    \
  X(AddScaled, add(v0, multiply(v1, s2)))                                       \
  X(SubtractScaled, subtract(v0, multiply(v1, s2)))                             \
  X(AddProduct, add(v0, multiply(v1, v2)))                                      \
  X(AddPullbackScaled, add(v0, mul0(v1, s2)))                                   \
  X(AddPullback, add(v0, mul0(v1, v2)))                                         \
  X(ScaledProduct, multiply(multiply(v0, s1), v2))                              \
  X(ScaledPullback, mul0(mul0(v0, s1), v2))                                     \
  X(PullbackProduct, mul0(mul0(v0, v1), v2))                                    \
  X(Normalised, multiply(subtract(v0, s1), s2))                                 \
  X(ScaledSum, multiply(add(v0, v1), s2))                                       \
  X(Affine, add(multiply(v0, s1), s2))                                          \
  X(HitsExtreme, cast(equal(v0, s1)))
ADJOINT_COMPOSITES(ADJOINT_COMPOSITE)

#define ADJOINT_ROWS(Name, ...)                                  \
  {Name::pattern, DType::float32, &composite_loop<Name, float>}, \
      {Name::pattern, DType::float64, &composite_loop<Name, double>},
constexpr CompositeKernel kRows[] = {ADJOINT_COMPOSITES(ADJOINT_ROWS)};
#undef ADJOINT_ROWS
#undef ADJOINT_COMPOSITES
#undef ADJOINT_COMPOSITE

}  // namespace

Rows<CompositeKernel> composites() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
