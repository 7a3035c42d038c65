// Op: the static record of a primitive operation. One record holds everything the library knows
// of an operation: how it is checked, run, differentiated, batched, documented and tested. The
// transforms and the compiler read these fields; none of them names an operation.
#pragma once

#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "adjoint/tensor.h"
#include "graph/attributes.h"
#include "graph/node.h"
#include "kernels/table.h"

namespace adjoint {

enum class OpKind : std::uint8_t {
  elementwise,  // a tile kernel over broadcast inputs
  reduction,    // attributes: ReduceAttrs
  view,         // shares the storage of input 0
  structural,   // moves or creates elements
  contraction,  // matmul
  custom,       // anything else
};

// The attributes that the library itself reads: the kind and the flags of a record say which it
// has.

/// Of a reduction.
struct ReduceAttrs {
  Dims axes;  // in ascending order
  bool keepdims = false;

  static constexpr auto fields() {
    return std::tuple(field("axes", &ReduceAttrs::axes), field("keepdims", &ReduceAttrs::keepdims));
  }
};

/// Of a record that `casts`.
struct CastAttrs {
  DType dtype;

  static constexpr auto fields() { return std::tuple(field("dtype", &CastAttrs::dtype)); }
};

/// Of a record that is a `part`.
struct PartAttrs {
  std::int64_t index;  // among the results

  static constexpr auto fields() { return std::tuple(field("index", &PartAttrs::index)); }
};

/// Of a record with `no_forward`: the identities of the levels whose tangents end.
struct KeptAttrs {
  bool everywhere = false;  // of all levels
  Dims levels;

  static constexpr auto fields() {
    return std::tuple(field("everywhere", &KeptAttrs::everywhere),
                      field("levels", &KeptAttrs::levels));
  }
};

/// Shape and dtype of a result.
struct ResultSpec {
  DType dtype;
  Dims shape;
};

/// What `infer` gives: one result, which costs no memory of its own, or a list of any length.
class ResultList {
 public:
  ResultList(ResultSpec one) : one_(std::move(one)) {}
  ResultList(DType dtype, Dims shape) : one_{dtype, std::move(shape)} {}
  ResultList(std::vector<ResultSpec> all) : made_(std::move(all)), all_(made_), is_list_(true) {}
  /// A list that the attributes of the application hold.
  static ResultList held(std::span<const ResultSpec> all) { return ResultList(all); }
  ResultList(const ResultList&) = delete;
  ResultList& operator=(const ResultList&) = delete;

  std::span<const ResultSpec> all() const noexcept {
    return is_list_ ? all_ : std::span<const ResultSpec>(&one_, 1);
  }
  /// Of an operation with one result.
  const ResultSpec& only() const noexcept { return is_list_ ? all_.front() : one_; }

 private:
  explicit ResultList(std::span<const ResultSpec> all) : all_(all), is_list_(true) {}
  ResultSpec one_{};
  std::vector<ResultSpec> made_;
  std::span<const ResultSpec> all_;
  bool is_list_ = false;
};

/// By input, whether a cotangent of it is of any use; of all, where nothing is said.
struct Wanted {
  std::span<const bool> inputs = {};
  bool operator[](std::size_t i) const noexcept { return inputs.empty() || inputs[i]; }
};

/// The application that a rule differentiates. The values of results are there where the record
/// says that the rule needs them, their shapes and dtypes always.
struct RuleArgs {
  const Op& op;
  const Attrs* attrs;
  std::span<const Tensor> inputs;
  const Tensor& output;                  // the only result
  std::span<const Tensor> outputs = {};  // all, of an operation with `run_all`
  Wanted wanted = {};                    // for `pull`, which may leave the others out
};

/// d(output)/d(input i) of an elementwise operation: a constant, a value made for it, or one of the
/// application's own values, which the application keeps alive.
struct Partial {
  enum Kind : std::uint8_t { zero, one, minus_one, value } kind = value;
  Tensor made = {};
  const Tensor* own = nullptr;

  const Tensor& tensor() const noexcept { return own ? *own : made; }
};

/// Inputs of a batching rule: mapped inputs carry the batch as axis 0.
struct BatchArgs {
  const Op& op;
  const Attrs* attrs;
  std::span<const Tensor> inputs;
  std::span<const bool> mapped;
  std::int64_t size;
  std::uint32_t serial;  // of the level that batches
};

/// Sampling for generated tests: inputs are drawn from [low, high].
struct Domain {
  double low = -2;
  double high = 2;
};

/// What the kernel needs of the inputs' dtypes.
enum class DTypeRule : std::uint8_t {
  same,      // inputs are promoted to one dtype, the result has it
  floating,  // as same, integers and bools are taken to float64 first
  compare,   // inputs are promoted to one dtype, the result is bool
  boolean,   // inputs are bool
  where,     // input 0 is bool, the others are promoted
  numeric,   // as same, bool refused
  custom,    // the infer function decides
};

inline constexpr std::uint8_t kSavesOutput = 0x80;

struct Op {
  const char* name;
  // Where a function of the same name enters the operation, its record says both (function.h).
  const char* signature = "";  // "(x1, x2, /)"
  const char* doc = "";
  OpKind kind;
  std::uint8_t arity;  // 0xff: any number
  DTypeRule dtypes = DTypeRule::same;
  const AttrsType* attrs = nullptr;  // what every application carries; null: nothing

