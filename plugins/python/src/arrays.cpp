#include "arrays.h"

#include <limits>

namespace nb = nanobind;

namespace d2export::python {
namespace {

std::string listed(const Any& array) {
    std::string text = "[";
    for (std::size_t i = 0; i < array.ndim(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(array.shape(i));
    }
    return text + "]";
}

std::string named(nb::dlpack::dtype type) {
    if (type == nb::dtype<bool>()) {
        return "bool";
    }
    const char* const kind = [&] {
        switch (static_cast<nb::dlpack::dtype_code>(type.code)) {
            case nb::dlpack::dtype_code::Int:
                return "int";
            case nb::dlpack::dtype_code::UInt:
                return "uint";
            case nb::dlpack::dtype_code::Float:
                return "float";
            case nb::dlpack::dtype_code::Bfloat:
                return "bfloat";
            case nb::dlpack::dtype_code::Complex:
                return "complex";
            default:
                return "type";
        }
    }();
    return kind + std::to_string(type.bits);
}

}  // namespace

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

void require_valid(const std::string& fault) {
    if (!fault.empty()) {
        refuse(fault);
    }
}

Any viewed(const char* name, nb::handle object) {
    Any array;
    if (!nb::try_cast(object, array)) {
        refuse(std::string(name) + " is a " + nb::type_name(object.type()).c_str() +
               ", expected a numpy array or a tensor in host memory");
    }
    return array;
}

RowMajor row_major(const char* name, nb::handle object) {
    RowMajor array;
    if (!nb::try_cast(object, array)) {
        refuse(std::string(name) + " is not row-major, and could not be copied");
    }
    const std::size_t size = array.itemsize();
    if (reinterpret_cast<std::uintptr_t>(array.data()) % size != 0) {
        refuse(std::string(name) + " is not aligned to " + std::to_string(size) +
               " bytes, expected an aligned array, such as a copy");
    }
    return array;
}

DataType feature_type(const char* name, const Any& features, bool bits_are_bfloat16) {
    const nb::dlpack::dtype type = features.dtype();
    if (bits_are_bfloat16) {
        if (type != nb::dtype<std::uint16_t>()) {
            refuse(std::string(name) + " is " + named(type) +
                   ", expected uint16, the bits of bfloat16");
        }
        return DataType::kBFloat16;
    }
    const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
    if (code == nb::dlpack::dtype_code::Float && type.bits == 32) {
        return DataType::kFloat32;
    }
    if (code == nb::dlpack::dtype_code::Float && type.bits == 16) {
        return DataType::kFloat16;
    }
    if (code == nb::dlpack::dtype_code::Bfloat && type.bits == 16) {
        return DataType::kBFloat16;
    }
    refuse(std::string(name) + " is " + named(type) + ", expected float32, float16 or bfloat16");
}

void require_shape(const char* name, const Any& array, bool fits, const std::string& expected) {
    if (!fits) {
        refuse(std::string(name) + " has shape " + listed(array) + ", expected " + expected);
    }
}

bool fits(const Any& array, std::size_t axis, std::int32_t length) {
    return array.shape(axis) == static_cast<std::size_t>(length);
}

std::int32_t extent(const char* name, const Any& array, std::size_t axis) {
    const auto largest = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
    if (array.shape(axis) > largest) {
        refuse(std::string(name) + " has shape " + listed(array) + ", expected no extent above " +
               std::to_string(largest));
    }
    return static_cast<std::int32_t>(array.shape(axis));
}

std::int32_t heads_of(nb::handle importance, const Shape& shape) {
    const Any scores = viewed("importance", importance);
    const std::string batch = std::to_string(shape.batch);
    const std::string tokens = std::to_string(shape.tokens);
    const bool per_head = scores.ndim() == 3;
    require_shape("importance", scores,
                  (scores.ndim() == 2 || per_head) && fits(scores, 0, shape.batch) &&
                      fits(scores, scores.ndim() - 1, shape.tokens),
                  "[" + batch + ", " + tokens + "] or [" + batch + ", H, " + tokens + "]");
    const std::int32_t heads = per_head ? extent("importance", scores, 1) : 1;
    if (heads == 0) {
        refuse("importance has 0 heads, expected at least 1");
    }
    return heads;
}

const float* floats(const char* name, nb::handle object, RowMajor& array) {
    const Any given = viewed(name, object);
    if (given.dtype() != nb::dtype<float>()) {
        refuse(std::string(name) + " is " + named(given.dtype()) + ", expected float32");
    }
    array = row_major(name, object);
    return static_cast<const float*>(array.data());
}

const std::int64_t* integers(const char* name, nb::handle object, RowMajor& array) {
    const Any given = viewed(name, object);
    if (given.dtype() != nb::dtype<std::int64_t>()) {
        refuse(std::string(name) + " is " + named(given.dtype()) + ", expected int64");
    }
    array = row_major(name, object);
    return static_cast<const std::int64_t*>(array.data());
}

}  // namespace d2export::python
