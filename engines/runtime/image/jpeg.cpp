// JPEG by libjpeg(-turbo), with the settings Pillow decodes with: exact integer DCT, smooth chroma.
#include <d2export/error.h>
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it
#include <string>

#include "decoded.h"

namespace d2export::runtime {
namespace {

using namespace std::string_view_literals;

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr unsigned kMarkerBytes = 0xFFFF;
// A progressive file of few bytes can ask for the whole picture to be refined again and again.
constexpr int kMaxScans = 500;

// libjpeg reports an error by not returning; no C++ object may be alive in a frame it jumps over.
struct Session {
    jpeg_decompress_struct jpeg;
    jpeg_error_mgr errors;
    jpeg_source_mgr source;
    jpeg_progress_mgr progress;
    std::jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void fail(Session& session, const char* why) {
    std::snprintf(session.message, sizeof session.message, "%s", why);
    std::longjmp(session.escape, 1);
}

Session& session_of(j_common_ptr jpeg) { return *static_cast<Session*>(jpeg->client_data); }

[[noreturn]] void on_error(j_common_ptr jpeg) {
    Session& session = session_of(jpeg);
    jpeg->err->format_message(jpeg, session.message);
    std::longjmp(session.escape, 1);
}

void on_warning(j_common_ptr, int) {}  // as Pillow: what can be decoded is

void on_progress(j_common_ptr jpeg) {
    if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kMaxScans) {
        fail(session_of(jpeg), "it has too many scans");
    }
}

void nothing(j_decompress_ptr) {}

boolean out_of_bytes(j_decompress_ptr jpeg) {
    fail(session_of(reinterpret_cast<j_common_ptr>(jpeg)), "it ends in the middle of the picture");
}

void skip(j_decompress_ptr jpeg, long count) {
    if (count <= 0) return;
    if (static_cast<std::size_t>(count) > jpeg->src->bytes_in_buffer) out_of_bytes(jpeg);
    jpeg->src->next_input_byte += count;
    jpeg->src->bytes_in_buffer -= static_cast<std::size_t>(count);
}

// False after an error. The four calls below are all that touches libjpeg.
bool open(Session& session, const std::uint8_t* data, std::size_t size) {
    session = {};
    session.jpeg.err = jpeg_std_error(&session.errors);
    session.errors.error_exit = on_error;
    session.errors.emit_message = on_warning;
    session.jpeg.client_data = &session;
    if (setjmp(session.escape) != 0) return false;
    jpeg_create_decompress(&session.jpeg);
    session.jpeg.client_data = &session;
    session.source.next_input_byte = data;
    session.source.bytes_in_buffer = size;
    session.source.init_source = nothing;
    session.source.fill_input_buffer = out_of_bytes;
    session.source.skip_input_data = skip;
    session.source.resync_to_restart = jpeg_resync_to_restart;
    session.source.term_source = nothing;
    session.jpeg.src = &session.source;
    session.progress.progress_monitor = on_progress;
    session.jpeg.progress = &session.progress;
    jpeg_save_markers(&session.jpeg, kExifMarker, kMarkerBytes);
    jpeg_read_header(&session.jpeg, TRUE);
    return true;
}

bool start(Session& session, J_COLOR_SPACE space) {
    if (setjmp(session.escape) != 0) return false;
    session.jpeg.out_color_space = space;
    jpeg_start_decompress(&session.jpeg);
    return true;
}

bool read_rows(Session& session, std::uint8_t* out, std::size_t row_bytes) {
    if (setjmp(session.escape) != 0) return false;
    while (session.jpeg.output_scanline < session.jpeg.output_height) {
        JSAMPROW row = out + row_bytes * session.jpeg.output_scanline;
        jpeg_read_scanlines(&session.jpeg, &row, 1);
    }
    return true;
}

void close(Session& session) {
    if (setjmp(session.escape) == 0) jpeg_destroy_decompress(&session.jpeg);
}

class Closing {
 public:
    explicit Closing(Session& session) : session_(session) {}
    Closing(const Closing&) = delete;
    Closing& operator=(const Closing&) = delete;
    ~Closing() { close(session_); }

 private:
    Session& session_;
};

void require(bool succeeded, const Session& session) {
    if (succeeded) return;
    throw bad_input("the picture is damaged or incomplete: its JPEG data cannot be decoded (" +
                        std::string(session.message) + ")",
                    "Copy or download the file again.");
}

Orientation orientation_of(const jpeg_decompress_struct& jpeg) {
    constexpr std::string_view xmp_head = "http://ns.adobe.com/xap/1.0/\0"sv;
    std::string exif, xmp;  // a long block comes in several markers
    for (auto* marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
        const std::string_view block(reinterpret_cast<const char*>(marker->data),
                                     marker->data_length);
        if (marker->marker != kExifMarker) continue;
        if (block.substr(0, 6) == "Exif\0\0"sv) exif += block.substr(exif.empty() ? 0 : 6);
        if (block.substr(0, xmp_head.size()) == xmp_head) xmp = block.substr(xmp_head.size());
    }
    const auto found = orientation_in_exif(exif);
    return found ? *found : orientation_in_xmp(xmp).value_or(kUpright);
}

std::uint8_t times(unsigned a, unsigned b) {  // a * b / 255, rounded as Pillow rounds it
    const unsigned product = a * b + 128;
    return static_cast<std::uint8_t>(((product >> 8) + product) >> 8);
}

// Inks to light, as Pillow converts them. Photoshop stores paper as 255, and so all files do.
void to_rgb(const std::vector<std::uint8_t>& inks, std::vector<std::uint8_t>& rgb) {
    for (std::size_t i = 0; i < rgb.size() / 3; ++i) {
        const unsigned paper = inks[4 * i + 3];
        for (std::size_t c = 0; c < 3; ++c) {
            const unsigned ink = 255u - inks[4 * i + c];
            rgb[3 * i + c] = static_cast<std::uint8_t>(paper - times(ink, paper));
        }
    }
}

}  // namespace

Decoded decode_jpeg(const std::uint8_t* data, std::size_t size) {
    Session session;
    const Closing closing(session);
    require(open(session, data, size), session);
    const jpeg_decompress_struct& jpeg = session.jpeg;
    check_sides(jpeg.image_width, jpeg.image_height);
    const int components = jpeg.num_components;
    if (components != 1 && components != 3 && components != 4) {
        throw bad_input("the picture is a JPEG of " + std::to_string(components) +
                            " components, expected 1, 3 or 4",
                        "Save it in RGB.");
    }
    Decoded decoded;
    decoded.orientation = orientation_of(jpeg);  // of what stands before the first scan
    require(start(session, components == 4 ? JCS_CMYK : JCS_RGB), session);

    decoded.image.width = static_cast<int>(jpeg.image_width);
    decoded.image.height = static_cast<int>(jpeg.image_height);
    const std::size_t pixels = std::size_t{jpeg.image_width} * jpeg.image_height;
    decoded.image.rgb.resize(pixels * 3);
    if (components == 4) {
        std::vector<std::uint8_t> inks(pixels * 4);
        require(read_rows(session, inks.data(), std::size_t{jpeg.image_width} * 4), session);
        to_rgb(inks, decoded.image.rgb);
    } else {
        require(read_rows(session, decoded.image.rgb.data(), std::size_t{jpeg.image_width} * 3),
                session);
    }
    return decoded;
}

}  // namespace d2export::runtime
