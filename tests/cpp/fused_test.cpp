// The tile executor against a naive interpreter: one element at a time, in the order of the
// program, on small integers held as floats, where every result is exact and so has one right
// value. Order matters only for sums of rounded numbers; those are compared with a literal
// transcription of the documented tree.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "adjoint/error.h"
#include "base/thread_pool.h"
#include "kernels/fused.h"
#include "kernels/reduce.h"

using namespace adjoint;
using namespace adjoint::kernels;
using Value = FusedProgram::Value;

namespace {

constexpr DType F32 = DType::float32;

/// Restores the thread count at the end of a case.
struct Threads {
  int before = num_threads();
  ~Threads() { set_num_threads(before); }
};

/// A random program over exact values, with its inputs and the values expected.
struct Case {
  struct Op {
    int kind;  // 0 add, 1 subtract, 2 maximum, 3 clip(a, b, b), 4 abs, 5 sum, 6 max
    Value src[3];
  };
  struct In {
    ValueClass cls;
    std::vector<float> data;
    InputBinding binding{};
    std::vector<std::int64_t> shape, strides;
  };
  std::int64_t rows, cols;
  std::vector<In> inputs;
  std::vector<Op> ops;
  std::vector<Value> outputs;
  std::vector<ValueClass> classes;
  FusedProgram program;

  float input_at(const In& in, std::int64_t r, std::int64_t c) const {
    const auto* base = static_cast<const char*>(in.binding.data);
    std::int64_t offset = r * in.binding.row_stride + c * in.binding.col_stride;
    if (in.binding.ndim > 0) {
      std::int64_t flat = r * cols + c;
      offset = 0;
      for (std::size_t d = in.shape.size(); d-- > 0; flat /= in.shape[d])
        offset += flat % in.shape[d] * in.strides[d];
    }
    float x;
    std::memcpy(&x, base + offset, sizeof x);
    return x;
  }

  /// Values of the whole program, element by element; a row value is repeated along its row.
  std::vector<std::vector<float>> expected() const {
    std::vector<std::vector<float>> v;
    const auto n = static_cast<std::size_t>(rows * cols);
    for (const In& in : inputs) {
      v.emplace_back(n);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c) v.back()[r * cols + c] = input_at(in, r, c);
    }
    for (const Op& op : ops) {
      std::vector<float> out(n);
      for (std::int64_t r = 0; r < rows; ++r) {
        long double sum = 0, top = -INFINITY;
        for (std::int64_t c = 0; c < cols; ++c) {
          const std::size_t i = r * cols + c;
          const float a = v[op.src[0]][i], b = v[op.src[1]][i], d = v[op.src[2]][i];
          sum += a;
          top = std::max<long double>(top, a);
          switch (op.kind) {
            case 0: out[i] = a + b; break;
            case 1: out[i] = a - b; break;
            case 2: out[i] = std::max(a, b); break;
            case 3: out[i] = std::min(std::max(a, b), d); break;
            case 4: out[i] = std::fabs(a); break;
            default: break;
          }
        }
        for (std::int64_t c = 0; c < cols && op.kind > 4; ++c)
          out[r * cols + c] = static_cast<float>(op.kind == 5 ? sum : top);
      }
      v.push_back(out);
    }
    return v;
  }
};

class CaseMaker {
 public:
  explicit CaseMaker(unsigned seed) : random_(seed) {}

  Case make(std::int64_t rows, std::int64_t cols, bool flat, int length) {
    Case c;
    c.rows = rows;
    c.cols = cols;
    const int inputs = 1 + pick(4);
    for (int i = 0; i < inputs; ++i) add_input(c, flat);
    // A full value to begin with, so that reductions have something to do.
    add_op(c, {0, {0, static_cast<Value>(pick(inputs)), 0}});
    int sums = 0;
    for (int i = 0; i < length; ++i) {
      Case::Op op{pick(flat ? 5 : 7), {any(c), any(c), any(c)}};
      // Sums of sums would leave the range where floats are exact.
      if (op.kind == 5 && (++sums > 1 || op.src[0] >= c.inputs.size())) op.kind = 6;
      if (op.kind == 0 && i % 3 == 0) op.kind = 1;
      add_op(c, op);
    }
    const int outputs = 1 + pick(3);
    for (int i = 0; i < outputs; ++i) add_output(c, any(c));
    add_output(c, static_cast<Value>(c.classes.size() - 1));
    c.program.finalize();
    return c;
  }

