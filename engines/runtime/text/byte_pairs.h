// Byte-pair encoding: the `model` of a tokenizer.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace d2export::runtime {

using TokenId = std::int32_t;

class BytePairs {
 public:
    struct Settings {
        std::optional<std::string> unknown;  // the token of what has none
        bool fuse_unknown = false;           // one of them for a run of such characters
        bool byte_fallback = false;          // what has none becomes the tokens of its bytes
        bool ignore_merges = false;          // a word that is a token is never taken apart
    };
    using Merge = std::pair<std::string, std::string>;

    // Throws std::invalid_argument, with the reason, where these belong to no vocabulary.
    BytePairs(std::vector<std::pair<std::string, TokenId>> vocabulary,
              const std::vector<Merge>& merges, const Settings& settings);
    BytePairs(BytePairs&&) = default;
    BytePairs& operator=(BytePairs&&) = default;

    // A token, and how many bytes of the word it stands for.
    struct Token {
        TokenId id;
        std::size_t size;
    };
    std::vector<Token> tokens(std::string_view word) const;

    std::optional<TokenId> id(std::string_view token) const;
    // Null where no token has this id.
    const std::string* token(std::int64_t id) const;
    std::size_t size() const { return ids_.size(); }
    TokenId largest() const { return largest_; }

 private:
    struct Joined {
        std::uint32_t rank;
        TokenId id;
    };

    std::vector<Token> characters(std::string_view word) const;
    bool add_bytes(std::string_view character, std::vector<Token>& tokens) const;
    const Joined* joined(TokenId left, TokenId right) const;

    std::vector<std::pair<std::string, TokenId>>
        vocabulary_;  // never changes: `ids_` looks into it
    std::unordered_map<std::string_view, TokenId> ids_;
    std::unordered_map<TokenId, const std::string*> texts_;
    std::unordered_map<std::uint64_t, Joined> merges_;
    std::optional<TokenId> unknown_;
    bool fuse_unknown_;
    bool byte_fallback_;
    bool ignore_merges_;
    TokenId largest_ = -1;
};

}  // namespace d2export::runtime
