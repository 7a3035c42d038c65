// What a compiled function remembers: by which arguments it is called, and the programs made for
// each kind of call.
#pragma once

#include <memory>
#include <vector>

#include "compile/function.h"
#include "compile/trace.h"
#include "convert.h"
#include "surroundings.h"
#include "tree.h"

namespace adjoint::python {

/// One leaf of the arguments of a call, borrowed.
struct CallLeaf {
  enum class Kind : std::uint8_t { tensor, weak_int, weak_float, fixed };
  Kind kind;
  PyObject* object;    // fixed: the value is part of the key
  Node* node;          // tensor
  std::uint32_t same;  // tensor: the first leaf that is this very handle

  bool is_handle() const noexcept { return kind == Kind::tensor && is_tensor(object); }
};

/// The arguments of one call, taken apart.
class Call {
 public:
  Call(PyObject* const* args, std::size_t nargs, PyObject* kwnames, const Dims& static_argnums);

  std::span<const CallLeaf> leaves() const noexcept { return leaves_; }
  /// The leaves of one argument: [first, second).
  std::pair<std::size_t, std::size_t> leaves_of(std::size_t argument) const;
  /// The arguments with other leaves.
  std::vector<py::object> rebuild(const std::vector<py::object>& leaves) const;
  std::size_t positional() const noexcept { return nargs_; }
  PyObject* kwnames() const noexcept { return kwnames_; }

  /// Whether comparing the arguments with a key may run code of the user's.
  bool runs_code() const noexcept { return runs_code_; }
  /// Holds the values of the arguments, which are borrowed from their handles: to be called before
  /// code of the user's runs, or another thread may, since either can rebind the handles.
  void hold();
  /// Gives up the hold on the value of one argument.
  void let_go(std::size_t leaf) noexcept;
  /// Makes these numbers part of the key.
  void fix(std::span<const std::uint32_t> leaves);
  /// The leaf whose handle this is, or none (its count).
  std::size_t leaf_of(const void* handle) const noexcept;
  /// The leaf that is this input of a program.
  std::size_t leaf_of_input(std::uint32_t input) const noexcept;

 private:
  friend struct CallKey;
  void add_leaf(PyObject* o);
  void add_fixed(PyObject* o);
  void add_tensor(PyObject* o, Node* node);
  void find_same();
  static std::uint64_t filter_bit(const void* handle) noexcept {
    const auto bits = reinterpret_cast<std::uintptr_t>(handle);
    return std::uint64_t{1} << ((bits >> 5 ^ bits >> 11) & 63);
  }

  SmallVector<CallLeaf, 8> leaves_;
  std::size_t nargs_;
  PyObject* kwnames_;                                   // borrowed, or null
  std::vector<std::pair<std::size_t, TreeDef>> trees_;  // arguments that are no leaves
  SmallVector<std::uint32_t, 8> first_;                 // leaf of each argument
  std::vector<py::object> held_;                        // leaves of trees
  std::vector<Tensor> made_;                            // of arrays
  std::vector<Tensor> kept_;                            // by leaf, once they are held
  std::uint64_t filter_ = 0;                            // of handles
  bool runs_code_ = false;
  int recording_;  // whether work is recorded, and gradients taken inside are
};

/// What two calls must share to run the same program.
struct CallKey {
  struct Leaf {
    CallLeaf::Kind kind;
    DType dtype = DType::float64;
    bool requires_grad = false;
    bool moves = false;
    bool has_leaf = false;
    std::uint32_t same = 0;
    Dims shape = {};
    Identity object = {};   // fixed: compared by identity,
    py::object value = {};  // or by value
  };
  explicit CallKey(const Call& call);
  bool accepts(const Call& call) const;
  /// Whether a part of it is gone, so that no call can match it.
  bool is_gone() const noexcept;
  int traverse(visitproc visit, void* arg) const;

