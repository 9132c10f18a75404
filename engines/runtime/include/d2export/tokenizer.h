/// @file
/// Text to token ids and back, with the tokenizer and the conversation in a bundle.
#pragma once

#include <d2export/export.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace d2export::runtime {

/// A prompt with images as the language model takes it.
struct Encoded {
    std::vector<std::int64_t> input_ids;         ///< `[T]`; at visual positions any id
    std::vector<std::int64_t> visual_positions;  ///< `[V]`, ascending, image after image
    std::vector<std::int64_t> image_lengths;     ///< `[I]`, visual tokens of each image
    /// `[D]`, ascending: the user's own words, no image and no template.
    std::vector<std::int64_t> text_positions;
};

/// The tokenizer (`tokenizer.json`) and the conversation (`conversation.json`) of a bundle.
///
/// Immutable: all methods may be called from any number of threads at once. It can be moved, not
/// copied; a moved-from object can only be destroyed or assigned to.
class D2EXPORT_API Tokenizer {
 public:
    /// @param folder the bundle's `processor/`
    /// @param vocab rows of the model's embedding table
    /// @throws Error the folder has no tokenizer, it is damaged, or does not fit the model.
    Tokenizer(const std::string& folder, std::int64_t vocab);
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;
    ~Tokenizer();

    /// A prompt, in the model's conversation, with its images.
    ///
    /// @param prompt UTF-8, what the user says; `<image>` where an image goes, else images come
    ///     first
    /// @param image_lengths visual tokens of each image
    /// @param system instead of the conversation's own system message
    /// @throws Error the prompt is empty, has another number of placeholders than there are images,
    ///     is not UTF-8, or contains a control token; or the model takes no system message.
    Encoded encode(const std::string& prompt, const std::vector<std::int64_t>& image_lengths,
                   const std::optional<std::string>& system = std::nullopt) const;

    /// The text of an answer, special tokens left out.
    std::string decode(const std::vector<std::int64_t>& ids) const;

    /// Whether this token ends an answer.
    bool is_stop(std::int64_t id) const;

 private:
    friend class TextStream;
    struct State;
    std::unique_ptr<const State> state_;
};

/// Turns the ids of an answer into text, one by one: pieces that add up to the decoded answer and
/// never hold half a character.
///
/// For one answer and one thread at a time. The tokenizer must outlive it.
class D2EXPORT_API TextStream {
 public:
    explicit TextStream(const Tokenizer& tokenizer);
    TextStream(TextStream&&) noexcept;
    ~TextStream();

    /// Replaces `piece` by what the answer grows by with the next token; often nothing.
    ///
    /// Memory of `piece` and of the stream is reused from call to call.
    void put(std::int64_t token, std::string& piece);

    /// Replaces `piece` by what is left when the answer ends within a character.
    void end(std::string& piece);

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace d2export::runtime
