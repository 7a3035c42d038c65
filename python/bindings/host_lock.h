// Taking the interpreter's lock. A thread that asks for it while the interpreter ends never gets
// it: CPython before 3.14 then ends the thread, by unwinding its stack, and what may not be unwound
// (a destructor, a function that catches everything) would end the process. Such a thread waits
// here until the process is over, as CPython itself makes it from 3.14 on. It holds no lock of the
// library's.
#pragma once

#include <pybind11/pybind11.h>

#include <cxxabi.h>
#include <unistd.h>

namespace adjoint::python {

/// The handler before a `catch (...)` that ends here what comes by on its way out: the unwinding.
#ifdef __GLIBCXX__
#define ADJOINT_CATCH_END               \
  catch (const abi::__forced_unwind&) { \
    ::adjoint::python::wait_for_end();  \
  }
#else
#define ADJOINT_CATCH_END
#endif

/// Waits for the end of the process.
[[noreturn]] inline void wait_for_end() noexcept {
  for (;;) pause();
}

/// What `run()` gives, which may take the lock and throws nothing of its own.
template <class F>
auto taking_host_lock(F&& run) noexcept {
  try {
    return run();
  } catch (...) {  // the unwinding, which must not go on and may not be ended
    wait_for_end();
  }
}

/// A call of a Python function; null with an exception set, like CPython's.
inline PyObject* call_python(PyObject* f, PyObject* const* args, std::size_t nargs,
                             PyObject* kwnames) noexcept {
  return taking_host_lock([=] { return PyObject_Vectorcall(f, args, nargs, kwnames); });
}

/// Holds the lock for a scope, in any thread.
class HostLockScope {
 public:
  HostLockScope() noexcept : state_(taking_host_lock([] { return PyGILState_Ensure(); })) {}
  ~HostLockScope() {
    if (!PyGILState_Check()) wait_for_end();  // the stack is unwound: the lock was lost for good
    PyGILState_Release(state_);
  }
  HostLockScope(const HostLockScope&) = delete;
  HostLockScope& operator=(const HostLockScope&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace adjoint::python
