// Draws from a generator's state. Records of the registry are called by name; one that
// this build lacks is an error of the call, not of the import.
#include <array>
#include <optional>
#include <random>
#include <utility>

#include "functions.h"
#include "graph/apply.h"

namespace adjoint::python {

namespace {

const Op& record(const char* name) {
  const Op* op = find_op_or_null(name);
  if (!op) raise(ErrorKind::runtime, name, "this build has no such operation");
  return *op;
}

// state, shape, dtype: attrs.ints is the shape.
PyObject* draw(const Arguments& a, const char* name, Dims bounds) {
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->ints = a.dims(1);
  attrs->more = std::move(bounds);
  if (attrs->more.empty())
    attrs->dtype = a.dtype(2).value_or(DType::float64);
  else
    attrs->dtype = DType::int64;
  const Tensor state = a.tensor(0);
  return wrap(apply(record(name), {&state}, held));
}

PyObject* uniform_body(const Arguments& a) { return draw(a, "random_uniform", {}); }
PyObject* normal_body(const Arguments& a) { return draw(a, "random_normal", {}); }
PyObject* integers_body(const Arguments& a) {
  return draw(a, "random_integers", Dims{a.integer(2), a.integer(3)});
}

// Steps over what a draw of n elements uses, before the draw and in one step with reading the
// state: two threads never get the same numbers. (the state to draw from, the state now).
py::tuple reserve(const py::object& handle, std::int64_t n) {
  PyTensor* t = as_tensor(handle.ptr());
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->ints.push_back(n);
  for (;;) {
    const Tensor state = Tensor::share(read_node(t));
    const Tensor next = apply(record("random_advance"), {&state}, held);
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
  auto* attrs = new Attrs;
  const AttrsPtr held(attrs);
  attrs->ints = a.dims(1);
  const Tensor state = a.tensor(0);
  return wrap(apply(record("random_bits"), {&state}, held));
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
