// Thread-local pointers that cost one load. The model is stated per variable and not as a flag of
// the compiler: under the flag a reference to a thread-local of the C++ runtime would take static
// space too, and an interpreter that has loaded the runtime already could not load this library.
#pragma once

// Trivially initialised only: a constructor would be asked for at every access.
#define ADJOINT_THREAD_LOCAL __attribute__((tls_model("initial-exec"))) constinit thread_local
