// Sums of products: einsum, and the convolutions of sequences. They are made of products of
// matrices and of elements, so that every derivative, batch and compiled form is theirs.
//
// einsum reads the string into a list of labels per operand. An operand loses labels that repeat in
// it (diagonals), axes that broadcast, and labels that nobody else reads (sums); then two operands
// at a time become one, the pair whose result is smallest first, each time by one product of
// matrices: shared labels that are still needed are a stack, those that are not are summed over.
#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ops/structural.h"

namespace adjoint {

namespace {

constexpr const char* kEinsum = "einsum";

/// A letter, or an axis that an ellipsis stands for: -1 for the last of them, -2 before it.
using Label = int;
using Labels = std::vector<Label>;

[[noreturn]] void raise_subscripts(std::string_view subscripts, const std::string& what) {
  raise(ErrorKind::value, kEinsum, "'" + std::string(subscripts) + "': " + what);
}

std::string shown(Label l) { return l < 0 ? "..." : std::string("'") + static_cast<char>(l) + "'"; }

bool has(const Labels& labels, Label l) { return std::ranges::find(labels, l) != labels.end(); }

/// The letters of one term, and where its ellipsis stands among them; none: -1.
struct Term {
  Labels letters;
  int ellipsis = -1;

  Term(std::string_view text, std::string_view subscripts) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
        letters.push_back(c);
      } else if (text.substr(i, 3) == "..." && ellipsis < 0) {
        ellipsis = static_cast<int>(letters.size());
        i += 2;
      } else {
        raise_subscripts(subscripts, std::string("'") + c +
                                         "' is out of place: a term is letters, and at most one "
                                         "ellipsis '...'");
      }
    }
  }
  /// The labels of its axes, where the ellipsis stands for `n` of them.
  Labels with(int n) const {
    Labels out = letters;
    if (ellipsis < 0) return out;
    for (int k = n; k >= 1; --k) out.insert(out.begin() + ellipsis + (n - k), -k);
    return out;
  }
};

struct Subscripts {
  std::vector<Term> inputs;
  std::vector<Term> output;  // one, or none where it is implied

  explicit Subscripts(std::string_view given) {
    std::string text(given);
    std::erase(text, ' ');
    const auto arrow = text.find("->");
    if (arrow != std::string::npos) output.emplace_back(text.substr(arrow + 2), given);
    const std::string left = text.substr(0, arrow);
    for (std::size_t begin = 0; begin <= left.size();) {
      const std::size_t end = std::min(left.find(',', begin), left.size());
      inputs.emplace_back(left.substr(begin, end - begin), given);
      begin = end + 1;
    }
  }
};

/// A tensor whose axes have labels, each a different one.
struct Labelled {
  Tensor x;
  Labels labels;

  std::int64_t extent(Label l) const {
    return x.shape()[static_cast<std::size_t>(std::ranges::find(labels, l) - labels.begin())];
  }
  int axis(Label l) const {
    return static_cast<int>(std::ranges::find(labels, l) - labels.begin());
  }
  /// With its axes in the order of `wanted`, which are its labels.
  Tensor ordered(const Labels& wanted) const {
    if (wanted == labels) return x;
    Dims order;
    for (const Label l : wanted) order.push_back(axis(l));
    return permute_dims(x, order);
  }
};

/// What has one axis for a label that occurs twice: the diagonal, as the last axis.
void take_diagonals(Labelled& a) {
  for (std::size_t i = 0; i < a.labels.size();) {
    const Label l = a.labels[i];
    const auto again =
        std::find(a.labels.begin() + static_cast<std::ptrdiff_t>(i) + 1, a.labels.end(), l);
    if (again == a.labels.end()) {
      ++i;
      continue;
    }
    const auto j = static_cast<std::size_t>(again - a.labels.begin());
    a.x = diagonal(a.x, 0, static_cast<int>(i), static_cast<int>(j));
    a.labels.erase(again);
    a.labels.erase(a.labels.begin() + static_cast<std::ptrdiff_t>(i));
    a.labels.push_back(l);
    i = 0;
  }
}

