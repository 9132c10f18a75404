// Prints the kept tokens of a picture of four.
#include <d2export/select.h>

#include <cstdio>
#include <vector>

int main() {
    const float features[] = {1, 0, 1, 0, 0, 1, 0, 1};
    const float importance[] = {4, 3, 2, 1};
    const float prior[] = {1, 1, 1, 1};
    const float grid[8] = {};
    const d2export::Shape shape{1, 1, 4, 2};
    const d2export::Inputs inputs{features, importance, prior, grid};
    d2export::Parameters parameters;
    parameters.keep = 2;
    parameters.pivot_ratio = 0;  // the independent set alone
    parameters.alpha = 1;

    std::vector<unsigned char> scratch(d2export::scratch_bytes(shape, parameters));
    std::vector<std::int32_t> indices(2);
    d2export::select(shape, inputs, parameters, indices.data(), scratch.data());
    std::printf("%d %d\n", indices[0], indices[1]);
}
