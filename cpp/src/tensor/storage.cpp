// The caching allocator behind Storage. A block holds the reference count and the data side by
// side, so a small tensor costs one pop from a list of its thread; larger blocks come from lists
// that all threads share. Sizes are rounded to 64 bytes up to 1 KiB and to an eighth of a power of
// two above (12.5 % at most); a request of 1 MiB or more may also take a cached block one class
// larger, 25 % at most. Blocks up to 1 KiB are carved from 64 KiB slabs, those from 1 MiB on are
// mapped, the rest comes from aligned_alloc.
#include "tensor/storage.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

#include "adjoint/error.h"
#include "base/fork.h"
#include "base/pools.h"
#include "base/tls.h"

namespace adjoint {
namespace {

constexpr std::size_t kAlign = 64;
constexpr std::size_t kSlabMax = 1024;        // largest block carved from a slab
constexpr std::size_t kSlab = 64 << 10;       // size and alignment of a slab
constexpr std::size_t kThreadMax = 32 << 10;  // largest block kept per thread
constexpr std::size_t kMapped = 1 << 20;      // smallest block mapped on its own
// Blocks from here on ask for huge pages: faulting in 4 MiB takes 0.14 ms that way, 2 ms without.
constexpr std::size_t kHugePage = 2 << 20;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kBound = 256 << 20;  // of the cache, where no limit is set
constexpr std::size_t kAddressSpace = std::size_t{1} << 47;
constexpr std::int64_t kSyncBytes = 64 << 10;  // largest change a thread keeps to itself

constexpr int kSlabClasses = kSlabMax / kAlign;
constexpr int kClasses = kSlabClasses + 8 * (48 - 10);

constexpr int class_of(std::size_t total) {
  if (total <= kSlabMax) return static_cast<int>((total - 1) / kAlign);
  const int e = std::bit_width(total - 1) - 1;
  return kSlabClasses + (e - 10) * 8 + static_cast<int>((total - 1) >> (e - 3)) - 8;
}

constexpr std::size_t size_of_class(int c) {
  if (c < kSlabClasses) return (static_cast<std::size_t>(c) + 1) * kAlign;
  const int above = c - kSlabClasses;
  return static_cast<std::size_t>(above % 8 + 9) << (above / 8 + 10 - 3);
}

constexpr int kThreadClasses = class_of(kThreadMax) + 1;
constexpr int kMappedClass = class_of(kMapped);

static_assert(class_of(64) == 0 && class_of(65) == 1 && class_of(1024) == 15);
static_assert(size_of_class(class_of(1025)) == 1152 && size_of_class(class_of(2048)) == 2048);
static_assert(size_of_class(class_of(kMapped)) == kMapped);

/// A block on a list. Blocks of slab classes and of threads use `next` alone.
struct FreeBlock {
  FreeBlock* next;
  FreeBlock* previous;
  FreeBlock* older;
  FreeBlock* newer;
  int size_class;
};
static_assert(sizeof(FreeBlock) <= kAlign);

/// The first bytes of a slab.
struct Slab {
  std::uint32_t blocks;   // carved from it
  std::uint32_t visited;  // scratch of clear(): free blocks met so far
};

Slab* slab_of(FreeBlock* block) {
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(block) % kSlab;
  return reinterpret_cast<Slab*>(reinterpret_cast<char*>(block) - offset);
}

constexpr std::uint32_t thread_limit(int c) {
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(kSlab / size_of_class(c), 4, 128));
}

template <class T>
void add_own(std::atomic<T>& a, T delta) noexcept {  // only the owner of `a` writes it
  a.store(a.load(std::memory_order_relaxed) + delta, std::memory_order_relaxed);
}

/// What one thread keeps. Written by that thread alone; the numbers are read by storage_stats().
struct ThreadCache {
  FreeBlock* heads[kThreadClasses] = {};
  std::uint32_t counts[kThreadClasses] = {};
  std::atomic<std::int64_t> live{0};  // not yet added to the shared count
  std::atomic<std::int64_t> high{0};  // highest value of `live` since it was last added
  std::atomic<std::int64_t> cached{0};
  ThreadCache* next = nullptr;
  ThreadCache* previous = nullptr;
};

ADJOINT_THREAD_LOCAL ThreadCache* thread_cache = nullptr;

void* from_system(std::size_t size) noexcept {
  if (!kPools || size < kMapped) {
    void* block = nullptr;
    return posix_memalign(&block, kAlign, size) == 0 ? block : nullptr;
  }
  const bool huge = size >= kHugePage;
  const std::size_t extra = huge ? kHugePage - kPage : 0;
  void* const mapped =
      mmap(nullptr, size + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (!huge) return mapped;
  const auto at = reinterpret_cast<std::uintptr_t>(mapped);
  const std::size_t skip = (kHugePage - at % kHugePage) % kHugePage;
  char* const block = static_cast<char*>(mapped) + skip;
  if (skip != 0) munmap(mapped, skip);
  if (skip != extra) munmap(block + size, extra - skip);
#ifdef MADV_HUGEPAGE
  madvise(block, size, MADV_HUGEPAGE);
#endif
  return block;
}

void to_system(void* block, std::size_t size) noexcept {
  if (!kPools || size < kMapped)
    std::free(block);
  else
    munmap(block, size);
}

void to_system(FreeBlock* chain) noexcept {
  while (chain) {
    FreeBlock* const next = chain->next;
    to_system(chain, size_of_class(chain->size_class));
    chain = next;
  }
}

}  // namespace

/// The shared lists and the thread caches. One object that is never destroyed.
class BlockAllocator {
 public:
  static BlockAllocator& instance();

