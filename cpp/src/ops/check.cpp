// An operation that gives what it is given, or raises: a check of values is a part of the graph, so
// that it is made wherever the values become known.
#include "ops/check.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "ops/structural.h"

namespace adjoint {

namespace {

Family check_family;

struct Complaint final : Payload {
  Complaint(ErrorKind error, const char* function, std::string text)
      : kind(error), op(function), wrong(std::move(text)) {}
  ErrorKind kind;
  std::string op, wrong;
};

template <class T>
std::string written(T x) {  // a floating number in the fewest digits that give it back
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(x)) return "nan";  // whose sign says nothing
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

// Inputs are x and bools of its shape, or one for all.
struct CheckAttrs {
  IntrusivePtr<const Complaint> complaint;
  bool whole;  // one bool

  static constexpr auto fields() {
    return std::tuple(field("complaint", &CheckAttrs::complaint),
                      field("whole", &CheckAttrs::whole));
  }
};

void run_check(const Op&, Node* out, std::span<Node* const> in, const Attrs* attrs, std::uint32_t) {
  const Tensor holds = contiguous(in[1]);
  const auto* const truth = static_cast<const std::uint8_t*>(holds.node()->data());
  const auto count = static_cast<std::size_t>(holds.size());
  const auto at = static_cast<std::size_t>(std::find(truth, truth + count, 0) - truth);
  share_value(out, in[0], in[0]->layout);
  if (at == count) return;
  const auto& [complaint, whole] = attrs_as<CheckAttrs>(attrs);
  std::string shown;
  if (!whole) {
    const Tensor x = contiguous(in[0]);
    with_type(x.dtype(), [&]<class T>(T) {
      shown = ", got " + written(static_cast<const T*>(x.node()->data())[at]);
    });
  }
  raise(complaint->kind, complaint->op, complaint->wrong + shown);
}

Op& check_record =
    check_family.define({.name = "check",
                         .kind = OpKind::structural,
                         .arity = 2,
                         .dtypes = DTypeRule::custom,
                         .attrs = attrs_type<CheckAttrs>(),
                         .transpose = [](const RuleArgs&, int, const Tensor& ct) { return ct; },
                         .constant_inputs = 2,
                         .batch =
                             [](const BatchArgs& args) {
                               const Tensor x = mapped_input(args, 0);
                               const Tensor holds = attrs_as<CheckAttrs>(args.attrs).whole
                                                        ? args.inputs[1]
                                                        : mapped_input(args, 1);
                               return apply(args.op, {&x, &holds}, same_attrs(args.attrs));
                             },
                         .infer = infer_same,
                         .run = run_check,
                         .internal = true,
                         .fallible = true});

Tensor with_check(const Tensor& x, const Tensor& holds, const Complaint* complaint, bool whole) {
  return apply(check_record, {&x, &holds},
               make_attrs(CheckAttrs{IntrusivePtr<const Complaint>(complaint), whole}));
}

}  // namespace

Tensor checked(const Tensor& x, const Tensor& holds, const char* op, std::string wrong,
               ErrorKind kind) {
  return with_check(x, holds, new Complaint(kind, op, std::move(wrong)), false);
}

Tensor checked_whole(const Tensor& x, const Tensor& holds, const char* op, std::string wrong) {
  return with_check(x, holds, new Complaint(ErrorKind::value, op, std::move(wrong)), true);
}

Tensor checked_numbers(const Tensor& x, std::int64_t count, const char* op, std::string wrong,
                       ErrorKind kind) {
  const Tensor wide = in_int64(x);
  const Tensor inside =
      logical_and(greater_equal(wide, Tensor::scalar(std::int64_t{0}, DType::int64)),
                  less(wide, Tensor::scalar(count, DType::int64)));
  return astype(checked(x, inside, op, std::move(wrong), kind), DType::int64);
}

void register_check_ops() { check_family.register_all(); }

}  // namespace adjoint
