// Draws from a generator's state. Records of the registry are called by name; one that
// this build lacks is an error of the call, not of the import.
#include <array>
#include <optional>
#include <random>
#include <utility>

#include "functions.h"
#include "graph/apply.h"
#include "ops/random.h"

namespace adjoint::python {

namespace {

const Op& record(const char* name) {
  const Op* op = find_op_or_null(name);
  if (!op) raise(ErrorKind::runtime, name, "this build has no such operation");
  return *op;
}

PyObject* uniform_body(const Arguments& a) {
  const Dims shape = a.dims(1);
  const DType dtype = a.dtype(2).value_or(DType::float64);
  return wrap(random_uniform(a.tensor(0), shape, dtype));
}
PyObject* normal_body(const Arguments& a) {
  const Dims shape = a.dims(1);
  const DType dtype = a.dtype(2).value_or(DType::float64);
  return wrap(random_normal(a.tensor(0), shape, dtype));
}
PyObject* integers_body(const Arguments& a) {
  const Dims shape = a.dims(1);
  const std::int64_t low = a.integer(2), high = a.integer(3);
  return wrap(random_integers(a.tensor(0), shape, low, high));
}

// Steps over what a draw of a shape uses, before the draw and in one step with reading the
// state: two threads never get the same numbers. (the state to draw from, the state now).
py::tuple reserve(const py::object& handle, const py::object& shape) {
  const std::int64_t n = checked_size(dims_argument(shape.ptr(), "random", "shape"), "random");
  PyTensor* t = as_tensor(handle.ptr());
  for (;;) {
    const Tensor state = Tensor::share(read_node(t));
    const Tensor next = random_advance(state, n);
    if (read_node(t) != state.node()) continue;  // whoever computes may let other threads run
    py::tuple both = py::make_tuple(wrapped(Tensor(state)), wrapped(Tensor(next)));
    rebind_cell(t, Tensor(next).detach_node());
    return both;
  }
}

// Undoes that after a draw that failed, unless somebody has drawn since.
void give_back(const py::object& handle, const py::object& before, const py::object& now) {
  PyTensor* t = as_tensor(handle.ptr());
  if (read_node(t) != as_tensor(now.ptr())->node) return;
  rebind_cell(t, Tensor::share(as_tensor(before.ptr())->node).detach_node());
}

PyObject* bits_body(const Arguments& a) {
  const Dims shape = a.dims(1);
  return wrap(random_bits(a.tensor(0), shape));
}

// Applies "random_gamma" and the like to bits and parameters.
template <int N>
PyObject* variate_body(const Arguments& a) {
  std::array<Tensor, N> inputs;
  std::array<Node*, N> nodes;
  for (int i = 0; i < N; ++i) {
    const auto at = static_cast<std::size_t>(i);
    inputs[at] = a.tensor(i);
    nodes[at] = inputs[at].node();
  }
  return wrap(adjoint::apply(record(a.op() + 1), std::span<Node* const>(nodes)));
}

// Where `ad.random` draws from unless told otherwise. Made here, as a handle that is older than
// every transform, so that none takes it for its own.
py::object default_state() {
  std::random_device device;
  Tensor state = Tensor::adopt(new_array(DType::uint64, Dims{2}, "random"));
  auto* words = static_cast<std::uint64_t*>(state.node()->data());
  words[0] = std::uint64_t{device()} << 32 | device();
  words[1] = 0;
  return wrapped(std::move(state));
}

}  // namespace

void init_random_ops(py::module_& m) {
  m.def("_reserve_draw", &reserve);
  m.def("_give_back_draw", &give_back);
  add_function(m, "_random_uniform", "(state, shape, dtype, /)", "Uniform on [0, 1).",
               uniform_body);
  add_function(m, "_random_normal", "(state, shape, dtype, /)", "Standard normal.", normal_body);
  add_function(m, "_random_integers", "(state, shape, low, high, /)",
               "Integers in [low, high), int64.", integers_body);
  add_function(m, "_random_bits", "(state, shape, /)", "Words of 64 random bits.", bits_body);
  add_function(m, "_random_bernoulli", "(bits, p, /)", "True with probability p.", variate_body<2>);
  add_function(m, "_random_beta", "(bits, a, b, /)", "Beta variates.", variate_body<3>);
  add_function(m, "_random_binomial", "(bits, n, p, /)", "How many of n are true.",
               variate_body<3>);
  add_function(m, "_random_categorical", "(bits, weights, /)", "Positions.", variate_body<2>);
  add_function(m, "_random_exponential", "(bits, /)", "Of mean 1.", variate_body<1>);
  add_function(m, "_random_gamma", "(bits, a, /)", "Gamma variates of scale 1.", variate_body<2>);
  add_function(m, "_random_poisson", "(bits, lam, /)", "Counts of this mean.", variate_body<2>);
  add_function(m, "_random_truncated_normal", "(bits, lower, upper, /)",
               "Standard normal between two limits.", variate_body<3>);
  m.attr("_default_random_state") = default_state();
}

}  // namespace adjoint::python
