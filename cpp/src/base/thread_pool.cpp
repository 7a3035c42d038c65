// The pool behind parallel_for. Everything a worker may touch lives in one object that is never
// destroyed, and a job is claimed chunk by chunk from one atomic word that carries the job's
// generation: a late worker either claims a chunk, which keeps the job alive until it is done, or
// fails to and has touched nothing of it. There is no lock, hence none to be held across a fork.
#include "base/thread_pool.h"

#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "adjoint/error.h"
#include "base/fork.h"

namespace adjoint {
namespace {

constexpr int kMaxThreads = 1024;
// About one microsecond: longer spinning costs a whole time slice when the core is contended.
constexpr int kSpins = 40;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  /// False when the workers serve another job.
  bool try_acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void run(std::int64_t n, std::int64_t grain, const ChunkBody& body, int threads);
  void reset_in_child();

 private:
  // Unclaimed units of the current job in the low half, its generation in the high half.
  using Word = std::uint64_t;
  static constexpr Word kUnitMask = 0xffffffffu;

  bool claim(int index, std::int64_t* unit);
  void run_unit(std::int64_t unit);
  void fail();
  void finish(std::uint32_t units);
  void start_workers(int wanted);
  void wake_workers(int helpers);
  void work(int index);
  void await_claimed();

  // Written by the owner of `busy_` before the word is published, read after a claim.
  const ChunkBody* body_ = nullptr;
  std::int64_t n_ = 0;
  std::int64_t span_ = 0;  // indices per unit: a multiple of the grain
  std::int64_t grain_ = 0;
  std::int64_t units_ = 0;
  std::exception_ptr error_;  // written by whoever sets failed_
  int started_ = 0;
  bool registered_ = false;

