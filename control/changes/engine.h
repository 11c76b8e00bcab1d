#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/changes/candidates.h"
#include "control/changes/history.h"
#include "control/changes/merge.h"
#include "control/configuration/configuration.h"

namespace sallyport::changes {

/// Who asks, for the history.
struct Who {
    std::uint32_t uid = 0;
    std::string user, from;
};

/// Why something was not done; nothing has changed then. `code` is for programs: locked, no_session, has_changes, too_many, bad_path, bad_value,
/// bad_argument, no_revision, conflicts, file_changed, cannot_write, nothing_pending.
struct Refusal {
    std::string code;
    std::string text;
};

/// A commit that is taken back by itself at `deadline` unless it is confirmed.
struct Pending {
    std::uint64_t revision = 0;            ///< that waits
    std::uint64_t target = 0;              ///< that comes back
    std::chrono::system_clock::time_point deadline;
    std::set<std::string> digests;         ///< texts of the configuration file for which it holds
    std::string user;
};

/// The steps of a commit, in order, as `Outside::step` is told before each. What a process that ends there leaves, and what the next start makes of it:
///   check          old configuration; the candidate is as it was
///   change         the same
///   keep           the same: both processes had the new one and are gone or, the dataplane, get the old one when it attaches
///   write_pending  (confirmed alone) the same
///   stage          the same; pending.json may be there and is removed, as the file's digest is not in it
///   write_beside   the same; the staged revision is dropped
///   replace        the same
///   -- here the configuration file is replaced by a synced rename: the commit point --
///   finish         new configuration; the staged revision is finished by the file's digest, so the history is whole
///   settle         new configuration; a pending commit that it confirmed is forgotten by the file's digest; one of its own waits
///   done           new configuration; the candidate may say that its base is older, which the next commit mends without a conflict
enum class Step : std::uint8_t { check, change, keep, write_pending, stage, write_beside, replace, finish, settle, done };
constexpr std::size_t kSteps = 10;

/// Changes of the configuration: candidates, commits, their history, and the way back. The configuration file is what runs and what a start
/// finds; a commit replaces it by rename in its directory, which the user that control has changed to must be able to write.
///
/// State directory: revisions/ (History), candidates/ (Candidates), pending.json (a commit that waits for its confirmation, with its deadline by
/// the wall clock, so that it passes while control is away too).
///
/// What stands in files that the configuration takes in by @include is theirs: it is no part of revisions. One thread.
class Engine {
 public:
    using Clock = std::chrono::system_clock;
    using Keep = std::function<std::expected<void, std::string>()>;

    /// What it needs of the rest.
    struct Outside {
        /// Checks a text as if it stood in the configuration file. The problems begin with FILE:LINE.
        std::function<std::expected<configuration::Configuration, std::vector<std::string>>(const std::string& text)> load;
        /// Changes to a checked configuration, all or nothing; `keep` writes it down when both processes run it, and its failure takes all back.
        std::function<std::expected<void, std::vector<std::string>>(configuration::Configuration next, const Keep& keep)> change;
        /// What `change` would refuse of a configuration that is good, because only a start changes it.
        std::function<std::vector<std::string>(const configuration::Configuration& next)> fixed = [](const configuration::Configuration&) { return std::vector<std::string>(); };
        std::function<Clock::time_point()> now = [] { return Clock::now(); };
        std::function<void(Step)> step = [](Step) {};
        /// A commit waits for its confirmation (text says until when), or no longer (nullopt).
        std::function<void(const std::optional<std::string>& text)> unconfirmed = [](const std::optional<std::string>&) {};
        /// A commit that was not confirmed in time has been taken back: the revision that was made of it, and why.
        std::function<void(std::uint64_t revision, const std::string& why)> taken_back = [](std::uint64_t, const std::string&) {};
    };
    struct Settings {
        std::filesystem::path file;             ///< a symbolic link is followed: what it leads to is replaced
        std::filesystem::path state_directory;
    };

    /// Before the configuration is loaded at a start: when the time of an unconfirmed commit has passed, the configuration before it is put back,
    /// provided that `load` takes it. The revision that was made of it, 0: none. The error is for the log; the file is whole in any case.
    [[nodiscard]] static std::expected<std::uint64_t, std::string> recover(
        const Settings& settings, Clock::time_point now,
        const std::function<std::expected<configuration::Configuration, std::vector<std::string>>(const std::string& text)>& load);

    /// With the configuration file running. Finishes what a crash has left; a file that is not the last revision becomes one (how = boot for
    /// the first, file for one changed by hand). The error: the state directory or the file cannot be used.
    [[nodiscard]] static std::expected<std::unique_ptr<Engine>, std::string> open(Settings settings, Outside outside);

    /// What is due: an unconfirmed commit is rolled back. Once a turn.
    void turn();

    // --- candidates

