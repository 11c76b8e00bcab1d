#include "control/changes/commands.h"

#include <pwd.h>

#include <utility>

#include "control/changes/difference.h"
#include "control/management/views.h"
#include "control/management/views_changes.h"
#include "crypto/format.h"

namespace sallyport::changes {

using configuration::Document;
using management::Error;
using management::Peer;
using management::Request;
using management::Result;
using nlohmann::json;

namespace {

std::unexpected<Error> bad_argument(std::string text) { return std::unexpected(Error{"bad_argument", std::move(text)}); }
std::unexpected<Error> refused(const Refusal& refusal) { return std::unexpected(Error{refusal.code, refusal.text}); }

template <typename T>
std::expected<T, Error> argument(const Request& request, const char* name, T otherwise) {
    const auto found = request.arguments.find(name);
    if (found == request.arguments.end() || found->is_null()) return otherwise;
    try {
        return found->get<T>();
    } catch (const json::exception&) {
        constexpr bool kWords = std::is_same_v<T, std::vector<std::string>>;
        return bad_argument(sallyport::format("\"{}\" must be {}", name, kWords ? "an array of strings" : std::is_same_v<T, bool> ? "true or false"
                                                                                                                                  : "a string"));
    }
}

std::string time_text(const std::optional<Engine::Clock::time_point>& time) { return time ? management::iso8601(*time) : std::string(); }

/// Each handler in turn, with what all need at hand.
class Commands {
 public:
    explicit Commands(Engine& engine) : engine_(engine) {}

    Result open(const Request& request, const Peer& peer) {
        const auto kind = argument<std::string>(request, "kind", "private");
        if (!kind) return std::unexpected(kind.error());
        if (*kind != "private" && *kind != "exclusive") return bad_argument("\"kind\" must be private or exclusive");
        const auto another = argument(request, "new", false);
        if (!another) return std::unexpected(another.error());
        const auto opened = engine_.open_candidate(who_of(peer), *kind == "exclusive", *another);
        if (!opened) return refused(opened.error());
        const Candidate& candidate = *opened->candidate;
        management::OpenedView view;
        view.session = candidate.session;
        view.kind = candidate.exclusive ? "exclusive" : "private";
        view.base = candidate.base;
        view.head = engine_.head();
        view.resumed = opened->resumed;
        view.changed = engine_.has_changes(candidate);
        for (const Candidate* other : engine_.others(candidate.session))
            view.others.push_back({other->user, other->from, other->exclusive ? "exclusive" : "private", management::iso8601(other->since)});
        if (engine_.pending()) view.confirm_until = management::iso8601(engine_.pending()->deadline);
        return view;
    }

    Result close(const Request& request, const Peer& peer) {
        const auto discard = argument(request, "discard", false);
        const auto user = argument<std::string>(request, "user", "");
        if (!discard) return std::unexpected(discard.error());
        if (!user) return std::unexpected(user.error());
        if (!user->empty()) {
            if (!*discard) return bad_argument("another user's candidates are closed with \"discard\" only");
            if (engine_.close_all(*user) == 0) return bad_argument(sallyport::format("{} has no candidate", *user));
            return json::object();
        }
        const auto session = argument<std::string>(request, "session", "");
        if (!session) return std::unexpected(session.error());
        if (auto closed = engine_.close(*session, who_of(peer), *discard); !closed) return refused(closed.error());
        return json::object();
    }

    Result show(const Request& request, const Peer& peer) {
        const auto format = argument<std::string>(request, "format", "text");
        const auto path = argument<std::vector<std::string>>(request, "path", {});
        if (!format) return std::unexpected(format.error());
        if (!path) return std::unexpected(path.error());
        if (*format != "text" && *format != "set") return bad_argument("\"format\" must be text or set");
        const auto document = source(request, peer);
        if (!document) return std::unexpected(document.error());
        auto text = *format == "set" ? document->show_set(*path) : document->show(*path);
        if (!text) return std::unexpected(Error{text.error().code, text.error().text});
        return management::TextView{std::move(*text)};
    }

    Result edit(const Request& request, const Peer& peer, bool sets) {
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        const auto path = argument<std::vector<std::string>>(request, "path", {});
        if (!path) return std::unexpected(path.error());
        auto done = sets ? engine_.set(**candidate, *path) : engine_.remove(**candidate, *path);
        if (!done) return refused(done.error());
        return json::object();
    }

    Result load(const Request& request, const Peer& peer) {
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        const auto text = argument<std::string>(request, "text", "");
        const auto how = argument<std::string>(request, "how", "override");
        if (!text) return std::unexpected(text.error());
        if (!how) return std::unexpected(how.error());
        if (*how != "override" && *how != "merge" && *how != "set") return bad_argument("\"how\" must be override, merge or set");
        auto problems = engine_.load(**candidate, *text, *how == "override" ? Engine::Load::override : *how == "merge" ? Engine::Load::merge : Engine::Load::set);
        if (!problems) return refused(problems.error());
        return management::ProblemsView{std::move(*problems)};
    }

