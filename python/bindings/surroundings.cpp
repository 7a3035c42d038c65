// Comparing what a function could see with what it is now. What does not matter may change: the
// order of attributes, names that no code mentions, the version of a class; it is then noted, so
// that the next comparison is a plain walk again. Nothing here runs code of the user's.
#include "surroundings.h"

#include <frameobject.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "convert.h"

namespace adjoint::python {

namespace {

constexpr Py_ssize_t kMaxContent = 1 << 14;  // bytes of an array that are compared at every call

bool is_traced_tensor(PyObject* o) {
  return o && is_tensor(o) && as_tensor(o)->node->box == Box::trace;
}

// A tuple that holds a tensor is replaced as a tensor is.
bool holds_tensor(PyObject* o, bool (*is)(PyObject*)) {
  if (!o || !PyTuple_Check(o)) return o && is(o);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); ++i)
    if (holds_tensor(PyTuple_GET_ITEM(o, i), is)) return true;
  return false;
}

bool holds_traced(PyObject* o) { return holds_tensor(o, is_traced_tensor); }
bool holds_any(PyObject* o) { return holds_tensor(o, is_tensor); }

PyObject* item_of(PyObject* dict, PyObject* key) {
  PyObject* found = PyDict_GetItemWithError(dict, key);
  if (!found && PyErr_Occurred()) PyErr_Clear();
  return found;
}

bool is_dunder(PyObject* key) {
  const Py_ssize_t n = PyUnicode_GET_LENGTH(key);
  const auto is_bar = [&](Py_ssize_t i) { return PyUnicode_READ_CHAR(key, i) == '_'; };
  return n > 4 && is_bar(0) && is_bar(1) && is_bar(n - 1) && is_bar(n - 2);
}

// What makes an object does not run on one that is there already.
bool makes_objects(PyObject* key) {
  for (const char* name : {"__init__", "__new__", "__post_init__", "__init_subclass__"})
    if (PyUnicode_CompareWithASCIIString(key, name) == 0) return true;
  return false;
}

bool is_code(PyObject* o) {
  return PyCallable_Check(o) || PyObject_TypeCheck(o, &PyStaticMethod_Type) ||
         PyObject_TypeCheck(o, &PyClassMethod_Type) || PyObject_TypeCheck(o, &PyProperty_Type);
}

// The same walk as that of the garbage collector.
std::vector<py::object> traversed(PyObject* o) {
  std::vector<py::object> out;
  PyTypeObject* type = Py_TYPE(o);
  // Classes made by `class` share one traversal; what they are made of in C comes below them.
  static traverseproc of_classes = nullptr;  // no initialiser: importing may let go of the GIL
  if (!of_classes) {
    const py::object made = py::module_::import("functools").attr("partialmethod");
    of_classes = reinterpret_cast<PyTypeObject*>(made.ptr())->tp_traverse;
  }
  while (type && type->tp_traverse == of_classes) type = type->tp_base;
  if (!type || !type->tp_traverse) return out;
  type->tp_traverse(
      o,
      [](PyObject* found, void* to) {
        static_cast<std::vector<py::object>*>(to)->push_back(borrow(found));
        return 0;
      },
      &out);
  return out;
}

// Shape and elements, as `use(const Py_buffer&, const char* elements)` takes them.
template <class F>
bool read_array(PyObject* array, F&& use) {
  Py_buffer view;
  if (PyObject_GetBuffer(array, &view, PyBUF_FULL_RO) != 0) {
    PyErr_Clear();
    return false;
  }
  bool ok = view.len <= kMaxContent;
  if (ok && PyBuffer_IsContiguous(&view, 'C')) {
    ok = use(view, static_cast<const char*>(view.buf));
  } else if (ok) {
    std::string copy(static_cast<std::size_t>(view.len), '\0');
    ok = PyBuffer_ToContiguous(copy.data(), &view, view.len, 'C') == 0;
    if (!ok) PyErr_Clear();
    ok = ok && use(view, copy.data());
  }
  PyBuffer_Release(&view);
  return ok;
}

std::size_t shape_bytes(const Py_buffer& view) {
  return view.shape ? sizeof(Py_ssize_t) * static_cast<std::size_t>(view.ndim) : 0;
}

