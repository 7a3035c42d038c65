// FunctionRecord: what the library offers under a name, in every language. A record gives the name,
// the signature and the documentation; the types of the parameters are those of the C++ function
// that it enters. The Python function and method, its stub, the declaration in the public header
// and the entry in the documents are made from it.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "adjoint/axes.h"
#include "adjoint/index.h"
#include "adjoint/tensor.h"
#include "base/small_vector.h"

namespace adjoint {

struct Op;

enum class ParameterType : std::uint8_t {
  tensor,
  tensors,
  axis,   // one int that counts dimensions
  axes,   // an int, several, or None for all
  shape,  // an int or several
  pairs,  // an int, or two lists of axes
  integer,
  diagonal,  // an int: which diagonal of a matrix, where one too large for 64 bits names none
  integers,  // an int, or a list or a tensor of them whose values are known
  known,     // numbers of any shape whose values are known
  places,    // entries along an axis: an int, several, a slice or a mask
  number,
  flag,
  dtype,
  text,
  order,   // of a norm: a number or a name
  device,  // of the array standard: checked, and not handed on
  copy,    // the same: a value never changes in place, so a view is as good as a copy
};

/// What one parameter of a C++ function takes.
struct ArgumentType {
  ParameterType type;
  bool optional = false;
};

/// The arguments of one call, by the position of the C++ parameter.
class ArgumentReader {
 public:
  /// Neither None nor left out without a default.
  virtual bool given(int i) const = 0;
  virtual Tensor tensor(int i) const = 0;
  virtual std::vector<Tensor> tensors(int i) const = 0;
  virtual std::int64_t integer(int i) const = 0;
  virtual std::vector<std::int64_t> integers(int i) const = 0;
  virtual Known known(int i) const = 0;
  virtual Places places(int i) const = 0;
  virtual double number(int i) const = 0;
  virtual bool flag(int i) const = 0;
  virtual Dims dims(int i) const = 0;
  virtual AxisPairs pairs(int i) const = 0;
  virtual DType dtype(int i) const = 0;
  virtual std::string text(int i) const = 0;
  virtual bool is_text(int i) const = 0;

 protected:
  ~ArgumentReader() = default;
};

namespace detail {

template <class T>
struct ReadArgument;

template <ParameterType Type, auto read_one>
struct ReadAs {
  static constexpr ArgumentType type{Type};
  static auto read(const ArgumentReader& a, int i) { return (a.*read_one)(i); }
};
template <>
struct ReadArgument<Tensor> : ReadAs<ParameterType::tensor, &ArgumentReader::tensor> {};
template <>
struct ReadArgument<std::span<const Tensor>>
    : ReadAs<ParameterType::tensors, &ArgumentReader::tensors> {};
template <>
struct ReadArgument<std::int64_t> : ReadAs<ParameterType::integer, &ArgumentReader::integer> {};
template <>
struct ReadArgument<std::vector<std::int64_t>>
    : ReadAs<ParameterType::integers, &ArgumentReader::integers> {};
template <>
struct ReadArgument<Known> : ReadAs<ParameterType::known, &ArgumentReader::known> {};
template <>
struct ReadArgument<Places> : ReadAs<ParameterType::places, &ArgumentReader::places> {};
template <>
struct ReadArgument<double> : ReadAs<ParameterType::number, &ArgumentReader::number> {};
template <>
struct ReadArgument<bool> : ReadAs<ParameterType::flag, &ArgumentReader::flag> {};
template <>
struct ReadArgument<Tensor::Shape> : ReadAs<ParameterType::shape, &ArgumentReader::dims> {};
template <>
struct ReadArgument<AxisPairs> : ReadAs<ParameterType::pairs, &ArgumentReader::pairs> {};
template <>
struct ReadArgument<DType> : ReadAs<ParameterType::dtype, &ArgumentReader::dtype> {};
template <>
struct ReadArgument<std::string_view> : ReadAs<ParameterType::text, &ArgumentReader::text> {};

template <>
struct ReadArgument<std::variant<double, std::string>> {
  static constexpr ArgumentType type{ParameterType::order};
  static std::variant<double, std::string> read(const ArgumentReader& a, int i) {
    if (a.is_text(i)) return a.text(i);
    return a.number(i);
  }
};
template <>
struct ReadArgument<int> {
  static constexpr ArgumentType type{ParameterType::axis};
  static int read(const ArgumentReader& a, int i) {  // beyond the limits no axis exists either
    constexpr std::int64_t limit = std::numeric_limits<int>::max();
    return static_cast<int>(std::clamp(a.integer(i), -limit, limit));
  }
};
template <>
struct ReadArgument<Axes> {
  static constexpr ArgumentType type{ParameterType::axes, true};
  static Axes read(const ArgumentReader& a, int i) {
    if (!a.given(i)) return {};
    const Dims axes = a.dims(i);
    return Tensor::Shape(axes);
  }
};
template <class T>
struct ReadArgument<std::optional<T>> {
  static constexpr ArgumentType type{ReadArgument<T>::type.type, true};
  static auto read(const ArgumentReader& a, int i)
      -> std::optional<decltype(ReadArgument<T>::read(a, i))> {
    if (!a.given(i)) return std::nullopt;
    return ReadArgument<T>::read(a, i);
  }
};

template <auto F>
struct Entered;

template <class R, class... A, R (*F)(A...)>
struct Entered<F> {
  static constexpr ArgumentType types[sizeof...(A)] = {
      ReadArgument<std::remove_cvref_t<A>>::type...};
  static R enter(const ArgumentReader& reader) {
    return enter(reader, std::index_sequence_for<A...>());
  }

