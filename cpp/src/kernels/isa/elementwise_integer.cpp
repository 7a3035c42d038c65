// Tile kernels of integers and bools. Arithmetic wraps, and no operation can fail: every case a
// machine or the language leaves open has a result stated here. What depends on the bits alone is
// compiled once per width, on the unsigned type, and serves both signs.
#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {
namespace {

template <class T>
using Wide = typename Traits<T>::Wide;

#define ADJOINT_BINARY(Name, expression)              \
  struct Name {                                       \
    template <class T>                                \
    ADJOINT_INLINE T apply(T first, T second) {       \
      const Wide<T> a = static_cast<Wide<T>>(first);  \
      const Wide<T> b = static_cast<Wide<T>>(second); \
      return static_cast<T>(expression);              \
    }                                                 \
  };
ADJOINT_BINARY(Add, a + b)
ADJOINT_BINARY(Subtract, a - b)
ADJOINT_BINARY(Multiply, a* b)
ADJOINT_BINARY(And, a& b)
ADJOINT_BINARY(Or, a | b)
ADJOINT_BINARY(Xor, a ^ b)
#undef ADJOINT_BINARY

struct Negative {
  template <class T>
  ADJOINT_INLINE T apply(T x) {
    return static_cast<T>(Wide<T>{0} - static_cast<Wide<T>>(x));
  }
};

struct Square {
  template <class T>
  ADJOINT_INLINE T apply(T x) {
    return Multiply::apply(x, x);
  }
};

struct Invert {
  template <class T>
  ADJOINT_INLINE T apply(T x) {
    return static_cast<T>(~static_cast<Wide<T>>(x));
  }
};

struct Not {  // of a bool
  ADJOINT_INLINE std::uint8_t apply(std::uint8_t x) { return x ^ 1; }
};

struct Identity {  // what rounding and the absolute value leave alone
  template <class T>
  ADJOINT_INLINE T apply(T x) {
    return x;
  }
};

struct Abs {  // of the least value: itself
  template <class T>
  ADJOINT_INLINE T apply(T x) {
    return x < T{0} ? Negative::apply(x) : x;
  }
};

struct Sign {
  template <class T>
  ADJOINT_INLINE T apply(T x) {
    return static_cast<T>((x > T{0} ? 1 : 0) - (x < T{0} ? 1 : 0));
  }
};

// Shifts by a count outside [0, bits) move every bit out.

struct LeftShift {
  template <class T>
  ADJOINT_INLINE T apply(T x, T count) {
    const Wide<T> c = static_cast<Wide<T>>(count);
    const Wide<T> shifted = static_cast<Wide<T>>(x) << (c & (8 * sizeof(Wide<T>) - 1));
    return c < Wide<T>{Traits<T>::bits} ? static_cast<T>(shifted) : T{0};
  }
};

struct RightShift {
  template <class T>
  ADJOINT_INLINE T apply(T x, T count) {
    using U = typename Traits<T>::Unsigned;
    const U c = static_cast<U>(count);
    const U last = static_cast<U>(Traits<T>::bits - 1);
    const T shifted = static_cast<T>(x >> (c & last));
    return c <= last ? shifted : (x < T{0} ? static_cast<T>(-1) : T{0});
  }
};

// The exact quotient rounded toward zero, for divisors other than 0 and -1. Narrow types divide in
// floating point, which vectorises: a quotient of b-bit integers that is no integer is at least
// 2^-b, relatively, away from the next one, so that rounding to more than b bits cannot reach it.
ADJOINT_INLINE std::int8_t quotient(std::int8_t a, std::int8_t b) {
  return static_cast<std::int8_t>(static_cast<float>(a) / static_cast<float>(b));
}
ADJOINT_INLINE std::uint8_t quotient(std::uint8_t a, std::uint8_t b) {
  return static_cast<std::uint8_t>(static_cast<float>(a) / static_cast<float>(b));
}
ADJOINT_INLINE std::int16_t quotient(std::int16_t a, std::int16_t b) {
  return static_cast<std::int16_t>(static_cast<float>(a) / static_cast<float>(b));
}
ADJOINT_INLINE std::uint16_t quotient(std::uint16_t a, std::uint16_t b) {
  return static_cast<std::uint16_t>(static_cast<float>(a) / static_cast<float>(b));
}
ADJOINT_INLINE std::int32_t quotient(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<double>(a) / static_cast<double>(b));
}
ADJOINT_INLINE std::uint32_t quotient(std::uint32_t a, std::uint32_t b) { return a / b; }
ADJOINT_INLINE std::int64_t quotient(std::int64_t a, std::int64_t b) { return a / b; }
ADJOINT_INLINE std::uint64_t quotient(std::uint64_t a, std::uint64_t b) { return a / b; }

