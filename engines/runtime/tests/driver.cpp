// Parts of the library that programs do not see, for ctypes.
#include <d2export/bundle.h>
#include <d2export/engines.h>
#include <d2export/error.h>
#include <d2export/manifest.h>
#include <d2export/sampling.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "embedding_table.h"
#include "json_value.h"
#include "pcg64.h"
#include "sha256.h"

namespace runtime = d2export::runtime;

namespace {

void copy(const std::string& text, char* to, std::size_t capacity) {
    const std::size_t size = std::min(text.size(), capacity - 1);
    std::memcpy(to, text.data(), size);
    to[size] = '\0';
}

}  // namespace

extern "C" {

// 0 if the manifest is accepted, else 2 and why.
D2EXPORT_API int driver_manifest(const char* text, std::size_t size, char* why,
                                 std::size_t capacity) {
    try {
        runtime::parse_manifest({text, size});
        return 0;
    } catch (const runtime::Error& error) {
        copy(error.what(), why, capacity);
        return static_cast<int>(error.blame());
    }
}

// 0 and the canonical text of a document, else 2 and why.
D2EXPORT_API int driver_canonical(const char* text, std::size_t size, char* out,
                                  std::size_t capacity) {
    try {
        copy(runtime::json::canonical(runtime::json::parse({text, size})), out, capacity);
        return 0;
    } catch (const runtime::json::Mismatch& mismatch) {
        copy(mismatch.what(), out, capacity);
        return 2;
    }
}

D2EXPORT_API void driver_sha256(const char* bytes, std::size_t size, char* out) {
    copy(runtime::sha256({bytes, size}), out, 65);
}

D2EXPORT_API void driver_uniform(std::uint64_t seed, double* out, std::size_t count) {
    runtime::Pcg64 generator(seed);
    std::generate(out, out + count, [&] { return generator.real(); });
}

D2EXPORT_API float driver_float16(std::uint16_t bits) { return runtime::from_float16(bits); }

// Draws from the same logits again and again; a temperature of 0 takes the most likely.
D2EXPORT_API int driver_pick(const float* logits, std::int64_t count, double temperature,
                             std::int64_t top_k, double top_p, std::uint64_t seed,
                             std::int64_t* out, std::size_t draws) {
    try {
        std::optional<runtime::Sampling> sampling;
        if (temperature != 0) {
            sampling = {temperature, top_k, top_p, seed};
        }
        runtime::Sampler sampler(sampling, count);
        for (std::size_t i = 0; i < draws; ++i) {
            out[i] = sampler.pick({logits, count});
        }
        return 0;
    } catch (const runtime::Error& error) {
        return static_cast<int>(error.blame());
    }
}

// 0 if the engines of a bundle fit a machine, 1 if there are none; else whose fault it is, and why.
D2EXPORT_API int driver_engines(const char* bundle, const char* tensorrt, const char* gpu,
                                int major, int minor, std::int64_t memory, const char* plugin,
                                char* why, std::size_t capacity) {
    try {
        const runtime::Bundle opened(bundle);
        const auto engines = runtime::read_engines(opened);
        if (!engines) {
            return 1;
        }
        runtime::check_engines(opened, *engines, {tensorrt, gpu, {major, minor}, memory, plugin});
        return 0;
    } catch (const runtime::Error& error) {
        copy(error.what(), why, capacity);
        return static_cast<int>(error.blame());
    }
}
}