  int pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

 private:
  Value any(Case& c) {
    const auto n = static_cast<int>(c.classes.size());
    return static_cast<Value>(pick(2) ? n - 1 - pick(std::min(n, 3)) : pick(n));
  }

  void add_output(Case& c, Value v) {
    c.program.add_output(v);
    c.outputs.push_back(v);
  }

  void add_op(Case& c, Case::Op op) {
    static const char* names[] = {"add", "subtract", "maximum", "clip", "abs"};
    constexpr std::size_t arity[] = {2, 2, 2, 3, 1};
    Value v;
    if (op.kind < 5)
      v = c.program.add_tile(find_tile(names[op.kind], F32), {op.src, arity[op.kind]});
    else
      v = c.program.add_reduce(find_reduce(op.kind == 5 ? "sum" : "max", F32), op.src[0]);
    c.ops.push_back(op);
    c.classes.push_back(c.program.value_class(v));
  }

  void add_input(Case& c, bool flat) {
    constexpr ValueClass all[] = {ValueClass::full, ValueClass::scalar, ValueClass::row,
                                  ValueClass::col};
    const ValueClass cls = c.inputs.empty() ? ValueClass::full : all[pick(flat ? 2 : 4)];
    Case::In in{};
    in.cls = cls;
    const std::int64_t layout = pick(4);
    in.data.resize(static_cast<std::size_t>(2 * c.rows * c.cols + 2 * c.rows + 2 * c.cols + 8));
    for (float& x : in.data) x = static_cast<float>(pick(17) - 8);
    auto& b = in.binding;
    const float* base = in.data.data() + 1;
    switch (cls) {
      case ValueClass::full:
        if (layout == 0) {  // padded rows
          b.row_stride = (c.cols + 2) * 4, b.col_stride = 4;
        } else if (layout == 1) {  // transposed
          b.row_stride = 4, b.col_stride = c.rows * 4;
        } else if (layout == 2) {  // three dims when the extents allow, every second element
          const std::int64_t m = c.cols % 3 == 0 ? 3 : 1;
          in.shape = {c.rows, c.cols / m, m};
          in.strides = {c.cols * 8, 8, c.cols / m * 8};
          if (c.cols / m * m != c.cols) in.shape = {c.rows, c.cols}, in.strides = {c.cols * 8, 8};
        } else {
          b.row_stride = c.cols * 4, b.col_stride = 4;
        }
        break;
      case ValueClass::row: b.row_stride = layout % 2 ? 4 : 8; break;
      case ValueClass::col:
        b.col_stride = layout % 2 ? 4 : -4;
        if (layout % 2 == 0) base += std::max<std::int64_t>(c.cols - 1, 0);
        break;
      case ValueClass::scalar: break;
    }
    b.data = base;
    c.program.add_input(F32, cls);
    c.classes.push_back(cls);
    c.inputs.push_back(std::move(in));
    auto& kept = c.inputs.back();
    kept.binding.ndim = static_cast<int>(kept.shape.size());
    // Shape and strides are bound when the case has come to rest.
  }

  std::mt19937 random_;
};

std::vector<InputBinding> bindings_of(const Case& c) {
  std::vector<InputBinding> bindings;
  for (const auto& in : c.inputs) {
    bindings.push_back(in.binding);
    bindings.back().shape = in.shape.data();
    bindings.back().strides = in.strides.data();
  }
  return bindings;
}

