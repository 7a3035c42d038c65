// Calls of Fortran routines. Numbers go by address, as 64 bits whatever the library's own width: a
// routine of 32 bits reads and writes the low half, and what it reports is read from there. Only
// lists of integers differ. A text has its length as a further argument at the end.
#include "kernels/lapack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

#include "adjoint/error.h"
#include "kernels/blas_library.h"

namespace adjoint::kernels {

namespace {

static_assert(std::endian::native == std::endian::little);

struct Routines {
  void *potrf, *getrf, *gecon, *gemm, *trmm, *trsm, *trsv, *getri, *geqrf, *orgqr, *syevd, *sytrd,
      *stedc, *gesdd;
  bool wide;
};

template <class T>
Routines find_routines() {
  const SharedLibrary& library = *lapack_library();
  const auto find = [&](const char* plain) {
    const std::string name = std::string(std::is_same_v<T, float> ? "s" : "d") + plain + "_";
    void* const f = library.symbol(name.c_str());
    if (!f)
      raise(ErrorKind::runtime, "linalg",
            library.path + " has no " + name +
                ": set ADJOINT_BLAS to the path of a library with all of LAPACK");
    return f;
  };
  return {find("potrf"), find("getrf"), find("gecon"), find("gemm"),  find("trmm"),
          find("trsm"),  find("trsv"),  find("getri"), find("geqrf"), find("orgqr"),
          find("syevd"), find("sytrd"), find("stedc"), find("gesdd"), library.ilp64};
}

template <class T>
const Routines& routines() {
  static const Routines found = find_routines<T>();
  return found;
}

template <class... A>
void call(void* routine, A... arguments) {
  reinterpret_cast<void (*)(A...)>(routine)(arguments...);
}

constexpr std::size_t kOne = 1;  // length of a text

/// An integer that a routine has written.
class Written {
 public:
  Index* at() { return &value_; }
  Index get() const { return static_cast<std::int32_t>(value_); }
  /// Of what a routine reports: an argument it refuses is an error of ours.
  Index info(const char* routine) const {
    if (get() < 0)
      raise(ErrorKind::runtime, "linalg",
            std::string(routine) + " of " + lapack_library()->path + " refuses its argument " +
                std::to_string(-get()) + ", which is an error of this library");
    return get();
  }

