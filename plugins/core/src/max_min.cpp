// MaxMinPrune: tokens as far from each other as possible. The distance of two is 1 - cosine, so
// distances are compared as cosines.
#include <algorithm>

#include "d2export/select.h"
#include "directions.h"
#include "lazy_greedy.h"
#include "outlier.h"
#include "pictures.h"
#include "scratch.h"

namespace d2export {
namespace {

struct Work {
    Scratch scratch;
    std::uint8_t* stays;    // [N]
    std::int32_t* nearest;  // [N], cosine with the nearest token
    std::int32_t* kept;     // [wanted]
    Directions directions;
    Outlier outlier;
    LazyGreedy greedy;

    Work(const Shape& shape, std::int32_t wanted, void* memory) noexcept
        : scratch(memory),
          stays(scratch.take<std::uint8_t>(static_cast<std::size_t>(shape.tokens))),
          nearest(scratch.take<std::int32_t>(static_cast<std::size_t>(shape.tokens))),
          kept(scratch.take<std::int32_t>(static_cast<std::size_t>(wanted))),
          directions(shape.tokens, shape.channels, scratch),
          outlier(shape.tokens, scratch),
          greedy(shape.tokens, scratch) {}
};

// The farther from the nearest kept token, the better.
struct Farthest {
    const Work& work;

    bool candidate(std::int32_t token) const noexcept { return work.stays[token] == 0; }
    double worth(std::int32_t token) const noexcept { return -work.nearest[token]; }
    void keep(std::int32_t token, std::int32_t k) const noexcept {
        work.stays[token] = 1;
        work.kept[k] = token;
    }
    std::size_t length() const noexcept { return work.directions.length(); }
    const std::int16_t* kept(std::int32_t k) const noexcept {
        return work.directions(work.kept[k]);
    }
    const std::int16_t* row(std::int32_t, std::int32_t token) const noexcept {
        return work.directions(token);
    }
    void compare(std::int32_t token, std::int32_t, std::int32_t cosine) const noexcept {
        work.nearest[token] = std::max(work.nearest[token], cosine);
    }
};

}  // namespace

std::size_t scratch_bytes(const Shape& shape, const MaxMinParameters& parameters) noexcept {
    return Work(shape, parameters.kept(shape.tokens), nullptr).scratch.taken();
}

void select(const Shape& shape, const Inputs& inputs, const MaxMinParameters& parameters,
            std::int32_t* indices, void* scratch) noexcept {
    const std::int32_t wanted = parameters.kept(shape.tokens);
    if (wanted == shape.tokens) {
        keep_all(shape, indices);
        return;
    }
    Work work(shape, wanted, scratch);
    select_each(shape, inputs, work.stays, indices, [&](const Picture& picture) {
        for (std::int32_t token = 0; token < shape.tokens; ++token) {
            work.directions.load(token, picture, token);
        }
        Farthest rule{work};
        rule.keep(work.outlier.find(work.directions, work.nearest), 0);
        std::fill_n(work.nearest, shape.tokens, Outlier::kNoCosine);
        work.greedy.run(1, wanted, rule);
    });
}

}  // namespace d2export
