// The CPU core as functions of plain C, for tests that call it from Python.

#include <cstring>
#include <memory>
#include <string>
#include <type_traits>

#include "d2export/positions.h"
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

// The same of the other ops, by their names; `attributes` are a struct in rule_parameters.h.
namespace {

template <typename Use>
auto with(const char* op, void* attributes, const Use& use) {
    if (std::strcmp(op, d2export::MaxMinParameters::kOp) == 0) {
        return use(*static_cast<d2export::MaxMinParameters*>(attributes));
    }
    if (std::strcmp(op, d2export::DppParameters::kOp) == 0) {
        return use(*static_cast<d2export::DppParameters*>(attributes));
    }
    return use(*static_cast<d2export::DeduplicateParameters*>(attributes));
}

}  // namespace

// Writes the defaults to `attributes`, and the names, each followed by a space, to `names`.
extern "C" __attribute__((visibility("default"))) void d2export_rule_defaults(const char* op,
                                                                              void* attributes,
                                                                              char* names) {
    with(op, attributes, [&](auto& rule) {
        using Attributes = std::remove_reference_t<decltype(rule)>;
        rule = Attributes{};
        std::string text;
        Attributes::each(rule, [&](const char* name, auto&) { text += std::string(name) + ' '; });
        std::memcpy(names, text.c_str(), text.size() + 1);
    });
}

extern "C" __attribute__((visibility("default"))) bool d2export_rule_has_fault(const char* op,
                                                                               void* attributes) {
    return with(op, attributes, [](const auto& rule) { return !rule.fault().empty(); });
}

extern "C" __attribute__((visibility("default"))) std::int32_t d2export_rule_kept(
    const char* op, void* attributes, std::int32_t tokens) {
    return with(op, attributes, [&](const auto& rule) { return rule.kept(tokens); });
}

extern "C" __attribute__((visibility("default"))) std::int32_t d2export_important(
    const d2export::DeduplicateParameters* parameters, std::int32_t kept) {
    return parameters->important(kept);
}

// D2PrunePositions: positions [T - V + n]. Returns their number.
extern "C" __attribute__((visibility("default"))) std::int32_t d2export_run_core_positions(
    const d2export::PromptShape* shape, const d2export::PromptInputs* inputs,
    const d2export::PositionsParameters* parameters, std::int32_t* positions) {
    const std::size_t bytes = d2export::scratch_bytes(*shape, *parameters);
    const auto scratch = std::make_unique<unsigned char[]>(bytes);
    d2export::select(*shape, *inputs, *parameters, positions, scratch.get());
    return d2export::surviving(*shape, *parameters);
}

extern "C" __attribute__((visibility("default"))) std::int32_t d2export_kept_of(
    const d2export::Parameters* parameters, std::int32_t images, std::int32_t tokens) {
    return parameters->kept_of(images, tokens);
}
