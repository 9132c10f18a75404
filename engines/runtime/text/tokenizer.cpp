#include <d2export/error.h>
#include <d2export/tokenizer.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "tokenizer_file.h"
#include "tokenizer_state.h"
#include "whole_file.h"

namespace d2export::runtime {
namespace {

constexpr std::size_t kMaxTokenizerBytes = 64u << 20;
constexpr std::size_t kMaxConversationBytes = 1u << 20;
constexpr const char* kOther = "The tokenizer does not belong to this checkpoint.";

Tokenization read_tokens(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / "tokenizer.json";
    std::error_code failure;
    if (!std::filesystem::exists(path, failure)) {
        throw bad_input(
            folder.string() + " has no tokenizer.json, so a prompt cannot be read here",
            "Build the bundle from a checkpoint with its tokenizer beside the weights.");
    }
    return read_tokenization(whole_file(path, kMaxTokenizerBytes), path.string());
}

// The tokens that the conversation puts into a prompt or waits for.
std::vector<std::string> needed_tokens(const Conversation& conversation) {
    std::vector<std::string> needed = conversation.stop;
    const ImageText& image = conversation.image;
    for (const auto& token :
         {conversation.bos.value_or(""), image.before, image.token.value_or(""), image.after}) {
        if (!token.empty()) needed.push_back(token);
    }
    return needed;
}

}  // namespace

Tokenizer::Tokenizer(const std::string& folder, std::int64_t vocab) {
    const std::filesystem::path root(folder), path = root / "tokenizer.json";
    Tokenization tokens = read_tokens(root);
    const std::filesystem::path talk = root / "conversation.json";
    Conversation conversation =
        read_conversation(whole_file(talk, kMaxConversationBytes), talk.string());
    if (tokens.largest_id() >= vocab) {
        throw bad_input(path.string() + " has ids up to " + std::to_string(tokens.largest_id()) +
                            ", the embedding table has " + std::to_string(vocab) + " rows",
                        kOther);
    }
    for (const std::string& token : needed_tokens(conversation)) {
        if (!tokens.id(token)) {
            throw bad_input(path.string() + " has no token '" + token +
                                "', which the model's conversation needs",
                            kOther);
        }
    }
    std::vector<TokenId> stop;
    for (const std::string& token : conversation.stop) stop.push_back(*tokens.id(token));
    state_ = std::make_unique<const State>(
        State{std::move(tokens), std::move(conversation), std::move(stop)});
}

Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Encoded Tokenizer::encode(const std::string& prompt, const std::vector<std::int64_t>& image_lengths,
                          const std::optional<std::string>& system) const {
    return encode_prompt(state_->tokens, state_->conversation, prompt, image_lengths, system);
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids) const {
    Fragments text, spare;
    state_->tokens.decode(ids.data(), ids.size(), text, spare);
    return std::move(text.bytes);
}

bool Tokenizer::is_stop(std::int64_t id) const {
    return std::find(state_->stop.begin(), state_->stop.end(), id) != state_->stop.end();
}

}  // namespace d2export::runtime
