// Uses the installed library through its public headers only.
#include <adjoint/dtype.h>

#include <iostream>

int main() {
  const adjoint::DType met = adjoint::promote(adjoint::DType::int32, adjoint::DType::float32);
  std::cout << "int32 with float32 gives " << adjoint::name(met) << "\n";
  return met == adjoint::DType::float32 ? 0 : 1;
}
