#include "byte_pairs.h"

#include <algorithm>
#include <queue>
#include <stdexcept>

#include "utf8.h"

namespace d2export::runtime {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

std::uint64_t key_of(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
}

// A token of a word and its neighbours; one that was joined to its left has no bytes.
struct Symbol {
    TokenId id;
    std::size_t size;
    std::size_t before;
    std::size_t after;
};

// Two neighbours that could be joined: the lowest rank first, the leftmost of equals.
struct Candidate {
    std::uint32_t rank;
    std::size_t at;
    TokenId joined;

    bool operator<(const Candidate& other) const {  // the queue's top is the largest
        return rank != other.rank ? rank > other.rank : at > other.at;
    }
};

}  // namespace

BytePairs::BytePairs(std::vector<std::pair<std::string, TokenId>> vocabulary,
                     const std::vector<Merge>& merges, const Settings& settings)
    : vocabulary_(std::move(vocabulary)),
      fuse_unknown_(settings.fuse_unknown),
      byte_fallback_(settings.byte_fallback),
      ignore_merges_(settings.ignore_merges) {
    for (const auto& [text, id] : vocabulary_) {
        ids_.emplace(text, id);
        if (!texts_.emplace(id, &text).second) {
            throw std::invalid_argument("two tokens have the id " + std::to_string(id));
        }
        largest_ = std::max(largest_, id);
    }
    if (settings.unknown) {
        unknown_ = id(*settings.unknown);
        if (!unknown_) {
            throw std::invalid_argument("the vocabulary lacks unk_token '" + *settings.unknown +
                                        "'");
        }
    }
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        const auto& [left, right] = merges[rank];
        const auto a = id(left), b = id(right), whole = id(left + right);
        if (!a || !b || !whole) {
            throw std::invalid_argument("the vocabulary lacks a token of merge " +
                                        std::to_string(rank) + ", '" + left + "' and '" + right +
                                        "'");
        }
        merges_[key_of(*a, *b)] = {static_cast<std::uint32_t>(rank), *whole};
    }
}

std::optional<TokenId> BytePairs::id(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* BytePairs::token(std::int64_t id) const {
    if (id < 0 || id > largest_) return nullptr;
    const auto found = texts_.find(static_cast<TokenId>(id));
    return found == texts_.end() ? nullptr : found->second;
}

const BytePairs::Joined* BytePairs::joined(TokenId left, TokenId right) const {
    const auto found = merges_.find(key_of(left, right));
    return found == merges_.end() ? nullptr : &found->second;
}

// The tokens of a character's bytes, `<0x0A>` and so on; false if one is missing.
bool BytePairs::add_bytes(std::string_view character, std::vector<Token>& tokens) const {
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::vector<Token> found;
    for (const char c : character) {
        const auto byte = static_cast<unsigned char>(c);
        const char name[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        const std::optional<TokenId> known = id({name, sizeof name});
        if (!known) return false;
        found.push_back({*known, 1});
    }
    tokens.insert(tokens.end(), found.begin(), found.end());
    return true;
}

// A run of unknown characters is added when a known one follows. Bytes do not end it: so does the
// tokenizers package.
std::vector<BytePairs::Token> BytePairs::characters(std::string_view word) const {
    std::vector<Token> tokens;
    std::optional<Token> unknown;
    const auto flush = [&] {
        if (unknown) tokens.push_back(*unknown);
        unknown.reset();
    };
    for (std::size_t at = 0; at < word.size();) {
        const std::size_t begin = at;
        utf8::next(word, at);
        const std::string_view character = word.substr(begin, at - begin);
        if (const auto known = id(character)) {
            flush();
            tokens.push_back({*known, character.size()});
        } else if (byte_fallback_ && add_bytes(character, tokens)) {
            continue;
        } else if (unknown_) {
            if (unknown && !fuse_unknown_) flush();
            if (!unknown) unknown = Token{*unknown_, 0};
            unknown->size += character.size();
        }
    }
    flush();
    return tokens;
}

std::vector<BytePairs::Token> BytePairs::tokens(std::string_view word) const {
    if (word.empty()) return {};
    if (ignore_merges_) {
        if (const auto whole = id(word)) return {{*whole, word.size()}};
    }
    std::vector<Token> tokens = characters(word);
    std::vector<Symbol> symbols;
    symbols.reserve(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        symbols.push_back({tokens[i].id, tokens[i].size, i == 0 ? kNone : i - 1,
                           i + 1 == tokens.size() ? kNone : i + 1});
    }
    std::priority_queue<Candidate> candidates;
    const auto consider = [&](std::size_t at) {
        if (at == kNone || symbols[at].after == kNone) return;
        const Joined* found = joined(symbols[at].id, symbols[symbols[at].after].id);
        if (found != nullptr) candidates.push({found->rank, at, found->id});
    };
    for (std::size_t i = 0; i < symbols.size(); ++i) consider(i);
    while (!candidates.empty()) {
        const Candidate best = candidates.top();
        candidates.pop();
        Symbol& left = symbols[best.at];
        if (left.size == 0 || left.after == kNone) continue;
        Symbol& right = symbols[left.after];
        // The neighbours may have changed since; what they make must not have.
        const Joined* now = joined(left.id, right.id);
        if (now == nullptr || now->id != best.joined) continue;
        left.id = best.joined;
        left.size += right.size;
        right.size = 0;
        left.after = right.after;
        if (left.after != kNone) symbols[left.after].before = best.at;
        consider(left.before);
        consider(best.at);
    }
    tokens.clear();
    for (const Symbol& symbol : symbols) {
        if (symbol.size != 0) tokens.push_back({symbol.id, symbol.size});
    }
    return tokens;
}

}  // namespace d2export::runtime