/// Axes summed over; narrow integers keep their dtype, as in a product.
void sum_out(Labelled& a, const Labels& kept) {
  Dims axes;
  Labels left;
  for (std::size_t i = 0; i < a.labels.size(); ++i) {
    if (has(kept, a.labels[i]))
      left.push_back(a.labels[i]);
    else
      axes.push_back(static_cast<std::int64_t>(i));
  }
  if (axes.empty()) return;
  a.x = sum(a.x, axes, false, a.x.dtype());
  a.labels = left;
}

std::int64_t extent_of(const Labelled& a, const Labels& labels) {
  std::int64_t n = 1;
  for (const Label l : labels) n *= a.extent(l);
  return n;
}

/// How the labels of two operands meet.
struct Meeting {
  Labels stack, summed, first, second;

  Meeting(const Labelled& a, const Labelled& b, const Labels& kept) {
    for (const Label l : a.labels) {
      if (!has(b.labels, l))
        first.push_back(l);
      else
        (has(kept, l) ? stack : summed).push_back(l);
    }
    for (const Label l : b.labels)
      if (!has(a.labels, l)) second.push_back(l);
  }
  Labels result() const { return joined({&stack, &first, &second}); }
  static Labels joined(std::initializer_list<const Labels*> parts) {
    Labels out;
    for (const Labels* part : parts) out.insert(out.end(), part->begin(), part->end());
    return out;
  }
};

/// The product of elements, axes of one operand alone being repeated for the other.
Tensor product_of_elements(const Labelled& a, const Labelled& b, const Meeting& m) {
  const Labels shared = Meeting::joined({&m.stack, &m.summed});
  const Tensor x = a.ordered(Meeting::joined({&m.stack, &m.first, &m.summed}));
  const Tensor y = b.ordered(Meeting::joined({&m.stack, &m.second, &m.summed}));
  const std::size_t lead = m.stack.size();
  Dims of_x(x.shape()), of_y(y.shape());
  Dims wide_x(Layout::Extents(of_x).first(lead + m.first.size()));
  wide_x.resize(wide_x.size() + m.second.size(), 1);
  wide_x.append(of_x.data() + lead + m.first.size(), m.summed.size());
  Dims wide_y(Layout::Extents(of_y).first(lead));
  wide_y.resize(wide_y.size() + m.first.size(), 1);
  wide_y.append(of_y.data() + lead, of_y.size() - lead);
  Tensor all = multiply(reshape(x, wide_x), reshape(y, wide_y));
  if (m.summed.empty()) return all;
  Dims last;
  for (std::size_t i = 0; i < m.summed.size(); ++i)
    last.push_back(all.ndim() - 1 - static_cast<int>(i));
  return sum(all, last, false, all.dtype());
}

Tensor product_of_matrices(const Labelled& a, const Labelled& b, const Meeting& m) {
  const Tensor x = a.ordered(Meeting::joined({&m.stack, &m.first, &m.summed}));
  const Tensor y = b.ordered(Meeting::joined({&m.stack, &m.summed, &m.second}));
  const std::int64_t rows = extent_of(a, m.first), inner = extent_of(a, m.summed);
  const std::int64_t columns = extent_of(b, m.second);
  Dims shape, stack;
  for (const Label l : m.stack) shape.push_back(a.extent(l));
  if (!m.stack.empty()) stack.push_back(product(shape));
  Dims left(stack), right(stack);
  left.push_back(rows);
  left.push_back(inner);
  right.push_back(inner);
  right.push_back(columns);
  for (const Label l : m.first) shape.push_back(a.extent(l));
  for (const Label l : m.second) shape.push_back(b.extent(l));
  return reshape(matmul(reshape(x, left), reshape(y, right)), shape);
}

Labelled contracted(const Labelled& a, const Labelled& b, const Labels& kept) {
  const Meeting m(a, b, kept);
  const bool matrices =
      !m.summed.empty() && (!m.first.empty() || !m.second.empty() || m.stack.empty());
  return {matrices ? product_of_matrices(a, b, m) : product_of_elements(a, b, m), m.result()};
}

class Einsum {
 public:
  Einsum(std::string_view subscripts, std::span<const Tensor> operands)
      : text_(subscripts), terms_(subscripts) {
    if (operands.empty()) raise(ErrorKind::value, kEinsum, "needs at least one operand");
    if (terms_.inputs.size() != operands.size())
      raise_subscripts(text_, std::to_string(terms_.inputs.size()) + " terms for " +
                                  std::to_string(operands.size()) + " operands");
    for (std::size_t i = 0; i < operands.size(); ++i) add(operands[i], i);
    read_output();
  }

