#include "npy.h"

#include <regex>

#include "failure.h"
#include "files.h"

namespace d2export::tool {
namespace {

const std::string kMagic = "\x93NUMPY";
constexpr std::size_t kAlignment = 64;

Failure no_npy(const std::filesystem::path& path, const std::string& why) {
    return usage(path.string() + " is no array this tool reads: " + why,
                 "Write it with numpy.save: a row-major array of plain numbers.");
}

// A value of the header, which is a Python dict written out.
std::string value_of(const std::filesystem::path& path, const std::string& header,
                     const std::string& key, const std::string& pattern) {
    std::smatch match;
    if (!std::regex_search(header, match, std::regex("'" + key + "': *" + pattern))) {
        throw no_npy(path, "its header has no '" + key + "' of the form " + pattern);
    }
    return match[1];
}

std::vector<std::int64_t> shape_from(const std::filesystem::path& path, const std::string& text) {
    std::vector<std::int64_t> shape;
    const std::regex number("[0-9]+");
    for (std::sregex_iterator at(text.begin(), text.end(), number), end; at != end; ++at) {
        if (at->str().size() > 12) throw no_npy(path, "a dimension is " + at->str());
        shape.push_back(std::stoll(at->str()));
    }
    return shape;
}

std::size_t item_size(const std::filesystem::path& path, const std::string& descr) {
    const std::regex known("[<|][fiubV]([1248])");
    std::smatch match;
    if (!std::regex_match(descr, match, known)) {
        throw no_npy(path, "its elements are '" + descr + "'");
    }
    return static_cast<std::size_t>(std::stoi(match[1]));
}

}  // namespace

std::int64_t elements_of(const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) {
        if (__builtin_mul_overflow(count, size, &count)) {
            throw usage("an array of shape " + text_of(shape) + " is too large",
                        "Pass a smaller one.");
        }
    }
    return count;
}

Array read_npy(const std::filesystem::path& path) {
    std::string content = read_file(path, "a .npy file");
    const std::size_t magic = kMagic.size();
    if (content.compare(0, magic, kMagic) != 0 || content.size() < magic + 6) {
        throw no_npy(path, "it does not begin like a .npy file");
    }
    const auto byte = [&](std::size_t at) {
        return static_cast<std::size_t>(static_cast<unsigned char>(content[at]));
    };
    const bool is_first = byte(magic) == 1;  // version 1 has a length of two bytes, 2 and 3 of four
    const std::size_t begin = magic + (is_first ? 4 : 6);
    std::size_t length = byte(magic + 2) | byte(magic + 3) << 8;
    if (!is_first) length |= byte(magic + 4) << 16 | byte(magic + 5) << 24;
    if (length > content.size() - begin) throw no_npy(path, "it is cut short");
    const std::string header = content.substr(begin, length);
    Array array;
    array.descr = value_of(path, header, "descr", "'([^']*)'");
    if (array.descr == "|V2") array.descr = "<V2";  // bfloat16, by numpy alone
    if (value_of(path, header, "fortran_order", "(True|False)") == "True") {
        throw no_npy(path, "its order is Fortran's");
    }
    array.shape = shape_from(path, value_of(path, header, "shape", "\\(([0-9, ]*)\\)"));
    const std::size_t expected =
        static_cast<std::size_t>(elements_of(array.shape)) * item_size(path, array.descr);
    content.erase(0, begin + length);
    if (content.size() != expected) {
        throw no_npy(path, "it has " + std::to_string(content.size()) + " bytes of elements, " +
                               text_of(array.shape) + " " + array.descr + " needs " +
                               std::to_string(expected));
    }
    array.bytes = std::move(content);
    return array;
}

void write_npy(const std::filesystem::path& path, const Array& array) {
    std::string header = "{'descr': '" + array.descr + "', 'fortran_order': False, 'shape': (";
    for (const std::int64_t size : array.shape) header += std::to_string(size) + ", ";
    header += "), }";
    const std::size_t before = kMagic.size() + 4;
    header.append(kAlignment - (before + header.size() + 1) % kAlignment, ' ');
    header += '\n';
    std::string content = kMagic;
    for (const std::size_t part :
         {std::size_t{1}, std::size_t{0}, header.size() & 0xff, header.size() >> 8}) {
        content += static_cast<char>(part);
    }
    content += header;
    content += array.bytes;
    write_file(path, content.data(), content.size());
}

std::string text_of(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        text += (axis == 0 ? "" : ",") + std::to_string(shape[axis]);
    }
    return text + "]";
}

}  // namespace d2export::tool
