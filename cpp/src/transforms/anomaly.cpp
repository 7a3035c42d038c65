// Anomaly mode. Values are looked at where they are in memory, below all levels, and reported under
// the line of the user's program: that of the application, or of the one being differentiated.
//
// Inside a derivative rule only what comes out counts. √x at 0 has the partial ∞; where the
// cotangent is 0 too, mul0 makes the derivative 0, and that is worth a warning only.
#include "adjoint/anomaly.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <memory>
#include <unordered_map>
#include <vector>

#include "adjoint/ops.h"
#include "graph/trace_sink.h"
#include "graph/watcher.h"
#include "ops/structural.h"
#include "transforms/derive.h"

namespace adjoint {

namespace {

/// Where an application was made.
struct Place {
  const std::string* line = nullptr;
  const Op* derivative_of = nullptr;  // by the rule of this operation, which was applied there
};

/// The places of recorded applications. Memory of nodes is used again: an entry holds for the node
/// of its order only.
class Places {
 public:
  void add(const Node* n, Place place) { known_[n] = {n->order, place}; }
  Place find(const Node* n) const {
    const auto it = known_.find(n);
    return it != known_.end() && it->second.order == n->order ? it->second.place : Place{};
  }

 private:
  struct Entry {
    std::uint64_t order;
    Place place;
  };
  std::unordered_map<const Node*, Entry> known_;
};

// ---- Looking at values --------------------------------------------------------------------------

template <class T>
bool any_bad(const T* x, std::int64_t n, bool inf) {
  int bad = 0;
  if (inf)
    for (std::int64_t i = 0; i < n; ++i) bad |= !(x[i] - x[i] == 0);  // ∞ - ∞ is nan
  else
    for (std::int64_t i = 0; i < n; ++i) bad |= x[i] != x[i];
  return bad;
}

bool in_memory(const Node* n) { return n->is_ready() || n->is_pending(); }

/// Whether a value of level 0 has a nan or, with `inf`, an infinity.
bool is_bad(Node* n, bool inf) {
  if (!is_floating(n->dtype) || !in_memory(n)) return false;
  const Tensor x = contiguous(n);
  const void* data = x.node()->data();
  return n->dtype == DType::float32 ? any_bad(static_cast<const float*>(data), x.size(), inf)
                                    : any_bad(static_cast<const double*>(data), x.size(), inf);
}

struct Census {
  std::int64_t size = 0, nan = 0, inf = 0;
  double low = std::numeric_limits<double>::infinity();  // of the finite ones
  double high = -std::numeric_limits<double>::infinity();
};

Census take_census(Node* n) {
  const Tensor x = contiguous(n);
  Census c{x.size()};
  with_type(n->dtype, [&]<class T>(T) {
    const T* data = static_cast<const T*>(x.node()->data());
    for (std::int64_t i = 0; i < c.size; ++i) {
      const auto v = static_cast<double>(data[i]);
      if (std::isfinite(v)) {
        c.low = std::min(c.low, v);
        c.high = std::max(c.high, v);
      } else {
        ++(std::isnan(v) ? c.nan : c.inf);
      }
    }
  });
  return c;
}

/// The values of level 0 that a tensor stands for.
std::vector<Node*> values_of(const Tensor& t) {
  std::vector<Node*> out;
  std::vector<Node*> boxes;
  if (t.defined()) boxes.push_back(t.node());
  while (!boxes.empty()) {
    Node* n = boxes.back();
    boxes.pop_back();
    if (n->level == 0) {
      out.push_back(n);
    } else if (n->box != Box::trace) {
      if (n->box == Box::dual && n->boxed.tangent) boxes.push_back(n->boxed.tangent);
      boxes.push_back(n->boxed.primal);
    }
  }
  return out;
}

/// The one among them to report: the first that is bad, else the first.
Node* value_to_show(const Tensor& t, bool inf) {
  const std::vector<Node*> values = values_of(t);
  for (Node* n : values)
    if (is_bad(n, inf)) return n;
  return values.empty() ? nullptr : values.front();
}

// ---- Telling ------------------------------------------------------------------------------------

std::string text_of(double v) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v, std::chars_format::general, 6);
  return {buffer, end.ptr};
}