    struct Opened {
        Candidate* candidate = nullptr;
        bool resumed = false;
    };
    /// locked: someone else's candidate is exclusive. `another`: a new one even where the user has one already.
    [[nodiscard]] std::expected<Opened, Refusal> open_candidate(const Who& who, bool exclusive, bool another);
    /// has_changes unless `discard`.
    [[nodiscard]] std::expected<void, Refusal> close(const std::string& session, const Who& who, bool discard);
    /// Ends all candidates of a user, for one who does not come back; how many.
    [[nodiscard]] std::size_t close_all(const std::string& user);
    /// The candidate, if it is theirs (root may use any).
    [[nodiscard]] std::expected<Candidate*, Refusal> candidate(const std::string& session, const Who& who);
    [[nodiscard]] std::vector<const Candidate*> others(const std::string& session);
    [[nodiscard]] std::expected<void, Refusal> set(Candidate& candidate, const std::vector<std::string>& words);
    [[nodiscard]] std::expected<void, Refusal> remove(Candidate& candidate, const std::vector<std::string>& words);
    enum class Load : std::uint8_t {
        override,   ///< the text is the candidate
        merge,      ///< its settings are set one by one
        set,        ///< lines of set and delete
    };
    /// The problems (FILE:LINE or LINE first) when the text cannot be taken; the candidate is untouched then.
    [[nodiscard]] std::expected<std::vector<std::string>, Refusal> load(Candidate& candidate, const std::string& text, Load how);
    /// A revision becomes the candidate, as it was.
    [[nodiscard]] std::expected<void, Refusal> rollback(Candidate& candidate, std::uint64_t revision);
    /// Rebases on the latest revision. In a conflict the candidate keeps its own, and it is told.
    [[nodiscard]] std::expected<std::vector<Conflict>, Refusal> update(Candidate& candidate);
    [[nodiscard]] std::vector<std::string> validate(const Candidate& candidate) const;
    [[nodiscard]] bool has_changes(const Candidate& candidate) const;

    // --- commits

    struct Commit {
        std::string comment{};
        std::chrono::seconds confirmed{0};   ///< 0: for good
        bool check = false;                  ///< only say what is wrong
        bool at_restart = false;             ///< store it for the next start of both processes: for what only that can change
    };
    struct Committed {
        std::uint64_t revision = 0;          ///< 0: none was made
        bool done = false;
        std::vector<std::string> problems;   ///< when it is not
        std::optional<Clock::time_point> confirm_until;
        std::string note;
    };
    /// Not done, with problems: what runs and the file are untouched. When the configuration has moved on since the candidate's base, the
    /// candidate is rebased first; refused as `conflicts` where both changed the same. Any commit confirms the one that waits; a confirmed one
    /// after an unconfirmed one keeps its target, so that what comes back has been confirmed.
    [[nodiscard]] std::expected<Committed, Refusal> commit(Candidate& candidate, const Who& who, const Commit& commit);
    [[nodiscard]] std::expected<void, Refusal> confirm(const Who& who);
    /// Takes in the file as it stands: certificates that it names may be new; one changed by hand becomes a revision, which confirms.
    [[nodiscard]] std::expected<void, std::vector<std::string>> reload(const Who& who);

    [[nodiscard]] const History& history() const noexcept { return history_; }
    [[nodiscard]] const std::optional<Pending>& pending() const noexcept { return pending_; }
    /// The latest revision: what the configuration file holds.
    [[nodiscard]] std::uint64_t head() const { return history_.latest()->number; }
    /// What runs: older than head() after a commit for the next start.
    [[nodiscard]] std::uint64_t running() const noexcept { return running_; }
    [[nodiscard]] const configuration::Document& running_document() const noexcept { return running_document_; }
    [[nodiscard]] const configuration::Document& head_document() const noexcept { return head_document_; }
    [[nodiscard]] const std::filesystem::path& file() const noexcept { return settings_.file; }
    [[nodiscard]] std::expected<configuration::Document, Refusal> document_of(std::uint64_t revision) const;

 private:
    Engine(Settings settings, Outside outside, History history, Candidates candidates);
    [[nodiscard]] std::expected<void, Refusal> save(Candidate& candidate, configuration::Document document);
    [[nodiscard]] std::expected<void, Refusal> check_lock(const Candidate& candidate) const;
    [[nodiscard]] std::expected<void, Refusal> check_file() const;
    [[nodiscard]] std::expected<void, std::string> keep(Revision& revision, const std::string& text, const std::optional<Pending>& wait);
    void kept(const Revision& revision, configuration::Document document, bool runs);
    void settle_pending();
    void tell_pending();
    void roll_back();
    void hand_back();
    [[nodiscard]] std::set<std::uint64_t> used();
    [[nodiscard]] std::filesystem::path pending_file() const { return settings_.state_directory / "pending.json"; }

    Settings settings_;
    Outside outside_;
    History history_;
    Candidates candidates_;
    std::optional<Pending> pending_;
    Clock::time_point next_rollback_{};
    std::uint64_t running_ = 0;
    configuration::Document running_document_, head_document_;
};

}  // namespace sallyport::changes
