// Opens a BLAS at first need, and none before: eager linking would add 25 MB and idle worker
// threads to every process. Its own threads are turned off; products are divided by our pool,
// which does not collapse on a busy machine and gives the same bits for any number of threads.
#include "kernels/blas_library.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
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

void use_one_thread(const BlasLibrary& library) {
  const auto set = [](void* f) {
    // A 64-bit argument also serves a callee that reads its low 32 bits.
    if (f) reinterpret_cast<void (*)(std::int64_t)>(f)(1);
  };
  set(library.symbol("openblas_set_num_threads"));
  set(library.symbol("bli_thread_set_num_threads"));
  set(library.symbol("MKL_Set_Num_Threads"));
}

std::unique_ptr<BlasLibrary> resolve(void* handle, const Candidate& from) {
  auto library = std::make_unique<BlasLibrary>();
  library->path = from.path;
  library->prefix = from.prefix;
  library->suffix = from.suffix;
  library->handle = handle;
  library->sgemm = library->symbol("cblas_sgemm");
  library->dgemm = library->symbol("cblas_dgemm");
  library->sgemv = library->symbol("cblas_sgemv");
  library->dgemv = library->symbol("cblas_dgemv");
  if (!library->sgemm || !library->dgemm || !library->sgemv || !library->dgemv) return nullptr;
  use_one_thread(*library);
  library->ilp64 = has_wide_integers(library->symbol("cblas_sdot"), from.ilp64);
  return library;
}

/// Opens a library whose symbols are spelled in one of the given ways.
std::unique_ptr<BlasLibrary> open(const std::vector<Candidate>& spellings) {
  void* const handle = dlopen(spellings.front().path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return nullptr;
  for (const Candidate& spelling : spellings)
    if (auto library = resolve(handle, spelling)) return library;
  dlclose(handle);
  return nullptr;
}

/// A path without a word on its symbols: tries the spellings in use.
std::unique_ptr<BlasLibrary> open_any_spelling(const std::string& path) {
  return open({{path, "", "", false},
               {path, "scipy_", "", false},
               {path, "scipy_", "64_", true},
               {path, "", "64_", true},
               {path, "", "_64", true}});
}

std::unique_ptr<BlasLibrary> choose(const std::vector<Candidate>& candidates) {
  if (const char* wanted = std::getenv("ADJOINT_BLAS"); wanted && *wanted) {
    if (std::string(wanted) == "builtin") return nullptr;
    dlerror();
    auto library = open_any_spelling(wanted);
    if (!library) {
      const char* const reason = dlerror();
      raise(ErrorKind::value, "matmul",
            "ADJOINT_BLAS names " + std::string(wanted) + ", which gives no CBLAS (" +
                (reason ? reason : "no cblas_sgemm in it") +
                "); set it to the path of one, to \"builtin\", or leave it unset");
    }
    return library;
  }
  for (const Candidate& candidate : candidates)
    if (auto library = open({candidate})) return library;
#ifdef ADJOINT_BLAS_PATH
  if (auto library = open_any_spelling(ADJOINT_BLAS_PATH)) return library;
#endif
  for (const char* name :
       {"libopenblas.so.0", "libblas.so.3", "libcblas.so.3", "libopenblas.dylib"})
    if (auto library = open_any_spelling(name)) return library;
  return nullptr;
}

}  // namespace

void* BlasLibrary::symbol(const char* name) const {
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
