// Reverse mode of a loop keeps the carried values of its steps, and computes the rest again.
#include "compile/loops.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "adjoint/index.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "compile/control.h"
#include "graph/cell.h"
#include "graph/trace_sink.h"
#include "ops/structural.h"
#include "transforms/custom.h"

namespace adjoint {

namespace {

using List = std::vector<Tensor>;
using Tensors = std::span<const Tensor>;
using GraphPtr = std::shared_ptr<const Graph>;
using Pull = std::function<List(Tensors inputs, Tensors cotangents, Wanted wanted)>;
using Marks = SmallVector<bool, 16>;  // by value
using Push = std::function<List(Tensors inputs, Tensors tangents)>;

// ---- Lists, in which only what is floating has slopes
// --------------------------------------------

bool is_moving(const Tensor& x) { return x.defined() && is_differentiable(x.dtype()); }

List floats(Tensors values) {
  List out;
  std::ranges::copy_if(values, std::back_inserter(out), is_moving);
  return out;
}

std::size_t count_floats(Tensors values) {
  return static_cast<std::size_t>(std::ranges::count_if(values, is_moving));
}

List joined(std::initializer_list<Tensors> lists) {
  List out;
  for (const Tensors list : lists) out.insert(out.end(), list.begin(), list.end());
  return out;
}

Marks joined(std::initializer_list<std::span<const bool>> lists) {
  Marks out;
  for (const auto& list : lists) out.append(list.data(), list.size());
  return out;
}

/// The first `count` values, which are taken off `rest`.
Tensors take_first(Tensors& rest, std::size_t count) {
  return std::exchange(rest, rest.subspan(count)).first(count);
}

Marks marks_of_floats(Tensors values) {
  Marks out;
  for (const Tensor& x : values) out.push_back(is_moving(x));
  return out;
}

/// Those that are floating and whose cotangents are wanted; `first` is the number of the first.
Marks wanted_floats(Tensors values, Wanted wanted, std::size_t first = 0) {
  Marks out = marks_of_floats(values);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = out[i] && wanted[first + i];
  return out;
}

std::size_t count(std::span<const bool> marks) {
  return static_cast<std::size_t>(std::ranges::count(marks, true));
}

List marked(Tensors values, std::span<const bool> marks) {
  List out;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (marks[i]) out.push_back(values[i]);
  return out;
}

/// The given ones in the places with a mark, undefined elsewhere.
List placed(std::span<const bool> marks, Tensors given) {
  List out;
  for (const bool mark : marks) out.push_back(mark ? take_first(given, 1)[0] : Tensor());
  return out;
}
List placed(Tensors values, Tensors moving) { return placed(marks_of_floats(values), moving); }

Tensor zero_slope(const Tensor& x) { return zeros(x.shape(), x.dtype()); }

List zero_slopes(Tensors values) {
  List out;
  for (const Tensor& x : values) out.push_back(zero_slope(x));
  return out;
}

/// The slopes of the values with a mark, zeros where they are undefined.
List filled(Tensors values, Tensors slopes, std::span<const bool> marks) {
  List out;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (marks[i]) out.push_back(slopes[i].defined() ? slopes[i] : zero_slope(values[i]));
  return out;
}
List filled(Tensors values, Tensors slopes) {
  return filled(values, slopes, marks_of_floats(values));
}

List sums(Tensors a, Tensors b) {
  List out;
  for (std::size_t i = 0; i < a.size(); ++i) out.push_back(a[i] + b[i]);
  return out;
}

std::vector<ResultSpec> specs_of(Tensors values) {
  std::vector<ResultSpec> out;
  for (const Tensor& x : values) out.push_back({x.dtype(), Dims(x.shape())});
  return out;
}

// ---- Derivatives and batches of functions of lists
// -----------------------------------------------

/// A cotangent for each input of `f` at a point, undefined where it has no mark or leads to no
/// output, from one for each floating output.
List pull_at(const ListFunction& f, Tensors point, std::span<const bool> marks,
             Tensors cotangents) {
  List given(point.begin(), point.end()), leaves, outputs;
  const std::uint64_t start = thread_state().order;
  {
    const RecorderScope recorder;
    for (std::size_t i = 0; i < given.size(); ++i)
      if (marks[i]) leaves.push_back(given[i] = reverse_input(given[i]));
    outputs = floats(f(given));
  }
  const std::pair range(start + 1, std::numeric_limits<std::uint64_t>::max());
  SweepOptions options;
  options.ranges = {&range, 1};
  options.create_graph = thread_state().recording;
  options.undefined_if_unconnected = true;
  return placed(marks, sweep(outputs, cotangents, leaves, options));
}

/// The same for the inputs with a mark alone, with zeros for those that lead to no output.
List pull_all(const ListFunction& f, Tensors point, std::span<const bool> marks,
              Tensors cotangents) {
  return filled(point, pull_at(f, point, marks, cotangents), marks);
}

struct Pushed {
  List values;
  List slopes;  // of the floating ones
};

Pushed push_at(const ListFunction& f, Tensors point, Tensors tangents) {
  const TransformLevel level = TransformLevel::dual_again();
  List given(point.begin(), point.end());
  for (std::size_t i = 0; i < given.size(); ++i)
    if (is_moving(given[i]))
      given[i] =
          level.make_dual(given[i], tangents[i].defined() ? tangents[i] : zero_slope(given[i]));
  Pushed out;
  for (const Tensor& y : f(given)) {
    auto [primal, tangent] = level.split_dual(y);
    if (is_moving(primal)) out.slopes.push_back(tangent.defined() ? tangent : zero_slope(primal));
    out.values.push_back(std::move(primal));
  }
  return out;
}

/// The values with a batch as axis 0 where it is wanted and missing.
List repeated(Tensors values, std::span<const bool> mapped, std::span<const bool> wanted,
              std::int64_t size) {
  List out;
  for (std::size_t i = 0; i < values.size(); ++i)
    out.push_back(mapped[i] || !wanted[i]
                      ? values[i]
                      : broadcast_to(values[i], prefixed(size, values[i].shape())));
  return out;
}

/// `f` over a batch on axis 0 of the values `mapped`. The results `gives` have it, and others must
/// not depend on it.
List over_batch(const ListFunction& f, Tensors values, std::span<const bool> mapped,
                std::span<const bool> gives, std::int64_t size) {
  const TransformLevel level = TransformLevel::batch(size);
  List given(values.begin(), values.end());
  for (std::size_t i = 0; i < given.size(); ++i)
    if (mapped[i]) given[i] = level.make_batched(given[i], 0);
  List out = f(given);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (gives[i]) out[i] = level.split_batched(out[i], 0);
  return out;
}

/// The outputs that depend on these inputs.
Marks depending(const GraphPtr& graph, const Marks& inputs) {
  const std::vector<bool> all =
      graph->depending_on(std::vector<bool>(inputs.begin(), inputs.end()));
  Marks out;
  for (const Graph::Index i : graph->outputs()) out.push_back(all[i]);
  return out;
}

/// The outputs of a loop's body, the first of which are carried to its next step, that depend on
/// these inputs at any step.
Marks depending_in_loop(const GraphPtr& body, std::span<const bool> carry,
                        std::span<const bool> rest) {
  Marks state(carry.begin(), carry.end());
  while (true) {
    Marks out = depending(body, joined({state, rest}));
    bool grows = false;
    for (std::size_t i = 0; i < state.size(); ++i) {
      grows = grows || (out[i] && !state[i]);
      out[i] = state[i] = state[i] || out[i];
    }
    if (!grows) return out;
  }
}

/// How a call behaves along a batch: its rule, and which results have it.
template <class Made>
Callee::Batch batch_of(const Made& made, List (*rule)(const Made&, const BatchArgs&),
                       Marks (*depends)(const Made&, std::span<const bool>)) {
  return make_batch([=](const BatchArgs& args) { return rule(made, args); },
                    [=](const std::vector<bool>& inputs) {
                      const Marks out = depends(made, Marks(inputs.begin(), inputs.end()));
                      return std::vector<bool>(out.begin(), out.end());
                    });
}

/// One flag per member of a batch, in a shape that broadcasts against x.
Tensor aligned(const Tensor& flags, const Tensor& x) {
  Dims shape(flags.shape());
  shape.resize(shape.size() + x.shape().size() - 1, 1);
  return reshape(flags, shape);
}

List chosen(const Tensor& flags, Tensors a, Tensors b) {
  List out;
  for (std::size_t i = 0; i < a.size(); ++i) out.push_back(where(aligned(flags, a[i]), a[i], b[i]));
  return out;
}

// ---- Calls
// ---------------------------------------------------------------------------------------

class CallRule final : public DerivativeRule {
 public:
  CallRule(IntrusivePtr<const Callee> callee, std::vector<ResultSpec> values, Pull pull, Push push)
      : DerivativeRule(std::move(values)),
        callee_(std::move(callee)),
        pull_(std::move(pull)),
        push_(std::move(push)) {}
  List pull(Tensors inputs, Tensors cotangents, Wanted wanted) const override {
    return pull_(inputs, all_defined(cotangents), wanted);
  }
  List push(Tensors inputs, Tensors tangents) const override { return push_(inputs, tangents); }
  std::vector<bool> depends(const std::vector<bool>& inputs) const override {
    const std::vector<bool> all = callee_->depends(inputs);
    std::vector<bool> out;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (is_differentiable(callee_->results()[i].dtype)) out.push_back(all[i]);
    return out;
  }
  void list(Holdings& out) const override { out.add(callee_.get()); }

