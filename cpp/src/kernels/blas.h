// Matrix products and the BLAS behind them. The BLAS is opened at the first product that is large
// enough to want one; without any, own blocked loops serve.
//
// The environment variable ADJOINT_BLAS decides when it is set: "builtin" for the own loops, or
// the path of a shared library with the CBLAS interface. Otherwise the first of these that opens
// is taken: the candidates named below, the BLAS found when the library was built, the system's.
// The library taken is told to use one thread, for the whole process where others use it too. It
// serves linear algebra as well if it has LAPACK; else the first of the others that has it does
// (blas_library.h).
#pragma once

#include <cstdint>
#include <string>

#include "adjoint/dtype.h"

namespace adjoint::kernels {

/// Path of a shared library to try, and the prefix and suffix its symbols carry ("scipy_", "" for
/// scipy-openblas32). May be called several times; the first that opens serves. `ilp64` counts
/// only where the library cannot be asked for the width of its integers. To be called before the
/// first product; the Python package does so at import without opening anything.
void set_blas_candidate(std::string path, std::string prefix, std::string suffix, bool ilp64);

/// C = A B for one matrix pair. Row and column strides in elements; any strides (also 0 and
/// negative) are accepted, those a BLAS can take without a copy are passed through. C is
/// contiguous row-major and is overwritten. float32 or float64. Work is split over the thread
/// pool by panels that depend on the shape alone.
void matmul(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k, const void* a,
            std::int64_t a_row, std::int64_t a_col, const void* b, std::int64_t b_row,
            std::int64_t b_col, void* c);

/// One operand of a batch: `batch` holds its strides over the batch axes (0 where it broadcasts).
struct BatchOperand {
  const void* data;
  const std::int64_t* batch;
  std::int64_t row;
  std::int64_t col;
};

/// C = A B for every matrix of a batch of the given shape (row-major); C is contiguous. Each
/// product has the bits matmul gives it, but that a batch against one common B is taken as one
/// taller product where the strides of A allow it.
void matmul_batched(DType dtype, int batch_ndim, const std::int64_t* batch_shape, std::int64_t m,
                    std::int64_t n, std::int64_t k, const BatchOperand& a, const BatchOperand& b,
                    void* c);

/// What serves products now: the path of the BLAS, or "built-in". Opens it if nothing has yet.
std::string blas_name();

}  // namespace adjoint::kernels
