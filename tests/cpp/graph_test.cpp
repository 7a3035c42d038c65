// Nodes, counts and deferral: what is held and what is let go, donation, and threads that ask for
// the same deferred values.
#include <doctest/doctest.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "adjoint/ops.h"
#include "adjoint/transforms.h"
#include "graph/apply.h"
#include "graph/defer.h"
#include "graph/node.h"
#include "graph/thread_state.h"

using namespace adjoint;

namespace {

using Numbers = std::vector<double>;
using Extents = std::vector<std::int64_t>;

constexpr std::int64_t kLarge = 20'000;
static_assert(kLarge >= kDeferSize);

Tensor ramp(std::int64_t n) {
  Numbers v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(1e-4 * static_cast<double>(i));
  return Tensor::from_data(v, Extents{n});
}

bool pending(const Tensor& t) { return t.node()->is_pending(); }

/// Counts live nodes and bytes before and after a scope.
class NothingLeft {
 public:
  NothingLeft() : nodes_(live_node_count()), bytes_(storage_stats().live) {}
  ~NothingLeft() {
    CHECK(live_node_count() == nodes_);
    CHECK(storage_stats().live == bytes_);
  }

 private:
  std::int64_t nodes_;
  std::size_t bytes_;
};

/// Runs work(k) on `count` threads that start together.
template <class F>
void on_threads(int count, const F& work) {
  std::barrier start(count);
  std::vector<std::thread> threads;
  for (int k = 0; k < count; ++k)
    threads.emplace_back([&, k] {
      start.arrive_and_wait();
      work(k);
    });
  for (auto& t : threads) t.join();
}

}  // namespace

TEST_CASE("an order is a topological order") {
  const NothingLeft guard;
  Tensor x = Tensor(1.0).requires_grad_();
  const Tensor a = x * 2.0;
  const Tensor b = a + x;
  CHECK(a.node()->order > x.node()->order);
  CHECK(b.node()->order > a.node()->order);
}

TEST_CASE("a recorded addition saves nothing, a product saves its factors") {
  const NothingLeft guard;
  Tensor x = ramp(100).requires_grad_();
  Tensor y = x + 1.0;
  Node* first = y.node();
  const Tensor z = y + 1.0;
  retain_reference(first);
  y = Tensor();
  CHECK(first->state.load() == State::dropped);
  CHECK(first->stored.storage == nullptr);
  release_reference(first);

  Tensor p = x * 3.0;
  Node* factor = p.node();
  const Tensor q = p * p;
  p = Tensor();
  CHECK(factor->is_ready());
}

TEST_CASE("large elementwise work and trailing reductions are deferred") {
  const NothingLeft guard;
  const Tensor x = ramp(kLarge);
  const Tensor y = exp(x);
  const Tensor s = sum(y);
  CHECK(pending(y));
  CHECK(pending(s));
  CHECK_FALSE(pending(exp(ramp(10))));
  double expected = 0;
  for (std::int64_t i = 0; i < kLarge; ++i) expected += std::exp(1e-4 * static_cast<double>(i));
  CHECK(s.item() == doctest::Approx(expected).epsilon(1e-12));
  CHECK(y.node()->is_ready());  // a live handle is a demand
}

TEST_CASE("deferral gives the bits of immediate work") {
  const Tensor x = reshape(ramp(kLarge), Extents{100, 200});
  const auto work = [&] {
    const Tensor centred = x - mean(x, Extents{1}, true);
    return centred / sqrt(mean(square(centred), Extents{1}, true) + 1e-5);
  };
  const Numbers later = work().to_vector();
  thread_state().deferral = false;
  const Numbers now = work().to_vector();
  thread_state().deferral = true;
  CHECK(std::memcmp(later.data(), now.data(), later.size() * sizeof(double)) == 0);
}

TEST_CASE("a deferred value nobody asks for is let go") {
  const NothingLeft guard;
  const Tensor x = ramp(kLarge);
  {
    Tensor y = x;
    for (int i = 0; i < 5000; ++i) y = y + 1.0;
  }
  Tensor leaf = ramp(kLarge).requires_grad_();
  Tensor y = leaf;
  for (int i = 0; i < 5000; ++i) y = y * 1.5;
}

TEST_CASE("a dying operand gives its memory to the result, a live one keeps its value") {
  const NothingLeft guard;
  Tensor y = ramp(kLarge) * 2.0;
  materialize(y.node());
  const void* memory = y.node()->data();
  Tensor z = y + 1.0;
  y = Tensor();
  materialize(z.node());
  CHECK(z.node()->data() == memory);
  const Tensor w = z + 1.0;
  materialize(w.node());
  CHECK(w.node()->data() != memory);
  CHECK(z.to_vector()[0] == 1.0);
  CHECK(w.to_vector()[0] == 2.0);
}