 private:
  IntrusivePtr<const Callee> callee_;
  Pull pull_;
  Push push_;
};

/// The results of a call, with the derivative that the rules give where one is wanted.
List bound(const IntrusivePtr<const Callee>& callee, Tensors inputs, Pull pull, Push push) {
  List stopped;
  for (const Tensor& x : inputs) stopped.push_back(stop_gradient(x));
  List values = call(callee, stopped);
  const auto moves = [](const Tensor& x) {
    return is_moving(x) && (is_differentiated(x) || is_in_body(x));
  };
  const List moving = floats(values);
  if (moving.empty() || std::ranges::none_of(inputs, moves)) return values;
  const List moved =
      with_derivative(moving, inputs,
                      IntrusivePtr<const DerivativeRule>(new CallRule(
                          callee, specs_of(moving), std::move(pull), std::move(push))));
  auto next = moved.begin();
  for (Tensor& y : values)
    if (is_moving(y)) y = *next++;
  return values;
}

ListFunction replay_of(const GraphPtr& graph) {
  return [graph](Tensors inputs) { return graph->replay(inputs); };
}

/// Lines of the program are those of the trace that is open around.
ClosedGraph trace_body(const ListFunction& f, Tensors examples, const char* what,
                       bool branch = false) {
  auto* const around = dynamic_cast<Trace*>(any_trace());
  return trace_closed(f, specs_of(examples), around ? around->source_finder() : SourceFinder(),
                      what, branch);
}

// ---- A choice
// ------------------------------------------------------------------------------------

struct Choice {
  GraphPtr if_true, if_false;
  std::size_t shared, of_true;

