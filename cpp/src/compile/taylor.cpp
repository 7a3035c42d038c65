#include "compile/taylor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "compile/trace.h"
#include "graph/apply.h"
#include "graph/results.h"
#include "transforms/derive.h"
#include "transforms/levels.h"

namespace adjoint {

namespace {

using Index = Graph::Index;

void accumulate(Tensor& sum, Tensor part) {
  if (!part.defined()) return;
  sum = sum.defined() ? add(sum, part) : std::move(part);
}

/// Power series in t of the values of a traced function. Linear operations act on each coefficient,
/// bilinear ones convolve. Any other operation y(x) is solved through y' = J(x) x', whose right
/// side is traced from its derivative rule into the same graph: as equal expressions are one node
/// there, the rules of exp, sin and cos, tanh and the like close after a few nodes. A coefficient
/// needs lower ones of those nodes only, so the descent below is as deep as the order at most.
class Series {
 public:
  Series(Trace& trace, std::span<const Tensor> primals, std::span<const Tensor> tangents)
      : trace_(trace) {
    for (std::size_t i = 0; i < primals.size(); ++i)
      coefficients_[trace.graph().inputs()[i]] = {primals[i], tangents[i]};
  }

  /// The value where t is 0, while the function is still being traced.
  Tensor primal(Index i) {
    std::vector<Index> stack{i};
    while (!stack.empty()) {
      const Index next = stack.back();
      const std::size_t size = stack.size();
      if (!evaluated_.contains(next))
        for (const Index in : trace_.graph().inputs_of(next))
          if (!evaluated_.contains(in)) stack.push_back(in);
      if (stack.size() > size) continue;
      stack.pop_back();
      if (evaluated_.insert(next).second) coefficient(next, 0);
    }
    return coefficient(i, 0);
  }

  /// Undefined where zero. Must be asked for in ascending order of nodes within each order.
  Tensor coefficient(Index i, std::size_t k) {
    if (k > 0 && !reach_.reaches(trace_.graph(), i)) return {};
    if (const auto known = velocity_of_.find(i); known != velocity_of_.end())
      return velocity_at(known->second, k);
    if (trace_.graph()[i].kind == Graph::Kind::input) {
      const std::vector<Tensor>& given = coefficients_[i];
      return k < given.size() ? given[k] : Tensor();
    }
    if (trace_.graph()[i].kind == Graph::Kind::constant)
      return Tensor::share(trace_.graph().value_of(i));
    if (trace_.graph()[i].tuple) return {};  // its parts are asked for
    if (trace_.graph()[i].op->part) {
      const Index tuple = trace_.graph().inputs_of(i)[0];
      return results(tuple, k)[part_index(trace_.graph()[i].attrs.get())];
    }
    while (coefficients_[i].size() <= k) {
      Tensor next = compute(i, coefficients_[i].size());
      coefficients_[i].push_back(std::move(next));
    }
    return coefficients_[i][k];
  }

 private:
  static Tensor scaled(const Tensor& x, double factor) {
    return !x.defined() || factor == 1 ? x : x * factor;
  }

  /// Coefficient k of x'; what applications start from is a value even where it is zero.
  Tensor velocity_at(Index x, std::size_t k) {
    Tensor c = scaled(coefficient(x, k + 1), static_cast<double>(k + 1));
    if (c.defined() || k > 0) return c;
    const Graph::Entry& e = trace_.graph()[x];
    return zeros(e.shape, e.dtype);
  }

  bool moves(Index i, std::size_t input) { return reach_.passes(trace_.graph(), i, input); }

  std::vector<Tensor> inputs_at(Index i, std::size_t k) {
    std::vector<Tensor> out;
    const auto inputs = trace_.graph().inputs_of(i);
    const std::vector<Index> list(inputs.begin(), inputs.end());  // the graph may grow meanwhile
    for (std::size_t n = 0; n < list.size(); ++n)
      out.push_back(k == 0 || moves(i, n) ? coefficient(list[n], k) : Tensor());
    return out;
  }

  std::vector<Tensor> all_applied(Index i, std::span<const Tensor> inputs) const {
    std::vector<Node*> nodes;
    for (const Tensor& t : inputs) nodes.push_back(t.node());
    return apply_all(*trace_.graph()[i].op, nodes, trace_.graph()[i].attrs);
  }
  Tensor applied(Index i, std::span<const Tensor> inputs) const {
    return all_applied(i, inputs)[0];
  }

  /// Coefficient k of all results of an operation with a `pull` rule.
  const std::vector<Tensor>& results(Index i, std::size_t k) {
    for (std::size_t next = results_[i].size(); next <= k; ++next) {
      std::vector<Tensor> found = compute_results(i, next);
      results_[i].push_back(std::move(found));
    }
    return results_[i][k];
  }

