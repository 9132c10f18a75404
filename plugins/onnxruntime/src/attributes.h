// The attributes of a node.
#pragma once

#include <cstdint>
#include <string>

#include "api.h"

namespace d2export::onnxruntime {

// Reads one attribute after the other; where the node has none, its value stays.
//
// All throw Failure: an attribute of another type.
class AttributeReader {
 public:
    AttributeReader(const OrtApi& api, const OrtKernelInfo& info) noexcept
        : api_(api), info_(info) {}

    void operator()(const char* name, std::int64_t& value) const;
    void operator()(const char* name, float& value) const;
    void operator()(const char* name, bool& value) const;

 private:
    bool has_integer(const char* name, std::int64_t& value) const;
    bool has_number(const char* name, float& value) const;
    void require_absent(const char* name, const char* expected) const;

    const OrtApi& api_;
    const OrtKernelInfo& info_;
};

// ONNX Runtime names the node that fails to run, but not the one that it cannot create.
std::string node_name(const OrtApi& api, const OrtKernelInfo& info);

// What the node says, and the defaults for the rest.
//
// Throws Failure: an attribute has another type, or a value that fault() names.
template <typename Attributes>
Attributes read_attributes(const OrtApi& api, const OrtKernelInfo& info) try {
    Attributes attributes;
    Attributes::each(attributes, AttributeReader(api, info));
    const std::string fault = attributes.fault();
    if (!fault.empty()) {
        throw Failure(fault);
    }
    return attributes;
} catch (const Failure& failure) {
    throw Failure(std::string(Attributes::kOp) + " node '" + node_name(api, info) +
                  "': " + failure.what());
}

}  // namespace d2export::onnxruntime