bool array_has(PyObject* array, const std::string& content) {
  return read_array(array, [&](const Py_buffer& view, const char* elements) {
    const std::size_t head = shape_bytes(view);
    const std::string_view shape(reinterpret_cast<const char*>(view.shape), head);
    const std::string_view values(elements, static_cast<std::size_t>(view.len));
    return content.size() == shape.size() + values.size() && content.starts_with(shape) &&
           content.ends_with(values);
  });
}

}  // namespace

bool array_content(PyObject* array, std::string& out, std::vector<py::object>& objects) {
  return read_array(array, [&](const Py_buffer& view, const char* elements) {
    out.assign(reinterpret_cast<const char*>(view.shape), shape_bytes(view));
    out.append(elements, static_cast<std::size_t>(view.len));
    if (!view.format || std::strcmp(view.format, "O") != 0) return true;
    for (Py_ssize_t at = 0; at < view.len; at += Py_ssize_t{sizeof(PyObject*)}) {
      PyObject* o = nullptr;
      std::memcpy(&o, elements + at, sizeof o);
      objects.push_back(borrow(o));
    }
    return true;
  });
}

py::object dict_of(PyObject* o) {
  if (!Py_TYPE(o)->tp_dictoffset) return {};
  auto dict = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(o, nullptr));
  if (!dict) PyErr_Clear();
  return dict;
}

std::vector<py::object> referents_of(PyObject* o) {
  if (PyGen_Check(o) || PyCoro_CheckExact(o) || PyFrame_Check(o) || PyTraceBack_Check(o)) return {};
  std::vector<py::object> out = traversed(o);
  const py::object dict = dict_of(o);
  std::erase_if(out, [&](const py::object& found) {
    return found.is(dict) || found.ptr() == reinterpret_cast<PyObject*>(Py_TYPE(o));
  });
  return out;
}

PyObject* dict_of_type(PyTypeObject* type) noexcept { return type->tp_dict; }

unsigned version_of(PyTypeObject* type) noexcept {
  static PyObject* const any = PyUnicode_InternFromString("__doc__");
  _PyType_Lookup(type, any);  // a version is given at the first look
  return type->tp_version_tag;
}

// ---- Names and scopes ---------------------------------------------------------------------------

bool Names::add(PyObject* name) {
  PyObject* own = Py_NewRef(name);
  PyUnicode_InternInPlace(&own);
  py::object kept = py::reinterpret_steal<py::object>(own);
  if (!set_.insert(own).second) return false;
  kept_.push_back(std::move(kept));
  return true;
}

bool Names::contains(PyObject* name) const {
  if (!PyUnicode_CheckExact(name)) return false;
  if (PyUnicode_CHECK_INTERNED(name)) return set_.contains(name);
  PyObject* own = Py_NewRef(name);
  PyUnicode_InternInPlace(&own);
  const py::object kept = py::reinterpret_steal<py::object>(own);
  return set_.contains(own);
}

bool Scope::sees(const Names& names, PyObject* key, PyObject* value) const {
  return whole || names.contains(key) || sees_unnamed(key, value);
}

bool Scope::sees_unnamed(PyObject* key, PyObject* value) const {
  if (functions && PyFunction_Check(value)) return true;
  return dunders && PyUnicode_CheckExact(key) && is_dunder(key) && is_code(value) &&
         (makes || !makes_objects(key));
}

// ---- Comparing ----------------------------------------------------------------------------------

bool Surroundings::Entry::holds(PyObject* now) const {
  if (any_tensor) return holds_tensor(now, is_tensor);
  PyObject* was = value.get();
  if (was == now) return !value.is_gone();
  if (!was || !now || Py_TYPE(was) != Py_TYPE(now)) return false;
  return (is_exact_number(was) || is_exact_text(was)) && same_value(was, now);
}