  std::vector<Tensor> compute_results(Index i, std::size_t k) {
    if (k == 0) return all_applied(i, inputs_at(i, 0));
    const Op& op = *trace_.graph()[i].op;
    const std::size_t count = results(i, 0).size();
    std::vector<Tensor> out(count);
    if (op.push) {
      const std::vector<Index> slopes = slopes_of(i);
      for (std::size_t n = 0; n < count; ++n)
        if (slopes[n] != Graph::kNone)
          out[n] = scaled(coefficient(slopes[n], k - 1), 1.0 / static_cast<double>(k));
      return out;
    }
    const std::vector<Tensor> tangents = inputs_at(i, k);
    if (std::ranges::none_of(tangents, &Tensor::defined)) return out;
    const std::vector<Tensor> point = inputs_at(i, 0);
    const std::vector<Tensor> outputs = results(i, 0);
    const AttrsPtr attrs = trace_.graph()[i].attrs;
    return output_tangents({op, attrs.get(), point, no_tensor(), outputs}, tangents);
  }

  Tensor compute(Index i, std::size_t k) {
    const Op& op = *trace_.graph()[i].op;
    if (op.pull) return results(i, k)[0];
    if (k == 0) return applied(i, inputs_at(i, 0));
    if (op.no_forward)
      return ends_tangents(trace_.graph()[i].attrs.get(), trace_.serial())
                 ? Tensor()
                 : coefficient(trace_.graph().inputs_of(i)[0], k);
    if (op.multilinear) return convolved(i, k);
    if (!is_linear(i)) {
      const Index slope = slope_of(i);
      if (slope == Graph::kNone) return {};
      return scaled(coefficient(slope, k - 1), 1.0 / static_cast<double>(k));
    }
    const std::vector<Tensor> tangents = inputs_at(i, k);
    if (std::ranges::none_of(tangents, &Tensor::defined)) return {};
    const std::vector<Tensor> point = inputs_at(i, 0);
    const Tensor output = coefficient(i, 0);
    const AttrsPtr attrs = trace_.graph()[i].attrs;
    return output_tangent({op, attrs.get(), point, output}, tangents);
  }

  /// sum over j of f(a_j, b_(k - j)); with one factor that varies, f(a_k, b). A factor of 0 hides
  /// an infinite slope of the other, as in every rule.
  Tensor convolved(Index i, std::size_t k) {
    std::vector<Tensor> factors = inputs_at(i, 0);
    SmallVector<std::size_t, 4> moving;
    for (std::size_t n = 0; n < factors.size(); ++n)
      if (moves(i, n)) moving.push_back(n);
    if (moving.size() > 2)
      raise(ErrorKind::runtime, trace_.graph()[i].op->name,
            "Taylor mode takes two varying factors");
    const auto inputs = trace_.graph().inputs_of(i);
    const std::vector<Index> list(inputs.begin(), inputs.end());
    Tensor sum;
    for (std::size_t j = 0; j <= k; ++j) {
      if (moving.size() == 1 && j < k) continue;
      factors[moving[0]] = coefficient(list[moving[0]], j);
      if (moving.size() == 2) factors[moving[1]] = coefficient(list[moving[1]], k - j);
      if (!std::ranges::all_of(factors, &Tensor::defined)) continue;
      const bool elementwise = trace_.graph()[i].op->kind == OpKind::elementwise;
      accumulate(sum, elementwise ? mul0(factors[0], factors[1]) : applied(i, factors));
    }
    return sum;
  }

  RuleArgs traced_args(Index i, std::vector<Tensor>& inputs, Tensor& output) const {
    for (const Index in : trace_.graph().inputs_of(i)) inputs.push_back(trace_.value(in));
    output = trace_.value(i);
    return {*trace_.graph()[i].op, trace_.graph()[i].attrs.get(), inputs, output};
  }

  /// Whether the operation is linear in what varies, jointly.
  bool is_linear(Index i) {
    const Op& op = *trace_.graph()[i].op;
    if (!op.partial) return op.transpose;
    if (const auto known = linear_.find(i); known != linear_.end()) return known->second;
    std::vector<Tensor> inputs;
    Tensor output;
    const AttrsPtr attrs = trace_.graph()[i].attrs;
    const RuleArgs args = traced_args(i, inputs, output);
    bool linear = true;
    for (std::size_t n = 0; n < inputs.size(); ++n)
      linear =
          linear && (!moves(i, n) || op.partial(args, static_cast<int>(n)).kind != Partial::value);
    linear_[i] = linear;
    return linear;
  }

