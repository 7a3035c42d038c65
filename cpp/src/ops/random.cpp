// Draws from a counter-based generator. The state is a tensor of two uint64 words, key and
// counter; a draw reads it and changes nothing, random_advance steps over the blocks a draw of
// `n` elements uses. Every element is a function of the state and its own position, so a draw is
// the same for any number of threads.
#include "ops/random.h"

#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/philox.h"
#include "ops/structural.h"

namespace adjoint {

namespace {

Family random_family;

constexpr std::int64_t kChunkBlocks = 256;  // blocks drawn at a time, in cache
constexpr std::int64_t kGrainChunks = 64;   // chunks a thread takes at a time
constexpr std::int64_t kParallelBlocks = 1 << 16;

struct Stream {
  std::uint64_t key, counter;

  explicit Stream(Node* state) {
    const Tensor dense = contiguous(state);
    const auto* words = static_cast<const std::uint64_t*>(dense.node()->data());
    key = words[0];
    counter = words[1];
  }
};

void require_state(const char* op, const Node* state) {
  if (state->dtype != DType::uint64 || state->layout.ndim() != 1 || state->layout.size() != 2)
    raise(ErrorKind::value, op,
          "the state must be a uint64 tensor of shape (2,), not " +
              std::string(name(state->dtype)) + " of shape " + to_string(state->layout.shape()));
}

/// Draws the words that `n` elements at `per_block` a block need, a chunk at a time, and calls
/// body(words, first element, number of elements).
template <class F>
void for_words(const Stream& stream, std::int64_t n, std::int64_t per_block, const F& body) {
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  const std::int64_t chunks = (blocks + kChunkBlocks - 1) / kChunkBlocks;
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    alignas(64) std::uint32_t words[4 * kChunkBlocks];
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t first = c * kChunkBlocks;
      const std::int64_t count = std::min(kChunkBlocks, blocks - first);
      kernels::philox_fill(stream.key, stream.counter + static_cast<std::uint64_t>(first), count,
                           words);
      body(words, first * per_block, std::min(count * per_block, n - first * per_block));
    }
  };
  std::optional<WithoutHostLock> unlocked;
  if (blocks >= kParallelBlocks) unlocked.emplace();
  if (blocks < kParallelBlocks) return run(0, chunks);
  parallel_for(chunks, kGrainChunks, run);
}

std::uint64_t word64(const std::uint32_t* words, std::int64_t i) {
  return std::uint64_t{words[2 * i + 1]} << 32 | words[2 * i];
}

// --------------------------------------------------------------------------------------- draws

ResultList infer_floating(const Op& op, std::span<Node* const> in, const Attrs* attrs) {
  require_state(op.name, in[0]);
  const auto& [shape, dtype] = attrs_as<ArrayAttrs>(attrs);
  if (!is_floating(dtype))
    raise(ErrorKind::type, op.name, "dtype must be floating, not " + std::string(name(dtype)));
  return {dtype, shape};
}

// As many random bits as the significand holds, so every value is equally likely and 1 is none.
void run_uniform(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  allocate_value(out, "random_uniform");
  const Stream stream(in[0]);
  const std::int64_t n = out->layout.size();
  if (out->dtype == DType::float64) {
    auto* to = static_cast<double*>(out->data());
    for_words(stream, n, 2, [to](const std::uint32_t* w, std::int64_t first, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i)
        to[first + i] =
            static_cast<double>(static_cast<std::int64_t>(word64(w, i) >> 11)) * 0x1p-53;
    });
  } else {
    auto* to = static_cast<float*>(out->data());
    for_words(stream, n, 4, [to](const std::uint32_t* w, std::int64_t first, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i)
        to[first + i] = static_cast<float>(static_cast<std::int32_t>(w[i] >> 8)) * 0x1p-24f;
    });
  }
}

struct NormalKernels {
  kernels::TileFn log, sqrt, sin, cos;
  explicit NormalKernels(DType dtype)
      : log(kernels::find_tile("log", dtype)->vv),
        sqrt(kernels::find_tile("sqrt", dtype)->vv),
        sin(kernels::find_tile("sin", dtype)->vv),
        cos(kernels::find_tile("cos", dtype)->vv) {}
};

const NormalKernels& normal_kernels(DType dtype) {
  static const NormalKernels single(DType::float32);
  static const NormalKernels full(DType::float64);
  return dtype == DType::float32 ? single : full;
}

