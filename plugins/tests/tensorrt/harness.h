// What the parts of the harness share.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "expressions.h"

namespace d2export::tests {

inline void demand(bool condition, const std::string &what) {
    if (!condition) {
        std::printf("FAILED: %s\n", what.c_str());
        std::exit(1);
    }
}

// Plugin fields with values of their own.
class FieldList {
 public:
    FieldList &whole(const char *name, std::int32_t value) {
        wholes_.push_back(std::make_unique<std::int32_t>(value));
        fields_.emplace_back(name, wholes_.back().get(), nvinfer1::PluginFieldType::kINT32, 1);
        return *this;
    }
    FieldList &real(const char *name, float value) {
        reals_.push_back(std::make_unique<float>(value));
        fields_.emplace_back(name, reals_.back().get(), nvinfer1::PluginFieldType::kFLOAT32, 1);
        return *this;
    }
    FieldList &field(const nvinfer1::PluginField &field) {
        fields_.push_back(field);
        return *this;
    }
    const nvinfer1::PluginFieldCollection *collection() {
        collection_.nbFields = static_cast<std::int32_t>(fields_.size());
        collection_.fields = fields_.data();
        return &collection_;
    }

 private:
    std::vector<std::unique_ptr<std::int32_t>> wholes_;
    std::vector<std::unique_ptr<float>> reals_;
    std::vector<nvinfer1::PluginField> fields_;
    nvinfer1::PluginFieldCollection collection_{};
};

inline nvinfer1::Dims extents(std::initializer_list<int> values) {
    nvinfer1::Dims dims{};
    dims.nbDims = static_cast<std::int32_t>(values.size());
    std::copy(values.begin(), values.end(), dims.d);
    return dims;
}

inline nvinfer1::DimsExprs expressions(std::initializer_list<int> values, Builder &builder) {
    nvinfer1::DimsExprs dims{};
    for (const int value : values) {
        dims.d[dims.nbDims++] = builder.constant(value);
    }
    return dims;
}

// An op as it has to be.
struct Op {
    const char *name;
    std::int32_t inputs;
    std::int32_t outputs;
    std::vector<std::string> attributes;

    // Whether it reads a prompt: hidden_states of kText more tokens than there are visual ones,
    // which are those of kImages.
    bool prompt() const { return inputs == 6; }
};
constexpr int kText = 35, kImages = 2;

const std::vector<Op> &ops();  // in the order of the creators

// Of a creator's fields.
std::vector<std::string> names_of(const nvinfer1::PluginFieldCollection &fields);

// Whether an attribute of that name is a float.
bool is_real(const std::string &attribute);

// The op's inputs of features, importance, prior and grid, then kept and indices; or those of a
// prompt, then positions. Row-major.
std::vector<nvinfer1::PluginTensorDesc> tensors(const Op &op, nvinfer1::DataType features,
                                                int tokens = 576, int channels = 1024,
                                                int kept = 64);

// The inputs as symbols, and one more than the op has.
std::vector<nvinfer1::DimsExprs> symbols(const Op &op, int tokens, Builder &builder);

// What the outputs have to be where `kept` tokens of each picture stay, of all of them where that
// is -1: of unknown extent.
void check_outputs(const Op &op, const nvinfer1::DimsExprs *outputs, int kept);

// The types of whole numbers that this TensorRT has.
std::vector<nvinfer1::DataType> whole_types();

// The feature types this TensorRT has.
std::vector<nvinfer1::DataType> feature_types();

// A field list each, and what the message about it must say.
struct BadFields {
    FieldList list;
    std::string message;
};
std::vector<BadFields> bad_fields(const Op &op);

// Extents that do not fit: of which tensor, and what the message about it must
// say.
struct BadExtents {
    std::size_t tensor;
    nvinfer1::Dims extents;
    const char *message;
};
std::vector<BadExtents> bad_extents(const Op &op);

// For the version of our headers:
void check_plugins(void *library);
void create_without_attributes(void *library);  // refused

// Creates the plugin of that op and enqueues it once, in a workspace of the size it asks for.
void run_plugin(void *library, std::size_t op, FieldList &fields,
                const std::vector<nvinfer1::PluginTensorDesc> &described, const void *const *inputs,
                void *const *outputs);

// Of a plugin library whose GPU is the host.
void check_enqueue(void *library);

}  // namespace d2export::tests