    Result compare(const Request& request, const Peer& peer) {
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        Document other = engine_.running_document();
        std::string name = sallyport::format("running (revision {})", engine_.running());
        const auto with = request.arguments.find("with");
        if (with != request.arguments.end() && *with != "running") {
            const auto number = request.number("with", 0, 1, UINT64_MAX);
            if (!number) return bad_argument("\"with\" must be \"running\" or the number of a revision");
            auto document = engine_.document_of(*number);
            if (!document) return refused(document.error());
            other = std::move(*document);
            name = sallyport::format("revision {}", *number);
        }
        return management::TextView{unified(other.text(), (*candidate)->document.text(), name, "candidate")};
    }

    Result validate(const Request& request, const Peer& peer) {
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        return management::ProblemsView{engine_.validate(**candidate)};
    }

    Result commit(const Request& request, const Peer& peer) {
        constexpr std::uint64_t kMostMinutes = 7 * 24 * 60;
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        const auto comment = argument<std::string>(request, "comment", "");
        const auto check = argument(request, "check", false), at_restart = argument(request, "at_restart", false);
        const auto minutes = request.number("confirmed_minutes", 0, 0, kMostMinutes);
        const auto seconds = request.number("confirmed_seconds", 0, 0, kMostMinutes * 60);
        if (!comment) return std::unexpected(comment.error());
        for (const auto* flag : {&check, &at_restart})
            if (!*flag) return std::unexpected(flag->error());
        for (const auto* number : {&minutes, &seconds})
            if (!*number) return std::unexpected(number->error());
        if (comment->size() > 1024) return bad_argument("\"comment\" is longer than 1024 octets");
        auto done = engine_.commit(**candidate, who_of(peer), {.comment = *comment, .confirmed = std::chrono::seconds(*minutes * 60 + *seconds), .check = *check, .at_restart = *at_restart});
        if (!done) return refused(done.error());
        return management::CommitView{done->revision, done->done, std::move(done->problems), time_text(done->confirm_until), std::move(done->note)};
    }

    Result confirm(const Peer& peer) {
        if (auto done = engine_.confirm(who_of(peer)); !done) return refused(done.error());
        return json::object();
    }

    Result rollback(const Request& request, const Peer& peer) {
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        const auto number = request.number("number", 0, 1, UINT64_MAX);
        if (!number) return std::unexpected(number.error());
        if (*number == 0) return bad_argument("\"number\" is missing: of a revision, as `configuration history` shows them");
        if (auto done = engine_.rollback(**candidate, *number); !done) return refused(done.error());
        return json::object();
    }

    Result update(const Request& request, const Peer& peer) {
        const auto candidate = candidate_of(request, peer);
        if (!candidate) return std::unexpected(candidate.error());
        const auto conflicts = engine_.update(**candidate);
        if (!conflicts) return refused(conflicts.error());
        management::UpdateView view{(*candidate)->base, {}};
        for (const Conflict& each : *conflicts) view.conflicts.push_back({each.path, each.base, each.running, each.candidate});
        return view;
    }

    Result history(const Request& request) {
        const auto limit = request.number("limit", 0, 0, UINT64_MAX);
        if (!limit) return std::unexpected(limit.error());
        std::vector<management::RevisionView> views;
        const auto& revisions = engine_.history().revisions();
        for (auto each = revisions.rbegin(); each != revisions.rend() && (*limit == 0 || views.size() < *limit); ++each) {
            const Revision& revision = each->second;
            const bool waits = engine_.pending() && engine_.pending()->revision == revision.number;
            views.push_back({revision.number, management::iso8601(revision.time), revision.user, revision.from, revision.comment, revision.digest, revision.confirmed,
                             name_of(revision.how), revision.number == engine_.running(), waits ? management::iso8601(engine_.pending()->deadline) : std::string()});
        }
        return views;
    }

    Result complete(const Request& request, const Peer& peer) {
        const auto path = argument<std::vector<std::string>>(request, "path", {});
        if (!path) return std::unexpected(path.error());
        const auto document = source(request, peer);
        if (!document) return std::unexpected(document.error());
        const auto found = document->complete(*path);
        if (!found) return std::unexpected(Error{found.error().code, found.error().text});
        std::vector<management::CompletionView> views;
        for (const auto& each : *found) views.push_back({each.word, each.help, each.kind});
        return views;
    }

 private:
    std::expected<Candidate*, Error> candidate_of(const Request& request, const Peer& peer) {
        const auto session = argument<std::string>(request, "session", "");
        if (!session) return std::unexpected(session.error());
        auto candidate = engine_.candidate(*session, who_of(peer));
        if (!candidate) return refused(candidate.error());
        return *candidate;
    }

