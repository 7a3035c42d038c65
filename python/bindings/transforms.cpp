// grad, value_and_grad, jacobian, vjp and jvp of Python functions.
//
// The usual call, one float or tensor in and a scalar out, goes straight through: no pytree is
// taken apart and no argument list is copied.
#include "transforms.h"

#include <structmember.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "adjoint/ops.h"
#include "call_errors.h"
#include "functions.h"
#include "graph/apply.h"
#include "graph/op.h"
#include "graph/thread_state.h"
#include "numbers.h"
#include "pickling.h"
#include "transforms_docs.h"

namespace adjoint::python {

namespace {

Tensor new_zeros(Layout::Extents shape, DType dtype) {
  Tensor t = Tensor::adopt(new_array(dtype, shape, "zeros"));
  std::memset(t.node()->data(), 0, t.node()->nbytes());
  return t;
}

[[noreturn]] void raise_argument(const char* op, std::size_t position, const std::string& what) {
  raise(ErrorKind::type, op,
        "argument " + std::to_string(position) + ": " + what +
            " has no derivative: pass a float or a tensor of float32 or float64");
}

[[noreturn]] void raise_not_scalar(const Tensor& y, const char* op) {
  raise(ErrorKind::value, op,
        "the function must return a scalar, it returned shape " + to_string(y.shape()) +
            ": reduce it, for instance by ad.sum, or use ad.jacobian");
}

Tensor output_tensor(PyObject* o, const char* op) {
  if (is_tensor(o)) return Tensor::share(read_node(as_tensor(o)));
  if (o == Py_None)
    raise(ErrorKind::type, op, "the function returned None: is a return statement missing?");
  return tensor_argument(o, op);
}

// The arguments of one call with some of them replaced.
class ReplacedArgs {
 public:
  ReplacedArgs(PyObject* const* args, std::size_t nargs, PyObject* kwnames)
      : nargs_(nargs), kwnames_(kwnames) {
    const std::size_t total =
        nargs + (kwnames ? static_cast<std::size_t>(PyTuple_GET_SIZE(kwnames)) : 0);
    values_.assign(args, args + total);
  }
  void set(std::size_t i, py::object value) {
    values_[i] = value.ptr();
    owned_.push_back(std::move(value));
  }
  py::object call(PyObject* f) const {
    return steal(call_python(f, values_.data(), nargs_, kwnames_));
  }

 private:
  std::size_t nargs_;
  PyObject* kwnames_;
  std::vector<PyObject*> values_;
  std::vector<py::object> owned_;
};

std::size_t position_of(std::int64_t argnum, std::size_t nargs, const char* op) {
  const std::int64_t n = static_cast<std::int64_t>(nargs);
  const std::int64_t i = argnum < 0 ? argnum + n : argnum;
  if (i < 0 || i >= n)
    raise(ErrorKind::type, op,
          "argnums names positional argument " + std::to_string(argnum) + ", the call has " +
              std::to_string(nargs));
  return static_cast<std::size_t>(i);
}

// The positions of one call, which differ: an argument that stood for two derivatives would be
// replaced twice, and have none by the first.
Dims positions_of(const TransformSpec& spec, std::size_t nargs, const char* op) {
  Dims positions;
  for (const std::int64_t argnum : spec.argnums) {
    const auto i = static_cast<std::int64_t>(position_of(argnum, nargs, op));
    if (std::find(positions.begin(), positions.end(), i) != positions.end())
      raise(ErrorKind::value, op,
            "argnums names argument " + std::to_string(i) + " twice, of the " +
                std::to_string(nargs) + " of the call");
    positions.push_back(i);
  }
  return positions;
}

py::object call_with(const py::object& f, const py::list& args) {
  PyObject** given = PySequence_Fast_ITEMS(args.ptr());
  return steal(call_python(f.ptr(), given, args.size(), nullptr));
}

// The chosen arguments as fresh leaves of the tape.
struct Inputs {
  std::vector<TreeDef> defs;
  std::vector<std::size_t> counts;
  std::vector<Tensor> leaves;