std::vector<std::vector<float>> run_case(const Case& c) {
  std::vector<std::vector<float>> outputs;
  std::vector<void*> pointers;
  for (Value v : c.outputs) {
    const bool row = c.program.value_class(v) == ValueClass::row;
    outputs.emplace_back(static_cast<std::size_t>(row ? c.rows : c.rows * c.cols) + 1, -99.0f);
  }
  for (auto& out : outputs) pointers.push_back(out.data());
  c.program.run(bindings_of(c), pointers, c.rows, c.cols);
  return outputs;
}

bool matches(const Case& c, const std::vector<std::vector<float>>& got,
             const std::vector<std::vector<float>>& want) {
  for (std::size_t o = 0; o < got.size(); ++o) {
    const Value v = c.outputs[o];
    const bool row = c.program.value_class(v) == ValueClass::row;
    for (std::int64_t i = 0; i < (row ? c.rows : c.rows * c.cols); ++i)
      if (got[o][i] != want[v][row ? i * c.cols : i]) return false;
    if (got[o].back() != -99.0f) return false;
  }
  return true;
}

/// The documented order, written down recursively: blocks in order, then T(n) = T(m) + T(n - m).
template <class T>
T tree_sum(const std::vector<T>& partials, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return partials[begin];
  std::size_t m = 1;
  while (2 * m < end - begin) m *= 2;
  return tree_sum(partials, begin, begin + m) + tree_sum(partials, begin + m, end);
}

template <class T>
T row_sum(const ReduceKernel* sum, const T* row, std::int64_t n) {
  std::vector<T> partials;
  for (std::int64_t c = 0; c < n; c += kBlock) {
    partials.emplace_back();
    sum->block(row + c, std::min(kBlock, n - c), &partials.back());
  }
  return tree_sum(partials, 0, partials.size());
}

std::vector<float> noise(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(random);
  return x;
}

InputBinding contiguous(const void* data, std::int64_t cols, std::int64_t size = 4) {
  return {data, cols * size, size};
}

/// x - max, exp, sum, divide: three passes over a row.
FusedProgram softmax_program(std::int64_t tile) {
  FusedProgram p;
  const Value x = p.add_input(F32, ValueClass::full);
  const Value top = p.add_reduce(find_reduce("max", F32), x);
  const Value shifted = p.add_tile(find_tile("subtract", F32), std::vector<Value>{x, top});
  const Value square = p.add_tile(find_tile("square", F32), std::vector<Value>{shifted});
  const Value total = p.add_reduce(find_reduce("sum", F32), square);
  const Value y = p.add_tile(find_tile("divide", F32), std::vector<Value>{square, total});
  p.add_output(y);
  p.add_output(total);
  p.finalize();
  p.force_tile(tile);
  return p;
}

}  // namespace

TEST_CASE("fused: random programs agree with an interpreter by elements, at any tile") {
  CaseMaker maker(7);
  const std::int64_t extents[][2] = {{1, 1},  {1, 7},   {5, 1},    {3, 4},    {17, 33}, {40, 6},
                                     {2, 96}, {9, 300}, {3, 1026}, {1, 5000}, {70, 64}, {700, 3},
                                     {1, 64}, {2, 1},   {4, 15},   {4, 64},   {3, 32},  {5, 11}};
  for (int trial = 0; trial < 540; ++trial) {
    const auto* e = extents[trial % 18];
    Case c = maker.make(e[0], e[1], trial % 3 == 0, 2 + maker.pick(14));
    const auto want = c.expected();
    for (std::int64_t tile : {0, 1, 5, 64, 256, 512, 4096}) {
      INFO("trial ", trial, " tile ", tile, " rows ", e[0], " cols ", e[1]);
      c.program.force_tile(tile);
      CHECK(matches(c, run_case(c), want));
    }
  }
}

