#pragma once

#include <termios.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/cli/command_tree.h"

/// The terminal in front of the person, if there is one.
namespace sallyport::cli {

struct Size {
    std::size_t rows = 24, columns = 80;
};

/// Of the terminal at stdout; 24 x 80 where it does not say.
[[nodiscard]] Size terminal_size();

/// Both ends are terminals: somebody types and reads.
[[nodiscard]] bool is_interactive();

/// stdout is a terminal that can do colours, and NO_COLOR (no-color.org) is not set.
[[nodiscard]] bool wants_colour();

/// While it lives, keys come one by one and unechoed from stdin; Ctrl-C is the key 3.
class Keys {
 public:
    Keys();
    Keys(const Keys&) = delete;
    Keys& operator=(const Keys&) = delete;
    ~Keys();

    /// The next octet; nullopt when none came in time, or a signal (of a new window size) did. -1: the terminal is gone.
    [[nodiscard]] std::optional<int> next(std::optional<std::chrono::milliseconds> timeout = {});

 private:
    termios before_{};
    bool changed_ = false;
};

namespace colour {
constexpr std::string_view kRed = "\x1b[31m", kGreen = "\x1b[32m", kYellow = "\x1b[33m", kBold = "\x1b[1m", kReverse = "\x1b[7m", kOff = "\x1b[0m";
}

/// The text with its meanings coloured: cells of tables that are good, bad or between; lines of a difference.
[[nodiscard]] std::string coloured(std::string_view text, Paint paint);

}  // namespace sallyport::cli
