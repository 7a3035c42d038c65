// Finding what a function can see, from its code: names that its code objects mention are looked up
// in closures, globals, instances and their classes. Nothing here runs code of the user's.
#include "surroundings.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace adjoint::python {

namespace {

constexpr std::size_t kMaxObjects = 20000;  // walked for one trace

bool is_number(PyObject* o) noexcept {
  return PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyBool_Check(o) ||
         PyComplex_CheckExact(o);
}
bool is_text(PyObject* o) noexcept { return PyUnicode_CheckExact(o) || PyBytes_CheckExact(o); }

bool is_dataclass(PyObject* o) { return PyObject_HasAttrString(o, "__dataclass_fields__") == 1; }

bool same_fields(PyObject* a, PyObject* b) {
  const py::object fields =
      borrow(reinterpret_cast<PyObject*>(Py_TYPE(a))).attr("__dataclass_fields__");
  for (const py::handle name : fields)
    if (!same_value(borrow(a).attr(name).ptr(), borrow(b).attr(name).ptr())) return false;
  return true;
}

bool same_items(PyObject* a, PyObject* b) {
  if (PyTuple_GET_SIZE(a) != PyTuple_GET_SIZE(b)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(a); ++i)
    if (!same_value(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
  return true;
}

// Equal sets whose equal members are of one type too.
bool same_members(PyObject* a, PyObject* b) {
  if (PySet_GET_SIZE(a) != PySet_GET_SIZE(b)) return false;
  const py::list left(py::reinterpret_borrow<py::object>(a));
  const py::list right(py::reinterpret_borrow<py::object>(b));
  py::dict found;
  for (const py::handle y : right) found[y] = y;
  return std::ranges::all_of(left, [&](py::handle x) {
    const py::object hit = borrow(PyDict_GetItemWithError(found.ptr(), x.ptr()));
    if (!hit && PyErr_Occurred()) throw_python();
    if (hit) return same_value(x.ptr(), hit.ptr());
    // One nan does not equal another, and yet is the same value.
    return std::ranges::any_of(right, [&](py::handle y) { return same_value(x.ptr(), y.ptr()); });
  });
}

constexpr Py_ssize_t kMaxContent = 1 << 14;  // bytes of an array that are compared at every call

/// The elements of a contiguous array of plain numbers; false for others and large ones.
bool array_content(PyObject* array, std::string& out) {
  Py_buffer view;
  if (PyObject_GetBuffer(array, &view, PyBUF_CONTIG_RO) != 0) {
    PyErr_Clear();
    return false;
  }
  const bool small = view.len <= kMaxContent;
  if (small) out.assign(static_cast<const char*>(view.buf), static_cast<std::size_t>(view.len));
  PyBuffer_Release(&view);
  return small;
}

bool same_bits(double a, double b) noexcept {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

}  // namespace

bool is_plain_value(PyObject* o) noexcept {
  return o == Py_None || is_number(o) || is_text(o) || PyType_Check(o) || PyFunction_Check(o);
}

bool same_value(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyFloat_CheckExact(a)) return same_bits(PyFloat_AS_DOUBLE(a), PyFloat_AS_DOUBLE(b));
  if (PyComplex_CheckExact(a)) {
    const Py_complex x = PyComplex_AsCComplex(a);
    const Py_complex y = PyComplex_AsCComplex(b);
    return same_bits(x.real, y.real) && same_bits(x.imag, y.imag);
  }
  if (PyTuple_CheckExact(a)) return same_items(a, b);
  if (PyFrozenSet_CheckExact(a)) return same_members(a, b);
  const py::object left = borrow(a);
  const py::object right = borrow(b);
  const int equal = PyObject_RichCompareBool(a, b, Py_EQ);
  if (equal < 0) throw_python();
  return equal == 1 && (!is_dataclass(a) || same_fields(a, b));
}

// ---- Identity -----------------------------------------------------------------------------------

Identity::Identity(PyObject* o) {
  if (!o) return;
  if (!is_number(o) && !is_text(o) && PyType_SUPPORTS_WEAKREFS(Py_TYPE(o)) && !PyType_Check(o)) {
    kept_ = py::reinterpret_steal<py::object>(PyWeakref_NewRef(o, nullptr));
    weak_ = static_cast<bool>(kept_);
    if (weak_) return;
    PyErr_Clear();
  }
  kept_ = borrow(o);
}

PyObject* Identity::get() const noexcept {
  if (!weak_) return kept_.ptr();
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* o = nullptr;
  if (PyWeakref_GetRef(kept_.ptr(), &o) != 1) return nullptr;
  Py_DECREF(o);  // whoever asks holds it
  return o;
#else
  PyObject* o = PyWeakref_GET_OBJECT(kept_.ptr());
  return o == Py_None ? nullptr : o;
#endif
}

bool Identity::is(PyObject* o) const noexcept { return get() == o; }

// ---- Finding ------------------------------------------------------------------------------------

class Explorer {
 public:
  Explorer(Surroundings& out) : out_(out) {}

  void run(const std::vector<PyObject*>& roots) {
    for (PyObject* o : roots) add(o);
    while (!waiting_.empty() || scanned_ < names_.size()) {
      while (!waiting_.empty()) {
        const py::object next = std::move(waiting_.back());
        waiting_.pop_back();
        visit(next.ptr());
      }
      scan_instances();
    }
  }

 private:
  using Shelf = Surroundings::Shelf;
  struct Instance {
    py::object object;
    py::object dict;        // null without one
    std::size_t shelf = 0;  // of the entries of `dict` that are watched
  };

  void add(PyObject* o) {
    if (!o || o == Py_None || is_number(o) || is_text(o) || is_tensor(o)) return;
    if (seen_.size() >= kMaxObjects || !seen_.insert(o).second) return;
    waiting_.push_back(borrow(o));
    kept_.push_back(borrow(o));  // so that no address is met again for another object
  }

  Shelf& shelf(Shelf::Kind kind, PyObject* where) {
    out_.shelves_.push_back({kind, borrow(where), {}});
    return out_.shelves_.back();
  }

  void visit(PyObject* o) {
    if (PyFunction_Check(o)) return visit_function(o);
    if (PyMethod_Check(o)) {
      add(PyMethod_GET_FUNCTION(o));
      return add(PyMethod_GET_SELF(o));
    }
    if (PyTuple_Check(o)) {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); ++i) add(PyTuple_GET_ITEM(o, i));
      if (PyTuple_CheckExact(o)) return;
    } else if (PyList_Check(o)) {
      visit_list(o);
      if (PyList_CheckExact(o)) return;
    } else if (PyDict_Check(o)) {
      visit_dict(o);
      if (PyDict_CheckExact(o)) return;
    }
    if (PyModule_Check(o)) return visit_module(o);
    if (PyType_Check(o)) return visit_type(reinterpret_cast<PyTypeObject*>(o));
    if (PyAnySet_Check(o)) return visit_set(o);
    if (std::strcmp(Py_TYPE(o)->tp_name, "numpy.ndarray") == 0) return visit_array(o);
    visit_instance(o);
  }

