#pragma once

#include <cstddef>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// The person in front of the CLI: who, from where, and which files the CLI reads and writes for them.
namespace sallyport::cli {

struct Caller {
    std::string user;              ///< login name, or "uid N"
    std::string host;              ///< of the appliance, without domain
    std::string from;              ///< where they sit: "ssh 192.0.2.7 port 51234", "tty /dev/tty1", or empty
    std::filesystem::path home;    ///< empty: none
    /// The CLI is their login shell: there is no way out of it to a file outside of their home, nor to one whose name begins with a dot
    /// (sshd and others obey such files), nor through a symbolic link.
    bool restricted = false;
};

/// Of this process. `restricted` as given.
[[nodiscard]] Caller this_caller(bool restricted);

/// Longest file that load takes: what a request to control can carry, with room for JSON's escapes.
constexpr std::size_t kLongestFile = 900 * 1024;

/// The whole file; the error is one line for a person.
[[nodiscard]] std::expected<std::string, std::string> read_file(const Caller& caller, std::string_view path);

/// Writes the file, mode 0600 when it is new.
[[nodiscard]] std::expected<void, std::string> write_file(const Caller& caller, std::string_view path, std::string_view text);

/// Paths that `partial` can become, directories with a slash behind. At most 200.
[[nodiscard]] std::vector<std::string> files_like(const Caller& caller, std::string_view partial);

}  // namespace sallyport::cli
