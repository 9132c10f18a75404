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

constexpr std::int32_t kHalvesOfVector = 8;  // so that rows are copied by vectors

constexpr std::int32_t up(std::int32_t value, std::int32_t step) noexcept {
    return (value + step - 1) / step;
}

std::size_t size(std::int32_t count) noexcept { return static_cast<std::size_t>(count); }

std::int32_t splits_of(const Problem& problem) noexcept {
    return std::max(1, up(static_cast<std::int32_t>(problem.row_bytes), kSplitBytes));
}

// What all ops have.
Problem begin(const Shape& shape, DataType type, std::int32_t wanted,
              std::int32_t pivots) noexcept {
    Problem problem{};
    problem.shape = shape;
    problem.inputs.type = type;
    problem.row_bytes =
        static_cast<std::int64_t>(shape.channels) * static_cast<std::int64_t>(bytes_of(type));
    problem.wanted = wanted;
    problem.pivots = pivots;
    problem.words = up(shape.tokens, kWord);
    problem.side = up(shape.tokens, kRowTile) * kRowTile;
    problem.width = up(shape.channels, kHalvesOfVector) * kHalvesOfVector;
    return problem;
}

void take_bits(Layout& layout, Problem& problem) noexcept {
    problem.workspace.stays =
        layout.take<std::uint32_t>(size(problem.shape.batch) * size(problem.words));
}

void take_ranking(Layout& layout, Problem& problem) noexcept {
    const std::size_t tokens = size(problem.shape.batch) * size(problem.shape.tokens);
    problem.workspace.keys = layout.take<std::uint64_t>(tokens);
    problem.workspace.order = layout.take<std::int32_t>(tokens);
}

void take_pairs(Layout& layout, Problem& problem) noexcept {
    const std::size_t batch = size(problem.shape.batch);
    const std::size_t tokens = batch * size(problem.shape.tokens);
    problem.workspace.directions = layout.take<std::uint16_t>(tokens * size(problem.width));
    problem.workspace.pairs = layout.take<float>(batch * size(problem.side) * size(problem.side));
}

// What D2Prune's walk works in: a panel of so many tokens, and rows of products of so many floats,
// of all pictures together.
void take_rounds(Layout& layout, Problem& problem, std::size_t panel, std::size_t pitch) noexcept {
    const std::size_t tile = size(problem.shape.batch) * kTile;
    Workspace& workspace = problem.workspace;
    workspace.panel = layout.take<std::int32_t>(panel);
    workspace.panel_scale = layout.take<float>(panel);
    workspace.tile_scale = layout.take<float>(tile);
    workspace.products = layout.take<float>(kTile * size(problem.splits) * pitch);
    workspace.rivals = layout.take<std::uint32_t>(tile * (kTile / kWord));
    workspace.blocked = layout.take<std::uint32_t>(tile);
    workspace.progress = layout.take<Progress>(size(problem.shape.batch));
    workspace.open = layout.take<std::int32_t>(1);
}

void set_rule(Problem& problem, const Parameters& parameters) noexcept {
    problem.pivots_block = parameters.pivots_block;
    problem.alpha = parameters.alpha;
    problem.theta = parameters.theta;
    problem.eps = parameters.eps;
}

template <typename Any>
Any finish(const Any& problem, const Layout& layout, std::size_t* bytes) noexcept {
    if (bytes != nullptr) {
        *bytes = layout.bytes();
    }
    return problem;
}

}  // namespace

Problem lay_out(const Shape& shape, DataType type, const Parameters& parameters, void* memory,
                std::size_t* bytes) noexcept {
    const std::int32_t wanted = parameters.kept(shape.tokens);
    Problem problem = begin(shape, type, wanted, parameters.pivots(wanted));
    problem.capacity = parameters.pivots_block ? problem.wanted : problem.wanted - problem.pivots;
    problem.pitch = up(problem.capacity, kColumnTile) * kColumnTile + kTile;
    problem.splits = splits_of(problem);
    set_rule(problem, parameters);

    const std::size_t batch = size(shape.batch);
    Layout layout(memory);
    take_ranking(layout, problem);
    take_bits(layout, problem);
    take_rounds(layout, problem, batch * size(problem.capacity), batch * size(problem.pitch));
    problem.workspace.diagonal = layout.take<float>(1);
    return finish(problem, layout, bytes);
}

