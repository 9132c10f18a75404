// Any bytes, read as a prompt for D2PrunePositions: the CPU core refuses visual_positions and
// image_lengths that do not fit, and the phases of the CUDA kernel, which nobody can ask first,
// must stay inside their memory with any, and answer with T - V + n positions that ascend within
// the prompt. Where both run and the numbers are exact in float32, they must give the same.
//
// libFuzzer calls LLVMFuzzerTestOneInput; without it, standalone_fuzz.cpp does.

#include <limits>
#include <vector>

#include "d2export/positions.h"
#include "fuzz_case.h"

extern "C" std::int32_t d2export_run_positions_phases(
    const d2export::PromptShape* shape, const d2export::PromptInputs* inputs,
    const d2export::PositionsParameters* parameters, std::int32_t blocks, std::int32_t order,
    std::int32_t* positions);

using d2export::fuzz::Bytes;
using d2export::fuzz::Case;
using d2export::fuzz::demand;
using d2export::fuzz::read_case;

namespace {

// Counted in int64 or int32.
struct Numbers {
    std::vector<std::int64_t> wide;
    std::vector<std::int32_t> narrow;
    bool is_narrow = false;

    void add(std::int64_t number) {
        wide.push_back(number);
        narrow.push_back(static_cast<std::int32_t>(number));
    }
    d2export::Integers integers() const {
        if (is_narrow) {
            return {narrow.data(), true};
        }
        return {wide.data(), false};
    }
};

std::int64_t wrong_number(Bytes& bytes) {
    constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
    constexpr std::int64_t kWrong[] = {-1, 0, 1, kLargest, -kLargest - 1};
    return kWrong[bytes.next() % 5];
}

// Ascending positions of `tokens` among `length`, or now and then something else.
Numbers read_positions(Bytes& bytes, std::int32_t tokens, std::int32_t length) {
    Numbers positions;
    const bool wrong = bytes.next() % 4 == 0;
    std::int32_t text = length - tokens;
    std::int32_t next = 0;
    for (std::int32_t i = 0; i < tokens; ++i) {
        const std::int32_t gap = bytes.next() % 4 == 0 ? bytes.up_to(text) : 0;
        text -= gap;
        next += gap;
        positions.add(wrong && bytes.next() % 8 == 0 ? wrong_number(bytes) : next);
        ++next;
    }
    return positions;
}

Numbers read_lengths(Bytes& bytes, std::int32_t images, std::int32_t tokens) {
    Numbers lengths;
    const bool wrong = bytes.next() % 4 == 0;
    for (std::int32_t left = tokens, i = 0; i < images; ++i) {
        const std::int32_t length = i + 1 == images ? left : bytes.up_to(left);
        left -= length;
        lengths.add(wrong && bytes.next() % 4 == 0 ? wrong_number(bytes) : length);
    }
    return lengths;
}

void check(const std::vector<std::int32_t>& positions, std::int32_t length) {
    for (std::size_t i = 0; i < positions.size(); ++i) {
        demand(positions[i] >= 0 && positions[i] < length, "a position out of range");
        demand(i == 0 || positions[i] > positions[i - 1], "positions that do not ascend");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    Case made = read_case(bytes);
    d2export::PositionsParameters parameters;
    static_cast<d2export::Parameters&>(parameters) = made.parameters;
    if (!parameters.fault().empty() || made.shape.batch == 0) {
        return 0;
    }
    // The case's rows are the whole prompt, of which some are visual.
    const std::int32_t length = made.shape.tokens;
    const std::int32_t tokens = bytes.next() % 8 == 0 ? 0 : bytes.up_to(length);
    const std::int32_t images = bytes.next() % 6;
    const d2export::PromptShape shape{made.shape.heads, length, made.shape.channels, tokens,
                                      images};
    Numbers positions = read_positions(bytes, tokens, length);
    Numbers lengths = read_lengths(bytes, images, tokens);
    positions.is_narrow = bytes.next() % 2 == 1;
    lengths.is_narrow = bytes.next() % 2 == 1;
    // As large as they are: no more is read.
    made.prior.resize(static_cast<std::size_t>(tokens));
    made.prior.shrink_to_fit();
    made.grid.resize(2 * static_cast<std::size_t>(tokens));
    made.grid.shrink_to_fit();
    const d2export::PromptInputs inputs{
        made.features.data(), made.importance.data(), made.prior.data(), made.grid.data(),
        positions.integers(), lengths.integers(),     made.type};

    const auto count = static_cast<std::size_t>(surviving(shape, parameters));
    std::vector<std::int32_t> by_phases(count, -1);
    d2export_run_positions_phases(&shape, &inputs, &parameters, 1 + bytes.next() % 3,
                                  bytes.next() % 3, by_phases.data());
    check(by_phases, length);
    if (fault(shape, inputs).empty()) {
        std::vector<std::int32_t> by_core(count, -1);
        std::vector<std::uint8_t> scratch(scratch_bytes(shape, parameters));
        select(shape, inputs, parameters, by_core.data(), scratch.data());
        check(by_core, length);
        demand(!made.exact || by_core == by_phases, "phases that answer otherwise than the core");
    }
    return 0;
}
