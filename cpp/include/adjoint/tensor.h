// Tensor: the handle through which everything is done. It is as cheap as a pointer; the value
// it holds never changes in place. Assigning to a handle rebinds that handle only.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adjoint/dtype.h"
#include "adjoint/error.h"

namespace adjoint {

struct Node;
struct Leaf;
void release_handle(Node* node) noexcept;
void release_owner(Leaf* leaf) noexcept;

class Tensor {
 public:
  using Shape = std::span<const std::int64_t>;

  /// Holds no value; `defined()` is false.
  constexpr Tensor() noexcept {}  // not defaulted: backward() below has one as default argument
  /// A float64 scalar.
  Tensor(double value);  // NOLINT(google-explicit-constructor): numbers mix with tensors
  Tensor(const Tensor& other) noexcept;
  Tensor(Tensor&& other) noexcept
      : node_(std::exchange(other.node_, nullptr)), leaf_(std::exchange(other.leaf_, nullptr)) {}
  Tensor& operator=(const Tensor& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(node_, other.node_);
    std::swap(leaf_, other.leaf_);
    return *this;
  }
  ~Tensor() {
    if (node_) release_handle(node_);
    if (leaf_) release_owner(leaf_);
  }

  /// Copies `data`, row-major, into a new tensor.
  static Tensor from_data(std::span<const double> data, Shape shape);
  static Tensor from_data(std::span<const float> data, Shape shape);
  static Tensor from_data(std::span<const std::int64_t> data, Shape shape);
  /// A scalar of the given type.
  static Tensor scalar(double value, DType dtype = DType::float64);
  static Tensor scalar(std::int64_t value, DType dtype);

  bool defined() const noexcept { return node_ != nullptr; }
  Shape shape() const noexcept;
  int ndim() const noexcept;
  std::int64_t size() const noexcept;
  DType dtype() const noexcept;

  /// The single element as a double; raises when there is not exactly one.
  double item() const;
  /// The elements in row-major order, converted to double.
  std::vector<double> to_vector() const;

  /// The same value without its history.
  Tensor detach() const;
  bool requires_grad() const noexcept;
  /// Makes this handle a leaf: gradients reach it. Raises for integer and bool tensors.
  Tensor& requires_grad_(bool value = true);
  /// The accumulated gradient; undefined before the first `backward`.
  Tensor grad() const;
  void zero_grad();
  /// Replaces the value and keeps the leaf: the way to update a parameter. All C++ copies of a
  /// handle share the leaf, not the value.
  void rebind(const Tensor& value);

  /// Adds d(this)/d(leaf) to the gradient of every leaf this tensor was computed from.
  void backward(const Tensor& cotangent = Tensor(), bool create_graph = false) const;

  // For the library's own use.
  Node* node() const noexcept { return node_; }
  Leaf* leaf() const noexcept { return leaf_; }
  /// Takes over one handle count and, when there is a leaf, one owner count of it.
  static Tensor adopt(Node* node, Leaf* leaf = nullptr) noexcept {
    Tensor t;
    t.node_ = node;
    t.leaf_ = leaf;
    return t;
  }
  /// Shares the node.
  static Tensor share(Node* node) noexcept;
  /// Gives the handle count to the caller; the leaf is released.
  Node* detach_node() noexcept {
    if (leaf_) release_owner(std::exchange(leaf_, nullptr));
    return std::exchange(node_, nullptr);
  }

 private:
  Node* node_ = nullptr;
  Leaf* leaf_ = nullptr;
};

}  // namespace adjoint