  void add(TensorTree tree) {
    counts.push_back(tree.leaves.size());
    for (Tensor& t : tree.leaves) leaves.push_back(reverse_input(t));
    defs.push_back(std::move(tree.def));
  }
  py::object argument(std::size_t k) const {
    std::size_t first = 0;
    for (std::size_t i = 0; i < k; ++i) first += counts[i];
    return to_python(defs[k], {leaves.begin() + static_cast<std::ptrdiff_t>(first),
                               leaves.begin() + static_cast<std::ptrdiff_t>(first + counts[k])});
  }
  // One result per leaf -> one tree per argument.
  py::list trees(const std::vector<Tensor>& values) const {
    py::list out;
    std::size_t first = 0;
    for (std::size_t k = 0; k < defs.size(); ++k) {
      out.append(
          to_python(defs[k], {values.begin() + static_cast<std::ptrdiff_t>(first),
                              values.begin() + static_cast<std::ptrdiff_t>(first + counts[k])}));
      first += counts[k];
    }
    return out;
  }
};

std::pair<py::object, py::object> split_aux(py::object result, bool has_aux, const char* op) {
  if (!has_aux) return {std::move(result), py::object()};
  if (!PyTuple_Check(result.ptr()) || PyTuple_GET_SIZE(result.ptr()) != 2)
    raise(ErrorKind::type, op, "with has_aux=True the function must return (output, aux)");
  py::tuple both = result;
  return {both[0], both[1]};
}

py::object single_or_tuple(const TransformSpec& spec, const py::list& trees) {
  return spec.single ? py::object(trees[0]) : py::object(py::tuple(trees));
}

const char* name_of(TransformKind kind) {
  static constexpr const char* names[] = {"grad", "value_and_grad", "jacobian", "hessian", "vmap"};
  return names[static_cast<int>(kind)];
}

// What a transform returns beside its derivative: without history, unless another is open around
// it. A leaf of the user's is returned as it is, an input of the transform is none.
py::object aux_outside(const py::object& aux, std::span<const Tensor> inputs) {
  if (!aux) return aux;
  const bool nested = thread_state().open_recorders > 0;
  std::vector<py::object> leaves;
  const TreeDef def = TreeDef::flatten(aux, leaves);
  for (py::object& leaf : leaves) {
    if (!is_tensor(leaf.ptr())) continue;
    const PyTensor* t = as_tensor(leaf.ptr());
    if (t->leaf ? !t->leaf->of_transform : nested) continue;
    Node* node = read_node(as_tensor(leaf.ptr()));
    if (!node->requires_grad) continue;
    const Tensor value = Tensor::share(node);
    if (nested)
      leaf = wrapped(Tensor::adopt(alias(node, nullptr, true)));
    else if (t->leaf || !is_recorded_outside({&value, 1}, inputs))
      leaf = wrapped(value.detach());
  }
  return def.unflatten(leaves);
}

// What a transform gives under `no_grad`: it has recorded for itself.
py::object constant_tree(py::object result) {
  const ThreadState& state = thread_state();
  if (state.recording && !state.constant) return result;
  if (is_exact_tensor(result.ptr())) return steal(constant_result(result.release().ptr()));
  std::vector<py::object> leaves;
  const TreeDef def = TreeDef::flatten(result, leaves);
  for (py::object& leaf : leaves)
    if (is_exact_tensor(leaf.ptr())) leaf = steal(constant_result(leaf.release().ptr()));
  return def.unflatten(leaves);
}

}  // namespace

py::object own_handles(py::object result, std::uint64_t since) {
  std::vector<py::object> leaves;
  const TreeDef def = TreeDef::flatten(result, leaves);
  const std::vector<std::uint32_t> same = first_of_same(leaves);
  bool replaced = false;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (same[i] != i) {
      leaves[i] = leaves[same[i]];
    } else if (is_tensor(leaves[i].ptr()) &&
               was_there(cell_of(as_tensor(leaves[i].ptr())).birth, since)) {
      Tensor value = Tensor::share(read_node(as_tensor(leaves[i].ptr())));
      leaves[i] = wrapped_value(constant_here(constant_in_trace(std::move(value))));
      replaced = true;
    }
  }
  return constant_tree(replaced ? def.unflatten(leaves) : std::move(result));
}

