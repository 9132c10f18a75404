// How D2PrunePositions is launched: from the shapes alone.

#include "acted_launch.h"
#include "d2export/cuda_positions.h"

namespace d2export::tests {
namespace {

constexpr PromptShape kPrompt{/*heads=*/16, /*length=*/700, /*channels=*/1024, /*tokens=*/576,
                              /*images=*/2};

PositionsParameters by_count(std::int64_t keep) {
    PositionsParameters made;
    made.keep = keep;
    return made;
}

cudaError_t run(const PromptShape& shape, std::int64_t keep, void* workspace = nullptr) {
    runtime = {};
    PromptInputs inputs;
    inputs.type = DataType::kFloat32;
    return cuda::select_positions(shape, inputs, by_count(keep), nullptr, workspace, nullptr);
}

void check_launches() {
    demand(run(kPrompt, 64) == cudaSuccess && runtime.launches == std::vector<unsigned>{264},
           "as many blocks as fit");
    demand(runtime.kernel == &kernels[4][0], "its own kernel");
    demand(runtime.problem.surviving == 700 - 576 + 128, "both images keep 64");
    PromptShape one = kPrompt;
    one.images = 1;
    demand(run(one, 64) == cudaSuccess && runtime.launches == std::vector<unsigned>{256},
           "no more blocks than have work");
    demand(run(kPrompt, 288) == cudaSuccess && runtime.launches == std::vector<unsigned>{3},
           "blocks that only count, where all stay");
    const PromptShape decoding{16, 1, 1024, 0, 0};
    demand(run(decoding, 64) == cudaSuccess && runtime.launches == std::vector<unsigned>{1},
           "one block for a decode step");
    demand(run({16, 10, 1024, 5, 0}, 64) == cudaSuccess &&
               runtime.launches == std::vector<unsigned>{1} && runtime.problem.surviving == 5,
           "nor more where no image has the tokens");
    demand(run({1, 0, 1024, 0, 0}, 64) == cudaSuccess && runtime.launches.empty(),
           "no launch for no prompt");
    demand(cuda::prepare<PositionsParameters>(DataType::kBFloat16) == cudaSuccess &&
               runtime.kernel == &kernels[4][2],
           "what is prepared");
}

void check_workspace() {
    const std::size_t bytes = cuda::workspace_bytes(kPrompt, by_count(64));
    const auto base = std::uintptr_t{1} << 40;  // nothing is read or written there
    for (std::size_t start = 0; start < 512; start += 16) {
        auto* const workspace = reinterpret_cast<unsigned char*>(base + start);
        demand(run(kPrompt, 64, workspace) == cudaSuccess, "a launch anywhere");
        const cuda::PromptProblem& problem = runtime.problem;
        std::vector<Array> arrays;
        add(arrays, problem.workspace.keys, 576);
        add(arrays, problem.workspace.order, 576);
        add(arrays, problem.workspace.stays, 20);
        add(arrays, problem.workspace.panel, 40);  // 64 - 44 pivots, twice
        add(arrays, problem.workspace.panel_scale, 40);
        add(arrays, problem.workspace.tile_scale, 256);
        add(arrays, problem.workspace.products, std::size_t{128} * 4 * 2 * (32 + 128));
        add(arrays, problem.workspace.rivals, std::size_t{256} * 4);
        add(arrays, problem.workspace.blocked, 256);
        add(arrays, problem.workspace.progress, 2);
        add(arrays, problem.workspace.diagonal, 2);
        add(arrays, problem.workspace.open, 1);
        add(arrays, problem.segments, 2);
        add(arrays, problem.gone, 22);
        add(arrays, problem.left, 1);
        demand(arrays.size() == 15, "the arrays that the op has");
        check_arrays(arrays, workspace, bytes);
    }
    demand(cuda::workspace_bytes({1, 1, 4096, 0, 0}, by_count(64)) < 512,
           "next to none for a decode step");
}

// TensorRT asks with the largest shape, where fewer tokens may have to go.
void check_growth() {
    PositionsParameters share;
    share.keep_permille = 250;
    for (const PositionsParameters& parameters : {by_count(20), share}) {
        for (std::int32_t tokens = 1; tokens < 200; ++tokens) {
            for (std::int32_t images = 1; images < 8; ++images) {
                const PromptShape shape{1, tokens + 9, 64, tokens, images};
                PromptShape more = shape;
                ++more.images;
                const std::size_t bytes = cuda::workspace_bytes(shape, parameters);
                demand(bytes <= cuda::workspace_bytes(more, parameters), "no less for an image");
                more = shape;
                ++more.tokens;
                ++more.length;
                demand(bytes <= cuda::workspace_bytes(more, parameters), "no less for a token");
            }
        }
    }
}

void check_limits() {
    const auto fault = [](const PromptShape& shape) { return cuda::fault(shape); };
    demand(fault({1, 1 << 30, 8192, 16384, 1 << 23}).empty() && fault({1, -1, -1, -1, -1}).empty(),
           "the largest prompt, an unknown one");
    demand(fault({1, 20000, 8, 16385, 1}) ==
               "visual_positions has 16385 tokens, expected at most 16384",
           "tokens");
    demand(fault({1, 9, 8193, 1, 1}) == "hidden_states has 8193 channels, expected at most 8192",
           "channels");
    demand(!fault({1, (1 << 30) + 1, 8, 1, 1}).empty(), "a longer prompt");
    demand(!fault({1, 9, 8, 1, (1 << 23) + 1}).empty(), "more images");
}

}  // namespace

void check_positions() {
    check_launches();
    check_workspace();
    check_growth();
    check_limits();
}

}  // namespace d2export::tests
