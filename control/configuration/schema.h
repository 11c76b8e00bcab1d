#pragma once

#include <cstdint>
#include <span>
#include <string_view>

/// The one table of settings: what a configuration may say. Reading, checks, defaults and documentation are made from
/// it. Constant: any thread.
namespace sallyport::configuration {

enum class Kind : std::uint8_t {
    boolean,
    integer,
    text,
    integers,  ///< array of integers
    texts,     ///< array of strings
    group,     ///< { } of `members`
    groups,    ///< ( { }, { } ), each of `members`
};

struct Setting {
    std::string_view name;
    Kind kind;
    /// What holds when the setting is not written, in libconfig's syntax. Empty: the setting must be written, unless
    /// `optional`.
    const char* fallback = "";
    bool optional = false;  ///< without fallback: leaving it out means something of its own, see documentation
    std::int64_t least = 0, most = 0;  ///< of integers; for arrays, lists and strings see `least_items`, `most_items`
    std::uint32_t least_items = 0, most_items = 4096;  ///< items of an array or a list, octets of a string
    std::span<const std::string_view> choices{};       ///< of strings: the only ones; empty: any
    std::span<const Setting> members{};
    std::span<const std::string_view> keys{};  ///< of a list of groups: what names an element in paths; see key_of()
    const char* requirement = "";    ///< of the policy: violated when it is missing, empty or none of its choices
    const char* documentation = "";  ///< one line; units in it
};

/// The root group.
[[nodiscard]] const Setting& schema() noexcept;

}  // namespace sallyport::configuration
