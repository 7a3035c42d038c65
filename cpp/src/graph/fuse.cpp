// Laying operands over the iteration space is the whole subject: an operand is described by one
// stride per axis of the space, and the axes are folded into rows and columns where every
// operand allows it.
#include "graph/fuse.h"

#include <algorithm>

#include "graph/defer.h"

namespace adjoint {

using kernels::ValueClass;

// ------------------------------------------------------------------------------------- space

std::int64_t GroupSpace::rows() const {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + reduced < full.size(); ++i) n *= full[i];
  return n;
}

std::int64_t GroupSpace::cols() const {
  std::int64_t n = 1;
  for (std::size_t i = full.size() - reduced; i < full.size(); ++i) n *= full[i];
  return n;
}

GroupSpace::Role GroupSpace::role(Layout::Extents shape) const {
  if (std::equal(shape.begin(), shape.end(), full.begin(), full.end())) return Role::full;
  if (reduced == 0) return Role::none;
  const std::size_t lead = full.size() - reduced;
  if (shape.size() < lead || (shape.size() != lead && shape.size() != full.size()))
    return Role::none;
  if (!std::equal(shape.begin(), shape.begin() + lead, full.begin())) return Role::none;
  for (std::size_t i = lead; i < shape.size(); ++i)
    if (shape[i] != 1) return Role::none;
  return Role::row;
}

bool GroupSpace::aligned(Layout::Extents shape) const {
  return shape.size() == full.size() || rows() == 1;
}

bool GroupSpace::merge(const GroupSpace& other) {
  const int trailing = reduced ? reduced : other.reduced;
  const int leading = lead ? lead : other.lead;
  if (!(other.full == full) || (other.reduced && other.reduced != trailing) ||
      (other.lead && other.lead != leading) ||
      (trailing && leading && trailing + leading != static_cast<int>(full.size())))
    return false;
  reduced = trailing;
  lead = leading;
  return true;
}

GroupSpace space_of(const GroupValue& value) {
  const bool columns = value.making == Making::columns;
  return {Dims(value.operand), columns ? 0 : value.axes, columns ? value.axes : 0};
}

Parted GroupSpace::parted(const GroupValue& value, const GroupValue& reader) const {
  if (value.making == Making::single || reader.making == Making::single) return Parted::single;
  if (value.making == Making::columns) return Parted::axes;
  const Role from = role(value.shape);
  if (value.making == Making::reduction) {
    if (value.axes != reduced || !std::ranges::equal(value.operand, full)) return Parted::axes;
  } else if (from == Role::none) {
    return Parted::shape;
  }
  const bool per_row = value.making == Making::reduction || from == Role::row;
  if (reader.making == Making::reduction || reader.making == Making::columns)
    return per_row ? Parted::nested : Parted::no;
  const Role to = role(reader.shape);
  if (to == Role::full) return !per_row || aligned(value.shape) ? Parted::no : Parted::unaligned;
  if (to == Role::none || !per_row) return Parted::shape;
  if (reader.making == Making::view || rows() == 1) return Parted::no;
  return std::ranges::equal(value.shape, reader.shape) ? Parted::no : Parted::unaligned;
}

std::string_view describe(Parted why) {
  switch (why) {
    case Parted::no: return "fused";
    case Parted::ready: return "in memory";
    case Parted::single: return "an operation that runs on its own";
    case Parted::shape: return "its shape does not fit the iteration space";
    case Parted::axes: return "it reduces other axes";
    case Parted::nested: return "a reduction of a reduction";
    case Parted::unaligned: return "one value per row, whose axes do not broadcast along the rows";
    case Parted::members: return "the group is full";
    case Parted::earlier: return "it is there before another input of its reader";
  }
  return "";
}

// ----------------------------------------------------------------------------------- folding

namespace {

/// Folds axes [first, last) of an operand into one stride; false when they do not fold.
bool fold(const Dims& shape, const Dims& strides, std::size_t first, std::size_t last,
          std::int64_t* stride) {
  bool any = false;
  std::int64_t inner_extent = 1;
  std::int64_t inner_stride = 0;
  *stride = 0;
  for (std::size_t i = last; i-- > first;) {
    if (shape[i] == 1) continue;
    if (!any) {
      any = true;
      *stride = strides[i];
    } else if (strides[i] != inner_stride * inner_extent) {
      return false;
    }
    inner_stride = strides[i];
    inner_extent = shape[i];
  }
  return true;
}

}  // namespace

int GroupBuilder::choose_split() const {
  const int nd = static_cast<int>(space_.full.size());
  if (space_.reduced) return nd - space_.reduced;
  if (space_.lead) return space_.lead;
  int best = 0;
  std::size_t best_misfits = uses_.size() + 1;
  for (int split = 0; split < std::max(nd, 1); ++split) {
    std::size_t misfits = 0;
    for (const Use& u : uses_) {
      std::int64_t stride;
      if (!fold(space_.full, u.strides, 0, split, &stride) ||
          !fold(space_.full, u.strides, split, nd, &stride))
        ++misfits;
    }
    if (misfits < best_misfits) {
      best_misfits = misfits;
      best = split;
    }
  }
  return best;
}

// ---------------------------------------------------------------------------------- building

