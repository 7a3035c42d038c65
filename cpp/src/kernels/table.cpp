// The choice of an instruction-set level and the lookup in its table. This file is compiled with
// the flags of the library; it touches a level's objects only after the processor was asked.
#include "kernels/table.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "adjoint/error.h"
#include "base/cpu.h"
#include "kernels/isa/level.h"

namespace adjoint::kernels {

#ifdef ADJOINT_HAVE_BASELINE
ADJOINT_DECLARE_LEVEL(baseline)
#endif
#ifdef ADJOINT_HAVE_V3
ADJOINT_DECLARE_LEVEL(v3)
#endif
#ifdef ADJOINT_HAVE_V4
ADJOINT_DECLARE_LEVEL(v4)
#endif
#ifdef ADJOINT_HAVE_NEON
ADJOINT_DECLARE_LEVEL(neon)
#endif

namespace {

struct Level {
  IsaLevel isa;
  Rows<TileKernel> (*tiles[5])();
  Rows<TileKernel> (*casts)();
  Rows<CompositeKernel> (*composites)();
  Rows<ReduceKernel> (*reductions)();
  Rows<ArgReduceRow> (*arg_reductions)();
  Rows<CopyRow> (*copies)();
};

#define ADJOINT_LEVEL(ns)                                                                      \
  Level {                                                                                      \
    IsaLevel::ns,                                                                              \
        {ns::integer_tiles, ns::float_tiles, ns::math_tiles, ns::special_tiles,                \
         ns::comparison_tiles},                                                                \
        ns::cast_tiles, ns::composites, ns::reductions, ns::arg_reductions, ns::strided_copies \
  }

/// The levels compiled in, best first.
constexpr Level kLevels[] = {
#ifdef ADJOINT_HAVE_V4
    ADJOINT_LEVEL(v4),
#endif
#ifdef ADJOINT_HAVE_V3
    ADJOINT_LEVEL(v3),
#endif
#ifdef ADJOINT_HAVE_NEON
    ADJOINT_LEVEL(neon),
#endif
#ifdef ADJOINT_HAVE_BASELINE
    ADJOINT_LEVEL(baseline),
#endif
};

std::string supported_names() {
  std::string names;
  for (const Level& level : kLevels) {
    if (!cpu_supports(level.isa)) continue;
    if (!names.empty()) names += ", ";
    names += short_name(level.isa);
  }
  return names.empty() ? "none" : names;
}

const Level& choose_level() {
  const char* wanted = std::getenv("ADJOINT_ISA");
  const bool automatic = wanted == nullptr || *wanted == '\0';
  for (const Level& level : kLevels) {
    if (!cpu_supports(level.isa)) continue;
    if (automatic || wanted == short_name(level.isa)) return level;
  }
  if (automatic)
    raise(ErrorKind::runtime, "kernels",
          "this processor has none of the instruction sets the library was built for");
  raise(ErrorKind::value, "kernels",
        "ADJOINT_ISA=" + std::string(wanted) +
            " is unknown or not supported here; unset it or use "
            "one of: " +
            supported_names());
}

/// All rows of the chosen level, tiles and casts sorted by name for binary search.
struct Table {
  explicit Table(const Level& level)
      : isa(level.isa),
        casts(level.casts()),
        composites(level.composites()),
        reductions(level.reductions()),
        arg_reductions(level.arg_reductions()),
        copies(level.copies()) {
    for (const auto& part : level.tiles) {
      const Rows<TileKernel> rows = part();
      for (std::int64_t i = 0; i < rows.count; ++i) tiles.push_back(&rows.data[i]);
    }
    std::sort(tiles.begin(), tiles.end(),
              [](const TileKernel* a, const TileKernel* b) { return key(*a) < key(*b); });
  }

  static std::pair<std::string_view, DType> key(const TileKernel& row) {
    return {row.name, row.in};
  }

  IsaLevel isa;
  std::vector<const TileKernel*> tiles;
  Rows<TileKernel> casts;
  Rows<CompositeKernel> composites;
  Rows<ReduceKernel> reductions;
  Rows<ArgReduceRow> arg_reductions;
  Rows<CopyRow> copies;
};

const Table& table() {
  static const Table* const instance =
      new Table(choose_level());  // never freed: pointers stay valid
  return *instance;
}

template <class T, class Predicate>
const T* find_row(Rows<T> rows, Predicate matches) {
  const T* end = rows.data + rows.count;
  const T* row = std::find_if(rows.data, end, matches);
  return row == end ? nullptr : row;
}

}  // namespace

const TileKernel* find_tile(std::string_view name, DType in) {
  const auto& tiles = table().tiles;
  const std::pair<std::string_view, DType> wanted{name, in};
  const auto it = std::lower_bound(
      tiles.begin(), tiles.end(), wanted,
      [](const TileKernel* row, const auto& key) { return Table::key(*row) < key; });
  return it != tiles.end() && Table::key(**it) == wanted ? *it : nullptr;
}

const TileKernel* find_cast(DType from, DType to) {
  return find_row(table().casts, [=](const TileKernel& r) { return r.in == from && r.out == to; });
}

std::span<const CompositeKernel> composite_kernels() {
  const Rows<CompositeKernel> rows = table().composites;
  return {rows.data, static_cast<std::size_t>(rows.count)};
}

const ReduceKernel* find_reduce(std::string_view name, DType dtype) {
  return find_row(table().reductions,
                  [=](const ReduceKernel& r) { return r.dtype == dtype && r.name == name; });
}

ArgReduceFn find_argreduce(std::string_view name, DType dtype) {
  const ArgReduceRow* row = find_row(table().arg_reductions, [=](const ArgReduceRow& r) {
    return r.dtype == dtype && r.name == name;
  });
  return row ? row->fn : nullptr;
}

StridedCopyFn find_copy(std::size_t itemsize) {
  const CopyRow* row =
      find_row(table().copies, [=](const CopyRow& r) { return r.itemsize == itemsize; });
  return row ? row->fn : nullptr;
}

std::string_view isa_name() { return long_name(table().isa); }

}  // namespace adjoint::kernels
