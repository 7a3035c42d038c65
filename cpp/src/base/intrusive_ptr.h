// Owning pointer to an object that carries its own count: `retain(p)` and `release(p)` are found
// by argument-dependent lookup.
#pragma once

#include <cstddef>
#include <utility>

namespace adjoint {

template <class T>
class IntrusivePtr {
 public:
  IntrusivePtr() noexcept = default;
  IntrusivePtr(std::nullptr_t) noexcept {}
  explicit IntrusivePtr(T* p) noexcept : p_(p) {
    if (p_) retain(p_);
  }
  IntrusivePtr(const IntrusivePtr& other) noexcept : p_(other.p_) {
    if (p_) retain(p_);
  }
  IntrusivePtr(IntrusivePtr&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  ~IntrusivePtr() {
    if (p_) release(p_);
  }
  IntrusivePtr& operator=(IntrusivePtr other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }

  /// Takes over a count that the caller already owns.
  static IntrusivePtr adopt(T* p) noexcept {
    IntrusivePtr r;
    r.p_ = p;
    return r;
  }
  /// Gives the count to the caller.
  T* detach() noexcept { return std::exchange(p_, nullptr); }

  T* get() const noexcept { return p_; }
  T* operator->() const noexcept { return p_; }
  T& operator*() const noexcept { return *p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  friend bool operator==(const IntrusivePtr& a, const IntrusivePtr& b) noexcept {
    return a.p_ == b.p_;
  }

 private:
  T* p_ = nullptr;
};

}  // namespace adjoint
