// The memory of a GPU that is none. Its addresses are reserved and can be neither read nor written;
// the bytes lie elsewhere, where copies and kernels reach them. No address is given twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace stand_in {

class DeviceMemory {
 public:
    static constexpr std::size_t kTotal = std::size_t{8} << 30;

    // An address of new memory, which is filled with a pattern; 0 if there is no room.
    std::uintptr_t allocate(std::size_t bytes);
    // Whether there was memory at that address.
    bool release(std::uintptr_t address);

    // Whether the address is one of the GPU, of memory that may be gone.
    bool owns(std::uintptr_t address) const;
    bool has(std::uintptr_t address, std::size_t bytes) const;
    std::size_t used() const;

    // Each throws std::string, why not: no living memory has all these bytes.
    void read(std::uintptr_t address, std::size_t bytes, void* to) const;
    void write(std::uintptr_t address, std::size_t bytes, const void* from);
    void copy(std::uintptr_t from, std::uintptr_t to, std::size_t bytes);
    void fill(std::uintptr_t address, std::size_t bytes, unsigned char value);

 private:
    using Bytes = std::vector<unsigned char>;
    struct View {
        std::shared_ptr<Bytes> keeps;
        unsigned char* data;
    };
    View view(std::uintptr_t address, std::size_t bytes) const;

    mutable std::mutex mutex_;
    std::map<std::uintptr_t, std::shared_ptr<Bytes>> living_;  // by first address
    std::map<std::uintptr_t, std::size_t> reserved_;
    std::uintptr_t next_ = 0, end_ = 0;  // of the last reservation, what is free
    std::size_t used_ = 0;
};

}  // namespace stand_in
