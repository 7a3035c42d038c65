// Whether nodes, storage and Python's handles come from pools. With ADJOINT_POOLS=OFF each is an
// allocation of the system's own, of exactly its size, so that a sanitizer sees a use after its
// end.
#pragma once

namespace adjoint {

#ifdef ADJOINT_NO_POOLS
inline constexpr bool kPools = false;
#else
inline constexpr bool kPools = true;
#endif

}  // namespace adjoint