TEST_CASE("a gradient does not outlive its leaf") {
  const NothingLeft guard;
  Tensor y;
  {
    Tensor x = ramp(100).requires_grad_();
    y = sum(x * x);
    y.backward({}, true);
    CHECK(x.grad().requires_grad());
  }
  y.backward();  // there is no leaf left, and that is no error
}

TEST_CASE("threads materialise one shared graph") {
  for (int round = 0; round < 20; ++round) {
    const NothingLeft guard;
    std::vector<Tensor> values{exp(ramp(kLarge))};
    for (int i = 0; i < 6; ++i) values.push_back(sin(values.back()) + values.front());
    values.push_back(sum(values.back()));
    std::vector<std::vector<double>> last(4);
    on_threads(4, [&](int k) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t at = k % 2 ? i : values.size() - 1 - i;
        materialize(values[at].node());
      }
      last[k] = values[6].to_vector();
    });
    double expected = 1.0;
    for (int i = 0; i < 6; ++i) expected = std::sin(expected) + 1.0;
    CHECK(last[0][0] == doctest::Approx(expected).epsilon(1e-13));
    for (int k = 1; k < 4; ++k) CHECK(last[k] == last[0]);
  }
}

TEST_CASE("an interrupt stops between groups, where any work may run, and loses nothing") {
  const NothingLeft guard;
  static int asked;
  asked = 0;
  g_host_lock.interrupt = [] {
    ++asked;
    CHECK(sum(exp(ramp(kLarge)) * 0.0).item() == 0.0);  // no lock is held
    raise(ErrorKind::runtime, "test", "interrupted");
  };
  on_threads(1, [](int) {  // a thread that has not asked in the last 50 ms
    const Tensor x = ramp(kLarge);
    const Tensor a = sum(x * 2.0);
    const Tensor b = sqrt(ramp(kLarge + 1) + 1.0);
    Node* both[] = {a.node(), b.node()};
    CHECK_THROWS_AS(materialize(both), Error);
    CHECK(pending(a) != pending(b));
    CHECK(a.item() == doctest::Approx(1e-4 * kLarge * (kLarge - 1)).epsilon(1e-12));
    CHECK(b.to_vector()[10'000] == doctest::Approx(std::sqrt(2.0)).epsilon(1e-15));
  });
  g_host_lock.interrupt = nullptr;
  CHECK(asked == 1);
}

TEST_CASE("what would run is told without running it, and then runs") {
  const NothingLeft guard;
  const Tensor x = ramp(kLarge);
  const Tensor e = exp(x);
  const Tensor y = (e * 2.0) / sum(e);
  std::vector<std::vector<std::string>> stored;
  Node* root[] = {y.node()};
  const auto tell = [&](const PlannedGroup& group) {
    stored.emplace_back();
    for (const PlannedGroup::Member& m : group.members)
      if (m.stored) stored.back().push_back(m.node->op->name);
  };
  foresee(root, tell);
  CHECK(pending(e));
  CHECK(pending(y));
  REQUIRE(stored.size() == 1);
  CHECK(stored[0] == std::vector<std::string>{"exp", "divide"});
  CHECK_THROWS_AS(foresee(root, [](const PlannedGroup&) { throw 1; }), int);
  materialize(y.node());
  CHECK(!pending(e));
  stored.clear();
  foresee(root, tell);
  CHECK(stored.empty());
}

TEST_CASE("threads build on and drop shared deferred values") {
  for (int round = 0; round < 20; ++round) {
    const NothingLeft guard;
    const Tensor base = exp(ramp(kLarge));
    std::atomic<int> right{0};
    on_threads(4, [&](int k) {
      Tensor mine = base + static_cast<double>(k);
      Tensor other = mine * 2.0;
      if (k % 2) other = Tensor();
      right += mine.to_vector()[0] == 1.0 + k;
    });
    CHECK(right == 4);
  }
}

TEST_CASE("threads sweep one shared graph") {
  const NothingLeft guard;
  Tensor x = ramp(kLarge).requires_grad_();
  const Tensor y = sum(sin(x) * x);
  std::vector<Numbers> slopes(4);
  on_threads(4, [&](int k) { slopes[k] = sweep({&y, 1}, {}, {&x, 1})[0].to_vector(); });
  for (int k = 0; k < 4; ++k) {
    const double at = 1e-4 * 12345;
    CHECK(slopes[k][12345] == doctest::Approx(std::cos(at) * at + std::sin(at)).epsilon(1e-12));
  }
}
