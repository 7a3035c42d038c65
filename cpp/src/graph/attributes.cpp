#include "graph/attributes.h"

#include <charconv>

#include "adjoint/error.h"
#include "graph/holdings.h"

namespace adjoint {

std::string to_string(const Attrs& attrs) {
  std::string out;
  attrs.type().print(out, attrs);
  return out;
}

void raise_wrong_attrs(std::string_view op, const AttrsType* expected, const Attrs* given) {
  raise(ErrorKind::runtime, op,
        "an error inside the library: attributes " + (given ? given->type().names() : "()") +
            " were given, " + (expected ? expected->names() : "()") + " are expected");
}

namespace field_list {

namespace {

std::string& label(std::string& to, const char* name) { return to.append(" ").append(name) += '='; }

}  // namespace

void print(std::string& to, const char* name, bool v) {
  if (v) label(to, name) += "true";
}

void print(std::string& to, const char* name, std::int64_t v) {
  label(to, name) += std::to_string(v);
}

void print(std::string& to, const char* name, double v) {  // in the fewest digits that give it back
  char text[64];
  label(to, name).append(text, std::to_chars(text, text + sizeof text, v).ptr);
}

void print(std::string& to, const char* name, WideInt v) { label(to, name) += to_string(v); }

void print(std::string& to, const char* name, DType v) { label(to, name) += adjoint::name(v); }

void print(std::string& to, const char* name, const Dims& v) {
  label(to, name) += '[';
  for (const std::int64_t& i : v) {
    if (&i != v.begin()) to += ", ";
    to += std::to_string(i);
  }
  to += ']';
}

void list_payload(Holdings& to, const Payload* payload) { to.add(payload); }

}  // namespace field_list

}  // namespace adjoint
