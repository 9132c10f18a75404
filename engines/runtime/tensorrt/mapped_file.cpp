#include "mapped_file.h"

#include <d2export/error.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace d2export::runtime::trt {

MappedFile::MappedFile(const std::filesystem::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat facts {};
    void* mapped = MAP_FAILED;
    if (file >= 0 && ::fstat(file, &facts) == 0 && facts.st_size > 0) {
        size_ = static_cast<std::size_t>(facts.st_size);
        mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    }
    const int problem = errno;
    if (file >= 0) {
        ::close(file);
    }
    if (mapped == MAP_FAILED) {
        throw bad_input(
            "cannot read " + path.string() + ": " + std::generic_category().message(problem),
            "Build the engines again.");
    }
    data_ = mapped;
}

MappedFile::~MappedFile() { ::munmap(data_, size_); }

}  // namespace d2export::runtime::trt