int GroupBuilder::use(const Operand& operand, Layout::Extents consumer, GroupSpace::Role role) {
  Use u{operand.index, operand.dtype, role == GroupSpace::Role::row,
        broadcast_strides(*operand.layout, consumer)};
  u.strides.resize(space_.full.size(), 0);
  for (std::size_t i = 0; i < uses_.size(); ++i)
    if (uses_[i].external == u.external && uses_[i].row == u.row && uses_[i].strides == u.strides)
      return static_cast<int>(i);
  uses_.push_back(std::move(u));
  return static_cast<int>(uses_.size()) - 1;
}

int GroupBuilder::add(const Op& op, const Attrs* attrs, Layout::Extents shape,
                      std::span<const Operand> operands) {
  Member m;
  const GroupSpace::Role role = op.reduces ? GroupSpace::Role::full : space_.role(shape);
  m.full = role == GroupSpace::Role::full;
  const Layout::Extents consumer = op.reduces ? Layout::Extents(space_.full) : shape;
  for (const Operand& operand : operands) {
    m.sources[m.count++] = operand.external ? Source{true, use(operand, consumer, role)}
                                            : Source{false, operand.index};
  }
  const DType operand_type = operands[op.dtypes == DTypeRule::where ? 1 : 0].dtype;
  if (op.reduces) {
    m.reduce = op.reducers[static_cast<int>(operand_type)];
    m.columns = reduces_columns(space_.full.size(), attrs_as<ReduceAttrs>(attrs).axes);
  } else if (op.kind == OpKind::elementwise) {
    m.tile = tile_kernel(op, operand_type, attrs);
  }
  members_.push_back(m);
  return static_cast<int>(members_.size()) - 1;
}

Group GroupBuilder::finish() {
  Group g;
  const std::size_t nd = space_.full.size();
  const std::size_t split = static_cast<std::size_t>(choose_split());
  for (std::size_t i = 0; i < nd; ++i) (i < split ? g.rows_ : g.cols_) *= space_.full[i];
  const bool swapped = !space_.reduced && !space_.lead && g.cols_ == 1;
  if (swapped) std::swap(g.rows_, g.cols_);

  std::vector<kernels::FusedProgram::Value> external_values;
  for (const Use& u : uses_) {
    const auto size = static_cast<std::int64_t>(itemsize(u.dtype));
    Group::Binding b{u.dtype, ValueClass::full, 0, 0, {}, {}};
    const bool folds = fold(space_.full, u.strides, 0, split, &b.row_stride) &&
                       fold(space_.full, u.strides, split, nd, &b.col_stride);
    if (swapped) std::swap(b.row_stride, b.col_stride);
    b.row_stride *= size;
    b.col_stride *= size;
    if (!folds) {
      b.cls = u.row ? ValueClass::row : ValueClass::full;
      b.shape = space_.full;
      b.strides = u.strides;
      if (u.row) {
        b.shape.resize(split);
        b.strides.resize(split);
      }
      for (auto& s : b.strides) s *= size;
    } else if (u.row) {
      b.cls = ValueClass::row;
    } else if (b.row_stride == 0 && b.col_stride == 0) {
      b.cls = ValueClass::scalar;
    } else if (b.col_stride == 0 && g.rows_ > 1) {
      b.cls = ValueClass::row;
    } else if (b.row_stride == 0 && g.rows_ > 1) {
      b.cls = ValueClass::col;
    }
    external_values.push_back(g.program_.add_input(u.dtype, b.cls));
    g.externals_.push_back(u.external);
    g.bindings_.push_back(std::move(b));
  }

  std::vector<kernels::FusedProgram::Value> values;
  for (const Member& m : members_) {
    kernels::FusedProgram::Value src[3];
    for (int i = 0; i < m.count; ++i)
      src[i] =
          m.sources[i].external ? external_values[m.sources[i].index] : values[m.sources[i].index];
    if (m.reduce) {
      values.push_back(m.columns ? g.program_.add_column_reduce(m.reduce, src[0])
                                 : g.program_.add_reduce(m.reduce, src[0]));
    } else if (m.tile) {
      values.push_back(
          g.program_.add_tile(m.tile, {src, static_cast<std::size_t>(m.count)}, m.full));
    } else {
      values.push_back(src[0]);
    }
  }
  for (const int o : outputs_) g.program_.add_output(values[o]);
  g.program_.finalize();
  return g;
}

// ----------------------------------------------------------------------------------- running

void Group::run(std::span<const void* const> inputs, std::span<void* const> outputs) const {
  SmallVector<kernels::InputBinding, 16> bound;
  bound.resize(bindings_.size());
  for (std::size_t i = 0; i < bindings_.size(); ++i) {
    const Binding& b = bindings_[i];
    kernels::InputBinding& in = bound[i];  // filled where it is: a copy waits for its parts
    in.data = inputs[i];
    in.row_stride = b.row_stride;
    in.col_stride = b.col_stride;
    if (b.shape.empty()) continue;
    in.ndim = static_cast<int>(b.shape.size());
    in.shape = b.shape.data();
    in.strides = b.strides.data();
  }
  program_.run(bound, outputs, rows_, cols_);
}

bool Group::can_alias(std::size_t i, DType output) const {
  const Binding& b = bindings_[i];
  const auto size = static_cast<std::int64_t>(itemsize(b.dtype));
  return b.cls == ValueClass::full && b.shape.empty() && itemsize(output) == itemsize(b.dtype) &&
         b.col_stride == size && (rows_ == 1 || b.row_stride == cols_ * size);
}

}  // namespace adjoint