bool Surroundings::Shelf::unchanged(const Names& names) {
  PyObject* at = where.ptr();
  switch (kind) {
    case Kind::cell: return entries[0].holds(PyCell_GET(at));
    case Kind::variables:
      return std::ranges::all_of(
          entries, [&](const Entry& e) { return !e.watched || e.holds(item_of(at, e.key.ptr())); });
    case Kind::dict: return dict_unchanged();
    case Kind::list: return list_unchanged();
    case Kind::referents: {
      const std::vector<py::object> found = referents_of(at);
      return std::ranges::equal(
          entries, found, [](const Entry& e, const py::object& o) { return e.holds(o.ptr()); });
    }
    case Kind::function:
      return entries[0].holds(PyFunction_GetCode(at)) &&
             entries[1].holds(PyFunction_GetDefaults(at)) &&
             entries[2].holds(PyFunction_GetKwDefaults(at)) &&
             entries[3].holds(reinterpret_cast<PyFunctionObject*>(at)->func_dict);
    case Kind::object: return object_unchanged();
    case Kind::attributes: return attributes_unchanged(at, names);
    case Kind::type: return type_unchanged(names);
    case Kind::slot: return !owner.get() || entries[0].holds(now(0).ptr());
    case Kind::array: return array_has(at, content);
  }
  return false;
}

/// The same entries in the same order.
bool Surroundings::Shelf::dict_unchanged() const {
  PyObject* dict = where.ptr();
  if (static_cast<std::size_t>(PyDict_GET_SIZE(dict)) != entries.size()) return false;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  for (const Entry& e : entries)
    if (!PyDict_Next(dict, &at, &key, &value) || key != e.key.ptr() ||
        (e.watched && !e.holds(value)))
      return false;
  return true;
}

bool Surroundings::Shelf::list_unchanged() const {
  PyObject* list = where.ptr();
  const auto size = static_cast<std::size_t>(PyList_GET_SIZE(list));
  if (grows ? size < entries.size() : size != entries.size()) return false;
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (!entries[i].holds(PyList_GET_ITEM(list, static_cast<Py_ssize_t>(i)))) return false;
  return true;
}

// One that is gone is out of sight: what held it has changed, or does not count.
bool Surroundings::Shelf::object_unchanged() const {
  PyObject* o = owner.get();
  return !o || (reinterpret_cast<PyObject*>(Py_TYPE(o)) == type.ptr() &&
                (!where || dict_of(o).is(where)));
}

// Whatever changes an attribute of a class or of its bases gives it another version.
bool Surroundings::Shelf::type_unchanged(const Names& names) {
  auto* own = reinterpret_cast<PyTypeObject*>(where.ptr());
  if (version && own->tp_version_tag == version) return true;
  if (own->tp_mro != type.ptr() || !attributes_unchanged(dict_of_type(own), names)) return false;
  version = version_of(own);
  return true;
}

bool Surroundings::Shelf::attributes_unchanged(PyObject* dict, const Names& names) {
  if (static_cast<std::size_t>(PyDict_GET_SIZE(dict)) != entries.size())
    return attributes_still_hold(dict, names);
  PyObject *key, *value;
  Py_ssize_t at = 0;
  for (const Entry& e : entries) {
    if (!PyDict_Next(dict, &at, &key, &value) || key != e.key.ptr())
      return attributes_still_hold(dict, names);
    if (e.watched ? !e.holds(value) : scope.sees_unnamed(key, value)) return false;
  }
  return true;
}

/// The same for a dict that has other entries, or in another order, by now: those that the scope
/// sees must be those that it saw.
bool Surroundings::Shelf::attributes_still_hold(PyObject* dict, const Names& names) {
  if (scope.whole) return false;
  std::unordered_map<PyObject*, const Entry*> before;
  std::ptrdiff_t missing = 0;
  for (const Entry& e : entries) {
    before.emplace(e.key.ptr(), &e);
    missing += e.watched;
  }
  std::vector<Entry> fresh;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  while (PyDict_Next(dict, &at, &key, &value)) {
    const auto found = before.find(key);
    const bool known = found != before.end() && (found->second->watched || names.contains(key));
    if (!known && scope.sees(names, key, value)) return false;
    fresh.push_back(known ? *found->second : Entry{borrow(key), {}, false});
    if (!fresh.back().watched) continue;
    if (!fresh.back().holds(value)) return false;
    --missing;
  }
  if (missing) return false;
  std::swap(entries, fresh);
  return true;
}

bool Surroundings::unchanged() const {
  for (Shelf& s : shelves_)
    if (!s.unchanged(names_)) return false;
  return true;
}

