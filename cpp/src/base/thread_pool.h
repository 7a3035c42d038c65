// Worker threads for large kernels. None exists before the first large job; the caller always
// takes part and drains the chunks nobody has claimed, so a busy machine costs nothing; after a
// fork the child starts over with none.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace adjoint {

/// Threads used for one large job, the caller included. At least 1. Reads ADJOINT_NUM_THREADS at
/// first use (an Error of kind value if it is no number from 1 to 1024), else the number of
/// processors this process may run on.
int num_threads();
/// Takes effect at the next job.
void set_num_threads(int n);

/// A reference to something callable as body(begin, end): two words, no allocation. What it
/// refers to must outlive the call it is passed to.
class ChunkBody {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, ChunkBody>)
  ChunkBody(F&& f) noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}

  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// Calls body(begin, end) over [0, n) cut into chunks of `grain` (the last may be shorter),
/// possibly on several threads, and returns when all are done. Chunk boundaries do not depend on
/// the number of threads. When a chunk throws, chunks not yet begun are dropped, and the first
/// exception is rethrown here after those begun have ended. The pool serves one job at a time: a
/// nested call, or one made while another thread's job has the workers, runs in its caller.
void parallel_for(std::int64_t n, std::int64_t grain, ChunkBody body);

}  // namespace adjoint
