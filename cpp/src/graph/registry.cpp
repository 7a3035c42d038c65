// The tables of all records: operations, and functions.
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>

#include "adjoint/error.h"
#include "graph/function.h"
#include "graph/op.h"

namespace adjoint {

namespace {

struct Registry {
  std::vector<const Op*> ops;
  std::unordered_map<std::string_view, const Op*> by_name;
  std::vector<Op*> waiting;  // registered before the built-in ones
  std::vector<const FunctionRecord*> functions;
  std::unordered_map<std::string_view, const FunctionRecord*> functions_by_name;
  bool built = false;
};

Registry& table() {
  static Registry* registry = new Registry;  // never destroyed: handles may outlive statics
  return *registry;
}

/// The attributes that kind and flags of a record ask for, or those it has.
const AttrsType* attributes_asked_of(const Op& op) {
  if (op.kind == OpKind::reduction || op.reduces) return attrs_type<ReduceAttrs>();
  if (op.casts) return attrs_type<CastAttrs>();
  if (op.part) return attrs_type<PartAttrs>();
  return op.no_forward ? attrs_type<KeptAttrs>() : op.attrs;
}

/// A record that is refused ends the program, as where statics are initialised.
void register_waiting() noexcept {
  for (Op* op : table().waiting) register_op(*op);
}

void build_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    register_builtin_ops();
    register_transform_ops();
    table().built = true;
    register_waiting();
  });
}

}  // namespace

void register_op(Op& op) {
  Registry& registry = table();
  if (!registry.by_name.emplace(op.name, &op).second)
    raise(ErrorKind::value, op.name, "an operation of this name is already registered");
  if ((op.partial != nullptr) + (op.transpose != nullptr) + (op.vjp != nullptr) +
          (op.pull != nullptr) >
      1)
    raise(ErrorKind::value, op.name, "an operation carries one kind of derivative rule");
  if (op.attrs != attributes_asked_of(op))
    raise(ErrorKind::value, op.name,
          "its attributes are to be " + attributes_asked_of(op)->names() +
              ", as its kind and flags say");
  op.index = static_cast<std::uint16_t>(registry.ops.size());
  const char* kernel = op.kernel ? op.kernel : op.name;
  for (int t = 0; t < kDTypeCount; ++t) {
    if (op.kind == OpKind::elementwise && !op.tiles[t])
      op.tiles[t] = kernels::find_tile(kernel, static_cast<DType>(t));
    if (op.reduces) op.reducers[t] = kernels::find_reduce(kernel, static_cast<DType>(t));
  }
  registry.ops.push_back(&op);
  if (op.kind == OpKind::elementwise && !op.internal && !op.casts && *op.signature)
    register_function(FunctionRecord{
        .name = op.name, .signature = op.signature, .doc = op.doc, .method = op.method, .op = &op});
}

void register_function(FunctionRecord f) {
  read_signature(f);
  Registry& registry = table();
  const auto* kept = new FunctionRecord(std::move(f));  // lives as long as the process
  if (!registry.functions_by_name.emplace(kept->name, kept).second)
    raise(ErrorKind::value, kept->name, "a function of this name is already registered");
  registry.functions.push_back(kept);
}

void register_functions(std::initializer_list<FunctionRecord> functions) {
  for (const FunctionRecord& f : functions) register_function(f);
}

void register_later(Op& op) {
  if (table().built)
    register_op(op);
  else
    table().waiting.push_back(&op);
}

std::span<const Op* const> all_ops() {
  build_once();
  return table().ops;
}

std::span<const FunctionRecord* const> all_functions() {
  build_once();
  return table().functions;
}

const Op* find_op_or_null(std::string_view name) noexcept {
  build_once();
  const auto it = table().by_name.find(name);
  return it == table().by_name.end() ? nullptr : it->second;
}

const Op& find_op(std::string_view name) {
  const Op* op = find_op_or_null(name);
  if (!op) raise(ErrorKind::value, name, "there is no operation of this name");
  return *op;
}

}  // namespace adjoint