/// (0, 1], with as many bits near 0 as the word has: there the tail of the normal lies.
double open_unit(const std::uint32_t* words, std::int64_t i, double) {
  return (static_cast<double>(static_cast<std::int64_t>(word64(words, i) >> 11)) + 1.0) * 0x1p-53;
}
float open_unit(const std::uint32_t* words, std::int64_t i, float) {
  return static_cast<float>((static_cast<double>(words[i]) + 0.5) * 0x1p-32);
}

// Box and Muller: sqrt(-2 log u) (cos 2 pi v, sin 2 pi v). Pairs of words or word pairs (u, v)
// follow each other in the stream, and so do their two results.
template <class T>
void draw_normal(const Stream& stream, T* out, std::int64_t n) {
  constexpr std::int64_t per_block = sizeof(T) == 8 ? 2 : 4;
  static constexpr std::int64_t most = kChunkBlocks * per_block / 2;
  const NormalKernels& k = normal_kernels(sizeof(T) == 8 ? DType::float64 : DType::float32);
  for_words(stream, n, per_block,
            [&k, out](const std::uint32_t* w, std::int64_t first, std::int64_t count) {
              alignas(64) T radius[most];
              alignas(64) T angle[most];
              alignas(64) T sine[most];
              const std::int64_t pairs = (count + 1) / 2;
              for (std::int64_t i = 0; i < pairs; ++i) {
                radius[i] = open_unit(w, 2 * i, T{});
                angle[i] = open_unit(w, 2 * i + 1, T{}) * static_cast<T>(2 * std::numbers::pi);
              }
              const void* in = radius;
              k.log(&in, radius, pairs);
              for (std::int64_t i = 0; i < pairs; ++i) radius[i] *= T(-2);
              k.sqrt(&in, radius, pairs);
              in = angle;
              k.sin(&in, sine, pairs);
              k.cos(&in, angle, pairs);
              for (std::int64_t i = 0; i < pairs; ++i) {
                out[first + 2 * i] = radius[i] * angle[i];
                if (2 * i + 1 < count) out[first + 2 * i + 1] = radius[i] * sine[i];
              }
            });
}

void run_normal(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  allocate_value(out, "random_normal");
  const Stream stream(in[0]);
  const std::int64_t n = out->layout.size();
  if (out->dtype == DType::float64) {
    draw_normal(stream, static_cast<double*>(out->data()), n);
  } else {
    draw_normal(stream, static_cast<float*>(out->data()), n);
  }
}

struct IntegersAttrs {
  Dims shape;
  std::int64_t low, high;

  static constexpr auto fields() {
    return std::tuple(field("shape", &IntegersAttrs::shape), field("low", &IntegersAttrs::low),
                      field("high", &IntegersAttrs::high));
  }
};

ResultList infer_integers(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  require_state("random_integers", in[0]);
  const auto& [shape, low, high] = attrs_as<IntegersAttrs>(attrs);
  if (low >= high)
    raise(ErrorKind::value, "random_integers",
          "needs low < high, got " + std::to_string(low) + " and " + std::to_string(high));
  return {DType::int64, shape};
}

// The high word of a 64 by 64 bit product: a value is off its fair share by at most 2^-64 times
// the width of the interval.
void run_integers(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                  std::uint32_t) {
  allocate_value(out, "random_integers");
  const auto& bounds = attrs_as<IntegersAttrs>(attrs);
  const auto low = static_cast<std::uint64_t>(bounds.low);
  const std::uint64_t width = static_cast<std::uint64_t>(bounds.high) - low;
  auto* to = static_cast<std::int64_t*>(out->data());
  __extension__ using Wide = unsigned __int128;
  for_words(Stream(in[0]), out->layout.size(), 2,
            [=](const std::uint32_t* w, std::int64_t first, std::int64_t count) {
              for (std::int64_t i = 0; i < count; ++i)
                to[first + i] = static_cast<std::int64_t>(
                    low + static_cast<std::uint64_t>(Wide{word64(w, i)} * width >> 64));
            });
}

ResultList infer_bits(const Op&, std::span<Node* const> in, const Attrs* attrs) {
  require_state("random_bits", in[0]);
  return {DType::uint64, attrs_as<ShapeAttrs>(attrs).shape};
}

void run_bits(const Op&, Node* out, std::span<Node* const> in, const Attrs*, std::uint32_t) {
  allocate_value(out, "random_bits");
  auto* to = static_cast<std::uint64_t*>(out->data());
  for_words(Stream(in[0]), out->layout.size(), 2,
            [to](const std::uint32_t* w, std::int64_t first, std::int64_t count) {
              for (std::int64_t i = 0; i < count; ++i) to[first + i] = word64(w, i);
            });
}