TEST_CASE("fused: random programs over large spaces agree at any number of threads") {
  Threads restore;
  CaseMaker maker(11);
  const std::int64_t extents[][2] = {{3, 60000}, {600, 300}, {40, 5000}, {60000, 3}};
  for (int trial = 0; trial < 16; ++trial) {
    const auto* e = extents[trial % 4];
    Case c = maker.make(e[0], e[1], trial >= 12, 6);
    const auto want = c.expected();
    for (int threads : {1, 2, 3, 8}) {
      INFO("trial ", trial, " threads ", threads);
      set_num_threads(threads);
      CHECK(matches(c, run_case(c), want));
    }
  }
}

TEST_CASE("fused: a row is summed in the documented tree whatever the tile and the threads") {
  Threads restore;
  const ReduceKernel* sum = find_reduce("sum", F32);
  for (std::int64_t cols : {1, 255, 256, 257, 1000, 2304, 70000, 1300000}) {
    const std::int64_t rows = cols > 1000000 ? 2 : 3;
    const std::vector<float> x = noise(rows * cols, 3);
    FusedProgram p;
    const Value in = p.add_input(F32, ValueClass::full);
    p.add_output(p.add_reduce(sum, in));
    p.finalize();
    for (int threads : {1, 2, 3, 8}) {
      for (std::int64_t tile : {0, 256, 768}) {
        set_num_threads(threads);
        p.force_tile(tile);
        std::vector<float> got(static_cast<std::size_t>(rows)), direct(got);
        void* out = got.data();
        const InputBinding b = contiguous(x.data(), cols);
        p.run({&b, 1}, {&out, 1}, rows, cols);
        reduce_rows(sum, x.data(), rows, cols, direct.data());
        for (std::int64_t r = 0; r < rows; ++r) {
          const float want = row_sum(sum, x.data() + r * cols, cols);
          CHECK(got[r] == want);
          CHECK(direct[r] == want);
        }
      }
    }
  }
}

TEST_CASE("fused: a softmax-like chain has the same bits at any tile and number of threads") {
  Threads restore;
  for (std::int64_t cols : {5, 100, 1000, 5000, 400000}) {
    const std::int64_t rows = cols > 100000 ? 2 : 9;
    const std::vector<float> x = noise(rows * cols, 5);
    std::vector<float> first, y(x.size()), total(static_cast<std::size_t>(rows));
    for (int threads : {1, 2, 3, 8}) {
      for (std::int64_t tile : {0, 256, 1024, 1 << 20}) {
        set_num_threads(threads);
        const FusedProgram p = softmax_program(tile);
        const InputBinding b = contiguous(x.data(), cols);
        void* outs[] = {y.data(), total.data()};
        p.run({&b, 1}, outs, rows, cols);
        if (first.empty()) first = y;
        CHECK(std::memcmp(first.data(), y.data(), y.size() * 4) == 0);
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* row = x.data() + r * cols;
      const long double top = *std::max_element(row, row + cols);
      long double sum = 0;
      for (std::int64_t c = 0; c < cols; ++c) sum += (row[c] - top) * (row[c] - top);
      CHECK(std::fabs(total[r] / sum - 1) < 1e-6L);
      for (std::int64_t c = 0; c < cols; c += 7) {
        const long double want = (row[c] - top) * (row[c] - top) / sum;
        CHECK(std::fabs(y[r * cols + c] - want) <= 1e-6L * want);
      }
    }
  }
}

TEST_CASE("fused: softmax against long double") {
  const TileKernel* exp = find_tile("exp", F32);
  REQUIRE(exp != nullptr);
  const std::int64_t rows = 6, cols = 777;
  const std::vector<float> x = noise(rows * cols, 8);
  std::vector<float> y(x.size());
  FusedProgram p;
  const Value in = p.add_input(F32, ValueClass::full);
  const Value top = p.add_reduce(find_reduce("max", F32), in);
  const Value shifted = p.add_tile(find_tile("subtract", F32), std::vector<Value>{in, top});
  const Value e = p.add_tile(exp, std::vector<Value>{shifted});
  const Value total = p.add_reduce(find_reduce("sum", F32), e);
  p.add_output(p.add_tile(find_tile("divide", F32), std::vector<Value>{e, total}));
  p.finalize();
  const InputBinding b = contiguous(x.data(), cols);
  void* out = y.data();
  p.run({&b, 1}, {&out, 1}, rows, cols);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x.data() + r * cols;
    const long double m = *std::max_element(row, row + cols);
    long double sum = 0;
    for (std::int64_t c = 0; c < cols; ++c) sum += std::exp(row[c] - m);
    for (std::int64_t c = 0; c < cols; ++c)
      CHECK(std::fabs(y[r * cols + c] / (std::exp(row[c] - m) / sum) - 1) < 2e-6L);
  }
}