/// "2 nan and 1 inf".
std::string bad_ones(const Census& c) {
  std::string out;
  if (c.nan) out = std::to_string(c.nan) + " nan";
  if (c.nan && c.inf) out += " and ";
  if (c.inf) out += std::to_string(c.inf) + " inf";
  return out;
}

/// "1 nan in 3 values".
std::string found_in(Node* n) {
  const Census c = take_census(n);
  return bad_ones(c) + " in " + std::to_string(c.size) + (c.size == 1 ? " value" : " values");
}

/// "  input 0: float64 (3,), from -1 to 4, 1 nan".
std::string line_about(const std::string& what, Node* n) {
  std::string out =
      "\n  " + what + ": " + std::string(name(n->dtype)) + " " + to_string(n->layout.shape());
  if (!in_memory(n)) return out + ", released";
  const Census c = take_census(n);
  if (c.low <= c.high) out += ", from " + text_of(c.low) + " to " + text_of(c.high);
  if (c.nan + c.inf) out += ", " + bad_ones(c);
  return out;
}

std::string at(const Place& place) {
  std::string out;
  if (place.derivative_of) out += "by " + derivative_of(*place.derivative_of) + ", ";
  return out + (place.line ? "at " + *place.line : "at an unknown line");
}

/// The place of an application that was recorded earlier.
std::string applied_at(const Place& place) {
  if (place.line) return "applied " + at(place);
  return "applied before the block was opened: open it around the forward work too to learn the "
         "line";
}

std::string batch_note() {
  for (const Level& level : thread_state().levels)
    if (level.kind == Box::batch) return "\n  inside vmap: batch axes come first in these shapes";
  return "";
}

/// While anomalies are counted and told, nobody watches, and nothing is recorded.
class Unwatched {
 public:
  Unwatched() : watcher_(std::exchange(thread_state().watcher, nullptr)) {}
  ~Unwatched() { thread_state().watcher = watcher_; }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;

 private:
  Watcher* watcher_;
  RecordingScope recording_{false};
};

/// Gives a variable another value for a scope.
template <class T>
class Restored {
 public:
  Restored(T& variable, T value) : variable_(variable), before_(std::exchange(variable, value)) {}
  ~Restored() { variable_ = before_; }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  T& variable_;
  T before_;
};

// ---- The watcher --------------------------------------------------------------------------------

class Anomalies final : public Watcher {
 public:
  Anomalies(AnomalyOptions options, Anomalies* outer)
      : outer_(outer),
        options_(std::move(options)),
        places_(outer ? outer->places_ : std::make_shared<Places>()) {
    if (outer) options_.find_source = outer->options_.find_source;  // whose strings outlive it
  }

  Anomalies* outer() const { return outer_; }
  void applied(const Op& op, std::span<Node* const> inputs, Node* out) override;
  std::string place_of(const Node* application) const override {
    return applied_at(places_->find(application));
  }
  void step(const Node* application, const std::function<void()>& take) override;
  std::vector<Tensor> derive(const RuleArgs& args, int served, std::span<const Tensor> slopes,
                             const std::function<std::vector<Tensor>()>& rule) override;

 private:
  /// What is being differentiated, and where that was applied: by a step of a sweep, or by a rule
  /// of forward mode. The outermost one counts.
  struct Differentiated {
    const Op* op = nullptr;
    Place place;
    bool reverse = false;
    bool by_hand = false;  // a rule of the user runs, whose operations have lines of their own
  };

  bool bad(Node* n) const { return is_bad(n, options_.inf); }
  bool any_bad_of(std::span<const Tensor> tensors) const;
  const std::string* line() const {
    return options_.find_source ? options_.find_source() : nullptr;
  }
  bool in_rules() const { return current_.op && !current_.by_hand; }
  Place here() const;
  std::string way() const;
  std::string lines_about(const std::string& what, const char* of, std::span<const Tensor> values,
                          bool always = false) const;
  std::string lines_about(const RuleArgs& args, bool reverse) const;
  void look_at_product(std::span<Node* const> inputs);
  void look_at_slope(const RuleArgs& args, int served, std::span<const Tensor> slopes,
                     const Tensor& result) const;
  [[noreturn]] void report(const Op& op, std::span<Node* const> inputs, Node* out, bool met) const;

