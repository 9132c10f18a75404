// A JSON value, read strictly: within limits, no key twice, no number that a reader in another
// language would round, no NaN, no NUL and no half surrogate in a string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace d2export::runtime::json {

inline constexpr int kMaxDepth = 64;
inline constexpr std::int64_t kMaxInteger = 9007199254740991;  // 2^53 - 1

// A value is not what its place in the document wants: "AT is FOUND, expected EXPECTED".
class Mismatch : public std::runtime_error {
 public:
    Mismatch(const std::string& at, const std::string& found, const std::string& expected);
};

struct Member;
struct Value;
using Array = std::vector<Value>;
using Object = std::vector<Member>;  // in the order of the file

struct Value {
    std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, Array, Object> data;

    bool is_null() const { return std::holds_alternative<std::nullptr_t>(data); }
};

struct Member {
    std::string key;
    Value value;
};

// Throws a Mismatch about the document as a whole.
Value parse(std::string_view text);

// Python's json.dumps(value, sort_keys=True, separators=(",", ":")), byte for byte.
std::string canonical(const Value& value);

// A value in a few words for a message.
std::string describe(const Value& value);
std::string describe(const std::string& text);

// The path of `key` inside the object at `at`, as messages write it.
std::string member_path(const std::string& at, const std::string& key);

}  // namespace d2export::runtime::json
