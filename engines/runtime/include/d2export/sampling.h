/// @file
/// From logits to a token: the most likely one, or one drawn.
#pragma once

#include <d2export/backend.h>
#include <d2export/export.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace d2export::runtime {

/// How a token is drawn.
struct Sampling {
    double temperature = 1;  ///< logits are divided by it; above 0
    std::int64_t top_k = 0;  ///< only the k most likely tokens; 0 for all
    double top_p = 1;        ///< only the most likely ones that together have this probability
    std::uint64_t seed = 0;  ///< the same seed gives the same answer, in Python, too
};

/// Picks the tokens of one answer. For one thread at a time; allocates when it is made, only.
class D2EXPORT_API Sampler {
 public:
    /// @param sampling how tokens are drawn; nothing for the most likely one, of equally likely
    ///     ones the lowest
    /// @param vocab how many logits there will be
    /// @throws Error a value is out of its range.
    Sampler(const std::optional<Sampling>& sampling, std::int64_t vocab);
    Sampler(Sampler&&) noexcept;
    ~Sampler();

    /// The next token.
    ///
    /// @throws Error there is no most likely token: the logits have NaN or infinity.
    std::int64_t pick(const Span<float>& logits);

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace d2export::runtime