  Tensor run() {
    prepare();
    while (left_.size() > 1) {
      const auto [i, j] = best_pair();
      const Labelled b = left_[j];
      left_.erase(left_.begin() + static_cast<std::ptrdiff_t>(j));
      const Labelled a = left_[i];
      left_.erase(left_.begin() + static_cast<std::ptrdiff_t>(i));
      Labelled c = contracted(a, b, needed());
      left_.push_back(std::move(c));
    }
    Labelled& last = left_.front();
    sum_out(last, output_);
    return last.ordered(output_);
  }

 private:
  void add(const Tensor& x, std::size_t i) {
    const Term& term = terms_.inputs[i];
    const int letters = static_cast<int>(term.letters.size());
    const int rest = x.ndim() - letters;
    if (rest < 0 || (rest > 0 && term.ellipsis < 0))
      raise_subscripts(text_, "term " + std::to_string(i) + " has " + std::to_string(letters) +
                                  " letters for an operand of shape " + to_string(x.shape()));
    if (is_bool(x.dtype()))
      raise(ErrorKind::type, kEinsum, "operands must be numbers, not bool: convert with astype");
    Labels labels = term.with(rest);
    for (std::size_t k = 0; k < labels.size(); ++k) {
      const auto first =
          static_cast<std::size_t>(std::ranges::find(labels, labels[k]) - labels.begin());
      if (x.shape()[first] != x.shape()[k])  // operands broadcast, a diagonal does not
        raise_subscripts(text_, shown(labels[k]) + " is twice in term " + std::to_string(i) +
                                    ", for axes of different lengths: shape " +
                                    to_string(x.shape()));
      note_extent(labels[k], x.shape()[k], i);
    }
    if (term.ellipsis >= 0) rest_ = std::max(rest_, rest);
    ellipsis_ |= term.ellipsis >= 0;
    left_.push_back({x, std::move(labels)});
  }

  void note_extent(Label l, std::int64_t extent, std::size_t i) {
    auto [at, fresh] = extents_.try_emplace(l, extent);
    if (fresh || at->second == extent || extent == 1) return;
    if (at->second != 1)
      raise_subscripts(text_, shown(l) + " has the lengths " + std::to_string(at->second) +
                                  " and " + std::to_string(extent) + ", the second in operand " +
                                  std::to_string(i));
    at->second = extent;
  }

  void read_output() {
    if (terms_.output.empty()) {  // what occurs once, in alphabetical order
      for (int k = rest_; k >= 1; --k) output_.push_back(-k);
      for (const auto& [l, extent] : extents_) {
        std::ptrdiff_t count = 0;
        for (const Term& term : terms_.inputs) count += std::ranges::count(term.letters, l);
        if (count == 1) output_.push_back(l);
      }
      return;
    }
    const Term& term = terms_.output.front();
    if (ellipsis_ && term.ellipsis < 0 && rest_ > 0)
      raise_subscripts(text_, "the result lacks the ellipsis of the operands: write '->...'");
    output_ = term.with(rest_);
    for (std::size_t i = 0; i < output_.size(); ++i) {
      if (!extents_.contains(output_[i]))
        raise_subscripts(text_, shown(output_[i]) + " of the result is in no operand");
      if (std::find(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(i),
                    output_[i]) != output_.begin() + static_cast<std::ptrdiff_t>(i))
        raise_subscripts(text_, shown(output_[i]) + " is twice in the result");
    }
  }

  /// Labels that are read by the result or by an operand that is left.
  Labels needed() const {
    Labels out = output_;
    for (const Labelled& a : left_) out.insert(out.end(), a.labels.begin(), a.labels.end());
    return out;
  }

  void prepare() {
    for (Labelled& a : left_) {
      Dims single;
      Labels kept;
      for (std::size_t k = 0; k < a.labels.size(); ++k) {
        if (a.x.shape()[k] == 1 && extents_.at(a.labels[k]) != 1)
          single.push_back(static_cast<std::int64_t>(k));
        else
          kept.push_back(a.labels[k]);
      }
      if (!single.empty()) a = {squeeze(a.x, single), kept};
      take_diagonals(a);
    }
    for (std::size_t i = 0; i < left_.size(); ++i) {
      Labelled own = left_[i];
      left_[i].labels.clear();
      const Labels kept = needed();
      sum_out(own, kept);
      left_[i] = own;
    }
  }

