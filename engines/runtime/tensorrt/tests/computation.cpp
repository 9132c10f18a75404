#include "computation.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <functional>

namespace stand_in {
namespace {

using nvinfer1::DataType;

const OrtApi& loaded() {
    const char* const path = std::getenv("STAND_IN_ORT");
    if (path == nullptr) throw std::string("STAND_IN_ORT does not name ONNX Runtime's library");
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::string(dlerror());
    const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"))();
    const OrtApi* const found = base->GetApi(ORT_API_VERSION);
    if (found == nullptr) throw std::string("ONNX Runtime is older than its headers: ") + path;
    return *found;
}

const OrtApi& api() {
    static const OrtApi& found = loaded();
    return found;
}

void check(OrtStatus* status) {
    if (status == nullptr) return;
    const std::string message = api().GetErrorMessage(status);
    api().ReleaseStatus(status);
    throw message;
}

template <typename Thing>
using Owner = std::unique_ptr<Thing, std::function<void(Thing*)>>;

OrtEnv& environment() {
    static OrtEnv* const found = [] {
        OrtEnv* one = nullptr;
        check(api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "stand-in", &one));
        return one;
    }();
    return *found;
}

template <typename To, typename From>
std::vector<unsigned char> cast(const unsigned char* from, std::size_t count) {
    std::vector<unsigned char> bytes(count * sizeof(To));
    for (std::size_t i = 0; i < count; ++i) {
        From value;
        std::memcpy(&value, from + i * sizeof(From), sizeof(From));
        const To converted = static_cast<To>(value);
        std::memcpy(bytes.data() + i * sizeof(To), &converted, sizeof(To));
    }
    return bytes;
}

bool is_bfloat16(DataType type) { return static_cast<int>(type) == 7; }  // no name before 10

// The high half of a float, or back: the value has been rounded by the graph.
std::vector<unsigned char> halves(const unsigned char* from, std::size_t count, bool widen) {
    std::vector<unsigned char> bytes(count * (widen ? 4 : 2), 0);
    for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(&bytes[widen ? 4 * i + 2 : 2 * i], from + (widen ? 2 * i : 4 * i + 2), 2);
    }
    return bytes;
}

// Before TensorRT 10 an engine has int32 where the graph has int64; a graph whose bfloat16 is
// emulated has float32.
std::vector<unsigned char> to_graph(const Numbers& given, DataType type,
                                    ONNXTensorElementDataType wanted) {
    const std::size_t count = given.bytes.size() / bytes_of(type);
    if (type == DataType::kINT32 && wanted == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) {
        return cast<std::int64_t, std::int32_t>(given.bytes.data(), count);
    }
    if (is_bfloat16(type) && wanted == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
        return halves(given.bytes.data(), count, true);
    }
    return given.bytes;
}

std::vector<unsigned char> to_engine(const unsigned char* found, std::size_t count, DataType type,
                                     ONNXTensorElementDataType given) {
    if (type == DataType::kINT32 && given == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) {
        return cast<std::int32_t, std::int64_t>(found, count);
    }
    if (is_bfloat16(type) && given == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
        return halves(found, count, false);
    }
    return {found, found + count * bytes_of(type)};
}

Numbers numbers_of(OrtValue* value, DataType type, ONNXTensorElementDataType given) {
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    check(api().GetTensorTypeAndShape(value, &raw));
    const Owner<OrtTensorTypeAndShapeInfo> info(raw, api().ReleaseTensorTypeAndShapeInfo);
    std::size_t rank = 0, count = 0;
    check(api().GetDimensionsCount(raw, &rank));
    Shape shape(rank);
    check(api().GetDimensions(raw, shape.data(), rank));
    check(api().GetTensorShapeElementCount(raw, &count));
    void* data = nullptr;
    check(api().GetTensorMutableData(value, &data));
    return {shape, to_engine(static_cast<const unsigned char*>(data), count, type, given)};
}

}  // namespace

Computation::Computation(const EngineText& engine) {
    for (const Tensor& tensor : engine.tensors) {
        (tensor.is_input ? inputs_ : outputs_).push_back(tensor);
    }
    OrtSessionOptions* raw = nullptr;
    check(api().CreateSessionOptions(&raw));
    const Owner<OrtSessionOptions> options(raw, api().ReleaseSessionOptions);
    check(api().SetIntraOpNumThreads(raw, 1));
    check(api().SetInterOpNumThreads(raw, 1));
    check(api().SetSessionExecutionMode(raw, ORT_SEQUENTIAL));
    check(api().DisableMemPattern(raw));
    OrtSession* session = nullptr;
    check(api().CreateSession(&environment(), engine.graph.c_str(), raw, &session));
    session_.reset(session, api().ReleaseSession);
    look_up_types();
    for (const Tensor& tensor : engine.tensors) {
        if (types_.count(tensor.name) == 0) throw engine.graph + " has no " + tensor.name;
    }
}

void Computation::look_up_types() {
    OrtAllocator* allocator = nullptr;
    check(api().GetAllocatorWithDefaultOptions(&allocator));
    const auto look_up = [&](auto count_of, auto name_of, auto type_of) {
        std::size_t count = 0;
        check(count_of(session_.get(), &count));
        for (std::size_t i = 0; i < count; ++i) {
            char* name = nullptr;
            check(name_of(session_.get(), i, allocator, &name));
            const std::string kept = name;
            check(api().AllocatorFree(allocator, name));
            OrtTypeInfo* raw = nullptr;
            check(type_of(session_.get(), i, &raw));
            const Owner<OrtTypeInfo> info(raw, api().ReleaseTypeInfo);
            const OrtTensorTypeAndShapeInfo* tensor = nullptr;
            check(api().CastTypeInfoToTensorInfo(raw, &tensor));
            check(api().GetTensorElementType(tensor, &types_[kept]));
        }
    };
    look_up(api().SessionGetInputCount, api().SessionGetInputName, api().SessionGetInputTypeInfo);
    look_up(api().SessionGetOutputCount, api().SessionGetOutputName,
            api().SessionGetOutputTypeInfo);
}

std::vector<Numbers> Computation::run(const std::vector<Numbers>& inputs) const {
    OrtMemoryInfo* raw = nullptr;
    check(api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &raw));
    const Owner<OrtMemoryInfo> memory(raw, api().ReleaseMemoryInfo);
    std::vector<std::vector<unsigned char>> bytes;  // which the values do not own
    std::vector<Owner<OrtValue>> values;
    std::vector<const OrtValue*> given;
    std::vector<const char*> given_names, wanted_names;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
        const auto type = types_.at(inputs_[i].name);
        bytes.push_back(to_graph(inputs[i], inputs_[i].type, type));
        OrtValue* value = nullptr;
        check(api().CreateTensorWithDataAsOrtValue(raw, bytes.back().data(), bytes.back().size(),
                                                   inputs[i].shape.data(), inputs[i].shape.size(),
                                                   type, &value));
        values.emplace_back(value, api().ReleaseValue);
        given.push_back(value);
        given_names.push_back(inputs_[i].name.c_str());
    }
    for (const Tensor& tensor : outputs_) wanted_names.push_back(tensor.name.c_str());
    std::vector<OrtValue*> found(outputs_.size(), nullptr);
    check(api().Run(session_.get(), nullptr, given_names.data(), given.data(), given.size(),
                    wanted_names.data(), wanted_names.size(), found.data()));
    std::vector<Numbers> results;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const Owner<OrtValue> owner(found[i], api().ReleaseValue);
        results.push_back(numbers_of(found[i], outputs_[i].type, types_.at(outputs_[i].name)));
    }
    return results;
}

}  // namespace stand_in
