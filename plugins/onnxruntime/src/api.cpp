#include "api.h"

#include <memory>

namespace d2export::onnxruntime {

void check(const OrtApi& api, OrtStatus* status) {
    if (status == nullptr) {
        return;
    }
    const std::unique_ptr<OrtStatus, decltype(api.ReleaseStatus)> owned(status, api.ReleaseStatus);
    throw Failure(api.GetErrorMessage(status), api.GetErrorCode(status));
}

bool failed(const OrtApi& api, OrtStatus* status) noexcept {
    api.ReleaseStatus(status);
    return status != nullptr;
}

}  // namespace d2export::onnxruntime
