// What this build has, and why it lacks the rest.
#pragma once

#include <vector>

namespace d2export::python {

struct Part {
    const char* name;
    const char* built;     // how, empty if it was left out
    const char* left_out;  // why
    const char* add;       // what builds it
};

// As CMake found them.
const std::vector<Part>& parts();

// The vector instructions that the core uses on this processor.
const char* vectors() noexcept;

}  // namespace d2export::python