// Rounds toward minus infinity, as in Python. x // 0 = 0; the least value // -1 wraps to itself.
struct FloorDivide {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    if constexpr (Traits<T>::is_signed) {
      const bool special = (b == T{0}) | (b == static_cast<T>(-1));
      const T divisor = special ? T{1} : b;
      const T q = quotient(a, divisor);
      const T r = Subtract::apply(a, Multiply::apply(q, divisor));
      const bool below = (r != T{0}) & ((r ^ divisor) < 0);
      const T floored = Subtract::apply(q, static_cast<T>(below ? 1 : 0));
      return special ? Negative::apply(And::apply(a, b)) : floored;  // one choice: no branches
    } else {
      const T q = quotient(a, b == T{0} ? T{1} : b);
      return b == T{0} ? T{0} : q;
    }
  }
};

// Takes the divisor's sign, as in Python. x % 0 = 0.
struct Remainder {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T r = Subtract::apply(a, Multiply::apply(FloorDivide::apply(a, b), b));
    return b == T{0} ? T{0} : r;
  }
};

// Takes the dividend's sign, as in C. 0 for division by 0.
struct TruncatedRemainder {
  template <class T>
  ADJOINT_INLINE T apply(T a, T b) {
    const T r = Remainder::apply(a, b);
    if constexpr (Traits<T>::is_signed)
      return ((r != T{0}) & ((a ^ b) < 0)) ? Subtract::apply(r, b) : r;
    return r;
  }
};

// Euclid's algorithm on magnitudes, in the unsigned type. What the type does not hold wraps.
template <class T>
ADJOINT_INLINE typename Traits<T>::Unsigned magnitude(T x) {
  using U = typename Traits<T>::Unsigned;
  return x < T{0} ? static_cast<U>(Negative::apply(x)) : static_cast<U>(x);
}
struct Gcd {
  template <class T>
  ADJOINT_INLINE T apply(T first, T second) {
    auto a = magnitude(first), b = magnitude(second);
    while (b != 0) {
      const auto rest = static_cast<decltype(a)>(a % b);
      a = b;
      b = rest;
    }
    return static_cast<T>(a);
  }
};
struct Lcm {
  template <class T>
  ADJOINT_INLINE T apply(T first, T second) {
    using U = typename Traits<T>::Unsigned;
    const U common = static_cast<U>(Gcd::apply(first, second));
    if (common == 0) return 0;
    const U part = static_cast<U>(magnitude(first) / common);
    return static_cast<T>(static_cast<U>(static_cast<Wide<T>>(part) * magnitude(second)));
  }
};

template <>
inline constexpr bool kIterates<Gcd> = true;
template <>
inline constexpr bool kIterates<Lcm> = true;

// Wraps. A negative exponent gives the integer part of the true power: 0 unless the base is 1 or
// -1 (and 0 for base 0).
struct Pow {
  template <class T>
  ADJOINT_INLINE T apply(T base, T exponent) {
    if (exponent < T{0}) {
      if (base == T{1}) return 1;
      if (base == static_cast<T>(-1)) return exponent & 1 ? static_cast<T>(-1) : T{1};
      return 0;
    }
    using U = typename Traits<T>::Unsigned;
    Wide<T> power = 1, square = static_cast<Wide<T>>(base);
    for (U e = static_cast<U>(exponent); e != 0; e = static_cast<U>(e >> 1)) {
      power = e & 1 ? power * square : power;
      square *= square;
    }
    return static_cast<T>(power);
  }
};

