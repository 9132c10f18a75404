#include "measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace d2export::tool {
namespace {

class LayerTimes final : public nvinfer1::IProfiler {
 public:
    void reportLayerTime(const char* layer, float milliseconds) noexcept override {
        auto [found, is_new] = times_.try_emplace(layer);
        if (is_new) order_.emplace_back(layer);
        found->second.push_back(static_cast<double>(milliseconds));
    }

    void forget() {
        times_.clear();
        order_.clear();
    }

    std::vector<std::pair<std::string, double>> medians() const {
        std::vector<std::pair<std::string, double>> found;
        for (const std::string& layer : order_) {
            found.emplace_back(layer, percentile(times_.at(layer), 0.5));
        }
        return found;
    }

 private:
    std::map<std::string, std::vector<double>> times_;
    std::vector<std::string> order_;
};

}  // namespace

Times measure(const Stream& stream, const std::function<void()>& work, std::int64_t warm_up,
              std::int64_t runs) {
    for (std::int64_t run = 0; run < warm_up; ++run) work();
    stream.wait();
    Event start, end;
    Times times;
    for (std::int64_t run = 0; run < runs; ++run) {
        const auto called = std::chrono::steady_clock::now();
        start.record(stream);
        work();
        end.record(stream);
        stream.wait();
        const std::chrono::duration<double, std::milli> waited =
            std::chrono::steady_clock::now() - called;
        times.gpu.push_back(end.since(start));
        times.host.push_back(waited.count());
    }
    return times;
}

double percentile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    const double rank = std::ceil(share * static_cast<double>(values.size()));
    return values.at(static_cast<std::size_t>(std::max(rank, 1.0)) - 1);
}

std::vector<std::pair<std::string, double>> layer_times(Session& session, std::int64_t warm_up,
                                                        std::int64_t runs) {
    LayerTimes times;
    session.report_to(&times);
    for (std::int64_t run = 0; run < warm_up + runs; ++run) {
        if (run == warm_up) times.forget();
        session.enqueue();
        session.stream().wait();
    }
    session.report_to(nullptr);
    return times.medians();
}

}  // namespace d2export::tool
