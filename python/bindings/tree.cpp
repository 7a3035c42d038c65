// Pytrees. A structure is a list of nodes, parents first; taking apart and putting together work
// through that list with an explicit stack.
#include "tree.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "convert.h"

namespace adjoint::python {

namespace {

using Kind = TreeDef::Kind;

struct Custom {
  py::object flatten;
  py::object unflatten;
};

// A class that is registered goes like any other: the table hears of its end from a weak reference,
// and its functions, which mostly refer to the class, stand in the class's own dictionary, where
// the cyclic collector sees them. Classes that take no attributes are static and stay.
struct Registered {
  py::object weak;
  py::object functions;  // (flatten, unflatten); null: in the class
};

// Never destroyed: it holds Python objects, and the interpreter may be gone by then.
std::unordered_map<PyTypeObject*, Registered>& registry() {
  static auto* table = new std::unordered_map<PyTypeObject*, Registered>;
  return *table;
}

PyObject* own_key() {
  static PyObject* key = PyUnicode_InternFromString("__tree_functions__");
  return key;
}

bool is_named_tuple(PyObject* o) {
  if (!PyTuple_Check(o) || PyTuple_CheckExact(o)) return false;
  return PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(o)), "_fields") == 1;
}

Kind kind_of(PyObject* o) {
  if (o == Py_None) return Kind::none;
  if (is_exact_tensor(o) || PyFloat_CheckExact(o)) return Kind::leaf;
  if (PyTuple_CheckExact(o)) return Kind::tuple;
  if (PyList_CheckExact(o)) return Kind::list;
  if (PyDict_CheckExact(o)) return Kind::dict;
  if (!registry().empty() && registry().contains(Py_TYPE(o))) return Kind::custom;
  return is_named_tuple(o) ? Kind::named_tuple : Kind::leaf;
}

// `o` is a list or a tuple. No Python code runs here, so that a list is as it was throughout.
void push_sequence(PyObject* o, std::vector<py::object>& children) {
  const Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
  for (Py_ssize_t i = 0; i < n; ++i) children.push_back(borrow(PySequence_Fast_GET_ITEM(o, i)));
}

// The functions of a registered class, held while they run: the class may be registered anew.
Custom functions_of(PyTypeObject* type) {
  py::object both = registry().at(type).functions;
  if (!both) both = borrow(PyDict_GetItemWithError(type->tp_dict, own_key()));
  if (!both || !PyTuple_CheckExact(both.ptr()) || PyTuple_GET_SIZE(both.ptr()) != 2)
    raise(ErrorKind::runtime, "tree",
          std::string("the functions of ") + type->tp_name + " are gone: register the class anew");
  return {borrow(PyTuple_GET_ITEM(both.ptr(), 0)), borrow(PyTuple_GET_ITEM(both.ptr(), 1))};
}

// Splits one node: its record, and its children in order.
TreeDef::Entry split(PyObject* o, Kind kind, std::vector<py::object>& children) {
  TreeDef::Entry entry{kind, 0, {}, {}};
  switch (kind) {
    case Kind::leaf:
    case Kind::none: break;
    case Kind::named_tuple:
      entry.type = borrow(reinterpret_cast<PyObject*>(Py_TYPE(o)));
      [[fallthrough]];
    case Kind::tuple:
    case Kind::list: push_sequence(o, children); break;
    case Kind::dict: {
      // By position: looking a key up runs its __eq__, which may change the dict.
      py::list keys;
      const py::object items = steal(PyDict_Items(o));
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items.ptr()); ++i) {
        PyObject* const pair = PyList_GET_ITEM(items.ptr(), i);
        keys.append(py::handle(PyTuple_GET_ITEM(pair, 0)));
        children.push_back(borrow(PyTuple_GET_ITEM(pair, 1)));
      }
      entry.data = std::move(keys);
      break;
    }
    case Kind::custom: {
      entry.type = borrow(reinterpret_cast<PyObject*>(Py_TYPE(o)));
      py::object both = functions_of(Py_TYPE(o)).flatten(borrow(o));
      if (!PyTuple_Check(both.ptr()) || PyTuple_GET_SIZE(both.ptr()) != 2)
        raise(ErrorKind::type, "tree",
              "the flatten function of " + type_name(o) + " must return (children, data)");
      py::object list = steal(
          PySequence_Fast(PyTuple_GET_ITEM(both.ptr(), 0), "[tree] children must be a sequence"));
      push_sequence(list.ptr(), children);
      entry.data = borrow(PyTuple_GET_ITEM(both.ptr(), 1));
      break;
    }
  }
  entry.arity = static_cast<std::uint32_t>(children.size());
  return entry;
}

