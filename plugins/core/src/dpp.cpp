// DppPrune: relevant tokens that span a large volume. Greedy inference of a determinantal point
// process with kernel diag(q) cosine diag(q), as in arXiv 1709.05135.
#include <algorithm>
#include <limits>

#include "d2export/rules.h"
#include "d2export/select.h"
#include "directions.h"
#include "dots.h"
#include "lazy_greedy.h"
#include "pictures.h"
#include "scores.h"
#include "scratch.h"

namespace d2export {
namespace {

struct Work {
    Scratch scratch;
    std::uint8_t* stays;    // [N]
    float* scores;          // [N]
    float* quality;         // [N]
    std::uint64_t* keys;    // [N], rules::rank_key
    double* left;           // [N], what is left of a token outside the span of the kept ones
    double* columns;        // [N, wanted], of the Cholesky factor
    std::int32_t* squares;  // [N], of a direction, known from when it is first compared
    std::int32_t* kept;     // [wanted]
    Directions kept_rows;
    Directions rows;  // of tokens to compare
    LazyGreedy greedy;

    Work(const Shape& shape, std::int32_t wanted, void* memory) noexcept
        : scratch(memory),
          stays(scratch.take<std::uint8_t>(static_cast<std::size_t>(shape.tokens))),
          scores(scratch.take<float>(static_cast<std::size_t>(shape.tokens))),
          quality(scratch.take<float>(static_cast<std::size_t>(shape.tokens))),
          keys(scratch.take<std::uint64_t>(static_cast<std::size_t>(shape.tokens))),
          left(scratch.take<double>(static_cast<std::size_t>(shape.tokens))),
          columns(scratch.take<double>(static_cast<std::size_t>(shape.tokens) *
                                       static_cast<std::size_t>(wanted))),
          squares(scratch.take<std::int32_t>(static_cast<std::size_t>(shape.tokens))),
          kept(scratch.take<std::int32_t>(static_cast<std::size_t>(wanted))),
          kept_rows(wanted, shape.channels, scratch),
          rows(kRowsAtOnce, shape.channels, scratch),
          greedy(shape.tokens, scratch) {}
};

// The larger the volume with the kept ones, the better.
struct Volume {
    Work& work;
    const Picture& picture;
    std::size_t wanted;

    double* column(std::int32_t token) const noexcept {
        return work.columns + static_cast<std::size_t>(token) * wanted;
    }
    bool candidate(std::int32_t token) const noexcept {
        return work.left[token] > rules::kExhausted;
    }
    double worth(std::int32_t token) const noexcept {
        return rules::gain(work.quality[token], work.left[token]);
    }
    void keep(std::int32_t token, std::int32_t k) const noexcept {
        work.stays[token] = 1;
        work.kept[k] = token;
        work.kept_rows.load(k, picture, token);
    }
    std::size_t length() const noexcept { return work.rows.length(); }
    const std::int16_t* kept(std::int32_t k) const noexcept { return work.kept_rows(k); }
    const std::int16_t* row(std::int32_t i, std::int32_t token) const noexcept {
        work.squares[token] = work.rows.load(i, picture, token);
        if (work.squares[token] == 0) {
            work.left[token] = 0;
        }
        return work.rows(i);
    }
    void compare(std::int32_t token, std::int32_t k, std::int32_t product) const noexcept {
        if (work.squares[token] == 0) {
            return;
        }
        const std::int32_t other = work.kept[k];
        const double cosine = rules::cosine(product, work.squares[token], work.squares[other]);
        const double known = short_dot(column(token), column(other), k);
        const double entry = (cosine - known) / std::sqrt(work.left[other]);
        column(token)[k] = entry;
        work.left[token] -= entry * entry;
    }
};

void measure_quality(const float* scores, std::int32_t tokens, float* quality) noexcept {
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (std::int32_t i = 0; i < tokens; ++i) {
        if (std::fabs(scores[i]) <= rules::kLargestFinite) {
            low = std::min(low, scores[i]);
            high = std::max(high, scores[i]);
        }
    }
    if (low > high) {  // none is finite
        low = -1;
        high = 1;
    }
    float least = std::numeric_limits<float>::infinity(), most = -least;
    for (std::int32_t i = 0; i < tokens; ++i) {
        quality[i] = rules::finite_score(scores[i], low, high);
        least = quality[i] < least ? quality[i] : least;  // never NaN
        most = quality[i] > most ? quality[i] : most;
    }
    for (std::int32_t i = 0; i < tokens; ++i) {
        quality[i] = rules::quality(quality[i], least, most);
    }
}

}  // namespace

std::size_t scratch_bytes(const Shape& shape, const DppParameters& parameters) noexcept {
    return Work(shape, parameters.kept(shape.tokens), nullptr).scratch.taken();
}

void select(const Shape& shape, const Inputs& inputs, const DppParameters& parameters,
            std::int32_t* indices, void* scratch) noexcept {
    const std::int32_t wanted = parameters.kept(shape.tokens);
    if (wanted == shape.tokens) {
        keep_all(shape, indices);
        return;
    }
    Work work(shape, wanted, scratch);
    select_each(shape, inputs, work.stays, indices, [&](const Picture& picture) {
        mean_over_heads(shape, picture.importance, work.scores);
        measure_quality(work.scores, shape.tokens, work.quality);
        std::fill_n(work.left, shape.tokens, 1.0);
        Volume rule{work, picture, static_cast<std::size_t>(wanted)};
        const std::int32_t missing = wanted - work.greedy.run(0, wanted, rule);
        // Nothing is left of any other token: fill by importance.
        std::int32_t count = 0;
        for (std::int32_t token = 0; missing > 0 && token < shape.tokens; ++token) {
            if (work.stays[token] == 0) {
                work.keys[count++] =
                    rules::rank_key(work.scores[token], static_cast<std::uint32_t>(token));
            }
        }
        std::partial_sort(work.keys, work.keys + missing, work.keys + count);
        for (std::int32_t i = 0; i < missing; ++i) {
            work.stays[work.keys[i] & 0xFFFFFFFFU] = 1;
        }
    });
}

}  // namespace d2export
