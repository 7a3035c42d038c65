// What a structure alone keeps alive of an embedding language, so that its cyclic collector can
// free it. Payloads are shared: by graphs, by programs made of them, and by what was recorded from
// these. Only one to which every reference has been met is the structure's own, and may say what it
// holds; one that something else holds too is as good as held from outside.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "graph/node.h"

namespace adjoint {

class Holdings {
 public:
  /// One reference that the structure has; each is to be met once.
  void add(const AttrsPtr& attrs);
  void add(const Payload* payload);
  /// The structure, or a payload of its own, has one reference to this object.
  void add_object(void* object) { objects_.push_back(object); }

  std::span<void* const> objects() const noexcept { return objects_; }

 private:
  std::unordered_map<const void*, std::uint32_t> met_;
  std::vector<void*> objects_;
};

}  // namespace adjoint
