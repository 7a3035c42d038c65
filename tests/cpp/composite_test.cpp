// Super-kernels: each gives the bits of its pattern, worked out here one operation at a time, and
// a program that has the pattern gives them too, however its operands are laid out.
#include <doctest/doctest.h>

#include <cmath>
#include <string_view>
#include <vector>

#include "kernels/compose.h"
#include "kernels/fused.h"
#include "kernels_support.h"

using namespace adjoint;
using namespace adjoint::kernels;
using namespace kernels_support;

namespace {

template <class T>
T apply_named(std::string_view name, T a, T b) {
  if (name == "add") return a + b;
  if (name == "subtract") return a - b;
  if (name == "multiply") return a * b;
  if (name == "divide") return a / b;
  if (name == "mul0") return a == 0 || b == 0 ? T{0} : a * b;
  if (name == "square") return a * a;
  if (name == "equal") return a == b ? T{1} : T{0};
  if (name == "cast") return a;
  if (name == "sqrt") return std::sqrt(a);
  // An elementary function: what its own kernel gives for one element.
  const TileKernel* kernel = find_tile(name, dtype_of<T>());
  REQUIRE_MESSAGE(kernel != nullptr, "a function this test does not know: " << name);
  const void* const operands[] = {&a, &b};
  T out{};
  kernel->vv(operands, &out, 1);
  return out;
}

/// Evaluates the pattern at `text`, which moves on behind it.
template <class T>
T evaluate(std::string_view& text, const T* operands) {
  const std::size_t end = text.find_first_of("(,)");
  const std::string_view word = text.substr(0, end);
  const bool call = end != std::string_view::npos && text[end] == '(';
  text.remove_prefix(std::min(end, text.size()));
  if (!call) return operands[word[1] - '0'];
  T values[2] = {};
  for (int i = 0; text.front() != ')'; ++i) {
    text.remove_prefix(text.find_first_not_of("(, "));
    values[i] = evaluate(text, operands);
  }
  text.remove_prefix(1);
  return apply_named(word, values[0], values[1]);
}

bool is_single(std::string_view pattern, int operand) {
  const char name[] = {'s', static_cast<char>('0' + operand)};
  return pattern.find(std::string_view(name, 2)) != std::string_view::npos;
}

template <class T>
const std::vector<T>& samples() {
  static const std::vector<T> values{T(0),
                                     T(-0.0),
                                     T(1),
                                     T(-1.5),
                                     T(0.3),
                                     T(7.25),
                                     T(1e-20),
                                     T(-3e8),
                                     T(2.71),
                                     Limits<T>::infinity(),
                                     Limits<T>::quiet_NaN(),
                                     T(0.1)};
  return values;
}

template <class T>
T sample(int operand, std::int64_t i) {
  const auto& all = samples<T>();
  return all[static_cast<std::size_t>(i * (operand + 1) + 5 * operand) % all.size()];
}

template <class T>
void check_kernel(const CompositeKernel& kernel) {
  const std::string_view pattern = kernel.pattern;
  CAPTURE(pattern);
  for (const std::int64_t n : {1, 7, 16, 33, 144}) {
    for (std::int64_t shift = 0; shift < 12; ++shift) {
      std::vector<std::vector<T>> operands(kMaxOperands);
      const void* in[kMaxOperands];
      for (int o = 0; o < kMaxOperands; ++o) {
        const std::int64_t count = is_single(pattern, o) ? 1 : n;
        for (std::int64_t i = 0; i < count; ++i)
          operands[static_cast<std::size_t>(o)].push_back(sample<T>(o, i + shift));
        in[o] = operands[static_cast<std::size_t>(o)].data();
      }
      Odd<T> out(static_cast<std::size_t>(n));
      kernel.fn(in, out.data(), n);
      REQUIRE(out.guard_intact());
      for (std::int64_t i = 0; i < n; ++i) {
        T values[kMaxOperands];
        for (int o = 0; o < kMaxOperands; ++o)
          values[o] = sample<T>(o, (is_single(pattern, o) ? 0 : i) + shift);
        std::string_view text = pattern;
        REQUIRE(same(out[static_cast<std::size_t>(i)], evaluate(text, values)));
      }
    }
  }
}

/// How the operands of a program lie: those of one element per tile are scalars or one per row.
enum class Lay { scalars, rows };

/// The pattern as a program, one instruction per function.
FusedProgram::Value build(std::string_view& text, FusedProgram& program,
                          const std::vector<FusedProgram::Value>& inputs, DType dtype) {
  const std::size_t end = text.find_first_of("(,)");
  const std::string_view word = text.substr(0, end);
  const bool call = end != std::string_view::npos && text[end] == '(';
  text.remove_prefix(std::min(end, text.size()));
  if (!call) return inputs[static_cast<std::size_t>(word[1] - '0')];
  std::vector<FusedProgram::Value> values;
  while (text.front() != ')') {
    text.remove_prefix(text.find_first_not_of("(, "));
    values.push_back(build(text, program, inputs, dtype));
  }
  text.remove_prefix(1);
  const bool cast = word == "cast";
  return program.add_tile(cast ? find_cast(DType::boolean, dtype) : find_tile(word, dtype), values);
}

template <class T>
void check_program(const CompositeKernel& kernel, Lay lay, std::int64_t rows, std::int64_t cols) {
  const std::string_view pattern = kernel.pattern;
  CAPTURE(pattern);
  FusedProgram program;
  std::vector<FusedProgram::Value> inputs;
  std::vector<std::vector<T>> data;
  for (int o = 0; o < kMaxOperands; ++o) {
    const bool single = is_single(pattern, o);
    inputs.push_back(program.add_input(dtype_of<T>(), !single               ? ValueClass::full
                                                      : lay == Lay::scalars ? ValueClass::scalar
                                                                            : ValueClass::row));
    data.emplace_back();
    for (std::int64_t i = 0; i < (single ? rows : rows * cols); ++i)
      data.back().push_back(sample<T>(o, i));
  }
  std::string_view text = pattern;
  program.add_output(build(text, program, inputs, dtype_of<T>()));
  program.finalize();
  const auto size = static_cast<std::int64_t>(sizeof(T));
  std::vector<InputBinding> bindings;
  for (int o = 0; o < kMaxOperands; ++o) {
    const void* at = data[static_cast<std::size_t>(o)].data();
    if (!is_single(pattern, o))
      bindings.push_back({at, cols * size, size});
    else
      bindings.push_back({at, lay == Lay::rows ? size : 0, 0});
  }
  std::vector<T> out(static_cast<std::size_t>(rows * cols));
  void* outputs[] = {out.data()};
  program.run(bindings, outputs, rows, cols);
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    T values[kMaxOperands];
    for (int o = 0; o < kMaxOperands; ++o)
      values[o] = sample<T>(o, !is_single(pattern, o) ? i : lay == Lay::rows ? i / cols : 0);
    text = pattern;
    REQUIRE(same(out[static_cast<std::size_t>(i)], evaluate(text, values)));
  }
}

}  // namespace

TEST_CASE("a super-kernel has the bits of its pattern") {
  REQUIRE(!composite_kernels().empty());
  for (const CompositeKernel& kernel : composite_kernels()) {
    if (kernel.dtype == DType::float32)
      check_kernel<float>(kernel);
    else
      check_kernel<double>(kernel);
  }
}

TEST_CASE("a program with a pattern has its bits, in every layout") {
  for (const CompositeKernel& kernel : composite_kernels()) {
    for (const Lay lay : {Lay::scalars, Lay::rows}) {
      for (const std::int64_t cols : {5, 100, 3000}) {
        if (kernel.dtype == DType::float32)
          check_program<float>(kernel, lay, 7, cols);
        else
          check_program<double>(kernel, lay, 7, cols);
      }
    }
  }
}

TEST_CASE("patterns are found by the planner's tree, longest first") {
  const auto& sums = fused::composites_of(find_tile("add", DType::float32));
  REQUIRE(sums.size() >= 2);
  for (std::size_t i = 1; i < sums.size(); ++i) CHECK(sums[i - 1].tiles >= sums[i].tiles);
  CHECK(fused::composites_of(find_tile("add", DType::int32)).empty());
}
