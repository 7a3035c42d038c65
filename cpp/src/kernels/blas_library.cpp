// Opens a BLAS at first need, and none before: eager linking would add 25 MB and idle worker
// threads to every process. Its own threads are turned off; products are divided by our pool,
// which does not collapse on a busy machine and gives the same bits for any number of threads.
#include "kernels/blas_library.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "adjoint/error.h"
#include "base/fork.h"
#include "kernels/blas.h"

namespace adjoint::kernels {
namespace {

struct Candidate {
  std::string path;
  std::string prefix;
  std::string suffix;
  bool ilp64;
};

/// Never destroyed: products may still run while the process exits.
struct Loader {
  std::mutex mutex;  // guards the candidates, and opening
  std::vector<Candidate> candidates;
};

std::atomic<bool> decided{false};
std::atomic<const BlasLibrary*> current{nullptr};  // as decided
std::atomic<bool> lapack_decided{false};
std::atomic<const SharedLibrary*> current_lapack{nullptr};

Loader& loader() {
  static Loader* const instance = [] {
    auto* const made = new Loader;
    register_fork_handlers(ForkLevel::kernels, {.prepare = [] { loader().mutex.lock(); },
                                                .parent = [] { loader().mutex.unlock(); },
                                                .child = [] { loader().mutex.unlock(); }});
    return made;
  }();
  return *instance;
}

// Asks the library itself: a count whose low half is 1 and whose whole is negative is one element
// to a 32-bit dot product and none to a 64-bit one.
bool has_wide_integers(void* sdot, bool expected) {
  if (!sdot) return expected;
  const auto call = reinterpret_cast<float (*)(std::int64_t, const float*, std::int64_t,
                                               const float*, std::int64_t)>(sdot);
  const float one = 1;
  return call(static_cast<std::int64_t>(0xffffffff00000001u), &one, 1, &one, 1) == 0;
}

// The same of a LAPACK: what a 32-bit routine writes leaves the high half of a number as it was.
bool has_wide_lapack(const SharedLibrary& library) {
  void* const ilaver = library.symbol("ilaver_");
  if (!ilaver) return library.ilp64;
  std::int64_t version[3] = {-1, -1, -1};
  reinterpret_cast<void (*)(std::int64_t*, std::int64_t*, std::int64_t*)>(ilaver)(
      &version[0], &version[1], &version[2]);
  return version[0] >= 0;
}

void use_one_thread(const SharedLibrary& library) {
  const auto set = [](void* f) {
    // A 64-bit argument also serves a callee that reads its low 32 bits.
    if (f) reinterpret_cast<void (*)(std::int64_t)>(f)(1);
  };
  set(library.symbol("openblas_set_num_threads"));
  set(library.symbol("bli_thread_set_num_threads"));
  set(library.symbol("MKL_Set_Num_Threads"));
}

template <class Library>
std::unique_ptr<Library> named(void* handle, const Candidate& from) {
  auto library = std::make_unique<Library>();
  library->path = from.path;
  library->prefix = from.prefix;
  library->suffix = from.suffix;
  library->handle = handle;
  library->ilp64 = from.ilp64;
  return library;
}

std::unique_ptr<BlasLibrary> resolve_blas(void* handle, const Candidate& from) {
  auto library = named<BlasLibrary>(handle, from);
  library->sgemm = library->symbol("cblas_sgemm");
  library->dgemm = library->symbol("cblas_dgemm");
  library->sgemv = library->symbol("cblas_sgemv");
  library->dgemv = library->symbol("cblas_dgemv");
  if (!library->sgemm || !library->dgemm || !library->sgemv || !library->dgemv) return nullptr;
  use_one_thread(*library);
  library->ilp64 = has_wide_integers(library->symbol("cblas_sdot"), from.ilp64);
  return library;
}

// Two routines stand for all: nobody leaves out a part of LAPACK.
bool has_lapack(const SharedLibrary& library) {
  return library.symbol("dpotrf_") && library.symbol("sgelsd_");
}

std::unique_ptr<SharedLibrary> resolve_lapack(void* handle, const Candidate& from) {
  auto library = named<SharedLibrary>(handle, from);
  if (!has_lapack(*library)) return nullptr;
  use_one_thread(*library);
  library->ilp64 = has_wide_lapack(*library);
  return library;
}

/// Opens a library whose symbols are spelled in one of the given ways.
template <class Resolve>
auto open(const std::vector<Candidate>& spellings, Resolve resolve)
    -> decltype(resolve(nullptr, spellings.front())) {
  void* const handle = dlopen(spellings.front().path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return nullptr;
  for (const Candidate& spelling : spellings)
    if (auto library = resolve(handle, spelling)) return library;
  dlclose(handle);
  return nullptr;
}

/// A path without a word on its symbols: tries the spellings in use.
template <class Resolve>
auto open_any_spelling(const std::string& path, Resolve resolve) {
  return open({{path, "", "", false},
               {path, "scipy_", "", false},
               {path, "scipy_", "64_", true},
               {path, "", "64_", true},
               {path, "", "_64", true}},
              resolve);
}

/// The first of the candidates, the one found when the library was built, and the system's.
template <class Resolve>
auto first_that_opens(const std::vector<Candidate>& candidates,
                      std::initializer_list<const char*> of_the_system, Resolve resolve)
    -> decltype(resolve(nullptr, candidates.front())) {
  for (const Candidate& candidate : candidates)
    if (auto library = open({candidate}, resolve)) return library;
#ifdef ADJOINT_BLAS_PATH
  if (auto library = open_any_spelling(ADJOINT_BLAS_PATH, resolve)) return library;
#endif
  for (const char* name : of_the_system)
    if (auto library = open_any_spelling(name, resolve)) return library;
  return nullptr;
}

std::unique_ptr<BlasLibrary> choose(const std::vector<Candidate>& candidates) {
  if (const char* wanted = std::getenv("ADJOINT_BLAS"); wanted && *wanted) {
    if (std::string(wanted) == "builtin") return nullptr;
    dlerror();
    auto library = open_any_spelling(wanted, resolve_blas);
    if (!library) {
      const char* const reason = dlerror();
      raise(ErrorKind::value, "matmul",
            "ADJOINT_BLAS names " + std::string(wanted) + ", which gives no CBLAS (" +
                (reason ? reason : "no cblas_sgemm in it") +
                "); set it to the path of one, to \"builtin\", or leave it unset");
    }
    return library;
  }
  return first_that_opens(
      candidates, {"libopenblas.so.0", "libblas.so.3", "libcblas.so.3", "libopenblas.dylib"},
      resolve_blas);
}

}  // namespace

void* SharedLibrary::symbol(const char* name) const {
  return dlsym(handle, (prefix + name + suffix).c_str());
}

const BlasLibrary* blas_library() {
  if (decided.load(std::memory_order_acquire)) [[likely]]
    return current.load(std::memory_order_relaxed);
  Loader& l = loader();
  const std::lock_guard<std::mutex> lock(l.mutex);
  if (!decided.load(std::memory_order_relaxed)) {
    current.store(choose(l.candidates).release(), std::memory_order_relaxed);
    decided.store(true, std::memory_order_release);
  }
  return current.load(std::memory_order_relaxed);
}

const SharedLibrary* lapack_library() {
  if (lapack_decided.load(std::memory_order_acquire)) [[likely]]
    return current_lapack.load(std::memory_order_relaxed);
  const BlasLibrary* const blas = blas_library();
  Loader& l = loader();
  const std::lock_guard<std::mutex> lock(l.mutex);
  if (!lapack_decided.load(std::memory_order_relaxed)) {
    const SharedLibrary* found = blas;
    if (!blas || !has_lapack(*blas))
      found = first_that_opens(l.candidates,
                               {"libopenblas.so.0", "liblapack.so.3", "libopenblas.dylib"},
                               resolve_lapack)
                  .release();
    current_lapack.store(found, std::memory_order_relaxed);
    lapack_decided.store(true, std::memory_order_release);
  }
  return current_lapack.load(std::memory_order_relaxed);
}

void set_blas_candidate(std::string path, std::string prefix, std::string suffix, bool ilp64) {
  Loader& l = loader();
  const std::lock_guard<std::mutex> lock(l.mutex);
  l.candidates.push_back({std::move(path), std::move(prefix), std::move(suffix), ilp64});
}

std::string blas_name() {
  const BlasLibrary* const library = blas_library();
  return library ? library->path : "built-in";
}

}  // namespace adjoint::kernels
