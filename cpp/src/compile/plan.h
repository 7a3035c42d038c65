// Plan: a partitioned graph lowered to instructions over numbered places, with one memory plan.
//
// A place is a value that some instruction hands to another. Values that only pass from group to
// group live in one arena at planned offsets; values that an operation of its own reads or makes,
// and what enters and leaves the program, are nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "compile/graph.h"
#include "compile/partition.h"
#include "graph/fuse.h"
#include "kernels/fused.h"

namespace adjoint {

using PlaceIndex = std::uint32_t;
inline constexpr PlaceIndex kNoPlace = ~PlaceIndex{0};

/// A slice of Plan::lists.
struct PlaceList {
  std::uint32_t begin = 0, end = 0;
};

struct Instruction {
  enum class Kind : std::uint8_t { group, scalars, single };
  Kind kind;
  bool keeps_layout = false;  // single: a view, whose result is strided
  std::uint32_t program = 0;  // number among the groups or the scalar programs
  Graph::Index node = 0;      // the last that is computed
  std::uint32_t donors = 0;   // single: bit i: input i is not read again
  PlaceList reads, writes;
  PlaceList givers;  // group: per write, the place whose memory it may take, or kNoPlace
  PlaceList frees;   // nodes that are not read again
};

struct PlannedPlace {
  DType dtype;
  bool is_node;
  bool borrowed = false;  // an input whose handle stays with the caller, who gives up the value
  std::size_t bytes;
  std::size_t offset = 0;  // in the arena
  Layout layout;
};

struct Plan {
  std::vector<Instruction> instructions;
  std::vector<PlaceIndex> lists;
  std::vector<PlannedPlace> places;
  std::vector<Group> groups;
  std::vector<kernels::FusedProgram> scalars;
  std::vector<PlaceIndex> inputs;  // kNoPlace when unused
  struct Constant {
    PlaceIndex place;
    Tensor value;  // contiguous, or with repeated elements
  };
  std::vector<Constant> constants;
  std::vector<PlaceIndex> outputs;
  std::size_t arena_bytes = 0;
  std::size_t bytes_moved = 0;
  double work = 0;  // estimate, in adds of one element

  std::span<const PlaceIndex> list(PlaceList l) const {
    return {lists.data() + l.begin, l.end - l.begin};
  }
};

Plan make_plan(const Graph& graph, const Partition& parts, std::span<const std::uint32_t> donated);

}  // namespace adjoint
