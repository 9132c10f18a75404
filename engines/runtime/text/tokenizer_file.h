// Reads a tokenizer.json, the format of the tokenizers package.
//
// Read are byte-pair models, as Qwen2, Llama and InternLM2 have them: byte-level ones, and those of
// sentencepiece's kind. What this library would not do exactly as the package does is refused by
// name.
#pragma once

#include <string>
#include <string_view>

#include "tokenization.h"

namespace d2export::runtime {

// `where` is for messages. Throws an Error.
Tokenization read_tokenization(std::string_view document, const std::string& where);

}  // namespace d2export::runtime
