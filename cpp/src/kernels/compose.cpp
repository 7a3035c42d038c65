// Reading patterns, and finding them in programs. Patterns are part of the library: they are read
// once and trusted.
#include "kernels/compose.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "kernels/fused_plan.h"

namespace adjoint::kernels::fused {

namespace {

constexpr FusedProgram::Value kUnbound = ~FusedProgram::Value{0};

Composite read_pattern(const CompositeKernel& kernel) {
  Composite c{&kernel, {}};
  const std::string_view text = kernel.pattern;
  std::vector<int> open;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ')') {
      Composite::Part& done = c.parts[static_cast<std::size_t>(open.back())];
      done.end = static_cast<int>(c.parts.size());
      open.pop_back();
      if (!open.empty()) c.parts[static_cast<std::size_t>(open.back())].vectors += done.vectors;
    }
    if (text[i] < 'a' || text[i] > 'z') continue;
    const std::size_t end = text.find_first_of("(,)", i);
    const std::string_view word = text.substr(i, end - i);
    const int at = static_cast<int>(c.parts.size());
    if (text[end] == '(') {
      const TileKernel* tile =
          word == "cast" ? find_cast(DType::boolean, kernel.dtype) : find_tile(word, kernel.dtype);
      open.push_back(at);
      c.parts.push_back({tile, -1, false, at + 1, 0});
      c.cost += tile->cost;
      ++c.tiles;
    } else {
      const int operand = word[1] - '0';
      const bool single = word[0] == 's';
      c.parts.push_back({nullptr, operand, single, at + 1, single ? 0 : 1});
      if (!single) ++c.parts[static_cast<std::size_t>(open.back())].vectors;
      c.operands = std::max(c.operands, operand + 1);
    }
    i = end - 1;
  }
  return c;
}

using Table = std::unordered_map<const TileKernel*, std::vector<Composite>>;

const Table& table() {
  static const Table* const instance = [] {
    auto* made = new Table;
    for (const CompositeKernel& kernel : composite_kernels()) {
      Composite c = read_pattern(kernel);
      (*made)[c.parts[0].tile].push_back(std::move(c));
    }
    for (auto& [tile, list] : *made)
      std::stable_sort(list.begin(), list.end(),
                       [](const Composite& a, const Composite& b) { return a.tiles > b.tiles; });
    return made;
  }();
  return *instance;
}

}  // namespace

const std::vector<Composite>& composites_of(const TileKernel* tile) {
  static const std::vector<Composite> none;
  const auto it = table().find(tile);
  return it == table().end() ? none : it->second;
}

// ---------------------------------------------------------------------------------- matching

/// Whether the tree of `part` ends in `v`. A tile kernel below the first must have no other reader
/// and belong to the same pass, or to an earlier one if then no more is kept until the later pass.
bool Lowering::match(const Composite& c, int part, FusedProgram::Value v, const Uses& uses,
                     Match& found) const {
  const Composite::Part& p = c.parts[static_cast<std::size_t>(part)];
  const auto& value = program_.values_[v];
  if (!p.tile) {
    const bool single = value.cls == ValueClass::scalar || value.cls == ValueClass::row;
    if (value.dtype != c.kernel->dtype) return false;
    // Of one element, a vector and a single element are the same.
    if (single != p.single && kind_ != PlanKind::element) return false;
    if (value.cls == ValueClass::row && kind_ == PlanKind::short_rows) return false;
    FusedProgram::Value& bound = found.src[p.operand];
    if (bound != kUnbound && bound != v) return false;
    bound = v;
    return true;
  }
  const std::int64_t at = uses.producer[v];
  if (at < 0 || value.cls != ValueClass::full ||
      program_.instrs_[static_cast<std::size_t>(at)].tile != p.tile)
    return false;
  if (part > 0) {
    if (uses.count[v] != 1 || uses.taken[static_cast<std::size_t>(at)] ||
        (value.level != program_.values_[found.root].level && p.vectors > 1))
      return false;
    found.inner.push_back(static_cast<std::uint32_t>(at));
  }
  return match_operands(c, part, v, uses, found, false) ||
         (p.tile->commutes && match_operands(c, part, v, uses, found, true));
}

bool Lowering::match_operands(const Composite& c, int part, FusedProgram::Value v, const Uses& uses,
                              Match& found, bool exchanged) const {
  const Match before = found;
  const auto& instr = program_.instrs_[static_cast<std::size_t>(uses.producer[v])];
  int below = part + 1;
  for (int i = 0; i < instr.tile->arity; ++i) {
    if (!match(c, below, instr.src[exchanged ? 1 - i : i], uses, found)) {
      found = before;
      return false;
    }
    below = c.parts[static_cast<std::size_t>(below)].end;
  }
  return true;
}

Lowering::Uses Lowering::find_uses() const {
  const auto& instrs = program_.instrs_;
  Uses uses{std::vector<std::uint32_t>(program_.values_.size(), 0),
            std::vector<std::int64_t>(program_.values_.size(), -1),
            std::vector<bool>(instrs.size(), false)};
  for (std::size_t i = 0; i < instrs.size(); ++i) {
    const int arity = instrs[i].tile ? instrs[i].tile->arity : 1;
    for (int s = 0; s < arity; ++s) ++uses.count[instrs[i].src[s]];
    uses.producer[instrs[i].dst] = static_cast<std::int64_t>(i);
  }
  for (const FusedProgram::Value v : program_.outputs_) ++uses.count[v];
  return uses;
}

/// From the last instruction to the first, so that a super-kernel reaches as far back as it can.
void Lowering::choose_jobs() {
  const auto& instrs = program_.instrs_;
  Uses uses = find_uses();
  for (std::size_t i = instrs.size(); i-- > 0;) {
    if (uses.taken[i]) continue;
    Job job{instrs[i].tile, instrs[i].reduce, nullptr, instrs[i].dst, {}};
    std::copy_n(instrs[i].src, 3, job.src);
    for (const Composite& c : composites_of(instrs[i].tile)) {
      Match found{instrs[i].dst, {}, {}};
      std::fill_n(found.src, kMaxOperands, kUnbound);
      if (!match(c, 0, instrs[i].dst, uses, found)) continue;
      job.tile = nullptr;
      job.composite = &c;
      std::copy_n(found.src, kMaxOperands, job.src);
      for (const std::uint32_t inner : found.inner) uses.taken[inner] = true;
      break;
    }
    jobs_.push_back(job);
  }
  std::reverse(jobs_.begin(), jobs_.end());
}

}  // namespace adjoint::kernels::fused