  /// The pair whose result adds least to what is held; among equals the first.
  std::array<std::size_t, 2> best_pair() const {
    std::array<std::size_t, 2> best{0, 1};
    double least = 0;
    for (std::size_t i = 0; i < left_.size() && left_.size() > 2; ++i)
      for (std::size_t j = i + 1; j < left_.size(); ++j) {
        Labels kept = output_;
        for (std::size_t k = 0; k < left_.size(); ++k)
          if (k != i && k != j)
            kept.insert(kept.end(), left_[k].labels.begin(), left_[k].labels.end());
        const double grown = size_of(Meeting(left_[i], left_[j], kept).result()) -
                             size_of(left_[i].labels) - size_of(left_[j].labels);
        if ((i == 0 && j == 1) || grown < least) {
          least = grown;
          best = {i, j};
        }
      }
    return best;
  }
  double size_of(const Labels& labels) const {
    double n = 1;
    for (const Label l : labels) n *= static_cast<double>(extents_.at(l));
    return n;
  }

  std::string_view text_;
  Subscripts terms_;
  std::vector<Labelled> left_;
  std::map<Label, std::int64_t> extents_;
  Labels output_;
  int rest_ = 0;           // the most axes that an ellipsis stands for
  bool ellipsis_ = false;  // some operand has one
};

}  // namespace

Tensor einsum(std::string_view subscripts, std::span<const Tensor> operands) {
  if (operands.empty()) return Einsum(subscripts, operands).run();
  DType dtype = operands[0].dtype();
  for (const Tensor& x : operands) dtype = promote(dtype, x.dtype());
  std::vector<Tensor> alike;  // partial products would overflow in a narrower dtype
  for (const Tensor& x : operands) alike.push_back(astype(x, dtype));
  return Einsum(subscripts, alike).run();
}

// --------------------------------------------------------------------------------- convolution

namespace {

Tensor with_zeros(const Tensor& x, std::int64_t before, std::int64_t after) {
  return concat(std::vector{zeros(Dims{before}, x.dtype()), x, zeros(Dims{after}, x.dtype())}, 0);
}

/// Sums of `weights`, a short sequence, with each run as long as it of a sequence that has so many
/// further places at its ends. What would meet those counts as 0, as no factor does that meets an
/// infinity.
class SlidingSums {
 public:
  SlidingSums(const Tensor& x, const Tensor& weights, std::int64_t before, std::int64_t after)
      : x_(x),
        weights_(weights),
        m_(weights.size()),
        n_(x.size() + before + after - m_ + 1),
        before_(before),
        after_(after) {
    if (!is_extended()) return;
    x_ = with_zeros(x, before, after);
    inside_ = with_zeros(ones(x.shape(), DType::boolean), before, after);
  }
  Tensor result() const {
    constexpr std::int64_t short_enough = 1024;
    std::vector<Tensor> parts;
    if (!is_extended() || n_ <= short_enough) {
      add_sums(parts, 0, n_, is_extended());
    } else {
      const std::int64_t first = std::min(before_, n_), last = std::max(first, n_ - after_);
      add_sums(parts, 0, first, true);
      add_sums(parts, first, last, false);
      add_sums(parts, last, n_, true);
    }
    return parts.size() == 1 ? parts.front() : concat(parts, 0);
  }

 private:
  bool is_extended() const { return before_ + after_ > 0; }
  Tensor nothing() const { return Tensor::scalar(std::int64_t{0}, x_.dtype()); }