Problem lay_out(const Shape& shape, DataType type, const MaxMinParameters& parameters, void* memory,
                std::size_t* bytes) noexcept {
    Problem problem = begin(shape, type, parameters.kept(shape.tokens), 0);
    Layout layout(memory);
    take_bits(layout, problem);
    take_pairs(layout, problem);
    problem.workspace.nearest = layout.take<float>(size(shape.batch) * size(shape.tokens));
    return finish(problem, layout, bytes);
}

Problem lay_out(const Shape& shape, DataType type, const DppParameters& parameters, void* memory,
                std::size_t* bytes) noexcept {
    Problem problem = begin(shape, type, parameters.kept(shape.tokens), 0);
    const std::size_t batch = size(shape.batch);
    const std::size_t tokens = batch * size(shape.tokens);
    Layout layout(memory);
    take_ranking(layout, problem);
    take_bits(layout, problem);
    take_pairs(layout, problem);
    Workspace& workspace = problem.workspace;
    workspace.scale = layout.take<double>(tokens);
    workspace.scores = layout.take<float>(tokens);
    workspace.left = layout.take<double>(tokens);
    workspace.basis = layout.take<double>(tokens * size(problem.wanted));
    workspace.offers = layout.take<Offer>(2 * batch * size(up(shape.tokens, kRowsAtOnce)));
    return finish(problem, layout, bytes);
}

// The images' lengths are not known here: what is laid out is enough for any that add up to V, and
// for those of any smaller shape, in which fewer tokens may have to go.
PromptProblem lay_out(const PromptShape& shape, DataType type,
                      const PositionsParameters& parameters, void* memory,
                      std::size_t* bytes) noexcept {
    const std::int32_t wanted = parameters.kept_of(shape.images, shape.tokens);
    PromptProblem problem{};
    static_cast<Problem&>(problem) =
        begin({shape.images, shape.heads, shape.tokens, shape.channels}, type, wanted, 0);
    problem.words = shape.tokens / kWord + shape.images;
    problem.splits = splits_of(problem);
    set_rule(problem, parameters);
    problem.length = shape.length;
    problem.surviving = shape.length - shape.tokens + wanted;
    problem.keep = parameters.keep;
    problem.keep_permille = parameters.keep_permille;
    problem.pivot_ratio = parameters.pivot_ratio;

    const std::size_t tokens = size(shape.tokens);
    const std::size_t images = size(shape.images);
    Layout layout(memory);
    if (parameters.kept(shape.tokens) < shape.tokens) {
        // An image keeps one token or more, beyond which all together keep no more than n.
        const std::size_t most = size(parameters.most_joining(shape.tokens));
        const std::size_t panel = std::min(images * most, size(wanted) + images);
        Workspace& workspace = problem.workspace;
        workspace.keys = layout.take<std::uint64_t>(tokens);
        workspace.order = layout.take<std::int32_t>(tokens);
        workspace.stays = layout.take<std::uint32_t>(size(problem.words));
        take_rounds(layout, problem, panel, panel + images * (kColumnTile + kTile));
        workspace.diagonal = layout.take<float>(images);
        problem.segments = layout.take<Segment>(images);
        problem.gone = layout.take<std::uint32_t>(size(up(shape.length, kWord)));
        problem.left = layout.take<std::int32_t>(1);
    }
    return finish(problem, layout, bytes);
}

Problem lay_out(const Shape& shape, DataType type, const DeduplicateParameters& parameters,
                void* memory, std::size_t* bytes) noexcept {
    const std::int32_t wanted = parameters.kept(shape.tokens);
    Problem problem = begin(shape, type, wanted, parameters.important(wanted));
    Layout layout(memory);
    take_ranking(layout, problem);
    take_bits(layout, problem);
    take_pairs(layout, problem);
    problem.workspace.nearness =
        layout.take<std::uint64_t>(2 * size(shape.batch) * size(up(shape.tokens, 2)));
    return finish(problem, layout, bytes);
}

}  // namespace d2export::cuda
