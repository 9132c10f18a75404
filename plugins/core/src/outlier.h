// The token farthest from its nearest neighbour.
//
// Few tokens are compared with all others: a suspect is dismissed as soon as it has a neighbour
// nearer than that of a token known in full. Tokens that lie next to each other are compared before
// all else, because most have their nearest neighbour there.
#pragma once

#include <cstdint>

#include "best_first.h"
#include "directions.h"
#include "scratch.h"

namespace d2export {

class Outlier {
 public:
    static constexpr std::int32_t kNoCosine = -(1 << 24);  // below all of them

    Outlier(std::int32_t tokens, Scratch& scratch) noexcept
        : tokens_(tokens), order_(tokens, scratch) {}

    // Of at least one token; ties go to the lower index. Overwrites `nearest` [N].
    std::int32_t find(const Directions& directions, std::int32_t* nearest) noexcept;

 private:
    static constexpr std::int32_t kTogether =
        48;  // tokens compared with each other before all else
    static constexpr std::int32_t kSuspects = 12;  // at once

    void compare_neighbours(const Directions& directions) noexcept;
    void suspect() noexcept;
    void compare_suspects(const Directions& directions, std::int32_t first,
                          std::int32_t last) noexcept;
    void raise(std::int32_t a, std::int32_t b, std::int32_t cosine) noexcept;
    Ranked ranked(std::int32_t token) const noexcept {
        return {static_cast<double>(-nearest_[token]), token};
    }

    std::int32_t tokens_;
    BestFirst order_;                     // of those never suspected
    std::int32_t suspects_[kSuspects]{};  // tokens
    std::int32_t unseen_[kSuspects]{};    // how many tokens a suspect was not compared with
    std::int32_t count_ = 0;              // of suspects
    std::int32_t* nearest_ = nullptr;     // highest cosine known with another token
    Ranked best_{};                       // of the tokens known in full
};

}  // namespace d2export
