// That a call raises what it should: the kind of the error, and what its text must name.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

#include "adjoint/error.h"

template <class F>
void check_error(F&& f, adjoint::ErrorKind kind, std::initializer_list<const char*> parts) {
  try {
    f();
    FAIL("no error was raised");
  } catch (const adjoint::Error& e) {
    CHECK(e.kind() == kind);
    for (const char* part : parts) {
      CAPTURE(part);
      CAPTURE(e.what());
      CHECK(std::string(e.what()).find(part) != std::string::npos);
    }
  }
}
