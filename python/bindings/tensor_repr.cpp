// How a tensor prints: its values in NumPy's layout, then shape, dtype, what made it and whether it
// wants gradients. Any value can be printed, also inside transforms; printing never raises.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "convert.h"
#include "graph/op.h"
#include "graph/results.h"

namespace adjoint::python {

namespace {

constexpr std::int64_t kSummarizeAbove = 1000;
constexpr std::int64_t kEdge = 3;
constexpr std::size_t kLineWidth = 88;

std::string number_text(double v, char how, int digits) {
  char* text = PyOS_double_to_string(v, how, digits, Py_DTSF_ADD_DOT_0, nullptr);
  if (!text) throw_python();
  std::string s = text;
  PyMem_Free(text);
  return s;
}

double rounded(double v, int digits) {
  return PyOS_string_to_double(number_text(v, 'e', digits - 1).c_str(), nullptr, nullptr);
}

// The shortest text that reads back as the same number; in arrays at most 8 digits of it.
std::string float_text(double v, bool single, bool full) {
  const bool finite = v - v == 0;
  if (single && finite) {
    double shorter = v;
    for (int digits = 1; digits <= 9; ++digits) {
      shorter = rounded(v, digits);
      if (static_cast<float>(shorter) == static_cast<float>(v)) break;
    }
    v = shorter;
  }
  std::string s = number_text(v, 'r', 0);
  const auto digits =
      std::count_if(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!full && finite && digits > 9) s = number_text(rounded(v, 8), 'r', 0);
  if (!full && s.size() > 2 && s.ends_with(".0")) s.pop_back();
  return s;
}

std::string element_text(Node* node, std::int64_t index, bool full) {
  const char* p = static_cast<const char*>(node->data()) +
                  index * static_cast<std::int64_t>(itemsize(node->dtype));
  const auto read = [p]<class T>(T) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
  };
  switch (node->dtype) {
    case DType::boolean: return read(std::uint8_t{}) ? "True" : "False";
    case DType::int8: return std::to_string(read(std::int8_t{}));
    case DType::int16: return std::to_string(read(std::int16_t{}));
    case DType::int32: return std::to_string(read(std::int32_t{}));
    case DType::int64: return std::to_string(read(std::int64_t{}));
    case DType::uint8: return std::to_string(read(std::uint8_t{}));
    case DType::uint16: return std::to_string(read(std::uint16_t{}));
    case DType::uint32: return std::to_string(read(std::uint32_t{}));
    case DType::uint64: return std::to_string(read(std::uint64_t{}));
    case DType::float32: return float_text(static_cast<double>(read(float{})), true, full);
    case DType::float64: return float_text(read(double{}), false, full);
  }
  return "?";
}

// Prints one array; axes are at most 64, so the nesting of calls is bounded.
class ArrayPrinter {
 public:
  ArrayPrinter(Node* node, std::size_t indent) : node_(node), indent_(indent) {
    summarize_ = node->layout.size() > kSummarizeAbove;
    measure(0, 0);
    if (exponent_) {  // each with one then, and as many digits as one of them needs
      scientific_ = true;
      before_ = after_ = 0;
      measure(0, 0);
    }
    width_ = std::max(width_, before_ + after_);
  }

  std::string text() {
    if (node_->layout.ndim() == 0) return element_text(node_, 0, true);
    print(0, 0);
    return std::move(out_);
  }

 private:
  template <class F>
  void each(int axis, F f) const {
    const std::int64_t n = node_->layout.shape()[static_cast<std::size_t>(axis)];
    const bool cut = summarize_ && n > 2 * kEdge;
    for (std::int64_t i = 0; i < n; ++i) {
      if (cut && i == kEdge) {
        f(-1);
        i = n - kEdge;
      }
      f(i);
    }
  }
  std::int64_t step(int axis) const {
    return node_->layout.strides()[static_cast<std::size_t>(axis)];
  }

  std::string text_at(std::int64_t at) const {
    if (!scientific_) return element_text(node_, at, false);
    const double v = node_->dtype == DType::float32
                         ? static_cast<double>(static_cast<const float*>(node_->data())[at])
                         : static_cast<const double*>(node_->data())[at];
    return v - v == 0 ? number_text(v, 'e', digits_ - 1) : element_text(node_, at, false);
  }

