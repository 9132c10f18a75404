#include "output.h"

#include <array>
#include <cstdio>
#include <string>
#include <vector>

namespace d2run {
namespace {

using d2export::runtime::Answer;
using d2export::runtime::Timings;

constexpr std::array<const char*, 3> kFinish{"stop", "length", "cancelled"};

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char letter : text) {
        if (letter == '"' || letter == '\\') {
            out += '\\';
        }
        if (static_cast<unsigned char>(letter) < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", letter);
            out += escaped;
        } else {
            out += letter;
        }
    }
    return out + '"';
}

template <typename Number>
std::string listed(const std::vector<Number>& numbers) {
    std::string out = "[";
    for (const Number number : numbers) {
        out += (out.size() > 1 ? ", " : "") + std::to_string(number);
    }
    return out + "]";
}

}  // namespace

void print_json(std::ostream& out, const Answer& answer) {
    std::string kept;
    for (const auto& of_image : answer.kept) {
        kept += (kept.empty() ? "" : ", ") + listed(of_image);
    }
    const Timings& times = answer.timings;
    out << "{\"text\": " << quoted(answer.text) << ", \"tokens\": " << listed(answer.tokens)
        << ", \"finish\": \"" << kFinish[static_cast<std::size_t>(answer.finish)]
        << "\", \"kept\": [" << kept << "], \"tiles\": " << listed(answer.tiles)
        << ", \"prompt_tokens\": " << answer.prompt_tokens
        << ", \"seconds\": {\"preprocessing\": " << times.preprocessing
        << ", \"vision\": " << times.vision << ", \"prefill\": " << times.prefill
        << ", \"decode\": " << times.decode << "}}\n";
}

void print_summary(std::ostream& out, const Answer& answer) {
    std::size_t kept = 0;
    for (const auto& of_image : answer.kept) {
        kept += of_image.size();
    }
    const Timings& times = answer.timings;
    char line[200];
    std::snprintf(line, sizeof line,
                  "%lld prompt tokens, %zu visual tokens kept; preprocessing %.0f ms, vision %.0f "
                  "ms, prefill %.0f ms, %zu tokens in %.0f ms\n",
                  static_cast<long long>(answer.prompt_tokens), kept, times.preprocessing * 1e3,
                  times.vision * 1e3, times.prefill * 1e3, answer.tokens.size(),
                  times.decode * 1e3);
    out << line;
}

}  // namespace d2run