// ---- What the function itself changes -----------------------------------------------------------

bool Surroundings::Shelf::has_places() const noexcept {
  switch (kind) {
    case Kind::function:
    case Kind::object:
    case Kind::array: return false;
    case Kind::referents:
      return std::strcmp(Py_TYPE(where.ptr())->tp_name, "collections.deque") == 0;
    default: return true;
  }
}

py::object Surroundings::Shelf::now(std::size_t i) const {
  PyObject* at = where.ptr();
  PyObject* found = nullptr;
  switch (kind) {
    case Kind::cell: found = PyCell_GET(at); break;
    case Kind::list:
      found = i < static_cast<std::size_t>(PyList_GET_SIZE(at))
                  ? PyList_GET_ITEM(at, static_cast<Py_ssize_t>(i))
                  : nullptr;
      break;
    case Kind::slot: {
      PyObject* o = owner.get();
      if (!o) return {};
      const py::object kept = borrow(o);
      auto value = py::reinterpret_steal<py::object>(
          Py_TYPE(at)->tp_descr_get(at, o, reinterpret_cast<PyObject*>(Py_TYPE(o))));
      if (!value) PyErr_Clear();
      return value;
    }
    case Kind::referents: {
      auto value =
          py::reinterpret_steal<py::object>(PySequence_GetItem(at, static_cast<Py_ssize_t>(i)));
      if (!value) PyErr_Clear();
      return value;
    }
    case Kind::type:
      found = item_of(dict_of_type(reinterpret_cast<PyTypeObject*>(at)), entries[i].key.ptr());
      break;
    default: found = item_of(at, entries[i].key.ptr());
  }
  return borrow(found);
}

py::object Surroundings::Shelf::key_of(const Entry& e) const {
  return kind == Kind::slot ? borrow(owner.kept()) : e.key;
}

Spot Surroundings::Shelf::spot(std::size_t i) const {
  if (is_sequence()) return {kind, where, {}, {}};
  return {kind, where, kind == Kind::slot ? py::object() : entries[i].key, borrow(owner.get())};
}

py::object Surroundings::Shelf::contents() const {
  py::tuple out(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    PyObject* was = entries[i].value.get();
    out[i] = was ? borrow(was) : py::none();
  }
  return out;
}

py::object Surroundings::Shelf::contents_now() const {
  return py::reinterpret_steal<py::object>(PySequence_Tuple(where.ptr()));
}

bool Spot::operator<(const Spot& other) const noexcept {
  const auto parts = [](const Spot& s) {
    return std::tuple(s.where.ptr(), s.key.ptr(), s.owner.ptr());
  };
  return parts(*this) < parts(other);
}

namespace {

int put_all(PyObject* sequence, PyObject* items) {
  if (PyList_Check(sequence)) return PyList_SetSlice(sequence, 0, PyList_GET_SIZE(sequence), items);
  const py::handle deque(sequence);
  deque.attr("clear")();
  if (items) deque.attr("extend")(py::handle(items));
  return 0;
}

int put_item(PyObject* dict, PyObject* key, PyObject* value) {
  if (PyDict_CheckExact(dict))
    return value ? PyDict_SetItem(dict, key, value) : PyDict_DelItem(dict, key);
  return value ? PyObject_SetItem(dict, key, value) : PyObject_DelItem(dict, key);
}

}  // namespace

void Spot::put(PyObject* value) const {
  PyObject* at = where.ptr();
  int failed = 0;
  switch (kind) {
    case ShelfKind::cell: failed = PyCell_Set(at, value); break;
    case ShelfKind::list:
    case ShelfKind::referents: failed = put_all(at, value); break;
    case ShelfKind::slot: failed = Py_TYPE(at)->tp_descr_set(at, owner.ptr(), value); break;
    case ShelfKind::type:
      failed = value ? PyObject_SetAttr(at, key.ptr(), value) : PyObject_DelAttr(at, key.ptr());
      break;
    default: failed = put_item(at, key.ptr(), value);
  }
  if (failed) throw_python();
}

void add_traced(PyObject* value, std::vector<py::object>& out) {
  if (is_traced_tensor(value)) return out.push_back(borrow(value));
  for (Py_ssize_t i = 0; PyTuple_Check(value) && i < PyTuple_GET_SIZE(value); ++i)
    add_traced(PyTuple_GET_ITEM(value, i), out);
}

