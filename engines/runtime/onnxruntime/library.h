// ONNX Runtime's shared library, opened while the program runs.
#pragma once

#include <d2export/error.h>
#include <onnxruntime_c_api.h>

#include <memory>
#include <string>

namespace d2export::runtime::ort {

class Library {
 public:
    // Throws an Error: it cannot be opened, or is too old. It is never closed: ONNX Runtime keeps
    // threads and static objects that do not survive that.
    explicit Library(const std::string& path);

    const OrtApi& api() const { return *api_; }
    const std::string& version() const { return version_; }
    OrtEnv* environment() const { return environment_.get(); }

    // Throws an Error that says what could not be done, if this is a failure.
    void check(OrtStatus* status, const std::string& what, const char* hint,
               Blame blame = Blame::kInput) const;

 private:
    const OrtApi* api_;
    std::string version_;
    std::shared_ptr<OrtEnv> environment_;
};

// Releases what the C API made.
template <typename Thing>
struct Release {
    void (*release)(Thing*) = nullptr;
    void operator()(Thing* thing) const { release(thing); }
};
template <typename Thing>
using Owned = std::unique_ptr<Thing, Release<Thing>>;

}  // namespace d2export::runtime::ort
