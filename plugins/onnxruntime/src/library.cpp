// The library's only entry point. A session that registers it runs D2Prune nodes with it:
//
//   C++     Ort::SessionOptions::RegisterCustomOpsLibrary("libd2export_onnxruntime.so")
//   Python  SessionOptions.register_custom_ops_library("libd2export_onnxruntime.so")
#include <memory>
#include <vector>

#include "api.h"
#include "d2export/parameters.h"
#include "op.h"

namespace d2export::onnxruntime {
namespace {

// The ops and their domain. Sessions point to them, so they live as long as the library does, which
// ONNX Runtime unloads after its last session.
class Library {
 public:
    explicit Library(const OrtApi& api) : domain_(nullptr, api.ReleaseCustomOpDomain) {
        constexpr DataType kTypes[] = {DataType::kFloat32, DataType::kFloat16, DataType::kBFloat16};
        for (const DataType type : kTypes) {
            ops_.emplace_back(api, type, kCpu);
        }
#if defined(D2EXPORT_WITH_CUDA)
        for (const DataType type : kTypes) {
            ops_.emplace_back(api, type, kGpu);
        }
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
