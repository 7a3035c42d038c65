// Signatures: read once, checked against the types of what is entered.
#include "graph/function.h"

#include <algorithm>

#include "adjoint/error.h"
#include "graph/op.h"

namespace adjoint {

namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

/// The parts between commas that are not inside brackets or quotes.
std::vector<std::string_view> split(std::string_view list) {
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i <= list.size(); ++i) {
    const char c = i < list.size() ? list[i] : ',';
    if (c == '\'') quoted = !quoted;
    depth += (c == '(' || c == '[') - (c == ')' || c == ']');
    if (c != ',' || depth > 0 || (quoted && i < list.size())) continue;
    if (const auto part = trimmed(list.substr(begin, i - begin)); !part.empty())
      out.push_back(part);
    begin = i + 1;
  }
  return out;
}

void read_parameters(FunctionRecord& f, std::string_view list) {
  Parameter::Kind kind = Parameter::Kind::either;
  for (const std::string_view part : split(list)) {
    if (part == "/") {
      for (Parameter& p : f.parameters) p.kind = Parameter::Kind::positional_only;
    } else if (part == "*") {
      kind = Parameter::Kind::keyword_only;
    } else {
      const auto equals = part.find('=');
      Parameter p{std::string(part.substr(0, equals)), kind, {}, ""};
      if (p.name.front() == '*') {  // "*arrays": all that are given by position
        p.name.erase(0, 1);
        p.kind = Parameter::Kind::variadic;
        kind = Parameter::Kind::keyword_only;
      }
      if (equals != std::string_view::npos) p.fallback = part.substr(equals + 1);
      if (p.name == "device") p.type = {ParameterType::device, true};
      if (p.name == "copy") p.type = {ParameterType::copy, true};
      f.parameters.push_back(std::move(p));
    }
  }
}

void read_results(FunctionRecord& f, std::string_view text) {
  if (text == "list") {
    f.results = Results::list;
  } else if (text == "tuple") {
    f.results = Results::tuple;
  } else if (text == "one or tuple") {
    f.results = Results::one_or_tuple;
  } else if (text.starts_with('(')) {
    f.results = Results::fields;
    for (const std::string_view field : split(text.substr(1, text.size() - 2)))
      f.fields.emplace_back(field);
  }
}

void read_types(FunctionRecord& f) {
  auto next = f.entry.types.begin();
  const std::string what = "a parameter without a type, or a type without one";
  for (Parameter& p : f.parameters) {
    if (p.type.type == ParameterType::device || p.type.type == ParameterType::copy) continue;
    if (next == f.entry.types.end()) raise(ErrorKind::value, f.name, what);
    p.type = *next++;
    if (p.type.type == ParameterType::integer && p.fallback == "0" &&
        (p.name == "k" || p.name == "offset"))
      p.type.type = ParameterType::diagonal;
    if (p.fallback == "None" && !p.type.optional)
      raise(ErrorKind::value, f.name, p.name + " is None by default and must have a value");
  }
  if (next != f.entry.types.end()) raise(ErrorKind::value, f.name, what);
  if ((f.results == Results::one) != (f.entry.one != nullptr))
    raise(ErrorKind::value, f.name, "the signature and the function differ in how many they give");
}

}  // namespace

void read_names(FunctionRecord& f) {
  const std::string_view text = f.signature;
  const auto arrow = text.find(" -> ");
  const std::string_view list = text.substr(0, arrow);
  read_parameters(f, list.substr(1, list.size() - 2));
  if (arrow != std::string_view::npos) read_results(f, text.substr(arrow + 4));
}

void read_signature(FunctionRecord& f) {
  read_names(f);
  if (!f.op) read_types(f);
}

}  // namespace adjoint
