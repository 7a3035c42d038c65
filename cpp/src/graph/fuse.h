// Groups: how a set of elementwise operations and trailing reductions becomes one program of the
// tile executor. Deferral collects its groups at run time, the compiler ahead of it; both build
// them here, so deferred and compiled work run the same program.
#pragma once

#include <string_view>
#include <vector>

#include "graph/node.h"
#include "graph/op.h"
#include "kernels/fused.h"

namespace adjoint {

/// How a value comes about, as far as groups are concerned.
enum class Making : std::uint8_t {
  pointwise,
  reduction,  // over trailing axes
  columns,    // a reduction over leading axes
  view,
  single,  // an operation that runs on its own
};

/// What the rules of groups ask about a value.
struct GroupValue {
  Making making;
  Layout::Extents shape;
  Layout::Extents operand = {};  // reduction, columns: what is reduced
  int axes = 0;                  // reduction, columns: how many, at the end or start of `operand`
};

/// Why a value is not computed in the group that reads it.
enum class Parted : std::uint8_t {
  no,         // it is
  ready,      // it is there already
  single,     // made or read by an operation that runs on its own
  shape,      // its shape, or the reader's, has no place in the space
  axes,       // it reduces other axes than the group
  nested,     // one value per row, which a reduction of the group would reduce again
  unaligned,  // one value per row, whose axes do not broadcast along the rows
  members,    // the group has as many members as it may
  earlier,    // another input of the reader comes later
};
std::string_view describe(Parted why);

inline constexpr std::size_t kMaxMembers = 256;  // of one group

/// The iteration space of a group: `full` elements, of which the trailing `reduced` axes are
/// reduced over (0: the group has no such reduction), and the leading `lead` by column reductions.
struct GroupSpace {
  /// Where a value of some shape lives in the space.
  enum class Role : std::uint8_t { none, full, row };

  Dims full;
  int reduced = 0;
  int lead = 0;

  std::int64_t rows() const;
  std::int64_t cols() const;
  Role role(Layout::Extents shape) const;
  /// Whether a member of role row and this shape broadcasts along the rows of the space, as an
  /// operand of a full member (the squeezed form of a reduction does not).
  bool aligned(Layout::Extents shape) const;
  /// Takes over the reductions of another space; false, and nothing changed, when they do not go
  /// together: the shapes are the same, those that both have must agree, and every axis of a space
  /// with both kinds is reduced by one of them.
  bool merge(const GroupSpace& other);
  /// The rule of joining: whether the value is computed where the reader, a member, reads it.
  Parted parted(const GroupValue& value, const GroupValue& reader) const;
};

/// The space of a reduction.
GroupSpace space_of(const GroupValue& value);

/// A planned group: the program and how its inputs are laid over the space.
class Group {
 public:
  /// `inputs[i]` points to the first element of external i, `outputs` to contiguous memory.
  void run(std::span<const void* const> inputs, std::span<void* const> outputs) const;
  /// Externals in the order they were first used; the same external may appear twice when its
  /// consumers lay it out differently.
  std::span<const int> externals() const { return externals_; }
  std::size_t instruction_count() const { return program_.instruction_count(); }
  /// Whether output `o` may be written over external binding `i`.
  bool can_alias(std::size_t i, DType output) const;
  std::int64_t elements() const { return rows_ * cols_; }

 private:
  friend class GroupBuilder;
  struct Binding {
    DType dtype;
    kernels::ValueClass cls;
    std::int64_t row_stride = 0;
    std::int64_t col_stride = 0;
    Dims shape;    // only for an input that does not collapse to these
    Dims strides;  // bytes
  };
  kernels::FusedProgram program_;
  std::vector<Binding> bindings_;
  std::vector<int> externals_;
  std::int64_t rows_ = 1;
  std::int64_t cols_ = 1;
};

/// Whether these axes of `ndim` are some of the leading ones, and trailing ones are left.
inline bool reduces_columns(std::size_t ndim, const Dims& axes) {
  if (axes.empty() || axes.size() == ndim) return false;
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<std::int64_t>(i)) return false;
  return true;
}

/// Builds a group from members in topological order.
class GroupBuilder {
 public:
  explicit GroupBuilder(GroupSpace space) : space_(std::move(space)) {}

  struct Operand {
    bool external;
    int index;  // member index, or the caller's number of an external
    DType dtype = DType::float64;
    const Layout* layout = nullptr;  // externals
  };
  /// Adds an application whose result has this shape; returns the member index. A view (broadcast
  /// or unit axes) is another name for its operand.
  int add(const Op& op, const Attrs* attrs, Layout::Extents shape,
          std::span<const Operand> operands);
  void add_output(int member) { outputs_.push_back(member); }
  Group finish();

 private:
  struct Source {
    bool external;
    int index;  // member, or index into uses_
  };
  struct Member {
    const kernels::TileKernel* tile = nullptr;
    const kernels::ReduceKernel* reduce = nullptr;  // neither: a view
    Source sources[3];
    int count = 0;
    bool columns = false;  // the reduction is over rows
    bool full = false;     // of role full, whatever its operands are
  };
  struct Use {  // an external laid over the space in one way
    int external;
    DType dtype;
    bool row;      // the consumer is of role row
    Dims strides;  // elements, one per axis of the space
  };
  int use(const Operand& operand, Layout::Extents consumer, GroupSpace::Role role);
  int choose_split() const;

  GroupSpace space_;
  std::vector<Member> members_;
  std::vector<Use> uses_;
  std::vector<int> outputs_;
};

}  // namespace adjoint
