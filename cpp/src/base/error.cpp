// Out of line so that the throwing path costs its callers one call instruction.
#include "adjoint/error.h"

namespace adjoint {

void raise(ErrorKind kind, std::string_view op, std::string_view message) {
  std::string text;
  text.reserve(op.size() + message.size() + 3);
  text.append("[").append(op).append("] ").append(message);
  throw Error(kind, text);
}

}  // namespace adjoint
