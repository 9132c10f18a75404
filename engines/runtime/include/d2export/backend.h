/// @file
/// What runs the graphs of a bundle: ONNX Runtime, TensorRT, nothing at all, or something of your
/// own.
///
/// A Backend opens graphs. An opened graph may run in any number of threads at once; what belongs
/// to one sequence of tokens lives in a Cache, which is for one thread at a time.
#pragma once

#include <d2export/bundle.h>
#include <d2export/export.h>
#include <d2export/manifest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace d2export::runtime {

/// Where numbers lie.
enum class Place { kHost, kDevice };

/// Numbers that somebody else owns: `rows` times `columns`, row by row.
struct Matrix {
    const void* data = nullptr;
    DataType type = DataType::kFloat32;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    Place place = Place::kHost;
};

/// `count` numbers in host memory that somebody else owns.
template <typename Number>
struct Span {
    const Number* data = nullptr;
    std::int64_t count = 0;
};

/// What a vision graph takes for one picture; read during the call only.
struct VisionInput {
    Span<float> pixels;          ///< `[tiles, 3, side, side]`, see Tiles
    Place place = Place::kHost;  ///< of the pixels
    std::int64_t tiles = 0;
    std::int64_t side = 0;
    Span<float> grid;  ///< `[tokens, 2]`
    Matrix prompt;     ///< float32 `[words, hidden]`, with importance `text` only
};

/// What a vision graph answered; owns its memory.
class D2EXPORT_API VisionOutput {
 public:
    virtual ~VisionOutput();
    /// `[tokens, hidden]` in the type of the graph's output; valid as long as this object.
    virtual Matrix embeds() const = 0;
    /// `[tokens]`, ascending, which of the picture's tokens these are; none where the graph does
    /// not prune. Valid as long as this object.
    virtual Span<std::int32_t> kept() const = 0;
};

/// An opened vision graph. May be run from any number of threads at once.
class D2EXPORT_API VisionGraph {
 public:
    virtual ~VisionGraph();
    /// @throws Error the graph cannot run on this input.
    virtual std::unique_ptr<VisionOutput> run(const VisionInput& input) const = 0;
};

/// New tokens of a sequence: a prompt with its images, or one token; read during the call only.
struct DecoderInput {
    Span<std::int64_t> input_ids;     ///< `[T]`
    Span<std::int64_t> position_ids;  ///< `[T]`
    Span<Matrix> image_embeds;        ///< of each image `[V_i, hidden]`: V visual tokens together
    Span<std::int64_t> visual_positions;  ///< `[V]`, ascending
    Span<std::int64_t> image_lengths;     ///< `[I]`
    Span<float> token_grid;               ///< `[V, 2]`
    Span<float> prior;                    ///< `[V]`
    Span<std::int64_t> text_positions;    ///< `[D]`, ascending
};

/// What a decoder answered; its memory is the cache's, until the next call with that.
struct DecoderOutput {
    Span<float> logits;            ///< `[vocab]`, of the token to come
    Span<std::int32_t> positions;  ///< which tokens of the call stay, of a decoder that prunes
};

/// Keys and values of one sequence, wherever the backend keeps them. For one thread at a time.
class D2EXPORT_API Cache {
 public:
    virtual ~Cache();
};

/// An opened decoder graph. May be run from any number of threads at once, each with its own cache.
class D2EXPORT_API DecoderGraph {
 public:
    virtual ~DecoderGraph();
    /// A sequence without tokens. The graph must outlive it.
    virtual std::unique_ptr<Cache> start() const = 0;
    /// Appends tokens to a sequence.
    ///
    /// @param cache from start() of this graph; unchanged if the call throws.
    /// @throws Error the graph cannot run on this input.
    virtual DecoderOutput run(Cache& cache, const DecoderInput& input) const = 0;
};

