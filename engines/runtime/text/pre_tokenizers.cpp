#include "pre_tokenizers.h"

#include <utility>

#include "byte_level.h"
#include "normalizers.h"

namespace d2export::runtime {
namespace {

constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

bool begins(const std::string& text, const std::string& start) {
    return text.compare(0, start.size(), start) == 0;
}

// What becomes of a word. No word is empty.
struct Step {
    AlignedText& word;
    std::vector<AlignedText>& out;

    void operator()(const SplitWords& rule) const { cut(rule.pattern); }

    void operator()(const ByteLevel& rule) const {
        static const Pattern gpt2(kGpt2Words);
        if (rule.space_first && !begins(word.bytes, " ")) prepend(word, " ");
        const std::size_t before = out.size();
        if (rule.splits) {
            cut(gpt2);
        } else {
            out.push_back(std::move(word));
        }
        for (std::size_t i = before; i < out.size(); ++i) out[i] = to_alphabet(out[i]);
    }

    void operator()(const Metaspace& rule) const {
        normalize(word, {Replace{" ", rule.space}});
        const bool first = word.spans.front().start == 0;
        const bool wanted = rule.prefix == Metaspace::Prefix::kAlways ||
                            (rule.prefix == Metaspace::Prefix::kFirst && first);
        if (wanted && !begins(word.bytes, rule.space)) prepend(word, rule.space);
        std::size_t done = 0;
        while (rule.splits) {
            const std::size_t next = word.bytes.find(rule.space, done + 1);
            if (next == std::string::npos) break;
            out.push_back(word.slice(done, next));
            done = next;
        }
        out.push_back(word.slice(done, word.bytes.size()));
    }

 private:
    void cut(const Pattern& pattern) const {
        std::size_t done = 0;
        pattern.split(word.bytes, [&](std::size_t end) {
            out.push_back(word.slice(done, end));
            done = end;
        });
    }
};

}  // namespace

std::vector<AlignedText> split(AlignedText text, const PreTokenizer& steps) {
    std::vector<AlignedText> words;
    if (!text.bytes.empty()) words.push_back(std::move(text));
    for (const auto& step : steps) {
        std::vector<AlignedText> out;
        for (AlignedText& word : words) std::visit(Step{word, out}, step);
        words = std::move(out);
    }
    return words;
}

}  // namespace d2export::runtime
