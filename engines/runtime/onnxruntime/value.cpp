#include "value.h"

#include <d2export/error.h>

#include <array>

namespace d2export::runtime::ort {
namespace {

constexpr std::array<ONNXTensorElementDataType, 7> kElements{
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL};

std::int64_t nothing;  // where a tensor without elements points to

}  // namespace

Value borrowed(const Session& session, const Given& given) {
    const std::int64_t bytes = given.sides.elements() * item_bytes(given.type);
    OrtValue* value = nullptr;
    // ONNX Runtime does not write to inputs.
    session.check(session.library().api().CreateTensorWithDataAsOrtValue(
        session.host(), bytes > 0 ? const_cast<void*>(given.data) : &nothing,
        static_cast<std::size_t>(bytes), given.sides.of.data(), given.sides.rank,
        kElements[static_cast<std::size_t>(given.type)], &value));
    return {value, {session.library().api().ReleaseValue}};
}

Answer answer(const Session& session, OrtValue* value, const char* name, DataType type, int rank) {
    const OrtApi& api = session.library().api();
    OrtTensorTypeAndShapeInfo* info = nullptr;
    session.check(api.GetTensorTypeAndShape(value, &info));
    const Owned<OrtTensorTypeAndShapeInfo> owned(info, {api.ReleaseTensorTypeAndShapeInfo});
    ONNXTensorElementDataType element;
    std::size_t count = 0, sides = 0;
    session.check(api.GetTensorElementType(info, &element));
    session.check(api.GetTensorShapeElementCount(info, &count));
    session.check(api.GetDimensionsCount(info, &sides));
    if (element != kElements[static_cast<std::size_t>(type)] ||
        sides != static_cast<std::size_t>(rank) || sides > kMaxRank) {
        throw bad_input(session.path() + " answers " + name + " of another type or shape",
                        "Build the bundle again.");
    }
    std::array<std::int64_t, kMaxRank> shape{};
    session.check(api.GetDimensions(info, shape.data(), sides));
    Answer found{nullptr, {1, 1}, static_cast<std::int64_t>(count)};
    for (std::size_t last = 0; last < 2 && last < sides; ++last) {
        found.sides[1 - last] = shape[sides - 1 - last];
    }
    void* data = nullptr;
    session.check(api.GetTensorMutableData(value, &data));
    found.data = data;
    return found;
}

}  // namespace d2export::runtime::ort
