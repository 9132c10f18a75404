// A prompt becomes token ids: d2export/runtime/tokenizer.py in C++.
#include <d2export/error.h>

#include <algorithm>
#include <limits>

#include "tokenizer_state.h"
#include "unicode.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

constexpr std::string_view kPlaceholder = "<image>";  // where a prompt wants an image
constexpr std::int64_t kMaxVisualTokens = 1 << 20;

using Range = std::pair<std::size_t, std::size_t>;  // of characters

std::string replaced(std::string text, std::string_view what, std::string_view with) {
    for (std::size_t at = 0; (at = text.find(what, at)) != text.npos; at += with.size()) {
        text.replace(at, what.size(), with);
    }
    return text;
}

std::string_view stripped(std::string_view text) {
    std::size_t begin = 0, end = text.size();
    for (std::size_t at = 0; at < text.size() && unicode::is_python_space(utf8::next(text, at));) {
        begin = at;
    }
    while (end > begin) {
        std::size_t first = end - 1;
        while ((static_cast<unsigned char>(text[first]) & 0xC0) == 0x80) --first;
        std::size_t at = first;
        if (!unicode::is_python_space(utf8::next(text, at))) break;
        end = first;
    }
    return text.substr(begin, end - begin);
}

std::size_t count(std::string_view text, std::string_view what) {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != text.npos; at += what.size()) ++found;
    return found;
}

// Text between two images, and which of its characters are the user's own words.
struct Piece {
    std::string text;
    Range words;
};

std::vector<Piece> pieces_of(const std::string& text, const Range& words) {
    std::vector<Piece> pieces;
    std::size_t begin = 0, characters = 0;
    for (;;) {
        const std::size_t found = text.find(kPlaceholder, begin);
        const std::string piece = text.substr(begin, found == text.npos ? found : found - begin);
        const std::size_t length = utf8::length(piece);
        const auto inside = [&](std::size_t at) {
            return std::min(at > characters ? at - characters : 0, length);
        };
        const std::size_t low = words.first > characters ? words.first - characters : 0;
        pieces.push_back({piece, {low, std::max(low, inside(words.second))}});
        if (found == text.npos) return pieces;
        begin = found + kPlaceholder.size();
        characters += length + kPlaceholder.size();
    }
}

class Prompt {
 public:
    Prompt(const Tokenization& tokens, const Conversation& conversation)
        : tokens_(tokens), conversation_(conversation) {}

    Encoded encode(const std::string& prompt, const std::vector<std::int64_t>& image_lengths,
                   const std::optional<std::string>& system) {
        check_lengths(image_lengths);
        Range words;
        const std::string text = whole_text(prompt, image_lengths.size(), system, words);
        encoded_.image_lengths = image_lengths;
        if (conversation_.bos) encoded_.input_ids.push_back(*tokens_.id(*conversation_.bos));
        const std::vector<Piece> pieces = pieces_of(text, words);
        if (pieces.size() != image_lengths.size() + 1) {
            throw bad_input("the conversation places " + std::to_string(pieces.size() - 1) +
                                " images, expected " + std::to_string(image_lengths.size()),
                            "Build the bundle again.");
        }
        if (conversation_.image.token) {
            with_image_tokens(pieces);
        } else {
            with_gaps(pieces);
        }
        return std::move(encoded_);
    }

 private:
    void check_lengths(const std::vector<std::int64_t>& image_lengths) const {
        std::int64_t all = 0;
        for (const std::int64_t length : image_lengths) {
            if (length < 0 || length > kMaxVisualTokens - all) {
                throw bad_input("the images have " + std::to_string(length) +
                                    " visual tokens, expected 0 to " +
                                    std::to_string(kMaxVisualTokens) + " of all of them",
                                "Pass the number of tokens of each image.");
            }
            all += length;
        }
    }

    void check_utf8(const std::string& what, const std::string& text) const {
        if (const auto fault = utf8::fault(text)) {
            throw bad_input(what + " is not UTF-8 at byte " + std::to_string(*fault + 1),
                            "Pass it in UTF-8.");
        }
    }

    void check(const std::string& prompt, std::size_t images) const {
        const std::string bare = replaced(prompt, kPlaceholder, "");
        if (stripped(bare).empty()) {
            throw bad_input("the prompt is empty", "Pass at least one word.");
        }
        const std::size_t placeholders = count(prompt, kPlaceholder);
        if (placeholders != 0 && placeholders != images) {
            throw bad_input(
                "placeholders '<image>' in the prompt: " + std::to_string(placeholders) +
                    ", expected " + std::to_string(images) + ", one per image",
                "Write one for each image, or none: then the images come first.");
        }
        check_control_tokens("the prompt", bare);
    }

    // Somebody else's text must not end the user's turn. By id as well: a tokenizer may find a
    // token where the text spells it otherwise.
    void check_control_tokens(const std::string& what, const std::string& text) const {
        std::vector<const AddedToken*> control;
        for (const AddedToken& token : tokens_.added.all()) {
            const auto& markup = conversation_.markup;
            if (std::find(markup.begin(), markup.end(), token.content) == markup.end()) {
                control.push_back(&token);
            }
        }
        std::sort(control.begin(), control.end(),
                  [](const AddedToken* a, const AddedToken* b) { return a->id < b->id; });
        const std::vector<PlacedToken> found = tokens_.encode(text);
        for (const AddedToken* token : control) {
            const bool spelt = text.find(token->content) != text.npos;
            if (spelt || std::any_of(found.begin(), found.end(), [&](const PlacedToken& placed) {
                    return placed.id == token->id;
                })) {
                throw bad_input(what + " contains the control token '" + token->content + "'",
                                "Leave it out, or spell it apart.");
            }
        }
    }

