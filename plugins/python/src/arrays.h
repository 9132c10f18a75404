// Python's arrays, one at a time: what they are, and what they have to be.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "d2export/tensors.h"

namespace d2export::python {

using Any = nanobind::ndarray<nanobind::ro, nanobind::device::cpu>;
using RowMajor = nanobind::ndarray<nanobind::ro, nanobind::c_contig, nanobind::device::cpu>;

// All that refuse throw nanobind::value_error, which names the argument.
[[noreturn]] void refuse(const std::string& message);

// Refuses with `fault`, unless it is empty.
void require_valid(const std::string& fault);

// As it is, in host memory.
Any viewed(const char* name, nanobind::handle object);

// Copied only where it is not row-major already.
RowMajor row_major(const char* name, nanobind::handle object);

// `bits_are_bfloat16`: features of type uint16 are the bits of bfloat16, which numpy lacks.
DataType feature_type(const char* name, const Any& features, bool bits_are_bfloat16);

void require_shape(const char* name, const Any& array, bool fits, const std::string& expected);

// Whether that axis is so long.
bool fits(const Any& array, std::size_t axis, std::int32_t length);

// Of an axis, below 2^31.
std::int32_t extent(const char* name, const Any& array, std::size_t axis);

// Of importance [B, N] or [B, H, N]: H, or 1.
std::int32_t heads_of(nanobind::handle importance, const Shape& shape);

// Keeps in `array` what the result points to.
const float* floats(const char* name, nanobind::handle object, RowMajor& array);
const std::int64_t* integers(const char* name, nanobind::handle object, RowMajor& array);

}  // namespace d2export::python
