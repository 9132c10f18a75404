#include "op.h"

#include <memory>

#include "arguments.h"
#include "d2export/parameters.h"
#include "shapes.h"

namespace d2export::onnxruntime {
namespace {

constexpr std::size_t kOutputs = 2;  // kept, indices

const Op& of(const OrtCustomOp* op) noexcept { return *static_cast<const Op*>(op); }

}  // namespace

Op::Op(const OrtApi& its_api, const Form& its_form, DataType its_type) noexcept
    : OrtCustomOp{}, api(its_api), form(its_form), type(its_type) {
    version = D2EXPORT_ORT_OLDEST;
    GetName = [](const OrtCustomOp* op) { return of(op).form.name; };
    GetExecutionProviderType = [](const OrtCustomOp* op) { return of(op).form.provider; };
    GetStartVersion = [](const OrtCustomOp*) { return kOpVersion; };
    GetEndVersion = GetStartVersion;

    GetInputTypeCount = [](const OrtCustomOp* op) { return of(op).form.inputs; };
    GetInputType = [](const OrtCustomOp* op, std::size_t index) {
        return index == 0 ? element_type(of(op).type) : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return kOutputs; };
    GetOutputType = [](const OrtCustomOp* op, std::size_t index) {
        return index == 0 ? element_type(of(op).type) : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    };
    GetOutputCharacteristic = GetInputCharacteristic;
    InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) {
        return guarded(of(op).api,
                       [&] { infer_shapes(of(op).api, *context, element_type(of(op).type)); });
    };

    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* its, const OrtKernelInfo* info,
                        void** kernel) {
        return guarded(*its,
                       [&] { *kernel = of(op).form.create(*its, *info, of(op).type).release(); });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
        return static_cast<const Kernel*>(kernel)->compute(*context);
    };
    KernelDestroy = [](void* kernel) {
        const std::unique_ptr<Kernel> owned(static_cast<Kernel*>(kernel));
    };
}

}  // namespace d2export::onnxruntime
