#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// The audit log as files: JSON lines, each with a number and the digest of the line before it, so that a line that was altered,
/// taken out, put in or moved does not fit. Lines that were cut off at the end fit; what shows them is a head, the number and digest
/// of the last line, kept elsewhere: in the log of the process, in signed reports, in a file beside.
namespace sallyport::audit {

constexpr std::size_t kMaxLine = 8192;  ///< octets with LF
/// What the first line of a chain has as the digest of the line before it.
inline const std::string kNoDigest(64, '0');
/// The file that is written to; the older ones are audit-000001.log and on.
constexpr std::string_view kCurrentFile = "audit.log";
constexpr std::string_view kHeadFile = "audit.head";

/// SHA-256 in hexadecimal.
[[nodiscard]] std::string digest(std::string_view line);

/// The end of a chain.
struct Head {
    std::uint64_t number = 0;  ///< of the last entry; 0: there is none
    std::string digest = kNoDigest;
    /// "17:" and the digest.
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] static std::optional<Head> parse(std::string_view text);
    [[nodiscard]] bool operator==(const Head&) const = default;
};

/// What the head file of a log says: the head when it was noted last. nullopt: there is no such file, or it is none.
[[nodiscard]] std::optional<Head> noted_head(const std::filesystem::path& directory);

/// What of a line makes the chain; nullopt: it is none of ours.
struct Link {
    std::uint64_t number = 0;
    std::string previous, event;
};
[[nodiscard]] std::optional<Link> read_link(std::string_view line);

/// The log's files, oldest first; the current one last, if it is there.
[[nodiscard]] std::vector<std::filesystem::path> files_of(const std::filesystem::path& directory);

struct Verification {
    std::uint64_t entries = 0, files = 0;
    std::uint64_t first = 0;          ///< number of the oldest entry that is still kept; 0: there is none
    Head head;                        ///< of the entries that fit
    bool ok = true;
    std::uint64_t broken = 0;         ///< number of the first entry that does not fit, or that should be there
    std::string broken_file, why;
};

/// Reads the whole log. `known`: heads that it must hold, such as that of a signed report. A chain that was begun anew because the one
/// before it was broken is not ok: what is wrong stays visible. Oldest files that were removed to make room are, when an entry says so.
/// The error is the file system's. Any thread; the log may be written meanwhile, a line without its end is not looked at then.
[[nodiscard]] std::expected<Verification, std::string> verify(const std::filesystem::path& directory, const std::vector<Head>& known = {});

/// The last `limit` entries that are whole lines, oldest first, at most `octets` of them, without a look at the chain.
[[nodiscard]] std::vector<std::string> last_lines(const std::filesystem::path& directory, std::size_t limit, std::size_t octets);

}  // namespace sallyport::audit