 private:
  template <std::size_t... I>
  static R enter(const ArgumentReader& reader, std::index_sequence<I...>) {
    // In braces, so that arguments are read from the first to the last.
    const std::tuple values{
        ReadArgument<std::remove_cvref_t<A>>::read(reader, static_cast<int>(I))...};
    return F(std::get<I>(values)...);
  }
};

}  // namespace detail

/// A C++ function with its types erased: it gives one tensor, or several.
struct FunctionEntry {
  Tensor (*one)(const ArgumentReader&) = nullptr;
  std::vector<Tensor> (*several)(const ArgumentReader&) = nullptr;
  std::span<const ArgumentType> types = {};
};

template <auto F>
constexpr FunctionEntry entry_of() {
  using Entered = detail::Entered<F>;
  using Result = decltype(Entered::enter(std::declval<const ArgumentReader&>()));
  FunctionEntry out{.types = Entered::types};
  if constexpr (std::same_as<Result, Tensor>) {
    out.one = Entered::enter;
  } else if constexpr (std::same_as<Result, std::vector<Tensor>>) {
    out.several = Entered::enter;
  } else {
    out.several = [](const ArgumentReader& reader) {
      return std::apply([](auto... part) { return std::vector<Tensor>{std::move(part)...}; },
                        Entered::enter(reader));
    };
  }
  return out;
}

struct Parameter {
  enum class Kind : std::uint8_t { positional_only, either, keyword_only, variadic };
  std::string name;
  Kind kind = Kind::either;
  ArgumentType type = {ParameterType::tensor};
  std::string fallback;  // the default as Python writes it; empty: there is none
};

/// How several results are given.
enum class Results : std::uint8_t { one, list, tuple, one_or_tuple, fields };

struct FunctionRecord {
  const char* name;       // "linalg.qr": of the namespace linalg
  const char* signature;  // "(x, /, axis=None, *, keepdims=False)", then maybe " -> list",
                          // " -> tuple", " -> one or tuple" or " -> (Q, R)", a tuple with these
                          // fields
  const char* doc;
  FunctionEntry entry = {};
  bool method = false;     // also a method of Tensor
  bool promotes = false;   // Python numbers take the dtype of the tensors beside them
  int conditions = 0;      // but for so many of the first parameters
  const Op* op = nullptr;  // elementwise: called with its operands

  // Filled in at registration.
  std::vector<Parameter> parameters = {};
  Results results = Results::one;
  std::vector<std::string> fields = {};
};

/// All functions, in registration order.
std::span<const FunctionRecord* const> all_functions();
void register_function(FunctionRecord f);
/// Built-in families do so together.
void register_functions(std::initializer_list<FunctionRecord> functions);
/// Fills in what the signature says, but for types, which the entered function gives.
void read_names(FunctionRecord& f);
/// Fills in what the signature says, and the types. Raises when it does not fit the function that
/// is entered.
void read_signature(FunctionRecord& f);

}  // namespace adjoint
