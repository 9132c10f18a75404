// Tokens in the order of numbers that change: the largest first, ties by lower index.
#pragma once

#include <algorithm>
#include <cstdint>

#include "scratch.h"

namespace d2export {

// Never NaN.
struct Ranked {
    double worth;
    std::int32_t token;

    bool before(const Ranked& other) const noexcept {
        return worth > other.worth || (worth == other.worth && token < other.token);
    }
};

class BestFirst {
 public:
    BestFirst(std::int32_t tokens, Scratch& scratch) noexcept
        : heap_(scratch.take<Ranked>(static_cast<std::size_t>(tokens))), end_(heap_) {}

    bool empty() const noexcept { return end_ == heap_; }
    const Ranked& best() const noexcept { return *heap_; }

    void clear() noexcept { end_ = heap_; }

    void push(const Ranked& ranked) noexcept {
        *end_++ = ranked;
        std::push_heap(heap_, end_, behind);
    }

    Ranked pop() noexcept {
        std::pop_heap(heap_, end_, behind);
        return *--end_;
    }

 private:
    static bool behind(const Ranked& a, const Ranked& b) noexcept { return b.before(a); }

    Ranked* heap_;
    Ranked* end_;
};

}  // namespace d2export
