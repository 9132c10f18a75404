#include "report.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdio>

namespace d2export::tensorrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

// Whether `object` belongs to a TensorRT of the major version of our headers. ILoggerFinder's
// functions changed places from 10 to 11, so a finder of another version must not be called.
bool is_of_our_version(const void* object) noexcept {
    const void* const functions = *static_cast<const void* const*>(object);
    Dl_info owner{};
    if (dladdr(functions, &owner) == 0 || owner.dli_fname == nullptr) {
        return false;
    }
    void* const library = dlopen(owner.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) {
        return false;
    }
    using Version = std::int32_t (*)();
    const auto version = reinterpret_cast<Version>(dlsym(library, "getInferLibVersion"));
    const std::int32_t number = version == nullptr ? 0 : version();
    dlclose(library);
    // 8601 is 8.6.1; 100300 is 10.3.0.
    const std::int32_t major = number >= 100000 ? number / 10000 : number / 1000;
    return major == NV_TENSORRT_MAJOR;
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder = finder; }

void report(const std::string& message) noexcept {
    nvinfer1::ILoggerFinder* const finder = logger_finder;
    nvinfer1::ILogger* const logger =
        finder != nullptr && is_of_our_version(finder) ? finder->findLogger() : nullptr;
    if (logger != nullptr) {
        logger->log(nvinfer1::ILogger::Severity::kERROR, message.c_str());
    } else {
        std::fprintf(stderr, "[E] %s\n", message.c_str());
    }
}

}  // namespace d2export::tensorrt
