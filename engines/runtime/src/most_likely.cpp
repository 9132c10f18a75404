// Every token of an answer looks at 30,000 to 150,000 logits, so they are read four at a time. With
// plain loops, compilers read them one by one: NaN and the order of equal ones are in their way.
#include "most_likely.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace d2export::runtime {
namespace {

// As both GCC and Clang know them: SSE on x86-64, NEON on aarch64.
typedef float Floats __attribute__((vector_size(16)));
typedef std::int32_t Mask __attribute__((vector_size(16)));

constexpr std::int64_t kLanes = 4;
constexpr std::int64_t kChains = 4;  // that do not wait for each other
constexpr std::int64_t kBlock = 1024;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Floats read(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

bool any(const Mask& mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }

// NaN if one of the values is.
float largest(const Span<float>& values) {
    std::array<Floats, kChains> best;
    best.fill(Floats{-kInfinity, -kInfinity, -kInfinity, -kInfinity});
    Mask odd{};
    const std::int64_t whole = values.count - values.count % (kLanes * kChains);
    for (std::int64_t i = 0; i < whole; i += kLanes * kChains) {
        for (std::int64_t chain = 0; chain < kChains; ++chain) {
            Floats& most = best[static_cast<std::size_t>(chain)];
            const Floats found = read(values.data + i + chain * kLanes);
            odd |= found != found;
            most = found > most ? found : most;
        }
    }
    float all = -kInfinity;
    bool is_odd = any(odd);
    for (const Floats& most : best) {
        for (int lane = 0; lane < kLanes; ++lane) {
            all = std::max(all, most[lane]);
        }
    }
    for (std::int64_t i = whole; i < values.count; ++i) {
        is_odd |= std::isnan(values.data[i]);
        all = std::max(all, values.data[i]);
    }
    return is_odd ? std::numeric_limits<float>::quiet_NaN() : all;
}

// The first place of a value that is there.
std::int64_t place_of(float wanted, const Span<float>& values) {
    std::int64_t start = 0;
    for (; start + kBlock <= values.count; start += kBlock) {
        Mask found{};
        for (std::int64_t i = start; i < start + kBlock; i += kLanes) {
            found |= read(values.data + i) == wanted;
        }
        if (any(found)) {
            break;
        }
    }
    return std::find(values.data + start, values.data + values.count, wanted) - values.data;
}

}  // namespace

std::int64_t most_likely(const Span<float>& logits) {
    const float most = largest(logits);
    return std::isfinite(most) ? place_of(most, logits) : -1;
}

}  // namespace d2export::runtime
