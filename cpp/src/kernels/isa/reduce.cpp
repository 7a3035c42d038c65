// Reductions of one block, and the search for an extreme. A float block is reduced over 32 virtual
// lanes: element i belongs to lane i % 32, a lane is reduced in order, and the lanes meet as a
// tree of halves (lane j with j + 16, then j + 8, ...). Lanes without elements hold a value that
// changes nothing, so the result depends on the elements and their number alone, and every level
// gives the same sums. A product of few elements is taken in order, as its parts may leave the
// range where the whole does not. Integer reductions are associative and leave the order to the
// compiler.
#include "kernels/isa/reduce_vector-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

constexpr std::int64_t kLaneCount = 32;
constexpr std::int64_t kInOrder = 8;  // elements that are multiplied as fast in order

// Each operation works on single values and on vectors alike. `neutral` changes no other value:
// for sums that is -0, since 0 + -0 = 0 and -0 + 0 would lose the sign.

struct Sum {
  static constexpr std::int64_t in_order = 0;
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    return a + b;
  }
  template <class T>
  static constexpr T neutral = static_cast<T>(-0.0);
  template <class T>
  static constexpr T of_nothing = T{0};
  template <class T>
  ADJOINT_INLINE T start(T) {
    return T{0};
  }
};

struct Product {
  static constexpr std::int64_t in_order = kInOrder;
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    return a * b;
  }
  template <class T>
  static constexpr T neutral = T{1};
  template <class T>
  static constexpr T of_nothing = T{1};
  template <class T>
  ADJOINT_INLINE T start(T) {
    return T{1};
  }
};

struct Max : Maximum {
  static constexpr std::int64_t in_order = 0;
  template <class T>
  ADJOINT_INLINE T start(T first) {
    return first;
  }
  template <class T>
  static constexpr T neutral = static_cast<T>(-__builtin_inf());
};

struct Min : Minimum {
  static constexpr std::int64_t in_order = 0;
  template <class T>
  ADJOINT_INLINE T start(T first) {
    return first;
  }
  template <class T>
  static constexpr T neutral = static_cast<T>(__builtin_inf());
};

template <class Op, class T>
T in_order(const Mem<T>* x, std::int64_t n) {
  T out = x[0];
  for (std::int64_t i = 1; i < n; ++i) out = Op::apply(out, static_cast<T>(x[i]));
  return out;
}

template <class Op, class T>
T float_block(const Mem<T>* x, std::int64_t n) {
  using V = typename VectorOf<T>::Type;
  constexpr std::int64_t width = kVectorBytes / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t vectors = kLaneCount / width;
  constexpr T neutral = Op::template neutral<T>;
  if (n == 1) return x[0];
  if (n <= Op::in_order) return in_order<Op, T>(x, n);
  V acc[vectors];
  std::int64_t i = kLaneCount;
  if (n < kLaneCount) {
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < vectors; ++k)
      acc[k] = load_first(x + k * width, n - k * width, neutral);
  } else {
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < vectors; ++k) acc[k] = load_vector<V>(x + k * width);
  }
  for (; i + kLaneCount <= n; i += kLaneCount) {
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < vectors; ++k)
      acc[k] = Op::apply(acc[k], load_vector<V>(x + i + k * width));
  }
  if (i < n) {
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < vectors; ++k)
      acc[k] = Op::apply(acc[k], load_first(x + i + k * width, n - i - k * width, neutral));
  }
#pragma GCC unroll 16
  for (std::int64_t half = vectors / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < half; ++k) acc[k] = Op::apply(acc[k], acc[k + half]);
  return fold<Op>(acc[0]);
}

/// Starts from an element where an operation may see it twice, which spares the vector loop an
/// odd length.
template <class Op, class T>
T integer_block(const Mem<T>* x, std::int64_t n) {
  T acc = Op::template start<T>(x[0]);
  for (std::int64_t i = 0; i < n; ++i) acc = Op::apply(acc, static_cast<T>(x[i]));
  return acc;
}

template <class T>
constexpr bool kIsFloat = static_cast<T>(0.5) != T{0};

template <class Op, class T>
ADJOINT_INLINE T block_of(const Mem<T>* x, std::int64_t n) {
  if constexpr (kIsFloat<T>) {
    return float_block<Op, T>(x, n);
  } else {
    return integer_block<Op, T>(x, n);
  }
}

template <class Op, class T>
void block(const void* in, std::int64_t n, void* partial) {
  const Mem<T>* x = static_cast<const Mem<T>*>(in);
  *static_cast<Mem<T>*>(partial) = block_of<Op, T>(x, n);
}

template <class Op, class T>
void combine(void* acc, const void* in, std::int64_t n) {
  Mem<T>* a = static_cast<Mem<T>*>(acc);
  const Mem<T>* x = static_cast<const Mem<T>*>(in);
  ADJOINT_INDEPENDENT
  for (std::int64_t i = 0; i < n; ++i) a[i] = Op::apply(static_cast<T>(a[i]), static_cast<T>(x[i]));
}

