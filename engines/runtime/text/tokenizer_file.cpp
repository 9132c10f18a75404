#include "tokenizer_file.h"

#include <d2export/error.h>

#include <algorithm>
#include <functional>
#include <map>
#include <stdexcept>
#include <utility>

#include "json_reader.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

using json::Mismatch;
using json::Reader;
using json::Value;

constexpr std::int64_t kMaxId = INT32_MAX;

std::string named(const Value& value, const std::string& at) {
    std::string text = json::text(value, at);
    if (text.empty()) throw Mismatch(at, "empty", "a text");
    return text;
}

std::string text_of(Reader& object, const char* name) {
    return named(object.any(name), object.at(name));
}

bool truth_or(Reader& object, const char* name, bool otherwise) {
    return object.present(name) ? object.truth(name) : otherwise;
}

char32_t character_of(Reader& object, const char* name) {
    const std::string text = text_of(object, name);
    std::size_t at = 0;
    const char32_t character = utf8::next(text, at);
    if (at != text.size()) throw Mismatch(object.at(name), json::describe(text), "one character");
    return character;
}

// A text to look for; `{"Regex": ...}` is none here.
std::string string_pattern(Reader& object) {
    Reader pattern = object.object("pattern");
    return text_of(pattern, "String");
}

// Calls `read` for each step, those of a sequence in order. `list` is what it calls its steps.
void each_step(Value& value, const std::string& at, const char* list, int depth,
               const std::function<void(Reader&, const std::string& type)>& read) {
    if (depth > 8) throw Mismatch(at, "nested too deep", "at most 8 levels");
    Reader step(value, at);
    const std::string type = step.text("type");
    if (type != "Sequence") {
        read(step, type);
        return;
    }
    step.each(list, [&](Value& item, const std::string& place) {
        each_step(item, place, list, depth + 1, read);
    });
}

void each_step(Reader& document, const char* name, const char* list,
               const std::function<void(Reader&, const std::string& type)>& read) {
    if (!document.present(name)) return;
    Value value = document.any(name);  // a few steps, which a reader writes in
    each_step(value, document.at(name), list, 0, read);
}

[[noreturn]] void unsupported(const Reader& step, const std::string& type, const char* expected) {
    throw Mismatch(step.at("type"), json::describe(type), expected);
}

Normalizer read_normalizer(Reader& document) {
    Normalizer steps;
    each_step(document, "normalizer", "normalizers", [&](Reader& step, const std::string& type) {
        if (type == "NFC") {
            steps.push_back(ComposeCharacters{});
        } else if (type == "Prepend") {
            steps.push_back(Prepend{step.text("prepend")});
        } else if (type == "Replace") {
            steps.push_back(Replace{string_pattern(step), step.text("content")});
        } else {
            unsupported(step, type, "NFC, Prepend or Replace");
        }
    });
    return steps;
}

// A text as the expression that matches it.
std::string escaped(const std::string& text) {
    std::string expression;
    for (const char c : text) {
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || c <= ' ' ||
                           static_cast<unsigned char>(c) >= 0x7F;
        expression += plain ? std::string(1, c) : std::string("\\") + c;
    }
    return expression;
}

Pattern read_pattern(Reader& step) {
    Reader pattern = step.object("pattern");
    const bool literal = pattern.present("String");
    const std::string expression =
        literal ? escaped(text_of(pattern, "String")) : text_of(pattern, "Regex");
    try {
        return Pattern(expression);
    } catch (const PatternFault& fault) {
        throw Mismatch(step.at("pattern"), json::describe(expression) + ", which " + fault.what(),
                       "an expression this library matches exactly");
    }
}

Metaspace read_metaspace(Reader& step) {
    const std::string space = utf8::of(character_of(step, "replacement"));
    std::string scheme = step.present("prepend_scheme")
                             ? step.one_of("prepend_scheme", {"always", "first", "never"})
                             : "always";
    if (!truth_or(step, "add_prefix_space", true)) scheme = "never";
    const auto prefix = scheme == "always"  ? Metaspace::Prefix::kAlways
                        : scheme == "first" ? Metaspace::Prefix::kFirst
                                            : Metaspace::Prefix::kNever;
    return {space, prefix, truth_or(step, "split", true)};
}

PreTokenizer read_pre_tokenizer(Reader& document) {
    PreTokenizer steps;
    each_step(
        document, "pre_tokenizer", "pretokenizers", [&](Reader& step, const std::string& type) {
            if (type == "Split") {
                step.one_of("behavior", {"Isolated"});
                steps.push_back(SplitWords{read_pattern(step)});
            } else if (type == "ByteLevel") {
                steps.push_back(
                    ByteLevel{step.truth("add_prefix_space"), truth_or(step, "use_regex", true)});
            } else if (type == "Metaspace") {
                steps.push_back(read_metaspace(step));
            } else {
                unsupported(step, type, "Split, ByteLevel or Metaspace");
            }
        });
    return steps;
}

// A template says what goes before every text, which conversation.json says, too.
std::vector<TrimmedSpans> read_post_processor(Reader& document) {
    std::vector<TrimmedSpans> steps;
    each_step(document, "post_processor", "processors", [&](Reader& step, const std::string& type) {
        if (type == "ByteLevel") {
            const bool spares = step.truth("add_prefix_space");
            if (step.truth("trim_offsets")) steps.push_back({spares});
        } else if (type != "TemplateProcessing") {
            unsupported(step, type, "ByteLevel or TemplateProcessing");
        }
    });
    return steps;
}

