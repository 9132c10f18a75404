// PNG by libpng.
#include <d2export/error.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <string>
#include <utility>

#include "decoded.h"
#include "png_samples.h"

namespace d2export::runtime {
namespace {

constexpr png_uint_32 kMaxSide = 1'000'000;
constexpr png_uint_32 kMaxChunks = 1000;
constexpr png_alloc_size_t kMaxChunkBytes = 8u << 20;

// libpng reports an error by not returning; no C++ object may be alive in a frame it jumps over.
struct Session {
    png_structp png;
    png_infop info;
    const std::uint8_t* next;
    std::size_t left;
    char message[200];
};

[[noreturn]] void on_error(png_structp png, png_const_charp why) {
    auto* session = static_cast<Session*>(png_get_error_ptr(png));
    std::strncpy(session->message, why, sizeof session->message - 1);
    png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, std::size_t count) {
    auto* session = static_cast<Session*>(png_get_io_ptr(png));
    if (count > session->left) png_error(png, "it ends in the middle of the picture");
    std::memcpy(out, session->next, count);
    session->next += count;
    session->left -= count;
}

// False after an error. The four calls below are all that touches libpng's reader.
bool open(Session& session) {
    session.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
    session.info = session.png == nullptr ? nullptr : png_create_info_struct(session.png);
    if (session.info == nullptr) return false;
    if (setjmp(png_jmpbuf(session.png)) != 0) return false;
    png_set_user_limits(session.png, kMaxSide, kMaxSide);
    png_set_chunk_cache_max(session.png, kMaxChunks);
    png_set_chunk_malloc_max(session.png, kMaxChunkBytes);
    png_set_read_fn(session.png, &session, read_bytes);
    png_read_info(session.png, session.info);
    return true;
}

// One byte a sample from here on; 16 bits become their high byte unless `whole`.
bool start(Session& session, bool whole) {
    if (setjmp(png_jmpbuf(session.png)) != 0) return false;
    png_set_packing(session.png);
    if (!whole) png_set_strip_16(session.png);
    png_set_interlace_handling(session.png);
    png_read_update_info(session.png, session.info);
    return true;
}

bool read_rows(Session& session, png_bytepp rows) {
    if (setjmp(png_jmpbuf(session.png)) != 0) return false;
    png_read_image(session.png, rows);
    return true;
}

// What stands behind the pixels; that the file is cut there is no harm.
void read_end(Session& session) {
    if (setjmp(png_jmpbuf(session.png)) == 0) png_read_end(session.png, session.info);
}

class Closing {
 public:
    explicit Closing(Session& session) : session_(session) {}
    Closing(const Closing&) = delete;
    Closing& operator=(const Closing&) = delete;
    ~Closing() { png_destroy_read_struct(&session_.png, &session_.info, nullptr); }

 private:
    Session& session_;
};

void require(bool succeeded, const Session& session) {
    if (succeeded) return;
    throw bad_input("the picture is damaged or incomplete: its PNG data cannot be decoded (" +
                        std::string(session.message) + ")",
                    "Copy or download the file again.");
}

// ImageMagick writes EXIF as text: three lines of a head, then hexadecimal digits.
std::string from_hexadecimal(std::string_view text) {
    for (int line = 0; line < 3; ++line) {
        text.remove_prefix(std::min(text.size(), text.find('\n')));
        if (!text.empty()) text.remove_prefix(1);
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string bytes;
    bool low = false;
    for (const char c : text) {
        const char lower = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
        const std::size_t digit = digits.find(lower);
        if (digit == digits.npos) continue;
        if (low) {
            bytes.back() = static_cast<char>(bytes.back() | static_cast<char>(digit));
        } else {
            bytes.push_back(static_cast<char>(digit << 4));
        }
        low = !low;
    }
    return bytes;
}

Orientation orientation_of(const Session& session) {
    png_bytep block = nullptr;
    png_uint_32 size = 0;
    std::optional<Orientation> found;
    png_textp texts = nullptr;
    const int count = png_get_text(session.png, session.info, &texts, nullptr);
    std::string_view xmp, raw;
    for (png_textp text = texts; text != texts + count; ++text) {
        const std::string_view key = text->key;
        const std::size_t length = std::max(text->text_length, text->itxt_length);
        if (key == "XML:com.adobe.xmp") xmp = {text->text, length};
        if (key == "Raw profile type exif") raw = {text->text, length};
    }
    if (png_get_eXIf_1(session.png, session.info, &size, &block) != 0) {
        found = orientation_in_exif({reinterpret_cast<const char*>(block), size});
    } else if (!raw.empty()) {
        found = orientation_in_exif(from_hexadecimal(raw));
    }
    return found ? *found : orientation_in_xmp(xmp).value_or(kUpright);
}

}  // namespace

Decoded decode_png(const std::uint8_t* data, std::size_t size) {
    Session session{nullptr, nullptr, data, size, "out of memory"};
    const Closing closing(session);
    require(open(session), session);
    const png_uint_32 width = png_get_image_width(session.png, session.info);
    const png_uint_32 height = png_get_image_height(session.png, session.info);
    check_sides(width, height);
    const PngSamples samples = samples_of(session.png, session.info);
    require(start(session, needs_both_bytes(samples)), session);

    const std::size_t row_bytes = png_get_rowbytes(session.png, session.info);
    const std::size_t pixel_bytes = row_bytes / width;
    std::vector<std::uint8_t> pixels(row_bytes * height);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = pixels.data() + row_bytes * y;
    require(read_rows(session, rows.data()), session);
    read_end(session);

    Decoded decoded;
    decoded.orientation = orientation_of(session);
    decoded.image.width = static_cast<int>(width);
    decoded.image.height = static_cast<int>(height);
    if (is_plain_rgb(samples)) {
        decoded.image.rgb = std::move(pixels);
        return decoded;
    }
    const std::size_t count = std::size_t{width} * height;
    decoded.image.rgb.resize(count * 3);
    to_rgb(samples, pixels.data(), pixel_bytes, count, decoded.image.rgb.data());
    return decoded;
}

}  // namespace d2export::runtime