template <class Op, class T>
void identity(void* out) {
  *static_cast<Mem<T>*>(out) = Op::template of_nothing<T>;
}

template <class Op, class T>
consteval ReduceKernel reduction(const char* name, DType d) {
  return {name, d, &block<Op, T>, &combine<Op, T>, &identity<Op, T>, Op::in_order};
}

template <class Op, class T>
consteval ReduceKernel extreme(const char* name, DType d) {
  return {name, d, &block<Op, T>, &combine<Op, T>, nullptr};
}

// Bools are bytes of 0 or 1: any is the maximum, all the minimum.

struct Any : Maximum {
  static constexpr std::int64_t in_order = 0;
  template <class T>
  ADJOINT_INLINE T start(T first) {
    return first;
  }
  template <class T>
  static constexpr T of_nothing = T{0};
};

struct All : Minimum {
  static constexpr std::int64_t in_order = 0;
  template <class T>
  ADJOINT_INLINE T start(T first) {
    return first;
  }
  template <class T>
  static constexpr T of_nothing = T{1};
};

#define ADJOINT_SUM_ROWS(D, T) reduction<Sum, T>("sum", D), reduction<Product, T>("prod", D)
#define ADJOINT_EXTREME_ROWS(D, T) extreme<Max, T>("max", D), extreme<Min, T>("min", D)

constexpr ReduceKernel kRows[] = {
    ADJOINT_SUM_ROWS(DType::int32, std::uint32_t),  // wraps, without overflow of the language
    ADJOINT_SUM_ROWS(DType::int64, std::uint64_t),
    ADJOINT_SUM_ROWS(DType::uint32, std::uint32_t),
    ADJOINT_SUM_ROWS(DType::uint64, std::uint64_t),
    ADJOINT_SUM_ROWS(DType::float32, float),
    ADJOINT_SUM_ROWS(DType::float64, double),
    ADJOINT_EXTREME_ROWS(DType::int8, std::int8_t),
    ADJOINT_EXTREME_ROWS(DType::int16, std::int16_t),
    ADJOINT_EXTREME_ROWS(DType::int32, std::int32_t),
    ADJOINT_EXTREME_ROWS(DType::int64, std::int64_t),
    ADJOINT_EXTREME_ROWS(DType::uint8, std::uint8_t),
    ADJOINT_EXTREME_ROWS(DType::uint16, std::uint16_t),
    ADJOINT_EXTREME_ROWS(DType::uint32, std::uint32_t),
    ADJOINT_EXTREME_ROWS(DType::uint64, std::uint64_t),
    ADJOINT_EXTREME_ROWS(DType::float32, float),
    ADJOINT_EXTREME_ROWS(DType::float64, double),
    reduction<Any, std::uint8_t>("any", DType::boolean),
    reduction<All, std::uint8_t>("all", DType::boolean),
};

/// One pass of block extremes, which vectorises, then a search inside the block that has the first
/// of the best. `Op` is Max or Min, so a block with a nan has a nan for its extreme.
template <class Op, class T>
std::int64_t arg_extreme(const void* in, std::int64_t n) {
  const Mem<T>* x = static_cast<const Mem<T>*>(in);
  T best = x[0];
  std::int64_t best_start = 0;
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t count = n - start < kBlock ? n - start : kBlock;
    const T candidate = block_of<Op, T>(x + start, count);
    if (candidate != candidate) {
      std::int64_t i = start;
      while (x[i] == x[i]) ++i;
      return i;
    }
    if (candidate != best && Op::apply(candidate, best) == candidate) {
      best = candidate;
      best_start = start;
    }
  }
  std::int64_t i = best_start;
  while (x[i] != best) ++i;
  return i;
}

#define ADJOINT_ARG_ROWS(D, T) \
  {"argmax", D, &arg_extreme<Max, T>}, { "argmin", D, &arg_extreme<Min, T> }

constexpr ArgReduceRow kArgRows[] = {
    ADJOINT_ARG_ROWS(DType::boolean, std::uint8_t), ADJOINT_ARG_ROWS(DType::int8, std::int8_t),
    ADJOINT_ARG_ROWS(DType::int16, std::int16_t),   ADJOINT_ARG_ROWS(DType::int32, std::int32_t),
    ADJOINT_ARG_ROWS(DType::int64, std::int64_t),   ADJOINT_ARG_ROWS(DType::uint8, std::uint8_t),
    ADJOINT_ARG_ROWS(DType::uint16, std::uint16_t), ADJOINT_ARG_ROWS(DType::uint32, std::uint32_t),
    ADJOINT_ARG_ROWS(DType::uint64, std::uint64_t), ADJOINT_ARG_ROWS(DType::float32, float),
    ADJOINT_ARG_ROWS(DType::float64, double),
};

}  // namespace

Rows<ReduceKernel> reductions() { return rows_of(kRows); }

Rows<ArgReduceRow> arg_reductions() { return rows_of(kArgRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
