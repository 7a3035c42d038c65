// Hash-consing, printing and replaying of graphs.
#include "compile/graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "graph/apply.h"
#include "graph/results.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

std::size_t mix(std::size_t h, std::size_t v) {
  h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
  h *= 0xff51afd7ed558ccdull;
  return h ^
         h >> 32;  // the low bits of a double are mostly zeros, and the table is indexed by them
}

std::size_t hash_application(const Op& op, std::span<const Graph::Index> inputs,
                             const AttrsPtr& attrs) {
  std::size_t h = reinterpret_cast<std::size_t>(&op);
  for (const Graph::Index i : inputs) h = mix(h, i);
  if (attrs) h = mix(h, attrs->hash());
  return h | 1;
}

/// A value that may stand for any equal one: it has no history to be told apart by.
bool is_plain(const Node* value) {
  return !value->level && !value->requires_grad && value->is_ready();
}

bool is_single(const Node* value) { return is_plain(value) && value->layout.size() == 1; }

std::uint64_t bits_of(Node* value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, value->data(), itemsize(value->dtype));
  return bits;
}

std::size_t hash_constant(Node* value) {
  std::size_t h = static_cast<std::size_t>(value->dtype) + 1;
  if (is_single(value)) return mix(mix(h, bits_of(value)), value->layout.ndim()) | 1;
  return mix(h, reinterpret_cast<std::size_t>(value)) | 1;
}

bool same_constant(Node* a, Node* b) {
  if (a == b) return true;
  return is_single(a) && is_single(b) && a->dtype == b->dtype && a->layout.same_shape(b->layout) &&
         bits_of(a) == bits_of(b);
}

double first_element(Node* value) {
  return with_type(value->dtype, [&](auto element) {
    std::memcpy(&element, value->data(), sizeof element);
    return static_cast<double>(element);
  });
}

bool equal_attrs(const AttrsPtr& a, const AttrsPtr& b) { return a == b || (a && b && *a == *b); }

void print_value(std::ostream& out, Node* value) {
  if (!is_single(value)) return;
  const double number = Tensor::share(value).item();
  out.precision(is_floating(value->dtype) ? 17 : 20);
  out << ' ' << number;
}

}  // namespace

