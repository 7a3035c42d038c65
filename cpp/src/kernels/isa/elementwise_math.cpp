// Tile kernels of the elementary functions: loops over the scalar functions of the math headers.
#include "kernels/isa/elementwise-inl.h"

namespace adjoint::kernels::ADJOINT_ISA_NS {

Rows<TileKernel> math_tiles() { return {nullptr, 0}; }

}  // namespace adjoint::kernels::ADJOINT_ISA_NS
