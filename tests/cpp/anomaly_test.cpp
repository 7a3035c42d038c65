// Anomaly mode through the C++ interface: what is told, where, and to whom.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "adjoint/anomaly.h"
#include "adjoint/compile.h"
#include "adjoint/ops.h"
#include "adjoint/transforms.h"

using namespace adjoint;

namespace {

/// The first two lines of what running it raises.
template <class F>
std::string anomaly_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::anomaly);
    const std::string text = e.what();
    return text.substr(0, text.find('\n', text.find('\n') + 1));
  }
  return "";
}

/// A program whose lines are told by hand.
struct Lines {
  std::string first = "program.cpp:1", second = "program.cpp:2";
  const std::string* now = &first;
  std::vector<std::string> warnings = {};

  AnomalyOptions options() {
    AnomalyOptions out;
    out.find_source = [this] { return now; };
    out.warn = [this](const std::string& message, const std::string* place) {
      warnings.push_back(*place + " " + message.substr(0, message.find('\n')));
    };
    return out;
  }
};

}  // namespace

TEST_CASE("the first operation that gives what is not finite raises, at its line") {
  Lines lines;
  const AnomalyScope scope(lines.options());
  CHECK(anomaly_of([&] {
          const Tensor y = log(Tensor(0.0));
          lines.now = &lines.second;
          exp(y);
        }) == "[log] gave 1 inf in 1 value from finite inputs\n  forward, at program.cpp:1");
  CHECK(lines.now == &lines.first);
}

TEST_CASE("a derivative is reported at the line of the operation") {
  Lines lines;
  const AnomalyScope scope(lines.options());
  CHECK(anomaly_of([&] {
          Tensor x = Tensor(0.0).requires_grad_();
          const Tensor y = sqrt(x);
          lines.now = &lines.second;
          y.backward();
        }) ==
        "[sqrt] its derivative gave 1 inf in 1 value\n  backward, in the derivative of `sqrt`, "
        "applied at program.cpp:1");
}

TEST_CASE("zero times what is not finite is a warning") {
  Lines lines;
  AnomalyOptions options = lines.options();
  options.forward = false;
  const AnomalyScope scope(options);
  const Function f = [&](const Tensor& x) {
    return where(greater(x, Tensor(0.0)), log(x), Tensor(0.0));
  };
  CHECK(grad(f)(0.0).item() == 0);
  REQUIRE(lines.warnings.size() == 1);
  CHECK(lines.warnings[0] ==
        "program.cpp:1 [mul0] 0 met a factor that is not finite in 1 element, and the product was "
        "taken as 0");
}

TEST_CASE("scopes nest, and compiled functions run themselves inside") {
  int calls = 0;
  const ListFunction f = compile([&](std::span<const Tensor> in) {
    ++calls;
    return std::vector<Tensor>{log(in[0])};
  });
  const std::vector<Tensor> zero{Tensor(0.0)};
  f(zero);
  f(zero);
  CHECK(calls == 1);
  {
    const AnomalyScope scope;
    CHECK(anomaly_of([&] { f(zero); }).starts_with("[log] gave 1 inf"));
    CHECK(calls == 2);
    AnomalyOptions none;
    none.forward = none.backward = false;
    const AnomalyScope inner(none);
    CHECK(anomaly_of([&] { f(zero); }) == "");
  }
  CHECK(anomaly_of([&] { f(zero); }) == "");
  CHECK_THROWS_WITH_AS(leave_anomaly_mode(), doctest::Contains("left more often"), Error);
}

TEST_CASE("there is nothing to look at while a function is traced") {
  const Tensor x = 1.0;
  const ListFunction f = [](std::span<const Tensor> in) {
    const AnomalyScope scope;
    return std::vector<Tensor>{log(in[0])};
  };
  CHECK_THROWS_WITH_AS(trace(f, {&x, 1}), doctest::Contains("around its call"), Error);
}
