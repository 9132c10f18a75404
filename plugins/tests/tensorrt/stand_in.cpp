#include "stand_in.h"

#include <utility>

namespace d2export::tests {
namespace {

struct State {
    std::int32_t version = NV_TENSORRT_VERSION;
    std::string errors;
};

State &state() {
    static State only;
    return only;
}

class Logger final : public nvinfer1::ILogger {
 public:
    void log(Severity severity, const char *message) noexcept override {
        if (severity == Severity::kERROR) {
            state().errors += message;
        }
    }
};

class Finder final : public nvinfer1::ILoggerFinder {
 public:
    nvinfer1::ILogger *findLogger() override { return &logger_; }

 private:
    Logger logger_;
};

}  // namespace

nvinfer1::ILoggerFinder *logger_finder() {
    static Finder finder;
    return &finder;
}

void claim_version(std::int32_t version) { state().version = version; }

std::string take_errors() { return std::exchange(state().errors, {}); }

}  // namespace d2export::tests

extern "C" D2EXPORT_STAND_IN std::int32_t getInferLibVersion() noexcept {
    return d2export::tests::state().version;
}
