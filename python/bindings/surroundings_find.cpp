// Finding what a function can see, from its code. One rule: of every object in sight, the entries
// of its own dict and of those of its classes that stand under a mentioned name, or that Python
// itself calls, are watched and in sight themselves. Nothing here runs code of the user's.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "surroundings.h"

namespace adjoint::python {

namespace {

constexpr std::size_t kMaxObjects = 20000;  // walked for one trace

bool has_name(PyTypeObject* type, std::string_view name) { return type->tp_name == name; }

// An array of plain memory whose way to give it out is not a user's.
bool is_array(PyObject* o) {
  for (PyTypeObject* t = Py_TYPE(o); t; t = t->tp_base)
    if (has_name(t, "numpy.ndarray") || has_name(t, "array.array") || has_name(t, "bytearray") ||
        has_name(t, "memoryview"))
      return Py_TYPE(o)->tp_as_buffer && t->tp_as_buffer &&
             Py_TYPE(o)->tp_as_buffer->bf_getbuffer == t->tp_as_buffer->bf_getbuffer;
  return false;
}

PyObject* item_at(PyObject* dict, const char* name) {
  PyObject* found = PyDict_GetItemString(dict, name);
  if (PyErr_Occurred()) PyErr_Clear();
  return found;
}

}  // namespace

class Explorer {
 public:
  explicit Explorer(Surroundings& out) : out_(out), names_(out.names_) {
    // What the library's own classes call: nothing else in these is looked into.
    for (const char* name : {"__call__", "__getitem__", "__iter__", "__wrapped__"})
      mention(steal(PyUnicode_InternFromString(name)).ptr());
  }

  void run(const std::vector<PyObject*>& roots) {
    for (PyObject* o : roots) add(o);
    while (!waiting_.empty()) {
      const py::object next = std::move(waiting_.back());
      waiting_.pop_back();
      visit(next.ptr());
    }
    for (const Space& s : spaces_) watch(s);
    for (const auto& [globals, names] : globals_) watch_variables(globals, names);
    if (!tensor_names_) return;
    const py::object name =
        borrow(reinterpret_cast<PyObject*>(tensor_type)).attr("__dict__")["name"];
    for (const py::object& tensor : tensors_) see(Slot{tensor, name});
  }

 private:
  using Shelf = Surroundings::Shelf;
  using Kind = Shelf::Kind;
  using Entry = Surroundings::Entry;
  /// Attributes of an object or a class.
  struct Space {
    py::object owner;  // a class; null for others
    py::object dict;
    Scope scope;
    bool library = false;
  };
  struct Slot {
    py::object owner, descriptor;
  };
  /// What a name would be, once it is mentioned.
  struct Pending {
    std::vector<std::size_t> spaces;
    std::vector<Slot> slots;
  };

  void add(PyObject* o) {
    if (!o || o == Py_None || is_exact_number(o)) return;
    if (is_exact_text(o)) return mention_text(o);
    if (is_tensor(o)) {
      tensors_.insert(borrow(o));
      if (!as_tensor(o)->dict) return;
    }
    if (seen_.size() >= kMaxObjects || !seen_.insert(o).second) return;
    waiting_.push_back(borrow(o));
    kept_.push_back(borrow(o));  // so that no address is met again for another object
  }

  static Shelf shelf(Kind kind, PyObject* where) { return {.kind = kind, .where = borrow(where)}; }
  void put(Shelf&& shelf) { out_.shelves_.push_back(std::move(shelf)); }

  // ---- Names ------------------------------------------------------------------------------------

  // A string in sight may be a name: `getattr(o, "rate")`.
  void mention_text(PyObject* text) {
    if (PyUnicode_CheckExact(text) && PyUnicode_IsIdentifier(text) == 1) mention(text);
  }

  void mention(PyObject* name) {
    if (!names_.add(name)) return;
    const auto at = pending_.find(names_.all().back().ptr());
    if (at == pending_.end()) return;
    const Pending met = std::move(at->second);
    pending_.erase(at);
    for (const std::size_t space : met.spaces) add(item(spaces_[space].dict, name));
    for (const Slot& s : met.slots) see(s);
  }

  // A mention by code of the user's of what reaches attributes without their names.
  void mention_by_user(PyObject* name) {
    mention(name);
    const auto is = [&](const char* text) {
      return PyUnicode_CompareWithASCIIString(name, text) == 0;
    };
    tensor_names_ |= is("name");
    if (is("type") || is("__class__"))
      for (const char* made : {"__init__", "__new__", "__post_init__"})
        mention(steal(PyUnicode_InternFromString(made)).ptr());
    if (whole_ || !(is("vars") || is("__dict__"))) return;
    whole_ = true;
    for (Space& s : spaces_)
      if (!s.library) see_whole(s);
  }