  std::vector<Tensor> velocities_of(Index i) {
    std::vector<Tensor> out(trace_.graph().inputs_of(i).size());
    for (std::size_t n = 0; n < out.size(); ++n)
      if (moves(i, n)) out[n] = velocity(trace_.graph().inputs_of(i)[n]);
    return out;
  }

  /// The node of J(x) x'.
  Index slope_of(Index i) {
    if (const auto known = slopes_.find(i); known != slopes_.end()) return known->second[0];
    std::vector<Tensor> inputs;
    Tensor output;
    const AttrsPtr attrs = trace_.graph()[i].attrs;
    const RuleArgs args = traced_args(i, inputs, output);
    const ServedScope served(trace_.serial());
    const Tensor slope = output_tangent(args, velocities_of(i));
    const Index found = slope.defined() ? trace_.index(slope) : Graph::kNone;
    slopes_[i] = {found};
    return found;
  }

  /// The same for all results.
  const std::vector<Index>& slopes_of(Index i) {
    if (const auto known = slopes_.find(i); known != slopes_.end()) return known->second;
    std::vector<Tensor> inputs;
    for (const Index in : trace_.graph().inputs_of(i)) inputs.push_back(trace_.value(in));
    const std::vector<Tensor> outputs = trace_.results(i);
    const AttrsPtr attrs = trace_.graph()[i].attrs;
    const RuleArgs args{*trace_.graph()[i].op, attrs.get(), inputs, no_tensor(), outputs};
    const ServedScope served(trace_.serial());
    std::vector<Index> found;
    for (const Tensor& slope : output_tangents(args, velocities_of(i)))
      found.push_back(slope.defined() ? trace_.index(slope) : Graph::kNone);
    return slopes_[i] = std::move(found);
  }

  /// The node of x'.
  Tensor velocity(Index x) {
    const auto known = velocities_.find(x);
    if (known != velocities_.end()) return trace_.value(known->second);
    const Graph::Entry& e = trace_.graph()[x];
    const Dims shape = e.shape;
    Tensor out = trace_.argument({e.dtype, shape});
    velocities_[x] = trace_.index(out);
    velocity_of_[trace_.index(out)] = x;
    return out;
  }

  Trace& trace_;
  std::unordered_set<Index> evaluated_;  // by `primal`
  std::unordered_map<Index, std::vector<Tensor>> coefficients_;
  Reach reach_{Reach::Mode::forward};  // which values depend on t
  std::unordered_map<Index, bool> linear_;
  std::unordered_map<Index, std::vector<Index>> slopes_;                 // by result
  std::unordered_map<Index, std::vector<std::vector<Tensor>>> results_;  // by order
  std::unordered_map<Index, Index> velocities_, velocity_of_;
};

struct Limits {
  double least, largest;
};
Limits limits_of(DType t) {
  using Single = std::numeric_limits<float>;
  using Double = std::numeric_limits<double>;
  if (t == DType::float32) return {Single::min(), Single::max()};
  return {Double::min(), Double::max()};
}

/// c k! / unit^k by factors within the range of the dtype, of which as few as will do: a product
/// overflows or vanishes only if the result does, and 0 stays 0.
Tensor times_factorial(Tensor c, int k, double unit) {
  const Limits limits = limits_of(c.dtype());
  double factor = 1;
  for (int j = 1; j <= k; ++j) {
    const double next = factor * (j / unit);
    const bool fits = next >= limits.least && next <= limits.largest;
    if (!fits) c = c * factor;
    factor = fits ? next : j / unit;
  }
  return factor == 1 ? c : c * factor;
}

/// Whether k! is a number of the dtype.
bool has_factorial(DType t, int k) { return std::lgamma(k + 1.0) < std::log(limits_of(t).largest); }

/// The derivatives of the outputs, order by order, of which each is a coefficient times k!.
class Derivatives {
 public:
  /// The series is one in t / unit.
  Derivatives(Trace& trace, std::span<const Tensor> primals, std::span<const Tensor> tangents,
              double unit)
      : trace_(trace), series_(trace, primals, scaled(tangents, unit)), unit_(unit) {}

  /// What a traced value is where t is 0, as work was recorded when the trace was opened.
  Tensor primal(const Tensor& x) {
    if (!x.defined() || !trace_.is_own(x.node())) return x;
    return trace_.opening().as_then([&] { return series_.primal(trace_.index(x)); });
  }