py::object join(const TreeDef::Entry& entry, std::vector<py::object>& stack) {
  const std::size_t n = entry.arity;
  const auto child = [&](std::size_t i) { return stack[stack.size() - 1 - i]; };
  py::object out;
  switch (entry.kind) {
    case Kind::leaf: break;
    case Kind::none: out = py::none(); break;
    case Kind::tuple: {
      py::tuple t(n);
      for (std::size_t i = 0; i < n; ++i) t[i] = child(i);
      out = t;
      break;
    }
    case Kind::dict: {
      py::dict d;
      std::size_t i = 0;
      for (const py::handle key : entry.data) d[key] = child(i++);
      out = d;
      break;
    }
    case Kind::list:
    case Kind::named_tuple:
    case Kind::custom: {
      py::list l;
      for (std::size_t i = 0; i < n; ++i) l.append(child(i));
      if (entry.kind == Kind::named_tuple)
        out = entry.type(*l);
      else if (entry.kind == Kind::custom)
        out = functions_of(reinterpret_cast<PyTypeObject*>(entry.type.ptr()))
                  .unflatten(entry.data, l);
      else
        out = l;
      break;
    }
  }
  stack.resize(stack.size() - n);
  return out;
}

// The containers from the root to where a walk is. Held, so that no address occurs twice.
class Path {
 public:
  void enter(py::object container) {
    if (contains(container.ptr()))
      raise(ErrorKind::value, "tree", "a " + type_name(container.ptr()) + " contains itself");
    if (open_.size() == kMaxDepth)
      raise(ErrorKind::value, "tree",
            "nested more than " + std::to_string(kMaxDepth) +
                " deep: does the flatten function of a registered class make new nodes forever?");
    if (open_.size() >= kFew) deep_.insert(container.ptr());
    open_.push_back(std::move(container));
  }
  void leave() {
    if (open_.size() > kFew) deep_.erase(open_.back().ptr());
    open_.pop_back();
  }

 private:
  static constexpr std::size_t kFew = 16;
  static constexpr std::size_t kMaxDepth = 10'000'000;

  bool contains(PyObject* o) const {
    const std::size_t few = std::min(open_.size(), kFew);
    for (std::size_t i = 0; i < few; ++i)
      if (open_[i].ptr() == o) return true;
    return !deep_.empty() && deep_.contains(o);
  }

  std::vector<py::object> open_;
  std::unordered_set<PyObject*> deep_;  // those after the first few
};

const char* kind_name(Kind kind) {
  static constexpr const char* names[] = {"a leaf", "None",          "a tuple",           "a list",
                                          "a dict", "a named tuple", "a registered class"};
  return names[static_cast<int>(kind)];
}

std::vector<py::object> to_vector(py::handle sequence) {
  std::vector<py::object> out;
  if (PyUnicode_Check(sequence.ptr()) || PyBytes_Check(sequence.ptr()))
    raise(ErrorKind::type, "tree", "leaves must be a sequence, not " + type_name(sequence.ptr()));
  py::object list = steal(PySequence_Fast(sequence.ptr(), "[tree] leaves must be a sequence"));
  push_sequence(list.ptr(), out);
  return out;
}

py::list to_list(const std::vector<py::object>& items) {
  py::list out;
  for (const py::object& o : items) out.append(o);
  return out;
}

// ---- The functions of ad.tree -------------------------------------------------------------------

py::object tree_map(py::object f, py::object tree, py::args rest) {
  require_callable(f.ptr(), "tree.map", "f");
  std::vector<py::object> leaves;
  const TreeDef def = TreeDef::flatten(tree, leaves);
  std::vector<std::vector<py::object>> others;
  for (const py::handle other : rest) def.flatten_up_to(other, others.emplace_back(), "tree.map");
  std::vector<py::object> results;
  std::vector<PyObject*> args(1 + others.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    args[0] = leaves[i].ptr();
    for (std::size_t k = 0; k < others.size(); ++k) args[k + 1] = others[k][i].ptr();
    results.push_back(steal(call_python(f.ptr(), args.data(), args.size(), nullptr)));
  }
  return def.unflatten(results);
}

