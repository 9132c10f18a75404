#include "d2export/positions.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "choice.h"
#include "d2export/rules.h"
#include "scores.h"
#include "scratch.h"

namespace d2export {
namespace {

struct Work {
    Scratch scratch;
    float* scores;             // [T]
    std::uint64_t* keys;       // [V], rules::rank_key
    std::uint64_t* reordered;  // [V], of one image, then of those that are not settled
    std::uint8_t* stays;       // [V]
    Walk walk;

    Work(const PromptShape& shape, const PositionsParameters& parameters, void* memory) noexcept
        : scratch(memory),
          scores(scratch.take<float>(static_cast<std::size_t>(shape.length))),
          keys(scratch.take<std::uint64_t>(static_cast<std::size_t>(shape.tokens))),
          reordered(scratch.take<std::uint64_t>(static_cast<std::size_t>(shape.tokens))),
          stays(scratch.take<std::uint8_t>(static_cast<std::size_t>(shape.tokens))),
          walk(parameters.most_joining(shape.tokens), shape.channels, scratch) {}
};

void score(const PromptShape& shape, const PromptInputs& inputs, float eps,
           const Work& work) noexcept {
    mean_over_heads({1, shape.heads, shape.length, shape.channels}, inputs.importance, work.scores);
    for (std::int32_t i = 0; i < shape.tokens; ++i) {
        const float r =
            rules::debias(work.scores[inputs.visual_positions[i]], inputs.prior[i], eps);
        work.keys[i] = rules::rank_key(r, static_cast<std::uint32_t>(i));
    }
}

// Marks what stays of the image whose tokens are `first` and so many more.
void choose_of_image(std::int32_t first, std::int32_t tokens, const PromptInputs& inputs,
                     const Parameters& parameters, Work& work) noexcept {
    std::uint8_t* const stays = work.stays + first;
    if (parameters.kept(tokens) == tokens) {
        std::memset(stays, 1, static_cast<std::size_t>(tokens));
        return;
    }
    std::transform(work.keys + first, work.keys + first + tokens, work.reordered,
                   [first](std::uint64_t key) { return key - static_cast<std::uint64_t>(first); });
    const Integers rows = inputs.visual_positions.from(first);
    const Neighbourhood neighbourhood{inputs.hidden_states,
                                      inputs.type,
                                      &rows,
                                      inputs.grid + 2 * static_cast<std::size_t>(first),
                                      0.0F,
                                      parameters.alpha,
                                      parameters.theta};
    choose(neighbourhood, work.reordered, tokens, parameters, work.walk, stays);
}

// `wanted` stay in all: to what was chosen the best of the rest are added; of more than that, which
// shares of at least one token can add up to, the best remain.
void settle(const PromptShape& shape, std::int32_t wanted, Work& work) noexcept {
    const std::int32_t chosen = std::accumulate(work.stays, work.stays + shape.tokens, 0);
    if (chosen == wanted) {
        return;
    }
    const bool too_many = chosen > wanted;
    std::uint64_t* end = work.reordered;
    for (std::int32_t i = 0; i < shape.tokens; ++i) {
        if ((work.stays[i] != 0) == too_many) {
            work.stays[i] = 0;
            *end++ = work.keys[i];
        }
    }
    std::uint64_t* const best = work.reordered + (too_many ? wanted : wanted - chosen);
    std::nth_element(work.reordered, best, end);
    std::for_each(work.reordered, best,
                  [&](std::uint64_t key) { work.stays[key & 0xFFFFFFFFU] = 1; });
}

std::string listed(const Integers& numbers, std::int32_t count) {
    std::string text = "[";
    for (std::int32_t i = 0; i < count; ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(numbers[i]);
    }
    return text + "]";
}

}  // namespace

std::int32_t surviving(const PromptShape& shape, const Budget& budget) noexcept {
    return shape.length - shape.tokens + budget.kept_of(shape.images, shape.tokens);
}

std::string fault(const PromptShape& shape, const PromptInputs& inputs) {
    std::int64_t before = -1;
    for (std::int32_t i = 0; i < shape.tokens; ++i) {
        const std::int64_t position = inputs.visual_positions[i];
        if (position <= before || position >= shape.length) {
            return "visual_positions is not ascending within 0 to " +
                   std::to_string(shape.length - 1);
        }
        before = position;
    }
    std::int64_t left = shape.tokens;
    bool fits = true;
    for (std::int32_t i = 0; fits && i < shape.images; ++i) {
        const std::int64_t length = inputs.image_lengths[i];
        fits = length >= 0 && length <= left;
        left -= fits ? length : 0;
    }
    if (!fits || left != 0) {
        return "image_lengths is " + listed(inputs.image_lengths, shape.images) +
               ", expected lengths that add up to " + std::to_string(shape.tokens);
    }
    return {};
}

std::size_t scratch_bytes(const PromptShape& shape,
                          const PositionsParameters& parameters) noexcept {
    if (parameters.kept_of(shape.images, shape.tokens) == shape.tokens) {
        return 0;
    }
    const Work work(shape, parameters, nullptr);
    return work.scratch.taken();
}

void select(const PromptShape& shape, const PromptInputs& inputs,
            const PositionsParameters& parameters, std::int32_t* positions,
            void* scratch) noexcept {
    const std::int32_t wanted = parameters.kept_of(shape.images, shape.tokens);
    if (wanted == shape.tokens) {
        std::iota(positions, positions + shape.length, 0);
        return;
    }
    Work work(shape, parameters, scratch);
    score(shape, inputs, parameters.eps, work);
    std::memset(work.stays, 0, static_cast<std::size_t>(shape.tokens));
    std::int32_t first = 0;
    for (std::int32_t image = 0; image < shape.images; ++image) {
        const auto tokens = static_cast<std::int32_t>(inputs.image_lengths[image]);
        choose_of_image(first, tokens, inputs, parameters, work);
        first += tokens;
    }
    settle(shape, wanted, work);
    std::int32_t next = 0;  // visual token
    for (std::int32_t position = 0; position < shape.length; ++position) {
        const bool visual = next < shape.tokens && inputs.visual_positions[next] == position;
        if (!visual || work.stays[next] != 0) {
            *positions++ = position;
        }
        next += visual ? 1 : 0;
    }
}

}  // namespace d2export