  std::vector<Tensor> of_order(int k, std::span<const Index> outputs,
                               const std::vector<bool>& live) {
    for (Index i = 0; i < live.size(); ++i)
      if (live[i]) series_.coefficient(i, static_cast<std::size_t>(k));
    std::vector<Tensor> row;
    for (const Index o : outputs) {
      const Tensor c = series_.coefficient(o, static_cast<std::size_t>(k));
      const Graph::Entry& e = trace_.graph()[o];
      row.push_back(c.defined() ? times_factorial(c, k, unit_) : zeros(e.shape, e.dtype));
    }
    return row;
  }

 private:
  static std::vector<Tensor> scaled(std::span<const Tensor> tangents, double unit) {
    std::vector<Tensor> out;
    for (const Tensor& t : tangents) out.push_back(unit == 1 ? t : t * unit);
    return out;
  }

  Trace& trace_;
  Series series_;
  double unit_;
};

/// A handle from outside keeps the primal, as in forward mode by duals.
class SeriesCells final : public CellScope {
 public:
  SeriesCells(const Trace& trace, Derivatives& derivatives)
      : trace_(trace), derivatives_(derivatives) {}
  void write(const Cell& cell, Tensor value) override {
    write_outside(cell, derivatives_.primal(value));
  }
  void check(const Cell& cell, const Tensor& value) override {
    check_outside(cell, derivatives_.primal(value));
  }
  std::uint32_t forward() const noexcept override { return trace_.serial(); }

 private:
  const Trace& trace_;
  Derivatives& derivatives_;
};

/// Near (k!)^(1/k), so that coefficients are about as large as derivatives; a power of two.
double unit_for(int order) {
  return std::exp2(std::round(std::log2(std::max(order / std::numbers::e, 1.0))));
}

std::vector<std::vector<Tensor>> series_of(const ListFunction& f, std::span<const Tensor> primals,
                                           std::span<const Tensor> tangents, int order) {
  const std::unique_ptr<Trace> trace = Trace::hidden();
  std::vector<Tensor> arguments;
  for (const Tensor& x : primals)
    arguments.push_back(trace->argument({x.dtype(), Dims(x.shape())}));
  // Next to its factorial a coefficient may be too small for the dtype, and scaled too large.
  Derivatives scaled(*trace, primals, tangents, unit_for(order));
  std::vector<Index> outputs;
  {
    const SeriesCells cells(*trace, scaled);
    for (const Tensor& y : f(arguments)) outputs.push_back(trace->index(y));
  }
  const std::vector<bool> live = trace->graph().needed_by(outputs, true);
  std::optional<Derivatives> plain;
  for (const Index o : outputs)
    if (!has_factorial(trace->graph()[o].dtype, order) && !plain)
      plain.emplace(*trace, primals, tangents, 1);
  std::vector<std::vector<Tensor>> out;
  for (int k = 0; k <= order; ++k) {
    std::vector<Tensor>& row = out.emplace_back(scaled.of_order(k, outputs, live));
    if (!plain || k == 0) continue;
    const std::vector<Tensor> other = plain->of_order(k, outputs, live);
    for (std::size_t i = 0; i < row.size(); ++i)
      if (is_floating(row[i].dtype())) row[i] = where(isfinite(row[i]), row[i], other[i]);
  }
  return out;
}

}  // namespace

Linearized linearize(const ListFunction& f, std::span<const Tensor> primals) {
  Linearized out;
  const std::unique_ptr<Trace> trace = Trace::hidden();
  std::vector<Tensor> tangents;
  {
    const TransformLevel level = TransformLevel::dual();
    std::vector<Tensor> duals;
    for (const Tensor& x : primals)
      duals.push_back(level.make_dual(x, trace->argument({x.dtype(), Dims(x.shape())})));
    for (const Tensor& y : f(duals)) {
      auto [primal, tangent] = level.split_dual(y);
      if (!tangent.defined()) tangent = zeros(primal.shape(), primal.dtype());
      out.outputs.push_back(std::move(primal));
      tangents.push_back(std::move(tangent));
    }
  }
  out.pushforward = std::make_shared<const Graph>(std::move(trace->finish(tangents).graph));
  return out;
}

std::vector<std::vector<Tensor>> taylor(const ListFunction& f, std::span<const Tensor> primals,
                                        std::span<const Tensor> tangents, int order) {
  if (thread_state().constant) {
    const auto constants = [](std::span<const Tensor> given) {
      std::vector<Tensor> out;
      for (const Tensor& x : given) out.push_back(constant_part(x));
      return out;
    };
    const std::vector<Tensor> point = constants(primals), direction = constants(tangents);
    return series_of(f, point, direction, order);
  }
  return series_of(f, primals, tangents, order);
}

}  // namespace adjoint