  // Numbers stand one under the other by their points; nan and inf end where numbers do.
  std::string padded(std::string s) const {
    if (is_floating(node_->dtype) && s.find('n') == std::string::npos)
      s.append(after_ - (s.size() - std::min(s.find('.'), s.size())), ' ');
    return std::string(width_ - std::min(width_, s.size()), ' ') + s;
  }

  void measure(int axis, std::int64_t at) {
    if (axis == node_->layout.ndim()) {
      measure_number(text_at(at));
      return;
    }
    each(axis, [&](std::int64_t i) {
      if (i >= 0) measure(axis + 1, at + i * step(axis));
    });
  }

  void measure_number(const std::string& s) {
    if (!is_floating(node_->dtype) || s.find('n') != std::string::npos) {
      width_ = std::max(width_, s.size());
      return;
    }
    const std::size_t point = std::min(s.find('.'), s.size());
    before_ = std::max(before_, point);
    after_ = std::max(after_, s.size() - point);
    const std::size_t end = std::min(s.find('e'), s.size());
    exponent_ |= end < s.size();
    std::string digits;
    for (const char c : s.substr(0, end))
      if (c >= '0' && c <= '9' && !(c == '0' && digits.empty())) digits += c;
    if (scientific_) return;
    const std::size_t last = digits.find_last_not_of('0');
    if (last != std::string::npos) digits_ = std::max(digits_, static_cast<int>(last) + 1);
  }

  void print(int axis, std::int64_t at) {
    const bool last = axis == node_->layout.ndim() - 1;
    out_ += '[';
    bool first = true;
    std::size_t column = indent_ + static_cast<std::size_t>(axis) + 1;
    each(axis, [&](std::int64_t i) {
      if (!first) {
        out_ += ',';
        if (!last || column + width_ + 2 > kLineWidth) {
          out_.append(last ? 1 : static_cast<std::size_t>(node_->layout.ndim() - axis - 1), '\n');
          out_.append(indent_ + static_cast<std::size_t>(axis) + 1, ' ');
          column = indent_ + static_cast<std::size_t>(axis) + 1;
        } else {
          out_ += ' ';
          ++column;
        }
      }
      first = false;
      if (i < 0) {
        out_ += "...";
        column += 3;
      } else if (last) {
        out_ += padded(text_at(at + i * step(axis)));
        column += width_ + 1;
      } else {
        print(axis + 1, at + i * step(axis));
      }
    });
    out_ += ']';
  }

  Node* node_;
  std::size_t indent_;
  std::size_t width_ = 0;
  std::size_t before_ = 0;  // characters before the point, and from it on
  std::size_t after_ = 0;
  int digits_ = 1;           // that some number needs
  bool exponent_ = false;    // some number is written with an exponent
  bool scientific_ = false;  // so that all are
  bool summarize_;
  std::string out_;
};

std::string values_text(Node* node, std::size_t indent) {
  for (const Node* n = node; n->level > 0; n = n->boxed.primal) {
    if (n->box == Box::batch) return "<mapped by vmap>";
    if (traced_weak_kind(n)) need_value(n);  // a number, as the function is told
    if (n->box == Box::trace) return "<traced by compile>";
  }
  const Tensor value = host_value(node, "repr");
  return ArrayPrinter(value.node(), indent).text();
}

std::string name_text(PyTensor* t) {
  if (!t->name) return "";
  return ", name=" + text_of(steal(PyObject_Repr(t->name)));
}

}  // namespace

PyObject* tensor_repr(PyObject* self) noexcept {
  return guarded([&] {
    PyTensor* t = as_tensor(self);
    const Tensor held = Tensor::share(read_node(t));
    Node* node = held.node();
    std::string head = Py_TYPE(self)->tp_name;
    if (const auto dot = head.rfind('.'); dot != std::string::npos) head = head.substr(dot + 1);
    head += '(';
    std::string text = head + values_text(node, head.size());
    text += ", shape=" + to_string(node->layout.shape());
    text += ", dtype=" + std::string(name(node->dtype));
    if (node->box == Box::dual) text += ", in=jvp";
    if (const Op* op = maker_of(node)) text += ", op=" + std::string(op->name);
    if (t->leaf && t->leaf->requires_grad) text += ", requires_grad=True";
    text += name_text(t) + ")";
    return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  });
}

PyObject* tensor_str(PyObject* self) noexcept {
  return guarded([&] {
    const Tensor held = Tensor::share(read_node(as_tensor(self)));
    const std::string text = values_text(held.node(), 0);
    return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  });
}

}  // namespace adjoint::python