TEST_CASE("fused: an output may take the memory of an input that is read later") {
  // a = x + y into x's memory, although x is read again after it: by the same tile, and past a
  // reduction.
  for (std::int64_t cols : {4, 300, 5000}) {
    for (std::int64_t tile : {0, 256}) {
      const std::int64_t rows = 3, n = rows * cols;
      std::vector<float> x(n), y(n), b(n), top(rows);
      for (std::int64_t i = 0; i < n; ++i) {
        x[i] = static_cast<float>(i % 13);
        y[i] = static_cast<float>(i % 7);
      }
      const std::vector<float> x0 = x;
      FusedProgram p;
      const Value vx = p.add_input(F32, ValueClass::full);
      const Value vy = p.add_input(F32, ValueClass::full);
      const Value va = p.add_tile(find_tile("add", F32), std::vector<Value>{vx, vy});
      const Value vb = p.add_tile(find_tile("subtract", F32), std::vector<Value>{vx, vy});
      const Value vt = p.add_reduce(find_reduce("max", F32), vb);
      const Value vc = p.add_tile(find_tile("add", F32), std::vector<Value>{vx, vt});
      p.add_output(va);
      p.add_output(vc);
      p.add_output(vt);
      p.finalize();
      p.force_tile(tile);
      const InputBinding in[] = {contiguous(x.data(), cols), contiguous(y.data(), cols)};
      void* outs[] = {x.data(), b.data(), top.data()};
      p.run(in, outs, rows, cols);
      for (std::int64_t r = 0; r < rows; ++r) {
        float want = -INFINITY;
        for (std::int64_t i = r * cols; i < (r + 1) * cols; ++i)
          want = std::max(want, x0[i] - y[i]);
        CHECK(top[r] == want);
        for (std::int64_t i = r * cols; i < (r + 1) * cols; ++i) {
          REQUIRE(x[i] == x0[i] + y[i]);
          REQUIRE(b[i] == x0[i] + want);
        }
      }
    }
  }
}

TEST_CASE("fused: flat programs protect a donated input, and swap two") {
  const std::int64_t n = 10000;
  std::vector<float> x(n), y(n);
  for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(i), y[i] = static_cast<float>(-i);
  FusedProgram p;
  const Value vx = p.add_input(F32, ValueClass::full);
  const Value vy = p.add_input(F32, ValueClass::full);
  p.add_output(vy);
  p.add_output(vx);
  p.finalize();
  const InputBinding in[] = {contiguous(x.data(), n), contiguous(y.data(), n)};
  void* outs[] = {x.data(), y.data()};
  p.run(in, outs, 1, n);
  for (std::int64_t i = 0; i < n; ++i) {
    REQUIRE(x[i] == static_cast<float>(-i));
    REQUIRE(y[i] == static_cast<float>(i));
  }
}

