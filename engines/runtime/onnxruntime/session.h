// A graph that ONNX Runtime has opened.
#pragma once

#include <d2export/backend.h>

#include <string>
#include <vector>

#include "library.h"

namespace d2export::runtime::ort {

class Session {
 public:
    // Throws an Error: the graph cannot be opened, or its inputs and outputs are not those that the
    // manifest says.
    Session(std::shared_ptr<const Library> library, const Bundle& bundle, const GraphSpec& graph,
            const OnnxRuntimeOptions& options);

    // Runs the whole graph; names in the order of `spec()`. `outputs` are made by ONNX Runtime
    // where they are null, and are the caller's to release.
    void run(const OrtValue* const* inputs, OrtValue** outputs) const;

    const Library& library() const { return *library_; }
    const GraphSpec& spec() const { return spec_; }
    const OrtMemoryInfo* host() const { return host_.get(); }
    const std::string& path() const { return path_; }

    // An error of this graph's.
    void check(OrtStatus* status) const;

 private:
    void check_names(bool inputs, const std::vector<ValueSpec>& expected) const;

    std::shared_ptr<const Library> library_;
    GraphSpec spec_;
    std::string path_;
    std::vector<const char*> inputs_, outputs_;
    Owned<OrtMemoryInfo> host_;
    Owned<OrtSession> session_;
};

}  // namespace d2export::runtime::ort