  /// What both functions take, and what each has captured.
  template <class T>
  struct Parts {
    std::span<const T> both, own, other;
  };
  template <class T>
  Parts<T> parts(std::span<const T> inputs) const {
    return {inputs.subspan(1, shared), inputs.subspan(1 + shared, of_true),
            inputs.subspan(1 + shared + of_true)};
  }
};

List pull_choice(const Choice& c, Tensors inputs, Tensors cotangents, Wanted wanted) {
  const auto x = c.parts(inputs);
  const Marks marks = wanted_floats(inputs, wanted);  // the predicate is not floating
  const auto m = c.parts(std::span<const bool>(marks));
  const auto first = [&](Tensors cts) {
    const List found =
        pull_all(replay_of(c.if_true), joined({x.both, x.own}), joined({m.both, m.own}), cts);
    return joined({found, zero_slopes(marked(x.other, m.other))});
  };
  const auto second = [&](Tensors cts) {
    const List found =
        pull_all(replay_of(c.if_false), joined({x.both, x.other}), joined({m.both, m.other}), cts);
    Tensors of_other = found;
    const Tensors of_both = take_first(of_other, count(m.both));
    return joined({of_both, zero_slopes(marked(x.own, m.own)), of_other});
  };
  return placed(marks, traced_cond(inputs[0], first, second, cotangents));
}

List push_choice(const Choice& c, Tensors inputs, Tensors tangents) {
  const auto x = c.parts(inputs), t = c.parts(tangents);
  const auto first = [&](Tensors) {
    return push_at(replay_of(c.if_true), joined({x.both, x.own}), joined({t.both, t.own})).slopes;
  };
  const auto second = [&](Tensors) {
    return push_at(replay_of(c.if_false), joined({x.both, x.other}), joined({t.both, t.other}))
        .slopes;
  };
  return traced_cond(inputs[0], first, second, {});
}

Marks depends_choice(const Choice& c, std::span<const bool> inputs) {
  const auto has = c.parts(inputs);
  Marks out = depending(c.if_true, joined({has.both, has.own}));
  const Marks others = depending(c.if_false, joined({has.both, has.other}));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = inputs[0] || out[i] || others[i];
  return out;
}

/// Where the predicate differs along the batch both functions run.
List batch_choice(const Choice& c, const BatchArgs& args) {
  const auto x = c.parts(args.inputs);
  const auto has = c.parts(args.mapped);
  const Marks of_true = joined({has.both, has.own}), of_false = joined({has.both, has.other});
  const Marks gives = depends_choice(c, args.mapped);
  const auto first = [&](Tensors) {
    return over_batch(replay_of(c.if_true), joined({x.both, x.own}), of_true, gives, args.size);
  };
  const auto second = [&](Tensors) {
    return over_batch(replay_of(c.if_false), joined({x.both, x.other}), of_false, gives, args.size);
  };
  if (args.mapped[0]) return chosen(args.inputs[0], first({}), second({}));
  return traced_cond(args.inputs[0], first, second, {});
}

List call_choice(const Choice& c, Tensors inputs) {
  const auto callee =
      make_cond(*c.if_true, *c.if_false, c.shared, batch_of(c, batch_choice, depends_choice));
  return bound(
      callee, inputs,
      [c](Tensors in, Tensors cts, Wanted wanted) { return pull_choice(c, in, cts, wanted); },
      [c](Tensors in, Tensors ts) { return push_choice(c, in, ts); });
}

std::string text_of(const std::vector<ResultSpec>& specs) {
  std::string out;
  for (const ResultSpec& spec : specs)
    out += (out.empty() ? "" : ", ") + std::string(name(spec.dtype)) + ' ' + to_string(spec.shape);
  return '(' + out + ')';
}

// ---- A loop over rows
// ----------------------------------------------------------------------------

struct Rows {
  GraphPtr body;
  std::size_t carried, rows;
  std::int64_t length;
  bool reverse;
};

/// What the steps carry has cotangents in any case, and what they read only if that is wanted: a
/// sum over all steps, for what they have captured.
List pull_rows(const Rows& s, Tensors inputs, Tensors cotangents, Wanted wanted) {
  Tensors fixed = inputs;
  const Tensors carry = take_first(fixed, s.carried), arrays = take_first(fixed, s.rows);
  const Marks of_carry = marks_of_floats(carry);
  const Marks of_rows = wanted_floats(arrays, wanted, s.carried);
  const Marks of_fixed = wanted_floats(fixed, wanted, s.carried + s.rows);
  const Marks marks = joined({of_carry, of_rows, of_fixed});
  const std::size_t moving = count_floats(carry);
  const List totals = zero_slopes(marked(fixed, of_fixed));
  const auto forward = [&](Tensors state) {
    const List out = s.body->replay(joined({state, fixed}));
    return joined({Tensors(out).first(s.carried), state.first(s.carried)});
  };
  const auto back = [&](Tensors state) {
    const Tensors ct = take_first(state, moving), total = take_first(state, totals.size());
    const Tensors point = take_first(state, s.carried + s.rows);
    const List found =
        pull_all(replay_of(s.body), joined({point, fixed}), marks, joined({ct, state}));
    Tensors to_fixed = found;
    const Tensors to_carry = take_first(to_fixed, moving);
    const Tensors to_row = take_first(to_fixed, count(of_rows));
    return joined({to_carry, sums(total, to_fixed), to_row});
  };
  const List steps = traced_scan(forward, carry, arrays, s.length, s.reverse);
  const Tensors kept = Tensors(steps).subspan(s.carried);
  const List out =
      traced_scan(back, joined({cotangents.first(moving), totals}),
                  joined({kept, arrays, cotangents.subspan(moving)}), s.length, !s.reverse);
  Tensors to_rows = out;
  const Tensors to_carry = take_first(to_rows, moving);
  const Tensors to_fixed = take_first(to_rows, totals.size());
  return placed(marks, joined({to_carry, to_rows, to_fixed}));
}

List push_rows(const Rows& s, Tensors inputs, Tensors tangents) {
  Tensors fixed = inputs, of_fixed = tangents;
  const Tensors carry = take_first(fixed, s.carried), arrays = take_first(fixed, s.rows);
  const Tensors of_carry = take_first(of_fixed, s.carried), of_rows = take_first(of_fixed, s.rows);
  const std::size_t moving = count_floats(carry);
  const auto step = [&](Tensors state) {
    const Tensors c = take_first(state, s.carried), tc = take_first(state, moving);
    const Tensors x = take_first(state, s.rows);
    const Pushed out = push_at(replay_of(s.body), joined({c, x, fixed}),
                               joined({placed(c, tc), placed(x, state), of_fixed}));
    return joined({Tensors(out.values).first(s.carried), out.slopes});
  };
  List out = traced_scan(step, joined({carry, filled(carry, of_carry)}),
                         joined({arrays, filled(arrays, of_rows)}), s.length, s.reverse);
  out.erase(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(s.carried));
  return out;
}

Tensor with_axis_moved(const Tensor& x, int from, int to) {
  return permute_dims(x, moved_axis(x.ndim(), from, to));
}

Marks depends_rows(const Rows& s, std::span<const bool> inputs) {
  return depending_in_loop(s.body, inputs.first(s.carried), inputs.subspan(s.carried));
}

List batch_rows(const Rows& s, const BatchArgs& args) {
  Tensors fixed = args.inputs;
  const Tensors carry = take_first(fixed, s.carried), arrays = take_first(fixed, s.rows);
  const auto of_carry = args.mapped.first(s.carried), of_rest = args.mapped.subspan(s.carried);
  const Marks gives = depends_rows(s, args.mapped);
  const auto state_gives = std::span<const bool>(gives).first(s.carried);
  const Marks mapped = joined({state_gives, of_rest});
  List turned;  // the rows are axis 0, and the batch axis 1
  for (std::size_t i = 0; i < arrays.size(); ++i)
    turned.push_back(args.mapped[s.carried + i] ? with_axis_moved(arrays[i], 0, 1) : arrays[i]);
  const auto step = [&](Tensors state) {
    return over_batch(replay_of(s.body), joined({state, fixed}), mapped, gives, args.size);
  };
  List out = traced_scan(step, repeated(carry, of_carry, state_gives, args.size), turned, s.length,
                         s.reverse);
  for (std::size_t i = s.carried; i < out.size(); ++i)
    if (gives[i]) out[i] = with_axis_moved(out[i], 0, 1);
  return out;
}

List call_rows(const Rows& s, Tensors inputs) {
  const auto callee = make_scan(*s.body, s.carried, s.rows, s.length, s.reverse,
                                batch_of(s, batch_rows, depends_rows));
  return bound(
      callee, inputs,
      [s](Tensors in, Tensors cts, Wanted wanted) { return pull_rows(s, in, cts, wanted); },
      [s](Tensors in, Tensors ts) { return push_rows(s, in, ts); });
}

// ---- A loop until a condition
// --------------------------------------------------------------------

struct Until {
  GraphPtr test, body;
  std::size_t carried, of_test;
  std::int64_t limit;
};

/// As many steps as there may be, of which those after the last change nothing.
List bounded(const Until& w, Tensors inputs) {
  Tensors fixed = inputs;
  const Tensors carry = take_first(fixed, w.carried), tested = take_first(fixed, w.of_test);
  const auto step = [&](Tensors state) {
    const Tensor goes_on = w.test->replay(joined({state, tested}))[0];
    return traced_cond(
        goes_on, [&](Tensors c) { return w.body->replay(joined({c, fixed})); },
        [](Tensors c) { return List(c.begin(), c.end()); }, state);
  };
  return traced_scan(step, carry, {}, w.limit, false);
}

List pull_until(const Until& w, Tensors inputs, Tensors cotangents, Wanted wanted) {
  if (w.limit < 0)
    raise(ErrorKind::value, "while_loop",
          "reverse mode must keep every step and needs a bound on their number inside of compile: "
          "pass max_steps=, or use forward mode");
  List apart;
  for (const Tensor& x : inputs) apart.push_back(barrier(x));
  return pull_at([&w](Tensors in) { return bounded(w, in); }, apart, wanted_floats(apart, wanted),
                 cotangents);
}

List push_until(const Until& w, Tensors inputs, Tensors tangents) {
  Tensors fixed = inputs, of_fixed = tangents;
  const Tensors carry = take_first(fixed, w.carried), tested = take_first(fixed, w.of_test);
  const Tensors of_carry = take_first(of_fixed, w.carried);
  take_first(of_fixed, w.of_test);
  const auto condition = [&](Tensors state) {
    return w.test->replay(joined({state.first(w.carried), tested}));
  };
  const auto step = [&](Tensors state) {
    const Tensors c = take_first(state, w.carried);
    const Pushed out =
        push_at(replay_of(w.body), joined({c, fixed}), joined({placed(c, state), of_fixed}));
    return joined({out.values, out.slopes});
  };
  List out = traced_while(condition, step, joined({carry, filled(carry, of_carry)}), w.limit);
  out.erase(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(w.carried));
  return out;
}

/// What a loop has carried depends on its condition too.
Marks depends_until(const Until& w, std::span<const bool> inputs) {
  const auto tested = inputs.subspan(w.carried, w.of_test);
  Marks out =
      depending_in_loop(w.body, inputs.first(w.carried), inputs.subspan(w.carried + w.of_test));
  if (depending(w.test, joined({out, tested}))[0]) out.assign(out.size(), true);
  return out;
}

/// Where the condition differs along the batch the loop goes on while any member does; a member
/// that is done keeps its values.
List batch_until(const Until& w, const BatchArgs& args) {
  Tensors fixed = args.inputs;
  const Tensors carry = take_first(fixed, w.carried), tested = take_first(fixed, w.of_test);
  const Marks gives = depends_until(w, args.mapped);
  const Marks of_test = joined({gives, args.mapped.subspan(w.carried, w.of_test)});
  const Marks of_body = joined({gives, args.mapped.subspan(w.carried + w.of_test)});
  const Marks differs = depending(w.test, of_test);
  const auto going = [&](Tensors state) {
    return over_batch(replay_of(w.test), joined({state, tested}), of_test, differs, args.size)[0];
  };
  const auto condition = [&](Tensors state) {
    return List{differs[0] ? any(going(state)) : going(state)};
  };
  const auto step = [&](Tensors state) {
    const List next =
        over_batch(replay_of(w.body), joined({state, fixed}), of_body, gives, args.size);
    return differs[0] ? chosen(going(state), next, state) : next;
  };
  const auto start = repeated(carry, args.mapped, gives, args.size);
  return traced_while(condition, step, start, w.limit);
}

List call_until(const Until& w, Tensors inputs) {
  const auto callee =
      make_while(*w.test, *w.body, w.carried, w.limit, batch_of(w, batch_until, depends_until));
  return bound(
      callee, inputs,
      [w](Tensors in, Tensors cts, Wanted wanted) { return pull_until(w, in, cts, wanted); },
      [w](Tensors in, Tensors ts) { return push_until(w, in, ts); });
}

}  // namespace

// ---- The calls on functions
// ----------------------------------------------------------------------

List traced_cond(const Tensor& pred, const ListFunction& if_true, const ListFunction& if_false,
                 Tensors operands) {
  const ClosedGraph first = trace_body(if_true, operands, "cond", true);
  const ClosedGraph second = trace_body(if_false, operands, "cond", true);
  const auto same = [](const ResultSpec& a, const ResultSpec& b) {
    return a.dtype == b.dtype && a.shape == b.shape;
  };
  if (!std::ranges::equal(first.graph->results(), second.graph->results(), same))
    raise(ErrorKind::type, "cond",
          "both functions must return the same shapes and dtypes, not " +
              text_of(first.graph->results()) + " and " + text_of(second.graph->results()));
  return call_choice({first.graph, second.graph, operands.size(), first.captured.size()},
                     joined({{&pred, 1}, operands, first.captured, second.captured}));
}

List traced_scan(const ListFunction& step, Tensors carry, Tensors rows, std::int64_t length,
                 bool reverse) {
  List examples(carry.begin(), carry.end());
  for (const Tensor& x : rows) examples.push_back(zeros_view(x.shape().subspan(1), x.dtype()));
  const ClosedGraph body = trace_body(step, examples, "scan");
  return call_rows({body.graph, carry.size(), rows.size(), length, reverse},
                   joined({carry, rows, body.captured}));
}

List traced_while(const ListFunction& condition, const ListFunction& step, Tensors carry,
                  std::int64_t limit) {
  const ClosedGraph test = trace_body(condition, carry, "while_loop");
  const ClosedGraph body = trace_body(step, carry, "while_loop");
  return call_until({test.graph, body.graph, carry.size(), test.captured.size(), limit},
                    joined({carry, test.captured, body.captured}));
}

// ---- With known values
// ---------------------------------------------------------------------------

namespace {

bool is_traced(const Tensor& x) { return innermost(x.node())->box == Box::trace; }

bool is_batched(const Tensor& x) {
  for (const Node* n = x.node(); n->level && n->box != Box::trace; n = n->boxed.primal)
    if (n->box == Box::batch) return true;
  return false;
}

/// Whether it is true for any member of any batch.
bool any_true(const Tensor& x) {
  return any(Tensor::share(const_cast<Node*>(innermost(x.node()))).detach()).item() != 0;
}

void check_predicate(const Tensor& pred, const char* what) {
  if (!is_bool(pred.dtype()) || pred.ndim() != 0)
    raise(ErrorKind::type, what,
          "the condition must be one bool, not " + std::string(name(pred.dtype())) + " of shape " +
              to_string(pred.shape()) + ": compare first, and reduce by all or any");
}

void check_alike(Tensors a, Tensors b, const char* what, const char* needed) {
  const auto same = [](const Tensor& x, const Tensor& y) {
    return x.dtype() == y.dtype() && std::ranges::equal(x.shape(), y.shape());
  };
  if (!std::ranges::equal(a, b, same))
    raise(ErrorKind::type, what,
          std::string(needed) + ": " + text_of(specs_of(a)) + " and " + text_of(specs_of(b)));
}

List run_refusing(const ListFunction& f, Tensors inputs, const char* what) {
  const RefusingScope scope(what);
  return f(inputs);
}

constexpr const char* kSameCarry =
    "every step must return the carried values in the shapes and dtypes of the first";

}  // namespace

List cond(const Tensor& pred, const ListFunction& if_true, const ListFunction& if_false,
          Tensors operands) {
  check_predicate(pred, "cond");
  if (is_batched(pred)) {
    const List a = run_refusing(if_true, operands, "cond");
    const List b = run_refusing(if_false, operands, "cond");
    check_alike(a, b, "cond", "both functions must return values alike");
    List out;
    for (std::size_t i = 0; i < a.size(); ++i) out.push_back(where(pred, a[i], b[i]));
    return out;
  }
  if (is_traced(pred)) return traced_cond(pred, if_true, if_false, operands);
  return run_refusing(any_true(pred) ? if_true : if_false, operands, "cond");
}

List scan(const ListFunction& step, Tensors init, Tensors rows, std::int64_t length, bool reverse) {
  if (length < 0) raise(ErrorKind::value, "scan", "the number of steps must not be negative");
  for (const Tensor& x : rows)
    if (x.ndim() == 0 || x.shape()[0] != length)
      raise(ErrorKind::value, "scan",
            "an array of shape " + to_string(x.shape()) + " has no row for each of " +
                std::to_string(length) + " steps");
  const ListFunction checked = [&](Tensors given) {
    List out = step(given);
    check_alike(init, Tensors(out).first(std::min(out.size(), init.size())), "scan", kSameCarry);
    return out;
  };
  if (current_trace()) return traced_scan(checked, init, rows, length, reverse);
  List state(init.begin(), init.end());
  std::vector<List> columns;  // by what the steps return
  const auto take = [&](std::int64_t t, bool shape_only) {
    List given = state;
    for (const Tensor& x : rows)
      given.push_back(shape_only ? zeros(x.shape().subspan(1), x.dtype()) : index(x, {t}));
    List out = run_refusing(checked, given, "scan");
    columns.resize(out.size() - state.size());
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i].push_back(out[state.size() + i]);
    out.resize(state.size());
    return out;
  };
  for (std::int64_t t = 0; t < length; ++t) state = take(reverse ? length - 1 - t : t, false);
  List out = state;
  if (length == 0) take(0, true);  // one step on zeros tells what its rows are like
  for (List& column : columns) {
    if (reverse) std::ranges::reverse(column);
    const Tensor& one = column[0];
    out.push_back(length ? stack(column, 0) : zeros(prefixed(0, one.shape()), one.dtype()));
  }
  return out;
}

