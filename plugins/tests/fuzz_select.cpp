// Any bytes, read as inputs of D2Prune: the CPU core and the phases of the CUDA kernel must stay
// inside their memory and answer with M ascending ids and their rows, whatever the numbers are.
// Where the numbers are exact in float32, the two must give the same ids.
//
// libFuzzer calls LLVMFuzzerTestOneInput; without it, standalone_fuzz.cpp does.

#include <vector>

#include "d2export/select.h"
#include "fuzz_case.h"

extern "C" std::int32_t d2export_run_phases(const d2export::Shape* shape,
                                            const d2export::Inputs* inputs,
                                            const d2export::Parameters* parameters,
                                            std::int32_t blocks, std::int32_t order, void* kept,
                                            std::int32_t* indices);

using d2export::fuzz::Bytes;
using d2export::fuzz::Case;
using d2export::fuzz::check;
using d2export::fuzz::demand;
using d2export::fuzz::read_case;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    const Case made = read_case(bytes);
    if (!made.parameters.fault().empty()) {
        return 0;
    }
    const std::int32_t kept = made.parameters.kept(made.shape.tokens);
    const std::size_t ids =
        static_cast<std::size_t>(made.shape.batch) * static_cast<std::size_t>(kept);
    std::vector<std::uint8_t> rows(ids * static_cast<std::size_t>(made.shape.channels) *
                                   d2export::bytes_of(made.type));

    std::vector<std::int32_t> indices(ids, -1);
    std::vector<std::uint8_t> scratch(d2export::scratch_bytes(made.shape, made.parameters));
    const std::size_t linear = 16 * static_cast<std::size_t>(made.shape.tokens) +
                               4 * static_cast<std::size_t>(kept + 16) *
                                   static_cast<std::size_t>(made.shape.channels + 64 + 24);
    demand(scratch.size() <= linear + 2048, "scratch memory beyond O(N + kept * C)");
    d2export::select(made.shape, made.inputs(), made.parameters, indices.data(), scratch.data());
    d2export::gather(made.shape, made.inputs(), kept, indices.data(), rows.data());
    check(made, kept, indices, rows);

    if (made.shape.tokens > 0 && made.shape.batch > 0) {  // the launcher asks nothing else
        std::vector<std::int32_t> by_phases(ids, -1);
        const d2export::Inputs inputs = made.inputs();
        d2export_run_phases(&made.shape, &inputs, &made.parameters, 1 + bytes.next() % 3,
                            bytes.next() % 3, rows.data(), by_phases.data());
        check(made, kept, by_phases, rows);
        demand(!made.exact || by_phases == indices, "phases that answer otherwise than the core");
    }
    return 0;
}
