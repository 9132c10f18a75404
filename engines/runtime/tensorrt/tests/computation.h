// An ONNX graph, run by ONNX Runtime on the CPU as Python runs it with one thread.
//
//   STAND_IN_ORT   ONNX Runtime's library
#pragma once

#include <onnxruntime_c_api.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine_text.h"

namespace stand_in {

// Numbers as an engine has them.
struct Numbers {
    Shape shape;
    std::vector<unsigned char> bytes;
};

class Computation {
 public:
    // Throws std::string: the graph cannot be read.
    explicit Computation(const EngineText& engine);

    // The outputs for the inputs, each in the order of the engine; from any number of threads.
    // Throws std::string, what ONNX Runtime says.
    std::vector<Numbers> run(const std::vector<Numbers>& inputs) const;

 private:
    void look_up_types();

    std::vector<Tensor> inputs_, outputs_;
    std::shared_ptr<OrtSession> session_;
    std::map<std::string, ONNXTensorElementDataType> types_;  // in the graph, by name
};

}  // namespace stand_in