  std::vector<Leaf> leaves;
  std::vector<std::pair<std::size_t, TreeDef>> trees;
  std::size_t nargs;
  py::object kwnames;
  int recording;
};

/// A traced tensor among what the function leaves in attributes, variables and containers.
struct LeftHandle {
  py::object handle;
  std::uint32_t output;    // its value
  std::uint32_t argument;  // the leaf of the arguments that it is, or kNone
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
};

/// One program for a key; several differ in what they captured.
struct Variant {
  std::shared_ptr<const GraphFunction> function;  // null: the function itself is called
  Surroundings around;
  std::vector<Place> places;
  std::size_t arguments = 0;  // inputs that are no places
  /// Arguments whose handles are rebound, and the outputs that they get.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> rebound;
  /// Arguments that the function reached as captured handles too.
  std::vector<std::pair<std::uint32_t, Identity>> bound;
  std::vector<std::uint32_t> donated;  // inputs
  bool draws = false;                  // random numbers
  bool kept = true;                    // worth remembering: nothing of an open transform is in it
  bool single = false;                 // one tensor, no structure
  TreeDef def;                         // of what the function returned
  std::vector<py::object> leaves;      // null for tensors
  std::vector<std::uint32_t> same;     // by leaf: the first that is this very object
  std::vector<bool> own;               // by leaf: made by the function, copied for each call
  std::vector<LeftValue> left;         // what it puts into attributes and variables
  std::vector<LeftHandle> left_handles;

  bool accepts(const Call& call) const;
  int traverse(visitproc visit, void* arg) const;
  /// What places and graphs hold. To be asked while nobody runs or traces the function.
  int traverse_graphs(visitproc visit, void* arg) const;
};

/// The cell of a place in this call.
Cell cell_in(const Place& place, const Call& call) noexcept;

/// What is known of one kind of call.
struct CacheEntry {
  CallKey key;
  /// Arguments whose values the function needs: calls are told apart by them.
  std::vector<std::uint32_t> needed = {};
  std::vector<std::shared_ptr<const Variant>> variants = {};  // the latest used first
};

struct CompiledFunction {
  Dims static_argnums;  // negative ones count from the end of a call's positional arguments
  Dims donate_argnums;
  /// The function takes any number of arguments, or does not say how many: each call is looked at.
  bool any_count = false;
  std::size_t checked = ~std::size_t{0};  // the last number of arguments that was looked at
  std::vector<std::shared_ptr<CacheEntry>> entries;  // the latest used first
  std::vector<StatePlace> changed = {};              // by the function, while it was traced
  /// Calls that are open, in all threads: these may share what is kept here at any time, so that
  /// meanwhile the collector is told nothing of it.
  std::size_t open_calls = 0;
  std::size_t hits = 0;
  std::size_t misses = 0;

  /// The program for such a call, traced if need be; numbers that it needs are fixed in `call`.
  std::shared_ptr<const Variant> find(PyObject* f, Call& call);

 private:
  std::shared_ptr<CacheEntry> find_entry(const Call& call) const;
  std::shared_ptr<const Variant> known(Call& call);
  std::shared_ptr<CacheEntry> entry_for(const Call& call, CallKey key);
};

/// Reads which arguments are static and which are donated, and raises for what cannot be meant.
void read_argnums(CompiledFunction& c, const py::object& f, const py::object& static_argnums,
                  const py::object& donate_argnums);
/// The same for a call with so many positional arguments, where only the call can tell.
void check_argnums(CompiledFunction& c, std::size_t nargs);

/// Finds the leaves that are no tensors which each call must have for itself. False where one of
/// them cannot be copied as the function would make it again.
bool find_own_leaves(Variant& v);

/// The result of a call that a program serves; null, with nothing done, where another thread has
/// changed a gradient since the program read it.
PyObject* run_variant(const Variant& v, Call& call);

/// The function traced for a call. Null where it needs the values of numbers, which are told.
std::shared_ptr<const Variant> trace_call(CompiledFunction& c, PyObject* f, const Call& call,
                                          std::vector<std::uint32_t>& needed);

}  // namespace adjoint::python
