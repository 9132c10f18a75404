// Runs the phases of the CUDA kernel on the host: a thread of the host for each block, a barrier
// where the kernel has one, and a workspace of exactly the size that is asked for.
//
// One function of plain C, for tests that call it from Python.

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "host_block.h"

namespace d2export::cuda {
namespace {

class Barrier {
 public:
    explicit Barrier(std::int32_t parties) : parties_(parties) {}

    void wait() {
        std::unique_lock<std::mutex> lock(mutex_);
        const std::int64_t round = round_;
        if (++waiting_ == parties_) {
            waiting_ = 0;
            ++round_;
            met_.notify_all();
        } else {
            met_.wait(lock, [&] { return round_ != round; });
        }
    }

 private:
    std::mutex mutex_;
    std::condition_variable met_;
    std::int32_t parties_;
    std::int32_t waiting_ = 0;
    std::int64_t round_ = 0;
};

template <typename T>
void run(const Problem& problem, std::int32_t blocks, Order order) {
    Barrier barrier(blocks);
    std::vector<std::thread> threads;
    for (std::int32_t index = 0; index < blocks; ++index) {
        threads.emplace_back([&, index] {
            HostBlock block(index, blocks, order);
            run_phases<T>(block, problem, [&] { barrier.wait(); });
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

}  // namespace
}  // namespace d2export::cuda

// kept [B, M, C] of `type`, indices [B, M]. Returns M.
extern "C" __attribute__((visibility("default"))) std::int32_t d2export_run_phases(
    const d2export::Shape* shape, const d2export::Inputs* inputs,
    const d2export::Parameters* parameters, std::int32_t blocks, std::int32_t order, void* kept,
    std::int32_t* indices) {
    using namespace d2export::cuda;
    std::size_t bytes = 0;
    lay_out(*shape, inputs->type, *parameters, nullptr, &bytes);
    const std::unique_ptr<void, Free> workspace(std::aligned_alloc(256, bytes));
    std::memset(workspace.get(), 0xFF, bytes);
    Problem problem = lay_out(*shape, inputs->type, *parameters, workspace.get(), nullptr);
    problem.inputs = *inputs;
    problem.kept = kept;
    problem.indices = indices;
    switch (inputs->type) {
        case d2export::DataType::kFloat32:
            run<float>(problem, blocks, static_cast<Order>(order));
            break;
        case d2export::DataType::kFloat16:
            run<Half>(problem, blocks, static_cast<Order>(order));
            break;
        case d2export::DataType::kBFloat16:
            run<BFloat16>(problem, blocks, static_cast<Order>(order));
            break;
    }
    return problem.wanted;
}