TEST_CASE("fused: empty spaces") {
  FusedProgram p;
  const Value x = p.add_input(F32, ValueClass::full);
  const Value one = p.add_input(F32, ValueClass::scalar);
  const Value total = p.add_reduce(find_reduce("sum", F32), x);
  p.add_output(p.add_tile(find_tile("add", F32), std::vector<Value>{total, one}));
  p.add_output(p.add_tile(find_tile("add", F32), std::vector<Value>{x, total}));
  p.finalize();
  const float half = 0.5f;
  std::vector<float> totals(4, -1.0f);
  const InputBinding in[] = {{nullptr, 0, 4}, {&half, 0, 0}};
  void* outs[] = {totals.data(), nullptr};
  p.run(in, outs, 4, 0);
  CHECK(totals == std::vector<float>(4, 0.5f));
  p.run(in, outs, 0, 4);
  p.run(in, outs, 0, 0);
  CHECK(totals == std::vector<float>(4, 0.5f));
}

TEST_CASE("fused: a long scalar program runs as written, with few registers") {
  // x <- x + 1, then x <- max(x, -x), over and over.
  FusedProgram p;
  const Value one = p.add_input(DType::float64, ValueClass::scalar);
  Value x = p.add_input(DType::float64, ValueClass::scalar);
  const int length = 200000;
  for (int i = 0; i < length; ++i)
    x = p.add_tile(find_tile("add", DType::float64), std::vector<Value>{x, one});
  p.add_output(x);
  p.add_output(one);
  p.finalize();
  const double unit = 1, start = 5;
  double end = 0, same = 0;
  const InputBinding in[] = {{&unit, 0, 0}, {&start, 0, 0}};
  void* outs[] = {&end, &same};
  p.run(in, outs, 1, 1);
  CHECK(end == length + 5.0);
  CHECK(same == 1.0);
  p.force_tile(64);
  end = 0;
  p.run(in, outs, 1, 1);
  CHECK(end == length + 5.0);
}

TEST_CASE("reduce: many short rows have the bits of one row at a time") {
  for (const char* name : {"sum", "prod", "max", "min"}) {
    for (DType dtype : {F32, DType::float64, DType::int32}) {
      const ReduceKernel* kernel = find_reduce(name, dtype);
      const std::size_t size = itemsize(dtype);
      for (std::int64_t cols = 1; cols <= 40; ++cols) {
        const std::int64_t rows = 131;
        std::vector<char> x(static_cast<std::size_t>(rows * cols) * size);
        const std::vector<float> values = noise(rows * cols, 6);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const float v = i % 5 ? values[i] : -0.0f;
          const double d = v;
          const std::int32_t k = static_cast<std::int32_t>(v * 100);
          const void* from = dtype == F32 ? static_cast<const void*>(&v)
                             : size == 8  ? static_cast<const void*>(&d)
                                          : &k;
          std::memcpy(x.data() + i * size, from, size);
        }
        if (dtype == F32) std::fill_n(reinterpret_cast<float*>(x.data()), cols, -0.0f);
        std::vector<char> got(rows * size), want(got);
        reduce_rows(kernel, x.data(), rows, cols, got.data());
        for (std::int64_t r = 0; r < rows; ++r)
          kernel->block(x.data() + r * cols * size, cols, want.data() + r * size);
        CHECK(got == want);
      }
    }
  }
}

TEST_CASE("reduce: columns meet in groups of 32 and then in the tree") {
  Threads restore;
  const ReduceKernel* sum = find_reduce("sum", F32);
  const std::int64_t shapes[][3] = {{1, 1, 5},     {2, 31, 3},  {1, 33, 7},      {3, 1000, 4},
                                    {2, 97, 5000}, {1, 700, 1}, {1, 4000, 1000}, {5, 0, 3}};
  for (const auto& s : shapes) {
    const std::int64_t outer = s[0], rows = s[1], cols = s[2];
    const std::vector<float> x = noise(outer * rows * cols, 4);
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      std::vector<float> got(static_cast<std::size_t>(outer * cols), -1.0f);
      reduce_columns(sum, x.data(), outer, rows, cols, got.data());
      bool equal = true;
      for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t c = 0; c < cols; ++c) {
          std::vector<float> groups;
          for (std::int64_t r = 0; r < rows; ++r) {
            const float v = x[(o * rows + r) * cols + c];
            if (r % kColumnGroup == 0)
              groups.push_back(v);
            else
              groups.back() += v;
          }
          equal &= got[o * cols + c] == (rows ? tree_sum(groups, 0, groups.size()) : 0.0f);
        }
      }
      CHECK(equal);
    }
  }
}

