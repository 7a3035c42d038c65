// Processor features behind the choice of an instruction-set level.
#include "base/cpu.h"

namespace adjoint {
namespace {

#if defined(__x86_64__)

bool has_v2() {
  return __builtin_cpu_supports("sse3") && __builtin_cpu_supports("ssse3") &&
         __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") &&
         __builtin_cpu_supports("popcnt");
}

bool has_v3() {
  bool ok = __builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") &&
            __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
            __builtin_cpu_supports("bmi2");
#if !defined(__clang__) && __GNUC__ >= 11
  // Names other compilers do not know; no processor with AVX2 and BMI2 lacks these, though a
  // virtual machine may hide them.
  ok = ok && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt") &&
       __builtin_cpu_supports("movbe");
#endif
  return ok;
}

bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

#endif

}  // namespace

bool cpu_supports(IsaLevel level) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (level) {
    case IsaLevel::baseline: return has_v2();
    case IsaLevel::v3: return has_v3();
    case IsaLevel::v4: return has_v4();
    case IsaLevel::neon: return false;
  }
  return false;
#elif defined(__aarch64__)
  return level == IsaLevel::neon;  // part of the architecture
#else
  return level == IsaLevel::baseline;
#endif
}

std::string_view short_name(IsaLevel level) {
  constexpr std::string_view names[] = {"baseline", "v3", "v4", "neon"};
  return names[static_cast<int>(level)];
}

std::string_view long_name(IsaLevel level) {
  constexpr std::string_view names[] = {"baseline", "x86-64-v3", "x86-64-v4", "neon"};
  return names[static_cast<int>(level)];
}

}  // namespace adjoint
