// The reflectors of a panel together are I - V S V' with a triangular S; see the header.
#include "kernels/reflectors.h"

#include <algorithm>
#include <cstddef>

namespace adjoint::kernels {

template <class T>
Reflectors<T>::Reflectors(Index m, Index count, Index n) : m_(m), count_(count), n_(n) {
  if (n <= 1) return;
  panel_.resize(static_cast<std::size_t>(m * kPanel));
  factor_.resize(static_cast<std::size_t>(kPanel * kPanel));
  products_ = workspace<T>(kPanel * std::max(n, kPanel));
  moved_ = workspace<T>(kPanel * n);
}

template <class T>
template <class F>
void Reflectors<T>::over_panels(bool ascending, F&& f) const {
  const Index panels = (count_ + kPanel - 1) / kPanel;
  for (Index step = 0; step < panels; ++step) {
    const Index first = (ascending ? step : panels - 1 - step) * kPanel;
    f(first, std::min(kPanel, count_ - first));
  }
}

template <class T>
void Reflectors<T>::take_panel(Index first, Index width, const T* v, Index ldv, const T* scales) {
  const Index rows = m_ - first;
  for (Index j = 0; j < width; ++j) {
    const T* const from = v + (first + j) * ldv + first;
    T* const to = panel_.data() + j * rows;
    std::fill_n(to, j, T(0));
    to[j] = 1;
    std::copy(from + j + 1, from + rows, to + j + 1);
  }
  // Column j of the triangle: -scale_j S (V' v_j) above the diagonal.
  T* const inner = products_.get();
  gemm<T>('T', 'N', width, width, rows, 1, panel_.data(), rows, panel_.data(), rows, 0, inner,
          width);
  std::ranges::fill(factor_, T(0));
  for (Index j = 0; j < width; ++j) {
    const T scale = scales[first + j];
    T* const column = factor_.data() + j * width;
    for (Index k = 0; k < j; ++k) {
      const T x = -scale * inner[j * width + k];
      const T* const before = factor_.data() + k * width;
      for (Index i = 0; i <= k; ++i) column[i] += x * before[i];
    }
    column[j] = scale;
  }
}

/// C = C P, but for the first rows, in which C is 0 where P is not the unit matrix.
template <class T>
void Reflectors<T>::multiply_by_panel(bool trans, Index first, Index width, Index skipped, T* c) {
  const Index columns = m_ - first, rows = n_ - skipped;
  T* const part = c + first * n_ + skipped;
  gemm<T>('N', 'N', rows, width, columns, 1, part, n_, panel_.data(), columns, 0, products_.get(),
          rows);
  gemm<T>('N', trans ? 'T' : 'N', rows, width, width, 1, products_.get(), rows, factor_.data(),
          width, 0, moved_.get(), rows);
  gemm<T>('N', 'T', rows, columns, width, -1, moved_.get(), rows, panel_.data(), columns, 1, part,
          n_);
}

/// To a vector: a panel would cost more to make than to use.
template <class T>
void Reflectors<T>::one_by_one(bool ascending, const T* v, Index ldv, const T* scales, T* c) const {
  for (Index step = 0; step < count_; ++step) {
    const Index j = ascending ? step : count_ - 1 - step;
    const T* const x = v + j * ldv;
    constexpr Index kLanes = 8;
    T sums[kLanes] = {c[j]};
    Index i = j + 1;
    for (; i + kLanes <= m_; i += kLanes)
      for (Index k = 0; k < kLanes; ++k) sums[k] += x[i + k] * c[i + k];
    for (; i < m_; ++i) sums[0] += x[i] * c[i];
    T total = 0;
    for (const T sum : sums) total += sum;
    total *= scales[j];
    c[j] -= total;
    for (i = j + 1; i < m_; ++i) c[i] -= total * x[i];
  }
}

template <class T>
void Reflectors<T>::apply(bool trans, const T* v, Index ldv, const T* scales, T* c) {
  if (n_ == 1) return one_by_one(!trans, v, ldv, scales, c);
  over_panels(!trans, [&](Index first, Index width) {
    take_panel(first, width, v, ldv, scales);
    multiply_by_panel(trans, first, width, 0, c);
  });
}

template <class T>
void Reflectors<T>::form(const T* v, Index ldv, const T* scales, T* q) {
  std::fill_n(q, n_ * m_, T(0));
  for (Index j = 0; j < n_; ++j) q[j * (n_ + 1)] = 1;
  if (n_ == 1) return one_by_one(false, v, ldv, scales, q);
  over_panels(false, [&](Index first, Index width) {
    take_panel(first, width, v, ldv, scales);
    multiply_by_panel(true, first, width, first, q);
  });
}

template class Reflectors<float>;
template class Reflectors<double>;

}  // namespace adjoint::kernels