  void add_sums(std::vector<Tensor>& parts, std::int64_t from, std::int64_t to, bool at_end) const {
    constexpr std::int64_t few = 16;
    if (from >= to) return;
    if (m_ <= few)
      parts.push_back(by_weights(from, to - from, at_end));
    else
      add_rows(parts, from, to, at_end);
  }
  Tensor by_weights(std::int64_t from, std::int64_t count, bool at_end) const {
    Tensor total;
    for (std::int64_t k = 0; k < m_; ++k) {
      Tensor term =
          multiply(entries_along(x_, 0, from + k, count), entries_along(weights_, 0, k, 1));
      if (at_end) term = where(entries_along(inside_, 0, from + k, count), term, nothing());
      total = total.defined() ? add(total, term) : term;
    }
    return total;
  }
  /// Rows of the windows, a bounded number at a time.
  void add_rows(std::vector<Tensor>& parts, std::int64_t from, std::int64_t to, bool at_end) const {
    constexpr std::int64_t block = std::int64_t{1} << 22;
    const std::int64_t rows = std::max<std::int64_t>(1, block / m_);
    const Tensor offsets = arange(std::int64_t{0}, m_);
    for (std::int64_t start = from; start < to; start += rows) {
      const std::int64_t stop = std::min(to, start + rows);
      const Tensor first = reshape(arange(start, stop), Dims{stop - start, 1});
      const Tensor places = add(first, offsets);
      // No product of matrices: its rules would let a cotangent of 0 meet an infinity.
      Tensor terms = multiply(take(x_, places, 0), weights_);
      if (at_end) terms = where(take(inside_, places, 0), terms, nothing());
      parts.push_back(sum(terms, 1));
    }
  }

  Tensor x_, weights_;
  std::int64_t m_, n_, before_, after_;
  Tensor inside_;
};

/// `a` with `v` at every offset, in the order of `a`; `v` is not the longer one.
Tensor correlated(const Tensor& a, const Tensor& v, std::string_view mode, const char* op) {
  const std::int64_t m = v.size();
  if (mode == "valid") return SlidingSums(a, v, 0, 0).result();
  if (mode == "full") return SlidingSums(a, v, m - 1, m - 1).result();
  if (mode == "same") return SlidingSums(a, v, m / 2, m - 1 - m / 2).result();
  raise(ErrorKind::value, op,
        "mode must be 'full', 'same' or 'valid', not '" + std::string(mode) + "'");
}

void check_sequences(const Tensor& a, const Tensor& v, const char* op) {
  if (a.ndim() != 1 || v.ndim() != 1 || a.size() == 0 || v.size() == 0)
    raise(ErrorKind::value, op,
          "needs two vectors that are not empty: shapes " + to_string(a.shape()) + " and " +
              to_string(v.shape()));
}

}  // namespace

Tensor convolve(const Tensor& a, const Tensor& v, std::string_view mode) {
  check_sequences(a, v, "convolve");
  return a.size() < v.size() ? correlated(v, flip(a), mode, "convolve")
                             : correlated(a, flip(v), mode, "convolve");
}

Tensor correlate(const Tensor& a, const Tensor& v, std::string_view mode) {
  check_sequences(a, v, "correlate");
  return a.size() < v.size() ? flip(correlated(v, a, mode, "correlate"))
                             : correlated(a, v, mode, "correlate");
}

void register_contract_ops() {
  register_functions({
      {.name = "einsum",
       .signature = "(subscripts, /, *operands)",
       .doc = "Sums of products in Einstein's notation: 'ij,jk->ik' is the product of matrices.\n\n"
              "Each term before the arrow names the axes of one operand, with letters that may be "
              "repeated in it for a diagonal; what the term after the arrow does not name is "
              "summed over. Without an arrow the result has the letters that occur once, in "
              "alphabetical order. '...' stands for any further axes, which broadcast, as axes of "
              "length 1 do. Of several operands two at a time are contracted, by products of "
              "matrices, the pair with the smallest result first.\n\n"
              ">>> import adjoint as ad\n"
              ">>> ad.einsum('ii->i', ad.eye(3)).tolist()\n"
              "[1.0, 1.0, 1.0]\n",
       .entry = entry_of<einsum>()},
      {.name = "convolve",
       .signature = "(a, v, /, mode='full')",
       .doc = "The convolution of two vectors: all of it, the middle as long as the longer one "
              "('same'), or where both overlap fully ('valid').",
       .entry = entry_of<convolve>(),
       .promotes = true},
      {.name = "correlate",
       .signature = "(a, v, /, mode='valid')",
       .doc = "Sums of products of two vectors at every offset: where both overlap fully "
              "('valid'), as many as the longer one has entries ('same'), or all ('full').",
       .entry = entry_of<correlate>(),
       .promotes = true},
  });
}

}  // namespace adjoint
