// Any bytes as a manifest: it is accepted, or refused with an Error; nothing else may happen. A
// digest that fits is put in, too, so that what lies behind the check of it is reached.
#include <d2export/error.h>
#include <d2export/manifest.h>

#include <algorithm>
#include <cstdlib>

#include "json_value.h"
#include "sha256.h"

namespace {

using namespace d2export::runtime;

void read(std::string_view text) {
    try {
        const Manifest manifest = parse_manifest(text);
        if (manifest.schema != kManifestSchema || manifest.vision.tokens_per_tile() < 1) {
            std::abort();
        }
    } catch (const Error& error) {
        if (*error.what() == '\0' || *error.hint() == '\0') {
            std::abort();
        }
    }
}

// The document with the digest of its content; empty if it is none.
std::string sealed(std::string_view text) {
    try {
        json::Value document = json::parse(text);
        auto* members = std::get_if<json::Object>(&document.data);
        if (members == nullptr) {
            return "";
        }
        members->erase(
            std::remove_if(members->begin(), members->end(),
                           [](const json::Member& member) { return member.key == "digest"; }),
            members->end());
        members->push_back({"digest", {sha256(json::canonical(document))}});
        return json::canonical(document);
    } catch (const json::Mismatch&) {
        return "";
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    read(text);
    read(sealed(text));
    return 0;
}