std::int64_t Graph::Entry::size() const noexcept {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

// ------------------------------------------------------------------------------------ adding

Graph::Index Graph::append(Entry entry) {
  entries_.push_back(std::move(entry));
  hashes_.push_back(0);
  return static_cast<Index>(entries_.size() - 1);
}

void Graph::grow() {
  std::vector<std::uint32_t> old(std::max<std::size_t>(64, table_.size() * 2), 0);
  old.swap(table_);
  for (const std::uint32_t slot : old)
    if (slot) {
      std::size_t at = hashes_[slot - 1] & (table_.size() - 1);
      while (table_[at]) at = (at + 1) & (table_.size() - 1);
      table_[at] = slot;
    }
}

/// The first slot of the probe sequence; makes room for one more entry.
std::uint32_t& Graph::bucket(std::size_t hash) {
  if (2 * (hashed_ + 1) > table_.size()) grow();
  return table_[hash & (table_.size() - 1)];
}

Graph::Index Graph::add_input(DType dtype, Layout::Extents shape) {
  const auto number = static_cast<std::uint32_t>(inputs_.size());
  const Index i = append({nullptr, nullptr, Dims(shape), number, 0, dtype, Kind::input});
  inputs_.push_back(i);
  return i;
}

Graph::Index Graph::add_constant(Node* value) {
  if (value->level)
    captures_levels_ = true;
  else if (value->layout.size() == 1)
    materialize(value);
  const std::size_t hash = hash_constant(value);
  std::uint32_t* slot = &bucket(hash);
  while (*slot) {
    const Index i = *slot - 1;
    if (hashes_[i] == hash && entries_[i].kind == Kind::constant &&
        same_constant(value_of(i), value))
      return i;
    slot = slot == &table_.back() ? table_.data() : slot + 1;
  }
  const auto number = static_cast<std::uint32_t>(constants_.size());
  constants_.push_back(Tensor::share(value));
  const Index i = append(
      {nullptr, nullptr, Dims(value->layout.shape()), number, 0, value->dtype, Kind::constant});
  hashes_[i] = hash;
  *slot = i + 1;
  ++hashed_;
  return i;
}

bool Graph::matches(Index i, const Op& op, std::span<const Index> inputs,
                    const AttrsPtr& attrs) const {
  const Entry& e = entries_[i];
  return e.kind == Kind::apply && e.op == &op && e.count == inputs.size() &&
         std::equal(inputs.begin(), inputs.end(), edges_.begin() + e.first) &&
         equal_attrs(e.attrs, attrs);
}

/// Whether every element of this value is known to have the bits of `number`.
bool Graph::is_known(Index i, double number) const {
  const Entry& e = entries_[i];
  if (e.kind != Kind::constant || e.size() == 0 || !is_plain(value_of(i))) return false;
  const auto strides = value_of(i)->layout.strides();
  if (e.size() != 1 && std::ranges::any_of(strides, [](std::int64_t s) { return s != 0; }))
    return false;
  const double first = first_element(value_of(i));
  return first == number && std::signbit(first) == std::signbit(number);
}

/// An operand that has the bits of the whole application, if the record promises one.
Graph::Index Graph::simpler(const Op& op, std::span<const Index> inputs,
                            const ResultSpec& spec) const {
  const auto same_type = [&](Index i) {
    return entries_[i].dtype == spec.dtype && entries_[i].shape == spec.shape;
  };
  if (op.casts && same_type(inputs[0])) return inputs[0];
  if (op.fuses && same_type(inputs[0])) return inputs[0];
  if (op.involution) {
    const Entry& e = entries_[inputs[0]];
    if (e.kind == Kind::apply && e.op == &op && same_type(edges_[e.first])) return edges_[e.first];
  }
  for (std::size_t i = 0; i < inputs.size() && inputs.size() == 2; ++i)
    if ((op.unit_inputs >> i & 1) && same_type(inputs[1 - i]) && is_known(inputs[i], op.unit))
      return inputs[1 - i];
  return kNone;
}

Graph::Index Graph::add(const Op& op, std::span<const Index> inputs, const AttrsPtr& attrs,
                        ResultSpec spec, std::uint32_t source) {
  const Index known = simpler(op, inputs, spec);
  if (known != kNone) return known;
  const std::size_t hash = hash_application(op, inputs, attrs);
  std::uint32_t* slot = &bucket(hash);
  while (*slot) {
    const Index i = *slot - 1;
    if (hashes_[i] == hash && matches(i, op, inputs, attrs)) return i;
    slot = slot == &table_.back() ? table_.data() : slot + 1;
  }
  const auto first = static_cast<std::uint32_t>(edges_.size());
  edges_.insert(edges_.end(), inputs.begin(), inputs.end());
  const Index i =
      append({&op, attrs, std::move(spec.shape), first, static_cast<std::uint32_t>(inputs.size()),
              spec.dtype, Kind::apply, false, source});
  hashes_[i] = hash;
  *slot = i + 1;
  ++hashed_;
  return i;
}

Graph::Index Graph::add_tuple(const Op& op, std::span<const Index> inputs, const AttrsPtr& attrs,
                              std::span<const ResultSpec> specs, std::uint32_t source) {
  const Index i = add(op, inputs, attrs, {DType::boolean, {}}, source);
  entries_[i].tuple = true;
  tuples_.try_emplace(i, specs.begin(), specs.end());
  return i;
}

Graph::Index Graph::add_part(Index tuple, std::size_t number) {
  return add(part_op(), {&tuple, 1}, part_attrs(number), results_of(tuple)[number],
             entries_[tuple].source);
}

Graph::Index Graph::add_copy(const Graph& from, Index i, std::span<const Index> inputs) {
  const Entry& e = from[i];
  if (!e.tuple) return add(*e.op, inputs, e.attrs, {e.dtype, e.shape}, e.source);
  return add_tuple(*e.op, inputs, e.attrs, from.results_of(i), e.source);
}

std::uint32_t Graph::add_source(std::string place) {
  sources_.push_back(std::move(place));
  return static_cast<std::uint32_t>(sources_.size() - 1);
}

// ------------------------------------------------------------------------------------- using

std::vector<ResultSpec> Graph::results() const {
  std::vector<ResultSpec> out;
  out.reserve(outputs_.size());
  for (const Index o : outputs_) out.push_back({entries_[o].dtype, entries_[o].shape});
  return out;
}

std::vector<bool> Graph::depending_on(const std::vector<bool>& inputs) const {
  std::vector<bool> out(entries_.size(), false);
  std::unordered_map<Index, std::vector<bool>> results;  // of tuples whose results differ in this
  for (Index i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (e.kind == Kind::input) out[i] = inputs[e.first];
    for (const Index in : inputs_of(i)) out[i] = out[i] || out[in];
    if (!out[i]) continue;
    if (e.op && e.op->depends) {
      std::vector<bool> marks;
      for (const Index in : inputs_of(i)) marks.push_back(out[in]);
      std::vector<bool> found = e.op->depends(e.attrs.get(), marks);
      if (e.tuple)
        results.emplace(i, std::move(found));
      else
        out[i] = found[0];  // the only one
    } else if (e.kind == Kind::apply && e.op->part) {
      const auto it = results.find(inputs_of(i)[0]);
      if (it != results.end()) out[i] = it->second[part_index(e.attrs.get())];
    }
  }
  return out;
}

std::vector<bool> Graph::needed_by(std::span<const Index> nodes, bool derivatives) const {
  std::vector<bool> needed(entries_.size(), false);
  for (const Index i : nodes) needed[i] = true;
  for (auto i = static_cast<Index>(entries_.size()); i-- > 0;) {
    const Entry& e = entries_[i];
    if (!needed[i] || e.kind != Kind::apply || (e.op->fixed_value && !derivatives)) continue;
    for (const Index in : inputs_of(i)) needed[in] = true;
  }
  return needed;
}

void Reach::exclude(std::uint32_t input) {
  if (excluded_.size() <= input) excluded_.resize(input + 1, false);
  excluded_[input] = true;
}

bool Reach::passes(const Graph& graph, Graph::Index i, std::size_t operand) {
  const Op& op = *graph[i].op;
  if (mode_ == Mode::forward ? op.no_forward && attrs_as<KeptAttrs>(graph[i].attrs.get()).everywhere
                             : op.no_reverse)
    return false;
  if (operand < 8 && op.constant_inputs >> operand & 1) return false;
  return reaches(graph, graph.inputs_of(i)[operand]);
}

bool Reach::starts(const Graph& graph, Graph::Index i) const {
  const Graph::Entry& e = graph[i];
  if (!is_differentiable(e.dtype)) return false;
  if (e.kind == Graph::Kind::constant)
    return captured_ && captured_(Tensor::share(graph.value_of(i)));
  return e.first >= excluded_.size() || !excluded_[e.first];
}

bool Reach::reaches(const Graph& graph, Graph::Index i) {
  while (known_.size() <= i) {
    const auto next = static_cast<Graph::Index>(known_.size());
    const Graph::Entry& e = graph[next];
    bool any = false;
    if (e.kind != Graph::Kind::apply)
      any = starts(graph, next);
    else if (e.op->differentiable() && (e.tuple || is_differentiable(e.dtype)))
      for (std::size_t k = 0; k < e.count && !any; ++k) any = passes(graph, next, k);
    known_.push_back(any);
  }
  return known_[i];
}

Graph Graph::closed(std::vector<Tensor>& captured) const {
  Graph out(sources_);
  std::vector<Index> to(entries_.size());
  for (const Index i : inputs_) to[i] = out.add_input(entries_[i].dtype, entries_[i].shape);
  std::vector<Index> operands;
  for (Index i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (e.kind == Kind::input) continue;
    if (e.kind == Kind::apply) {
      operands.clear();
      for (const Index in : inputs_of(i)) operands.push_back(to[in]);
      to[i] = out.add_copy(*this, i, operands);
    } else if (value_of(i)->level || value_of(i)->requires_grad) {
      to[i] = out.add_input(e.dtype, e.shape);
      captured.push_back(constants_[e.first]);
    } else {
      to[i] = out.add_constant(value_of(i));
    }
  }
  for (const Index o : outputs_) out.add_output(to[o]);
  return out;
}

std::vector<Tensor> Graph::replay(std::span<const Tensor> inputs, const std::string** line) const {
  std::vector<Tensor> values(entries_.size());
  std::unordered_map<Index, std::vector<Tensor>> tuples;
  std::vector<Index> last(entries_.size(), 0);  // the node after which a value is not read
  for (Index i = 0; i < entries_.size(); ++i)
    for (const Index in : inputs_of(i)) last[in] = i;
  for (const Index o : outputs_) last[o] = kNone;
  std::vector<Node*> operands;
  for (Index i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (e.kind == Kind::input) {
      values[i] = inputs[e.first];
    } else if (e.kind == Kind::constant) {
      values[i] = constants_[e.first];
    } else {
      operands.clear();
      for (const Index in : inputs_of(i)) operands.push_back(values[in].node());
      if (line) *line = &sources_[e.source];
      if (e.tuple)
        tuples[i] = apply_all(*e.op, operands, e.attrs);
      else if (e.op->part)
        values[i] = tuples[inputs_of(i)[0]][part_index(e.attrs.get())];
      else
        values[i] = Tensor::adopt(apply(*e.op, operands, e.attrs));
      for (const Index in : inputs_of(i)) {
        if (last[in] != i) continue;
        values[in] = Tensor();
        if (entries_[in].tuple) tuples.erase(in);
      }
    }
  }
  std::vector<Tensor> results;
  results.reserve(outputs_.size());
  for (const Index o : outputs_) results.push_back(values[o]);
  return results;
}

std::string Graph::text(const std::function<std::string(const std::string&)>& quote) const {
  std::ostringstream out;
  std::uint32_t source = 0;
  for (Index i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (e.source && e.source != source) {
      out << "# " << sources_[e.source];
      if (quote) out << "  " << quote(sources_[e.source]);
      out << '\n';
      source = e.source;
    }
    out << '%' << i << " = ";
    if (e.kind == Kind::input) {
      out << "input " << e.first;
    } else if (e.kind == Kind::constant) {
      out << "constant";
      print_value(out, value_of(i));
    } else {
      out << e.op->name;
      for (const Index in : inputs_of(i)) out << " %" << in;
      if (e.attrs) out << to_string(*e.attrs);
    }
    out << " :";
    if (!e.tuple) out << ' ' << name(e.dtype) << ' ' << to_string(e.shape);
    if (e.tuple)
      for (const ResultSpec& spec : results_of(i))
        out << (&spec == results_of(i).data() ? " " : ", ") << name(spec.dtype) << ' '
            << to_string(spec.shape);
    out << '\n';
  }
  out << "return";
  for (const Index o : outputs_) out << " %" << o;
  return out.str();
}

}  // namespace adjoint
