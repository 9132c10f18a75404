// What a Tokenizer holds.
#pragma once

#include <d2export/tokenizer.h>

#include <string>
#include <vector>

#include "conversation.h"
#include "tokenization.h"

namespace d2export::runtime {

struct Tokenizer::State {
    Tokenization tokens;
    Conversation conversation;
    std::vector<TokenId> stop;
};

// Tokenizer::encode.
Encoded encode_prompt(const Tokenization& tokens, const Conversation& conversation,
                      const std::string& prompt, const std::vector<std::int64_t>& image_lengths,
                      const std::optional<std::string>& system);

}  // namespace d2export::runtime
