// An object of a JSON file, read strictly: a field that is missing, of another type, or not known
// is an error that says where it is.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace d2export::tool {

class JsonObject {
 public:
    // `where` names it in messages: the file, and the path to it.
    JsonObject(const nlohmann::json& value, std::string where);

    std::string text(const std::string& name);
    std::int64_t whole(const std::string& name);
    bool truth(const std::string& name);
    std::vector<std::string> texts(const std::string& name);
    std::vector<std::int64_t> wholes(const std::string& name);
    JsonObject object(const std::string& name);
    std::vector<JsonObject> objects(const std::string& name);
    void ignore(const std::string& name);

    // Whether there is a value, and not null.
    bool has(const std::string& name);
    std::vector<std::string> names() const;
    const std::string& where() const { return where_; }

    // Throws a Failure if there is a field that nobody asked for.
    void close() const;

 private:
    const nlohmann::json& field(const std::string& name);
    template <typename Value>
    std::vector<Value> list(const std::string& name, const char* expected);

    const nlohmann::json& value_;
    std::string where_;
    std::set<std::string> asked_;
};

}  // namespace d2export::tool
