// What a launch works on: extents, attributes, tensors and the arrays of its workspace. Plain data,
// handed to the kernel by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "d2export/parameters.h"
#include "d2export/prompt.h"
#include "d2export/rule_parameters.h"
#include "d2export/tensors.h"

namespace d2export::cuda {

inline constexpr std::int32_t kThreads = 256;      // of a block
inline constexpr std::int32_t kTile = 128;         // candidates decided in one round
inline constexpr std::int32_t kRowsAtOnce = 8;     // tokens whose rows a block reads together
inline constexpr std::int32_t kWord = 32;          // tokens in one word of bits
inline constexpr std::int32_t kRowTile = 64;       // candidates of one item of work
inline constexpr std::int32_t kColumnTile = 32;    // tokens they are multiplied with
inline constexpr std::int32_t kSplitBytes = 1024;  // of each row, in one item of work
inline constexpr std::size_t kAlignment = 256;     // bytes, of the arrays of a workspace

// The ops. MaxMinPrune, DppPrune and DeduplicatePrune compare all pairs of tokens.
enum class Rule : std::int32_t { kD2, kMaxMin, kDpp, kDeduplicate, kPositions };

constexpr Rule rule_of(const Parameters&) noexcept { return Rule::kD2; }
constexpr Rule rule_of(const MaxMinParameters&) noexcept { return Rule::kMaxMin; }
constexpr Rule rule_of(const DppParameters&) noexcept { return Rule::kDpp; }
constexpr Rule rule_of(const DeduplicateParameters&) noexcept { return Rule::kDeduplicate; }
constexpr Rule rule_of(const PositionsParameters&) noexcept { return Rule::kPositions; }

// One picture's part of the arrays over all pictures, and its pivots.
struct Segment {
    std::int64_t first;     // of its tokens
    std::int64_t word;      // first of its bits
    std::int64_t panel;     // first of its panel
    std::int64_t products;  // first of its products
    std::int32_t tokens;
    std::int32_t pivots;  // all tokens where all stay
    std::int32_t pitch;   // of a row of its products
};

// Where D2Prune's walk through one picture stands.
struct Progress {
    std::int32_t next;     // rank of the first token not yet decided
    std::int32_t panel;    // tokens that candidates are compared with
    std::int32_t missing;  // tokens still to be found
};

// What a token adds to the volume of the kept ones, by DppPrune.
struct Gain {
    double gain;
    std::int32_t token;
};

// The best token of one block.
struct Offer {
    Gain gain;
    double left;  // of its direction
};

// Arrays in device memory, each per picture; those that an op has no use for are null.
struct Workspace {
    std::uint64_t* keys;   // [B, N], rules::rank_key
    std::int32_t* order;   // [B, N], tokens by rank
    std::uint32_t* stays;  // [B, words], a bit per token

    // D2Prune
    std::int32_t* panel;     // [B, capacity], tokens
    float* panel_scale;      // [B, capacity], what scales each to length 1
    float* tile_scale;       // [B, kTile], the same of the candidates
    float* products;         // [B, splits, kTile, pitch], partial sums over channels
    std::uint32_t* rivals;   // [B, kTile, kTile / kWord], earlier candidates that are neighbours
    std::uint32_t* blocked;  // [B, kTile], whether a token of the panel is a neighbour
    Progress* progress;      // [B]
    float* diagonal;         // [1], of the canvas
    std::int32_t* open;      // [1], pictures not yet finished

    // The ops that compare all pairs
    void* directions;         // [B, N, width] of half, whole numbers
    float* pairs;             // [B, side, side], products of all pairs
    float* nearest;           // [B, N], the largest of each token: with any other, later a kept one
    double* scale;            // [B, N], what makes a unit vector of each direction
    float* scores;            // [B, N], importance, the mean over heads
    double* left;             // [B, N], of each direction, outside the span of the kept ones
    double* basis;            // [B, N, M], rows of the Cholesky factor
    Offer* offers;            // [2, B, N / 8], of each block, in even steps and in odd ones
    std::uint64_t* nearness;  // [2, B, N / 2], rules::rank_key, in even rounds and in odd ones
};

struct Problem {
    Shape shape;
    Inputs inputs;
    void* kept;             // [B, M, C]
    std::int32_t* indices;  // [B, M]
    Workspace workspace;

    std::int64_t row_bytes;  // of the features of one token
    std::int32_t wanted;     // M
    std::int32_t pivots;     // of them, picked by importance alone
    std::int32_t words;      // of bits over all tokens
    std::int32_t side;       // tokens of the square of all pairs, padded
    std::int32_t width;      // channels of a direction, padded

    // D2Prune
    std::int32_t capacity;  // of the panel
    std::int32_t pitch;     // of a row of products: the panel, padded, then the tile
    std::int32_t splits;    // of the channels
    float alpha;
    float theta;
    float eps;
    bool pivots_block;
};

// A prompt for D2PrunePositions. Its pictures are images of the prompt, one after the other in
// arrays over all visual tokens: shape.batch is I, shape.tokens V, wanted n, words those of all
// images; the diagonals are [I]; capacity, pitch and pivots are the segments'. Tokens are numbered
// within their image, keys among all.
struct PromptProblem : Problem {
    Integers visual_positions;
    Integers image_lengths;
    std::int32_t* positions;  // [T - V + n]
    std::int32_t length;      // T
    std::int32_t surviving;   // T - V + n
    std::int64_t keep;
    std::int64_t keep_permille;
    float pivot_ratio;

    Segment* segments;    // [I]
    std::uint32_t* gone;  // [T / kWord], a bit per position
    std::int32_t* left;   // [1], tokens that the images leave over, or less than 0
};

// Whether any token may have to go: not where all stay, as in every decode step, nor where no image
// has the tokens, which is an error.
D2EXPORT_HOST_DEVICE bool has_choice(const PromptProblem& problem) noexcept {
    return problem.wanted < problem.shape.tokens && problem.shape.batch > 0;
}

// Extents and attributes filled in, arrays laid out from `memory` on, which is aligned to
// kAlignment; with null memory, only their sizes are right.
Problem lay_out(const Shape& shape, DataType type, const Parameters& parameters, void* memory,
                std::size_t* bytes) noexcept;
Problem lay_out(const Shape& shape, DataType type, const MaxMinParameters& parameters, void* memory,
                std::size_t* bytes) noexcept;
Problem lay_out(const Shape& shape, DataType type, const DppParameters& parameters, void* memory,
                std::size_t* bytes) noexcept;
Problem lay_out(const Shape& shape, DataType type, const DeduplicateParameters& parameters,
                void* memory, std::size_t* bytes) noexcept;
PromptProblem lay_out(const PromptShape& shape, DataType type,
                      const PositionsParameters& parameters, void* memory,
                      std::size_t* bytes) noexcept;

}  // namespace d2export::cuda
