// An object of a JSON document, read strictly: a field that is missing, of another type, out of its
// range or not known is a Mismatch that says where it is.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "json_value.h"

namespace d2export::runtime::json {

inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();

class Reader {
 public:
    // `value` outlives the reader, which writes whole numbers in it as `real` reads them.
    Reader(Value& value, std::string at);

    std::string text(const std::string& name);
    std::string line(const std::string& name);  // not empty, without control characters
    std::string path(const std::string& name);  // relative, without '..'
    std::string sha256(const std::string& name);
    std::string one_of(const std::string& name, std::initializer_list<const char*> words);
    std::int64_t whole(const std::string& name, std::int64_t low, std::int64_t high = kMaxInteger);
    double real(const std::string& name, double low = -kNoLimit, double high = kNoLimit);
    bool truth(const std::string& name);

    // Whether a field that must be there is anything but null.
    bool given(const std::string& name);
    // Whether there is a field that may be absent; null counts as absent, and is dropped.
    bool present(const std::string& name);

    Reader object(const std::string& name);
    // Calls `item` for each element of an array, with its path.
    void each(const std::string& name, const std::function<void(Value&, const std::string&)>& item);
    // Calls `item` for each member of an object, with its path.
    void members(const std::string& name,
                 const std::function<void(Member&, const std::string&)>& item);
    // A field that holds anything.
    const Value& any(const std::string& name);

    std::string at(const std::string& name) const { return member_path(at_, name); }

    // Throws a Mismatch if there is a field that nobody asked for.
    void close() const;

 private:
    Value* find(const std::string& name);
    Value& field(const std::string& name);

    Object* object_;
    std::string at_;
    std::set<std::string> asked_;
};

// The same for a value by itself.
std::string text(const Value& value, const std::string& at);
std::string line(const Value& value, const std::string& at);
std::string path(const Value& value, const std::string& at);
std::int64_t whole(const Value& value, const std::string& at, std::int64_t low,
                   std::int64_t high = kMaxInteger);
double real(Value& value, const std::string& at, double low = -kNoLimit, double high = kNoLimit);
bool truth(const Value& value, const std::string& at);

// Whether this is a relative path with / between its parts and no '..'.
bool is_relative_path(const std::string& path);

}  // namespace d2export::runtime::json
