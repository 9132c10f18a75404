// What a sequence is made of.
#pragma once

#include <d2export/model.h>

#include <memory>
#include <vector>

namespace d2export::runtime {

struct SequenceState {
    std::shared_ptr<const DecoderGraph> graph;  // outlives the cache
    std::unique_ptr<Cache> cache;
    std::int64_t vocab = 0;
    std::int64_t limit = 0;  // positions of the context
    std::int64_t length = 0;
    std::vector<std::int64_t> position_ids;  // kept from call to call

    Step run(const DecoderInput& input);
};

}  // namespace d2export::runtime
