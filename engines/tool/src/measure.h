// How long an engine takes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "device.h"
#include "session.h"

namespace d2export::tool {

// Milliseconds of each run: on the GPU by events, and on the host from the call until it is done.
struct Times {
    std::vector<double> gpu, host;
};

Times measure(const Stream& stream, const std::function<void()>& work, std::int64_t warm_up,
              std::int64_t runs);

// The value that a share of the values does not exceed (nearest rank).
double percentile(std::vector<double> values, double share);

// Median milliseconds of each layer, in the engine's order. TensorRT waits for every layer, so that
// their sum exceeds the time of a run.
std::vector<std::pair<std::string, double>> layer_times(Session& session, std::int64_t warm_up,
                                                        std::int64_t runs);

}  // namespace d2export::tool
