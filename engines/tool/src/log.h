// What TensorRT says: errors are kept for the message that ends the program, warnings are shown
// with --verbose, the rest is left out.
#pragma once

#include <NvInferRuntime.h>

#include <mutex>
#include <string>
#include <vector>

#include "failure.h"

namespace d2export::tool {

class Log final : public nvinfer1::ILogger {
 public:
    explicit Log(bool verbose) : verbose_(verbose) {}

    void log(Severity severity, const char* message) noexcept override;

    // A line on standard error.
    static void note(const std::string& line);

    // Exit code 3, with `details` and the errors so far below the problem.
    Failure failure(const std::string& problem, std::vector<std::string> details = {},
                    const std::string& hint = kHint) const;

 private:
    static constexpr const char* kHint =
        "Read docs/engines.md, or try another version of TensorRT.";

    bool verbose_;
    mutable std::mutex mutex_;  // builders log from several threads
    std::vector<std::string> errors_;
};

}  // namespace d2export::tool
