#include "json_object.h"

#include <utility>

#include "failure.h"

namespace d2export::tool {
namespace {

using nlohmann::json;

const char* const kHint = "Plan again with the d2export that this tool is of.";

bool fits(const json& value, const std::string*) { return value.is_string(); }
bool fits(const json& value, const std::int64_t*) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
}
bool fits(const json& value, const bool*) { return value.is_boolean(); }

template <typename Value>
Value converted(const json& value, const std::string& where, const char* expected) {
    const Value* type = nullptr;
    if (!fits(value, type)) {
        throw usage(where + " is " + value.dump() + ", expected " + expected, kHint);
    }
    return value.get<Value>();
}

}  // namespace

JsonObject::JsonObject(const json& value, std::string where)
    : value_(value), where_(std::move(where)) {
    if (!value_.is_object()) {
        throw usage(where_ + " is a JSON " + value_.type_name() + ", expected an object", kHint);
    }
}

const json& JsonObject::field(const std::string& name) {
    asked_.insert(name);
    const auto found = value_.find(name);
    if (found == value_.end()) throw usage(where_ + " has no '" + name + "'", kHint);
    return *found;
}

std::string JsonObject::text(const std::string& name) {
    return converted<std::string>(field(name), where_ + "." + name, "a text");
}

std::int64_t JsonObject::whole(const std::string& name) {
    return converted<std::int64_t>(field(name), where_ + "." + name, "a whole number");
}

bool JsonObject::truth(const std::string& name) {
    return converted<bool>(field(name), where_ + "." + name, "true or false");
}

template <typename Value>
std::vector<Value> JsonObject::list(const std::string& name, const char* expected) {
    const json& values = field(name);
    const std::string where = where_ + "." + name;
    if (!values.is_array()) {
        throw usage(where + " is " + values.dump() + ", expected a list", kHint);
    }
    std::vector<Value> found;
    for (const json& value : values) {
        const std::string index = "[" + std::to_string(found.size()) + "]";
        found.push_back(converted<Value>(value, where + index, expected));
    }
    return found;
}

std::vector<std::string> JsonObject::texts(const std::string& name) {
    return list<std::string>(name, "a text");
}

std::vector<std::int64_t> JsonObject::wholes(const std::string& name) {
    return list<std::int64_t>(name, "a whole number");
}

JsonObject JsonObject::object(const std::string& name) {
    return {field(name), where_ + "." + name};
}

std::vector<JsonObject> JsonObject::objects(const std::string& name) {
    const json& values = field(name);
    const std::string where = where_ + "." + name;
    if (!values.is_array()) {
        throw usage(where + " is " + values.dump() + ", expected a list", kHint);
    }
    std::vector<JsonObject> found;
    for (const json& value : values) {
        found.emplace_back(value, where + "[" + std::to_string(found.size()) + "]");
    }
    return found;
}

bool JsonObject::has(const std::string& name) {
    asked_.insert(name);
    return value_.contains(name) && !value_[name].is_null();
}

void JsonObject::ignore(const std::string& name) { field(name); }

std::vector<std::string> JsonObject::names() const {
    std::vector<std::string> found;
    for (const auto& item : value_.items()) found.push_back(item.key());
    return found;
}

void JsonObject::close() const {
    for (const std::string& name : names()) {
        if (asked_.count(name) == 0) {
            throw usage(where_ + " has '" + name + "', which this tool does not know",
                        "Compile the tool of the d2export that wrote the plan, or plan again.");
        }
    }
}

}  // namespace d2export::tool
