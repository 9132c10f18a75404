// Any bytes, read as inputs of the ops besides D2Prune: the CPU core and the phases of the CUDA
// kernels must stay inside their memory and answer with M ascending ids and their rows, whatever
// the numbers are. MaxMinPrune and DeduplicatePrune compute in whole numbers: the two must give the
// same ids. DppPrune adds up float64, in an order of its own in either.
//
// libFuzzer calls LLVMFuzzerTestOneInput; without it, standalone_fuzz.cpp does.

#include <vector>

#include "d2export/select.h"
#include "fuzz_case.h"

#define D2EXPORT_PHASES(name, Attributes)                                          \
    extern "C" std::int32_t name(const d2export::Shape*, const d2export::Inputs*,  \
                                 const d2export::Attributes*, std::int32_t blocks, \
                                 std::int32_t order, void* kept, std::int32_t* indices);
D2EXPORT_PHASES(d2export_run_max_min_phases, MaxMinParameters)
D2EXPORT_PHASES(d2export_run_dpp_phases, DppParameters)
D2EXPORT_PHASES(d2export_run_deduplicate_phases, DeduplicateParameters)

namespace {

using d2export::fuzz::Bytes;
using d2export::fuzz::Case;
using d2export::fuzz::check;
using d2export::fuzz::demand;
using d2export::fuzz::read_case;

template <typename Attributes, typename Phases>
void try_rule(const Case& made, Bytes& bytes, const Attributes& attributes, const Phases& phases,
              bool exact) {
    const std::int32_t kept = attributes.kept(made.shape.tokens);
    const std::size_t ids =
        static_cast<std::size_t>(made.shape.batch) * static_cast<std::size_t>(kept);
    std::vector<std::uint8_t> rows(ids * static_cast<std::size_t>(made.shape.channels) *
                                   d2export::bytes_of(made.type));
    d2export::Inputs inputs = made.inputs();
    inputs.prior = nullptr;
    inputs.grid = nullptr;
    inputs.importance = Attributes::kInputs > 1 ? inputs.importance : nullptr;

    std::vector<std::int32_t> indices(ids, -1);
    std::vector<std::uint8_t> scratch(d2export::scratch_bytes(made.shape, attributes));
    d2export::select(made.shape, inputs, attributes, indices.data(), scratch.data());
    d2export::gather(made.shape, inputs, kept, indices.data(), rows.data());
    check(made, kept, indices, rows);

    if (made.shape.tokens > 0 && made.shape.batch > 0) {  // the launcher asks nothing else
        std::vector<std::int32_t> by_phases(ids, -1);
        phases(&made.shape, &inputs, &attributes, 1 + bytes.next() % 3, bytes.next() % 3,
               rows.data(), by_phases.data());
        check(made, kept, by_phases, rows);
        demand(!exact || by_phases == indices, "phases that answer otherwise than the core");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    const int rule = bytes.next() % 3;
    const float ratio = bytes.share();
    const Case made = read_case(bytes);
    const d2export::Budget budget = made.parameters;
    if (!budget.fault().empty()) {
        return 0;
    }
    switch (rule) {
        case 0:
            try_rule(made, bytes, d2export::MaxMinParameters{budget}, d2export_run_max_min_phases,
                     true);
            break;
        case 1:
            try_rule(made, bytes, d2export::DppParameters{budget}, d2export_run_dpp_phases, false);
            break;
        default:
            try_rule(made, bytes, d2export::DeduplicateParameters{budget, ratio},
                     d2export_run_deduplicate_phases, true);
            break;
    }
    return 0;
}