  Storage* allocate(std::size_t bytes, const char* op);
  void free(Storage* s) noexcept;

  StorageStats stats() noexcept;
  void reset_peak() noexcept;
  void clear() noexcept;
  std::size_t set_limit(std::size_t bytes) noexcept;

 private:
  BlockAllocator();
  static ThreadCache* make_cache();
  static void retire(void* cache) noexcept;
  void* take(int c, int* got);
  void* take_shared(int c, int* got);
  void* refill(ThreadCache* cache, int c);
  bool carve(int c);
  void give_shared(FreeBlock* block, int c) noexcept;
  void flush(ThreadCache* cache, int c, std::uint32_t keep) noexcept;
  void link(FreeBlock* block, int c) noexcept;
  void unlink(FreeBlock* block) noexcept;
  FreeBlock* evict(std::size_t bound) noexcept;
  FreeBlock* collect_slabs() noexcept;
  std::size_t bound() const noexcept;
  void account(ThreadCache* cache, std::int64_t delta) noexcept;
  void sync(ThreadCache* cache) noexcept;
  void child_after_fork() noexcept;
  [[noreturn]] static void refuse(std::size_t bytes, const char* op);

  std::mutex mutex_;  // guards the lists and the registry of thread caches
  FreeBlock* heads_[kClasses] = {};
  FreeBlock* oldest_ = nullptr;  // of blocks above the slab classes
  FreeBlock* newest_ = nullptr;
  ThreadCache* caches_ = nullptr;
  pthread_key_t key_{};
  std::atomic<std::int64_t> live_{0};
  std::atomic<std::int64_t> peak_{0};
  std::atomic<std::size_t> limit_{kNoCacheLimit};
  std::atomic<std::size_t> cached_{0};  // in the shared lists; written under the mutex
};

BlockAllocator& BlockAllocator::instance() {
  static BlockAllocator* const allocator = new BlockAllocator;
  return *allocator;
}

BlockAllocator::BlockAllocator() {
  pthread_key_create(&key_, retire);
  register_fork_handlers(ForkLevel::memory, {.prepare = [] { instance().mutex_.lock(); },
                                             .parent = [] { instance().mutex_.unlock(); },
                                             .child = [] { instance().child_after_fork(); }});
}

ThreadCache* BlockAllocator::make_cache() {
  BlockAllocator& self = instance();
  auto* const cache = new ThreadCache;
  const std::lock_guard<std::mutex> lock(self.mutex_);
  cache->next = self.caches_;
  if (self.caches_) self.caches_->previous = cache;
  self.caches_ = cache;
  thread_cache = cache;
  pthread_setspecific(self.key_, cache);
  return cache;
}

// At the end of a thread. A destructor that runs later in the thread may make another cache; the
// system then calls this again.
void BlockAllocator::retire(void* pointer) noexcept {
  BlockAllocator& self = instance();
  auto* const cache = static_cast<ThreadCache*>(pointer);
  for (int c = 0; c < kThreadClasses; ++c) self.flush(cache, c, 0);
  thread_cache = nullptr;
  {
    const std::lock_guard<std::mutex> lock(self.mutex_);
    self.sync(cache);
    (cache->previous ? cache->previous->next : self.caches_) = cache->next;
    if (cache->next) cache->next->previous = cache->previous;
  }
  delete cache;
}

// Lists of other threads may have been cut in the middle of a change, so their blocks are given
// up (a few MiB at most); what those threads held stays counted as live.
void BlockAllocator::child_after_fork() noexcept {
  for (ThreadCache* c = caches_; c; c = c->next) sync(c);
  caches_ = thread_cache;
  if (caches_) caches_->next = caches_->previous = nullptr;
  mutex_.unlock();
}

// `high` goes first: the other order would lose a peak between the two.
void BlockAllocator::sync(ThreadCache* cache) noexcept {
  const std::int64_t high = cache->high.exchange(0, std::memory_order_relaxed);
  const std::int64_t delta = cache->live.exchange(0, std::memory_order_relaxed);
  const std::int64_t before = live_.fetch_add(delta, std::memory_order_relaxed);
  const std::int64_t reached = before + std::max(high, delta);
  std::int64_t peak = peak_.load(std::memory_order_relaxed);
  while (peak < reached && !peak_.compare_exchange_weak(peak, reached, std::memory_order_relaxed)) {
  }
}

inline void BlockAllocator::account(ThreadCache* cache, std::int64_t delta) noexcept {
  const std::int64_t live = cache->live.load(std::memory_order_relaxed) + delta;
  cache->live.store(live, std::memory_order_relaxed);
  if (live > cache->high.load(std::memory_order_relaxed))
    cache->high.store(live, std::memory_order_relaxed);
  if (live > kSyncBytes || live < -kSyncBytes) sync(cache);
}

void BlockAllocator::link(FreeBlock* block, int c) noexcept {
  block->size_class = c;
  block->previous = nullptr;
  block->next = heads_[c];
  if (heads_[c]) heads_[c]->previous = block;
  heads_[c] = block;
  block->newer = nullptr;
  block->older = newest_;
  (newest_ ? newest_->newer : oldest_) = block;
  newest_ = block;
  cached_.fetch_add(size_of_class(c), std::memory_order_relaxed);
}

void BlockAllocator::unlink(FreeBlock* block) noexcept {
  (block->previous ? block->previous->next : heads_[block->size_class]) = block->next;
  if (block->next) block->next->previous = block->previous;
  (block->older ? block->older->newer : oldest_) = block->newer;
  (block->newer ? block->newer->older : newest_) = block->older;
  cached_.fetch_sub(size_of_class(block->size_class), std::memory_order_relaxed);
}

// Takes the oldest blocks off the lists until at most `bound` bytes are kept; the caller gives
// them to the system when it has let go of the mutex.
FreeBlock* BlockAllocator::evict(std::size_t bound) noexcept {
  FreeBlock* chain = nullptr;
  while (oldest_ && cached_.load(std::memory_order_relaxed) > bound) {
    FreeBlock* const block = oldest_;
    unlink(block);
    block->next = chain;
    chain = block;
  }
  return chain;
}

bool BlockAllocator::carve(int c) {
  auto* const memory = static_cast<char*>(std::aligned_alloc(kSlab, kSlab));
  if (!memory) return false;
  const std::size_t size = size_of_class(c);
  auto* const slab = new (memory) Slab{static_cast<std::uint32_t>((kSlab - kAlign) / size), 0};
  for (std::uint32_t i = slab->blocks; i-- > 0;) {
    auto* const block = new (memory + kAlign + i * size) FreeBlock;
    block->next = heads_[c];
    heads_[c] = block;
  }
  cached_.fetch_add(slab->blocks * size, std::memory_order_relaxed);
  return true;
}

// Slab classes: half of what the thread may keep. Others: one block, the rest follows by itself.
void* BlockAllocator::refill(ThreadCache* cache, int c) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!heads_[c] && (c >= kSlabClasses || !carve(c))) return nullptr;
  FreeBlock* const first = heads_[c];
  if (c >= kSlabClasses) {
    unlink(first);
    return first;
  }
  FreeBlock* last = first;
  std::uint32_t taken = 1;
  for (; taken < thread_limit(c) / 2 && last->next; ++taken) last = last->next;
  heads_[c] = last->next;
  last->next = nullptr;
  cached_.fetch_sub(taken * size_of_class(c), std::memory_order_relaxed);
  cache->heads[c] = first->next;
  cache->counts[c] = taken - 1;
  add_own<std::int64_t>(cache->cached, (taken - 1) * size_of_class(c));
  return first;
}

