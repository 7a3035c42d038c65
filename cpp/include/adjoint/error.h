// The one exception type of the library. Its kind decides which Python exception the bindings
// raise; its text always starts with the operation's name in brackets.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace adjoint {

/// What went wrong; each kind becomes the Python exception of the same name (`anomaly`:
/// adjoint.AnomalyError; `traced`, a value inside a transform was asked for that is not known
/// there: adjoint.TracedValueError; `zero_division`: ZeroDivisionError;
/// `linalg`, a matrix that is singular or otherwise not what an operation needs, or no convergence:
/// adjoint.linalg.LinAlgError).
enum class ErrorKind {
  type,
  value,
  index,
  overflow,
  memory,
  buffer,
  runtime,
  anomaly,
  traced,
  zero_division,
  linalg
};

/// Every error the library raises on bad input or lack of memory.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message)
      : std::runtime_error(message), kind_(kind), text_(message) {}
  ErrorKind kind() const noexcept { return kind_; }
  const char* what() const noexcept override { return text_.c_str(); }
  /// A further line of the text: where it happened, as those know who are further out.
  void add_line(std::string_view line) { text_.append("\n  ").append(line); }

 private:
  ErrorKind kind_;
  std::string text_;
};

/// Throws `Error` with the text "[op] message".
[[noreturn]] void raise(ErrorKind kind, std::string_view op, std::string_view message);

}  // namespace adjoint