  void visit_function(PyObject* f) {
    Shelf& own = shelf(Shelf::Kind::function, f);
    for (PyObject* part :
         {PyFunction_GetCode(f), PyFunction_GetDefaults(f), PyFunction_GetKwDefaults(f)})
      own.entries.push_back({{}, Identity(part)});
    add(PyFunction_GetDefaults(f));
    add(PyFunction_GetKwDefaults(f));
    if (PyObject* closure = PyFunction_GetClosure(f))
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(closure); ++i) {
        PyObject* cell = PyTuple_GET_ITEM(closure, i);
        PyObject* value = PyCell_GET(cell);
        shelf(Shelf::Kind::cell, cell).entries.push_back({{}, Identity(value)});
        add(value);
      }
    visit_code(PyFunction_GetCode(f),
               is_of_library(PyFunction_GetGlobals(f)) ? nullptr : PyFunction_GetGlobals(f));
  }

  // The names that the code and the functions inside of it mention.
  void visit_code(PyObject* code, PyObject* globals) {
    std::vector<py::object> codes = {borrow(code)};
    while (!codes.empty()) {
      const py::object next = std::move(codes.back());
      codes.pop_back();
      const py::tuple names = next.attr("co_names");
      for (const py::handle name : names) {
        if (globals) visit_global(globals, name.ptr());
        if (name_set_.insert(name.ptr()).second) names_.push_back(borrow(name.ptr()));
      }
      for (const py::handle constant : py::tuple(next.attr("co_consts"))) {
        if (PyCode_Check(constant.ptr())) codes.push_back(borrow(constant.ptr()));
        // `getattr(o, "rate")` mentions a name, too.
        if (PyUnicode_CheckExact(constant.ptr()) && PyUnicode_IsIdentifier(constant.ptr()) == 1 &&
            name_set_.insert(constant.ptr()).second)
          names_.push_back(borrow(constant.ptr()));
      }
    }
  }

  void visit_global(PyObject* globals, PyObject* name) {
    PyObject* value = PyDict_GetItemWithError(globals, name);
    if (PyErr_Occurred()) PyErr_Clear();
    if (!value) return;
    if (!globals_seen_.insert({globals, name}).second) return;
    std::size_t& own = globals_[globals];
    if (!own) {
      shelf(Shelf::Kind::some_entries, globals);
      own = out_.shelves_.size();
    }
    out_.shelves_[own - 1].entries.push_back({borrow(name), Identity(value)});
    add(value);
  }

  // Attributes of a class: whatever changes one gives the class another version.
  void visit_type(PyTypeObject* type) {
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE)) return;
    static PyObject* const any = PyUnicode_InternFromString("__doc__");
    _PyType_Lookup(type, any);  // a version is given at the first look
    shelf(Shelf::Kind::type, reinterpret_cast<PyObject*>(type)).version = type->tp_version_tag;
  }

  void visit_set(PyObject* set) {
    if (PyFrozenSet_CheckExact(set)) return;
    Shelf& own = shelf(Shelf::Kind::set, set);
    const py::list members(py::reinterpret_borrow<py::object>(set));
    for (const py::handle member : members) own.entries.push_back({{}, Identity(member.ptr())});
  }

  // The elements of small arrays, which can change in place.
  void visit_array(PyObject* array) {
    std::string content;
    if (!array_content(array, content)) return;
    Shelf& own = shelf(Shelf::Kind::array, array);
    own.content = std::move(content);
  }

  void visit_list(PyObject* list) {
    Shelf& own = shelf(Shelf::Kind::list, list);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
      own.entries.push_back({{}, Identity(PyList_GET_ITEM(list, i))});
      add(PyList_GET_ITEM(list, i));
    }
  }

  void visit_dict(PyObject* dict) {
    Shelf& own = shelf(Shelf::Kind::all_entries, dict);
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
      own.entries.push_back({borrow(key), Identity(value)});
      add(value);
    }
  }

  // A module of the user's, as `settings.rate` reads it.
  void visit_module(PyObject* module) {
    PyObject* dict = PyModule_GetDict(module);
    if (!is_of_library(dict)) instances_.push_back({borrow(module), borrow(dict)});
  }

  void visit_instance(PyObject* o) {
    for (const char* wrapped : {"adjoint._core.Compiled", "adjoint._core.Transformed"})
      if (std::strcmp(Py_TYPE(o)->tp_name, wrapped) == 0)
        return add(steal(PyObject_GetAttrString(o, "__wrapped__")).ptr());
    if (std::strcmp(Py_TYPE(o)->tp_name, "functools.partial") == 0) {
      for (const char* part : {"func", "args", "keywords"})
        add(steal(PyObject_GetAttrString(o, part)).ptr());
      return;
    }
    if (!(Py_TYPE(o)->tp_flags & Py_TPFLAGS_HEAPTYPE) && !Py_TYPE(o)->tp_dictoffset) return;
    add(reinterpret_cast<PyObject*>(Py_TYPE(o)));
    PyObject* dict = Py_TYPE(o)->tp_dictoffset ? PyObject_GenericGetDict(o, nullptr) : nullptr;
    if (!dict) PyErr_Clear();
    const py::object held = py::reinterpret_steal<py::object>(dict);
    if (dict && is_module(Py_TYPE(o))) visit_dict(dict);
    instances_.push_back({borrow(o), held});
    static const char* const implicit[] = {"__call__", "forward", "__getitem__", "__iter__"};
    for (const char* name : implicit) {
      py::object text = steal(PyUnicode_InternFromString(name));
      visit_class_attribute(Py_TYPE(o), text.ptr());
    }
  }

  // A network's attributes are walked by functions that do not mention their names.
  static bool is_module(PyTypeObject* type) {
    PyObject* mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); ++i)
      if (PyObject_HasAttrString(PyTuple_GET_ITEM(mro, i), "named_parameters") == 1) return true;
    return false;
  }

  // What the names found since the last time are in the instances found so far, and the reverse.
  void scan_instances() {
    const std::size_t names = names_.size();
    const std::size_t instances = instances_.size();
    for (std::size_t k = 0; k < instances; ++k)
      for (std::size_t n = k < scanned_instances_ ? scanned_ : 0; n < names; ++n)
        look_up(k, names_[n].ptr());
    scanned_ = names;
    scanned_instances_ = instances;
  }

  void look_up(std::size_t k, PyObject* name) {
    const Instance at = instances_[k];
    PyObject* value = at.dict ? PyDict_GetItemWithError(at.dict.ptr(), name) : nullptr;
    if (PyErr_Occurred()) PyErr_Clear();
    const bool in_class =
        !PyModule_Check(at.object.ptr()) && visit_class_attribute(Py_TYPE(at.object.ptr()), name);
    if (!at.dict) return look_up_slot(at.object.ptr(), name);
    if (!value && PyModule_Check(at.object.ptr())) return;
    if (in_class) look_up_slot(at.object.ptr(), name);
    if (!instances_[k].shelf) {
      shelf(Shelf::Kind::some_entries, at.dict.ptr());
      instances_[k].shelf = out_.shelves_.size();
    }
    out_.shelves_[instances_[k].shelf - 1].entries.push_back({borrow(name), Identity(value)});
    add(value);
  }

  // An attribute that a class with `__slots__` keeps.
  void look_up_slot(PyObject* o, PyObject* name) {
    PyObject* found = _PyType_Lookup(Py_TYPE(o), name);
    if (!found || !Py_IS_TYPE(found, &PyMemberDescr_Type) ||
        !(Py_TYPE(o)->tp_flags & Py_TPFLAGS_HEAPTYPE))
      return;
    const py::object value = py::reinterpret_steal<py::object>(
        Py_TYPE(found)->tp_descr_get(found, o, reinterpret_cast<PyObject*>(Py_TYPE(o))));
    if (!value) PyErr_Clear();
    Shelf& own = shelf(Shelf::Kind::slot, found);
    own.entries.push_back({{}, Identity(o)});
    own.entries.push_back({{}, Identity(value.ptr())});
    add(value.ptr());
  }

  bool visit_class_attribute(PyTypeObject* type, PyObject* name) {
    PyObject* found = _PyType_Lookup(type, name);
    if (!found) return false;
    if (std::strcmp(Py_TYPE(found)->tp_name, "property") == 0)
      add(steal(PyObject_GetAttrString(found, "fget")).ptr());
    else if (PyFunction_Check(found))
      add(found);
    return true;
  }

  // Whether these are the globals of a module of the standard library or of an installed package.
  bool is_of_library(PyObject* globals) {
    if (const auto known = of_library_.find(globals); known != of_library_.end())
      return known->second;
    PyObject* name = PyDict_GetItemString(globals, "__name__");
    PyObject* file = PyDict_GetItemString(globals, "__file__");
    bool found = false;
    if (name && PyUnicode_Check(name)) {
      std::string_view top = PyUnicode_AsUTF8(name);
      top = top.substr(0, top.find('.'));
      const py::str text{std::string(top)};
      PyObject* standard = PySys_GetObject("stdlib_module_names");
      found = top == "adjoint" || (standard && PySet_Contains(standard, text.ptr()) == 1);
    }
    if (!found && file && PyUnicode_Check(file)) {
      const std::string_view path = PyUnicode_AsUTF8(file);
      found = path.find("site-packages") != path.npos || path.find("dist-packages") != path.npos;
    }
    if (PyErr_Occurred()) PyErr_Clear();
    of_library_.emplace(globals, found);
    return found;
  }

  Surroundings& out_;
  std::vector<py::object> waiting_;
  std::vector<py::object> kept_;
  std::unordered_set<PyObject*> seen_;
  std::vector<py::object> names_;
  std::unordered_set<PyObject*> name_set_;
  std::vector<Instance> instances_;
  std::size_t scanned_ = 0;
  std::size_t scanned_instances_ = 0;
  std::unordered_map<PyObject*, bool> of_library_;
  std::unordered_map<PyObject*, std::size_t> globals_;  // shelf of each, from 1
  std::set<std::pair<PyObject*, PyObject*>> globals_seen_;
};

