// Attributes: what an application carries beside its inputs. An operation that takes any has a
// plain struct for them, with a list of its fields, and its record names that type:
//
//   struct ReduceAttrs {
//     Dims axes;
//     bool keepdims = false;
//     static constexpr auto fields() {
//       return std::tuple(field("axes", &ReduceAttrs::axes),
//                         field("keepdims", &ReduceAttrs::keepdims));
//     }
//   };
//
// `make_attrs(ReduceAttrs{...})` puts one on the heap: counted, shared and never changed. The rules
// of the operation get a pointer to the common base and read `attrs_as<ReduceAttrs>(attrs)`, which
// checks the type. Everybody else compares, hashes and prints attributes without knowing what they
// are: all of that comes from the list of fields. A field that the list leaves out does not
// compile, for two applications that differ in it alone would be taken for one.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "adjoint/dtype.h"
#include "base/intrusive_ptr.h"
#include "base/small_vector.h"
#include "base/wide_int.h"

namespace adjoint {

class Attrs;
class Holdings;
struct Op;

/// Base of what an operation carries beside numbers: a callback, a sub-graph.
class Payload {
 public:
  virtual ~Payload() = default;
  /// Adds what it holds of an embedding language, and of other payloads.
  virtual void list(Holdings&) const {}
  friend void retain(const Payload* p) noexcept {
    p->count_.fetch_add(1, std::memory_order_relaxed);
  }
  friend void release(const Payload* p) noexcept {
    if (p->count_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete p;
  }

 private:
  friend class Holdings;
  mutable std::atomic<std::uint32_t> count_{0};
};

/// A field of the attributes A: an int64, a double, a bool, a DType, a WideInt, Dims, or a payload.
template <class A, class T>
struct Field {
  const char* name;
  T A::* member;
};
template <class A, class T>
constexpr Field<A, T> field(const char* name, T A::* member) {
  return {name, member};
}

/// What the library does with attributes of any type. Two types are equal if their addresses are.
struct AttrsType {
  bool (*equal)(const Attrs&, const Attrs&) noexcept;
  std::size_t (*hash)(const Attrs&) noexcept;
  void (*print)(std::string& to, const Attrs&);
  void (*list)(Holdings& to, const Attrs&);  // null where no field is a payload
  void (*destroy)(const Attrs*) noexcept;
  std::string (*names)();  // "(axes, keepdims)"
};

/// The attributes of an application, of a type that its operation knows.
class Attrs {
 public:
  Attrs(const Attrs&) = delete;
  Attrs& operator=(const Attrs&) = delete;

  const AttrsType& type() const noexcept { return *type_; }
  /// Of one type and equal in every field: numbers to the bit, payloads by identity.
  friend bool operator==(const Attrs& a, const Attrs& b) noexcept {
    return a.type_ == b.type_ && a.type_->equal(a, b);
  }
  std::size_t hash() const noexcept { return type_->hash(*this); }
  bool has_payload() const noexcept { return type_->list; }

  friend void retain(const Attrs* a) noexcept { a->count_.fetch_add(1, std::memory_order_relaxed); }
  friend void release(const Attrs* a) noexcept {
    if (a->count_.fetch_sub(1, std::memory_order_acq_rel) == 1) a->type_->destroy(a);
  }

 protected:
  explicit Attrs(const AttrsType& type) noexcept : type_(&type) {}
  ~Attrs() = default;