  Anomalies* outer_;
  AnomalyOptions options_;
  std::shared_ptr<Places> places_;
  Differentiated current_;       // op is null outside of derivatives
  bool rule_runs_ = false;       // a rule runs, so that nothing else counts
  const Op* culprit_ = nullptr;  // the first in it to give what is not finite
};

bool Anomalies::any_bad_of(std::span<const Tensor> tensors) const {
  for (const Tensor& t : tensors)
    for (Node* n : values_of(t))
      if (bad(n)) return true;
  return false;
}

Place Anomalies::here() const {
  if (in_rules()) return {current_.place.line, current_.op};
  return {line()};
}

/// "forward, at train.py:12".
std::string Anomalies::way() const {
  if (!current_.op) return "\n  forward, " + at(here());
  std::string rule = current_.by_hand ? at(here()) + ", in " : "in ";
  rule += derivative_of(*current_.op);
  if (current_.reverse) return "\n  backward, " + rule + ", " + applied_at(current_.place);
  return "\n  forward mode, " + rule + ", applied " + at(current_.place);
}

void Anomalies::applied(const Op& op, std::span<Node* const> inputs, Node* out) {
  if (out->recorded) places_->add(out, here());
  if (out->recorded && out->op->part) places_->add(out->inputs()[0], here());
  const bool checked = in_rules() ? options_.backward : options_.forward;
  if (!checked || out->level || inputs.empty() || op.kind == OpKind::view ||
      !is_floating(out->dtype))
    return;
  const Unwatched unwatched;
  if (op.zero_wins) look_at_product(inputs);
  if ((rule_runs_ && culprit_) || !bad(out)) return;
  bool met = false;
  for (Node* in : inputs) met |= bad(in);
  if (!rule_runs_) report(op, inputs, out, met);
  if (!met) culprit_ = &op;
}

void Anomalies::report(const Op& op, std::span<Node* const> inputs, Node* out, bool met) const {
  std::string text = met ? "met an input that is not finite, and gave " + found_in(out)
                         : "gave " + found_in(out) + " from finite inputs";
  text += way();
  if (in_rules()) text += "\n  where cotangents are added up";
  for (std::size_t i = 0; i < inputs.size(); ++i)
    text += line_about("input " + std::to_string(i), inputs[i]);
  text += line_about("result", out) + batch_note();
  if (met)
    text += "\n  such an input is data, or came from a host operation or from outside of the block";
  raise(ErrorKind::anomaly, op.name, text);
}

/// Warns where a zero has met what is not finite.
void Anomalies::look_at_product(std::span<Node* const> inputs) {
  if (!options_.warn || (!is_bad(inputs[0], true) && !is_bad(inputs[1], true))) return;
  const Tensor a = Tensor::share(inputs[0]);
  const Tensor b = Tensor::share(inputs[1]);
  const auto meets = [](const Tensor& x, const Tensor& y) {
    return logical_and(equal(x, scalar_like(x, 0)), logical_not(isfinite(y)));
  };
  const double count = sum(astype(logical_or(meets(a, b), meets(b, a)), DType::int64)).item();
  if (count == 0) return;
  const Place place = current_.op ? current_.place : here();
  options_.warn("[mul0] 0 met a factor that is not finite in " +
                    std::to_string(static_cast<std::int64_t>(count)) +
                    (count == 1 ? " element" : " elements") + ", and the product was taken as 0" +
                    way() + line_about("input 0", inputs[0]) + line_about("input 1", inputs[1]),
                place.line);
}

void Anomalies::step(const Node* application, const std::function<void()>& take) {
  if (rule_runs_) return take();  // a sweep inside of a rule is that rule's affair
  const Restored<Differentiated> current(current_,
                                         {application->op, places_->find(application), true});
  take();
}