void* BlockAllocator::take_shared(int c, int* got) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int k = c; k <= std::min(c + (c >= kMappedClass), kClasses - 1); ++k) {
      if (FreeBlock* const block = heads_[k]) {
        unlink(block);
        *got = k;
        return block;
      }
    }
  }
  return from_system(size_of_class(c));
}

void* BlockAllocator::take(int c, int* got) {
  *got = c;
  void* block = nullptr;
  if (c < kThreadClasses) {
    block = refill(thread_cache, c);
    if (!block && c >= kSlabClasses) block = from_system(size_of_class(c));
  } else {
    block = take_shared(c, got);
  }
  return block;
}

Storage* BlockAllocator::allocate(std::size_t bytes, const char* op) {
  if (bytes > kAddressSpace) refuse(bytes, op);
  const int c = class_of(bytes + Storage::kHeader);
  ThreadCache* cache = thread_cache;
  if (!cache) [[unlikely]]
    cache = make_cache();
  void* block = nullptr;
  int got = c;
  if constexpr (!kPools) {
    block = from_system(bytes + Storage::kHeader);
    if (!block) refuse(bytes, op);
  } else if (c < kThreadClasses && cache->heads[c]) [[likely]] {
    FreeBlock* const head = cache->heads[c];
    cache->heads[c] = head->next;
    --cache->counts[c];
    add_own(cache->cached, -static_cast<std::int64_t>(size_of_class(c)));
    block = head;
  } else {
    block = take(c, &got);
    if (!block) {
      clear();
      block = take(c, &got);
      if (!block) refuse(bytes, op);
    }
  }
  account(cache, static_cast<std::int64_t>(bytes));
  auto* const s = new (block) Storage;
  s->size_class_ = static_cast<std::uint16_t>(got);
  s->data_ = static_cast<char*>(block) + Storage::kHeader;
  s->bytes_ = bytes;
  return s;
}