void tree_register(py::object cls, py::object flatten, py::object unflatten) {
  if (!PyType_Check(cls.ptr()))
    raise(ErrorKind::type, "tree.register", "the first argument must be a class");
  auto* type = reinterpret_cast<PyTypeObject*>(cls.ptr());
  if (type == &PyTuple_Type || type == &PyList_Type || type == &PyDict_Type ||
      PyType_IsSubtype(type, tensor_type))
    raise(ErrorKind::value, "tree.register",
          std::string(type->tp_name) + " already has a meaning in a pytree");
  require_callable(flatten.ptr(), "tree.register", "flatten");
  require_callable(unflatten.ptr(), "tree.register", "unflatten");
  Registered fresh;
  py::object both = py::make_tuple(flatten, unflatten);
  // Not through the class's own class, whose __setattr__ may be anything.
  if (PyType_Type.tp_setattro(cls.ptr(), own_key(), both.ptr()) != 0) {
    PyErr_Clear();
    fresh.functions = std::move(both);
  }
  fresh.weak = py::weakref(cls, py::cpp_function([type](const py::handle&) {
                             Registered gone;
                             const auto at = registry().find(type);
                             std::swap(at->second, gone);  // destroyed when the table is in order
                             registry().erase(at);
                           }));
  std::swap(registry()[type], fresh);
}

}  // namespace

TreeDef TreeDef::flatten(py::handle tree, std::vector<py::object>& leaves) {
  TreeDef def;
  Path path;
  std::vector<py::object> stack = {borrow(tree.ptr())};
  std::vector<py::object> children;
  while (!stack.empty()) {
    py::object o = std::move(stack.back());
    stack.pop_back();
    if (!o) {  // the end of a container
      path.leave();
      continue;
    }
    const Kind kind = kind_of(o.ptr());
    if (kind == Kind::leaf) {
      def.entries_.push_back({kind, 0, {}, {}});
      ++def.leaf_count_;
      leaves.push_back(std::move(o));
      continue;
    }
    children.clear();
    def.entries_.push_back(split(o.ptr(), kind, children));
    if (children.empty()) continue;
    path.enter(std::move(o));
    stack.emplace_back();
    for (std::size_t i = children.size(); i-- > 0;) stack.push_back(std::move(children[i]));
  }
  return def;
}

void TreeDef::flatten_up_to(py::handle tree, std::vector<py::object>& parts, const char* op) const {
  std::vector<py::object> stack = {borrow(tree.ptr())};
  std::vector<py::object> children;
  for (const Entry& entry : entries_) {
    py::object o = std::move(stack.back());
    stack.pop_back();
    if (entry.kind == Kind::leaf) {
      parts.push_back(std::move(o));
      continue;
    }
    const Kind kind = kind_of(o.ptr());
    if (kind != entry.kind)
      raise(ErrorKind::value, op,
            std::string("the trees differ: ") + kind_name(entry.kind) + " in the first, " +
                kind_name(kind) + " (" + type_name(o.ptr()) + ") in another");
    children.clear();
    const Entry other = split(o.ptr(), kind, children);
    if (other.arity != entry.arity || (entry.type && !entry.type.is(other.type)))
      raise(ErrorKind::value, op,
            std::string("the trees differ: ") + kind_name(kind) + " of " +
                std::to_string(entry.arity) + " and of " + std::to_string(other.arity) +
                " entries, or of different classes");
    if (kind == Kind::dict) {
      children.clear();
      for (const py::handle key : entry.data) {
        PyObject* value = PyDict_GetItemWithError(o.ptr(), key.ptr());
        if (!value) {
          if (PyErr_Occurred()) throw_python();
          raise(ErrorKind::value, op, "the trees differ: one dict lacks the key " + shown(key));
        }
        children.push_back(borrow(value));
      }
    }
    for (std::size_t i = children.size(); i-- > 0;) stack.push_back(std::move(children[i]));
  }
}

