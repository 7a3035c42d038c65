#include "graph/holdings.h"

namespace adjoint {

void Holdings::add(const AttrsPtr& attrs) {
  if (!attrs || !attrs->has_payload()) return;
  const std::uint32_t held = attrs->count_.load(std::memory_order_acquire);
  if (++met_[attrs.get()] == held) attrs->type().list(*this, *attrs);
}

void Holdings::add(const Payload* payload) {
  if (!payload) return;
  const std::uint32_t held = payload->count_.load(std::memory_order_acquire);
  if (++met_[payload] == held) payload->list(*this);
}

}  // namespace adjoint
