#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "control/audit/chain.h"
#include "control/channel/shared_memory.h"
#include "control/management/command_table.h"

namespace sallyport::audit {

/// One thing that somebody did, or was refused.
struct Entry {
    std::string event;  ///< "command", "begun", "refused", "configuration", "control_started", "control_stopped", ...
    std::uint32_t uid = 0;
    std::string user{}, role{};
    std::int32_t pid = 0;
    std::string from{};     ///< as the client said
    std::string command{};  ///< its words
    nlohmann::json arguments = nlohmann::json::object();
    std::string outcome{};  ///< "ok", or the code of the error
};

/// Arguments of a command as they may be kept: what would be a secret, or lets somebody act as another, is left out, and long texts are
/// told by their length and digest.
[[nodiscard]] nlohmann::json kept_arguments(const nlohmann::json& arguments);

/// Writes the audit log (chain.h): DIRECTORY/audit.log, mode 0600, turned into a numbered file when it is full. Appends only: a line
/// leaves with the oldest file, when there are too many, and an entry says so. One thread; blocks on the file system.
class AuditLog {
 public:
    struct Settings {
        std::filesystem::path directory;
        std::uint64_t file_octets = 16 << 20;
        std::size_t kept_files = 64;  ///< numbered ones: a gigabyte in all
        /// The log was found broken: at the start, or altered while it is written. For a person.
        std::function<void(const std::string& why)> on_broken{};
        /// Each line that was written, for a copy elsewhere: who alters this log does not reach that one. Must not wait.
        std::function<void(const std::string& line)> on_written{};
        std::function<std::chrono::system_clock::time_point()> now = [] { return std::chrono::system_clock::now(); };
    };

    /// Opens the log and looks at its end: the current file as a whole, how it follows the one before, and whether it reaches as far as
    /// the head file says. When that is broken, a new chain begins, whose first entry says why; the old file keeps its lines. The end of a
    /// line that a crash left is cut off and an entry says so. The error is for a person.
    [[nodiscard]] static std::expected<std::unique_ptr<AuditLog>, std::string> open(Settings settings);
    /// Notes the head.
    ~AuditLog();
    AuditLog(const AuditLog&) = delete;
    AuditLog& operator=(const AuditLog&) = delete;

    /// `durable`: it is on the disk when this returns. The error is for a person, and then nothing was written; the next entry that can be
    /// says how many are missing.
    std::expected<void, std::string> append(const Entry& entry, bool durable);
    /// Whether there is room for what a command will append: a change that could not be audited must not be made.
    [[nodiscard]] std::expected<void, std::string> reserve();

    [[nodiscard]] const Head& head() const noexcept { return head_; }
    [[nodiscard]] const std::filesystem::path& directory() const noexcept { return settings_.directory; }
    /// Entries that could not be written, since the start.
    [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }
    [[nodiscard]] std::uint64_t written() const noexcept { return written_; }

    /// What a table of commands tells of them (CommandTable::audit_by). Before an administrator's command that changes something an entry "begun" goes to the
    /// disk, so that also a change in whose middle control dies has its line; when that fails the command is refused. Refusals of one user
    /// are written once a second at most beyond the first twenty; the next one says how many were not. What a process only looks at again and
    /// again (a screen that is refreshed) has an entry for the first time, and one "repeated" for the rest with how often: when the process asks
    /// something else, is silent for a minute, or after an hour.
    [[nodiscard]] management::CommandTable::Audit hooks();

    /// "control_started", "configuration" and what else control does by itself, as the user that it runs as.
    void note(std::string event, nlohmann::json arguments, std::string outcome = "ok");

 private:
    explicit AuditLog(Settings settings) : settings_(std::move(settings)) {}
    std::expected<void, std::string> begin();
    /// Empty: the end of what is there fits.
    std::string look_at_the_end();
    std::expected<void, std::string> open_current(bool make);
    std::expected<void, std::string> rotate();
    void remove_oldest();
    std::expected<void, std::string> write(Entry entry, bool durable);
    void new_chain(const std::string& why);
    void append_own(std::string event, nlohmann::json arguments, std::string outcome);
    void keep_head();
    void after(const management::Request& request, const management::Peer& peer, const management::Access& access, std::string_view outcome);

    struct Refusals {
        std::uint32_t tokens = 20;
        std::uint64_t left_out = 0;
        std::chrono::system_clock::time_point last{};
    };

    /// What a process looked at last, and how often again since its last entry.
    struct Looking {
        std::string what;   ///< command and arguments
        Entry entry;
        std::uint64_t again = 0;
        std::chrono::system_clock::time_point written{}, last{};
    };
    /// Whether this is a repetition, which leaves no entry of its own.
    [[nodiscard]] bool repeats(const Entry& entry);
    void tell_repetitions(Looking looking);
    /// Of processes that are silent; `all`: of everyone.
    void settle_looking(bool all);

    Settings settings_;
    std::map<std::int32_t, Looking> looking_;   ///< by process
    channel::Descriptor file_;
    std::uint64_t size_ = 0;
    Head head_;
    std::uint64_t written_ = 0, lost_ = 0, lost_untold_ = 0;
    std::map<std::uint32_t, Refusals> refusals_;
};

}  // namespace sallyport::audit
