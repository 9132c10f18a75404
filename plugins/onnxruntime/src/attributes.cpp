#include "attributes.h"

#include <cstddef>

namespace d2export::onnxruntime {

void AttributeReader::operator()(const char* name, std::int64_t& value) const {
    if (!has_integer(name, value)) {
        require_absent(name, "an integer");
    }
}

void AttributeReader::operator()(const char* name, float& value) const {
    if (!has_number(name, value)) {
        require_absent(name, "a float");
    }
}

void AttributeReader::operator()(const char* name, bool& value) const {
    std::int64_t number = value ? 1 : 0;
    (*this)(name, number);
    value = number != 0;
}

bool AttributeReader::has_integer(const char* name, std::int64_t& value) const {
    std::int64_t found = 0;
    if (failed(api_, api_.KernelInfoGetAttribute_int64(&info_, name, &found))) {
        return false;
    }
    value = found;
    return true;
}

bool AttributeReader::has_number(const char* name, float& value) const {
    float found = 0;
    if (failed(api_, api_.KernelInfoGetAttribute_float(&info_, name, &found))) {
        return false;
    }
    value = found;
    return true;
}

// ONNX Runtime does not tell an attribute that is not there from one of another type.
void AttributeReader::require_absent(const char* name, const char* expected) const {
    std::int64_t integer = 0;
    float number = 0;
    std::size_t size = 0;
    const char* found = nullptr;
    if (has_integer(name, integer)) {
        found = "an integer";
    } else if (has_number(name, number)) {
        found = "a float";
    } else if (!failed(api_, api_.KernelInfoGetAttribute_string(&info_, name, nullptr, &size))) {
        found = "a string";
    } else if (!failed(api_,
                       api_.KernelInfoGetAttributeArray_int64(&info_, name, nullptr, &size)) ||
               !failed(api_,
                       api_.KernelInfoGetAttributeArray_float(&info_, name, nullptr, &size))) {
        found = "a list";
    }
    if (found != nullptr) {
        throw Failure("attribute " + std::string(name) + " is " + found + ", expected " + expected);
    }
}

std::string node_name(const OrtApi& api, const OrtKernelInfo& info) {
    std::size_t size = 0;  // with the terminating zero
    check(api, api.KernelInfo_GetNodeName(&info, nullptr, &size));
    std::string name(size, '\0');
    check(api, api.KernelInfo_GetNodeName(&info, name.data(), &size));
    name.resize(size - 1);
    return name;
}

}  // namespace d2export::onnxruntime