TEST_CASE("reduce: the index of the first extreme of every row") {
  const std::int64_t rows = 300, cols = 2000;
  std::vector<float> x(static_cast<std::size_t>(rows * cols), 1.0f);
  for (std::int64_t r = 0; r < rows; ++r) x[r * cols + (r * 37) % cols] = 2.0f;
  std::vector<std::int64_t> at(static_cast<std::size_t>(rows));
  argreduce_rows(find_argreduce("argmax", F32), x.data(), 4, rows, cols, at.data());
  for (std::int64_t r = 0; r < rows; ++r) CHECK(at[r] == (r * 37) % cols);
}

namespace {

/// x - sum(x) per row, its sums over rows and over columns.
FusedProgram both_ways_program(std::int64_t tile) {
  FusedProgram p;
  const Value x = p.add_input(F32, ValueClass::full);
  const Value total = p.add_reduce(find_reduce("sum", F32), x);
  const Value y = p.add_tile(find_tile("subtract", F32), std::vector<Value>{x, total});
  p.add_output(p.add_column_reduce(find_reduce("sum", F32), x));
  p.add_output(p.add_column_reduce(find_reduce("max", F32), y));
  p.add_output(p.add_reduce(find_reduce("max", F32), y));
  p.finalize();
  p.force_tile(tile);
  return p;
}

}  // namespace

TEST_CASE("fused: columns are reduced in the documented order whatever the tile and the threads") {
  Threads restore;
  const std::int64_t extents[][2] = {{1, 5},    {7, 3},    {31, 40},    {33, 1024}, {100, 300},
                                     {3, 5000}, {2000, 9}, {1300, 513}, {65, 2}};
  for (const auto& e : extents) {
    const std::int64_t rows = e[0], cols = e[1];
    const std::vector<float> x = noise(rows * cols, 11);
    std::vector<float> sums(static_cast<std::size_t>(cols)), tops(sums), row_tops(rows);
    const ReduceKernel* sum = find_reduce("sum", F32);
    for (std::int64_t c = 0; c < cols; ++c) {
      std::vector<float> groups;
      for (std::int64_t r = 0; r < rows; ++r) {
        const float v = x[r * cols + c];
        if (r % kColumnGroup == 0)
          groups.push_back(v);
        else
          groups.back() += v;
      }
      sums[c] = tree_sum(groups, 0, groups.size());
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const float total = row_sum(sum, x.data() + r * cols, cols);
      for (std::int64_t c = 0; c < cols; ++c) {
        const float y = x[r * cols + c] - total;
        tops[c] = r == 0 ? y : std::max(tops[c], y);
        row_tops[r] = c == 0 ? y : std::max(row_tops[r], y);
      }
    }
    for (const std::int64_t tile : {0, 256, 1024, 100000}) {
      for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        INFO("rows ", rows, " cols ", cols, " tile ", tile, " threads ", threads);
        const FusedProgram p = both_ways_program(tile);
        std::vector<float> got_sums(sums.size()), got_tops(tops.size()), got_rows(row_tops.size());
        const InputBinding in = contiguous(x.data(), cols);
        void* const outputs[] = {got_sums.data(), got_tops.data(), got_rows.data()};
        p.run({&in, 1}, outputs, rows, cols);
        CHECK(got_sums == sums);
        CHECK(got_tops == tops);
        CHECK(got_rows == row_tops);
      }
    }
  }
}

TEST_CASE("fused: the result of a column reduction cannot be read by the program") {
  FusedProgram p;
  const Value x = p.add_input(F32, ValueClass::full);
  const Value sums = p.add_column_reduce(find_reduce("sum", F32), x);
  CHECK_THROWS_AS(p.add_tile(find_tile("negative", F32), {&sums, 1}), Error);
}
