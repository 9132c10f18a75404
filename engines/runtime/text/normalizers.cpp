#include "normalizers.h"

#include <utility>

#include "composition.h"

namespace d2export::runtime {
namespace {

// What stands for a match comes from the end of it.
AlignedText replaced(const AlignedText& text, const Replace& rule) {
    AlignedText out;
    const auto copy = [&](std::size_t begin, std::size_t end) {
        out.bytes.append(text.bytes, begin, end - begin);
        out.spans.insert(out.spans.end(), text.spans.begin() + static_cast<std::ptrdiff_t>(begin),
                         text.spans.begin() + static_cast<std::ptrdiff_t>(end));
    };
    std::size_t at = 0;
    for (std::size_t found; (found = text.bytes.find(rule.pattern, at)) != std::string::npos;) {
        copy(at, found);
        at = found + rule.pattern.size();
        out.bytes += rule.content;
        out.spans.resize(out.bytes.size(), text.spans[at - 1]);
    }
    copy(at, text.bytes.size());
    return out;
}

struct Step {
    AlignedText& text;

    void operator()(const ComposeCharacters&) const { text = compose(text); }
    void operator()(const Prepend& rule) const {
        if (!text.bytes.empty()) prepend(text, rule.prefix);
    }
    void operator()(const Replace& rule) const { text = replaced(text, rule); }
};

}  // namespace

void prepend(AlignedText& text, const std::string& prefix) {
    text.bytes.insert(0, prefix);
    text.spans.insert(text.spans.begin(), prefix.size(), text.spans.front());
}

void normalize(AlignedText& text, const Normalizer& steps) {
    for (const auto& step : steps) std::visit(Step{text}, step);
}

}  // namespace d2export::runtime