    /// What `source`, `session` and `number` name: by default the candidate where there is a session, else what runs.
    std::expected<Document, Error> source(const Request& request, const Peer& peer) {
        const bool has_session = request.arguments.contains("session");
        const auto name = argument<std::string>(request, "source", has_session ? "candidate" : request.arguments.contains("number") ? "revision" : "running");
        if (!name) return std::unexpected(name.error());
        if (*name == "running") return engine_.running_document();
        if (*name == "candidate") {
            const auto candidate = candidate_of(request, peer);
            if (!candidate) return std::unexpected(candidate.error());
            return (*candidate)->document;
        }
        if (*name != "revision") return bad_argument("\"source\" must be running, candidate or revision");
        const auto number = request.number("number", 0, 1, UINT64_MAX);
        if (!number) return std::unexpected(number.error());
        auto document = engine_.document_of(*number);
        if (!document) return refused(document.error());
        return std::move(*document);
    }

    Engine& engine_;
};

}  // namespace

Who who_of(const Peer& peer) {
    const passwd* const entry = peer.user.empty() ? getpwuid(peer.uid) : nullptr;
    return {peer.uid, !peer.user.empty() ? peer.user : entry != nullptr ? std::string(entry->pw_name)
                                                                        : sallyport::format("uid {}", peer.uid),
            peer.from};
}

void add_change_commands(management::CommandTable& table, Engine& engine) {
    using management::Role;
    constexpr management::Access kReader{.least = Role::read_only}, kAdministrator{.least = Role::administrator};
    constexpr management::Access kCompletion{.least = Role::read_only, .audited = false};
    const auto commands = std::make_shared<Commands>(engine);
    using Argument = management::CommandTable::Argument;
    const Argument session{"session", "what `configuration open` has answered"};
    const Argument path{"path", "words, such as [\"services\", \"www\", \"idle_timeout_s\"]"};
    table.add("configuration open", "a candidate to edit: a new one, or one's own that is left",
              {{"kind", "private (default) or exclusive: nobody else edits or commits meanwhile"}, {"new", "true: a further one, even where one is left"}},
              [=](const Request& request, const Peer& peer) { return commands->open(request, peer); }, kAdministrator);
    table.add("configuration close", "end a candidate", {session, {"discard", "true: with its changes"}, {"user", "whose candidates to end, for someone who does not come back"}},
              [=](const Request& request, const Peer& peer) { return commands->close(request, peer); }, kAdministrator);
    table.add("configuration show", "the text of a configuration or a part of it",
              {{"source", "running (default), candidate or revision"}, session, {"number", "of a revision"}, path, {"format", "text (default) or set: as lines of `set`"}},
              [=](const Request& request, const Peer& peer) { return commands->show(request, peer); }, kReader);
    table.add("configuration set", "write a setting into the candidate", {session, {"path", "the setting's words, then its value"}},
              [=](const Request& request, const Peer& peer) { return commands->edit(request, peer, true); }, kAdministrator);
    table.add("configuration delete", "take a setting out of the candidate", {session, path},
              [=](const Request& request, const Peer& peer) { return commands->edit(request, peer, false); }, kAdministrator);
    table.add("configuration load", "take a text into the candidate",
              {session, {"text", "libconfig, or lines of set and delete"}, {"how", "override (default), merge: set each of its settings, or set: lines of set and delete"}},
              [=](const Request& request, const Peer& peer) { return commands->load(request, peer); }, kAdministrator);
    table.add("configuration compare", "what the candidate changes, as diff -u", {session, {"with", "running (default) or the number of a revision"}},
              [=](const Request& request, const Peer& peer) { return commands->compare(request, peer); }, kAdministrator);
    table.add("configuration validate", "what is wrong with the candidate", {session}, [=](const Request& request, const Peer& peer) { return commands->validate(request, peer); }, kAdministrator);
    table.add("configuration commit", "run the candidate: all or nothing",
              {session,
               {"comment", "why, for the history"},
               {"confirmed_minutes", "taken back after so many minutes unless it is confirmed; 0: not"},
               {"confirmed_seconds", "in seconds, added to the minutes"},
               {"check", "true: only say what is wrong"},
               {"at_restart", "true: store it for the next start of control and dataplane"}},
              [=](const Request& request, const Peer& peer) { return commands->commit(request, peer); }, kAdministrator);
    table.add("configuration confirm", "keep the commit that waits", {}, [=](const Request&, const Peer& peer) { return commands->confirm(peer); }, kAdministrator);
    table.add("configuration rollback", "load a revision into the candidate", {session, {"number", "of the revision"}},
              [=](const Request& request, const Peer& peer) { return commands->rollback(request, peer); }, kAdministrator);
    table.add("configuration update", "take what others have committed into the candidate", {session},
              [=](const Request& request, const Peer& peer) { return commands->update(request, peer); }, kAdministrator);
    table.add("configuration history", "the configurations that have run: who, when, why", {{"limit", "at most so many; 0: all"}},
              [=](const Request& request, const Peer&) { return commands->history(request); }, kReader);
    table.add("configuration complete", "what can come after some words of a path", {{"source", "running (default), candidate or revision"}, session, {"number", "of a revision"}, path},
              [=](const Request& request, const Peer& peer) { return commands->complete(request, peer); }, kCompletion);
}

}  // namespace sallyport::changes
