#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/configuration/schema.h"

/// libconfig text into a tree of values that has the shape of the schema.
namespace sallyport::configuration {

/// A setting as read, or its default. One thread.
struct Value {
    const Setting* setting = nullptr;  ///< of an item of an array: that of the array
    Place place;                       ///< of a default: of the group that lacks it
    std::string path;                  ///< such as services.[0].listen.[1]
    std::string written;               ///< as it was written, for messages; empty for a default
    bool present = false;              ///< written in the file
    bool good = true;                  ///< no problem was found with it so far; else it must not be used
    bool absent = false;               ///< optional, without a default, and not written

    bool boolean = false;
    std::int64_t integer = 0;
    std::string text;
    std::vector<Value> items;    ///< of an array or list, also the bad ones
    std::vector<Value> members;  ///< of a group, one for each member of the schema, in its order

    /// Member of a group. The name must be of the schema.
    [[nodiscard]] const Value& operator[](std::string_view name) const;
    [[nodiscard]] Value& operator[](std::string_view name);
};

/// Gathers problems.
class Problems {
 public:
    /// About a value: places it and shows it. The value must not be used afterwards.
    void add(Value& value, std::string wrong, std::string right, std::string requirement = "");
    void add(Problem problem) { problems_.push_back(std::move(problem)); }
    /// What the reader has said already is not said again.
    void add_once(Problem problem);
    /// Takes out what a waiver suspends: its requirement and its object are the waiver's.
    [[nodiscard]] std::vector<Waived> waive(const std::vector<Waiver>& waivers);
    [[nodiscard]] bool empty() const { return problems_.empty(); }
    /// By file (`first` before those that it includes) and line.
    [[nodiscard]] std::vector<Problem> sorted(const std::string& first) &&;

 private:
    std::vector<Problem> problems_;
};

/// Reads the file and what it includes, and checks names, types and ranges by the schema. nullopt when the text has not
/// even the syntax of libconfig. Regular files only; never waits. `text`: what is to be read as if it stood in the file.
[[nodiscard]] std::optional<Value> read(const std::filesystem::path& file, Problems& problems, const std::optional<std::string>& text = {});

/// The one of `names` that `name` was probably meant to be; empty when none is near.
[[nodiscard]] std::string_view nearest(std::string_view name, const std::vector<std::string_view>& names);

/// "one of a, b or c".
[[nodiscard]] std::string one_of(const std::vector<std::string_view>& names);

/// In quotes, with control characters escaped, cut when very long: fit for a message.
[[nodiscard]] std::string in_quotes(std::string_view text);

}  // namespace sallyport::configuration
