// What the probe asks the driver; see probe.cpp.
#pragma once

#include <cuda.h>

#include <map>
#include <string>

// Each gets a stream of the current context.
const std::map<std::string, void (*)(CUstream)>& cases();

// Prints what CUDA answered to that.
void say(const std::string& what, CUresult result);

// Memory on the GPU; 0, said, if there is none.
CUdeviceptr memory(std::size_t bytes);
