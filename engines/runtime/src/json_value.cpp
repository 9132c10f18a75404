#include "json_value.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace d2export::runtime::json {
namespace {

using Parser = nlohmann::json;

constexpr std::size_t kShown = 80;  // characters of a value, or of what is wrong, in a message

// What nlohmann's parser calls, event by event. It makes sure of UTF-8, half surrogates included.
class Builder final : public nlohmann::json_sax<Parser> {
 public:
    bool null() override { return add(nullptr); }
    bool boolean(bool value) override { return add(value); }
    bool number_integer(number_integer_t value) override { return add_integer(value); }
    bool number_unsigned(number_unsigned_t value) override {
        return add_integer(value > kMaxInteger ? kMaxInteger + 1
                                               : static_cast<std::int64_t>(value));
    }
    bool number_float(number_float_t value, const string_t& text) override {
        // An integer of more than 64 bits arrives here, too.
        if (!std::isfinite(value) || text.find_first_of(".eE") == string_t::npos) {
            throw Mismatch("", "not JSON (a number beyond all limits)", "a complete JSON object");
        }
        return add(value);
    }
    bool string(string_t& value) override { return add(checked(std::move(value))); }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return open(Object{}); }
    bool start_array(std::size_t) override { return open(Array{}); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool key(string_t& name) override {
        if (!keys_.back().insert(name).second) {
            throw Mismatch("", "an object with the key " + describe(name) + " twice",
                           "each key once");
        }
        std::get<Object>(open_.back()->data).push_back({checked(name), {nullptr}});
        return true;
    }
    bool parse_error(std::size_t, const std::string&,
                     const nlohmann::detail::exception& error) override {
        std::string why = std::string(error.what()).substr(0, kShown);
        std::replace_if(
            why.begin(), why.end(), [](char letter) { return letter < ' ' || letter > '~'; }, '?');
        throw Mismatch("", "not JSON (" + why + ")", "a complete JSON object");
    }

    Value root{nullptr};

 private:
    template <typename Data>
    bool add(Data&& data) {
        place() = Value{std::forward<Data>(data)};
        return true;
    }

    bool add_integer(std::int64_t value) {
        if (value > kMaxInteger || value < -kMaxInteger) {
            throw Mismatch("", "an integer beyond 2^53", "integers that every reader keeps");
        }
        return add(value);
    }

    template <typename Data>
    bool open(Data&& data) {
        if (open_.size() == kMaxDepth) {
            throw Mismatch("", "nested too deep",
                           "at most " + std::to_string(kMaxDepth) + " levels");
        }
        Value& opened = place();
        opened = Value{std::forward<Data>(data)};
        open_.push_back(&opened);
        keys_.emplace_back();
        return true;
    }

    bool close() {
        open_.pop_back();
        keys_.pop_back();
        return true;
    }

    // Where the next value goes. What is open does not move: only its last element grows.
    Value& place() {
        if (open_.empty()) {
            return root;
        }
        if (auto* array = std::get_if<Array>(&open_.back()->data)) {
            return array->emplace_back();
        }
        return std::get<Object>(open_.back()->data).back().value;
    }

    static std::string checked(std::string text) {
        if (text.find('\0') != std::string::npos) {
            throw Mismatch("", describe(text), "strings without NUL");
        }
        return text;
    }

    std::vector<Value*> open_;
    std::vector<std::set<std::string>> keys_;
};

std::string quoted(const std::string& text) {
    return Parser(text).dump(-1, ' ', true, Parser::error_handler_t::replace);
}

// Python's repr(): the fewest digits that read back as the same number.
std::string written(double number) {
    if (number == 0) {
        return std::signbit(number) ? "-0.0" : "0.0";
    }
    std::string digits;
    int exponent = 0;
    for (int precision = 0; precision <= 16; ++precision) {
        char text[40];
        std::snprintf(text, sizeof text, "%.*e", precision, std::fabs(number));
        if (std::strtod(text, nullptr) == std::fabs(number)) {
            const std::string found(text);
            const std::size_t e = found.find('e');
            digits = found.substr(0, 1) + (precision > 0 ? found.substr(2, e - 2) : "");
            exponent = std::atoi(found.c_str() + e + 1);
            break;
        }
    }
    const std::string sign = number < 0 ? "-" : "";
    const int count = static_cast<int>(digits.size());
    if (exponent < -4 || exponent >= 16) {
        const std::string fraction = count > 1 ? "." + digits.substr(1) : "";
        const std::string power = std::to_string(std::abs(exponent));
        return sign + digits.substr(0, 1) + fraction + (exponent < 0 ? "e-" : "e+") +
               (power.size() < 2 ? "0" : "") + power;
    }
    if (exponent < 0) {
        return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    }
    if (count <= exponent + 1) {
        return sign + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') +
               ".0";
    }
    const auto whole = static_cast<std::size_t>(exponent + 1);
    return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

struct Writer {
    std::string& out;

    void operator()(std::nullptr_t) const { out += "null"; }
    void operator()(bool value) const { out += value ? "true" : "false"; }
    void operator()(std::int64_t value) const { out += std::to_string(value); }
    void operator()(double value) const { out += written(value); }
    void operator()(const std::string& value) const { out += quoted(value); }
    void operator()(const Array& items) const {
        out += '[';
        for (const Value& item : items) {
            out += &item == items.data() ? "" : ",";
            std::visit(*this, item.data);
        }
        out += ']';
    }
    void operator()(const Object& members) const {
        std::vector<const Member*> sorted;
        for (const Member& member : members) {
            sorted.push_back(&member);
        }
        // The order of UTF-8 is that of code points, which is Python's.
        std::sort(sorted.begin(), sorted.end(),
                  [](const Member* a, const Member* b) { return a->key < b->key; });
        out += '{';
        for (const Member* member : sorted) {
            out += member == sorted.front() ? "" : ",";
            out += quoted(member->key) + ":";
            std::visit(*this, member->value.data);
        }
        out += '}';
    }
};

std::string shortened(const std::string& words) {
    return words.size() <= kShown
               ? words
               : words.substr(0, kShown) + "... (" + std::to_string(words.size()) + " characters)";
}

}  // namespace

Mismatch::Mismatch(const std::string& at, const std::string& found, const std::string& expected)
    : std::runtime_error((at.empty() ? "the document" : at) + " is " + found + ", expected " +
                         expected) {}

Value parse(std::string_view text) {
    Builder builder;
    Parser::sax_parse(text, &builder);
    return std::move(builder.root);
}

std::string canonical(const Value& value) {
    std::string out;
    std::visit(Writer{out}, value.data);
    return out;
}

std::string describe(const std::string& text) { return shortened(quoted(text)); }

std::string describe(const Value& value) {
    if (const auto* array = std::get_if<Array>(&value.data)) {
        return "an array of " + std::to_string(array->size());
    }
    if (const auto* object = std::get_if<Object>(&value.data)) {
        return "an object with " + std::to_string(object->size()) + " keys";
    }
    return shortened(canonical(value));
}

std::string member_path(const std::string& at, const std::string& key) {
    const auto is_letter = [](unsigned char c) {
        return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    const bool plain = !key.empty() && is_letter(static_cast<unsigned char>(key[0])) &&
                       std::all_of(key.begin(), key.end(), [&](unsigned char c) {
                           return is_letter(c) || (c >= '0' && c <= '9');
                       });
    if (!plain) {
        return at + "[" + describe(key) + "]";
    }
    return at.empty() ? key : at + "." + key;
}

}  // namespace d2export::runtime::json
