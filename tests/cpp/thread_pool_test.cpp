// The pool: every index once, chunks fixed by n and grain alone, exceptions, nesting, several
// callers, forks.
#include "base/thread_pool.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "adjoint/error.h"

namespace {

// ThreadSanitizer does not let the child of a threaded process start threads.
#ifdef __SANITIZE_THREAD__
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

using adjoint::parallel_for;
using adjoint::set_num_threads;

/// Sets the number of threads for one test case.
struct Threads {
  explicit Threads(int n) : before(adjoint::num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

void linger() { std::this_thread::sleep_for(std::chrono::microseconds(200)); }

}  // namespace

TEST_CASE("parallel_for visits every index once in chunks fixed by n and grain") {
  for (int threads : {1, 2, 5}) {
    const Threads scope(threads);
    for (std::int64_t n : {0, 1, 7, 64, 1000}) {
      for (std::int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
        std::mutex mutex;
        std::set<std::pair<std::int64_t, std::int64_t>> chunks;
        parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
          const std::lock_guard<std::mutex> lock(mutex);
          chunks.emplace(begin, end);
        });
        CHECK(std::all_of(visits.begin(), visits.end(), [](const auto& v) { return v == 1; }));
        CHECK(static_cast<std::int64_t>(chunks.size()) == (n + grain - 1) / grain);
        for (const auto& [begin, end] : chunks) {
          CHECK(begin % grain == 0);
          CHECK(end == std::min(begin + grain, n));
        }
      }
    }
  }
}

TEST_CASE("parallel_for takes ranges beyond 32 bits") {
  const Threads scope(3);
  const std::int64_t n = std::int64_t{1} << 40;
  std::atomic<std::int64_t> total{0};
  parallel_for(n, n / 16 + 1, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
  CHECK(total == n);
  total = 0;
  parallel_for(n, INT64_MAX, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
  CHECK(total == n);
}

TEST_CASE("a job runs on more threads than the caller's") {
  const Threads scope(3);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  for (int attempt = 0; attempt < 200 && ids.size() < 2; ++attempt) {
    parallel_for(16, 1, [&](std::int64_t, std::int64_t) {
      linger();
      const std::lock_guard<std::mutex> lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  }
  CHECK(ids.size() >= 2);
}

TEST_CASE("the number of threads bounds how many chunks run at once") {
  {
    const Threads wide(4);
    parallel_for(8, 1, [](std::int64_t, std::int64_t) { linger(); });
  }
  const Threads scope(2);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  for (int i = 0; i < 20; ++i) {
    parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
      const int now = ++running;
      int seen = most;
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::yield();
      --running;
    });
  }
  CHECK(most <= 2);
}

TEST_CASE("an exception of a chunk reaches the caller after the others have ended") {
  for (int threads : {1, 4}) {
    const Threads scope(threads);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> running{0};
      CHECK_THROWS_WITH_AS(parallel_for(64, 1,
                                        [&](std::int64_t begin, std::int64_t) {
                                          ++running;
                                          if (begin % 8 == 3) {
                                            --running;
                                            throw std::out_of_range("chunk");
                                          }
                                          --running;
                                        }),
                           "chunk", std::out_of_range);
      CHECK(running == 0);
      std::atomic<int> count{0};
      parallel_for(10, 1, [&](std::int64_t, std::int64_t) { ++count; });
      CHECK(count == 10);
    }
  }
}

TEST_CASE("nested jobs and several callers at once all finish") {
  const Threads scope(3);
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> total{0};
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
          parallel_for(10, 2, [&](std::int64_t b, std::int64_t e) { total += e - b; });
        });
      }
    });
  }
  for (std::thread& t : callers) t.join();
  CHECK(total == 4 * 100 * 8 * 10);
}

TEST_CASE("the number of threads is checked") {
  const Threads scope(2);
  CHECK(adjoint::num_threads() == 2);
  for (int bad : {0, -1, 1025}) {
    try {
      set_num_threads(bad);
      FAIL("accepted " << bad);
    } catch (const adjoint::Error& e) {
      CHECK(e.kind() == adjoint::ErrorKind::value);
    }
  }
  CHECK(adjoint::num_threads() == 2);
}

TEST_CASE("a child after fork starts its own workers, and the parent keeps its own" *
          doctest::skip(kThreadSanitizer)) {
  const Threads scope(3);
  const auto job = [] {
    std::atomic<int> count{0};
    parallel_for(32, 1, [&](std::int64_t, std::int64_t) {
      linger();
      ++count;
    });
    return count == 32;
  };
  CHECK(job());
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);  // a hang ends as a failure
    _exit(job() && job() ? 0 : 1);
  }
  CHECK(job());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a fork while another thread's job runs leaves the child a working pool" *
          doctest::skip(kThreadSanitizer)) {
  const Threads scope(3);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) parallel_for(16, 1, [](std::int64_t, std::int64_t) { linger(); });
  });
  for (int round = 0; round < 5; ++round) {
    linger();
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      alarm(20);
      std::atomic<int> count{0};
      for (int i = 0; i < 3; ++i) parallel_for(16, 1, [&](std::int64_t, std::int64_t) { ++count; });
      _exit(count == 48 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  stop = true;
  busy.join();
}

TEST_CASE("thread pool child: bad ADJOINT_NUM_THREADS" * doctest::skip()) {
  for (const char* bad : {"0", "many", "2x", "-1", "99999999999999999999"}) {
    setenv("ADJOINT_NUM_THREADS", bad, 1);
    try {
      adjoint::num_threads();
      FAIL("accepted " << bad);
    } catch (const adjoint::Error& e) {
      CHECK(e.kind() == adjoint::ErrorKind::value);
      CHECK(std::string(e.what()).find(bad) != std::string::npos);
    }
  }
  setenv("ADJOINT_NUM_THREADS", "3", 1);
  CHECK(adjoint::num_threads() == 3);
}

// In a process of its own: the variable is read once.
TEST_CASE("ADJOINT_NUM_THREADS is checked and obeyed") {
  if (access("/proc/self/exe", X_OK) != 0) return;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    execl("/proc/self/exe", "tests", "--no-skip",
          "--test-case=thread pool child: bad ADJOINT_NUM_THREADS", static_cast<char*>(nullptr));
    _exit(127);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
