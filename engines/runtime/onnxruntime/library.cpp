#include "library.h"

#include <d2export/error.h>
#include <dlfcn.h>

#include <algorithm>

namespace d2export::runtime::ort {
namespace {

constexpr const char* kSystemName = "libonnxruntime.so.1";
constexpr std::size_t kShown = 400;  // characters of ONNX Runtime's own messages

const OrtApiBase* open(const std::string& path) {
    const std::string name = path.empty() ? kSystemName : path;
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        const char* why = dlerror();
        throw misfit("cannot open ONNX Runtime: " + std::string(why == nullptr ? name : why),
                     "Name the library: libonnxruntime.so.* lies in the folder capi of the Python "
                     "package onnxruntime, and in lib of a release archive.");
    }
    void* symbol = dlsym(handle, "OrtGetApiBase");
    if (symbol == nullptr) {
        throw misfit(name + " is not ONNX Runtime: it has no OrtGetApiBase",
                     "Name libonnxruntime.so.*, not a library beside it.");
    }
    return reinterpret_cast<const OrtApiBase* (*)()>(symbol)();
}

}  // namespace

Library::Library(const std::string& path) {
    const OrtApiBase* base = open(path);
    version_ = base->GetVersionString();
    // The oldest table will do, and every later ONNX Runtime has it.
    api_ = base->GetApi(D2EXPORT_ORT_OLDEST);
    if (api_ == nullptr) {
        throw misfit("this is ONNX Runtime " + version_ + ", d2export::runtime needs 1." +
                         std::to_string(D2EXPORT_ORT_OLDEST) + " or newer",
                     "Name a newer libonnxruntime.so.");
    }
    OrtEnv* environment = nullptr;
    check(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "d2export", &environment),
          "cannot start ONNX Runtime " + version_, "Is there enough memory?");
    environment_ = {environment, api_->ReleaseEnv};
}

void Library::check(OrtStatus* status, const std::string& what, const char* hint,
                    Blame blame) const {
    if (status == nullptr) {
        return;
    }
    const Owned<OrtStatus> owned(status, {api_->ReleaseStatus});
    std::string message = api_->GetErrorMessage(status);
    std::replace(message.begin(), message.end(), '\n', ' ');
    const std::string problem = what + ": " + message.substr(0, kShown);
    if (api_->GetErrorCode(status) == ORT_NOT_IMPLEMENTED) {
        throw misfit(problem, "Use a newer ONNX Runtime than " + version_ +
                                  ", or build the bundle with another --precision or --opset.");
    }
    throw Error(blame, problem, hint);
}

}  // namespace d2export::runtime::ort