  // Derivatives: exactly one of `partial`, `transpose`, `vjp` and `pull`, or none (the results are
  // constant).
  Partial (*partial)(const RuleArgs&, int input) = nullptr;
  Tensor (*transpose)(const RuleArgs&, int input, const Tensor& cotangent) = nullptr;
  Tensor (*vjp)(const RuleArgs&, int input, const Tensor& cotangent) = nullptr;
  /// For `vjp` ops; `tangents[i]` is undefined where zero.
  Tensor (*jvp)(const RuleArgs&, std::span<const Tensor> tangents) = nullptr;
  /// The general rule, of all results and inputs together: from a cotangent per result, undefined
  /// where none came, to one per input, undefined where zero.
  std::vector<Tensor> (*pull)(const RuleArgs&, std::span<const Tensor> cotangents) = nullptr;
  /// For `pull` ops: from a tangent per input to one per result, undefined where zero. It may close
  /// over duals of the level it serves; their primals count. Null where the operation is linear in
  /// its inputs jointly: then it is the operation itself, on tangents.
  std::vector<Tensor> (*push)(const RuleArgs&, std::span<const Tensor> tangents) = nullptr;
  /// Adds the cotangent of input 0 into `sum`, which is given up: for reads of a few elements out
  /// of many, whose cotangents would otherwise be full-sized zeros.
  Tensor (*accumulate)(const RuleArgs&, Tensor sum, const Tensor& cotangent) = nullptr;
  /// needs[i]: which values the rule of input i reads (bit j: input j, bit 6 also all inputs after
  /// that; kSavesOutput). For more inputs than entries the last entry holds.
  std::uint8_t needs[3] = {0, 0, 0};
  std::uint8_t constant_inputs = 0;  // bit i: input i has no derivative (indices, conditions)
  bool multilinear = false;          // linear in each input alone, not jointly

  Tensor (*batch)(const BatchArgs&) = nullptr;  // elementwise ops need none

  // For every kind but elementwise.
  ResultList (*infer)(const Op& op, std::span<Node* const> inputs, const Attrs* attrs) = nullptr;
  /// Fills `out`, a node of the inferred shape. View ops share storage; others allocate.
  /// `donated`: bit i: the storage of input i may be taken over.
  void (*run)(const Op& op, Node* out, std::span<Node* const> inputs, const Attrs* attrs,
              std::uint32_t donated) = nullptr;

  // In place of `run` and `batch` where an application may have several results, or none: it is
  // applied by `apply_all`, and has a `pull` rule or none.
  void (*run_all)(const Op& op, std::span<Node* const> outputs, std::span<Node* const> inputs,
                  const Attrs* attrs, std::uint32_t donated) = nullptr;
  std::vector<Tensor> (*batch_all)(const BatchArgs&) = nullptr;
  /// Which results depend on these inputs, where not all do on each. Under a batch the others have
  /// no axis for it.
  std::vector<bool> (*depends)(const Attrs* attrs, const std::vector<bool>& inputs) = nullptr;

  /// Elementwise: what is done with integers that no dtype of integers holds together, instead of
  /// their conversion to a floating one.
  Tensor (*of_wide_integers)(const Op&, const Tensor& a, const Tensor& b) = nullptr;

  const char* serves = nullptr;  // of an internal operation: the function that users know it by
  const char* kernel = nullptr;  // tile or reduction kernel, `name` when null
  bool casts = false;            // elementwise: converts to CastAttrs::dtype
  bool reduces = false;          // the kernel is a reduction that may join a fused group
  bool fuses = false;            // view: broadcast or reshape, may be a name inside a group
  bool method = false;           // also a method of Tensor
  bool internal = false;         // not part of the public namespace
  bool fallible = false;         // may fail on values: runs now, never deferred
  bool fixed_value = false;      // depends on the attributes alone; inputs matter to derivatives
  bool transparent = false;      // the value is that of input 0; matters to derivatives
  bool draws = false;            // random numbers: each member of a batch gets its own
  bool no_reverse = false;       // no cotangent passes, tangents do
  /// No tangent passes of the levels that KeptAttrs name; cotangents do.
  bool no_forward = false;
  bool by_hand = false;    // the rule comes from the user, and its work has lines of its own
  bool part = false;       // one of the results of the application that is its input
  bool zero_wins = false;  // 0 where an input is 0, even if the other is not finite
  Domain domain = {};

  // Identities that hold bit for bit, for the compiler.
  bool involution = false;  // f(f(x)) = x
  double unit = 1;
  std::uint8_t unit_inputs = 0;  // bit i: with `unit` as input i, the result is the other input

  // Filled in at registration.
  std::uint16_t index = 0;
  const kernels::TileKernel* tiles[kDTypeCount] = {};
  const kernels::ReduceKernel* reducers[kDTypeCount] = {};

  bool differentiable() const noexcept { return partial || transpose || vjp || pull || part; }
  /// What errors call it.
  const char* known_as() const noexcept { return serves ? serves : name; }
  bool is_constant_in(std::size_t i) const noexcept { return i < 8 && constant_inputs >> i & 1; }
  std::uint8_t needs_of(std::uint32_t i) const noexcept { return needs[i < 3 ? i : 2]; }
};

/// All records, in registration order. The table is built once, on first use.
std::span<const Op* const> all_ops();
/// The record of this name; raises when there is none.
const Op& find_op(std::string_view name);
const Op* find_op_or_null(std::string_view name) noexcept;
/// Adds a record. Built-in families are added by `register_builtin_ops`.
void register_op(Op& op);
/// Adds a record of a program, which may do so while statics are initialised, maybe before those of
/// the library: it then waits for the first use of the table, and ends the program if it is
/// refused.
void register_later(Op& op);
/// Defined in ops/: the explicit list of families (a static library drops self-registering files).
void register_builtin_ops();
/// The same for the records that transforms are made of; defined there.
void register_transform_ops();

}  // namespace adjoint