namespace {

// The result of grad and value_and_grad from its parts.
PyObject* grad_result(const TransformSpec& spec, const Tensor& value, py::object gradients,
                      py::object aux) {
  if (spec.kind == TransformKind::value_and_grad) {
    py::object v = wrapped(Tensor::share(value.node()));
    if (aux) v = py::make_tuple(v, aux);
    return py::make_tuple(v, gradients).release().ptr();
  }
  if (aux) return py::make_tuple(gradients, aux).release().ptr();
  return gradients.release().ptr();
}

// Inside an outer transform the value must stay connected to the outer inputs.
Tensor value_outside(const Tensor& y, bool nested) {
  if (y.node()->level && has_left(thread_state(), y.node())) raise_left("vjp");
  return nested ? y : y.detach();
}

PyObject* call_grad_of_one(const TransformSpec& spec, PyObject* f, PyObject* arg) {
  const char* op = name_of(spec.kind);
  const Tensor x = differentiable_leaf(arg, op, 0);
  Tensor input;
  Tensor y;
  {
    const RecorderScope recorder;
    const ReverseScope reverse;
    input = reverse_input(x);
    py::object handle = wrapped(Tensor(input));
    PyObject* const args[1] = {handle.ptr()};
    const py::object result = steal(call_python(f, args, 1, nullptr));
    y = scalar_output(result.ptr(), op);
  }
  std::vector<Tensor> g = sweep({&y, 1}, {}, {&input, 1});
  if (spec.kind == TransformKind::grad) return wrap(std::move(g[0]));
  py::object gradient = wrapped(std::move(g[0]));
  const bool nested = is_recorded_outside({&y, 1}, {&input, 1});
  return py::make_tuple(wrapped(value_outside(y, nested)), gradient).release().ptr();
}

bool is_plain_argument(PyObject* o) { return is_exact_tensor(o) || PyFloat_CheckExact(o); }

PyObject* call_hessian(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                       std::size_t nargs, PyObject* kwnames) {
  TransformSpec inner = spec;
  inner.kind = TransformKind::grad;
  const py::object gradient = make_transform(inner, borrow(f));
  return call_jacobian(spec, gradient.ptr(), args, nargs, kwnames);
}

// One row of the identity per output element, as a batch: one sweep gives the whole Jacobian.
std::vector<Tensor> jacobian_of(const Tensor& y, std::span<const Tensor> inputs) {
  const std::int64_t m = y.size();
  Dims shape{m};
  for (const std::int64_t n : y.shape()) shape.push_back(n);
  Tensor eye = new_zeros(shape, y.dtype());
  char* data = static_cast<char*>(eye.node()->data());
  for (std::int64_t i = 0; i < m; ++i) {
    if (y.dtype() == DType::float32)
      reinterpret_cast<float*>(data)[i * m + i] = 1;
    else
      reinterpret_cast<double*>(data)[i * m + i] = 1;
  }
  std::vector<Tensor> out;
  if (m == 0) {
    for (const Tensor& x : inputs) {
      Dims full(y.shape());
      full.append(x.shape().data(), x.shape().size());
      out.push_back(new_zeros(full, x.dtype()));
    }
    return out;
  }
  {
    const TransformLevel level = TransformLevel::directions(m);
    const Tensor cotangent = level.make_batched(eye, 0);
    for (const Tensor& g : sweep({&y, 1}, {&cotangent, 1}, inputs))
      out.push_back(level.split_batched(g, 0));
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    Dims full(y.shape());
    full.append(inputs[i].shape().data(), inputs[i].shape().size());
    out[i] = reshape(out[i], full);
  }
  return out;
}

// ---- vjp and jvp --------------------------------------------------------------------------------

py::tuple tuple_argument(py::object o, const char* op, const char* what) {
  if (PyTuple_Check(o.ptr()) || PyList_Check(o.ptr())) return py::tuple(o);
  raise(ErrorKind::type, op, std::string(what) + " must be a tuple with one entry per argument");
}

py::tuple vector_jacobian(py::object f, py::args primals) {
  require_callable(f.ptr(), "vjp", "f");
  if (primals.empty())
    raise(ErrorKind::type, "vjp", "needs the point at which to differentiate: ad.vjp(f, x)");
  Inputs inputs;
  TensorTree out;
  {
    const RecorderScope recorder;
    const ReverseScope reverse;
    py::list args;
    for (std::size_t i = 0; i < primals.size(); ++i) {
      inputs.add(differentiable_argument(primals[i], "vjp", i));
      args.append(inputs.argument(i));
    }
    out = tensor_tree(call_with(f, args), "vjp");
  }
  const auto pullback = [inputs, outputs = out.leaves, def = out.def](py::object cotangents) {
    std::vector<py::object> parts;
    def.flatten_up_to(cotangents, parts, "pullback");
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      Tensor c = tensor_from_python(parts[i].ptr(), outputs[i].dtype(), std::nullopt, "pullback");
      if (!(Dims(c.shape()) == Dims(outputs[i].shape())))
        raise(ErrorKind::value, "pullback",
              "a cotangent has the shape of its output: shapes " + to_string(c.shape()) + " and " +
                  to_string(outputs[i].shape()));
      tensors.push_back(std::move(c));
    }
    std::vector<Tensor> found = sweep(outputs, tensors, inputs.leaves);
    const ThreadState& state = thread_state();
    if (state.open_recorders == 0 && !state.elsewhere_open())
      for (Tensor& g : found)  // it may be a cotangent itself, with its own history
        if (g.requires_grad()) g = g.detach();
    return constant_tree(py::tuple(inputs.trees(std::move(found))));
  };
  const bool nested = is_recorded_outside(out.leaves, inputs.leaves);
  std::vector<Tensor> values;
  values.reserve(out.leaves.size());
  for (const Tensor& y : out.leaves) values.push_back(value_outside(y, nested));
  py::object result = to_python(out.def, std::move(values));
  return py::make_tuple(constant_tree(std::move(result)),
                        named_call_errors(py::cpp_function(
                            pullback, py::name("pullback"), py::arg("cotangents"),
                            "Cotangents of the output -> a tuple of cotangents of the primals.")));
}

}  // namespace