Surroundings::Surroundings(PyObject* f, const std::vector<PyObject*>& given) {
  std::vector<PyObject*> roots = given;
  roots.push_back(f);
  Explorer(*this).run(roots);
}

// ---- Comparing ----------------------------------------------------------------------------------

bool Surroundings::Entry::holds(PyObject* now) const {
  PyObject* was = value.get();
  if (was == now) return !value.is_gone();
  if (!was || !now || Py_TYPE(was) != Py_TYPE(now)) return false;
  return (is_number(was) || is_text(was)) && same_value(was, now);
}

bool Surroundings::Shelf::unchanged() const {
  PyObject* at = where.ptr();
  switch (kind) {
    case Kind::cell: return entries[0].holds(PyCell_GET(at));
    case Kind::slot: {
      PyObject* o = entries[0].value.get();
      if (!o) return false;
      const py::object now = py::reinterpret_steal<py::object>(
          Py_TYPE(at)->tp_descr_get(at, o, reinterpret_cast<PyObject*>(Py_TYPE(o))));
      if (!now) PyErr_Clear();
      return entries[1].holds(now.ptr());
    }
    case Kind::set: {
      if (static_cast<std::size_t>(PySet_GET_SIZE(at)) != entries.size()) return false;
      Py_ssize_t position = 0;
      PyObject* member;
      Py_hash_t hash;
      for (const Entry& e : entries)
        if (!_PySet_NextEntry(at, &position, &member, &hash) || !e.holds(member)) return false;
      return true;
    }
    case Kind::array: {
      std::string now;
      return array_content(at, now) && now == content;
    }
    case Kind::type: return reinterpret_cast<PyTypeObject*>(at)->tp_version_tag == version;
    case Kind::function:
      return entries[0].holds(PyFunction_GetCode(at)) &&
             entries[1].holds(PyFunction_GetDefaults(at)) &&
             entries[2].holds(PyFunction_GetKwDefaults(at));
    case Kind::list:
      if (static_cast<std::size_t>(PyList_GET_SIZE(at)) != entries.size()) return false;
      for (std::size_t i = 0; i < entries.size(); ++i)
        if (!entries[i].holds(PyList_GET_ITEM(at, static_cast<Py_ssize_t>(i)))) return false;
      return true;
    case Kind::all_entries: return all_entries_unchanged();
    case Kind::some_entries:
      for (const Entry& e : entries) {
        PyObject* now = PyDict_GetItemWithError(at, e.key.ptr());
        if (!now && PyErr_Occurred()) PyErr_Clear();
        if (!e.holds(now)) return false;
      }
      return true;
  }
  return false;
}

