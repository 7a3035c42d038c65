// Conversions between all pairs of dtypes. None can fail: integers keep their low bits, floats
// saturate at the target's bounds and nan becomes 0, and whatever is not zero is true.
#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

template <class I, class F>
ADJOINT_INLINE I saturate_narrow(F x) {
  constexpr std::int32_t low = Traits<I>::is_signed ? -(1 << (Traits<I>::bits - 1)) : 0;
  constexpr std::int32_t high = low + (1 << Traits<I>::bits) - 1;
  F y = x != x ? F{0} : x;
  y = y > F{low} ? y : F{low};
  y = y < F{high} ? y : F{high};
  return static_cast<I>(static_cast<std::int32_t>(y));
}

template <class I, class F>
ADJOINT_INLINE I saturate_signed(F x) {
  constexpr I highest = static_cast<I>(~typename Traits<I>::Unsigned{0} >> 1);
  constexpr F limit = static_cast<F>(typename Traits<I>::Unsigned{1} << (Traits<I>::bits - 1));
  const bool above = x >= limit;
  F y = x > -limit ? x : -limit;
  y = above ? F{0} : y;
  const I inside = static_cast<I>(y);
  return x != x ? I{0} : (above ? highest : inside);
}

// The upper half of the range is moved down by 2^(bits - 1), which is exact, because processors
// convert to signed integers.
template <class U, class F>
ADJOINT_INLINE U saturate_unsigned(F x) {
  using S = typename Traits<U>::Signed;
  constexpr U top = U{1} << (Traits<U>::bits - 1);
  constexpr F half = static_cast<F>(top);
  const F positive = x > F{0} ? x : F{0};  // nan too becomes 0
  const bool upper = positive >= half;
  const bool above = positive >= half + half;
  F y = upper ? positive - half : positive;
  y = above ? F{0} : y;
  const U inside = static_cast<U>(static_cast<S>(y)) ^ (upper ? top : U{0});
  return above ? static_cast<U>(~U{0}) : inside;
}

template <class T>
constexpr bool kIsFloat = static_cast<T>(0.5) != T{0};

template <class R>
struct Convert {
  template <class A>
  ADJOINT_INLINE R apply(A x) {
    if constexpr (!kIsFloat<A> || kIsFloat<R>) {
      return static_cast<R>(x);
    } else if constexpr (sizeof(R) < 4) {
      return saturate_narrow<R>(x);
    } else if constexpr (Traits<R>::is_signed) {
      return saturate_signed<R>(x);
    } else {
      return saturate_unsigned<R>(x);
    }
  }
};

struct NotZero {
  template <class A>
  ADJOINT_INLINE std::uint8_t apply(A x) {
    return x != A{0} ? 1 : 0;
  }
};

template <std::int64_t size>
void copy_bytes(const void* const* in, void* out, std::int64_t n) {
  __builtin_memmove(out, in[0], static_cast<std::size_t>(size * n));
}

template <class A, class R>
consteval TileKernel row(DType from, DType to) {
  if constexpr (kIsFloat<A>) {
    if (from == to) return {"cast", from, to, 1, 1, &copy_bytes<sizeof(A)>, nullptr, nullptr};
    return unary<Convert<R>, A, R>("cast", from, to, 1);
  } else if constexpr (kIsFloat<R>) {
    return unary<Convert<R>, A, R>("cast", from, to, 1);
  } else {
    // Among integers the target's sign never matters, and the source's only when widening.
    using To = typename Traits<R>::Unsigned;
    if constexpr (sizeof(A) == sizeof(R)) {
      return {"cast", from, to, 1, 1, &copy_bytes<sizeof(A)>, nullptr, nullptr};
    } else if constexpr (sizeof(A) > sizeof(R)) {
      return unary<Convert<To>, typename Traits<A>::Unsigned, To>("cast", from, to, 1);
    } else {
      return unary<Convert<To>, A, To>("cast", from, to, 1);
    }
  }
}

template <class A>
consteval TileKernel row_to_bool(DType from) {
  if (from == DType::boolean) return {"cast", from, from, 1, 1, &copy_bytes<1>, nullptr, nullptr};
  return unary<NotZero, typename Traits<A>::Unsigned, std::uint8_t>("cast", from, DType::boolean,
                                                                    1);
}

#define ADJOINT_ROWS(D, A)                                                                       \
  row_to_bool<A>(D), row<A, std::int8_t>(D, DType::int8), row<A, std::int16_t>(D, DType::int16), \
      row<A, std::int32_t>(D, DType::int32), row<A, std::int64_t>(D, DType::int64),              \
      row<A, std::uint8_t>(D, DType::uint8), row<A, std::uint16_t>(D, DType::uint16),            \
      row<A, std::uint32_t>(D, DType::uint32), row<A, std::uint64_t>(D, DType::uint64),          \
      row<A, float>(D, DType::float32), row<A, double>(D, DType::float64)

constexpr TileKernel kRows[] = {
    ADJOINT_ROWS(DType::boolean, std::uint8_t), ADJOINT_ROWS(DType::int8, std::int8_t),
    ADJOINT_ROWS(DType::int16, std::int16_t),   ADJOINT_ROWS(DType::int32, std::int32_t),
    ADJOINT_ROWS(DType::int64, std::int64_t),   ADJOINT_ROWS(DType::uint8, std::uint8_t),
    ADJOINT_ROWS(DType::uint16, std::uint16_t), ADJOINT_ROWS(DType::uint32, std::uint32_t),
    ADJOINT_ROWS(DType::uint64, std::uint64_t), ADJOINT_ROWS(DType::float32, float),
    ADJOINT_ROWS(DType::float64, double),
};
#undef ADJOINT_ROWS

}  // namespace

Rows<TileKernel> cast_tiles() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
