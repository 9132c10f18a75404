#include "arguments.h"

#include <limits>
#include <string>

namespace nb = nanobind;

namespace d2export::python {
namespace {

using Any = nb::ndarray<nb::ro, nb::device::cpu>;

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

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

Any viewed(const char* name, nb::handle object) {
    Any array;
    if (!nb::try_cast(object, array)) {
        refuse(std::string(name) + " is a " + nb::type_name(object.type()).c_str() +
               ", expected a numpy array or a tensor in host memory");
    }
    return array;
}

// Copied only where it is not row-major already.
template <typename Array>
Array row_major(const char* name, nb::handle object) {
    Array array;
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

DataType feature_type(nb::dlpack::dtype type, bool bits_are_bfloat16) {
    if (bits_are_bfloat16) {
        if (type != nb::dtype<std::uint16_t>()) {
            refuse("features is " + named(type) + ", expected uint16, the bits of bfloat16");
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
    refuse("features is " + named(type) + ", expected float32, float16 or bfloat16");
}

void require_float32(const char* name, const Any& array) {
    if (array.dtype() != nb::dtype<float>()) {
        refuse(std::string(name) + " is " + named(array.dtype()) + ", expected float32");
    }
}

void require_shape(const char* name, const Any& array, bool fits, const std::string& expected) {
    if (!fits) {
        refuse(std::string(name) + " has shape " + listed(array) + ", expected " + expected);
    }
}

std::int32_t extent(const char* name, const Any& array, std::size_t axis) {
    const auto largest = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
    if (array.shape(axis) > largest) {
        refuse(std::string(name) + " has shape " + listed(array) + ", expected no extent above " +
               std::to_string(largest));
    }
    return static_cast<std::int32_t>(array.shape(axis));
}

}  // namespace

Arguments::Arguments(nb::handle features, nb::handle importance, nb::handle prior, nb::handle grid,
                     bool bits_are_bfloat16) {
    const Any given = viewed("features", features);
    require_shape("features", given, given.ndim() == 3, "[B, N, C]");
    inputs_.type = feature_type(given.dtype(), bits_are_bfloat16);
    shape_.batch = extent("features", given, 0);
    shape_.tokens = extent("features", given, 1);
    shape_.channels = extent("features", given, 2);

    const std::string batch = std::to_string(shape_.batch);
    const std::string tokens = std::to_string(shape_.tokens);
    const Any scores = viewed("importance", importance);
    const bool per_head = scores.ndim() == 3;
    require_shape("importance", scores,
                  (scores.ndim() == 2 || per_head) && scores.shape(0) == given.shape(0) &&
                      scores.shape(scores.ndim() - 1) == given.shape(1),
                  "[" + batch + ", " + tokens + "] or [" + batch + ", H, " + tokens + "]");
    shape_.heads = per_head ? extent("importance", scores, 1) : 1;
    if (shape_.heads == 0) {
        refuse("importance has 0 heads, expected at least 1");
    }
    const Any means = viewed("prior", prior);
    require_shape("prior", means, means.ndim() == 1 && means.shape(0) == given.shape(1),
                  "[" + tokens + "]");
    const Any centres = viewed("grid", grid);
    require_shape(
        "grid", centres,
        centres.ndim() == 2 && centres.shape(0) == given.shape(1) && centres.shape(1) == 2,
        "[" + tokens + ", 2]");
    require_float32("importance", scores);
    require_float32("prior", means);
    require_float32("grid", centres);

    features_ = row_major<Array>("features", features);
    importance_ = row_major<Array>("importance", importance);
    prior_ = row_major<Array>("prior", prior);
    grid_ = row_major<Array>("grid", grid);
    inputs_.features = features_.data();
    inputs_.importance = static_cast<const float*>(importance_.data());
    inputs_.prior = static_cast<const float*>(prior_.data());
    inputs_.grid = static_cast<const float*>(grid_.data());
}

void require_valid(const Parameters& parameters) {
    const std::string fault = parameters.fault();
    if (!fault.empty()) {
        refuse(fault);
    }
}

}  // namespace d2export::python
