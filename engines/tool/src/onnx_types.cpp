#include "onnx_types.h"

#include <cstdint>
#include <functional>
#include <string_view>

#include "failure.h"

namespace d2export::tool {
namespace {

// Field numbers of onnx.proto.
constexpr std::uint64_t kModelGraph = 7, kGraphOutput = 12, kGraphValue = 13, kValueName = 1,
                        kValueType = 2, kTensorType = 1, kElementType = 1;
constexpr std::uint64_t kFloat = 1, kFloat16 = 10;  // of TensorProto.DataType

enum Wire : std::uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Cut : std::exception {};

// A message of protocol buffers: calls `found` with each field's number, its value if it is a
// varint, and its bytes if it has a length.
using Found = std::function<void(std::uint64_t, std::uint64_t, std::string_view)>;

std::uint64_t varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (bytes.empty()) throw Cut();
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    throw Cut();
}

void each_field(std::string_view message, const Found& found) {
    while (!message.empty()) {
        const std::uint64_t key = varint(message);
        std::uint64_t value = 0, length = 0;
        switch (key & 7) {
            case kVarint:
                value = varint(message);
                break;
            case kFixed64:
                length = 8;
                break;
            case kBytes:
                length = varint(message);
                break;
            case kFixed32:
                length = 4;
                break;
            default:
                throw Cut();
        }
        if (length > message.size()) throw Cut();
        found(key >> 3, value, message.substr(0, length));
        message.remove_prefix(length);
    }
}

void note_value(std::string_view value, std::map<std::string, std::string>& types) {
    std::string name;
    std::uint64_t element = 0;
    each_field(value, [&](std::uint64_t field, std::uint64_t, std::string_view bytes) {
        if (field == kValueName) name = bytes;
        if (field != kValueType) return;
        each_field(bytes, [&](std::uint64_t kind, std::uint64_t, std::string_view tensor) {
            if (kind != kTensorType) return;
            each_field(tensor, [&](std::uint64_t part, std::uint64_t number, std::string_view) {
                if (part == kElementType) element = number;
            });
        });
    });
    if (element == kFloat) types[name] = "float32";
    if (element == kFloat16) types[name] = "float16";
}

}  // namespace

std::map<std::string, std::string> float_values(const std::string& model,
                                                const std::string& where) {
    std::map<std::string, std::string> types;
    try {
        each_field(model, [&](std::uint64_t field, std::uint64_t, std::string_view graph) {
            if (field != kModelGraph) return;
            each_field(graph, [&](std::uint64_t part, std::uint64_t, std::string_view value) {
                if (part == kGraphOutput || part == kGraphValue) note_value(value, types);
            });
        });
    } catch (const Cut&) {
        throw usage(where + " is no ONNX file, or it is cut short",
                    "Pass the file that d2export wrote, whole.");
    }
    return types;
}

}  // namespace d2export::tool
