// d2export._native. d2export/_native.pyi is its description.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>

#include "arguments.h"
#include "build.h"
#include "d2export/positions.h"
#include "d2export/select.h"
#include "prompt_arguments.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace d2export::python {
namespace {

// A numpy array to write to: numpy owns the memory, and says so when there is too little.
template <typename Element>
class Result {
 public:
    template <typename... Extents>
    explicit Result(const char* type, Extents... extents)
        : array_(nb::module_::import_("numpy").attr("empty")(nb::make_tuple(extents...), type)),
          view_(nb::cast<View>(array_)) {}

    Element* data() const noexcept { return static_cast<Element*>(view_.data()); }
    const nb::object& array() const noexcept { return array_; }

 private:
    using View = nb::ndarray<nb::c_contig, nb::device::cpu>;

    nb::object array_;
    View view_;
};

const char* numpy_name(DataType type) noexcept {
    switch (type) {
        case DataType::kFloat16:
            return "float16";
        case DataType::kBFloat16:
            return "uint16";
        case DataType::kFloat32:
            break;
    }
    return "float32";
}

// Python's other threads run on while the core works.
template <typename Parameters>
Result<std::int32_t> selected(const Arguments& arguments, const Parameters& parameters) {
    const Shape& shape = arguments.shape();
    Result<std::int32_t> indices("int32", shape.batch, parameters.kept(shape.tokens));
    const Result<unsigned char> scratch("uint8", scratch_bytes(shape, parameters));
    const nb::gil_scoped_release released;
    d2export::select(shape, arguments.inputs(), parameters, indices.data(), scratch.data());
    return indices;
}

template <typename Parameters>
nb::object select(const Arguments& arguments, const Parameters& parameters) {
    return selected(arguments, parameters).array();
}

nb::tuple prune(const Arguments& arguments, const Parameters& parameters) {
    const Shape& shape = arguments.shape();
    const std::int32_t tokens = parameters.kept(shape.tokens);
    const auto indices = selected(arguments, parameters);
    const Result<unsigned char> kept(numpy_name(arguments.inputs().type), shape.batch, tokens,
                                     shape.channels);
    {
        const nb::gil_scoped_release released;
        d2export::gather(shape, arguments.inputs(), tokens, indices.data(), kept.data());
    }
    return nb::make_tuple(kept.array(), indices.array());
}

nb::object select_positions(const PromptArguments& arguments,
                            const PositionsParameters& parameters) {
    const PromptShape& shape = arguments.shape();
    const Result<std::int32_t> positions("int32", surviving(shape, parameters));
    const Result<unsigned char> scratch("uint8", scratch_bytes(shape, parameters));
    {
        const nb::gil_scoped_release released;
        d2export::select(shape, arguments.inputs(), parameters, positions.data(), scratch.data());
    }
    return positions.array();
}

using Dtype = std::optional<std::string>;

bool is_bfloat16(const Dtype& dtype) {
    if (dtype && *dtype != "bfloat16") {
        throw nb::value_error(("dtype is '" + *dtype + "', expected 'bfloat16' or None").c_str());
    }
    return dtype.has_value();
}

template <typename Parameters>
Arguments checked(const Given& given, const Parameters& parameters, const Dtype& dtype) {
    require_valid(parameters.fault());
    return {given, is_bfloat16(dtype)};
}

// An op with the inputs and attributes of D2Prune.
template <typename Op>
void define(nb::module_& module, const char* name, const char* description, Op op) {
    const Parameters defaults;
    module.def(
        name,
        [op](nb::handle features, nb::handle importance, nb::handle prior, nb::handle grid,
             std::int64_t keep, std::int64_t keep_permille, float pivot_ratio, float alpha,
             float theta, float eps, bool pivots_block, const Dtype& dtype) {
            const Parameters parameters{{keep, keep_permille}, pivot_ratio, alpha, theta, eps,
                                        pivots_block};
            return op(checked({features, importance, prior, grid}, parameters, dtype), parameters);
        },
        "features"_a, "importance"_a, "prior"_a, "grid"_a, nb::kw_only(), "keep"_a = defaults.keep,
        "keep_permille"_a = defaults.keep_permille, "pivot_ratio"_a = defaults.pivot_ratio,
        "alpha"_a = defaults.alpha, "theta"_a = defaults.theta, "eps"_a = defaults.eps,
        "pivots_block"_a = defaults.pivots_block, "dtype"_a = nb::none(), description);
}

void define_positions(nb::module_& module) {
    const PositionsParameters defaults;
    module.def(
        "select_positions",
        [](nb::handle hidden_states, nb::handle importance, nb::handle prior, nb::handle grid,
           nb::handle visual_positions, nb::handle image_lengths, std::int64_t keep,
           std::int64_t keep_permille, float pivot_ratio, float alpha, float theta, float eps,
           bool pivots_block, const Dtype& dtype) {
            const PositionsParameters parameters{
                {{keep, keep_permille}, pivot_ratio, alpha, theta, eps, pivots_block}};
            require_valid(parameters.fault());
            const PromptArguments arguments(
                {hidden_states, importance, prior, grid, visual_positions, image_lengths},
                is_bfloat16(dtype));
            return select_positions(arguments, parameters);
        },
        "hidden_states"_a, "importance"_a, "prior"_a, "grid"_a, "visual_positions"_a,
        "image_lengths"_a, nb::kw_only(), "keep"_a = defaults.keep,
        "keep_permille"_a = defaults.keep_permille, "pivot_ratio"_a = defaults.pivot_ratio,
        "alpha"_a = defaults.alpha, "theta"_a = defaults.theta, "eps"_a = defaults.eps,
        "pivots_block"_a = defaults.pivots_block, "dtype"_a = nb::none(),
        "Positions of a prompt that stay [T - V + n] int32, ascending.");
}

constexpr char kIds[] = "Kept token ids [B, M] int32 of each picture, ascending.";

void define_rules(nb::module_& module) {
    const DeduplicateParameters defaults;
    module.def(
        "select_max_min",
        [](nb::handle features, std::int64_t keep, std::int64_t keep_permille, const Dtype& dtype) {
            const MaxMinParameters parameters{{keep, keep_permille}};
            return select(checked({features}, parameters, dtype), parameters);
        },
        "features"_a, nb::kw_only(), "keep"_a = defaults.keep,
        "keep_permille"_a = defaults.keep_permille, "dtype"_a = nb::none(), kIds);
    module.def(
        "select_dpp",
        [](nb::handle features, nb::handle importance, std::int64_t keep,
           std::int64_t keep_permille, const Dtype& dtype) {
            const DppParameters parameters{{keep, keep_permille}};
            return select(checked({features, importance}, parameters, dtype), parameters);
        },
        "features"_a, "importance"_a, nb::kw_only(), "keep"_a = defaults.keep,
        "keep_permille"_a = defaults.keep_permille, "dtype"_a = nb::none(), kIds);
    module.def(
        "select_deduplicate",
        [](nb::handle features, nb::handle importance, std::int64_t keep,
           std::int64_t keep_permille, float important_ratio, const Dtype& dtype) {
            const DeduplicateParameters parameters{{keep, keep_permille}, important_ratio};
            return select(checked({features, importance}, parameters, dtype), parameters);
        },
        "features"_a, "importance"_a, nb::kw_only(), "keep"_a = defaults.keep,
        "keep_permille"_a = defaults.keep_permille, "important_ratio"_a = defaults.important_ratio,
        "dtype"_a = nb::none(), kIds);
}

nb::dict build_info() {
    nb::dict info;
    info["vectors"] = vectors();
    nb::dict all;
    for (const Part& part : parts()) {
        nb::dict facts;
        facts["built"] = part.built;
        facts["left_out"] = part.left_out;
        facts["add"] = part.add;
        all[part.name] = facts;
    }
    info["parts"] = all;
    return info;
}

}  // namespace
}  // namespace d2export::python

NB_MODULE(_native, module) {
    namespace python = d2export::python;
    module.doc() = "The ops on the CPU, for numpy arrays and for tensors in host memory.";
    python::define(module, "select", python::kIds, python::select<d2export::Parameters>);
    python::define(module, "prune", "Kept tokens [B, M, C], and their ids [B, M] int32.",
                   python::prune);
    python::define_positions(module);
    python::define_rules(module);
    module.def("build_info", python::build_info, "What was built, and why the rest was not.");
}
