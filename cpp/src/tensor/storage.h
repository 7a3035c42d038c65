// A reference-counted block of memory. Blocks come from a caching allocator (a freshly mapped
// 40 MB block costs more in page faults than the arithmetic that fills it) or from a foreign
// owner, in which case a callback gives them back.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/intrusive_ptr.h"

namespace adjoint {

class Storage {
 public:
  /// A block of at least `bytes` bytes, aligned to 64, uninitialised. `op` names the caller in
  /// the Error (kind memory) raised when there is none.
  static IntrusivePtr<Storage> allocate(std::size_t bytes, const char* op);

  /// Memory owned elsewhere; `release(context)` runs when the last reference goes, on any thread.
  static IntrusivePtr<Storage> foreign(void* data, std::size_t bytes, void* context,
                                       void (*release)(void*));

  void* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

  /// True when one reference exists and the memory may be written by a donating operation.
  bool donatable() const noexcept {
    return count_.load(std::memory_order_acquire) == 1 && !foreign_ &&
           !exported_.load(std::memory_order_relaxed);
  }
  /// Marks the memory as visible to a consumer outside the library: never donated again.
  void mark_exported() noexcept { exported_.store(true, std::memory_order_relaxed); }
  bool is_foreign() const noexcept { return foreign_; }

  friend void retain(Storage* s) noexcept { s->count_.fetch_add(1, std::memory_order_relaxed); }
  friend void release(Storage* s) noexcept {
    if (s->count_.load(std::memory_order_acquire) == 1 ||
        s->count_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      destroy(s);
  }

 private:
  friend class BlockAllocator;
  Storage() = default;
  ~Storage() = default;
  static void destroy(Storage* s) noexcept;

  // The header lies in the first kHeader bytes of the block whose rest is the data.
  static constexpr std::size_t kHeader = 64;

  std::atomic<std::uint32_t> count_{1};
  std::atomic<bool> exported_{false};
  bool foreign_ = false;
  std::uint16_t size_class_ = 0;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;  // what was asked for
  void* context_ = nullptr;
  void (*release_)(void*) = nullptr;
};

/// Memory in use, in bytes. `live` is the sum of bytes() over blocks of the allocator that exist
/// (foreign memory is not counted); `cached` is what is kept for reuse, rounding and headers
/// included; `peak` is the highest `live` since the last reset, exact for one thread and at most
/// 64 KiB per further thread too high.
struct StorageStats {
  std::size_t live;
  std::size_t cached;
  std::size_t peak;
};
StorageStats storage_stats() noexcept;
void reset_peak_storage() noexcept;
/// Gives cached blocks back to the system: all but the blocks up to 32 KiB that other threads
/// keep for themselves until they end, and small ones whose 64 KiB slab is still in use.
void clear_storage_cache() noexcept;

/// Without a limit the cache keeps at most the larger of 256 MiB and half of `peak`.
inline constexpr std::size_t kNoCacheLimit = ~std::size_t{0};
/// Sets how many freed bytes are kept at most, oldest out first, and returns what was set before.
/// Blocks up to 32 KiB are not bounded by it: a thread keeps a few MiB of them at most, and slabs
/// in use keep theirs.
std::size_t set_storage_cache_limit(std::size_t bytes) noexcept;

}  // namespace adjoint
