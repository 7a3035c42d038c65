// A function run apart: it reads cells from outside, and what it writes stays apart. What it has
// read can be put in the place of the cells when it is run again.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "graph/cell.h"
#include "graph/thread_state.h"

namespace adjoint {

/// The value of x without history or tangents, marked where a derivative of it is wanted.
Tensor shadow_of(const Tensor& x);

class Overlay final : public CellScope {
 public:
  /// What a first run has met, in order. Cells are known by number here, and never followed.
  struct Record {
    struct Met {
      Node** at;
      std::uint64_t birth;
      bool null;     // it was empty
      bool written;  // by the first run
      Standing standing;
    };
    /// Another name of one of them, where a scope around the first run put it in the place of a
    /// cell from outside.
    struct Alias {
      Node** at;
      std::uint64_t birth;
      std::size_t number;
    };
    std::vector<Met> cells;
    std::vector<Alias> aliases;
    std::size_t expected = 0;             // cells that it was told of
    std::uint64_t before = 0, after = 0;  // births of its thread
  };

  /// What a first run reads: values without history that know whether they had one (`shadow_of`),
  /// or values as they are.
  enum class Reads : std::uint8_t { shadows, values };
  /// A first run, which fills `record`, on behalf of `who`.
  Overlay(Record& record, Reads reads, std::string who);
  ~Overlay() override;
  /// A later run, with values for the cells that were not empty. With `knows_all` a handle that the
  /// first run has not met is an error, for the two would not compute the same, unless it is a
  /// constant that the first run has made, as of a table that is made when first needed.
  Overlay(const Record& record, std::span<const Tensor> values, std::string who, bool knows_all);

  Tensor read(const Cell& cell) override;
  void write(const Cell& cell, Tensor value) override;
  /// What a later run writes goes nowhere.
  void check(const Cell& cell, const Tensor& value) override {
    if (first_) check_outside(cell, value);
  }
  const char* refuses_leaves() const noexcept override { return who_.c_str(); }
  const Standing* standing_then(const Cell& cell) const override;

  /// Of a first run, before it: the number by which the cell will be known, the next one unless a
  /// scope around has put it in the place of one that is.
  std::size_t expect(const Cell& cell);
  /// Of a later run, before it: another cell that stands for the one of this number.
  void stand_in(std::size_t number, const Cell& cell);
  /// Of a first run, when it is over: traces around it may keep work of it that nobody needs, on
  /// values of its own, which no sweep must come to.
  void cut_traces();
  /// Of a later run, after it: raises where it has read constants of the first run's in the place
  /// of what that has read.
  void check_same() const;
  /// Of a first run: what the cells that were not empty held.
  std::vector<Tensor> values_read() const;
  /// What the cells written by the first run hold now; undefined for empty.
  std::vector<Tensor> values_written() const;
  /// What they held before.
  std::vector<Tensor> values_expected() const;
  /// Of a first run: the cells that it has written.
  std::vector<Cell> cells_written() const;
  /// Of a first run: whether tangents stay with what these cells hold.
  std::vector<bool> moving_written() const;
  /// Writes to the cells themselves; the run must be over.
  using CellScope::close;

 private:
  struct Held {
    Cell cell;
    IntrusivePtr<const Payload> owner;
    Tensor original;
    Tensor value;
  };
  const std::size_t* find(const Cell& cell) const;
  Held& meet(const Cell& cell);
  Held& held_at(const Cell& named);
  Tensor first_shadow(const Tensor& x) const;
  bool is_made_constant(const Cell& cell);
  [[noreturn]] void raise_unknown() const;

  std::string who_;
  Record* first_;  // null in a later run
  bool knows_all_ = false;
  bool reads_made_ = false;
  Reads reads_;
  int shadow_before_;
  Opening opening_;
  std::vector<std::pair<TraceSink*, std::size_t>> traces_;  // open before, and their constants
  const Record& record_;
  std::vector<Held> held_;  // of the record's cells, then others
  struct Known {
    std::size_t number;  // of what is held
    std::uint64_t birth;
  };
  std::unordered_map<Node**, Known> at_;
};

}  // namespace adjoint
