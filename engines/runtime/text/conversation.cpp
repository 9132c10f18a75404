#include "conversation.h"

#include <d2export/error.h>

#include "json_reader.h"

namespace d2export::runtime {
namespace {

using json::Reader;
using json::Value;

std::optional<std::string> text_or_null(Reader& object, const char* name) {
    return object.given(name) ? std::optional(object.text(name)) : std::nullopt;
}

Around around(Reader object) {
    Around found{object.text("before"), object.text("after")};
    object.close();
    return found;
}

ImageText image_text(Reader object) {
    ImageText found{object.text("before"), text_or_null(object, "token"), object.text("after"),
                    object.text("first"), object.text("each")};
    object.close();
    return found;
}

std::vector<std::string> texts(Reader& object, const char* name) {
    std::vector<std::string> found;
    object.each(
        name, [&](Value& value, const std::string& at) { found.push_back(json::text(value, at)); });
    return found;
}

Conversation conversation(Reader object) {
    Conversation found;
    object.text("name");
    found.opening = object.text("opening");
    if (object.given("system")) found.system = around(object.object("system"));
    found.system_message = text_or_null(object, "system_message");
    found.prompt = around(object.object("prompt"));
    found.image = image_text(object.object("image"));
    found.stop = texts(object, "stop");
    found.markup = texts(object, "markup");
    if (object.present("bos")) found.bos = object.text("bos");
    object.close();
    return found;
}

}  // namespace

Conversation read_conversation(std::string_view document, const std::string& where) {
    try {
        Value value = json::parse(document);
        Reader reader(value, "");
        reader.one_of("format", {"d2export-conversation"});
        reader.whole("version", 1, 1);
        Conversation found = conversation(reader.object("conversation"));
        reader.close();
        return found;
    } catch (const json::Mismatch& mismatch) {
        throw bad_input(where + " is damaged: " + mismatch.what(), "Build the bundle again.");
    }
}

}  // namespace d2export::runtime
