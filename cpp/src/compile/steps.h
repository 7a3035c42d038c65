// Steps: a program that is run again and again on memory that stays, as loops run their bodies.
// What a run of its own pays for - nodes for what enters and leaves, a table of places, a block for
// what passes between groups - is paid once.
#pragma once

#include <cstddef>
#include <vector>

#include "compile/program.h"

namespace adjoint {

class Steps {
 public:
  /// Whether a program can be run so: it consists of groups, whose values need no nodes.
  static bool suit(const CompiledProgram& program);

  /// `program` has to suit, and to outlive this.
  explicit Steps(const CompiledProgram& program);

  /// Whether result i is input i, handed through.
  bool hands_through(std::size_t i) const;
  /// Where a dense value lies that the next steps read.
  void set_input(std::size_t i, const void* data);
  /// Where result i of the next steps goes; no input of them lies there.
  void set_output(std::size_t i, void* data);
  void run();

 private:
  /// A result that is written elsewhere, or not at all: an input, a constant, one given twice.
  struct Copy {
    PlaceIndex from;
    void* to;
    std::size_t bytes;
  };
  static constexpr std::size_t kNoCopy = ~std::size_t{0};

  void set(PlaceIndex p, void* data);

  const Plan& plan_;
  std::vector<void*> data_;                             // by place
  std::vector<void*> addresses_;                        // as Plan::lists
  std::vector<std::uint32_t> readers_begin_, readers_;  // by place: where it is in the lists
  std::vector<Copy> copies_;
  std::vector<std::size_t> copy_of_;  // by result
  IntrusivePtr<Storage> arena_;
};

}  // namespace adjoint
