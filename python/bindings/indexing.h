// What stands between the brackets of x[...], as the library takes it.
#pragma once

#include <array>
#include <vector>

#include "adjoint/index.h"
#include "convert.h"

namespace adjoint::python {

/// The items of a Python key: an integer, slice, ..., None, array or sequence, or a tuple of these.
class Key {
 public:
  explicit Key(PyObject* key);
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;

  IndexKey items() const noexcept {
    return many_.empty() ? IndexKey(few_.data(), count_) : IndexKey(many_);
  }
  /// Whether the key chooses a view: it has no arrays.
  bool basic() const noexcept;

 private:
  std::array<IndexItem, 3> few_;
  std::size_t count_ = 0;
  std::vector<IndexItem> many_;
};

}  // namespace adjoint::python