// Not the loops of elementwise-inl.h: the number of steps differs from element to element.
template <class T, bool kOneBase, bool kOneExponent>
[[gnu::noinline]] void pow_loop(const void* const* in, void* out, std::int64_t n) {
  const Mem<T>* a = static_cast<const Mem<T>*>(in[0]);
  const Mem<T>* b = static_cast<const Mem<T>*>(in[1]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  const T base = kOneBase ? a[0] : T{0};
  const T exponent = kOneExponent ? b[0] : T{0};
  for (std::int64_t i = 0; i < n; ++i)
    o[i] = Pow::apply(kOneBase ? base : T{a[i]}, kOneExponent ? exponent : T{b[i]});
}

// One exponent for all elements: square and multiply whole chunks, which vectorises.
template <class T>
void pow_vs(const void* const* in, void* out, std::int64_t n) {
  using U = typename Traits<T>::Unsigned;
  constexpr std::int64_t chunk = 64;
  const T exponent = *static_cast<const Mem<T>*>(in[1]);
  if (exponent < T{0} || n < 4) return pow_loop<T, false, true>(in, out, n);
  const Mem<T>* a = static_cast<const Mem<T>*>(in[0]);
  Mem<T>* o = static_cast<Mem<T>*>(out);
  for (std::int64_t start = 0; start < n; start += chunk) {
    const std::int64_t count = n - start < chunk ? n - start : chunk;
    Wide<T> power[chunk], square[chunk];
    for (std::int64_t i = 0; i < count; ++i) {
      power[i] = 1;
      square[i] = static_cast<Wide<T>>(a[start + i]);
    }
    for (U e = static_cast<U>(exponent); e != 0; e = static_cast<U>(e >> 1)) {
      if (e & 1)
        for (std::int64_t i = 0; i < count; ++i) power[i] *= square[i];
      for (std::int64_t i = 0; i < count; ++i) square[i] *= square[i];
    }
    for (std::int64_t i = 0; i < count; ++i) o[start + i] = static_cast<T>(power[i]);
  }
}

template <class T>
consteval TileKernel pow_row(DType d) {
  return {"pow", d, d, 2, 8, &pow_loop<T, false, false>, &pow_loop<T, true, false>, &pow_vs<T>};
}

#define ADJOINT_ROUNDING(D, U)                                               \
  unary<Identity, U>("floor", D, D, 1), unary<Identity, U>("ceil", D, D, 1), \
      unary<Identity, U>("trunc", D, D, 1), unary<Identity, U>("round", D, D, 1)

// T is the dtype's own type, U the unsigned one of its width.
#define ADJOINT_ROWS(D, T, U)                                                                     \
  commutative<Add, U>("add", D, D, 1), binary<Subtract, U>("subtract", D, D, 1),                  \
      commutative<Multiply, U>("multiply", D, D, 1), unary<Negative, U>("negative", D, D, 1),     \
      unary<Square, U>("square", D, D, 1), unary<Sign, T>("sign", D, D, 1),                       \
      commutative<Maximum, T>("maximum", D, D, 1), commutative<Minimum, T>("minimum", D, D, 1),   \
      ternary<Clip, T, T>("clip", D, 2), binary<FloorDivide, T>("floor_divide", D, D, 8),         \
      binary<Remainder, T>("remainder", D, D, 8), binary<TruncatedRemainder, T>("fmod", D, D, 8), \
      binary<Gcd, T>("gcd", D, D, 60), binary<Lcm, T>("lcm", D, D, 60), pow_row<T>(D),            \
      commutative<And, U>("bitwise_and", D, D, 1), commutative<Or, U>("bitwise_or", D, D, 1),     \
      commutative<Xor, U>("bitwise_xor", D, D, 1), unary<Invert, U>("bitwise_invert", D, D, 1),   \
      binary<LeftShift, U>("bitwise_left_shift", D, D, 1),                                        \
      binary<RightShift, T>("bitwise_right_shift", D, D, 1), ADJOINT_ROUNDING(D, U)

constexpr DType kBoolean = DType::boolean;

constexpr TileKernel kRows[] = {
    ADJOINT_ROWS(DType::int8, std::int8_t, std::uint8_t),
    ADJOINT_ROWS(DType::int16, std::int16_t, std::uint16_t),
    ADJOINT_ROWS(DType::int32, std::int32_t, std::uint32_t),
    ADJOINT_ROWS(DType::int64, std::int64_t, std::uint64_t),
    ADJOINT_ROWS(DType::uint8, std::uint8_t, std::uint8_t),
    ADJOINT_ROWS(DType::uint16, std::uint16_t, std::uint16_t),
    ADJOINT_ROWS(DType::uint32, std::uint32_t, std::uint32_t),
    ADJOINT_ROWS(DType::uint64, std::uint64_t, std::uint64_t),
    unary<Abs, std::int8_t>("abs", DType::int8, DType::int8, 1),
    unary<Abs, std::int16_t>("abs", DType::int16, DType::int16, 1),
    unary<Abs, std::int32_t>("abs", DType::int32, DType::int32, 1),
    unary<Abs, std::int64_t>("abs", DType::int64, DType::int64, 1),
    unary<Identity, std::uint8_t>("abs", DType::uint8, DType::uint8, 1),
    unary<Identity, std::uint16_t>("abs", DType::uint16, DType::uint16, 1),
    unary<Identity, std::uint32_t>("abs", DType::uint32, DType::uint32, 1),
    unary<Identity, std::uint64_t>("abs", DType::uint64, DType::uint64, 1),
    // Bools are bytes of 0 or 1, so that the bitwise functions are the logical ones.
    commutative<Or, std::uint8_t>("add", kBoolean, kBoolean, 1),
    commutative<And, std::uint8_t>("multiply", kBoolean, kBoolean, 1),
    commutative<Or, std::uint8_t>("maximum", kBoolean, kBoolean, 1),
    commutative<And, std::uint8_t>("minimum", kBoolean, kBoolean, 1),
    commutative<And, std::uint8_t>("bitwise_and", kBoolean, kBoolean, 1),
    commutative<Or, std::uint8_t>("bitwise_or", kBoolean, kBoolean, 1),
    commutative<Xor, std::uint8_t>("bitwise_xor", kBoolean, kBoolean, 1),
    unary<Not, std::uint8_t>("bitwise_invert", kBoolean, kBoolean, 1),
    commutative<And, std::uint8_t>("logical_and", kBoolean, kBoolean, 1),
    commutative<Or, std::uint8_t>("logical_or", kBoolean, kBoolean, 1),
    commutative<Xor, std::uint8_t>("logical_xor", kBoolean, kBoolean, 1),
    unary<Not, std::uint8_t>("logical_not", kBoolean, kBoolean, 1),
    ADJOINT_ROUNDING(kBoolean, std::uint8_t),
};
#undef ADJOINT_ROWS
#undef ADJOINT_ROUNDING

}  // namespace

Rows<TileKernel> integer_tiles() { return rows_of(kRows); }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