Tensor differentiable_leaf(PyObject* o, const char* op, std::size_t position) {
  if (is_tensor(o)) {
    Node* node = read_node(as_tensor(o));
    if (!is_differentiable(node->dtype))
      raise_argument(op, position, "a tensor of dtype " + std::string(name(node->dtype)));
    return Tensor::share(node);
  }
  if (PyFloat_CheckExact(o))
    return constant_in_trace(Tensor::adopt(scalar_node(o, DType::float64, op)));
  if (PyLong_CheckExact(o))
    raise(ErrorKind::type, op,
          "argument " + std::to_string(position) +
              " is an int, and integers have no derivative: use a float, as in " + shown(o) + ".0");
  if (PyBool_Check(o) || PyUnicode_Check(o)) raise_argument(op, position, "a " + type_name(o));
  Node* node = node_from_foreign(o, std::nullopt, op);
  if (!node) raise_argument(op, position, "a " + type_name(o));
  Tensor t = constant_in_trace(Tensor::adopt(node));
  if (!is_differentiable(t.dtype()))
    raise_argument(op, position, "an array of dtype " + std::string(name(t.dtype())));
  return t;
}

TensorTree differentiable_argument(py::handle arg, const char* op, std::size_t position) {
  TensorTree out;
  std::vector<py::object> parts;
  out.def = TreeDef::flatten(arg, parts);
  for (const py::object& part : parts)
    out.leaves.push_back(differentiable_leaf(part.ptr(), op, position));
  return out;
}

