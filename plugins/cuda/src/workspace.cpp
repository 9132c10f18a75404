#include <algorithm>

#include "problem.h"

namespace d2export::cuda {
namespace {

// Hands out arrays one after the other, each aligned.
class Layout {
 public:
    explicit Layout(void* memory) noexcept : memory_(static_cast<unsigned char*>(memory)) {}

    template <typename T>
    T* take(std::size_t count) noexcept {
        const std::size_t start = bytes_;
        bytes_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
        return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + start);
    }

    std::size_t bytes() const noexcept { return bytes_; }

 private:
    unsigned char* memory_;
    std::size_t bytes_ = 0;
};

constexpr std::int32_t up(std::int32_t value, std::int32_t step) noexcept {
    return (value + step - 1) / step;
}

}  // namespace

Problem lay_out(const Shape& shape, DataType type, const Parameters& parameters, void* memory,
                std::size_t* bytes) noexcept {
    Problem problem{};
    problem.shape = shape;
    problem.inputs.type = type;
    problem.row_bytes =
        static_cast<std::int64_t>(shape.channels) * static_cast<std::int64_t>(bytes_of(type));
    problem.wanted = parameters.kept(shape.tokens);
    problem.pivots = parameters.pivots(problem.wanted);
    problem.pivots_block = parameters.pivots_block;
    problem.capacity = parameters.pivots_block ? problem.wanted : problem.wanted - problem.pivots;
    problem.pitch = up(problem.capacity, kColumnTile) * kColumnTile + kTile;
    problem.splits = std::max(1, up(static_cast<std::int32_t>(problem.row_bytes), kSplitBytes));
    problem.words = up(shape.tokens, kWord);
    problem.alpha = parameters.alpha;
    problem.theta = parameters.theta;
    problem.eps = parameters.eps;

    const auto batch = static_cast<std::size_t>(shape.batch);
    const std::size_t tokens = batch * static_cast<std::size_t>(shape.tokens);
    const std::size_t capacity = batch * static_cast<std::size_t>(problem.capacity);
    const std::size_t tile = batch * kTile;
    Layout layout(memory);
    Workspace& workspace = problem.workspace;
    workspace.keys = layout.take<std::uint64_t>(tokens);
    workspace.order = layout.take<std::int32_t>(tokens);
    workspace.stays = layout.take<std::uint32_t>(batch * static_cast<std::size_t>(problem.words));
    workspace.panel = layout.take<std::int32_t>(capacity);
    workspace.panel_scale = layout.take<float>(capacity);
    workspace.tile_scale = layout.take<float>(tile);
    workspace.products = layout.take<float>(tile * static_cast<std::size_t>(problem.splits) *
                                            static_cast<std::size_t>(problem.pitch));
    workspace.rivals = layout.take<std::uint32_t>(tile * (kTile / kWord));
    workspace.blocked = layout.take<std::uint32_t>(tile);
    workspace.progress = layout.take<Progress>(batch);
    workspace.diagonal = layout.take<float>(1);
    workspace.open = layout.take<std::int32_t>(1);
    if (bytes != nullptr) {
        *bytes = layout.bytes();
    }
    return problem;
}

}  // namespace d2export::cuda
