// Anomaly mode: while a scope is open on a thread, the first operation that makes a nan or an
// infinity out of finite values raises, and says where: forward, or in whose derivative.
#pragma once

#include <functional>
#include <string>

namespace adjoint {

struct AnomalyOptions {
  bool forward = true;   // look at the results of operations
  bool backward = true;  // look at the results of derivative rules, in both modes
  bool inf = true;       // infinities count, not only nans
  /// The place in the user's program that runs now, as in "train.cpp:12"; null when unknown. Asked
  /// for every recorded operation. Equal places are one string, which outlives the scope.
  std::function<const std::string*()> find_source = {};
  /// Told where 0 was multiplied with a derivative that is not finite: the product is defined as 0.
  std::function<void(const std::string& message, const std::string* place)> warn = {};
};

/// Inside a scope nothing is deferred, and every operation looks at every element it computes.
/// Programs made by `trace` are not looked into; functions made by `compile` call their function
/// itself. Scopes nest; the innermost one counts. Raises inside a function that is being traced.
class AnomalyScope {
 public:
  explicit AnomalyScope(AnomalyOptions options = {});
  ~AnomalyScope();
  AnomalyScope(const AnomalyScope&) = delete;
  AnomalyScope& operator=(const AnomalyScope&) = delete;
};

/// The two ends of a scope, for languages that have their own.
void enter_anomaly_mode(AnomalyOptions options);
/// Raises when no scope is open on this thread.
void leave_anomaly_mode();

}  // namespace adjoint
