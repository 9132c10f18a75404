#include "added_tokens.h"

#include <algorithm>
#include <utility>

#include "unicode.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

bool begins_with_word(std::string_view text) {
    std::size_t at = 0;
    return !text.empty() && unicode::is_word_part(utf8::next(text, at));
}

// Where the last character of a text begins.
std::size_t last_character(std::string_view text) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    return at;
}

bool ends_with_word(std::string_view text) {
    return !text.empty() && begins_with_word(text.substr(last_character(text)));
}

std::size_t without_spaces_at_end(std::string_view text) {
    std::size_t size = text.size();
    while (size > 0) {
        std::size_t at = last_character(text.substr(0, size));
        const std::size_t begin = at;
        if (!unicode::is_space(utf8::next(text, at))) break;
        size = begin;
    }
    return size;
}

std::size_t spaces_at_start(std::string_view text) {
    std::size_t size = 0;
    for (std::size_t at = 0; at < text.size() && unicode::is_space(utf8::next(text, at));)
        size = at;
    return size;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer)
    : tokens_(std::move(tokens)) {
    std::vector<std::size_t> order(tokens_.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        order[i] = i;
        by_id_[tokens_[i].id] = i;
        if (tokens_[i].special) special_.insert(tokens_[i].content);
    }
    // Of equal texts a special token is found first.
    std::stable_partition(order.begin(), order.end(),
                          [&](std::size_t i) { return tokens_[i].special; });
    for (const std::size_t i : order) {
        AlignedText text = AlignedText::of(tokens_[i].content, 0);
        if (tokens_[i].normalized) normalize(text, normalizer);
        if (text.bytes.empty()) continue;
        Index& index = tokens_[i].normalized ? as_normalized_ : as_given_;
        index[text.bytes.front()].push_back({text.bytes, i});
    }
    for (Index* index : {&as_given_, &as_normalized_}) {
        for (auto& [first, sought] : *index) {
            std::stable_sort(sought.begin(), sought.end(), [](const Sought& a, const Sought& b) {
                return a.text.size() > b.text.size();
            });
        }
    }
}

const AddedToken* AddedTokens::find(std::int64_t id) const {
    if (id < 0 || id > INT32_MAX) return nullptr;
    const auto found = by_id_.find(static_cast<TokenId>(id));
    return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(std::string_view content) const {
    const auto found = std::find_if(tokens_.begin(), tokens_.end(), [&](const AddedToken& token) {
        return token.content == content;
    });
    return found == tokens_.end() ? nullptr : &*found;
}

const AddedTokens::Sought* AddedTokens::match(const std::string& text, std::size_t at,
                                              const Index& index) const {
    const auto bucket = index.find(text[at]);
    if (bucket == index.end()) return nullptr;
    for (const Sought& sought : bucket->second) {
        if (text.compare(at, sought.text.size(), sought.text) == 0) return &sought;
    }
    return nullptr;
}

void AddedTokens::split(const AlignedText& text, bool normalized,
                        std::vector<TextPart>& parts) const {
    const Index& index = normalized ? as_normalized_ : as_given_;
    const std::string_view bytes = text.bytes;
    std::size_t done = 0;
    for (std::size_t at = 0; at < bytes.size();) {
        const Sought* sought = match(text.bytes, at, index);
        if (sought == nullptr) {
            ++at;
            continue;
        }
        const AddedToken& token = tokens_[sought->token];
        std::size_t begin = at, end = at + sought->text.size();
        at = end;
        if (token.single_word &&
            (ends_with_word(bytes.substr(0, begin)) || begins_with_word(bytes.substr(end)))) {
            continue;
        }
        if (token.takes_left) begin = std::max(without_spaces_at_end(bytes.substr(0, begin)), done);
        if (token.takes_right) end += spaces_at_start(bytes.substr(end));
        if (done < begin) parts.push_back({text.slice(done, begin), std::nullopt});
        parts.push_back({text.slice(begin, end), token.id});
        done = end;
    }
    if (done < bytes.size()) parts.push_back({text.slice(done, bytes.size()), std::nullopt});
}

}  // namespace d2export::runtime
