#include "overlay.h"

#include <d2export/error.h>
#include <pango/pangocairo.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <regex>

namespace camera {
namespace {

using d2export::runtime::Image;

struct Free {
    void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
    void operator()(cairo_t* cairo) const { cairo_destroy(cairo); }
    void operator()(PangoLayout* layout) const { g_object_unref(layout); }
    void operator()(PangoFontDescription* font) const { pango_font_description_free(font); }
};
template <typename Object>
using Owned = std::unique_ptr<Object, Free>;

Owned<cairo_surface_t> surface_of(Picture& picture) {
    // Cairo's rows of 32-bit pixels follow each other, as ours do.
    return Owned<cairo_surface_t>(cairo_image_surface_create_for_data(
        picture.bgrx.data(), CAIRO_FORMAT_RGB24, picture.width, picture.height, 4 * picture.width));
}

void draw_boxes(cairo_t* cairo, const Picture& picture, const std::string& answer) {
    static const std::string kEdge = R"(\s*(\d{1,4}(?:\.\d+)?)\s*)";
    static const std::regex kBox("\\[" + kEdge + "," + kEdge + "," + kEdge + "," + kEdge + "\\]");
    const double width = std::max(2.0, picture.height / 200.0);
    const std::sregex_iterator end;
    for (std::sregex_iterator box(answer.begin(), answer.end(), kBox); box != end; ++box) {
        const auto edge = [&](std::size_t which) { return std::stod((*box)[which]) / 1000; };
        const double x1 = edge(1), y1 = edge(2), x2 = edge(3), y2 = edge(4);
        if (x1 >= x2 || x2 > 1 || y1 >= y2 || y2 > 1) continue;  // no box, as Python has it
        cairo_rectangle(cairo, x1 * picture.width, y1 * picture.height, (x2 - x1) * picture.width,
                        (y2 - y1) * picture.height);
        cairo_set_source_rgb(cairo, 0, 0, 0);  // seen on what is light
        cairo_set_line_width(cairo, 2 * width);
        cairo_stroke_preserve(cairo);
        cairo_set_source_rgb(cairo, 1, 0.85, 0);
        cairo_set_line_width(cairo, width);
        cairo_stroke(cairo);
    }
}

// A band with text, as wide as the picture and at most a third as high, at its top or bottom.
void draw_text(cairo_t* cairo, const Picture& picture, const std::string& text, double size,
               bool at_top) {
    const Owned<PangoLayout> layout(pango_cairo_create_layout(cairo));
    const Owned<PangoFontDescription> font(pango_font_description_from_string("Sans"));
    pango_font_description_set_absolute_size(font.get(), size * PANGO_SCALE);
    pango_layout_set_font_description(layout.get(), font.get());
    const double margin = size / 2;
    pango_layout_set_width(layout.get(),
                           static_cast<int>((picture.width - 2 * margin) * PANGO_SCALE));
    pango_layout_set_height(layout.get(), picture.height / 3 * PANGO_SCALE);
    pango_layout_set_wrap(layout.get(), PANGO_WRAP_WORD_CHAR);
    pango_layout_set_ellipsize(layout.get(), PANGO_ELLIPSIZE_END);
    pango_layout_set_text(layout.get(), text.c_str(), static_cast<int>(text.size()));

    int height = 0;
    pango_layout_get_pixel_size(layout.get(), nullptr, &height);
    const double band = height + margin;
    const double top = at_top ? 0 : picture.height - band;
    cairo_rectangle(cairo, 0, top, picture.width, band);
    cairo_set_source_rgba(cairo, 0, 0, 0, 0.6);
    cairo_fill(cairo);
    cairo_move_to(cairo, margin, top + margin / 2);
    cairo_set_source_rgb(cairo, 1, 1, 1);
    pango_cairo_show_layout(cairo, layout.get());
}

// Lines end behind a comma only, not between a number and its unit.
std::string breakable(const std::string& costs) {
    return std::regex_replace(costs, std::regex("([^,]) "), "$1\u00A0");
}

}  // namespace

void need_overlay() {}

Picture draw(const Image& image, const std::string& answer, const std::string& costs) {
    Picture picture{{}, image.width, image.height};
    picture.bgrx.reserve(image.rgb.size() / 3 * 4);
    for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
        picture.bgrx.insert(picture.bgrx.end(),
                            {image.rgb[i + 2], image.rgb[i + 1], image.rgb[i], 255});
    }
    const Owned<cairo_surface_t> surface = surface_of(picture);
    const Owned<cairo_t> cairo(cairo_create(surface.get()));
    const double small = std::max(9.0, picture.height / 40.0);
    draw_boxes(cairo.get(), picture, answer);
    draw_text(cairo.get(), picture, breakable(costs), small, true);
    draw_text(cairo.get(), picture, answer, 1.5 * small, false);
    cairo_surface_flush(surface.get());
    return picture;
}

void write_png(Picture& picture, const std::string& path) {
    const std::string part = path + ".part";  // whoever watches the folder sees whole pictures
    const cairo_status_t status =
        cairo_surface_write_to_png(surface_of(picture).get(), part.c_str());
    std::error_code problem;
    if (status == CAIRO_STATUS_SUCCESS) std::filesystem::rename(part, path, problem);
    if (status != CAIRO_STATUS_SUCCESS || problem) {
        throw d2export::runtime::misfit(
            path + " cannot be written: " +
                (problem ? problem.message() : cairo_status_to_string(status)),
            "Pass --show a folder that can be written to, with room.");
    }
}

}  // namespace camera
