// Arrays laid out one after the other in memory that the caller owns, each on its own cache line.
#pragma once

#include <cstddef>
#include <cstdint>

namespace d2export {

// Without memory it only counts: the arrays are null, and taken() says how much is needed.
class Scratch {
 public:
    explicit Scratch(void* memory) noexcept {
        if (memory != nullptr) {
            const auto address = reinterpret_cast<std::uintptr_t>(memory);
            next_ = static_cast<unsigned char*>(memory) + (kLine - address % kLine) % kLine;
        }
    }

    template <typename T>
    T* take(std::size_t count) noexcept {
        const std::size_t bytes = (count * sizeof(T) + kLine - 1) / kLine * kLine;
        taken_ += bytes;
        if (next_ == nullptr) {
            return nullptr;
        }
        T* const array = reinterpret_cast<T*>(next_);
        next_ += bytes;
        return array;
    }

    // Bytes that the arrays so far need, wherever the memory starts.
    std::size_t taken() const noexcept { return taken_ + kLine; }

 private:
    static constexpr std::size_t kLine = 64;
    unsigned char* next_ = nullptr;
    std::size_t taken_ = 0;
};

}  // namespace d2export