TensorTree tensor_tree(py::handle arg, const char* op) {
  TensorTree out;
  std::vector<py::object> parts;
  out.def = TreeDef::flatten(arg, parts);
  for (const py::object& part : parts) out.leaves.push_back(tensor_argument(part.ptr(), op));
  return out;
}

py::object to_python(const TreeDef& def, std::vector<Tensor> leaves) {
  std::vector<py::object> parts;
  parts.reserve(leaves.size());
  for (Tensor& t : leaves) parts.push_back(wrapped(std::move(t)));
  return def.unflatten(parts);
}

Tensor scalar_output(PyObject* o, const char* op) {
  Tensor y = output_tensor(o, op);
  if (y.size() != 1) raise_not_scalar(y, op);
  if (!is_differentiable(y.dtype()))
    raise(ErrorKind::type, op,
          "the function returned dtype " + std::string(name(y.dtype())) +
              ", which has no derivative: return a floating tensor");
  return y;
}

PyObject* call_grad(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                    std::size_t nargs, PyObject* kwnames) {
  const char* op = name_of(spec.kind);
  if (nargs == 1 && !kwnames && spec.single && !spec.has_aux && spec.argnums[0] == 0 &&
      is_plain_argument(args[0]))
    return call_grad_of_one(spec, f, args[0]);
  Inputs inputs;
  Tensor y;
  py::object aux;
  {
    const RecorderScope recorder;
    const ReverseScope reverse;
    ReplacedArgs call(args, nargs, kwnames);
    for (const std::int64_t position : positions_of(spec, nargs, op)) {
      const auto i = static_cast<std::size_t>(position);
      inputs.add(differentiable_argument(args[i], op, i));
      call.set(i, inputs.argument(inputs.defs.size() - 1));
    }
    auto [result, extra] = split_aux(call.call(f), spec.has_aux, op);
    y = scalar_output(result.ptr(), op);
    aux = std::move(extra);
  }
  const std::vector<Tensor> g = sweep({&y, 1}, {}, inputs.leaves);
  const bool nested = is_recorded_outside({&y, 1}, inputs.leaves);
  return grad_result(spec, value_outside(y, nested), single_or_tuple(spec, inputs.trees(g)),
                     aux_outside(aux, inputs.leaves));
}

PyObject* call_jacobian(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                        std::size_t nargs, PyObject* kwnames) {
  const char* op = name_of(spec.kind);
  Inputs inputs;
  TensorTree out;
  py::object aux;
  {
    const RecorderScope recorder;
    const ReverseScope reverse;
    ReplacedArgs call(args, nargs, kwnames);
    for (const std::int64_t position : positions_of(spec, nargs, op)) {
      const auto i = static_cast<std::size_t>(position);
      inputs.add(differentiable_argument(args[i], op, i));
      call.set(i, inputs.argument(inputs.defs.size() - 1));
    }
    auto [result, extra] = split_aux(call.call(f), spec.has_aux, op);
    out = tensor_tree(result, op);
    aux = std::move(extra);
  }
  std::vector<py::object> parts;
  for (const Tensor& y : out.leaves) {
    if (!is_differentiable(y.dtype()))
      raise(ErrorKind::type, op,
            "the function returned dtype " + std::string(name(y.dtype())) +
                ", which has no derivative: return a floating tensor");
    parts.push_back(single_or_tuple(spec, inputs.trees(jacobian_of(y, inputs.leaves))));
  }
  py::object jacobian = out.def.unflatten(parts);
  if (aux) return py::make_tuple(jacobian, aux_outside(aux, inputs.leaves)).release().ptr();
  return jacobian.release().ptr();
}

