// ad.detect_anomaly: the block, its exception and its warning, and the lines of the user's program.
#include "adjoint/anomaly.h"

#include <memory>

#include "context.h"
#include "convert.h"
#include "graph/watcher.h"
#include "source_lines.h"

namespace adjoint::python {

namespace {

PyObject* anomaly_warning = nullptr;

// Shown like a warning of the user's own line, once per line and text.
void warn(const std::string& message, const std::string* place, py::handle registry) {
  std::string file = "<unknown>";
  int line = 0;
  if (place) {
    const std::size_t colon = place->rfind(':');
    file = place->substr(0, colon);
    line = std::stoi(place->substr(colon + 1));
  }
  const HostLockScope lock;
  if (PyErr_WarnExplicit(anomaly_warning, message.c_str(), file.c_str(), line, nullptr,
                         registry.ptr()) != 0)
    throw_python();
}

class DetectAnomaly {
 public:
  DetectAnomaly(const py::object& forward, const py::object& backward, const py::object& inf)
      : forward_(flag_argument(forward.ptr(), "detect_anomaly", "forward")),
        backward_(flag_argument(backward.ptr(), "detect_anomaly", "backward")),
        inf_(flag_argument(inf.ptr(), "detect_anomaly", "inf")) {}

  void enter() {
    AnomalyOptions options{forward_, backward_, inf_};
    options.find_source = [lines = std::make_shared<SourceLines>()] {
      const HostLockScope lock;
      return lines->current();
    };
    options.warn = [registry = py::dict()](const std::string& message, const std::string* place) {
      warn(message, place, registry);
    };
    enter_anomaly_mode(std::move(options));
  }
  void exit() { leave_anomaly_mode(); }
  void forget() noexcept {}

 private:
  bool forward_, backward_, inf_;
};

PyObject* new_exception(py::module_& m, const char* name, const char* doc, PyObject* base) {
  PyObject* type =
      PyErr_NewExceptionWithDoc(("adjoint." + std::string(name)).c_str(), doc, base, nullptr);
  if (!type) throw_python();
  m.attr(name) = borrow(type);
  return type;
}

}  // namespace

void init_anomaly(py::module_& m) {
  anomaly_error =
      new_exception(m, "AnomalyError",
                    "Inside `detect_anomaly`, an operation gave or met what is not finite.\n\n"
                    "Examples\n"
                    "--------\n"
                    ">>> import adjoint as ad\n"
                    ">>> with ad.detect_anomaly():\n"
                    "...     ad.log(ad.tensor([0.0, 1.0]))\n"
                    "Traceback (most recent call last):\n"
                    "    ...\n"
                    "adjoint.AnomalyError: [log] gave 1 inf in 2 values from finite inputs",
                    PyExc_FloatingPointError);
  anomaly_warning = new_exception(
      m, "AnomalyWarning",
      "Inside `detect_anomaly`, a derivative that is not finite was multiplied with 0, which gives "
      "0.\n\n"
      "Examples\n"
      "--------\n"
      ">>> import adjoint as ad\n"
      ">>> import warnings\n"
      ">>> with warnings.catch_warnings(record=True) as told, ad.detect_anomaly(forward=False):\n"
      "...     warnings.simplefilter(\"always\")\n"
      "...     slope = ad.grad(lambda x: ad.where(x > 0, ad.log(x), 0.0))(0.0)\n"
      ">>> slope.item(), told[0].category is ad.AnomalyWarning\n"
      "(0.0, True)",
      PyExc_RuntimeWarning);
  def_context<DetectAnomaly>(
      m, "detect_anomaly",
      "Context manager and decorator: the first operation that makes a nan or an infinity out of "
      "finite values raises `AnomalyError`.\n\n"
      "The message names the operation, your file and line that applied it, and shape, dtype and "
      "range of what it was given and what it gave. Where it is the derivative of an operation "
      "that is not finite, the line is that of the operation itself, if it was applied inside the "
      "block. What is data, or was computed outside of the block, is reported when an operation "
      "first reads it and gives what is not finite.\n\n"
      "Where 0 meets a derivative that is not finite their product is defined as 0, so that "
      "``where`` can hide such a value; an `AnomalyWarning` tells of it.\n\n"
      "Inside the block nothing is deferred, compiled functions run as plain Python, and every "
      "element is looked at, so it is slow. It holds for this thread.\n\n"
      "Parameters\n----------\n"
      "forward : bool\n    Look at the results of operations. Turn it off for a program that "
      "hides\n"
      "    some on purpose, as in ``ad.where(x > 0, ad.log(x), 0.0)``.\n"
      "backward : bool\n    Look at derivatives, in reverse and in forward mode.\n"
      "inf : bool\n    Count infinities, not only nans. Turn it off for a program that masks\n"
      "    with ``-inf``.\n\n"
      "Examples\n--------\n"
      ">>> import adjoint as ad\n"
      ">>> x = ad.tensor([0.0, 4.0], requires_grad=True)\n"
      ">>> with ad.detect_anomaly():\n"
      "...     ad.sum(ad.sqrt(x)).backward()\n"
      "Traceback (most recent call last):\n"
      "    ...\n"
      "adjoint.AnomalyError: [sqrt] its derivative gave 1 inf in 2 values\n"
      "  backward, in the derivative of `sqrt`, applied at train.py:3\n"
      "  ...",
      py::init<const py::object&, const py::object&, const py::object&>(), py::kw_only(),
      py::arg("forward") = true, py::arg("backward") = true, py::arg("inf") = true);
}

}  // namespace adjoint::python
