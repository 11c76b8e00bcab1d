#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// What the `configuration ...` commands answer, as values. As in views.h: members are added, never renamed; `time` strings are ISO 8601 with
/// zone, empty for never.
namespace sallyport::management {

/// A candidate of someone else.
struct CandidateView {
    std::string user, from;
    std::string kind;    ///< private or exclusive
    std::string since;   ///< time
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(CandidateView, user, from, kind, since)

/// `configuration open`
struct OpenedView {
    std::string session;      ///< names the candidate in the other commands
    std::string kind;         ///< private or exclusive
    std::uint64_t base = 0;   ///< revision that it began at
    std::uint64_t head = 0;   ///< latest revision: another than base when others have committed since
    bool resumed = false;     ///< it was there already
    bool changed = false;     ///< it has changes that are not committed
    std::vector<CandidateView> others;
    std::string confirm_until;   ///< time: a commit waits until then to be confirmed
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(OpenedView, session, kind, base, head, resumed, changed, others, confirm_until)

/// `configuration show`, `configuration compare`
struct TextView {
    std::string text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TextView, text)

/// `configuration validate`, `configuration load`
struct ProblemsView {
    std::vector<std::string> problems;   ///< FILE:LINE first; none: it is good
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ProblemsView, problems)

/// `configuration commit`
struct CommitView {
    std::uint64_t revision = 0;          ///< that was made, or is confirmed; 0: none
    bool done = false;
    std::vector<std::string> problems;   ///< why not, FILE:LINE first; nothing has changed then
    std::string confirm_until;           ///< time: taken back then unless it is confirmed
    std::string note;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(CommitView, revision, done, problems, confirm_until, note)

struct ConflictView {
    std::string path;
    std::string base, running, candidate;   ///< values; "(none)" where it is not written
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ConflictView, path, base, running, candidate)

/// `configuration update`
struct UpdateView {
    std::uint64_t base = 0;                ///< that the candidate has now
    std::vector<ConflictView> conflicts;   ///< the candidate has kept its own there
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(UpdateView, base, conflicts)

/// `configuration history`: array, newest first
struct RevisionView {
    std::uint64_t number = 0;
    std::string time, user, from, comment;
    std::string digest;       ///< SHA-256
    bool confirmed = true;    ///< false: it waits, or was taken back because nobody confirmed it
    std::string how;          ///< commit, rollback, confirmed-rollback, file, boot
    bool running = false;     ///< it runs now
    std::string confirm_until;   ///< time: it waits until then
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(RevisionView, number, time, user, from, comment, digest, confirmed, how, running, confirm_until)

/// `configuration complete`: array
struct CompletionView {
    std::string word, help;
    std::string kind;   ///< setting, group, list, element, value; new or placeholder: the word stands for one of the user's
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(CompletionView, word, help, kind)

}  // namespace sallyport::management
