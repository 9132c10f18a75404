#include "decoders.h"

#include <optional>
#include <utility>

#include "byte_level.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

std::optional<unsigned> digit(char c) {
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
    return std::nullopt;
}

std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
    const auto high = digit(token[3]), low = digit(token[4]);
    return high && low ? std::optional(static_cast<char>(*high << 4 | *low)) : std::nullopt;
}

void add_alphabet(std::string& bytes, std::string_view token) {
    const std::size_t before = bytes.size();
    for (std::size_t at = 0; at < token.size();) {
        const std::optional<char> byte = from_alphabet(utf8::next(token, at));
        if (!byte) {  // an added token
            bytes.resize(before);
            bytes += token;
            return;
        }
        bytes += *byte;
    }
}

// Each step reads `from`, and leaves its result there.
struct Step {
    Fragments& from;
    Fragments& to;

    void operator()(const DecodeAlphabet&) const {
        to.clear();
        for (std::size_t i = 0; i < from.size(); ++i) add_alphabet(to.bytes, from[i]);
        from.clear();
        utf8::append_lossy(from.bytes, to.bytes);
        from.end_here();
    }

    void operator()(const DecodeBytes&) const {
        to.clear();
        std::size_t run = 0;
        const auto end_run = [&] {
            if (run == 0) return;
            // The run stands at the end of `to`; one byte out of place spoils all of it.
            const std::size_t begin = to.bytes.size() - run;
            if (utf8::fault(std::string_view(to.bytes).substr(begin))) {
                to.bytes.resize(begin);
                for (; run > 0; --run) to.add(kReplacement);
            } else {
                to.end_here();
            }
            run = 0;
        };
        for (std::size_t i = 0; i < from.size(); ++i) {
            if (const auto byte = byte_of(from[i])) {
                to.bytes += *byte;
                ++run;
            } else {
                end_run();
                to.add(from[i]);
            }
        }
        end_run();
        std::swap(from, to);
    }

    void operator()(const Fuse&) const {
        from.ends.clear();
        from.end_here();
    }

    void operator()(const Strip& rule) const {
        const std::string character = utf8::of(rule.character);
        const std::size_t size = character.size();
        to.clear();
        for (std::size_t i = 0; i < from.size(); ++i) {
            std::string_view text = from[i];
            for (std::size_t n = 0; n < rule.start && text.substr(0, size) == character; ++n) {
                text.remove_prefix(size);
            }
            for (std::size_t n = 0; n < rule.end && text.size() >= size &&
                                    text.substr(text.size() - size) == character;
                 ++n) {
                text.remove_suffix(size);
            }
            to.add(text);
        }
        std::swap(from, to);
    }

    void operator()(const DecodeSpaces& rule) const {
        to.clear();
        for (std::size_t i = 0; i < from.size(); ++i) {
            const std::string_view token = from[i];
            for (std::size_t at = 0; at < token.size();) {
                const char32_t c = utf8::next(token, at);
                if (c != rule.space) {
                    utf8::append(to.bytes, c);
                } else if (i > 0 || !rule.has_prefix) {
                    to.bytes += ' ';
                }
            }
            to.end_here();
        }
        std::swap(from, to);
    }

    void operator()(const Replace& rule) const {
        to.clear();
        for (std::size_t i = 0; i < from.size(); ++i) {
            std::string_view rest = from[i];
            for (std::size_t found; (found = rest.find(rule.pattern)) != rest.npos;) {
                to.bytes += rest.substr(0, found);
                to.bytes += rule.content;
                rest.remove_prefix(found + rule.pattern.size());
            }
            to.add(rest);
        }
        std::swap(from, to);
    }
};

}  // namespace

void Fragments::clear() {
    bytes.clear();
    ends.clear();
}

void Fragments::add(std::string_view fragment) {
    bytes += fragment;
    end_here();
}

std::string_view Fragments::operator[](std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(bytes).substr(begin, ends[i] - begin);
}

void decode(Fragments& text, Fragments& spare, const Decoder& steps) {
    for (const auto& step : steps) std::visit(Step{text, spare}, step);
}

}  // namespace d2export::runtime
