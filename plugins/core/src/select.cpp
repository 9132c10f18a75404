#include "d2export/select.h"

#include "choice.h"
#include "d2export/rules.h"
#include "pictures.h"
#include "scores.h"
#include "scratch.h"

namespace d2export {
namespace {

struct Work {
    Scratch scratch;
    float* scores;        // [N]
    std::uint64_t* keys;  // [N], rules::rank_key
    std::uint8_t* stays;  // [N]
    Walk walk;

    Work(const Shape& shape, std::int32_t joining, void* memory) noexcept
        : scratch(memory),
          scores(scratch.take<float>(static_cast<std::size_t>(shape.tokens))),
          keys(scratch.take<std::uint64_t>(static_cast<std::size_t>(shape.tokens))),
          stays(scratch.take<std::uint8_t>(static_cast<std::size_t>(shape.tokens))),
          walk(joining, shape.channels, scratch) {}
};

// r = mean over heads / (prior + eps), as keys.
void score(const Shape& shape, const float* importance, const float* prior, float eps,
           const Work& work) noexcept {
    mean_over_heads(shape, importance, work.scores);
    for (std::int32_t i = 0; i < shape.tokens; ++i) {
        const float r = rules::debias(work.scores[i], prior[i], eps);
        work.keys[i] = rules::rank_key(r, static_cast<std::uint32_t>(i));
    }
}

}  // namespace

std::size_t scratch_bytes(const Shape& shape, const Parameters& parameters) noexcept {
    const Work work(shape, joining(shape.tokens, parameters), nullptr);
    return work.scratch.taken();
}

void select(const Shape& shape, const Inputs& inputs, const Parameters& parameters,
            std::int32_t* indices, void* scratch) noexcept {
    const std::int32_t kept = parameters.kept(shape.tokens);
    if (kept == shape.tokens) {
        keep_all(shape, indices);
        return;
    }
    Work work(shape, joining(shape.tokens, parameters), scratch);
    select_each(shape, inputs, work.stays, indices, [&](const Picture& picture) {
        score(shape, picture.importance, inputs.prior, parameters.eps, work);
        const Neighbourhood neighbourhood{picture.features, picture.type, nullptr,
                                          inputs.grid,      0.0F,         parameters.alpha,
                                          parameters.theta};
        choose(neighbourhood, work.keys, shape.tokens, parameters, work.walk, work.stays);
    });
}

}  // namespace d2export