py::object TreeDef::unflatten(const std::vector<py::object>& leaves) const {
  if (leaves.size() != leaf_count_)
    raise(ErrorKind::value, "tree.unflatten",
          "the structure has " + std::to_string(leaf_count_) + " leaves, " +
              std::to_string(leaves.size()) + " were given");
  std::vector<py::object> stack;
  std::size_t next = leaves.size();
  for (std::size_t i = entries_.size(); i-- > 0;) {
    const Entry& entry = entries_[i];
    if (entry.kind == Kind::leaf)
      stack.push_back(leaves[--next]);
    else
      stack.push_back(join(entry, stack));
  }
  return stack.back();
}

bool TreeDef::equals(const TreeDef& other) const {
  if (entries_.size() != other.entries_.size()) return false;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& a = entries_[i];
    const Entry& b = other.entries_[i];
    if (a.kind != b.kind || a.arity != b.arity || a.type.ptr() != b.type.ptr()) return false;
    if (a.data.ptr() == b.data.ptr()) continue;
    if (!a.data || !b.data || !a.data.equal(b.data)) return false;
  }
  return true;
}

py::object TreeDef::to_hash() const {
  py::list parts;
  for (const Entry& e : entries_)
    parts.append(py::make_tuple(
        static_cast<int>(e.kind), e.arity,
        e.kind == Kind::dict ? py::object(py::tuple(e.data)) : py::object(py::none())));
  return py::int_(py::hash(py::tuple(parts)));
}

std::string TreeDef::text() const {
  const std::vector<py::object> stars(leaf_count_, py::ellipsis());
  try {
    return "TreeDef(" + text_of(py::repr(unflatten(stars))) + ")";
  } catch (const py::error_already_set& e) {
    if (!e.matches(PyExc_RecursionError)) throw;
    return "TreeDef(" + std::to_string(leaf_count_) + " leaves, nested deep)";
  }
}