  alignas(64) std::atomic<Word> word_{0};
  alignas(64) std::atomic<std::uint32_t> pending_{0};  // units not yet finished
  alignas(64) std::atomic<std::uint32_t> wake_{0};     // bumped per job; idle workers sleep on it
  alignas(64) std::atomic<bool> busy_{false};
  std::atomic<bool> failed_{false};
  std::atomic<int> helpers_{0};         // workers with a lower index take part
  std::atomic<std::uint32_t> life_{0};  // changes in the child of a fork
};

Pool& pool() {
  static Pool* const instance = new Pool;  // outlives static destruction: workers are detached
  return *instance;
}

/// For the worker of this index, -1 for the owner of the job. The number of helpers is read between
/// two looks at the word, so it is that of the job whose unit is claimed: a worker that is late by
/// a job is none of the next one's too many.
bool Pool::claim(int index, std::int64_t* unit) {
  Word w = word_.load(std::memory_order_acquire);
  while ((w & kUnitMask) != 0) {
    if (index >= helpers_.load(std::memory_order_relaxed)) return false;
    if (word_.compare_exchange_weak(w, w - 1, std::memory_order_acq_rel,
                                    std::memory_order_acquire)) {
      *unit = units_ - static_cast<std::int64_t>(w & kUnitMask);
      return true;
    }
  }
  return false;
}

void Pool::run_unit(std::int64_t unit) {
  const std::int64_t stop = n_ - unit * span_ < span_ ? n_ : (unit + 1) * span_;
  for (std::int64_t begin = unit * span_; begin < stop; begin += grain_)
    (*body_)(begin, stop - begin < grain_ ? stop : begin + grain_);
}

// Keeps the first exception and drops what nobody has claimed.
void Pool::fail() {
  if (!failed_.exchange(true, std::memory_order_acq_rel)) error_ = std::current_exception();
  const Word before = word_.fetch_and(~kUnitMask, std::memory_order_acq_rel);
  finish(static_cast<std::uint32_t>(before & kUnitMask));
}

void Pool::finish(std::uint32_t units) {
  if (units != 0 && pending_.fetch_sub(units, std::memory_order_acq_rel) == units)
    pending_.notify_one();
}

void Pool::work(int index) {
  for (;;) {
    const std::uint32_t seen = wake_.load(std::memory_order_acquire);
    std::int64_t unit = 0;
    while (claim(index, &unit)) {
      try {
        run_unit(unit);
      } catch (...) {
        fail();
      }
      finish(1);
    }
    for (int i = 0; i < kSpins && wake_.load(std::memory_order_relaxed) == seen; ++i) relax();
    wake_.wait(seen, std::memory_order_acquire);
  }
}

// Failing to start a thread is no error: the caller drains whatever the others leave.
void Pool::start_workers(int wanted) {
  if (!registered_) {
    register_fork_handlers(ForkLevel::pool, {.child = [] { pool().reset_in_child(); }});
    registered_ = true;
  }
  // Signals belong to the threads of the host program, which expects to be interrupted there.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (; started_ < wanted; ++started_)
      std::thread([this, index = started_] { work(index); }).detach();
  } catch (const std::system_error&) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Pool::wake_workers(int helpers) {
  wake_.fetch_add(1, std::memory_order_release);
  // A single wake-up may pick a worker beyond `helpers`, so it is used only when there is none.
  if (helpers == 1 && started_ == 1)
    wake_.notify_one();
  else
    wake_.notify_all();
}

void Pool::await_claimed() {
  for (int i = 0; i < kSpins && pending_.load(std::memory_order_acquire) != 0; ++i) relax();
  for (std::uint32_t left; (left = pending_.load(std::memory_order_acquire)) != 0;)
    pending_.wait(left, std::memory_order_acquire);
}

void Pool::run(std::int64_t n, std::int64_t grain, const ChunkBody& body, int threads) {
  const std::uint32_t life = life_.load(std::memory_order_relaxed);
  const std::int64_t chunks = (n - 1) / grain + 1;
  const std::int64_t per_unit = chunks / std::numeric_limits<std::int32_t>::max() + 1;
  body_ = &body;
  n_ = n;
  grain_ = grain;
  span_ = grain > n / per_unit ? n : grain * per_unit;
  units_ = (n - 1) / span_ + 1;
  failed_.store(false, std::memory_order_relaxed);
  const int helpers = static_cast<int>(std::min<std::int64_t>(threads - 1, units_ - 1));
  if (started_ < helpers) start_workers(helpers);
  helpers_.store(helpers, std::memory_order_relaxed);
  pending_.store(static_cast<std::uint32_t>(units_), std::memory_order_relaxed);
  const Word generation = (word_.load(std::memory_order_relaxed) >> 32) + 1;
  word_.store(generation << 32 | static_cast<Word>(units_), std::memory_order_release);
  wake_workers(helpers);

  std::uint32_t mine = 0;
  for (std::int64_t unit; claim(-1, &unit);) {
    ++mine;
    try {
      run_unit(unit);
    } catch (...) {
      fail();
    }
  }
  if (life_.load(std::memory_order_relaxed) != life)
    raise(ErrorKind::runtime, "parallel_for",
          "the process was forked inside a chunk, and this child has lost the threads that ran "
          "the others; call exec or exit there");
  finish(mine);
  await_claimed();
  std::exception_ptr error = std::move(error_);
  error_ = nullptr;
  busy_.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(std::move(error));
}

// No worker exists in the child, and the thread that owned the current job need not either.
void Pool::reset_in_child() {
  started_ = 0;
  word_.store(((word_.load() >> 32) + 1) << 32);
  pending_.store(0);
  failed_.store(false);
  // An exception of the lost job is abandoned: freeing it here could need a lock.
  new (&error_) std::exception_ptr();
  life_.fetch_add(1);
  busy_.store(false);
}

int count_processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

int initial_threads() {
  const char* text = std::getenv("ADJOINT_NUM_THREADS");
  if (!text || !*text) return std::min(count_processors(), kMaxThreads);
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(text, &end, 10);
  if (*end != '\0' || errno != 0 || n < 1 || n > kMaxThreads)
    raise(ErrorKind::value, "num_threads",
          "ADJOINT_NUM_THREADS is \"" + std::string(text) +
              "\"; set it to a whole number from 1 to " + std::to_string(kMaxThreads) +
              " or leave it unset");
  return static_cast<int>(n);
}

std::atomic<int> thread_count{0};  // 0 until first asked for

}  // namespace

int num_threads() {
  int n = thread_count.load(std::memory_order_relaxed);
  if (n != 0) return n;
  // Whoever comes first decides; a set_num_threads that slips in between wins.
  const int initial = initial_threads();
  return thread_count.compare_exchange_strong(n, initial) ? initial : n;
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads)
    raise(ErrorKind::value, "set_num_threads",
          "expected a number from 1 to " + std::to_string(kMaxThreads) + ", got " +
              std::to_string(n));
  thread_count.store(n, std::memory_order_relaxed);
}

void parallel_for(std::int64_t n, std::int64_t grain, ChunkBody body) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  if (grain < n) {
    const int threads = num_threads();
    if (threads > 1 && pool().try_acquire()) return pool().run(n, grain, body, threads);
  }
  for (std::int64_t begin = 0; begin < n;) {
    const std::int64_t end = n - begin <= grain ? n : begin + grain;
    body(begin, end);
    begin = end;
  }
}

}  // namespace adjoint