 private:
  friend class Holdings;
  const AttrsType* type_;
  mutable std::atomic<std::uint32_t> count_{1};  // of who makes it
};
using AttrsPtr = IntrusivePtr<const Attrs>;

/// " axes=[0, 1] keepdims=true": flags that are not set and payloads are left out.
std::string to_string(const Attrs& attrs);

/// Raises where the attributes of an application are not what is expected: an error of the library.
[[noreturn]] void raise_wrong_attrs(std::string_view op, const AttrsType* expected,
                                    const Attrs* given);

// -------------------------------------------------------------------- made from a list of fields

/// Attributes of type A on the heap.
template <class A>
struct AttrsOf final : Attrs {
  explicit AttrsOf(const A& fields);
  explicit AttrsOf(A&& fields);
  const A value;
};

namespace field_list {

template <class T>
inline constexpr bool kIsPayload = false;
template <class T>
inline constexpr bool kIsPayload<IntrusivePtr<T>> = true;

/// Stands for a value of any type.
struct Anything {
  template <class T>
  operator T() const;
};
template <class A, class... T>
concept MadeFrom = requires { A{T{}...}; };
/// Whether the aggregate A has as many members as the list of its fields.
template <class A, class... T>
consteval bool are_complete(std::tuple<T...>) {
  return MadeFrom<A, std::conditional_t<true, Anything, T>...> &&
         !MadeFrom<A, std::conditional_t<true, Anything, T>..., Anything>;
}

/// Calls f(field) for each field of A.
template <class A, class F>
constexpr void for_each(F&& f) {
  std::apply([&](const auto&... each) { (f(each), ...); }, A::fields());
}
/// Whether f(field) holds for each field of A.
template <class A, class F>
constexpr bool all_of(F&& f) {
  return std::apply([&](const auto&... each) { return (f(each) && ...); }, A::fields());
}

template <class T>
bool equal(const T& a, const T& b) noexcept {
  if constexpr (std::is_same_v<T, double>)
    return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
  else
    return a == b;
}

inline void mix(std::size_t& h, std::uint64_t v) noexcept {
  h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
}
template <class T>
void hash(std::size_t& h, const T& v) noexcept {
  if constexpr (std::is_same_v<T, double>) {
    mix(h, std::bit_cast<std::uint64_t>(v));
  } else if constexpr (std::is_same_v<T, Dims>) {
    for (const std::int64_t i : v) mix(h, static_cast<std::uint64_t>(i));
    mix(h, v.size());
  } else if constexpr (std::is_same_v<T, WideInt>) {
    mix(h, static_cast<std::uint64_t>(v));
    mix(h, static_cast<std::uint64_t>(v >> 64));
  } else if constexpr (kIsPayload<T>) {
    mix(h, reinterpret_cast<std::uintptr_t>(v.get()));
  } else {
    mix(h, static_cast<std::uint64_t>(v));
  }
}

void print(std::string& to, const char* name, bool v);
void print(std::string& to, const char* name, std::int64_t v);
void print(std::string& to, const char* name, double v);
void print(std::string& to, const char* name, WideInt v);
void print(std::string& to, const char* name, DType v);
void print(std::string& to, const char* name, const Dims& v);
template <class T>
void print(std::string&, const char*, const IntrusivePtr<T>&) {}

void list_payload(Holdings& to, const Payload* payload);
template <class T>
void list(Holdings& to, const T& v) {
  if constexpr (kIsPayload<T>) list_payload(to, v.get());
}

/// The members of AttrsType for A.
template <class A>
struct Made {
  static_assert(std::is_aggregate_v<A>, "attributes are a plain struct");
  static_assert(are_complete<A>(A::fields()), "fields() must list every member");

  static const A& of(const Attrs& a) noexcept { return static_cast<const AttrsOf<A>&>(a).value; }

  static bool equal(const Attrs& a, const Attrs& b) noexcept {
    return all_of<A>(
        [&](auto f) { return field_list::equal(of(a).*(f.member), of(b).*(f.member)); });
  }
  static std::size_t hash(const Attrs& a) noexcept {
    std::size_t h = 0;
    for_each<A>([&](auto f) { field_list::hash(h, of(a).*(f.member)); });
    return h;
  }
  static void print(std::string& to, const Attrs& a) {
    for_each<A>([&](auto f) { field_list::print(to, f.name, of(a).*(f.member)); });
  }
  static void list(Holdings& to, const Attrs& a) {
    for_each<A>([&](auto f) { field_list::list(to, of(a).*(f.member)); });
  }
  static void destroy(const Attrs* a) noexcept { delete static_cast<const AttrsOf<A>*>(a); }
  static std::string names() {
    std::string out;
    for_each<A>([&](auto f) { out.append(out.empty() ? "(" : ", ").append(f.name); });
    return out + ')';
  }
  static constexpr bool kHasPayload = !all_of<A>([](auto f) {
    return !kIsPayload<std::remove_cvref_t<decltype(std::declval<A>().*(f.member))>>;
  });
};

template <class A>
inline constexpr AttrsType kType = {
    Made<A>::equal,   Made<A>::hash, Made<A>::print, Made<A>::kHasPayload ? Made<A>::list : nullptr,
    Made<A>::destroy, Made<A>::names};

}  // namespace field_list

/// For the record of an operation whose attributes are an A.
template <class A>
constexpr const AttrsType* attrs_type() noexcept {
  return &field_list::kType<A>;
}

template <class A>
AttrsOf<A>::AttrsOf(const A& fields) : Attrs(*attrs_type<A>()), value(fields) {}
template <class A>
AttrsOf<A>::AttrsOf(A&& fields) : Attrs(*attrs_type<A>()), value(std::move(fields)) {}

template <class A>
AttrsPtr make_attrs(A&& fields) {
  return AttrsPtr::adopt(new AttrsOf<std::remove_cvref_t<A>>(std::forward<A>(fields)));
}

/// The attributes of an application whose operation has them of type A.
template <class A>
const A& attrs_as(const Attrs* attrs) {
  if (!attrs || &attrs->type() != attrs_type<A>()) [[unlikely]]
    raise_wrong_attrs("attributes", attrs_type<A>(), attrs);
  return static_cast<const AttrsOf<A>*>(attrs)->value;
}

}  // namespace adjoint
