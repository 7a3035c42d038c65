// Which arguments of a compiled function are static and which are donated: what cannot be meant is
// refused when the function is made where its signature tells, else when it is called.
#include <algorithm>
#include <optional>
#include <string>

#include "compile.h"

namespace adjoint::python {

namespace {

[[noreturn]] void refuse(const std::string& message) {
  raise(ErrorKind::value, "compile", message);
}

std::string counted(std::int64_t n, const char* what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

// The arguments that a function can be given by position; nothing where that is not known.
std::optional<std::int64_t> positional_count(const py::object& f) {
  try {
    const py::module_ inspect = py::module_::import("inspect");
    const py::object parameter = inspect.attr("Parameter");
    const py::object one = parameter.attr("POSITIONAL_ONLY");
    const py::object other = parameter.attr("POSITIONAL_OR_KEYWORD");
    const py::object any = parameter.attr("VAR_POSITIONAL");
    const py::object signature =
        inspect.attr("signature")(f, py::arg("follow_wrapped") = py::bool_(false));
    std::int64_t count = 0;
    for (const py::handle p : signature.attr("parameters").attr("values")()) {
      const py::object kind = p.attr("kind");
      if (kind.is(any)) return std::nullopt;
      count += kind.is(one) || kind.is(other);
    }
    return count;
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_Exception)) throw;
    return std::nullopt;
  }
}

// The numbers counted from the front; raises for one beyond the `count` arguments there are.
Dims resolved(const Dims& given, std::int64_t count, const char* name, const std::string& there) {
  Dims out;
  for (const std::int64_t n : given) {
    if (n < -count || n >= count)
      refuse(std::string(name) + " names argument " + std::to_string(n) + ", but " + there);
    out.push_back(n < 0 ? n + count : n);
  }
  return out;
}

void refuse_repeated(const Dims& numbers, const char* name) {
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (std::find(numbers.begin(), numbers.begin() + i, numbers[i]) != numbers.begin() + i)
      refuse(std::string(name) + " names argument " + std::to_string(numbers[i]) + " twice");
}

void refuse_conflicts(const Dims& fixed, const Dims& donated) {
  refuse_repeated(fixed, "static_argnums");
  refuse_repeated(donated, "donate_argnums");
  for (const std::int64_t n : donated)
    if (std::find(fixed.begin(), fixed.end(), n) != fixed.end())
      refuse(
          "argument " + std::to_string(n) +
          " is in static_argnums and in donate_argnums: a static argument has no memory to give");
}

}  // namespace

void read_argnums(CompiledFunction& c, const py::object& f, const py::object& static_argnums,
                  const py::object& donate_argnums) {
  c.static_argnums = dims_argument(static_argnums.ptr(), "compile", "static_argnums");
  c.donate_argnums = dims_argument(donate_argnums.ptr(), "compile", "donate_argnums");
  for (const std::int64_t n : c.donate_argnums)
    if (n < 0) refuse("donate_argnums counts positional arguments from 0");
  refuse_conflicts(c.static_argnums, c.donate_argnums);
  if (c.static_argnums.empty() && c.donate_argnums.empty()) return;
  const std::optional<std::int64_t> count = positional_count(f);
  c.any_count = !count;
  if (!count) return;
  const std::string there = "the function takes " + counted(*count, "positional argument");
  c.static_argnums = resolved(c.static_argnums, *count, "static_argnums", there);
  c.donate_argnums = resolved(c.donate_argnums, *count, "donate_argnums", there);
  refuse_conflicts(c.static_argnums, c.donate_argnums);
}

void check_argnums(CompiledFunction& c, std::size_t nargs) {
  if (!c.any_count || c.checked == nargs) return;
  const auto count = static_cast<std::int64_t>(nargs);
  const std::string there = "the call gives " + counted(count, "positional argument");
  refuse_conflicts(resolved(c.static_argnums, count, "static_argnums", there),
                   resolved(c.donate_argnums, count, "donate_argnums", there));
  c.checked = nargs;
}

}  // namespace adjoint::python