struct AdvanceAttrs {
  std::int64_t count;  // elements drawn

  static constexpr auto fields() { return std::tuple(field("count", &AdvanceAttrs::count)); }
};

ResultList infer_advance(const Op&, std::span<Node* const> in, const Attrs*) {
  require_state("random_advance", in[0]);
  return {DType::uint64, Dims{2}};
}

void run_advance(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs,
                 std::uint32_t) {
  allocate_value(out, "random_advance");
  const Stream stream(in[0]);
  auto* words = static_cast<std::uint64_t*>(out->data());
  words[0] = stream.key;
  words[1] =
      stream.counter + static_cast<std::uint64_t>(attrs_as<AdvanceAttrs>(attrs).count / 2 + 1);
}

/// A state per element of the batch: each gives the draw it would give alone.
Tensor batch_states(const BatchArgs& args) {
  const AttrsPtr attrs = same_attrs(args.attrs);
  if (args.size == 0) {
    Node* one[] = {zeros_view(Dims{2}, DType::uint64).detach_node()};
    const Tensor held = Tensor::adopt(one[0]);
    const ResultSpec spec = args.op.infer(args.op, {one, 1}, args.attrs).only();
    return zeros_view(prefixed(0, spec.shape), spec.dtype);
  }
  std::vector<Tensor> parts;
  for (std::int64_t i = 0; i < args.size; ++i) {
    const Tensor one = slice(args.inputs[0], Dims{i, 0}, Dims{1, 2}, Dims{1, 1});
    const Tensor state = reshape(one, Dims{2});
    parts.push_back(apply(args.op, {&state}, attrs));
  }
  return stack(parts, 0);
}

Op& define_draw(const char* name, const char* signature, const char* doc, const AttrsType* attrs,
                decltype(Op::infer) infer, decltype(Op::run) run) {
  return random_family.define({.name = name,
                               .signature = signature,
                               .doc = doc,
                               .kind = OpKind::structural,
                               .arity = 1,
                               .dtypes = DTypeRule::custom,
                               .attrs = attrs,
                               .batch = batch_states,
                               .infer = infer,
                               .run = run,
                               .internal = true,
                               .draws = true});
}

Op& uniform_record = define_draw("random_uniform", "(state, shape, dtype, /)", "Uniform on [0, 1).",
                                 attrs_type<ArrayAttrs>(), infer_floating, run_uniform);
Op& normal_record = define_draw("random_normal", "(state, shape, dtype, /)", "Standard normal.",
                                attrs_type<ArrayAttrs>(), infer_floating, run_normal);
Op& integers_record = define_draw("random_integers", "(state, shape, low, high, /)",
                                  "Integers in [low, high), int64.", attrs_type<IntegersAttrs>(),
                                  infer_integers, run_integers);
Op& bits_record = define_draw("random_bits", "(state, shape, /)", "Words of 64 random bits.",
                              attrs_type<ShapeAttrs>(), infer_bits, run_bits);
Op& advance_record =
    define_draw("random_advance", "(state, n, /)", "The state after a draw of n elements.",
                attrs_type<AdvanceAttrs>(), infer_advance, run_advance);

}  // namespace

Tensor random_uniform(const Tensor& state, Tensor::Shape shape, DType dtype) {
  return apply(uniform_record, {&state}, make_attrs(ArrayAttrs{Dims(shape), dtype}));
}
Tensor random_normal(const Tensor& state, Tensor::Shape shape, DType dtype) {
  return apply(normal_record, {&state}, make_attrs(ArrayAttrs{Dims(shape), dtype}));
}
Tensor random_integers(const Tensor& state, Tensor::Shape shape, std::int64_t low,
                       std::int64_t high) {
  return apply(integers_record, {&state}, make_attrs(IntegersAttrs{Dims(shape), low, high}));
}
Tensor random_bits(const Tensor& state, Tensor::Shape shape) {
  return apply(bits_record, {&state}, make_attrs(ShapeAttrs{Dims(shape)}));
}
Tensor random_advance(const Tensor& state, std::int64_t n) {
  return apply(advance_record, {&state}, make_attrs(AdvanceAttrs{n}));
}

void register_random_ops() { random_family.register_all(); }

}  // namespace adjoint
