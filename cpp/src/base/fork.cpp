// The one pthread_atfork registration of the library. The table is fixed in size and never
// destroyed: forks happen during static destruction too.
#include "base/fork.h"

#include <pthread.h>

#include <cstdlib>
#include <mutex>

namespace adjoint {
namespace {

constexpr int kLevels = 4;
constexpr int kPerLevel = 8;

std::mutex table_mutex;
ForkHandlers table[kLevels][kPerLevel];
int counts[kLevels];
bool installed = false;

// The table's own lock is the outermost: registering takes no other lock while it holds it.
void before_fork() {
  table_mutex.lock();
  for (int level = 0; level < kLevels; ++level)
    for (int i = 0; i < counts[level]; ++i)
      if (table[level][i].prepare) table[level][i].prepare();
}

void after_fork(void (*ForkHandlers::*callback)()) {
  for (int level = kLevels - 1; level >= 0; --level)
    for (int i = counts[level] - 1; i >= 0; --i)
      if (table[level][i].*callback) (table[level][i].*callback)();
  table_mutex.unlock();
}

void after_fork_in_parent() { after_fork(&ForkHandlers::parent); }
void after_fork_in_child() { after_fork(&ForkHandlers::child); }

}  // namespace

void register_fork_handlers(ForkLevel level, const ForkHandlers& handlers) {
  const std::lock_guard<std::mutex> lock(table_mutex);
  if (!installed) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    installed = true;
  }
  const int l = static_cast<int>(level);
  if (counts[l] == kPerLevel) std::abort();  // a part registered itself more than once
  table[l][counts[l]++] = handlers;
}

}  // namespace adjoint
