// The scalar math functions, for float and double, from which every kernel that needs one is made.
// They vectorise inside a plain loop; results do not depend on neighbours, tails or vector length.
// Error bounds in ulp stand above each function: measured against long double, over all levels.
#pragma once

#include "kernels/isa/math_activation-inl.h"
#include "kernels/isa/math_arc-inl.h"
#include "kernels/isa/math_core-inl.h"
#include "kernels/isa/math_erf-inl.h"
#include "kernels/isa/math_exp-inl.h"
#include "kernels/isa/math_gamma-inl.h"
#include "kernels/isa/math_log-inl.h"
#include "kernels/isa/math_polygamma-inl.h"
#include "kernels/isa/math_pow-inl.h"
#include "kernels/isa/math_root-inl.h"
#include "kernels/isa/math_trig-inl.h"
