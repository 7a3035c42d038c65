// Out of line so that the throwing path costs its callers one call instruction.
#include "adjoint/error.h"

#include "base/error_context.h"

namespace adjoint {

void raise(ErrorKind kind, std::string_view op, std::string_view message) {
  std::string text;
  text.reserve(op.size() + message.size() + 3);
  text.append("[").append(op).append("] ").append(message);
  throw Error(kind, text);
}

void (*g_annotate_foreign)(const std::string& line) = nullptr;

void add_error_context(const std::string& line) {
  try {
    throw;
  } catch (Error& e) {
    if (e.kind() != ErrorKind::anomaly) e.add_line(line);
  } catch (...) {
    if (g_annotate_foreign) g_annotate_foreign(line);
  }
}

}  // namespace adjoint
