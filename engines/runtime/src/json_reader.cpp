#include "json_reader.h"

#include <algorithm>

namespace d2export::runtime::json {
namespace {

constexpr const char* kPathExpected = "a relative path with / between its parts and no '..'";

bool has_control(const std::string& text) {
    return std::any_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

std::string number_from(double low, double high) {
    const auto written = [](double number) {
        std::string text = canonical(Value{number});
        return text.size() > 2 && text.substr(text.size() - 2) == ".0"
                   ? text.substr(0, text.size() - 2)
                   : text;
    };
    if (low == -kNoLimit) {
        return "a finite number";
    }
    return high == kNoLimit ? "a number of at least " + written(low)
                            : "a number from " + written(low) + " to " + written(high);
}

}  // namespace

Reader::Reader(Value& value, std::string at)
    : object_(std::get_if<Object>(&value.data)), at_(std::move(at)) {
    if (object_ == nullptr) {
        throw Mismatch(at_, describe(value), "an object");
    }
}

Value* Reader::find(const std::string& name) {
    asked_.insert(name);
    const auto found = std::find_if(object_->begin(), object_->end(),
                                    [&](const Member& member) { return member.key == name; });
    return found == object_->end() ? nullptr : &found->value;
}

Value& Reader::field(const std::string& name) {
    Value* found = find(name);
    if (found == nullptr) {
        throw Mismatch(at(name), "missing", "a value");
    }
    return *found;
}

std::string Reader::text(const std::string& name) { return json::text(field(name), at(name)); }
std::string Reader::line(const std::string& name) { return json::line(field(name), at(name)); }
std::string Reader::path(const std::string& name) { return json::path(field(name), at(name)); }
bool Reader::truth(const std::string& name) { return json::truth(field(name), at(name)); }
const Value& Reader::any(const std::string& name) { return field(name); }

std::int64_t Reader::whole(const std::string& name, std::int64_t low, std::int64_t high) {
    return json::whole(field(name), at(name), low, high);
}

double Reader::real(const std::string& name, double low, double high) {
    return json::real(field(name), at(name), low, high);
}

std::string Reader::sha256(const std::string& name) {
    const Value& value = field(name);
    std::string digits = json::text(value, at(name));
    if (digits.size() != 64 || digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
        throw Mismatch(at(name), describe(value), "64 lower-case hexadecimal digits");
    }
    return digits;
}

std::string Reader::one_of(const std::string& name, std::initializer_list<const char*> words) {
    const Value& value = field(name);
    std::string expected;
    for (const char* word : words) {
        if (const auto* text = std::get_if<std::string>(&value.data); text && *text == word) {
            return *text;
        }
        expected += (expected.empty() ? "" : " or ") + describe(std::string(word));
    }
    throw Mismatch(at(name), describe(value), expected);
}

bool Reader::given(const std::string& name) { return !field(name).is_null(); }

bool Reader::present(const std::string& name) {
    const Value* value = find(name);
    if (value != nullptr && value->is_null()) {
        object_->erase(std::find_if(object_->begin(), object_->end(),
                                    [&](const Member& member) { return member.key == name; }));
        return false;
    }
    return value != nullptr;
}

Reader Reader::object(const std::string& name) { return {field(name), at(name)}; }

void Reader::each(const std::string& name,
                  const std::function<void(Value&, const std::string&)>& item) {
    Value& value = field(name);
    auto* array = std::get_if<Array>(&value.data);
    if (array == nullptr) {
        throw Mismatch(at(name), describe(value), "an array");
    }
    for (std::size_t i = 0; i < array->size(); ++i) {
        item((*array)[i], at(name) + "[" + std::to_string(i) + "]");
    }
}

void Reader::members(const std::string& name,
                     const std::function<void(Member&, const std::string&)>& item) {
    Value& value = field(name);
    auto* object = std::get_if<Object>(&value.data);
    if (object == nullptr) {
        throw Mismatch(at(name), describe(value), "an object");
    }
    for (Member& member : *object) {
        item(member, member_path(at(name), member.key));
    }
}

void Reader::close() const {
    for (const Member& member : *object_) {
        if (asked_.count(member.key) == 0) {
            std::string known;
            for (const std::string& name : asked_) {
                known += (known.empty() ? "" : ", ") + name;
            }
            throw Mismatch(at(member.key), "an unknown key", "one of " + known);
        }
    }
}

std::string text(const Value& value, const std::string& at) {
    if (const auto* found = std::get_if<std::string>(&value.data)) {
        return *found;
    }
    throw Mismatch(at, describe(value), "a string");
}

std::string line(const Value& value, const std::string& at) {
    std::string found = text(value, at);
    if (found.empty() || has_control(found)) {
        throw Mismatch(at, describe(value), "a name on one line");
    }
    return found;
}

std::string path(const Value& value, const std::string& at) {
    std::string found = text(value, at);
    if (!is_relative_path(found)) {
        throw Mismatch(at, describe(value), kPathExpected);
    }
    return found;
}

std::int64_t whole(const Value& value, const std::string& at, std::int64_t low, std::int64_t high) {
    const auto* found = std::get_if<std::int64_t>(&value.data);
    if (found == nullptr) {
        throw Mismatch(at, describe(value), "an integer");
    }
    if (*found < low || *found > high) {
        throw Mismatch(at, describe(value),
                       number_from(static_cast<double>(low),
                                   high == kMaxInteger ? kNoLimit : static_cast<double>(high)));
    }
    return *found;
}

double real(Value& value, const std::string& at, double low, double high) {
    if (const auto* integer = std::get_if<std::int64_t>(&value.data)) {
        value.data = static_cast<double>(*integer);
    }
    const auto* found = std::get_if<double>(&value.data);
    if (found == nullptr) {
        throw Mismatch(at, describe(value), "a finite number");
    }
    if (!(*found >= low && *found <= high)) {
        throw Mismatch(at, describe(value), number_from(low, high));
    }
    return *found;
}

bool truth(const Value& value, const std::string& at) {
    if (const auto* found = std::get_if<bool>(&value.data)) {
        return *found;
    }
    throw Mismatch(at, describe(value), "true or false");
}

bool is_relative_path(const std::string& path) {
    if (has_control(path) || path.find_first_of("\\:") != std::string::npos) {
        return false;
    }
    for (std::size_t start = 0;;) {
        const std::size_t end = std::min(path.find('/', start), path.size());
        const std::string part = path.substr(start, end - start);
        if (part.empty() || part == "." || part == "..") {
            return false;
        }
        if (end == path.size()) {
            return true;
        }
        start = end + 1;
    }
}

}  // namespace d2export::runtime::json