void BlockAllocator::free(Storage* s) noexcept {
  const int c = s->size_class_;
  ThreadCache* cache = thread_cache;
  if (!cache) [[unlikely]]
    cache = make_cache();
  account(cache, -static_cast<std::int64_t>(s->bytes_));
  s->~Storage();
  if constexpr (!kPools) return std::free(s);
  auto* const block = new (s) FreeBlock;
  if (c >= kThreadClasses) return give_shared(block, c);
  block->next = cache->heads[c];
  cache->heads[c] = block;
  add_own<std::int64_t>(cache->cached, size_of_class(c));
  if (++cache->counts[c] > thread_limit(c)) flush(cache, c, thread_limit(c) / 2);
}

std::size_t BlockAllocator::bound() const noexcept {
  const std::size_t limit = limit_.load(std::memory_order_relaxed);
  if (limit != kNoCacheLimit) return limit;
  return std::max(kBound, static_cast<std::size_t>(std::max<std::int64_t>(peak_.load(), 0)) / 2);
}

std::size_t BlockAllocator::set_limit(std::size_t bytes) noexcept {
  const std::size_t before = limit_.exchange(bytes, std::memory_order_relaxed);
  FreeBlock* victims = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    victims = evict(bound());
  }
  to_system(victims);
  return before;
}

void BlockAllocator::give_shared(FreeBlock* block, int c) noexcept {
  const std::size_t size = size_of_class(c);
  const std::size_t bound = this->bound();
  if (size > bound) return to_system(block, size);  // would only push everything else out
  FreeBlock* victims = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    link(block, c);
    victims = evict(bound);
  }
  to_system(victims);
}

// Moves all but `keep` blocks of a class to the shared lists.
void BlockAllocator::flush(ThreadCache* cache, int c, std::uint32_t keep) noexcept {
  const std::uint32_t excess = cache->counts[c] - std::min(keep, cache->counts[c]);
  if (excess == 0) return;
  FreeBlock* const first = cache->heads[c];
  FreeBlock* last = first;
  for (std::uint32_t i = 1; i < excess; ++i) last = last->next;
  FreeBlock* const rest = last->next;
  last->next = nullptr;
  cache->heads[c] = rest;
  cache->counts[c] -= excess;
  add_own(cache->cached, -static_cast<std::int64_t>(excess * size_of_class(c)));

  const std::lock_guard<std::mutex> lock(mutex_);
  if (c < kSlabClasses) {
    last->next = heads_[c];
    heads_[c] = first;
    cached_.fetch_add(excess * size_of_class(c), std::memory_order_relaxed);
    return;
  }
  for (FreeBlock* block = first; block;) {
    FreeBlock* const next = block->next;
    link(block, c);
    block = next;
  }
}