std::vector<Tensor> Anomalies::derive(const RuleArgs& args, int served,
                                      std::span<const Tensor> slopes,
                                      const std::function<std::vector<Tensor>()>& rule) {
  if (rule_runs_) return rule();
  Differentiated what = current_;
  if (!in_rules()) what = {&args.op, {line()}};
  const Restored<Differentiated> current(current_, what);
  culprit_ = nullptr;
  std::vector<Tensor> results;
  if (args.op.by_hand) {
    what.by_hand = true;
    const Restored<Differentiated> by_hand(current_, what);
    results = rule();
  } else {
    const Restored<bool> inside(rule_runs_, true);
    results = rule();
  }
  if (options_.backward)
    for (std::size_t i = 0; i < results.size(); ++i)
      look_at_slope(args, served == kAllInputs ? static_cast<int>(i) : served, slopes, results[i]);
  return results;
}

/// One line for each value that is there: numbered unless it is the only one, or `always`.
std::string Anomalies::lines_about(const std::string& what, const char* of,
                                   std::span<const Tensor> values, bool always) const {
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (Node* n = value_to_show(values[i], options_.inf))
      text +=
          line_about(always || values.size() > 1 ? what + of + ' ' + std::to_string(i) : what, n);
  return text;
}

/// The values of an application whose rule runs. A reverse sweep has those that rules read, and the
/// rest may be gone.
std::string Anomalies::lines_about(const RuleArgs& args, bool reverse) const {
  const std::uint8_t held = reverse ? args.output.node()->saved : 0xff;
  std::vector<Tensor> inputs(args.inputs.begin(), args.inputs.end());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!(held & Node::saved_bit(i))) inputs[i] = Tensor();
  std::string text = lines_about("input", "", inputs, true);
  if (!(held & kSavesOutput)) return text;
  return text + (args.outputs.empty() ? lines_about("result", "", {&args.output, 1})
                                      : lines_about("result", "", args.outputs));
}

/// Raises when a rule has made something that is not finite.
void Anomalies::look_at_slope(const RuleArgs& args, int served, std::span<const Tensor> slopes,
                              const Tensor& result) const {
  const Unwatched unwatched;
  if (!any_bad_of({&result, 1})) return;
  const bool reverse = served != kTangent;
  const std::string slope = reverse ? "cotangent" : "tangent";
  Node* shown = value_to_show(result, options_.inf);
  std::string text = "its derivative gave " + found_in(shown);
  text += any_bad_of(slopes) ? ", from a " + slope + " that is not finite" : "";
  text += way();
  text += reverse ? lines_about("cotangent", " of result", slopes)
                  : lines_about("tangent", " of input", slopes, true);
  text += lines_about(args, reverse);
  text +=
      lines_about(reverse ? slope + " of input " + std::to_string(served) : "tangent of the result",
                  "", {&result, 1});
  text += batch_note();
  if (culprit_) text.append("\n  first met inside its rule: `").append(culprit_->name).append("`");
  raise(ErrorKind::anomaly, args.op.name, text);
}

}  // namespace

void enter_anomaly_mode(AnomalyOptions options) {
  if (current_trace())
    raise(ErrorKind::runtime, "detect_anomaly",
          "a function that is being compiled has no values yet: open the block around its call");
  ThreadState& state = thread_state();
  state.watcher = new Anomalies(std::move(options), static_cast<Anomalies*>(state.watcher));
  g_open_watchers.fetch_add(1, std::memory_order_relaxed);
}

void leave_anomaly_mode() {
  ThreadState& state = thread_state();
  const std::unique_ptr<Anomalies> closed(static_cast<Anomalies*>(state.watcher));
  if (!closed) raise(ErrorKind::runtime, "detect_anomaly", "left more often than it was entered");
  state.watcher = closed->outer();
  g_open_watchers.fetch_sub(1, std::memory_order_relaxed);
}

AnomalyScope::AnomalyScope(AnomalyOptions options) { enter_anomaly_mode(std::move(options)); }
AnomalyScope::~AnomalyScope() { leave_anomaly_mode(); }

}  // namespace adjoint
