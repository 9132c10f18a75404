// DeduplicatePrune: the most important tokens, and of the rest those without a near-duplicate.
#include <algorithm>
#include <cstring>
#include <limits>

#include "d2export/rules.h"
#include "d2export/select.h"
#include "near_duplicates.h"
#include "pictures.h"
#include "scores.h"
#include "scratch.h"

namespace d2export {
namespace {

struct Work {
    Scratch scratch;
    std::uint8_t* stays;  // [N]
    float* scores;        // [N]
    std::uint64_t* keys;  // [N], rules::rank_key
    std::int32_t* rest;   // [N - important], by descending importance
    NearDuplicates duplicates;

    Work(const Shape& shape, std::int32_t rests, void* memory) noexcept
        : scratch(memory),
          stays(scratch.take<std::uint8_t>(static_cast<std::size_t>(shape.tokens))),
          scores(scratch.take<float>(static_cast<std::size_t>(shape.tokens))),
          keys(scratch.take<std::uint64_t>(static_cast<std::size_t>(shape.tokens))),
          rest(scratch.take<std::int32_t>(static_cast<std::size_t>(rests))),
          duplicates(rests, shape.channels, scratch) {}
};

// How many tokens are not picked by importance alone; 0 where no other stays.
std::int32_t rest_of(const Shape& shape, const DeduplicateParameters& parameters) noexcept {
    const std::int32_t wanted = parameters.kept(shape.tokens);
    const std::int32_t important = parameters.important(wanted);
    return important == wanted ? 0 : shape.tokens - important;
}

}  // namespace

std::size_t scratch_bytes(const Shape& shape, const DeduplicateParameters& parameters) noexcept {
    return Work(shape, rest_of(shape, parameters), nullptr).scratch.taken();
}

void select(const Shape& shape, const Inputs& inputs, const DeduplicateParameters& parameters,
            std::int32_t* indices, void* scratch) noexcept {
    const std::int32_t wanted = parameters.kept(shape.tokens);
    if (wanted == shape.tokens) {
        keep_all(shape, indices);
        return;
    }
    const std::int32_t important = parameters.important(wanted);
    const std::int32_t rests = rest_of(shape, parameters);
    Work work(shape, rests, scratch);
    select_each(shape, inputs, work.stays, indices, [&](const Picture& picture) {
        mean_over_heads(shape, picture.importance, work.scores);
        for (std::int32_t i = 0; i < shape.tokens; ++i) {
            work.keys[i] = rules::rank_key(work.scores[i], static_cast<std::uint32_t>(i));
        }
        std::sort(work.keys, work.keys + shape.tokens);
        const auto ranked = [&](std::int32_t rank) {
            return static_cast<std::int32_t>(work.keys[rank] & 0xFFFFFFFFU);
        };
        for (std::int32_t rank = 0; rank < important; ++rank) {
            work.stays[ranked(rank)] = 1;
        }
        for (std::int32_t place = 0; place < rests; ++place) {
            work.rest[place] = ranked(important + place);
        }
        const std::int32_t* const left =
            work.duplicates.thin_out(picture, work.rest, wanted - important);
        for (std::int32_t i = 0; i < wanted - important; ++i) {
            work.stays[work.rest[left[i]]] = 1;
        }
    });
}

}  // namespace d2export
