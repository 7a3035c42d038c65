// Forward passes through traced functions: the linear part of a function at a point, and the
// derivatives of every order along a direction.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "adjoint/compile.h"
#include "compile/graph.h"

namespace adjoint {

/// A function at a point, and its derivative there as a graph from tangents of the inputs to
/// tangents of the outputs, in which everything that does not depend on the tangents is constant.
struct Linearized {
  std::vector<Tensor> outputs;
  std::shared_ptr<const Graph> pushforward;
};
Linearized linearize(const ListFunction& f, std::span<const Tensor> primals);

/// The outputs of `f` at `primals`, then the first `order` derivatives of
/// f(primals + t * tangents) in t at 0. Taylor mode: the cost of one more order grows with the
/// order, not exponentially (Griewank and Walther 2008, chapter 13).
std::vector<std::vector<Tensor>> taylor(const ListFunction& f, std::span<const Tensor> primals,
                                        std::span<const Tensor> tangents, int order);

}  // namespace adjoint
