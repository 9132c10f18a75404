#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace stand_in {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kReservation = std::size_t{256} << 20;
constexpr unsigned char kNew = 0xA5;

std::string text(std::uintptr_t address) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(address));
    return digits;
}

}  // namespace

std::uintptr_t DeviceMemory::allocate(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (bytes > kTotal - used_) return 0;
    // At least one byte behind each, so that no address is of two.
    const std::size_t taken = (bytes / kAlignment + 1) * kAlignment;
    if (end_ - next_ < taken) {
        const std::size_t size = std::max(kReservation, taken);
        void* const found =
            mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (found == MAP_FAILED) return 0;
        next_ = reinterpret_cast<std::uintptr_t>(found);
        end_ = next_ + size;
        reserved_[next_] = size;
    }
    const std::uintptr_t address = next_;
    next_ += taken;
    living_[address] = std::make_shared<Bytes>(bytes, kNew);
    used_ += bytes;
    return address;
}

bool DeviceMemory::release(std::uintptr_t address) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = living_.find(address);
    if (found == living_.end()) return false;
    used_ -= found->second->size();
    living_.erase(found);
    return true;
}

bool DeviceMemory::owns(std::uintptr_t address) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto after = reserved_.upper_bound(address);
    if (after == reserved_.begin()) return false;
    const auto& [first, size] = *std::prev(after);
    return address - first < size;
}

bool DeviceMemory::has(std::uintptr_t address, std::size_t bytes) const {
    try {
        view(address, bytes);
        return true;
    } catch (const std::string&) {
        return false;
    }
}

std::size_t DeviceMemory::used() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return used_;
}

DeviceMemory::View DeviceMemory::view(std::uintptr_t address, std::size_t bytes) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::string what = std::to_string(bytes) + " bytes at " + text(address);
    const auto after = living_.upper_bound(address);
    const auto found = after == living_.begin() ? living_.end() : std::prev(after);
    if (found == living_.end() || address - found->first >= found->second->size()) {
        throw what + ", where the GPU has no memory";
    }
    const std::size_t offset = address - found->first, size = found->second->size();
    if (bytes > size - offset) {
        throw what + ", of which memory of " + std::to_string(size) + " bytes has " +
            std::to_string(size - offset);
    }
    return {found->second, found->second->data() + offset};
}

void DeviceMemory::read(std::uintptr_t address, std::size_t bytes, void* to) const {
    std::memcpy(to, view(address, bytes).data, bytes);
}

void DeviceMemory::write(std::uintptr_t address, std::size_t bytes, const void* from) {
    std::memcpy(view(address, bytes).data, from, bytes);
}

void DeviceMemory::copy(std::uintptr_t from, std::uintptr_t to, std::size_t bytes) {
    const View source = view(from, bytes), target = view(to, bytes);
    if (source.data < target.data + bytes && target.data < source.data + bytes) {
        throw std::to_string(bytes) + " bytes from " + text(from) + " to " + text(to) +
            ", which overlap";
    }
    std::memcpy(target.data, source.data, bytes);
}

void DeviceMemory::fill(std::uintptr_t address, std::size_t bytes, unsigned char value) {
    std::memset(view(address, bytes).data, value, bytes);
}

}  // namespace stand_in
