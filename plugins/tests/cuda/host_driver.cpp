// Runs the phases of the CUDA kernels on the host: a thread of the host for each block, a barrier
// where a kernel has one, and a workspace of exactly the size that is asked for.
//
// A function of plain C for each op, for tests that call it from Python.

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "host_block.h"
#include "host_kernel.h"

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

template <typename T, Rule kRule>
void run(const ProblemOf<kRule>& problem, std::int32_t blocks, Order order) {
    Barrier barrier(blocks);
    std::vector<std::thread> threads;
    for (std::int32_t index = 0; index < blocks; ++index) {
        threads.emplace_back([&, index] {
            HostBlock block(index, blocks, order);
            run_phases<T, kRule>(block, problem, [&] { barrier.wait(); });
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

template <Rule kRule>
using Run = void (*)(const ProblemOf<kRule>&, std::int32_t, Order);

template <Rule kRule>
Run<kRule> run_of(DataType type) {
    constexpr Run<kRule> kRuns[] = {run<float, kRule>, run<Half, kRule>, run<BFloat16, kRule>};
    return kRuns[static_cast<std::size_t>(type)];
}

template <typename Attributes>
std::int32_t run_op(const Shape& shape, const Inputs& inputs, const Attributes& attributes,
                    std::int32_t blocks, std::int32_t order, void* kept, std::int32_t* indices) {
    std::size_t bytes = 0;
    lay_out(shape, inputs.type, attributes, nullptr, &bytes);
    const std::unique_ptr<void, Free> workspace(std::aligned_alloc(kAlignment, bytes));
    std::memset(workspace.get(), 0xFF, bytes);
    Problem problem = lay_out(shape, inputs.type, attributes, workspace.get(), nullptr);
    problem.inputs = inputs;
    problem.kept = kept;
    problem.indices = indices;
    run_of<rule_of(Attributes{})>(inputs.type)(problem, blocks, static_cast<Order>(order));
    return problem.wanted;
}

std::int32_t run_prompt(const PromptShape& shape, const PromptInputs& inputs,
                        const PositionsParameters& parameters, std::int32_t blocks,
                        std::int32_t order, std::int32_t* positions) {
    std::size_t bytes = 0;
    lay_out(shape, inputs.type, parameters, nullptr, &bytes);
    const std::unique_ptr<void, Free> workspace(std::aligned_alloc(kAlignment, bytes));
    std::memset(workspace.get(), 0xFF, bytes);
    PromptProblem problem = lay_out(shape, inputs.type, parameters, workspace.get(), nullptr);
    problem.inputs = {inputs.hidden_states, inputs.importance, inputs.prior, inputs.grid,
                      inputs.type};
    problem.visual_positions = inputs.visual_positions;
    problem.image_lengths = inputs.image_lengths;
    problem.positions = positions;
    run_of<Rule::kPositions>(inputs.type)(problem, blocks, static_cast<Order>(order));
    return problem.surviving;
}

template <typename T, Rule kRule>
void run_forward(const void* problem, std::int32_t blocks) {
    run<T, kRule>(*static_cast<const ProblemOf<kRule>*>(problem), blocks, Order::kForward);
}

template <Rule kRule>
constexpr HostKernel kKernels[] = {run_forward<float, kRule>, run_forward<Half, kRule>,
                                   run_forward<BFloat16, kRule>};

}  // namespace

const void* kernel_of(Rule rule, DataType type) noexcept {
    constexpr const HostKernel* kOfRules[] = {kKernels<Rule::kD2>, kKernels<Rule::kMaxMin>,
                                              kKernels<Rule::kDpp>, kKernels<Rule::kDeduplicate>,
                                              kKernels<Rule::kPositions>};
    const HostKernel kernel =
        kOfRules[static_cast<std::size_t>(rule)][static_cast<std::size_t>(type)];
    return reinterpret_cast<const void*>(kernel);
}

}  // namespace d2export::cuda

// kept [B, M, C] of `type`, indices [B, M]. Returns M.
#define D2EXPORT_RUN(name, Attributes)                                                             \
    extern "C" __attribute__((visibility("default"))) std::int32_t name(                           \
        const d2export::Shape* shape, const d2export::Inputs* inputs,                              \
        const d2export::Attributes* attributes, std::int32_t blocks, std::int32_t order,           \
        void* kept, std::int32_t* indices) {                                                       \
        return d2export::cuda::run_op(*shape, *inputs, *attributes, blocks, order, kept, indices); \
    }
D2EXPORT_RUN(d2export_run_phases, Parameters)
D2EXPORT_RUN(d2export_run_max_min_phases, MaxMinParameters)
D2EXPORT_RUN(d2export_run_dpp_phases, DppParameters)
D2EXPORT_RUN(d2export_run_deduplicate_phases, DeduplicateParameters)

// positions [T - V + n]. Returns their number.
extern "C" __attribute__((visibility("default"))) std::int32_t d2export_run_positions_phases(
    const d2export::PromptShape* shape, const d2export::PromptInputs* inputs,
    const d2export::PositionsParameters* parameters, std::int32_t blocks, std::int32_t order,
    std::int32_t* positions) {
    return d2export::cuda::run_prompt(*shape, *inputs, *parameters, blocks, order, positions);
}
