#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace sallyport::changes {

/// How a configuration came to run.
enum class How : std::uint8_t { commit, rollback, confirmed_rollback, file, boot };
[[nodiscard]] const char* name_of(How how);

/// Who, from where, when, why and how; the text itself is beside it.
struct Revision {
    std::uint64_t number = 0;
    std::chrono::system_clock::time_point time;  ///< whole seconds
    std::string user, from, comment;
    std::uint32_t uid = 0;
    std::string digest;  ///< SHA-256 of the text
    How how = How::commit;
    bool confirmed = true;  ///< false: committed with a deadline, and not confirmed (yet, or ever)
};

/// The configurations that have run: DIRECTORY/NNNNNN.conf with NNNNNN.json, directory of mode 0700, files of mode 0600. A revision is there
/// when its .json is; it is staged (.conf and .json.new) before the configuration file is replaced, and finished afterwards, so that a crash
/// in between loses nothing: recover() finishes or drops it by what the file holds. Texts hold paths of keys, never keys. One thread.
class History {
 public:
    /// Kept at least; those that are in use are never removed.
    static constexpr std::size_t kKept = 200;

    /// Reads what is there. Makes the directory. Files that are no revisions, or broken ones, are left out.
    [[nodiscard]] static std::expected<History, std::string> open(const std::filesystem::path& directory);

    /// After a crash: a staged revision is finished when its digest is that of the configuration file, and dropped else.
    [[nodiscard]] std::expected<void, std::string> recover(const std::string& digest_of_file);

    /// Writes the next revision but for its name; `revision.number` and `digest` are filled in.
    [[nodiscard]] std::expected<void, std::string> stage(Revision& revision, const std::string& text);
    [[nodiscard]] std::expected<void, std::string> finish(const Revision& revision);
    void drop(const Revision& staged);
    [[nodiscard]] std::expected<void, std::string> confirm(std::uint64_t number);
    /// Removes the oldest above kKept but for those in `used`.
    void prune(const std::set<std::uint64_t>& used);

    /// By number, oldest first.
    [[nodiscard]] const std::map<std::uint64_t, Revision>& revisions() const noexcept { return revisions_; }
    [[nodiscard]] const Revision* find(std::uint64_t number) const;
    [[nodiscard]] const Revision* latest() const;
    /// The error is for a person: there is none, or its text is not what was written.
    [[nodiscard]] std::expected<std::string, std::string> text(std::uint64_t number) const;

 private:
    explicit History(std::filesystem::path directory) : directory_(std::move(directory)) {}
    [[nodiscard]] std::filesystem::path path(std::uint64_t number, const char* ending) const;

    std::filesystem::path directory_;
    std::map<std::uint64_t, Revision> revisions_;
    std::vector<Revision> staged_;   ///< found by open()
    std::uint64_t next_ = 1;
};

}  // namespace sallyport::changes