namespace {

// `again`: for a rule that runs the function once more.
py::object push_forward(const py::object& f, const py::object& primals, const py::object& tangents,
                        bool again) {
  require_callable(f.ptr(), "jvp", "f");
  const py::tuple points = tuple_argument(primals, "jvp", "primals");
  const py::tuple directions = tuple_argument(tangents, "jvp", "tangents");
  if (points.size() != directions.size())
    raise(ErrorKind::value, "jvp",
          std::to_string(points.size()) + " primals, but " + std::to_string(directions.size()) +
              " tangents");
  TensorTree out;
  std::vector<Tensor> derivatives;
  {
    const TransformLevel level = again ? TransformLevel::dual_again() : TransformLevel::dual();
    const ServedScope served(0);
    py::list args;
    for (std::size_t i = 0; i < points.size(); ++i) {
      TensorTree x = differentiable_argument(points[i], "jvp", i);
      std::vector<py::object> parts;
      x.def.flatten_up_to(directions[i], parts, "jvp");
      for (std::size_t k = 0; k < parts.size(); ++k) {
        const Tensor t =
            tensor_from_python(parts[k].ptr(), x.leaves[k].dtype(), std::nullopt, "jvp");
        if (!(Dims(t.shape()) == Dims(x.leaves[k].shape())))
          raise(ErrorKind::value, "jvp",
                "a tangent has the shape of its primal: shapes " + to_string(t.shape()) + " and " +
                    to_string(x.leaves[k].shape()));
        x.leaves[k] = level.make_dual(x.leaves[k], t);
      }
      args.append(to_python(x.def, std::move(x.leaves)));
    }
    out = tensor_tree(call_with(f, args), "jvp");
    for (Tensor& y : out.leaves) {
      auto [primal, tangent] = level.split_dual(y);
      y = primal;
      derivatives.push_back(tangent.defined() ? tangent
                                              : new_zeros(primal.shape(), primal.dtype()));
    }
  }
  py::object values = to_python(out.def, std::move(out.leaves));
  py::object both = py::make_tuple(values, to_python(out.def, std::move(derivatives)));
  return constant_tree(std::move(both));
}

}  // namespace

py::object forward_mode(py::object f, py::object primals, py::object tangents) {
  return push_forward(f, primals, tangents, false);
}

// ---- The callable -------------------------------------------------------------------------------

namespace {

struct PyTransform {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* f;
  TransformSpec* spec;
};
PyTypeObject* g_transform_type = nullptr;

PyTransform* as_transform(PyObject* o) { return reinterpret_cast<PyTransform*>(o); }

PyObject* call_transform(const TransformSpec& spec, PyObject* f, PyObject* const* args,
                         std::size_t n, PyObject* kwnames) {
  switch (spec.kind) {
    case TransformKind::grad:
    case TransformKind::value_and_grad: return call_grad(spec, f, args, n, kwnames);
    case TransformKind::jacobian: return call_jacobian(spec, f, args, n, kwnames);
    case TransformKind::hessian: return call_hessian(spec, f, args, n, kwnames);
    case TransformKind::vmap: return call_vmap(spec, f, args, n, kwnames);
  }
  return nullptr;
}

PyObject* transform_call(PyObject* self, PyObject* const* args, std::size_t nargsf,
                         PyObject* kwnames) noexcept {
  return guarded([&]() -> PyObject* {
    const TransformSpec& spec = *as_transform(self)->spec;
    PyObject* f = as_transform(self)->f;
    const auto n = static_cast<std::size_t>(PyVectorcall_NARGS(nargsf));
    PyObject* result = call_transform(spec, f, args, n, kwnames);
    return constant_tree(steal(result)).release().ptr();
  });
}

void transform_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_CLEAR(as_transform(self)->f);
  delete as_transform(self)->spec;
  type->tp_free(self);
  Py_DECREF(type);
}

int transform_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_transform(self)->f);
  if (as_transform(self)->spec) {
    Py_VISIT(as_transform(self)->spec->in_axes.ptr());
    Py_VISIT(as_transform(self)->spec->out_axes.ptr());
  }
  return 0;
}

