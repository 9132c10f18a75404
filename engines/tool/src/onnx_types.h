// The floating-point types of the values in an ONNX graph, by name.
#pragma once

#include <map>
#include <string>

namespace d2export::tool {

// "float32" or "float16" for each value of the main graph that is one. `model` is an ONNX file,
// `where` names it in messages. Throws a Failure if it is none.
std::map<std::string, std::string> float_values(const std::string& model, const std::string& where);

}  // namespace d2export::tool
