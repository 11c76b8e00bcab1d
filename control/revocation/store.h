#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace sallyport::revocation {

/// A file whole, at most `most` octets. Blocks on the file system.
[[nodiscard]] std::expected<std::vector<std::byte>, std::string> read_file(const std::filesystem::path& file,
                                                                           std::size_t most);

/// What has been fetched, kept over restarts: DIRECTORY/revocation/NAME. Not trusted: whoever loads verifies again. One thread.
class Store {
 public:
    explicit Store(const std::filesystem::path& state_directory, std::size_t most);
    /// nullopt: there is none, or it cannot be read.
    [[nodiscard]] std::optional<std::vector<std::byte>> load(const std::string& name) const;
    /// Replaces the file at once (written beside, synced, renamed), mode 0600. The error says what went wrong; empty: nothing.
    [[nodiscard]] std::string save(const std::string& name, std::span<const std::byte> octets) const;
    /// Removes all other files: of certificates and sources that the configuration no longer has, and halves of a crash.
    void keep_only(const std::set<std::string>& names) const;

 private:
    std::filesystem::path directory_;
    std::size_t most_;
};

}  // namespace sallyport::revocation