/// The same entries in the same order.
bool Surroundings::Shelf::all_entries_unchanged() const {
  PyObject* dict = where.ptr();
  if (static_cast<std::size_t>(PyDict_GET_SIZE(dict)) != entries.size()) return false;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  for (const Entry& e : entries)
    if (!PyDict_Next(dict, &at, &key, &value) || key != e.key.ptr() || !e.holds(value))
      return false;
  return true;
}

bool Surroundings::unchanged() const {
  for (const Shelf& s : shelves_)
    if (!s.unchanged()) return false;
  return true;
}

namespace {

bool is_traced_tensor(PyObject* o) {
  return o && is_tensor(o) && as_tensor(o)->node->box == Box::trace;
}

}  // namespace

std::vector<py::object> Surroundings::take_back_tensors() {
  std::vector<py::object> out;
  for (Shelf& s : shelves_) {
    if (s.kind != Shelf::Kind::some_entries && s.kind != Shelf::Kind::all_entries &&
        s.kind != Shelf::Kind::cell)
      continue;
    for (const Entry& e : s.entries) {
      PyObject* was = e.value.get();
      PyObject* now = s.kind == Shelf::Kind::cell
                          ? PyCell_GET(s.where.ptr())
                          : PyDict_GetItemWithError(s.where.ptr(), e.key.ptr());
      if (!was || was == now || !is_tensor(was) || !is_traced_tensor(now)) continue;
      out.push_back(borrow(was));
      const int failed = s.kind == Shelf::Kind::cell
                             ? PyCell_Set(s.where.ptr(), was)
                             : PyDict_SetItem(s.where.ptr(), e.key.ptr(), was);
      if (failed) throw_python();
    }
  }
  return out;
}

void Surroundings::forget_changed() {
  for (Shelf& s : shelves_)
    if (s.kind == Shelf::Kind::type)  // looking attributes up may have given it its number
      s.version = reinterpret_cast<PyTypeObject*>(s.where.ptr())->tp_version_tag;
  std::erase_if(shelves_, [](Shelf& s) {
    if (s.kind != Shelf::Kind::some_entries && s.kind != Shelf::Kind::all_entries)
      return !s.unchanged();
    if (!s.unchanged()) s.kind = Shelf::Kind::some_entries;
    std::erase_if(s.entries, [&](const Entry& e) {
      PyObject* now = PyDict_GetItemWithError(s.where.ptr(), e.key.ptr());
      if (!now && PyErr_Occurred()) PyErr_Clear();
      return !e.holds(now);
    });
    return s.entries.empty() && s.kind == Shelf::Kind::some_entries;
  });
}

int Surroundings::traverse(visitproc visit, void* arg) const {
  for (const Shelf& s : shelves_) {
    Py_VISIT(s.where.ptr());
    for (const Entry& e : s.entries) {
      Py_VISIT(e.key.ptr());
      Py_VISIT(e.value.kept());
    }
  }
  return 0;
}

}  // namespace adjoint::python