int transform_clear(PyObject* self) {
  Py_CLEAR(as_transform(self)->f);
  return 0;
}

PyObject* transform_repr(PyObject* self) {
  const PyTransform* t = as_transform(self);
  return PyUnicode_FromFormat("<%s of %R>", name_of(t->spec->kind), t->f);
}

PyObject* transform_bind(PyObject* self, PyObject* object, PyObject*) {
  if (!object || object == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, object);
}

// Names and documentation are those of the function.
PyObject* transform_getattr(PyObject* self, PyObject* name_object) {
  const char* text = PyUnicode_AsUTF8(name_object);
  if (!text) return nullptr;
  for (const char* forwarded : {"__doc__", "__name__", "__qualname__", "__module__"})
    if (std::strcmp(text, forwarded) == 0)
      return PyObject_GetAttr(as_transform(self)->f, name_object);
  return PyObject_GenericGetAttr(self, name_object);
}

PyObject* transform_recipe(PyObject* self, PyObject*) noexcept {
  const TransformSpec& spec = *as_transform(self)->spec;
  const py::handle f(as_transform(self)->f);
  return guarded([&]() -> PyObject* {
    if (spec.directions) return made_recipe("_directions", py::make_tuple(f));
    if (spec.kind == TransformKind::vmap)
      return made_recipe("vmap", py::make_tuple(f, spec.in_axes, spec.out_axes));
    const py::object argnums =
        spec.single ? py::object(py::int_(spec.argnums[0])) : py::object(as_tuple(spec.argnums));
    py::dict how;
    if (spec.kind == TransformKind::jacobian) how["mode"] = "reverse";
    return made_recipe(name_of(spec.kind), py::make_tuple(f, argnums, spec.has_aux),
                       std::move(how));
  });
}

PyMethodDef transform_methods[] = {ADJOINT_MADE_METHODS(transform_recipe),
                                   {nullptr, nullptr, 0, nullptr}};

PyMemberDef transform_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(PyTransform, vectorcall), READONLY, nullptr},
    {"__wrapped__", T_OBJECT, offsetof(PyTransform, f), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

void make_transform_type() {
  PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(transform_dealloc)},
                         {Py_tp_traverse, reinterpret_cast<void*>(transform_traverse)},
                         {Py_tp_clear, reinterpret_cast<void*>(transform_clear)},
                         {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                         {Py_tp_methods, transform_methods},
                         {Py_tp_members, transform_members},
                         {Py_tp_repr, reinterpret_cast<void*>(transform_repr)},
                         {Py_tp_descr_get, reinterpret_cast<void*>(transform_bind)},
                         {Py_tp_getattro, reinterpret_cast<void*>(transform_getattr)},
                         {0, nullptr}};
  PyType_Spec spec = {"adjoint._core.Transformed", sizeof(PyTransform), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                          Py_TPFLAGS_DISALLOW_INSTANTIATION,
                      slots};
  g_transform_type = reinterpret_cast<PyTypeObject*>(steal(PyType_FromSpec(&spec)).release().ptr());
}

// An int or several. grad(f, x) is written by who means grad(f)(x), or a minimum.
void check_given_argnums(TransformKind kind, PyObject* given) {
  const auto is_argnum = [](PyObject* o) {
    if (PyBool_Check(o) || is_tensor(o)) return false;
    PyObject* index = PyIndex_Check(o) ? PyNumber_Index(o) : nullptr;
    if (!index) PyErr_Clear();
    Py_XDECREF(index);
    return index != nullptr;
  };
  bool fits = is_argnum(given);
  if (PyTuple_Check(given) || PyList_Check(given)) {
    fits = true;
    for (const py::handle item : borrow(given)) fits = fits && is_argnum(item.ptr());
  }
  if (fits) return;
  const std::string name = name_of(kind);
  raise(ErrorKind::type, name,
        "argnums must be an int or a tuple of ints, not " + type_name(given) +
            ": for the derivative at a point write " + name +
            "(f)(x), and to find a minimum optim.minimize(f, x0)");
}

