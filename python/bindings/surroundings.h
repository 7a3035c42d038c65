// What a traced function could see beside its arguments: variables of closures and globals, the
// attributes and entries of what hangs on them. A program is used only while these are what they
// were when it was traced.
#pragma once

#include <string>
#include <vector>

#include "pytensor.h"

namespace adjoint::python {

/// Whether two objects are of one type and equal to the last bit: 0.0 and -0.0, 1 and True differ,
/// in tuples and frozen dataclasses too. Other types may run code of the user's.
bool same_value(PyObject* a, PyObject* b);
/// Whether comparing it by `same_value` runs no code of the user's.
bool is_plain_value(PyObject* o) noexcept;

/// An object by identity. Held weakly where it can be, so that it may be collected; then it matches
/// nothing any more.
class Identity {
 public:
  Identity() = default;
  explicit Identity(PyObject* o);
  bool is(PyObject* o) const noexcept;
  /// The object, borrowed; null when it is gone, or there was none.
  PyObject* get() const noexcept;
  /// What is kept alive, for the cyclic collector.
  PyObject* kept() const noexcept { return kept_.ptr(); }
  bool is_gone() const noexcept { return weak_ && !get(); }

 private:
  py::object kept_;  // the object, or a weak reference to it
  bool weak_ = false;
};

class Surroundings {
 public:
  Surroundings() = default;
  /// Those of a function and of further objects that it gets.
  Surroundings(PyObject* f, const std::vector<PyObject*>& given);
  /// Leaves out what has changed since: the function did it while it was traced.
  void forget_changed();
  /// Tensors that the function has put traced values in the place of: it has a state that no call
  /// of a program would see. They are put back.
  std::vector<py::object> take_back_tensors();
  bool unchanged() const;
  int traverse(visitproc visit, void* arg) const;

 private:
  friend class Explorer;
  /// One variable, or entry, and what it held; a null value: nothing.
  struct Entry {
    py::object key;  // null in cells and lists
    Identity value;
    bool holds(PyObject* now) const;
  };
  struct Shelf {
    enum class Kind : std::uint8_t {
      cell,
      some_entries,
      all_entries,
      list,
      set,
      function,
      type,
      slot,
      array
    };
    Kind kind;
    py::object where;
    std::vector<Entry> entries;
    unsigned version = 0;      // of a type
    std::string content = {};  // of an array
    bool unchanged() const;
    bool all_entries_unchanged() const;
  };
  std::vector<Shelf> shelves_;
};

}  // namespace adjoint::python
