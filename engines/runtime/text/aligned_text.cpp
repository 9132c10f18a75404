#include "aligned_text.h"

#include "utf8.h"

namespace d2export::runtime {

AlignedText AlignedText::of(std::string_view text, std::size_t start) {
    AlignedText out;
    out.bytes = text;
    out.spans.reserve(text.size());
    auto character = static_cast<std::uint32_t>(start);
    for (std::size_t at = 0; at < text.size(); ++character) {
        utf8::next(text, at);
        out.spans.resize(at, {character, character + 1});
    }
    return out;
}

void AlignedText::append(char32_t character, Span span) {
    utf8::append(bytes, character);
    spans.resize(bytes.size(), span);
}

AlignedText AlignedText::slice(std::size_t begin, std::size_t end) const {
    const auto first = spans.begin();
    return {bytes.substr(begin, end - begin),
            {first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(end)}};
}

}  // namespace d2export::runtime