void init_tree(py::module_& m) {
  py::class_<TreeDef>(m, "TreeDef", py::module_local(),
                      "The structure of a pytree without its leaves; shown with ... for each.\n\n"
                      "Examples\n"
                      "--------\n"
                      ">>> import adjoint as ad\n"
                      ">>> structure = ad.tree.structure({\"a\": 1.0, \"b\": [2.0, 3.0]})\n"
                      ">>> structure.num_leaves, structure.unflatten([4, 5, 6])\n"
                      "(3, {'a': 4, 'b': [5, 6]})")
      .def_property_readonly("num_leaves", &TreeDef::leaf_count)
      .def(
          "unflatten", [](const TreeDef& d, py::object l) { return d.unflatten(to_vector(l)); },
          py::arg("leaves"), "The pytree of this structure with these leaves.")
      .def(
          "flatten_up_to",
          [](const TreeDef& d, py::object t) {
            std::vector<py::object> parts;
            d.flatten_up_to(t, parts, "tree");
            py::list out;
            for (py::object& part : parts) out.append(std::move(part));
            return out;
          },
          py::arg("tree"), "The parts of a pytree at the places of the leaves of this structure.")
      .def("__eq__",
           [](const TreeDef& d, py::object o) {
             return py::isinstance<TreeDef>(o) && d.equals(o.cast<const TreeDef&>());
           })
      .def("__hash__", &TreeDef::to_hash)
      // Pickled as a pytree with numbers for leaves.
      .def("__reduce__",
           [](const TreeDef& d) {
             const std::vector<py::object> leaves(d.leaf_count(), py::object(py::int_(0)));
             const py::object structure = py::module_::import("adjoint.tree").attr("structure");
             return py::make_tuple(structure, py::make_tuple(d.unflatten(leaves)));
           })
      .def("__repr__", &TreeDef::text);

  py::module_ tree = m.def_submodule("tree", "Functions on nested containers of tensors.");
  tree.def(
      "flatten",
      [](py::object t) {
        std::vector<py::object> leaves;
        TreeDef def = TreeDef::flatten(t, leaves);
        return py::make_tuple(to_list(leaves), std::move(def));
      },
      py::arg("tree"),
      "The leaves of a pytree in a list, and its structure.\n\n"
      "Parameters\n"
      "----------\n"
      "tree : pytree\n"
      "    Of leaves of any type.\n\n"
      "Returns\n"
      "-------\n"
      "leaves : list\n"
      "structure : TreeDef\n\n"
      "Raises\n"
      "------\n"
      "ValueError\n"
      "    If the containers contain themselves.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> leaves, structure = ad.tree.flatten({\"a\": 1, \"b\": [2, 3]})\n"
      ">>> leaves\n"
      "[1, 2, 3]");
  tree.def(
      "unflatten", [](const TreeDef& d, py::object l) { return d.unflatten(to_vector(l)); },
      py::arg("treedef"), py::arg("leaves"),
      "The pytree of this structure with these leaves: the inverse of `flatten`.\n\n"
      "Parameters\n"
      "----------\n"
      "treedef : TreeDef\n"
      "leaves : sequence\n\n"
      "Returns\n"
      "-------\n"
      "pytree\n\n"
      "Raises\n"
      "------\n"
      "ValueError\n"
      "    If there are more or fewer leaves than the structure has.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> ad.tree.unflatten(ad.tree.structure((0, [0])), [1, 2])\n"
      "(1, [2])");
  tree.def(
      "leaves",
      [](py::object t) {
        std::vector<py::object> leaves;
        TreeDef::flatten(t, leaves);
        return to_list(leaves);
      },
      py::arg("tree"),
      "The leaves of a pytree in a list.\n\n"
      "Parameters\n"
      "----------\n"
      "tree : pytree\n\n"
      "Returns\n"
      "-------\n"
      "list\n\n"
      "Raises\n"
      "------\n"
      "ValueError\n"
      "    If the containers contain themselves.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> ad.tree.leaves([1, (2, None), {\"a\": 3}])\n"
      "[1, 2, 3]");
  tree.def(
      "structure",
      [](py::object t) {
        std::vector<py::object> leaves;
        return TreeDef::flatten(t, leaves);
      },
      py::arg("tree"),
      "The structure of a pytree.\n\n"
      "Parameters\n"
      "----------\n"
      "tree : pytree\n\n"
      "Returns\n"
      "-------\n"
      "TreeDef\n"
      "    Comparable by ``==``, hashable.\n\n"
      "Raises\n"
      "------\n"
      "ValueError\n"
      "    If the containers contain themselves.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> ad.tree.structure([1, 2]) == ad.tree.structure([3, 4])\n"
      "True");
  tree.def("map", &tree_map, py::arg("f"), py::arg("tree"),
           "Apply `f` leaf by leaf to one or more pytrees of the same structure.\n\n"
           "Parameters\n"
           "----------\n"
           "f : callable\n"
           "    Takes a leaf of each tree.\n"
           "tree : pytree\n"
           "*args : pytree\n"
           "    Of the structure of `tree`.\n\n"
           "Returns\n"
           "-------\n"
           "pytree\n"
           "    Of that structure, with what `f` returns.\n\n"
           "Raises\n"
           "------\n"
           "TypeError\n"
           "    If `f` is no function.\n"
           "ValueError\n"
           "    If the structures differ.\n\n"
           "Examples\n"
           "--------\n"
           ">>> import adjoint as ad\n"
           ">>> ad.tree.map(lambda p, g: p - 0.5 * g, {\"w\": 3.0}, {\"w\": 2.0})\n"
           "{'w': 2.0}");
  tree.def("register", &tree_register, py::arg("cls"), py::arg("flatten"), py::arg("unflatten"),
           "Make instances of a class nodes of pytrees.\n\n"
           "Subclasses register themselves.\n\n"
           "Parameters\n"
           "----------\n"
           "cls : type\n"
           "flatten : callable\n"
           "    ``flatten(x)`` gives ``(children, data)``; `data` must be comparable by ``==``.\n"
           "unflatten : callable\n"
           "    ``unflatten(data, children)`` gives the instance.\n\n"
           "Raises\n"
           "------\n"
           "TypeError\n"
           "    If `cls` is no class, or the others are no functions.\n\n"
           "Examples\n"
           "--------\n"
           ">>> import adjoint as ad\n"
           ">>> class Pair:\n"
           "...     def __init__(self, first, second):\n"
           "...         self.first, self.second = first, second\n"
           ">>> ad.tree.register(Pair, lambda p: ([p.first, p.second], None), lambda _, parts: "
           "Pair(*parts))\n"
           ">>> ad.tree.leaves(Pair(1, Pair(2, 3)))\n"
           "[1, 2, 3]");
}

std::vector<std::uint32_t> first_of_same(const std::vector<py::object>& leaves) {
  std::unordered_map<PyObject*, std::uint32_t> seen;
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < leaves.size(); ++i)
    out.push_back(seen.emplace(leaves[i].ptr(), i).first->second);
  return out;
}

}  // namespace adjoint::python
