#pragma once

#include <format>
#include <string>
#include <string_view>

namespace sallyport {

/// What std::vformat() makes of them.
[[nodiscard]] std::string formatted(std::string_view format, std::format_args arguments);

/// std::format(), with what does it compiled once and not in each file that calls it: that would be half of such a file's time. Any thread.
template <typename... Arguments>
[[nodiscard]] std::string format(std::format_string<Arguments...> format, Arguments&&... arguments) {
    return formatted(format.get(), std::make_format_args(arguments...));
}

}  // namespace sallyport