  static PyObject* item(const py::object& dict, PyObject* name) {
    PyObject* found = PyDict_GetItemWithError(dict.ptr(), name);
    if (PyErr_Occurred()) PyErr_Clear();
    return found;
  }

  // ---- Objects ----------------------------------------------------------------------------------

  void visit(PyObject* o) {
    if (is_tensor(o)) return add_space({{}, borrow(as_tensor(o)->dict), {}});
    if (PyFunction_Check(o)) return visit_function(o);
    if (PyModule_Check(o)) return visit_module(o);
    if (PyType_Check(o)) {
      visit_type(reinterpret_cast<PyTypeObject*>(o), true);
      return visit_type(Py_TYPE(o), false);
    }
    visit_contents(o);
    visit_instance(o);
  }

  void visit_contents(PyObject* o) {
    if (PyTuple_Check(o)) {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); ++i) add(PyTuple_GET_ITEM(o, i));
    } else if (PyList_Check(o)) {
      visit_list(o);
    } else if (PyDict_Check(o)) {
      visit_dict(o);
      if (!PyDict_CheckExact(o)) visit_referents(o);
    } else if (is_array(o)) {
      visit_array(o);
    } else if (PyWeakref_Check(o)) {
      add(Identity::referent(o));
    } else if (std::string_view(Py_TYPE(o)->tp_name).starts_with("adjoint.")) {
      if (PyObject_HasAttrString(o, "__wrapped__") == 1)
        add(steal(PyObject_GetAttrString(o, "__wrapped__")).ptr());
    } else {
      visit_referents(o);
    }
  }

  // A container, or what stands before something else: methods, static ones, properties, partial
  // functions, views. Where it can change, its contents are watched.
  void visit_referents(PyObject* o) {
    const std::vector<py::object> found = referents_of(o);
    for (const py::object& r : found) add(r.ptr());
    bool changes = PyAnySet_Check(o) && !PyFrozenSet_Check(o);
    for (PyTypeObject* t = Py_TYPE(o); t; t = t->tp_base)
      changes |= std::string_view(t->tp_name).starts_with("collections.");
    if (!changes) return;
    Shelf own = shelf(Kind::referents, o);
    for (const py::object& r : found) own.entries.push_back({.value = Identity(r.ptr())});
    put(std::move(own));
  }

  void visit_list(PyObject* list) {
    Shelf own = shelf(Kind::list, list);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
      own.entries.push_back({.value = Identity(PyList_GET_ITEM(list, i))});
      add(PyList_GET_ITEM(list, i));
    }
    put(std::move(own));
  }

  void visit_dict(PyObject* dict) {
    Shelf own = shelf(Kind::dict, dict);
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
      own.entries.push_back({borrow(key), Identity(value)});
      add(key);
      add(value);
    }
    put(std::move(own));
  }

  // The elements of small arrays, which can change in place. Objects among them are kept, so that
  // their addresses stay theirs.
  void visit_array(PyObject* array) {
    Shelf own = shelf(Kind::array, array);
    std::vector<py::object> objects;
    if (!array_content(array, own.content, objects)) return;
    for (const py::object& o : objects) {
      add(o.ptr());
      own.entries.push_back({.key = o});
    }
    put(std::move(own));
  }

  void visit_function(PyObject* f) {
    PyObject* dict = reinterpret_cast<PyFunctionObject*>(f)->func_dict;
    Shelf own = shelf(Kind::function, f);
    for (PyObject* part :
         {PyFunction_GetCode(f), PyFunction_GetDefaults(f), PyFunction_GetKwDefaults(f), dict})
      own.entries.push_back({.value = Identity(part)});
    put(std::move(own));
    if (dict) add_space({{}, borrow(dict), {}});
    add(PyFunction_GetDefaults(f));
    add(PyFunction_GetKwDefaults(f));
    if (PyObject* closure = PyFunction_GetClosure(f))
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(closure); ++i) {
        PyObject* cell = PyTuple_GET_ITEM(closure, i);
        PyObject* value = PyCell_GET(cell);
        Shelf variable = shelf(Kind::cell, cell);
        variable.entries.push_back({.value = Identity(value)});
        put(std::move(variable));
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
      for (const py::handle name : py::tuple(next.attr("co_names"))) {
        if (globals) visit_global(globals, name.ptr());
        globals ? mention_by_user(name.ptr()) : mention(name.ptr());
      }
      for (const py::handle constant : py::tuple(next.attr("co_consts"))) {
        if (PyCode_Check(constant.ptr()))
          codes.push_back(borrow(constant.ptr()));
        else
          add(constant.ptr());
      }
    }
  }

  void visit_global(PyObject* globals, PyObject* name) {
    if (globals_[borrow(globals)].add(name)) add(item(borrow(globals), name));
  }

  // A module of the user's, as `settings.rate` reads it.
  void visit_module(PyObject* module) {
    PyObject* dict = PyModule_GetDict(module);
    if (!is_of_library(dict)) add_space({{}, borrow(dict), {}});
  }

  void visit_instance(PyObject* o) {
    PyTypeObject* type = Py_TYPE(o);
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) && !type->tp_dictoffset) return;
    visit_type(type, false);
    const py::object dict = dict_of(o);
    Shelf own = shelf(Kind::object, dict.ptr());
    own.owner = Identity(o);
    own.type = borrow(reinterpret_cast<PyObject*>(type));
    put(std::move(own));
    // A network's attributes are walked by functions that do not mention their names.
    const Class& of = class_of(type);
    if (dict)
      add_space({{}, dict, {.whole = of.is_module, .functions = is_of_library_class(type)}});
    for (const py::object& descriptor : of.slots) {
      Slot slot{borrow(o), descriptor};
      const py::object name = descriptor.attr("__name__");
      if (of.is_module || names_.contains(name.ptr()))
        see(slot);
      else
        pending(name.ptr()).slots.push_back(std::move(slot));
    }
  }

  // ---- Classes ----------------------------------------------------------------------------------

  /// What its instances have in common.
  struct Class {
    bool is_module = false;
    std::vector<py::object> slots;  // descriptors
  };

  const Class& class_of(PyTypeObject* type) {
    const auto [at, fresh] = classes_.try_emplace(type);
    if (!fresh) return at->second;
    PyObject* mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); ++i) {
      auto* base = reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(mro, i));
      if (!(base->tp_flags & Py_TPFLAGS_HEAPTYPE)) continue;
      PyObject *key, *value;
      Py_ssize_t position = 0;
      at->second.is_module |= item_at(dict_of_type(base), "named_parameters") != nullptr;
      while (PyDict_Next(dict_of_type(base), &position, &key, &value))
        if (Py_IS_TYPE(value, &PyMemberDescr_Type)) at->second.slots.push_back(borrow(value));
    }
    return at->second;
  }

  // A class and its bases. `makes`: the function may make objects of it.
  void visit_type(PyTypeObject* type, bool makes) {
    PyObject* mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); ++i) {
      PyObject* base = PyTuple_GET_ITEM(mro, i);
      auto* own = reinterpret_cast<PyTypeObject*>(base);
      if (!(own->tp_flags & Py_TPFLAGS_HEAPTYPE)) continue;
      const bool library = is_of_library_class(own);
      const Scope scope{.dunders = !library, .makes = makes && !library};
      const auto [at, fresh] = types_.try_emplace(base, spaces_.size());
      if (fresh) {
        kept_.push_back(borrow(base));
        add_space({borrow(base), borrow(dict_of_type(own)), scope, library});
      } else if (scope.makes && !spaces_[at->second].scope.makes) {
        spaces_[at->second].scope.makes = true;
        see_all(spaces_[at->second]);
      }
    }
  }

  bool is_of_library_class(PyTypeObject* type) {
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE)) return false;
    PyObject* name = item_at(dict_of_type(type), "__module__");
    // Classes of code without a module are said to be in `builtins`.
    if (!name || !PyUnicode_Check(name) || PyUnicode_CompareWithASCIIString(name, "builtins") == 0)
      return false;
    if (is_name_of_library(name)) return true;
    PyObject* module = PyDict_GetItemWithError(PyImport_GetModuleDict(), name);
    if (PyErr_Occurred()) PyErr_Clear();
    return module && PyModule_Check(module) && is_of_library(PyModule_GetDict(module));
  }

  // ---- Attributes -------------------------------------------------------------------------------

  Pending& pending(PyObject* name) {
    PyObject* own = Py_NewRef(name);
    PyUnicode_InternInPlace(&own);
    kept_.push_back(py::reinterpret_steal<py::object>(own));
    return pending_[own];
  }

  void add_space(Space space) {
    space.scope.whole |= whole_ && !space.library;
    spaces_.push_back(std::move(space));
    const Space& own = spaces_.back();
    const std::vector<py::object> unseen = see_all(own);
    for (const py::object& key : unseen)
      if (PyUnicode_CheckExact(key.ptr())) pending(key.ptr()).spaces.push_back(spaces_.size() - 1);
  }

  /// Adds what the scope sees; the keys of everything else are returned.
  std::vector<py::object> see_all(const Space& space) {
    std::vector<py::object> unseen;
    const py::object dict = space.dict;
    const Scope scope = space.scope;
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict.ptr(), &at, &key, &value)) {
      if (scope.sees(names_, key, value))
        add(value);
      else
        unseen.push_back(borrow(key));
    }
    return unseen;
  }

  void see_whole(Space& space) {
    space.scope.whole = true;
    see_all(space);
  }

  // An attribute that a class with `__slots__` keeps.
  void see(const Slot& slot) {
    PyObject* o = slot.owner.ptr();
    PyObject* descriptor = slot.descriptor.ptr();
    const auto value = py::reinterpret_steal<py::object>(
        Py_TYPE(descriptor)->tp_descr_get(descriptor, o, reinterpret_cast<PyObject*>(Py_TYPE(o))));
    if (!value) PyErr_Clear();
    Shelf own = shelf(Kind::slot, descriptor);
    own.owner = Identity(o);
    own.entries.push_back({.value = Identity(value.ptr())});
    put(std::move(own));
    add(value.ptr());
  }

  // ---- Watching what was seen -------------------------------------------------------------------

  void watch(const Space& space) {
    // Looking the names up costs less than walking a large dict.
    const auto size = static_cast<std::size_t>(PyDict_GET_SIZE(space.dict.ptr()));
    if (!space.owner && !space.scope.whole && !space.scope.functions && size > 8 * names_.size()) {
      Shelf own = shelf(Kind::variables, space.dict.ptr());
      for (const py::object& name : names_.all())
        own.entries.push_back({name, Identity(item(space.dict, name.ptr()))});
      return put(std::move(own));
    }
    PyObject* where = space.owner ? space.owner.ptr() : space.dict.ptr();
    Shelf own = shelf(space.owner ? Kind::type : Kind::attributes, where);
    own.scope = space.scope;
    if (space.owner) {
      auto* type = reinterpret_cast<PyTypeObject*>(where);
      own.version = version_of(type);
      own.type = borrow(type->tp_mro);
    }
    own.entries.reserve(size);
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(space.dict.ptr(), &at, &key, &value)) {
      const bool seen = space.scope.sees(names_, key, value);
      own.entries.push_back({borrow(key), seen ? Identity(value) : Identity(), seen});
    }
    put(std::move(own));
  }

  // Variables of a module; one that is not there may come to stand before a builtin.
  void watch_variables(const py::object& globals, const Names& names) {
    const py::object builtins = borrow(PyEval_GetBuiltins());
    Shelf own = shelf(Kind::variables, globals.ptr());
    for (const py::object& name : names.all()) {
      PyObject* value = item(globals, name.ptr());
      if (value || item(builtins, name.ptr())) own.entries.push_back({name, Identity(value)});
    }
    put(std::move(own));
  }

  // ---- The library ------------------------------------------------------------------------------

  // Whether these are the globals of a module of the standard library or of an installed package.
  bool is_of_library(PyObject* globals) {
    if (const auto known = of_library_.find(globals); known != of_library_.end())
      return known->second;
    PyObject* name = item_at(globals, "__name__");
    PyObject* file = item_at(globals, "__file__");
    bool found = name && PyUnicode_Check(name) && is_name_of_library(name);
    if (!found && file && PyUnicode_Check(file)) {
      const char* text = PyUnicode_AsUTF8(file);
      const std::string_view path = text ? text : "";
      found = path.find("site-packages") != path.npos || path.find("dist-packages") != path.npos;
    }
    if (PyErr_Occurred()) PyErr_Clear();
    kept_.push_back(borrow(globals));
    of_library_.emplace(globals, found);
    return found;
  }

  static bool is_name_of_library(PyObject* name) {
    const char* text = PyUnicode_AsUTF8(name);
    std::string_view top = text ? text : "";
    top = top.substr(0, top.find('.'));
    if (top == "adjoint") return true;
    const py::str own{std::string(top)};
    PyObject* standard = PySys_GetObject("stdlib_module_names");
    const bool found = standard && PySet_Contains(standard, own.ptr()) == 1;
    if (PyErr_Occurred()) PyErr_Clear();
    return found;
  }

  struct SameObject {
    std::size_t operator()(const py::object& o) const { return std::hash<void*>{}(o.ptr()); }
    bool operator()(const py::object& a, const py::object& b) const { return a.is(b); }
  };

  Surroundings& out_;
  Names& names_;
  std::vector<py::object> waiting_;
  std::vector<py::object> kept_;
  std::unordered_set<PyObject*> seen_;
  std::vector<Space> spaces_;
  std::unordered_map<PyObject*, Pending> pending_;
  std::unordered_map<PyObject*, std::size_t> types_;  // the space of each
  std::unordered_map<PyTypeObject*, Class> classes_;
  std::unordered_map<PyObject*, bool> of_library_;
  std::unordered_map<py::object, Names, SameObject, SameObject> globals_;
  std::unordered_set<py::object, SameObject, SameObject> tensors_;
  bool tensor_names_ = false;  // are read by code of the user's
  bool whole_ = false;         // attributes are reached without their names
};

Surroundings::Surroundings(PyObject* f, const std::vector<PyObject*>& given) {
  std::vector<PyObject*> roots = given;
  roots.push_back(f);
  Explorer(*this).run(roots);
}

}  // namespace adjoint::python
