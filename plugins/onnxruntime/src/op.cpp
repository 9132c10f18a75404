#include "op.h"

#include <memory>

#include "arguments.h"
#include "d2export/parameters.h"
#include "shapes.h"

namespace d2export::onnxruntime {
namespace {

const Op& of(const OrtCustomOp* op) noexcept { return *static_cast<const Op*>(op); }

ONNXTensorElementDataType input_type(const Op& op, std::size_t index) noexcept {
    if (index == 0) {
        return element_type(op.type);
    }
    const bool whole = op.form.of_prompt && index >= 4;  // visual_positions, image_lengths
    return whole ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

ONNXTensorElementDataType output_type(const Op& op, std::size_t index) noexcept {
    const bool kept = index == 0 && !op.form.of_prompt;
    return kept ? element_type(op.type) : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
}

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
        return input_type(of(op), index);
    };
    GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
    GetOutputTypeCount = [](const OrtCustomOp* op) { return of(op).form.outputs; };
    GetOutputType = [](const OrtCustomOp* op, std::size_t index) {
        return output_type(of(op), index);
    };
    GetOutputCharacteristic = GetInputCharacteristic;
    InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) {
        return guarded(of(op).api, [&] {
            if (of(op).form.of_prompt) {
                infer_positions(of(op).api, *context);
            } else {
                infer_shapes(of(op).api, *context, element_type(of(op).type));
            }
        });
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
