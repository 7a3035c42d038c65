// The allocator: alignment, reuse, what the statistics say, the bound on the cache, refusal of
// impossible sizes, threads that free what others allocated, forks.
#include "tensor/storage.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "adjoint/error.h"
#include "base/pools.h"

namespace {

using adjoint::IntrusivePtr;
using adjoint::Storage;
using adjoint::storage_stats;

constexpr std::size_t kMiB = 1 << 20;

const doctest::skip kNeedsPools(!adjoint::kPools);

}  // namespace

TEST_CASE("blocks of every size are aligned, writable and apart") {
  std::vector<IntrusivePtr<Storage>> blocks;
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size < 5 * kMiB; size = size + size / 7 + 1) sizes.push_back(size);
  for (std::size_t size : sizes) {
    blocks.push_back(Storage::allocate(size, "test"));
    CHECK(blocks.back()->bytes() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(blocks.back()->data()) % 64 == 0);
    std::memset(blocks.back()->data(), static_cast<int>(blocks.size() % 251), size);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto* data = static_cast<const unsigned char*>(blocks[i]->data());
    bool intact = true;
    for (std::size_t j = 0; j < sizes[i]; ++j) intact = intact && data[j] == (i + 1) % 251;
    CHECK(intact);
  }
}

TEST_CASE("a freed block serves the next request of its size" * kNeedsPools) {
  for (std::size_t size : {std::size_t{8}, std::size_t{700}, std::size_t{20000},
                           std::size_t{300000}, 3 * kMiB, 40 * kMiB}) {
    auto first = Storage::allocate(size, "test");
    void* const data = first->data();
    first = nullptr;
    CHECK(Storage::allocate(size, "test")->data() == data);
  }
}

TEST_CASE("a huge cached block is not spent on a much smaller request" * kNeedsPools) {
  adjoint::clear_storage_cache();
  auto big = Storage::allocate(40 * kMiB, "test");
  void* const data = big->data();
  big = nullptr;
  CHECK(Storage::allocate(20 * kMiB, "test")->data() != data);
  CHECK(Storage::allocate(36 * kMiB, "test")->data() == data);
}

// Threads tell of what they free from time to time, so the peak of all may be counted a little
// high.
bool is_peak(std::size_t expected) {
  const std::size_t peak = storage_stats().peak;
  return peak >= expected && peak <= expected + kMiB;
}

TEST_CASE("live is exact, and peak as exact as the accounts of other threads") {
  const std::size_t before = storage_stats().live;
  adjoint::reset_peak_storage();
  CHECK(is_peak(before));
  {
    std::vector<IntrusivePtr<Storage>> blocks;
    for (int i = 0; i < 1000; ++i) blocks.push_back(Storage::allocate(100, "test"));
    CHECK(storage_stats().live == before + 100 * 1000);
    blocks.resize(10);
    CHECK(storage_stats().live == before + 100 * 10);
    CHECK(is_peak(before + 100 * 1000));
    const auto large = Storage::allocate(10 * kMiB, "test");
    CHECK(storage_stats().live == before + 1000 + 10 * kMiB);
    CHECK(is_peak(before + 1000 + 10 * kMiB));
  }
  CHECK(storage_stats().live == before);
  CHECK(is_peak(before + 1000 + 10 * kMiB));
  adjoint::reset_peak_storage();
  CHECK(is_peak(before));
}

TEST_CASE("the cache grows by what is freed, is bounded and can be cleared" * kNeedsPools) {
  adjoint::clear_storage_cache();
  adjoint::reset_peak_storage();
  const std::size_t empty = storage_stats().cached;
  Storage::allocate(10 * kMiB, "test");
  CHECK(storage_stats().cached >= empty + 10 * kMiB);
  CHECK(storage_stats().cached <= empty + 12 * kMiB);
  adjoint::clear_storage_cache();
  CHECK(storage_stats().cached <= empty);
  {
    std::vector<IntrusivePtr<Storage>> blocks;  // 480 MiB in all, never touched
    for (int i = 0; i < 40; ++i) blocks.push_back(Storage::allocate(12 * kMiB, "test"));
  }
  CHECK(storage_stats().cached <= 256 * kMiB + kMiB);
  CHECK(storage_stats().cached >= 200 * kMiB);
  adjoint::clear_storage_cache();
  adjoint::reset_peak_storage();
}

