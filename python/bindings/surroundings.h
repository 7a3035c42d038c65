// What a traced function could see beside its arguments: variables of closures and globals, the
// attributes and entries of what hangs on them. A program is used only while these are what they
// were when it was traced.
#pragma once

#include <map>
#include <string>
#include <unordered_set>
#include <vector>

#include "identity.h"

namespace adjoint::python {

/// The names that code mentions, interned.
class Names {
 public:
  /// Whether it is new.
  bool add(PyObject* name);
  bool contains(PyObject* name) const;
  std::size_t size() const noexcept { return kept_.size(); }
  const std::vector<py::object>& all() const noexcept { return kept_; }

 private:
  std::vector<py::object> kept_;
  std::unordered_set<PyObject*> set_;
};

/// Which entries of the dict of an object or class the function could see.
struct Scope {
  bool whole = false;      // all; otherwise those under mentioned names, and:
  bool dunders = false;    // special methods, which Python calls itself
  bool makes = false;      // those that make objects, too
  bool functions = false;  // functions: what an object of the library's keeps to call it

  bool sees(const Names& names, PyObject* key, PyObject* value) const;
  /// Whether it does whatever the names.
  bool sees_unnamed(PyObject* key, PyObject* value) const;
};

/// A variable, or with a null key the contents of a container.
struct StatePlace {
  py::object where, key;
  bool grown = false;  // what was there before still is
  bool is(const StatePlace& other) const noexcept {
    return where.is(other.where) && key.is(other.key);
  }
};

/// What kind of thing a variable or entry stands in.
enum class ShelfKind : std::uint8_t {
  cell,
  variables,   // of a dict, looked up by name
  dict,        // all its entries, in order
  list,        //
  referents,   // of another container: what its traversal meets
  function,    // its code, defaults and dict
  object,      // its class and dict
  attributes,  // the entries of a dict that a scope sees
  type,        // the same of a class
  slot,
  array
};

/// One variable or entry, or all of a list or deque, as something that can be set.
struct Spot {
  ShelfKind kind;
  py::object where, key;  // no key in cells and sequences
  py::object owner;       // of a slot
  /// A null value: nothing stands there. A sequence is given a tuple.
  void put(PyObject* value) const;
  bool operator<(const Spot& other) const noexcept;  // tells different ones apart
};

/// What the function has put where something else was or nothing, if tensors are in it.
struct LeftValue {
  Spot spot;
  py::object value;
  py::object before = {};  // null for nothing
};

/// The traced tensors in a value: itself, or in a tuple.
void add_traced(PyObject* value, std::vector<py::object>& out);
/// The value with other objects in the place of these.
py::object with_replaced(PyObject* value, const std::map<PyObject*, py::object>& others);

class Surroundings {
 public:
  Surroundings() = default;
  /// Those of a function and of further objects that it gets.
  Surroundings(PyObject* f, const std::vector<PyObject*>& given);
  bool unchanged() const;
  /// Keeps what is seen here, which is held weakly otherwise.
  void hold();
  /// What has been put into these places, as they are `now`; they get back what they held. Told are
  /// tensors that traced ones have `replaced`.
  std::vector<LeftValue> take_back(const Surroundings& now, std::vector<py::object>& replaced);
  /// Where a traced tensor has replaced another, any will do.
  void accept_tensors(const std::vector<LeftValue>& places);
  /// What holds something else by now, other than what was empty.
  std::vector<StatePlace> changes() const;
  /// Watches these no more, nor what is added to those that have grown.
  void forget(const std::vector<StatePlace>& places);
  int traverse(visitproc visit, void* arg) const;

 private:
  friend class Explorer;
  /// One variable, or entry, and what it held; a null value: nothing.
  struct Entry {
    py::object key = {};  // null in cells and lists
    Identity value = {};
    bool watched = true;
    bool any_tensor = false;  // or tuple, as it was
    bool holds(PyObject* now) const;
  };
  struct Shelf {
    using Kind = ShelfKind;
    Kind kind;
    py::object where;
    std::vector<Entry> entries = {};
    Identity owner = {};   // of a slot, or the object itself
    py::object type = {};  // the class of an object, the bases of a class
    Scope scope = {};
    unsigned version = 0;      // of a type
    std::string content = {};  // of an array
    bool grows = false;        // a list: what comes behind its entries does not count

    bool unchanged(const Names& names);
    bool dict_unchanged() const;
    bool list_unchanged() const;
    bool object_unchanged() const;
    bool type_unchanged(const Names& names);
    bool attributes_unchanged(PyObject* dict, const Names& names);
    bool attributes_still_hold(PyObject* dict, const Names& names);
    /// What stands in the place of an entry.
    py::object now(std::size_t i) const;
    Spot spot(std::size_t i) const;
    /// All that a list or deque held, and what it holds now.
    py::object contents() const;
    py::object contents_now() const;
    bool has_places() const noexcept;
    bool has_grown() const;
    /// Watches what was there and not what is added; false if nothing is left to watch.
    bool loosen(bool grown);
    bool is_sequence() const noexcept { return kind == Kind::list || kind == Kind::referents; }
    py::object key_of(const Entry& e) const;
  };

  std::vector<LeftValue> moved_in(const Surroundings& now) const;

  Names names_;
  mutable std::vector<Shelf> shelves_;  // follow what changes without being seen
  std::vector<py::object> held_;
};

/// The dict of an object, or null without one.
py::object dict_of(PyObject* o);
/// What an object implemented in C refers to, other than its own class and dict; empty for what
/// only classes of the user's define.
std::vector<py::object> referents_of(PyObject* o);
/// Shape and elements of a small array whose memory can be read, and the objects if it is of such;
/// false for others.
bool array_content(PyObject* array, std::string& out, std::vector<py::object>& objects);
/// The dict of a class.
PyObject* dict_of_type(PyTypeObject* type) noexcept;
/// Gives a class a number that every change of it takes away.
unsigned version_of(PyTypeObject* type) noexcept;

}  // namespace adjoint::python
