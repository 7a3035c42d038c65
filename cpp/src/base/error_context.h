// Errors keep their type on the way out and gain the places that are known there: which line of the
// user's program applied what has failed later, in a sweep, a group or a program.
#pragma once

#include <string>

#include "adjoint/error.h"

namespace adjoint {

/// Adds a line to the exception that is being handled, which is to be thrown on. An anomaly says
/// itself where it is.
void add_error_context(const std::string& line);

/// Does this for an exception of the embedding language, which is being handled.
extern void (*g_annotate_foreign)(const std::string& line);

}  // namespace adjoint
