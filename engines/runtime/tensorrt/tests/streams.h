// Work for a GPU that is none: it waits on its stream until somebody waits for that, or is
// recorded.
#pragma once

#include <cuda.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace stand_in {

using Work = std::function<CUresult()>;
using Works = std::vector<std::shared_ptr<const Work>>;

// What a stream records, and what forbids other calls meanwhile.
struct Capture {
    CUstreamCaptureMode mode;
    std::thread::id thread;
    bool spoilt = false;
    Works works;
};

// The captures of all streams.
class Captures {
 public:
    std::shared_ptr<Capture> begin(CUstreamCaptureMode mode);
    void end(const std::shared_ptr<Capture>& capture);
    // Whether a call that is unsafe while something is recorded may be made now, by this thread; if
    // not, what is recorded is spoilt.
    bool allow_unsafe();
    void spoil(Capture& capture);
    bool is_spoilt(const Capture& capture);

 private:
    std::mutex mutex_;
    std::vector<std::shared_ptr<Capture>> open_;
};

}  // namespace stand_in

struct CUstream_st {
 public:
    explicit CUstream_st(CUcontext context) : context_(context) {}
    CUcontext context() const { return context_; }

    // Puts work behind what is there, or into what is recorded.
    void add(const stand_in::Works& works);
    // Runs all that is there; of what fails, the result.
    CUresult drain();

    std::shared_ptr<stand_in::Capture> capture() const;
    void set_capture(std::shared_ptr<stand_in::Capture> capture);

 private:
    const CUcontext context_;
    mutable std::mutex mutex_;
    std::mutex running_;
    std::deque<std::shared_ptr<const stand_in::Work>> queue_;
    std::shared_ptr<stand_in::Capture> capture_;
};