/// Opens the graphs of bundles. May be used from any number of threads at once.
class D2EXPORT_API Backend {
 public:
    virtual ~Backend();
    /// What messages call it.
    virtual std::string name() const = 0;
    /// @throws Error the graph cannot be opened here.
    virtual std::unique_ptr<VisionGraph> open_vision(const Bundle& bundle) const = 0;
    /// @param bundle of scope `vlm`
    /// @throws Error the graph cannot be opened here.
    virtual std::unique_ptr<DecoderGraph> open_decoder(const Bundle& bundle) const = 0;
    /// Copies numbers that a graph of this backend answered to host memory.
    ///
    /// @param to room for `rows` x `columns` elements of their type
    /// @throws Error they lie on a GPU that this backend does not know.
    virtual void to_host(const Matrix& from, void* to) const;
};

/// Settings of ONNX Runtime.
struct OnnxRuntimeOptions {
    /// The shared library, or empty for the one that the system finds: libonnxruntime.so.1.
    std::string library;
    /// d2export's ops as native code, libd2export_onnxruntime.so; empty for the functions of
    /// standard operators that every graph carries. Code is run from it: name only one you trust.
    std::string custom_ops;
    /// Threads of one operator; 0 for all cores.
    int threads = 0;
};

/// ONNX Runtime on the CPU. Its library is opened now and stays open until the process ends.
///
/// @throws Error the library cannot be opened or is older than this backend needs (both versions
/// are
///     named), or this d2export::runtime was built without its headers.
D2EXPORT_API std::unique_ptr<Backend> onnx_runtime(const OnnxRuntimeOptions& options = {});

/// Memory on the GPU that a program gives to TensorRT, from a pool of its own for instance. May be
/// called from any number of threads at once.
class D2EXPORT_API DeviceMemory {
 public:
    virtual ~DeviceMemory();
    /// Memory of `bytes`, at least 1, aligned to 256; null if there is none.
    virtual void* allocate(std::size_t bytes) noexcept = 0;
    /// Takes back what allocate() answered; no work on the GPU uses it any more.
    virtual void release(void* memory) noexcept = 0;
};

/// Settings of TensorRT. All zeros are the defaults.
struct TensorRtOptions {
    /// The shared library, or empty for the one that the system finds: libnvinfer.so.<major>, of
    /// the TensorRT whose headers this d2export::runtime was built with.
    std::string library;
    /// libd2export_plugin.so; empty if the engines need none. Code is run from it: name only one
    /// you trust, a bundle's own for instance if you trust the bundle.
    std::string plugin;
    /// Number of the GPU, as CUDA counts them.
    int device = 0;
    /// A `cudaStream_t` that everything runs on, in its own CUDA context, `device` unasked; the
    /// caller's, it must outlive the backend. Null: each run that goes on at a time has its own.
    void* stream = nullptr;
    /// Where all memory on the GPU comes from, TensorRT's own included; null for CUDA.
    std::shared_ptr<DeviceMemory> memory;
    /// Decode steps that are kept as CUDA graphs for each run that goes on at a time, to be
    /// replayed by later sequences that come to the same length; 0 for none. For questions of like
    /// lengths again and again, a camera's for instance: a step that was there before costs one
    /// launch.
    int cuda_graphs = 0;
    /// Whether code inside engines may run on the CPU: of plugins that were put into them.
    bool host_code = false;
};

/// TensorRT 8.6 to 11, for bundles with engines: `d2export build BUNDLE --target auto`. Its library
/// and CUDA's driver are opened now and stay open until the process ends.
///
/// Visual tokens, keys and values stay on the GPU. Engines are checked before TensorRT reads them:
/// their digests, the version that built them, the GPU, the plugin.
///
/// @throws Error no GPU, no driver; the library cannot be opened, is another TensorRT than the
///     headers (both are named) or refuses the plugin; this d2export::runtime was built without
///     TensorRT's headers.
D2EXPORT_API std::unique_ptr<Backend> tensorrt(const TensorRtOptions& options = {});

/// A backend that computes nothing and answers at once: visual tokens are zeros, each image keeps
/// its first ones, and the most likely token is `token`. For measuring what the host costs.
D2EXPORT_API std::unique_ptr<Backend> null_backend(std::int64_t token = 0);

}  // namespace d2export::runtime
