// Things that are made when they are needed, and kept for the next who needs one.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace d2export::runtime::trt {

// May be used from any number of threads at once. Shared by those who have something of it.
template <typename Thing>
class Pool : public std::enable_shared_from_this<Pool<Thing>> {
 public:
    // One thing of the pool, given back at the end.
    class Taken {
     public:
        Taken(std::shared_ptr<Pool> pool, std::unique_ptr<Thing> thing)
            : pool_(std::move(pool)), thing_(std::move(thing)) {}
        ~Taken() {
            if (thing_ != nullptr) {
                pool_->give(std::move(thing_));
            }
        }
        Taken(Taken&&) noexcept = default;
        Taken& operator=(Taken&&) = delete;
        Thing* operator->() const { return thing_.get(); }
        Thing& operator*() const { return *thing_; }

     private:
        std::shared_ptr<Pool> pool_;
        std::unique_ptr<Thing> thing_;
    };

    // At most so many, then others wait; 0 for any number.
    Pool(std::function<std::unique_ptr<Thing>()> make, std::size_t most)
        : make_(std::move(make)), most_(most) {}

    // The one that was given back last, whose memory is large enough for its like; or a new one.
    Taken take() {
        std::unique_lock<std::mutex> lock(mutex_);
        given_.wait(lock, [&] { return !idle_.empty() || most_ == 0 || made_ < most_; });
        if (!idle_.empty()) {
            std::unique_ptr<Thing> thing = std::move(idle_.back());
            idle_.pop_back();
            return {this->shared_from_this(), std::move(thing)};
        }
        idle_.reserve(made_ + 1);  // giving back cannot fail
        ++made_;
        lock.unlock();
        try {
            return {this->shared_from_this(), make_()};
        } catch (...) {
            lock.lock();
            --made_;
            given_.notify_one();
            throw;
        }
    }

 private:
    void give(std::unique_ptr<Thing> thing) noexcept {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            idle_.push_back(std::move(thing));
        }
        given_.notify_one();
    }

    std::function<std::unique_ptr<Thing>()> make_;
    std::size_t most_;
    std::mutex mutex_;
    std::condition_variable given_;
    std::size_t made_ = 0;
    std::vector<std::unique_ptr<Thing>> idle_;
};

}  // namespace d2export::runtime::trt
