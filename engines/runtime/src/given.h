// The inputs of a graph by their names, as every backend hands them over.
#pragma once

#include <d2export/backend.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace d2export::runtime {

constexpr std::size_t kMaxRank = 4;  // of what bundles have

// The sides of a tensor.
struct Sides {
    std::array<std::int64_t, kMaxRank> of{};
    std::size_t rank = 0;

    Sides() = default;
    Sides(std::initializer_list<std::int64_t> sides);
    std::int64_t elements() const;
};

// Numbers of somebody else's.
struct Given {
    const void* data;
    DataType type;
    Sides sides;
    Place place = Place::kHost;
};

// An input that is called so. `path` is the graph's, for messages. Throws an Error: there is none.
Given given(const VisionInput& input, const std::string& name, const std::string& path);
// The same but for `image_embeds` and keys and values, which backends keep where they like.
Given given(const DecoderInput& input, const std::string& name, const std::string& path);

}  // namespace d2export::runtime