py::object with_replaced(PyObject* value, const std::map<PyObject*, py::object>& others) {
  if (const auto it = others.find(value); it != others.end()) return it->second;
  if (!holds_traced(value)) return borrow(value);
  py::tuple items(static_cast<std::size_t>(PyTuple_GET_SIZE(value)));
  for (std::size_t i = 0; i < items.size(); ++i)
    items[i] = with_replaced(PyTuple_GET_ITEM(value, static_cast<Py_ssize_t>(i)), others);
  if (PyTuple_CheckExact(value)) return items;
  const auto make = optional_attribute(reinterpret_cast<PyObject*>(Py_TYPE(value)), "_make");
  return make ? make(items) : py::object(items);
}

void Surroundings::hold() {
  for (const Shelf& s : shelves_)
    for (const Entry& e : s.entries)
      if (PyObject* o = e.value.get()) held_.push_back(borrow(o));
}

std::vector<LeftValue> Surroundings::moved_in(const Surroundings& now) const {
  std::map<Spot, LeftValue> found;
  for (const Shelf& s : now.shelves_) {
    if (!s.has_places()) continue;
    if (s.is_sequence()) {
      const py::object value = s.contents_now();
      if (holds_traced(value.ptr()))
        found.try_emplace(s.spot(0), LeftValue{s.spot(0), value, py::tuple()});
      continue;
    }
    for (std::size_t i = 0; i < s.entries.size(); ++i)
      if (s.entries[i].watched)
        if (const py::object value = s.now(i); holds_any(value.ptr()))
          found.try_emplace(s.spot(i), LeftValue{s.spot(i), value});
  }
  std::map<Spot, bool> known;  // whether it is as it was
  for (const Shelf& s : shelves_) {
    if (!s.has_places()) continue;
    if (s.is_sequence()) {
      const py::object before = s.contents(), value = s.contents_now();
      const bool same = std::ranges::equal(s.entries, py::tuple(value), [](const Entry& e, auto o) {
        return e.value.get() == py::handle(o).ptr();
      });
      known[s.spot(0)] = same;
      if (!same && (holds_any(before.ptr()) || holds_any(value.ptr())))
        found.insert_or_assign(s.spot(0), LeftValue{s.spot(0), value, before});
      continue;
    }
    for (std::size_t i = 0; i < s.entries.size(); ++i) {
      const auto at = found.find(s.spot(i));
      if (at == found.end()) continue;
      at->second.before = borrow(s.entries[i].value.get());
      known[at->first] = !s.entries[i].watched || at->second.before.is(at->second.value);
    }
  }
  std::vector<LeftValue> out;
  for (auto& [spot, left] : found) {
    const auto at = known.find(spot);
    if (at == known.end() ? holds_traced(left.value.ptr()) : !at->second)
      out.push_back(std::move(left));
  }
  return out;
}

namespace {

/// Calls `use` for each tensor in the one value that a traced one replaces in the other.
template <class F>
void each_replaced(const LeftValue& left, const F& use) {
  PyObject *was = left.before.ptr(), *now = left.value.ptr();
  const bool whole = left.spot.kind == ShelfKind::list || left.spot.kind == ShelfKind::referents;
  if (!whole) {
    if (was && holds_any(was) && holds_traced(now)) use(was, std::size_t{0});
    return;
  }
  const Py_ssize_t size = PyTuple_GET_SIZE(now);
  if (PyTuple_GET_SIZE(was) != size) return;
  for (Py_ssize_t i = 0; i < size; ++i)
    if (PyTuple_GET_ITEM(was, i) != PyTuple_GET_ITEM(now, i) &&
        !(holds_any(PyTuple_GET_ITEM(was, i)) && holds_traced(PyTuple_GET_ITEM(now, i))))
      return;  // something has moved
  for (Py_ssize_t i = 0; i < size; ++i)
    if (PyTuple_GET_ITEM(was, i) != PyTuple_GET_ITEM(now, i))
      use(PyTuple_GET_ITEM(was, i), static_cast<std::size_t>(i));
}

void add_tensors(PyObject* o, std::vector<py::object>& out) {
  if (is_tensor(o)) return out.push_back(borrow(o));
  for (Py_ssize_t i = 0; PyTuple_Check(o) && i < PyTuple_GET_SIZE(o); ++i)
    add_tensors(PyTuple_GET_ITEM(o, i), out);
}

}  // namespace

