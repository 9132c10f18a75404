// The library's only entry point. A session that registers it runs the ops' nodes with it:
//
//   C++     Ort::SessionOptions::RegisterCustomOpsLibrary("libd2export_onnxruntime.so")
//   Python  SessionOptions.register_custom_ops_library("libd2export_onnxruntime.so")
#include <memory>
#include <vector>

#include "api.h"
#include "cpu.h"
#include "d2export/parameters.h"
#include "d2export/rule_parameters.h"
#include "op.h"
#if defined(D2EXPORT_WITH_CUDA)
#include "gpu.h"
#endif

namespace d2export::onnxruntime {
namespace {

template <typename Device>
constexpr const Form* kForms[] = {
    &kForm<Parameters, Device>, &kForm<MaxMinParameters, Device>, &kForm<DppParameters, Device>,
    &kForm<DeduplicateParameters, Device>, &kForm<PositionsParameters, Device>};

// The ops and their domain. Sessions point to them, so they live as long as the library does, which
// ONNX Runtime unloads after its last session.
class Library {
 public:
    explicit Library(const OrtApi& api) : domain_(nullptr, api.ReleaseCustomOpDomain) {
        add(api, kForms<Cpu>);
#if defined(D2EXPORT_WITH_CUDA)
        add(api, kForms<Gpu>);
#endif
        OrtCustomOpDomain* domain = nullptr;
        check(api, api.CreateCustomOpDomain(kOpDomain, &domain));
        domain_.reset(domain);
        for (const Op& op : ops_) {
            check(api, api.CustomOpDomain_Add(domain, &op));
        }
    }

    OrtCustomOpDomain* domain() const noexcept { return domain_.get(); }

 private:
    template <typename Forms>
    void add(const OrtApi& api, const Forms& forms) {
        for (const Form* const form : forms) {
            for (const DataType type :
                 {DataType::kFloat32, DataType::kFloat16, DataType::kBFloat16}) {
                ops_.emplace_back(api, *form, type);
            }
        }
    }

    std::vector<Op> ops_;
    std::unique_ptr<OrtCustomOpDomain, decltype(OrtApi::ReleaseCustomOpDomain)> domain_;
};

}  // namespace
}  // namespace d2export::onnxruntime

// ONNX Runtime finds it by its name.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
    using namespace d2export::onnxruntime;
    const OrtApi* const api = base->GetApi(D2EXPORT_ORT_OLDEST);
    if (api == nullptr) {
        const std::string message = "libd2export_onnxruntime needs ONNX Runtime 1." +
                                    std::to_string(D2EXPORT_ORT_OLDEST) + " or newer, this is " +
                                    base->GetVersionString();
        return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, message.c_str());
    }
    return guarded(*api, [&] {
        static const Library library(*api);
        check(*api, api->AddCustomOpDomain(options, library.domain()));
    });
}
