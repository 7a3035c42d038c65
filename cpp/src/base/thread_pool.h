// Worker threads for large kernels. None exists before the first large job; the caller always
// takes part and drains the chunks nobody has claimed, so a busy machine costs nothing; after a
// fork the child starts over with none.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace adjoint {

/// Threads used for one large job, the caller included. At least 1. Reads ADJOINT_NUM_THREADS at
/// first use, else the number of processors this process may run on.
int num_threads();
void set_num_threads(int n);

/// Calls body(begin, end) over [0, n) cut into chunks of `grain` (the last may be shorter),
/// possibly on several threads, and returns when all are done. Chunk boundaries do not depend on
/// the number of threads. The first exception a chunk throws is rethrown here. A nested call, or
/// one from a worker, runs in the caller.
void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace adjoint
