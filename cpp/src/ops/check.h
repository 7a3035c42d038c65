// What arguments must be, where that depends on their values.
#pragma once

#include <cstdint>
#include <string>

#include "adjoint/error.h"
#include "adjoint/tensor.h"

namespace adjoint {

/// `x` where `holds`, bools of its shape, are all true. Else an error of `op` says what is wrong
/// and shows the first of x that is: now, in a sweep or a batch, or as a step of a program.
Tensor checked(const Tensor& x, const Tensor& holds, const char* op, std::string wrong,
               ErrorKind kind = ErrorKind::value);

/// The same of no more than one condition, for all of x.
Tensor checked_whole(const Tensor& x, const Tensor& holds, const char* op, std::string wrong);

/// Integers as int64, all of which have to be from 0 to below `count`.
Tensor checked_numbers(const Tensor& x, std::int64_t count, const char* op, std::string wrong,
                       ErrorKind kind = ErrorKind::value);

}  // namespace adjoint