// grad(f), value_and_grad(f) and so on: made and called anew in many a loop, so they are entered
// without pybind11's dispatcher.
template <TransformKind kind>
PyObject* make_reverse(const Arguments& args) {
  TransformSpec spec;
  spec.kind = kind;
  spec.has_aux = args.flag(2, false);
  spec.single = !args[1] || !(PyTuple_Check(args[1]) || PyList_Check(args[1]));
  if (args[1]) {
    check_given_argnums(kind, args[1]);
    spec.argnums = args.dims(1);
  } else {
    spec.argnums.push_back(0);
  }
  if (spec.argnums.empty()) raise(ErrorKind::value, name_of(kind), "argnums is empty");
  return make_transform(std::move(spec), borrow(args[0])).release().ptr();
}

template <TransformKind kind>
void add_reverse(py::module_& m, const char* name, const char* doc) {
  add_function(m, name, "(f, argnums=0, has_aux=False)", doc, make_reverse<kind>);
}

py::object hessian_vector(py::object f, py::object x, py::object v) {
  TransformSpec spec;
  spec.argnums.push_back(0);
  py::tuple both = forward_mode(make_transform(std::move(spec), std::move(f)), py::make_tuple(x),
                                py::make_tuple(v));
  return both[1];
}

py::object stop_gradient_tree(py::object x) {
  if (is_tensor(x.ptr()))
    return wrapped(stop_gradient(Tensor::share(read_node(as_tensor(x.ptr())))));
  TensorTree tree = tensor_tree(x, "stop_gradient");
  for (Tensor& t : tree.leaves) t = stop_gradient(t);
  return to_python(tree.def, std::move(tree.leaves));
}

}  // namespace

py::object make_transform(TransformSpec spec, py::object f) {
  if (!PyCallable_Check(f.ptr()))
    raise(ErrorKind::type, name_of(spec.kind),
          "needs a function, not a " + type_name(f.ptr()) + ": write " + name_of(spec.kind) +
              "(f)(x)");
  PyTransform* t = PyObject_GC_New(PyTransform, g_transform_type);
  if (!t) throw_python();
  t->vectorcall = transform_call;
  t->f = f.release().ptr();
  t->spec = new TransformSpec(std::move(spec));
  PyObject_GC_Track(reinterpret_cast<PyObject*>(t));
  return steal(reinterpret_cast<PyObject*>(t));
}

void init_transforms(py::module_& m) {
  make_transform_type();
  add_reverse<TransformKind::grad>(m, "grad", kGradDoc);
  add_reverse<TransformKind::value_and_grad>(m, "value_and_grad", kValueAndGradDoc);
  add_reverse<TransformKind::jacobian>(m, "_jacobian",
                                       "All first derivatives, by one batched backward sweep.");
  add_reverse<TransformKind::hessian>(m, "_hessian",
                                      "All second derivatives, reverse over reverse.");
  m.def("vjp", &vector_jacobian, py::arg("f"), kVjpDoc);
  m.def("jvp", &forward_mode, py::arg("f"), py::arg("primals"), py::arg("tangents"), kJvpDoc);
  m.def("hvp", &hessian_vector, py::arg("f"), py::arg("x"), py::arg("v"), kHvpDoc);
  m.def("stop_gradient", &stop_gradient_tree, py::arg("x"), kStopGradientDoc);
  m.def("_constant", &constant_tree);
  m.def("_own_result", [](const py::object& f) {
    const std::uint64_t since = thread_state().births;
    return own_handles(call_object(f), since);
  });
  m.def("_push_again",
        [](const py::object& f, const py::object& primals, const py::object& tangents) {
          return push_forward(f, primals, tangents, true);
        });
  init_batching(m);
  init_custom(m);
  init_control(m);
}

}  // namespace adjoint::python
