// ONNX Runtime's C interface as this library uses it: errors are exceptions inside, and statuses
// again where ONNX Runtime calls.
#pragma once

#include <onnxruntime_c_api.h>

#include <exception>
#include <stdexcept>
#include <string>

namespace d2export::onnxruntime {

// What ONNX Runtime is told as an OrtStatus. Never leaves the library.
class Failure : public std::runtime_error {
 public:
    explicit Failure(const std::string& message, OrtErrorCode code = ORT_INVALID_ARGUMENT)
        : std::runtime_error(message), code_(code) {}

    OrtErrorCode code() const noexcept { return code_; }

 private:
    OrtErrorCode code_;
};

// Throws what `status` says, if anything, and releases it.
void check(const OrtApi& api, OrtStatus* status);

// Whether there was an error, which is released.
bool failed(const OrtApi& api, OrtStatus* status) noexcept;

// What `body` throws, as a status; null if nothing.
template <typename Body>
OrtStatus* guarded(const OrtApi& api, const Body& body) noexcept {
    try {
        body();
        return nullptr;
    } catch (const Failure& failure) {
        return api.CreateStatus(failure.code(), failure.what());
    } catch (const std::exception& failure) {
        return api.CreateStatus(ORT_FAIL, failure.what());
    }
}

}  // namespace d2export::onnxruntime
