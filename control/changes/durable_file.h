#pragma once

#include <sys/types.h>

#include <expected>
#include <filesystem>
#include <string>
#include <string_view>

/// Files that are whole after a crash at any moment: written beside their place, synced, renamed, and the directory synced. Errors are one
/// line for a person, with the path. Any thread, but one writer for a path.
namespace sallyport::changes {

/// The entries of a directory, which is made, mode 0700, where it is not there yet.
[[nodiscard]] std::expected<std::filesystem::directory_iterator, std::string> open_directory(const std::filesystem::path& directory);

/// Whole text of a regular file of at most 64 MiB.
[[nodiscard]] std::expected<std::string, std::string> read_text(const std::filesystem::path& file);

/// The first half: `beside` has the text, on the disk. `mode`, or mode and, as far as we may, owner of `like` where that file exists.
[[nodiscard]] std::expected<void, std::string> write_beside(const std::filesystem::path& beside, std::string_view text, mode_t mode,
                                                            const std::filesystem::path& like = {});
/// The second half: atomic. When it has returned, the new file is there after a crash too.
[[nodiscard]] std::expected<void, std::string> rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// Both.
[[nodiscard]] std::expected<void, std::string> write_durably(const std::filesystem::path& file, std::string_view text, mode_t mode);
/// Nothing there is success.
[[nodiscard]] std::expected<void, std::string> remove_durably(const std::filesystem::path& file);

/// SHA-256 in hexadecimal digits.
[[nodiscard]] std::string digest_of(std::string_view text);

}  // namespace sallyport::changes
