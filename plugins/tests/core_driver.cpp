// The CPU core as one function of plain C, for tests that call it from Python.

#include <memory>

#include "d2export/select.h"

// kept [B, M, C] of the features' type, indices [B, M]. Returns M.
extern "C" __attribute__((visibility("default"))) std::int32_t d2export_run_core(
    const d2export::Shape* shape, const d2export::Inputs* inputs,
    const d2export::Parameters* parameters, void* kept, std::int32_t* indices) {
    const std::size_t bytes = d2export::scratch_bytes(*shape, *parameters);
    const auto scratch = std::make_unique<unsigned char[]>(bytes);
    const std::int32_t count = parameters->kept(shape->tokens);
    d2export::select(*shape, *inputs, *parameters, indices, scratch.get());
    d2export::gather(*shape, *inputs, count, indices, kept);
    return count;
}

// The attributes' defaults, limits and arithmetic, to be compared with those of Python.
extern "C" __attribute__((visibility("default"))) void d2export_default_parameters(
    d2export::Parameters* parameters) {
    *parameters = d2export::Parameters{};
}

extern "C" __attribute__((visibility("default"))) bool d2export_has_fault(
    const d2export::Parameters* parameters) {
    return !parameters->fault().empty();
}

extern "C" __attribute__((visibility("default"))) std::int32_t d2export_kept(
    const d2export::Parameters* parameters, std::int32_t tokens) {
    return parameters->kept(tokens);
}

extern "C" __attribute__((visibility("default"))) std::int32_t d2export_pivots(
    const d2export::Parameters* parameters, std::int32_t kept) {
    return parameters->pivots(kept);
}
