// The entry point of the C++ tests; it is alone in its file because doctest's implementation takes
// longer to compile than most of the tests.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