TEST_CASE("a limit of the cache holds at once, and can be taken back" * kNeedsPools) {
  const auto free_some = [] {
    std::vector<IntrusivePtr<Storage>> blocks;
    for (int i = 0; i < 10; ++i) blocks.push_back(Storage::allocate(4 * kMiB, "test"));
  };
  adjoint::clear_storage_cache();
  const std::size_t small = storage_stats().cached;  // what slabs in use keep
  free_some();
  CHECK(storage_stats().cached >= small + 40 * kMiB);
  CHECK(adjoint::set_storage_cache_limit(10 * kMiB) == adjoint::kNoCacheLimit);
  CHECK(storage_stats().cached <= 10 * kMiB + small);
  free_some();
  CHECK(storage_stats().cached <= 10 * kMiB + small);
  CHECK(storage_stats().cached >= 4 * kMiB);
  CHECK(adjoint::set_storage_cache_limit(0) == 10 * kMiB);
  free_some();
  CHECK(storage_stats().cached <= small);
  CHECK(adjoint::set_storage_cache_limit(adjoint::kNoCacheLimit) == 0);
  free_some();
  CHECK(storage_stats().cached >= small + 40 * kMiB);
  adjoint::clear_storage_cache();
}

TEST_CASE("small blocks go back to the system when their slab is free" * kNeedsPools) {
  adjoint::clear_storage_cache();
  const std::size_t before = storage_stats().cached;
  {
    std::vector<IntrusivePtr<Storage>> blocks;
    for (int i = 0; i < 20000; ++i) blocks.push_back(Storage::allocate(64, "test"));
  }
  CHECK(storage_stats().cached >= 20000 * 128);
  adjoint::clear_storage_cache();
  CHECK(storage_stats().cached <= before + 64 * 1024);
}

TEST_CASE("sizes no machine has raise a memory error that names the operation and the size") {
  for (std::size_t size :
       {std::size_t{1} << 46, std::size_t{1} << 50, std::numeric_limits<std::size_t>::max()}) {
    try {
      Storage::allocate(size, "matmul");
      FAIL("allocated " << size);
    } catch (const adjoint::Error& e) {
      CHECK(e.kind() == adjoint::ErrorKind::memory);
      const std::string text = e.what();
      CHECK(text.rfind("[matmul] could not allocate " + std::to_string(size) + " bytes", 0) == 0);
    }
  }
  CHECK(Storage::allocate(1000, "test")->bytes() == 1000);
}

TEST_CASE("foreign memory is released once and is never donatable nor counted") {
  const std::size_t live = storage_stats().live;
  int released = 0;
  double value[2] = {1, 2};
  auto s =
      Storage::foreign(value, sizeof value, &released, [](void* p) { ++*static_cast<int*>(p); });
  CHECK(s->data() == value);
  CHECK(s->bytes() == sizeof value);
  CHECK(s->is_foreign());
  CHECK_FALSE(s->donatable());
  CHECK(storage_stats().live == live);
  auto other = s;
  s = nullptr;
  CHECK(released == 0);
  other = nullptr;
  CHECK(released == 1);
  CHECK(storage_stats().live == live);
}

TEST_CASE("a block is donatable while it has one owner and was not exported") {
  auto s = Storage::allocate(8, "test");
  CHECK(s->donatable());
  {
    const auto other = s;
    CHECK_FALSE(s->donatable());
  }
  CHECK(s->donatable());
  s->mark_exported();
  CHECK_FALSE(s->donatable());
}

TEST_CASE("threads free what others allocated, and end, without losing count") {
  const std::size_t before = storage_stats().live;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::vector<IntrusivePtr<Storage>>> made(4);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&made, t] {
        for (std::size_t i = 0; i < 3000; ++i)
          made[t].push_back(Storage::allocate(i * 7 % 3000 + (i % 100 == 0 ? kMiB : 0), "test"));
      });
    }
    for (std::thread& t : threads) t.join();
    threads.clear();
    std::size_t expected = 0;
    for (const auto& list : made)
      for (const auto& s : list) expected += s->bytes();
    CHECK(storage_stats().live == before + expected);
    for (std::size_t t = 0; t < 4; ++t)
      threads.emplace_back([&made, t] { made[(t + 1) % 4].clear(); });
    for (std::thread& t : threads) t.join();
    CHECK(storage_stats().live == before);
  }
}

// Without the pools this is the system's allocator, and a sanitizer's is not made for it.
TEST_CASE("a child forked while others allocate can allocate" * kNeedsPools) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int t = 0; t < 2; ++t) {
    busy.emplace_back([&stop] {
      for (std::size_t i = 0; !stop; ++i) Storage::allocate(i % 40 * 5000, "test");
    });
  }
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      alarm(20);  // a hang ends as a failure
      for (std::size_t i = 0; i < 200; ++i) Storage::allocate(i * 5000, "test");
      adjoint::clear_storage_cache();
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  stop = true;
  for (std::thread& t : busy) t.join();
}
