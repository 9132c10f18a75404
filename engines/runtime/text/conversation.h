// How a prompt is put to the model: conversation.json, which the exporter rendered from the model's
// published template or the checkpoint's own.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace d2export::runtime {

// What stands before and after a text.
struct Around {
    std::string before;
    std::string after;
};

// See d2export/models/conversation.py, which says what each of these is.
struct ImageText {
    std::string before;
    std::optional<std::string> token;
    std::string after;
    std::string first;
    std::string each;
};

struct Conversation {
    std::string opening;
    std::optional<Around> system;
    std::optional<std::string> system_message;
    Around prompt;
    ImageText image;
    std::vector<std::string> stop;
    std::vector<std::string> markup;
    std::optional<std::string> bos;
};

// `where` is for messages. Throws an Error.
Conversation read_conversation(std::string_view document, const std::string& where);

}  // namespace d2export::runtime