    void check_system(const std::string& system) const {
        if (system.find(kPlaceholder) != system.npos) {
            throw bad_input(
                "the system message contains the placeholder '<image>', expected plain text",
                "Write it in the prompt, where the image is to go.");
        }
        check_control_tokens("the system message", system);
    }

    // The prompt in its conversation, with a placeholder for each image.
    std::string whole_text(const std::string& prompt, std::size_t images,
                           const std::optional<std::string>& system, Range& words) const {
        check_utf8("the prompt", prompt);
        check_utf8("the system message", system.value_or(""));
        check(prompt, images);
        check_system(system.value_or(""));
        const std::optional<Around>& around = conversation_.system;
        if (system && !around) {
            throw bad_input("this model takes no system message, but one is given",
                            "Leave it out.");
        }
        const std::string asked(stripped(prompt));
        std::string text = conversation_.opening;
        const std::optional<std::string>& message = system ? system : conversation_.system_message;
        if (around && message) text += around->before + *message + around->after;
        text += conversation_.prompt.before;
        if (asked.find(kPlaceholder) == asked.npos) text += images_first(images);
        words.first = utf8::length(text);
        words.second = words.first + utf8::length(asked);
        return text + asked + conversation_.prompt.after;
    }

    std::string images_first(std::size_t images) const {
        const std::string& each =
            images == 1 ? conversation_.image.first : conversation_.image.each;
        std::string text;
        for (std::size_t i = 1; i <= images; ++i) {
            const std::string with_image = replaced(each, "{image}", kPlaceholder);
            text += replaced(with_image, "{number}", std::to_string(i));
        }
        return text;
    }

    // An image is a run of its token, and the text is one.
    void with_image_tokens(const std::vector<Piece>& pieces) {
        const ImageText& image = conversation_.image;
        std::string text;
        std::vector<Range> words;
        std::size_t characters = 0;
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            const Range& own = pieces[i].words;
            words.emplace_back(characters + own.first, characters + own.second);
            std::string part = pieces[i].text;
            if (i < encoded_.image_lengths.size()) {
                part += image.before;
                for (std::int64_t n = 0; n < encoded_.image_lengths[i]; ++n) part += *image.token;
                part += image.after;
            }
            characters += utf8::length(part);
            text += part;
        }
        add(text, words);
        const TokenId image_id = *tokens_.id(*image.token);
        for (std::size_t i = 0; i < encoded_.input_ids.size(); ++i) {
            if (encoded_.input_ids[i] == image_id) add_visual(i);
        }
        drop_visual_words();
    }

    // Pieces tokenized one by one with gaps between them, as LLaVA was trained.
    void with_gaps(const std::vector<Piece>& pieces) {
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            add(pieces[i].text, {pieces[i].words});
            if (i == encoded_.image_lengths.size()) break;
            for (std::int64_t n = 0; n < encoded_.image_lengths[i]; ++n) {
                add_visual(encoded_.input_ids.size());
                encoded_.input_ids.push_back(0);
            }
        }
    }

    // A blank before the first word may be outside: tokenizers make it a part of that word.
    void add(const std::string& text, const std::vector<Range>& words) {
        std::vector<bool> blank;
        for (std::size_t at = 0; at < text.size();) {
            blank.push_back(utf8::next(text, at) == U' ');
        }
        for (const PlacedToken& token : tokens_.encode(text)) {
            const std::size_t start = token.span.start, end = token.span.end;
            std::size_t own = start;
            while (own < end && blank[own]) ++own;
            if (own == end) own = start;
            const bool inside = std::any_of(words.begin(), words.end(), [&](const Range& range) {
                return range.first <= own && end <= range.second;
            });
            if (start < end && inside) {
                encoded_.text_positions.push_back(
                    static_cast<std::int64_t>(encoded_.input_ids.size()));
            }
            encoded_.input_ids.push_back(token.id);
        }
    }

    void add_visual(std::size_t at) {
        encoded_.visual_positions.push_back(static_cast<std::int64_t>(at));
    }

    void drop_visual_words() {
        auto& text = encoded_.text_positions;
        const auto& visual = encoded_.visual_positions;
        text.erase(std::remove_if(text.begin(), text.end(),
                                  [&](std::int64_t at) {
                                      return std::binary_search(visual.begin(), visual.end(), at);
                                  }),
                   text.end());
    }

    const Tokenization& tokens_;
    const Conversation& conversation_;
    Encoded encoded_;
};

}  // namespace

Encoded encode_prompt(const Tokenization& tokens, const Conversation& conversation,
                      const std::string& prompt, const std::vector<std::int64_t>& image_lengths,
                      const std::optional<std::string>& system) {
    return Prompt(tokens, conversation).encode(prompt, image_lengths, system);
}

}  // namespace d2export::runtime