// Takes the blocks of wholly free slabs off the lists and returns the slabs, chained through
// their first block.
FreeBlock* BlockAllocator::collect_slabs() noexcept {
  FreeBlock* slabs = nullptr;
  for (int c = 0; c < kSlabClasses; ++c) {
    for (FreeBlock* b = heads_[c]; b; b = b->next) slab_of(b)->visited = 0;
    for (FreeBlock* b = heads_[c]; b; b = b->next) ++slab_of(b)->visited;
    FreeBlock** link = &heads_[c];
    while (FreeBlock* const b = *link) {
      Slab* const slab = slab_of(b);
      if (slab->visited < slab->blocks) {
        link = &b->next;
        continue;
      }
      *link = b->next;
      cached_.fetch_sub(size_of_class(c), std::memory_order_relaxed);
      if (++slab->visited == 2 * slab->blocks) {  // the last of its blocks
        b->next = slabs;
        slabs = b;
      }
    }
  }
  return slabs;
}

void BlockAllocator::clear() noexcept {
  if (ThreadCache* const cache = thread_cache)
    for (int c = 0; c < kThreadClasses; ++c) flush(cache, c, 0);
  FreeBlock* blocks = nullptr;
  FreeBlock* slabs = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    slabs = collect_slabs();
    while (oldest_) {
      FreeBlock* const block = oldest_;
      unlink(block);
      block->next = blocks;
      blocks = block;
    }
  }
  to_system(blocks);
  while (slabs) {
    FreeBlock* const next = slabs->next;
    std::free(slab_of(slabs));
    slabs = next;
  }
}

StorageStats BlockAllocator::stats() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::int64_t live = live_.load(std::memory_order_relaxed);
  std::int64_t high = live;
  auto cached = static_cast<std::int64_t>(cached_.load(std::memory_order_relaxed));
  for (ThreadCache* c = caches_; c; c = c->next) {
    high += c->high.load(std::memory_order_relaxed);
    live += c->live.load(std::memory_order_relaxed);
    cached += c->cached.load(std::memory_order_relaxed);
  }
  const std::int64_t peak = std::max({peak_.load(std::memory_order_relaxed), high, live});
  const auto size = [](std::int64_t n) {
    return static_cast<std::size_t>(std::max<std::int64_t>(n, 0));
  };
  return {size(live), size(cached), size(peak)};
}

void BlockAllocator::reset_peak() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::int64_t live = live_.load(std::memory_order_relaxed);
  for (ThreadCache* c = caches_; c; c = c->next) {
    const std::int64_t own = c->live.load(std::memory_order_relaxed);
    c->high.store(own, std::memory_order_relaxed);
    live += own;
  }
  peak_.store(live, std::memory_order_relaxed);
}

void BlockAllocator::refuse(std::size_t bytes, const char* op) {
  char text[160];
  std::snprintf(text, sizeof text,
                "could not allocate %zu bytes (%.3g GiB); release tensors that are no longer "
                "needed or work on smaller pieces",
                bytes, static_cast<double>(bytes) / (1 << 30));
  raise(ErrorKind::memory, op, text);
}

IntrusivePtr<Storage> Storage::allocate(std::size_t bytes, const char* op) {
  return IntrusivePtr<Storage>::adopt(BlockAllocator::instance().allocate(bytes, op));
}

IntrusivePtr<Storage> Storage::foreign(void* data, std::size_t bytes, void* context,
                                       void (*release)(void*)) {
  Storage* const s = BlockAllocator::instance().allocate(0, "foreign memory");
  s->foreign_ = true;
  s->data_ = data;
  s->bytes_ = bytes;
  s->context_ = context;
  s->release_ = release;
  return IntrusivePtr<Storage>::adopt(s);
}

void Storage::destroy(Storage* s) noexcept {
  if (s->foreign_) {
    if (s->release_) s->release_(s->context_);
    s->bytes_ = 0;
  }
  BlockAllocator::instance().free(s);
}

StorageStats storage_stats() noexcept { return BlockAllocator::instance().stats(); }
void reset_peak_storage() noexcept { BlockAllocator::instance().reset_peak(); }
void clear_storage_cache() noexcept { BlockAllocator::instance().clear(); }
std::size_t set_storage_cache_limit(std::size_t bytes) noexcept {
  return BlockAllocator::instance().set_limit(bytes);
}

}  // namespace adjoint
