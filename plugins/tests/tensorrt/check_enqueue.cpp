// What a plugin makes of the tensors it is handed, with a GPU that is the host: every op must
// answer as its kernel does that is run without TensorRT.

#include <cstring>
#include <vector>

#include "d2export/parameters.h"
#include "d2export/prompt.h"
#include "d2export/rule_parameters.h"
#include "d2export/tensors.h"
#include "harness.h"

#define D2EXPORT_RUN(name, Attributes)                                                             \
    extern "C" std::int32_t name(const d2export::Shape *, const d2export::Inputs *,                \
                                 const d2export::Attributes *, std::int32_t, std::int32_t, void *, \
                                 std::int32_t *)
D2EXPORT_RUN(d2export_run_phases, Parameters);
D2EXPORT_RUN(d2export_run_max_min_phases, MaxMinParameters);
D2EXPORT_RUN(d2export_run_dpp_phases, DppParameters);
D2EXPORT_RUN(d2export_run_deduplicate_phases, DeduplicateParameters);
extern "C" std::int32_t d2export_run_positions_phases(const d2export::PromptShape *,
                                                      const d2export::PromptInputs *,
                                                      const d2export::PositionsParameters *,
                                                      std::int32_t, std::int32_t, std::int32_t *);

namespace d2export::tests {
namespace {

constexpr std::int32_t kBatch = 2, kHeads = 16, kTokens = 96, kChannels = 24, kKept = 29;

// Numbers of float16 from -1 to 1, as bits: none is like another's neighbour.
std::vector<std::uint16_t> features() {
    std::vector<std::uint16_t> numbers(std::size_t{kBatch} * kTokens * kChannels);
    std::uint32_t state = 1;
    for (std::uint16_t &number : numbers) {
        state = state * 1664525U + 1013904223U;
        number = static_cast<std::uint16_t>((state >> 16 & 0x8000U) | (state >> 18) % 0x3C00U);
    }
    return numbers;
}

std::vector<float> numbers(std::int32_t count, std::uint32_t seed) {
    std::vector<float> made(static_cast<std::size_t>(count));
    for (float &number : made) {
        seed = seed * 1664525U + 1013904223U;
        number = static_cast<float>(seed >> 20) / 4096.0F;
    }
    return made;
}

template <typename Attributes, typename Run>
void check(void *library, std::size_t op, const Run &run) {
    const auto rows = features();
    const auto importance = numbers(kBatch * kHeads * kTokens, 2);
    const auto prior = numbers(kTokens, 3);
    const auto grid = numbers(2 * kTokens, 4);
    const void *const inputs[] = {rows.data(), importance.data(), prior.data(), grid.data()};
    std::vector<std::uint16_t> kept(std::size_t{kBatch} * kKept * kChannels), expected_kept = kept;
    std::vector<std::int32_t> indices(std::size_t{kBatch} * kKept, -1), expected = indices;

    Attributes attributes;
    attributes.keep = kKept;
    const Shape shape{kBatch, Attributes::kInputs > 1 ? kHeads : 1, kTokens, kChannels};
    const Inputs all{rows.data(), importance.data(), prior.data(), grid.data(), DataType::kFloat16};
    run(&shape, &all, &attributes, 2, 0, expected_kept.data(), expected.data());

    FieldList fields;
    fields.whole("keep", kKept);
    void *const outputs[] = {kept.data(), indices.data()};
    run_plugin(library, op, fields,
               tensors(ops()[op], nvinfer1::DataType::kHALF, kTokens, kChannels, kKept), inputs,
               outputs);
    demand(indices == expected, std::string(Attributes::kOp) + " keeps other tokens");
    demand(kept == expected_kept, std::string(Attributes::kOp) + " returns other rows");
}

// A prompt of kText tokens around the visual ones of two images; Whole is what they are counted in.
template <typename Whole>
void check_positions(void *library, nvinfer1::DataType type) {
    constexpr std::size_t kOp = 4;
    constexpr std::int32_t kLength = kTokens + kText;
    const auto rows = features();  // more than there are
    const auto importance = numbers(kHeads * kLength, 2);
    const auto prior = numbers(kTokens, 3);
    const auto grid = numbers(2 * kTokens, 4);
    std::vector<Whole> positions;
    for (Whole i = 0; i < kTokens; ++i) {
        positions.push_back(i + (i < kTokens / 3 ? 7 : 20));
    }
    const std::vector<Whole> lengths{kTokens / 3, kTokens - kTokens / 3};
    const void *const inputs[] = {rows.data(), importance.data(), prior.data(),
                                  grid.data(), positions.data(),  lengths.data()};
    std::vector<std::int32_t> survivors(kText + kImages * kKept, -1), expected = survivors;

    PositionsParameters parameters;
    parameters.keep = kKept;
    const bool narrow = sizeof(Whole) == 4;
    const PromptShape shape{kHeads, kLength, kChannels, kTokens, kImages};
    const PromptInputs all{rows.data(),       importance.data(),          prior.data(),
                           grid.data(),       {positions.data(), narrow}, {lengths.data(), narrow},
                           DataType::kFloat16};
    demand(d2export_run_positions_phases(&shape, &all, &parameters, 2, 0, expected.data()) ==
               kText + kImages * kKept,
           "as many positions as the shapes say");

    FieldList fields;
    fields.whole("keep", kKept);
    auto described = tensors(ops()[kOp], nvinfer1::DataType::kHALF, kTokens, kChannels, kKept);
    described[4].type = described[5].type = type;
    void *const outputs[] = {survivors.data()};
    run_plugin(library, kOp, fields, described, inputs, outputs);
    demand(survivors == expected, "D2PrunePositions keeps other positions");
}

}  // namespace

void check_enqueue(void *library) {
    check<Parameters>(library, 0, d2export_run_phases);
    check<MaxMinParameters>(library, 1, d2export_run_max_min_phases);
    check<DppParameters>(library, 2, d2export_run_dpp_phases);
    check<DeduplicateParameters>(library, 3, d2export_run_deduplicate_phases);
    check_positions<std::int32_t>(library, nvinfer1::DataType::kINT32);
#if NV_TENSORRT_MAJOR >= 10
    check_positions<std::int64_t>(library, nvinfer1::DataType::kINT64);
#endif
}

}  // namespace d2export::tests