List while_loop(const ListFunction& condition, const ListFunction& step, Tensors init,
                std::int64_t max_steps) {
  const ListFunction test = [&](Tensors state) {
    List out = condition(state);
    if (out.size() != 1)
      raise(ErrorKind::type, "while_loop", "the condition must be one bool, not a list");
    check_predicate(out[0], "while_loop");
    return out;
  };
  const ListFunction checked = [&](Tensors state) {
    List out = step(state);
    check_alike(init, out, "while_loop", kSameCarry);
    return out;
  };
  const Tensor first = current_trace() ? Tensor() : run_refusing(test, init, "while_loop")[0];
  if (!first.defined() || is_traced(first)) return traced_while(test, checked, init, max_steps);
  List state(init.begin(), init.end());
  Tensor going = first;
  for (std::int64_t taken = 0; taken != max_steps && any_true(going);) {
    List fresh = run_refusing(checked, state, "while_loop");
    if (is_batched(going))
      for (std::size_t i = 0; i < fresh.size(); ++i) fresh[i] = where(going, fresh[i], state[i]);
    state = std::move(fresh);
    if (++taken == max_steps) break;
    going = run_refusing(test, state, "while_loop")[0];
    if (is_traced(going))  // the first steps have known it
      return traced_while(test, checked, state, max_steps < 0 ? max_steps : max_steps - taken);
  }
  return state;
}

}  // namespace adjoint
