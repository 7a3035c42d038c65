// The BLAS and LAPACK in use: which shared library, how its symbols are spelled and how wide its
// integers are. Linear algebra finds its LAPACK routines here too.
#pragma once

#include <string>

namespace adjoint::kernels {

struct SharedLibrary {
  std::string path;
  std::string prefix;
  std::string suffix;
  void* handle;
  bool ilp64;  // integers of 64 bits, else of 32

  /// Address of a routine by its plain name ("cblas_sdot", "dgesdd_"), or null.
  void* symbol(const char* name) const;
};

struct BlasLibrary : SharedLibrary {
  void* sgemm;
  void* dgemm;
  void* sgemv;
  void* dgemv;
};

/// The library that serves; null when the built-in loops do. The first call opens it.
const BlasLibrary* blas_library();

/// The library with the routines of LAPACK: the BLAS that serves if it has them, else the first of
/// the candidates and the system's libraries that does; null when none is found. The first call
/// opens it.
const SharedLibrary* lapack_library();

}  // namespace adjoint::kernels
