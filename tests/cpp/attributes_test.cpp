// Attributes: what comes from a list of fields, and what is refused.
#include "graph/attributes.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <tuple>

#include "adjoint/ops.h"
#include "errors_support.h"
#include "graph/apply.h"
#include "graph/holdings.h"
#include "graph/op.h"
#include "ops/structural.h"

using namespace adjoint;

namespace {

struct Note final : Payload {
  explicit Note(void* to) : object(to) {}
  void list(Holdings& out) const override { out.add_object(object); }
  void* object;
};

struct EveryAttrs {
  std::int64_t count = 0;
  double scale = 0;
  bool open = false;
  DType dtype = DType::float64;
  WideInt wide = 0;
  Dims axes = {};
  IntrusivePtr<const Note> note = {};

  static constexpr auto fields() {
    return std::tuple(field("count", &EveryAttrs::count), field("scale", &EveryAttrs::scale),
                      field("open", &EveryAttrs::open), field("dtype", &EveryAttrs::dtype),
                      field("wide", &EveryAttrs::wide), field("axes", &EveryAttrs::axes),
                      field("note", &EveryAttrs::note));
  }
};

/// The same fields under another name.
struct OtherAxes {
  Dims axes;

  static constexpr auto fields() { return std::tuple(field("axes", &OtherAxes::axes)); }
};
struct SomeAxes {
  Dims axes;

  static constexpr auto fields() { return std::tuple(field("axes", &SomeAxes::axes)); }
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// A list that leaves a member out, or has one twice, is refused.
static_assert(field_list::are_complete<EveryAttrs>(EveryAttrs::fields()));
static_assert(!field_list::are_complete<ReduceAttrs>(std::tuple(field("axes",
                                                                      &ReduceAttrs::axes))));
static_assert(!field_list::are_complete<SomeAxes>(std::tuple(field("axes", &SomeAxes::axes),
                                                             field("again", &SomeAxes::axes))));

}  // namespace

TEST_CASE("attributes are equal where every field is") {
  const IntrusivePtr<const Note> note(new Note(nullptr));
  const EveryAttrs base{3, 0.5, true, DType::int8, WideInt{1} << 90, {1, 2}, note};
  const AttrsPtr a = make_attrs(base);
  CHECK(*a == *make_attrs(base));
  CHECK(a->hash() == make_attrs(base)->hash());
  const auto differs = [&](auto change) {
    EveryAttrs other = base;
    change(other);
    const AttrsPtr b = make_attrs(other);
    CHECK(!(*a == *b));
    CHECK(a->hash() != b->hash());
  };
  differs([](EveryAttrs& x) { x.count = 4; });
  differs([](EveryAttrs& x) { x.scale = 0.25; });
  differs([](EveryAttrs& x) { x.open = false; });
  differs([](EveryAttrs& x) { x.dtype = DType::int16; });
  differs([](EveryAttrs& x) { x.wide = WideInt{1} << 91; });
  differs([](EveryAttrs& x) { x.axes = {2, 1}; });
  differs([](EveryAttrs& x) { x.axes = {1}; });
  differs([](EveryAttrs& x) { x.note = IntrusivePtr<const Note>(new Note(nullptr)); });
}

TEST_CASE("doubles count by their bits, and types by what they are") {
  const auto of = [](double scale) { return make_attrs(EveryAttrs{.scale = scale}); };
  CHECK(!(*of(0.0) == *of(-0.0)));
  CHECK(of(0.0)->hash() != of(-0.0)->hash());
  CHECK(*of(kNan) == *of(kNan));
  CHECK(of(kNan)->hash() == of(kNan)->hash());
  CHECK(!(*make_attrs(SomeAxes{{1}}) == *make_attrs(OtherAxes{{1}})));
}

TEST_CASE("attributes as text") {
  CHECK(to_string(*make_attrs(ReduceAttrs{{0, 2}, true})) == " axes=[0, 2] keepdims=true");
  CHECK(to_string(*make_attrs(ReduceAttrs{{}, false})) == " axes=[]");
  const EveryAttrs all{-7,
                       0.1,
                       false,
                       DType::float32,
                       -(WideInt{1} << 64),
                       {-1},
                       IntrusivePtr<const Note>(new Note(nullptr))};
  CHECK(to_string(*make_attrs(all)) ==
        " count=-7 scale=0.1 dtype=float32 wide=-18446744073709551616 axes=[-1]");
}

TEST_CASE("payloads are listed once every reference has been met") {
  int object = 0;
  const AttrsPtr none = make_attrs(SomeAxes{{1}});
  const AttrsPtr attrs =
      make_attrs(EveryAttrs{.note = IntrusivePtr<const Note>(new Note(&object))});
  CHECK(!none->has_payload());
  CHECK(attrs->has_payload());
  const AttrsPtr again = attrs;
  Holdings found;
  found.add(none);
  found.add(attrs);
  CHECK(found.objects().empty());
  found.add(again);
  REQUIRE(found.objects().size() == 1);
  CHECK(found.objects()[0] == &object);
}

TEST_CASE("attributes of a wrong type are an error at once") {
  const AttrsPtr axes = make_attrs(SomeAxes{{1}});
  check_error([&] { attrs_as<ReduceAttrs>(axes.get()); }, ErrorKind::runtime,
              {"(axes)", "(axes, keepdims)"});
  check_error([] { attrs_as<SomeAxes>(nullptr); }, ErrorKind::runtime, {"()", "(axes)"});
  const Tensor x = ones(Dims{2, 3});
  const auto given = [&](const char* op, const AttrsPtr& attrs) {
    check_error([&] { apply(find_op(op), {&x}, attrs); }, ErrorKind::runtime, {op, "were given"});
  };
  given("sum", axes);
  given("sum", nullptr);
  given("astype", axes);
  given("exp", axes);
  Node* const in[] = {x.node()};
  check_error([&] { apply_all(find_op("qr"), in, axes); }, ErrorKind::runtime,
              {"[qr]", "(complete)"});
}

TEST_CASE("a record whose attributes its kind does not have is refused") {
  Op bad{.name = "test_bad_reduction",
         .kind = OpKind::reduction,
         .arity = 1,
         .attrs = attrs_type<SomeAxes>()};
  all_ops();
  check_error([&] { register_op(bad); }, ErrorKind::value,
              {"[test_bad_reduction]", "(axes, keepdims)"});
}