std::vector<LeftValue> Surroundings::take_back(const Surroundings& now,
                                               std::vector<py::object>& replaced) {
  std::vector<LeftValue> out = moved_in(now);
  for (const LeftValue& left : out) {
    each_replaced(left, [&](PyObject* was, std::size_t) { add_tensors(was, replaced); });
    left.spot.put(left.before.ptr());
  }
  return out;
}

void Surroundings::accept_tensors(const std::vector<LeftValue>& places) {
  std::map<Spot, std::set<std::size_t>> spots;
  for (const LeftValue& left : places)
    each_replaced(left, [&](PyObject*, std::size_t i) { spots[left.spot].insert(i); });
  if (spots.empty()) return;
  for (Shelf& s : shelves_)
    for (std::size_t i = 0; s.has_places() && i < s.entries.size(); ++i)
      if (const auto at = spots.find(s.spot(i)); at != spots.end())
        s.entries[i].any_tensor |= at->second.contains(s.is_sequence() ? i : 0);
}

std::vector<StatePlace> Surroundings::changes() const {
  std::vector<StatePlace> out;
  for (Shelf& s : shelves_) {
    if (s.kind == Shelf::Kind::object || s.unchanged(names_)) continue;
    if (s.has_grown()) {
      out.push_back({s.where, {}, true});
      continue;
    }
    const std::size_t before = out.size();
    bool filled = false;  // something that was empty
    for (std::size_t i = 0; s.has_places() && !s.is_sequence() && i < s.entries.size(); ++i) {
      const Entry& e = s.entries[i];
      if (!e.watched || e.holds(s.now(i).ptr())) continue;
      PyObject* was = e.value.get();
      if (was == Py_None || (!was && !e.value.is_gone()))
        filled = true;
      else
        out.push_back({s.where, s.key_of(e)});
    }
    if (out.size() == before && !filled) out.push_back({s.where, {}});
  }
  return out;
}

bool Surroundings::Shelf::has_grown() const {
  if (kind != Kind::list && kind != Kind::dict) return false;
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (!entries[i].holds(now(i).ptr())) return false;
  PyObject* at = where.ptr();
  const Py_ssize_t size = kind == Kind::list ? PyList_GET_SIZE(at) : PyDict_GET_SIZE(at);
  return static_cast<std::size_t>(size) > entries.size();
}

void Surroundings::forget(const std::vector<StatePlace>& places) {
  std::map<std::pair<PyObject*, PyObject*>, bool> grown;  // by place
  for (const StatePlace& p : places) grown.emplace(std::pair(p.where.ptr(), p.key.ptr()), p.grown);
  if (grown.empty()) return;
  std::erase_if(shelves_, [&](Shelf& s) {
    for (Entry& e : s.entries)
      if (const py::object key = s.key_of(e); key && grown.contains({s.where.ptr(), key.ptr()}))
        e.watched = false;
    if (s.kind == Shelf::Kind::slot) return !s.entries[0].watched;
    const auto whole = grown.find({s.where.ptr(), nullptr});
    return whole != grown.end() && !s.loosen(whole->second);
  });
}

bool Surroundings::Shelf::loosen(bool grown) {
  switch (kind) {
    case Kind::list: grows = true; return grown;
    case Kind::dict: kind = Kind::variables; return true;
    case Kind::attributes:
    case Kind::type: scope.whole = false; return true;
    case Kind::variables:
    case Kind::object: return true;
    default: return false;
  }
}

int Surroundings::traverse(visitproc visit, void* arg) const {
  for (const Shelf& s : shelves_) {
    Py_VISIT(s.where.ptr());
    Py_VISIT(s.type.ptr());
    Py_VISIT(s.owner.kept());
    for (const Entry& e : s.entries) {
      Py_VISIT(e.key.ptr());
      Py_VISIT(e.value.kept());
    }
  }
  return 0;
}

}  // namespace adjoint::python
