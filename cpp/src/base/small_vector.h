// A vector whose first N elements live inside it; for trivially copyable elements only, which is
// all that shapes, axes and node pointers need.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>
#include <span>
#include <type_traits>

namespace adjoint {

template <class T, std::uint32_t N>
class SmallVector {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  using value_type = T;

  /// Leaves the elements alone: their type may have initial values, which would cost more than they
  /// are worth.
  SmallVector() noexcept {}
  explicit SmallVector(std::size_t n, T value = T{}) { assign(n, value); }
  SmallVector(std::initializer_list<T> items) { append(items.begin(), items.size()); }
  explicit SmallVector(std::span<const T> items) { append(items.data(), items.size()); }
  template <class It>
  SmallVector(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }
  SmallVector(const SmallVector& other) { append(other.data(), other.size()); }
  SmallVector(SmallVector&& other) noexcept { steal(other); }
  SmallVector& operator=(const SmallVector& other) {
    if (this != &other) {
      size_ = 0;
      append(other.data(), other.size());
    }
    return *this;
  }
  SmallVector& operator=(SmallVector&& other) noexcept {
    if (this != &other) {
      drop();
      steal(other);
    }
    return *this;
  }
  ~SmallVector() { drop(); }

  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_[i]; }
  T* begin() noexcept { return data_; }
  T* end() noexcept { return data_ + size_; }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }
  T& back() noexcept { return data_[size_ - 1]; }
  const T& back() const noexcept { return data_[size_ - 1]; }
  operator std::span<const T>() const noexcept { return {data_, size_}; }

  void clear() noexcept { size_ = 0; }
  void push_back(T value) {
    reserve(size_ + 1);
    data_[size_++] = value;
  }
  void pop_back() noexcept { --size_; }
  void append(const T* items, std::size_t n) {
    reserve(size_ + n);
    std::copy_n(items, n, data_ + size_);
    size_ += static_cast<std::uint32_t>(n);
  }
  void assign(std::size_t n, T value) {
    size_ = 0;
    reserve(n);
    std::fill_n(data_, n, value);
    size_ = static_cast<std::uint32_t>(n);
  }
  void resize(std::size_t n, T value = T{}) {
    reserve(n);
    for (std::size_t i = size_; i < n; ++i) data_[i] = value;
    size_ = static_cast<std::uint32_t>(n);
  }
  void insert(std::size_t at, T value) {
    push_back(value);
    std::rotate(data_ + at, data_ + size_ - 1, data_ + size_);
  }
  void erase(std::size_t at) noexcept {
    std::copy(data_ + at + 1, data_ + size_, data_ + at);
    --size_;
  }
  void reserve(std::size_t n) {
    if (n > capacity_) grow(n);
  }
  friend bool operator==(const SmallVector& a, const SmallVector& b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  void grow(std::size_t n) {
    const std::size_t wanted = std::max<std::size_t>(n, 2 * std::size_t{capacity_});
    T* fresh = static_cast<T*>(std::malloc(wanted * sizeof(T)));
    if (!fresh) throw std::bad_alloc();
    std::copy_n(data_, size_, fresh);
    drop();
    data_ = fresh;
    capacity_ = static_cast<std::uint32_t>(wanted);
  }
  void drop() noexcept {
    if (data_ != inline_) std::free(data_);
    data_ = inline_;
    capacity_ = N;
  }
  void steal(SmallVector& other) noexcept {
    size_ = other.size_;
    if (other.data_ == other.inline_) {
      std::copy_n(other.inline_, size_, inline_);
      data_ = inline_;
      capacity_ = N;
    } else {
      data_ = other.data_;
      capacity_ = other.capacity_;
      other.data_ = other.inline_;
      other.capacity_ = N;
    }
    other.size_ = 0;
  }

  T* data_ = inline_;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = N;
  union {
    T inline_[N];
  };
};

/// Extents, axes and other short integer lists.
using Dims = SmallVector<std::int64_t, 6>;

}  // namespace adjoint
