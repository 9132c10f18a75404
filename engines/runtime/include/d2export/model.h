/// @file
/// A bundle that runs: pictures and a question in, an answer out.
#pragma once

#include <d2export/backend.h>
#include <d2export/bundle.h>
#include <d2export/export.h>
#include <d2export/image.h>
#include <d2export/sampling.h>
#include <d2export/tokenizer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace d2export::runtime {

struct ModelState;
struct SequenceState;

/// A prompt with its images as the decoder takes it. Owns its memory; moved or copied freely.
struct Prompt {
    std::vector<std::int64_t> input_ids;         ///< `[T]`; at visual positions any id
    std::vector<std::int64_t> visual_positions;  ///< `[V]`, ascending, image after image
    std::vector<std::int64_t> image_lengths;     ///< `[I]`, visual tokens of each budget
    std::vector<float> token_grid;               ///< `[V, 2]`
    std::vector<float> prior;                    ///< `[V]`
    std::vector<std::int64_t> text_positions;    ///< `[D]`, ascending: text that may be dropped
    /// `[T]`, ascending: where these tokens were, before the vision graph left some out.
    std::vector<std::int64_t> origin;
    bool contiguous = false;           ///< position ids count what is left; else they are `origin`
    std::vector<Matrix> image_embeds;  ///< of each image `[V_i, hidden]`: V together
    std::vector<std::shared_ptr<const void>> owners;  ///< of the memory of `image_embeds`
};

/// What one call of the decoder answered. Its memory is the sequence's, until its next call.
struct Step {
    Span<float> logits;            ///< `[vocab]`, of the token to come
    Span<std::int32_t> positions;  ///< of a decoder that prunes: which tokens of the call stay
};

/// Keys and values of one sequence of tokens. For one thread at a time; several sequences of a
/// model run side by side. Keeps what it needs of the model alive. Moved, not copied.
class D2EXPORT_API Sequence {
 public:
    Sequence(Sequence&&) noexcept;
    Sequence& operator=(Sequence&&) noexcept;
    ~Sequence();

    /// Appends a prompt with its images.
    ///
    /// @throws Error the sequence becomes longer than the model's context, or the backend cannot
    /// run
    ///     the graph on it; the sequence is as it was.
    Step prefill(const Prompt& prompt);

    /// Appends one token of text. Allocates nothing itself.
    ///
    /// @throws Error as prefill().
    Step step(std::int64_t token);

    /// Positions so far.
    std::int64_t length() const;

 private:
    friend class Model;
    explicit Sequence(std::unique_ptr<SequenceState> state);
    std::unique_ptr<SequenceState> state_;
};

/// What is asked about the images.
struct Request {
    std::string prompt;  ///< UTF-8; `<image>` where an image goes, else images come first
    std::int64_t max_new_tokens = 256;
    std::optional<Sampling> sampling;   ///< nothing for the most likely tokens
    std::optional<std::string> system;  ///< instead of the model's own system message
    /// Called with each piece of the answer as it comes, on the thread of the call, never with half
    /// a character; `false` ends the answer. An exception of its passes unchanged.
    std::function<bool(std::string_view piece)> on_text;
    /// Called before the answer if the bundle's prior was measured on no pictures such as these; an
    /// exception of its passes unchanged.
    std::function<void(const std::string& problem)> on_warning;
};

/// Why an answer ended.
enum class Finish {
    kStop,       ///< by a token that ends answers
    kLength,     ///< at max_new_tokens
    kCancelled,  ///< by Request::on_text
};

/// Seconds of wall time.
struct Timings {
    double preprocessing = 0;  ///< of pictures and text
    double vision = 0;
    double prefill = 0;
    double decode = 0;  ///< of all tokens but the first
};

/// An answer. Owns its memory.
struct Answer {
    std::string text;                  ///< without the tokens that end it
    std::vector<std::int64_t> tokens;  ///< with the one that ended it
    Finish finish = Finish::kLength;
    /// Of each image, which of its visual tokens stayed, ascending.
    std::vector<std::vector<std::int32_t>> kept;
    std::vector<std::int64_t> tiles;  ///< of each image
    std::int64_t prompt_tokens = 0;   ///< visual tokens included
    Timings timings;
};

/// What a vision graph answered for one picture. Owns its memory.
struct Seen {
    Matrix image_embeds;             ///< `[M, hidden]`, valid as long as `owner`, or on the GPU
    std::vector<std::int32_t> kept;  ///< `[M]`, ascending; all, where the graph does not prune
    std::int64_t tiles = 0;
    std::shared_ptr<const void> owner;
};

/// The graphs, the tokenizer and the prior of a bundle, opened once.
///
/// Immutable: all methods may be called from any number of threads at once. Moved, not copied; what
/// it was made from may go.
class D2EXPORT_API Model {
 public:
    /// Opens the graphs.
    ///
    /// @param bundle an opened bundle; its folder must stay
    /// @param backend what runs the graphs; the model keeps it alive
    /// @throws Error a graph cannot be opened, or a file of the bundle is damaged.
    Model(const Bundle& bundle, std::shared_ptr<const Backend> backend);
    Model(Model&&) noexcept;
    Model& operator=(Model&&) noexcept;
    ~Model();

    const Bundle& bundle() const;

    /// Answers a question about pictures, in scope `vlm`.
    ///
    /// @param images in the order of their `<image>` placeholders; only read during the call
    /// @throws Error the prompt or the number of images does not fit, or all of it together is
    /// longer
    ///     than the model's context; the bundle has no language model or no tokenizer.
    Answer answer(const std::vector<Image>& images, const Request& request) const;

    /// The same for pictures that are cut already.
    ///
    /// @param images from prepare() or tiles_on_device()
    Answer answer(const std::vector<Tiles>& images, const Request& request) const;

    /// The visual tokens of one picture, in any scope: pruned where the vision graph prunes.
    ///
    /// @param prompt input embeddings `[words, hidden]` float32, with importance `text` only
    /// @throws Error the picture cannot be cut, or a prompt is missing or superfluous.
    Seen see(const Image& image, const Matrix& prompt = {}) const;

    /// The same for a picture that is cut already.
    Seen see(const Tiles& image, const Matrix& prompt = {}) const;

    /// Copies visual tokens to host memory; with TensorRT they lie on the GPU.
    ///
    /// @param to room for `rows` x `columns` elements of their type
    /// @throws Error the GPU refuses.
    void to_host(const Matrix& from, void* to) const;

    /// The tokenizer, in a bundle that has one.
    ///
    /// @throws Error it has none.
    const Tokenizer& tokenizer() const;

    /// A prompt for prefill(): each image through the vision graph.
    ///
    /// @param encoded from tokenizer().encode()
    /// @param images of the same number and lengths, from prepare()
    /// @throws Error they do not fit each other, or a graph cannot run on them.
    Prompt prompt(const Encoded& encoded, const std::vector<Tiles>& images) const;

    /// A sequence without tokens, in scope `vlm`.
    ///
    /// @throws Error the bundle has no language model.
    Sequence start() const;

    /// What is unusual about pictures of so many tiles each: the bundle's prior was measured on
    /// none such. Empty if nothing is.
    std::string outside_prior(const std::vector<std::int64_t>& tiles) const;

 private:
    std::shared_ptr<const ModelState> state_;
};

}  // namespace d2export::runtime
