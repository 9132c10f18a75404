#include "streams.h"

#include <algorithm>

namespace stand_in {

std::shared_ptr<Capture> Captures::begin(CUstreamCaptureMode mode) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.push_back(
        std::make_shared<Capture>(Capture{mode, std::this_thread::get_id(), false, {}}));
    return open_.back();
}

void Captures::end(const std::shared_ptr<Capture>& capture) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.erase(std::find(open_.begin(), open_.end(), capture));
}

bool Captures::allow_unsafe() {
    const std::lock_guard<std::mutex> lock(mutex_);
    bool allowed = true;
    for (const auto& capture : open_) {
        const bool mine = capture->thread == std::this_thread::get_id();
        if (capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
            (mine && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED)) {
            capture->spoilt = true;
            allowed = false;
        }
    }
    return allowed;
}

void Captures::spoil(Capture& capture) {
    const std::lock_guard<std::mutex> lock(mutex_);
    capture.spoilt = true;
}

bool Captures::is_spoilt(const Capture& capture) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return capture.spoilt;
}

}  // namespace stand_in

void CUstream_st::add(const stand_in::Works& works) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (capture_ != nullptr) {
        capture_->works.insert(capture_->works.end(), works.begin(), works.end());
    } else {
        queue_.insert(queue_.end(), works.begin(), works.end());
    }
}

CUresult CUstream_st::drain() {
    const std::lock_guard<std::mutex> one_at_a_time(running_);
    while (true) {
        std::shared_ptr<const stand_in::Work> work;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (queue_.empty()) return CUDA_SUCCESS;
            work = queue_.front();
            queue_.pop_front();
        }
        const CUresult result = (*work)();
        if (result != CUDA_SUCCESS) return result;
    }
}

std::shared_ptr<stand_in::Capture> CUstream_st::capture() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return capture_;
}

void CUstream_st::set_capture(std::shared_ptr<stand_in::Capture> capture) {
    const std::lock_guard<std::mutex> lock(mutex_);
    capture_ = std::move(capture);
}
