#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/management/view_json.h"

/// What the `configuration ...` commands answer, as values. As in views.h: members are added, never renamed; `time` strings are ISO 8601 with
/// zone, empty for never.
namespace sallyport::management {

/// A candidate of someone else.
struct CandidateView {
    std::string user, from;
    std::string kind;    ///< private or exclusive
    std::string since;   ///< time
};
SALLYPORT_VIEW_JSON(CandidateView, user, from, kind, since)

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
SALLYPORT_VIEW_JSON(OpenedView, session, kind, base, head, resumed, changed, others, confirm_until)

/// `configuration show`, `configuration compare`
struct TextView {
    std::string text;
};
SALLYPORT_VIEW_JSON(TextView, text)

/// `configuration validate`, `configuration load`
struct ProblemsView {
    std::vector<std::string> problems;   ///< FILE:LINE first; none: it is good
};
SALLYPORT_VIEW_JSON(ProblemsView, problems)

/// `configuration commit`
struct CommitView {
    std::uint64_t revision = 0;          ///< that was made, or is confirmed; 0: none
    bool done = false;
    std::vector<std::string> problems;   ///< why not, FILE:LINE first; nothing has changed then
    std::string confirm_until;           ///< time: taken back then unless it is confirmed
    std::string note;
};
SALLYPORT_VIEW_JSON(CommitView, revision, done, problems, confirm_until, note)

struct ConflictView {
    std::string path;
    std::string base, running, candidate;   ///< values; "(none)" where it is not written
};
SALLYPORT_VIEW_JSON(ConflictView, path, base, running, candidate)

/// `configuration update`
struct UpdateView {
    std::uint64_t base = 0;                ///< that the candidate has now
    std::vector<ConflictView> conflicts;   ///< the candidate has kept its own there
};
SALLYPORT_VIEW_JSON(UpdateView, base, conflicts)

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
SALLYPORT_VIEW_JSON(RevisionView, number, time, user, from, comment, digest, confirmed, how, running, confirm_until)

/// `configuration complete`: array
struct CompletionView {
    std::string word, help;
    std::string kind;   ///< setting, group, list, element, value; new or placeholder: the word stands for one of the user's
};
SALLYPORT_VIEW_JSON(CompletionView, word, help, kind)

}  // namespace sallyport::management
