// A file in the address space: an engine is not copied to memory that a Jetson's GPU could use.
#pragma once

#include <cstddef>
#include <filesystem>

namespace d2export::runtime::trt {

class MappedFile {
 public:
    // Throws an Error: it cannot be read, or is empty.
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    const void* data() const { return data_; }
    std::size_t size() const { return size_; }

 private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace d2export::runtime::trt
