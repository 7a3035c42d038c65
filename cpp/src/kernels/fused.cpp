// Building a fused program, and the path of a small space: there what counts is the cost of an
// instruction, not of an element.
#include "kernels/fused.h"

#include <cstring>
#include <mutex>
#include <unordered_map>

#include "adjoint/error.h"
#include "base/intrusive_ptr.h"
#include "base/small_vector.h"
#include "kernels/fused_copy.h"
#include "kernels/fused_plan.h"
#include "tensor/storage.h"

namespace adjoint::kernels {

namespace {

inline void copy_element(void* dst, const void* src, std::size_t size) {
  switch (size) {
    case 8: std::memcpy(dst, src, 8); break;
    case 4: std::memcpy(dst, src, 4); break;
    case 2: std::memcpy(dst, src, 2); break;
    default: std::memcpy(dst, src, 1);
  }
}

/// The slots of a small space: on the stack, where they take at most 16 KiB.
class File {
 public:
  explicit File(std::size_t count) {
    if (count > kStack) heap_ = Storage::allocate(count * sizeof(std::uint64_t), "fused");
  }
  std::uint64_t* slots() { return heap_ ? static_cast<std::uint64_t*>(heap_->data()) : stack_; }

 private:
  static constexpr std::size_t kStack = 2048;
  alignas(64) std::uint64_t stack_[kStack];
  IntrusivePtr<Storage> heap_;
};

// What is calculated in one file of slots: rows of up to so many elements, and so many rows.
constexpr std::int64_t kSmallRow = 64;
constexpr std::int64_t kSmallRows = 4;

constexpr std::size_t kMaxShared = 1024;  // programs whose plans are remembered

/// The plans of a program that was met before, or new ones. Deferred work builds the same program
/// step after step, for every parameter of a network. Nobody waits here: who finds the table in use
/// (for ever, in a child forked at that moment) makes plans of its own.
std::shared_ptr<fused::Plans> shared_plans(std::string signature) {
  static std::mutex mutex;
  static auto* const table = new std::unordered_map<std::string, std::shared_ptr<fused::Plans>>;
  const std::unique_lock lock(mutex, std::try_to_lock);
  if (!lock) return std::make_shared<fused::Plans>();
  if (const auto it = table->find(signature); it != table->end()) return it->second;
  if (table->size() >= kMaxShared) table->clear();
  return table->emplace(std::move(signature), std::make_shared<fused::Plans>()).first->second;
}

}  // namespace

void FusedProgram::check_value(Value value) const {
  if (value >= values_.size()) raise(ErrorKind::runtime, "fused", "operand is not a value");
}

void FusedProgram::check_open(std::span<const Value> operands) const {
  if (plans_) raise(ErrorKind::runtime, "fused", "the program is finalized and cannot grow");
  for (Value v : operands) {
    check_value(v);
    if (values_[v].cls == ValueClass::col && values_[v].input < 0)
      raise(ErrorKind::runtime, "fused", "the result of a column reduction cannot be read");
  }
}

FusedProgram::Value FusedProgram::add_value(DType dtype, ValueClass cls, std::uint32_t level) {
  ValueInfo info;
  info.dtype = dtype;
  info.cls = cls;
  info.level = level;
  values_.push_back(info);
  if (level + 1 > levels_) levels_ = level + 1;
  if (cls == ValueClass::row || cls == ValueClass::col) flat_ = false;
  return static_cast<Value>(values_.size() - 1);
}

FusedProgram::Value FusedProgram::add_input(DType dtype, ValueClass cls) {
  check_open({});
  const Value v = add_value(dtype, cls, 0);
  values_[v].input = static_cast<std::int32_t>(inputs_.size());
  inputs_.push_back(v);
  return v;
}

FusedProgram::Value FusedProgram::add_tile(const TileKernel* kernel, std::span<const Value> srcs,
                                           bool full) {
  check_open(srcs);
  if (srcs.size() != kernel->arity)
    raise(ErrorKind::runtime, kernel->name, "number of operands is not the kernel's arity");
  Instr instr{kernel, nullptr, 0, {0, 0, 0}};
  bool any_row = false, all_row = true;
  std::uint32_t level = 0;
  for (std::size_t i = 0; i < srcs.size(); ++i) {
    instr.src[i] = srcs[i];
    const ValueInfo& src = values_[srcs[i]];
    any_row |= src.cls == ValueClass::row;
    all_row &= src.cls == ValueClass::row || src.cls == ValueClass::scalar;
    if (src.level > level) level = src.level;
  }
  instr.dst = add_value(kernel->out,
                        any_row && all_row && !full ? ValueClass::row : ValueClass::full, level);
  instrs_.push_back(instr);
  return instr.dst;
}

FusedProgram::Value FusedProgram::add_reduce(const ReduceKernel* kernel, Value src) {
  check_open({&src, 1});
  const Value dst = add_value(kernel->dtype, ValueClass::row, values_[src].level + 1);
  instrs_.push_back({nullptr, kernel, dst, {src, 0, 0}});
  reduces_ = true;
  return dst;
}

FusedProgram::Value FusedProgram::add_column_reduce(const ReduceKernel* kernel, Value src) {
  check_open({&src, 1});
  const Value dst = add_value(kernel->dtype, ValueClass::col, values_[src].level);
  instrs_.push_back({nullptr, kernel, dst, {src, 0, 0}});
  reduces_columns_ = true;
  return dst;
}

void FusedProgram::add_output(Value value) {
  check_open({});
  check_value(value);
  if (values_[value].output < 0) values_[value].output = static_cast<std::int32_t>(outputs_.size());
  outputs_.push_back(value);
}

/// All that a plan depends on, as bytes.
std::string FusedProgram::signature() const {
  std::string text;
  const auto put = [&text](const auto& item) {
    text.append(reinterpret_cast<const char*>(&item), sizeof item);
  };
  text.reserve(values_.size() * 16 + instrs_.size() * 32 + outputs_.size() * sizeof(Value));
  for (const ValueInfo& v : values_) {
    put(v.dtype);
    put(v.cls);
    put(v.input);
  }
  for (const Instr& i : instrs_) {
    put(i.tile);
    put(i.reduce);
    put(i.src);
  }
  for (const Value v : outputs_) put(v);
  return text;
}

void FusedProgram::finalize() {
  check_open({});
  plans_ = shared_plans(signature());
}

void FusedProgram::run(std::span<const InputBinding> inputs, std::span<void* const> outputs,
                       std::int64_t rows, std::int64_t cols) const {
  if (!plans_ || inputs.size() != inputs_.size() || outputs.size() != outputs_.size())
    raise(ErrorKind::runtime, "fused", "run needs a finalized program and all of its bindings");
  if (rows == 1 && cols == 1 && forced_tile_ == 0) {
    SmallVector<const void*, 16> data;
    for (const InputBinding& b : inputs) data.push_back(b.data);
    run_element(data, outputs);
    return;
  }
  if (rows == 0) return;
  if (is_small(rows, cols)) {
    run_small(inputs, outputs, rows, cols);
    return;
  }
  fused::run_tiles(*this, *plans_,
                   {inputs, outputs, rows, cols, forced_tile_, levels_, reduces_, flat_});
}

void FusedProgram::run_element(std::span<const void* const> inputs,
                               std::span<void* const> outputs) const {
  const fused::SmallPlan& plan = plans_->small(*this, fused::PlanKind::element);
  File held(plan.slots);
  std::uint64_t* const file = held.slots();
  for (std::size_t i = 0; i < inputs.size(); ++i)
    copy_element(file + plan.inputs[i].slot, inputs[i], plan.inputs[i].size);
  for (const fused::SmallStep& step : plan.steps) {
    const void* in[kMaxOperands];
    for (std::uint32_t s = 0; s < step.arity; ++s) in[s] = file + step.src[s];
    if (step.fn) [[likely]]
      step.fn(in, file + step.dst, 1);
    else
      step.reduce->block(in[0], 1, file + step.dst);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i)
    copy_element(outputs[i], file + plan.outputs[i].slot, plan.outputs[i].size);
}

bool FusedProgram::is_small(std::int64_t rows, std::int64_t cols) const {
  if (forced_tile_ != 0 || reduces_columns_ || cols == 0) return false;
  return flat_ ? rows * cols <= kSmallRow : rows <= kSmallRows && cols <= kSmallRow;
}

/// The elements of one row, or of the whole space where it is one long row, and what has one
/// element for the row repeated along it: then every step is a call of its kernel.
void FusedProgram::run_small(std::span<const InputBinding> inputs, std::span<void* const> outputs,
                             std::int64_t rows, std::int64_t cols) const {
  const fused::SmallPlan& plan = plans_->small(*this, fused::PlanKind::small);
  const std::int64_t n = flat_ ? rows * cols : cols;
  File held(plan.slots * static_cast<std::size_t>(n));
  std::uint64_t* const file = held.slots();
  const auto at = [&](std::uint32_t slot) { return file + slot * n; };
  const auto load = [&](std::size_t i, std::int64_t row) {
    const InputBinding& b = inputs[i];
    const std::size_t size = plan.inputs[i].size;
    const auto* data = static_cast<const char*>(b.data);
    char* const to = reinterpret_cast<char*>(at(plan.inputs[i].slot));
    const ValueClass cls = values_[inputs_[i]].cls;
    if (cls == ValueClass::scalar) {
      fused::fill(to, data, n, size);
    } else if (b.ndim > 0 && cls == ValueClass::row) {
      fused::gather({data, b.ndim, b.shape, b.strides, size}, row, 1, to);
      fused::fill(to, to, n, size);
    } else if (b.ndim > 0) {
      fused::gather({data, b.ndim, b.shape, b.strides, size}, row * cols, n, to);
    } else if (cls == ValueClass::row) {
      fused::fill(to, data + row * b.row_stride, n, size);
    } else if (flat_ && rows > 1) {
      for (std::int64_t r = 0; r < rows; ++r)
        fused::copy_strided(data + r * b.row_stride, b.col_stride,
                            to + r * cols * static_cast<std::int64_t>(size),
                            static_cast<std::int64_t>(size), cols, size);
    } else {
      fused::copy_strided(data + row * b.row_stride, b.col_stride, to,
                          static_cast<std::int64_t>(size), n, size);
    }
  };
  for (std::int64_t row = 0; row < (flat_ ? 1 : rows); ++row) {
    for (std::size_t i = 0; i < inputs.size(); ++i) load(i, row);
    for (const fused::SmallStep& step : plan.steps) {
      const void* in[kMaxOperands];
      for (std::uint32_t s = 0; s < step.arity; ++s) in[s] = at(step.src[s]);
      if (step.fn) [[likely]] {
        step.fn(in, at(step.dst), n);
      } else {
        step.reduce->block(in[0], n, at(step.dst));
        fused::fill(at(step.dst), at(step.dst), n, itemsize(step.reduce->dtype));
      }
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto [slot, size] = plan.outputs[i];
      const bool one = values_[outputs_[i]].cls == ValueClass::row;
      const std::size_t bytes = one ? size : size * static_cast<std::size_t>(n);
      std::memcpy(static_cast<char*>(outputs[i]) + static_cast<std::size_t>(row) * bytes, at(slot),
                  bytes);
    }
  }
}

}  // namespace adjoint::kernels