std::optional<Decoder> read_decoder(Reader& document) {
    if (!document.present("decoder")) return std::nullopt;
    Decoder steps;
    each_step(document, "decoder", "decoders", [&](Reader& step, const std::string& type) {
        if (type == "ByteLevel") {
            steps.push_back(DecodeAlphabet{});
        } else if (type == "ByteFallback") {
            steps.push_back(DecodeBytes{});
        } else if (type == "Fuse") {
            steps.push_back(Fuse{});
        } else if (type == "Strip") {
            steps.push_back(Strip{character_of(step, "content"),
                                  static_cast<std::size_t>(step.whole("start", 0)),
                                  static_cast<std::size_t>(step.whole("stop", 0))});
        } else if (type == "Metaspace") {
            const Metaspace rule = read_metaspace(step);
            steps.push_back(DecodeSpaces{character_of(step, "replacement"),
                                         rule.prefix != Metaspace::Prefix::kNever});
        } else if (type == "Replace") {
            steps.push_back(Replace{string_pattern(step), step.text("content")});
        } else {
            unsupported(step, type, "ByteLevel, ByteFallback, Fuse, Strip, Metaspace or Replace");
        }
    });
    return steps;
}

// Older files write a merge as one text with a space in it.
BytePairs::Merge read_merge(Value& value, const std::string& at) {
    if (const auto* pair = std::get_if<json::Array>(&value.data)) {
        if (pair->size() != 2) throw Mismatch(at, json::describe(value), "two tokens");
        return {json::text((*pair)[0], at + "[0]"), json::text((*pair)[1], at + "[1]")};
    }
    const std::string text = json::text(value, at);
    const std::size_t space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos) {
        throw Mismatch(at, json::describe(value), "two tokens");
    }
    return {text.substr(0, space), text.substr(space + 1)};
}

BytePairs read_model(Reader& document) {
    Reader model = document.object("model");
    if (model.present("type")) model.one_of("type", {"BPE"});
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        if (model.present(name) && !model.text(name).empty()) {
            throw Mismatch(model.at(name), json::describe(model.text(name)), "none");
        }
    }
    if (model.present("dropout") && model.real("dropout") != 0) {
        throw Mismatch(model.at("dropout"), "given", "none");
    }
    BytePairs::Settings settings;
    if (model.present("unk_token")) settings.unknown = model.text("unk_token");
    settings.fuse_unknown = truth_or(model, "fuse_unk", false);
    settings.byte_fallback = truth_or(model, "byte_fallback", false);
    settings.ignore_merges = truth_or(model, "ignore_merges", false);
    std::vector<std::pair<std::string, TokenId>> vocabulary;
    model.members("vocab", [&](json::Member& member, const std::string& at) {
        vocabulary.emplace_back(member.key,
                                static_cast<TokenId>(json::whole(member.value, at, 0, kMaxId)));
    });
    std::vector<BytePairs::Merge> merges;
    model.each("merges", [&](Value& value, const std::string& at) {
        merges.push_back(read_merge(value, at));
    });
    return {std::move(vocabulary), merges, settings};
}

AddedToken read_added_token(Value& value, const std::string& at) {
    Reader token(value, at);
    return {static_cast<TokenId>(token.whole("id", 0, kMaxId)),
            text_of(token, "content"),
            token.truth("single_word"),
            token.truth("lstrip"),
            token.truth("rstrip"),
            token.truth("normalized"),
            token.truth("special")};
}

// The package gives each token the id it has in the vocabulary, or the next free one.
std::vector<AddedToken> read_added_tokens(Reader& document, const BytePairs& model) {
    std::vector<AddedToken> tokens;
    std::map<std::string, TokenId> ids;
    auto next = static_cast<std::int64_t>(model.size());
    if (!document.present("added_tokens")) return tokens;
    document.each("added_tokens", [&](Value& value, const std::string& at) {
        AddedToken token = read_added_token(value, at);
        const auto own = model.id(token.content);
        const auto known = ids.find(token.content);
        const std::int64_t expected = own ? *own : known != ids.end() ? known->second : next;
        if (token.id != expected) {
            throw Mismatch(at + ".id", std::to_string(token.id),
                           std::to_string(expected) + " for " + json::describe(token.content));
        }
        next = std::max(next, expected + 1);
        ids[token.content] = token.id;
        tokens.push_back(std::move(token));
    });
    return tokens;
}

}  // namespace

Tokenization read_tokenization(std::string_view document, const std::string& where) {
    try {
        Value value = json::parse(document);
        Reader reader(value, "");
        BytePairs model = read_model(reader);
        Normalizer normalizer = read_normalizer(reader);
        AddedTokens added(read_added_tokens(reader, model), normalizer);
        PreTokenizer pre_tokenizer = read_pre_tokenizer(reader);
        return {std::move(normalizer),       std::move(added),
                std::move(pre_tokenizer),    std::move(model),
                read_post_processor(reader), read_decoder(reader)};
    } catch (const Mismatch& mismatch) {
        throw bad_input(where + " is no tokenizer this library reads: " + mismatch.what(),
                        "Repair the checkpoint's tokenizer.json and build the bundle again.");
    } catch (const std::invalid_argument& error) {
        throw bad_input(where + " is no tokenizer: " + error.what(),
                        "Repair the checkpoint's tokenizer.json and build the bundle again.");
    }
}

}  // namespace d2export::runtime