 private:
  Index value_ = 0;
};

/// Raises where a library of 32 bits cannot count so far.
template <class T>
Index counted(Index n) {
  if (!routines<T>().wide && n > std::numeric_limits<std::int32_t>::max())
    raise(ErrorKind::overflow, "linalg",
          "the matrices are too large for the integers of " + lapack_library()->path +
              ", which have 32 bits: set ADJOINT_BLAS to a library with 64");
  return n;
}

/// The size of a workspace that a routine asks for, given as a floating number, maybe rounded down.
/// Where its integers have 32 bits it may have wrapped; then `least`, which is documented, serves.
template <class T>
Index work_size(T asked, Index least) {
  counted<T>(least);
  const T up = std::nextafter(asked, std::numeric_limits<T>::infinity());
  const T most = static_cast<T>(routines<T>().wide ? std::numeric_limits<std::int64_t>::max()
                                                   : std::numeric_limits<std::int32_t>::max());
  return up < most ? std::max(static_cast<Index>(up), least) : least;
}

Index ld(Index rows) { return std::max<Index>(rows, 1); }

}  // namespace

WorkSize eigen_work(Index n, bool vectors) {
  if (n <= 1) return {1, 1};
  return vectors ? WorkSize{1 + 6 * n + 2 * n * n, 3 + 5 * n} : WorkSize{2 * n + 1, 1};
}

WorkSize svd_work(char job, Index m, Index n) {
  const Index least = std::min(m, n), most = std::max(m, n);
  const Index numbers = job == 'N'   ? 3 * least + std::max(most, 7 * least)
                        : job == 'S' ? 4 * least * least + 7 * least
                                     : 4 * least * least + 6 * least + most;
  return {ld(numbers), ld(8 * least)};
}

bool has_lapack() { return lapack_library() != nullptr; }

void need_lapack(const char* op) {
  if (has_lapack()) [[likely]]
    return;
  raise(ErrorKind::runtime, op,
        "needs LAPACK, and no library with it was found: install NumPy or scipy-openblas32 for "
        "Python, OpenBLAS (libopenblas0) or LAPACK (liblapack3) for the system, or set "
        "ADJOINT_BLAS to the path of a shared library that has it");
}

template <class T>
Index potrf(char uplo, Index n, T* a, Index lda) {
  Written info;
  counted<T>(std::max(n, lda));
  call(routines<T>().potrf, &uplo, &n, a, &lda, info.at(), kOne);
  return info.info("potrf");
}

template <class T>
Index getrf(Index n, T* a, Index lda, Index* pivots) {
  Written info;
  counted<T>(std::max(n, lda));
  call(routines<T>().getrf, &n, &n, a, &lda, pivots, info.at());
  if (!routines<T>().wide)  // from the last on, since they lie in the same memory
    for (Index i = n - 1; i >= 0; --i) {
      std::int32_t narrow;
      std::memcpy(&narrow, reinterpret_cast<const char*>(pivots) + i * 4, sizeof narrow);
      pivots[i] = narrow;
    }
  return info.info("getrf");
}

template <class T>
T gecon(Index n, const T* a, Index lda, T norm) {
  Written info;
  const char one = '1';
  T reciprocal = 0;
  const auto work = workspace<T>(4 * n);
  const auto iwork = workspace<Index>(n);
  call(routines<T>().gecon, &one, &n, a, &lda, &norm, &reciprocal, work.get(), iwork.get(),
       info.at(), kOne);
  info.info("gecon");
  return reciprocal;
}

template <class T>
void gemm(char transa, char transb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
          const T* b, Index ldb, T beta, T* c, Index ldc) {
  counted<T>(std::max({m, n, k, lda, ldb, ldc}));
  call(routines<T>().gemm, &transa, &transb, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc,
       kOne, kOne);
}

template <class T>
void trmm_right(char uplo, char trans, Index m, Index n, const T* a, Index lda, T* b, Index ldb) {
  const char right = 'R', diag = 'N';
  const T one = 1;
  counted<T>(std::max({m, n, lda, ldb}));
  call(routines<T>().trmm, &right, &uplo, &trans, &diag, &m, &n, &one, a, &lda, b, &ldb, kOne, kOne,
       kOne, kOne);
}

template <class T>
void trsm_right(char uplo, char trans, char diag, Index m, Index n, const T* a, Index lda, T* b,
                Index ldb) {
  const char right = 'R';
  const T one = 1;
  counted<T>(std::max({m, n, lda, ldb}));
  call(routines<T>().trsm, &right, &uplo, &trans, &diag, &m, &n, &one, a, &lda, b, &ldb, kOne, kOne,
       kOne, kOne);
}

template <class T>
void trsv(char uplo, char trans, char diag, Index n, const T* a, Index lda, T* x) {
  const Index one = 1;
  counted<T>(std::max(n, lda));
  call(routines<T>().trsv, &uplo, &trans, &diag, &n, a, &lda, x, &one, kOne, kOne, kOne);
}

// ---- Inverse ------------------------------------------------------------------------------------

template <class T>
Inverse<T>::Inverse(Index n) : n_(counted<T>(n)), pivots_(workspace<Index>(n)) {
  T wanted = 0;
  const Index ask = -1, lda = ld(n);
  Written info;
  call(routines<T>().getri, &n_, static_cast<T*>(nullptr), &lda, static_cast<Index*>(nullptr),
       &wanted, &ask, info.at());
  info.info("getri");
  size_ = work_size(wanted, ld(n));
  work_ = workspace<T>(size_);
}

template <class T>
Index Inverse<T>::operator()(T* a, const Index* pivots) {
  Written info;
  const Index lda = ld(n_);
  for (Index i = 0; i < n_; ++i) {
    const auto narrow = static_cast<std::int32_t>(pivots[i]);
    if (routines<T>().wide)
      pivots_[i] = pivots[i];
    else
      std::memcpy(reinterpret_cast<char*>(pivots_.get()) + i * 4, &narrow, sizeof narrow);
  }
  call(routines<T>().getri, &n_, a, &lda, pivots_.get(), work_.get(), &size_, info.at());
  return info.info("getri");
}

// ---- Q R ----------------------------------------------------------------------------------------

template <class T>
QrFactors<T>::QrFactors(Index m, Index n, Index columns)
    : m_(counted<T>(m)), n_(counted<T>(n)), columns_(columns) {
  T wanted[2] = {};
  const Index ask = -1, lda = ld(m), k = std::min(m, n);
  Written info;
  call(routines<T>().geqrf, &m_, &n_, static_cast<T*>(nullptr), &lda, static_cast<T*>(nullptr),
       &wanted[0], &ask, info.at());
  call(routines<T>().orgqr, &m_, &columns_, &k, static_cast<T*>(nullptr), &lda,
       static_cast<T*>(nullptr), &wanted[1], &ask, info.at());
  info.info("orgqr");
  const Index least = ld(std::max(n, columns));
  size_ = std::max(work_size(wanted[0], least), work_size(wanted[1], least));
  work_ = workspace<T>(size_);
}

template <class T>
Index QrFactors<T>::factor(T* a, T* scales) {
  Written info;
  const Index lda = ld(m_);
  call(routines<T>().geqrf, &m_, &n_, a, &lda, scales, work_.get(), &size_, info.at());
  return info.info("geqrf");
}

template <class T>
Index QrFactors<T>::form(T* q, const T* scales) {
  Written info;
  const Index lda = ld(m_), k = std::min(m_, n_);
  call(routines<T>().orgqr, &m_, &columns_, &k, q, &lda, scales, work_.get(), &size_, info.at());
  return info.info("orgqr");
}

// ---- Eigenvalues --------------------------------------------------------------------------------

template <class T>
SymmetricEigen<T>::SymmetricEigen(char uplo, Index n, bool vectors)
    : uplo_(uplo), job_(vectors ? 'V' : 'N'), n_(counted<T>(n)) {
  const WorkSize least = eigen_work(n, vectors);
  counted<T>(std::max(least.numbers, least.integers));
  T wanted = 0;
  Written integers, info;
  const Index ask = -1, lda = ld(n);
  call(routines<T>().syevd, &job_, &uplo_, &n_, static_cast<T*>(nullptr), &lda,
       static_cast<T*>(nullptr), &wanted, &ask, integers.at(), &ask, info.at(), kOne, kOne);
  info.info("syevd");
  size_ = work_size(wanted, least.numbers);
  integers_ = std::max(integers.get(), least.integers);
  work_ = workspace<T>(size_);
  iwork_ = workspace<Index>(integers_);
}

template <class T>
Index SymmetricEigen<T>::operator()(T* a, T* values) {
  Written info;
  const Index lda = ld(n_);
  call(routines<T>().syevd, &job_, &uplo_, &n_, a, &lda, values, work_.get(), &size_, iwork_.get(),
       &integers_, info.at(), kOne, kOne);
  return info.info("syevd");
}

template <class T>
Tridiagonal<T>::Tridiagonal(Index n) : n_(counted<T>(n)) {
  // The documented size of stedc, and a block of sytrd's.
  constexpr Index block = 64;
  size_ = std::max(n * block, 1 + 4 * n + n * n);
  integers_ = 3 + 5 * n;
  counted<T>(std::max(size_, integers_));
  work_ = workspace<T>(size_);
  iwork_ = workspace<Index>(integers_);
}

template <class T>
Index Tridiagonal<T>::reduce(T* a, T* d, T* e, T* scales) {
  Written info;
  const char lower = 'L';
  const Index lda = ld(n_);
  call(routines<T>().sytrd, &lower, &n_, a, &lda, d, e, scales, work_.get(), &size_, info.at(),
       kOne);
  return info.info("sytrd");
}

template <class T>
Index Tridiagonal<T>::solve(T* d, T* e, T* z) {
  Written info;
  const char unit = 'I';
  const Index ldz = ld(n_);
  call(routines<T>().stedc, &unit, &n_, d, e, z, &ldz, work_.get(), &size_, iwork_.get(),
       &integers_, info.at(), kOne);
  return info.info("stedc");
}

// ---- Singular values ----------------------------------------------------------------------------

template <class T>
Svd<T>::Svd(char job, Index m, Index n) : job_(job), m_(counted<T>(m)), n_(counted<T>(n)) {
  const WorkSize least = svd_work(job, m, n);
  counted<T>(least.numbers);
  iwork_ = workspace<Index>(least.integers);
  T wanted = 0;
  Written info;
  const Index ask = -1, rows = ld(m), vt = ld(job == 'A' ? n : std::min(m, n));
  T* const none = nullptr;
  call(routines<T>().gesdd, &job_, &m_, &n_, none, &rows, none, none, &rows, none, &vt, &wanted,
       &ask, iwork_.get(), info.at(), kOne);
  info.info("gesdd");
  size_ = work_size(wanted, least.numbers);
  work_ = workspace<T>(size_);
}

template <class T>
Index Svd<T>::operator()(T* a, T* s, T* u, T* vt) {
  Written info;
  const Index rows = ld(m_), ldvt = ld(job_ == 'A' ? n_ : std::min(m_, n_));
  call(routines<T>().gesdd, &job_, &m_, &n_, a, &rows, s, u, &rows, vt, &ldvt, work_.get(), &size_,
       iwork_.get(), info.at(), kOne);
  return info.info("gesdd");
}

#define ADJOINT_INSTANTIATE(T)                                                                   \
  template Index potrf<T>(char, Index, T*, Index);                                               \
  template Index getrf<T>(Index, T*, Index, Index*);                                             \
  template T gecon<T>(Index, const T*, Index, T);                                                \
  template void gemm<T>(char, char, Index, Index, Index, T, const T*, Index, const T*, Index, T, \
                        T*, Index);                                                              \
  template void trmm_right<T>(char, char, Index, Index, const T*, Index, T*, Index);             \
  template void trsm_right<T>(char, char, char, Index, Index, const T*, Index, T*, Index);       \
  template void trsv<T>(char, char, char, Index, const T*, Index, T*);                           \
  template class Inverse<T>;                                                                     \
  template class QrFactors<T>;                                                                   \
  template class Tridiagonal<T>;                                                                 \
  template class SymmetricEigen<T>;                                                              \
  template class Svd<T>;
ADJOINT_INSTANTIATE(float)
ADJOINT_INSTANTIATE(double)
#undef ADJOINT_INSTANTIATE

}  // namespace adjoint::kernels
