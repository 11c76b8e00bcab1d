#include "control/changes/engine.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "control/changes/durable_file.h"
#include "control/daemon/logging.h"
#include "control/management/views.h"
#include "crypto/format.h"

namespace sallyport::changes {

namespace {

using configuration::Document;
using nlohmann::json;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::size_t kMaxText = 16u << 20;   ///< octets of a candidate
constexpr auto kRollbackAgain = 60s;          ///< after a rollback that was refused

std::unexpected<Refusal> refuse(std::string code, std::string text) { return std::unexpected(Refusal{std::move(code), std::move(text)}); }

std::expected<void, std::string> write_pending(const fs::path& file, const Pending& pending) {
    const json object = {{"revision", pending.revision},
                         {"target", pending.target},
                         {"deadline", std::chrono::duration_cast<std::chrono::seconds>(pending.deadline.time_since_epoch()).count()},
                         {"digests", pending.digests},
                         {"user", pending.user}};
    return write_durably(file, object.dump(2, ' ', false, json::error_handler_t::replace) + "\n", 0600);
}

std::optional<Pending> read_pending(const fs::path& file) {
    const auto text = read_text(file);
    if (!text) return std::nullopt;
    try {
        const json object = json::parse(*text);
        Pending pending;
        pending.revision = object.at("revision").get<std::uint64_t>();
        pending.target = object.at("target").get<std::uint64_t>();
        pending.deadline = std::chrono::system_clock::time_point(std::chrono::seconds(object.at("deadline").get<std::int64_t>()));
        pending.digests = object.at("digests").get<std::set<std::string>>();
        pending.user = object.at("user").get<std::string>();
        return pending;
    } catch (const json::exception&) {
        return std::nullopt;
    }
}

/// Where a symbolic link leads to, so that a rename replaces the file and not the link.
fs::path real_file(const fs::path& file) {
    std::error_code error;
    const fs::path real = fs::canonical(file, error);
    return error ? fs::absolute(file) : real;
}

fs::path beside(const fs::path& file) { return file.parent_path() / ("." + file.filename().string() + ".new"); }

using Steps = std::function<void(Step)>;

/// Writes a text to the configuration file with its revision. An error: nothing has changed.
std::expected<void, std::string> put_down(History& history, const fs::path& file, Revision& revision, const std::string& text, const Steps& step) {
    step(Step::stage);
    if (auto staged = history.stage(revision, text); !staged) return staged;
    const auto undo = [&](std::string why) -> std::expected<void, std::string> {
        history.drop(revision);
        std::error_code ignored;
        fs::remove(beside(file), ignored);
        return std::unexpected(std::move(why));
    };
    const auto before = read_text(file);
    step(Step::write_beside);
    if (auto written = write_beside(beside(file), text, 0640, file); !written) return undo(std::move(written.error()));
    step(Step::replace);
    if (auto replaced = rename_durably(beside(file), file); !replaced) {
        const auto now = read_text(file);
        if (!now || *now != text) return undo(std::move(replaced.error()));
        daemon::log(daemon::Level::error, "configuration_not_synced", {{"why", replaced.error()}});   // it is there; a power cut now may bring the old one back
    }
    step(Step::finish);
    auto finished = history.finish(revision);
    if (finished) return {};
    // Without its revision the file would be one that nobody has committed.
    if (before && write_beside(beside(file), *before, 0640, file)) (void)rename_durably(beside(file), file);
    return undo(std::move(finished.error()));
}

/// A revision of what stands in the file already.
std::expected<void, std::string> record(History& history, Revision& revision, const std::string& text) {
    if (auto staged = history.stage(revision, text); !staged) return staged;
    auto finished = history.finish(revision);
    if (!finished) history.drop(revision);
    return finished;
}

Revision revision_by(const Who& who, std::chrono::system_clock::time_point now, How how, std::string comment = {}) {
    Revision revision;
    revision.time = std::chrono::floor<std::chrono::seconds>(now);
    revision.uid = who.uid;
    revision.user = who.user;
    revision.from = who.from;
    revision.comment = std::move(comment);
    revision.how = how;
    return revision;
}

std::string not_confirmed(const Pending& pending) { return sallyport::format("revision {} was not confirmed in time", pending.revision); }

const Who kItself{0, "sallyport", ""};

}  // namespace

std::expected<std::uint64_t, std::string> Engine::recover(
    const Settings& settings, Clock::time_point now,
    const std::function<std::expected<configuration::Configuration, std::vector<std::string>>(const std::string& text)>& load) {
    const fs::path revisions = settings.state_directory / "revisions", pending_file = settings.state_directory / "pending.json";
    const auto pending = read_pending(pending_file);
    if (!pending || now < pending->deadline || !fs::is_directory(revisions)) return 0;
    const fs::path file = real_file(settings.file);
    const auto text = read_text(file);
    if (!text) return std::unexpected(text.error());
    if (!pending->digests.contains(digest_of(*text))) return 0;   // the commit did not come to pass, or the file was changed since; open() forgets it
    auto history = History::open(revisions);
    if (!history) return std::unexpected(history.error());
    if (auto recovered = history->recover(digest_of(*text)); !recovered) return std::unexpected(recovered.error());
    const auto target = history->text(pending->target);
    if (!target) return std::unexpected(target.error());
    if (const auto loaded = load(*target); !loaded) return std::unexpected(sallyport::format("revision {} is not put back: {}", pending->target, loaded.error().front()));
    Revision revision = revision_by(kItself, now, How::confirmed_rollback, not_confirmed(*pending));
    if (auto put = put_down(*history, file, revision, *target, [](Step) {}); !put) return std::unexpected(put.error());
    (void)remove_durably(pending_file);   // the file's digest is no longer in it
    return revision.number;
}

Engine::Engine(Settings settings, Outside outside, History history, Candidates candidates)
    : settings_(std::move(settings)), outside_(std::move(outside)), history_(std::move(history)), candidates_(std::move(candidates)) {}

std::expected<std::unique_ptr<Engine>, std::string> Engine::open(Settings settings, Outside outside) {
    settings.file = real_file(settings.file);
    auto history = History::open(settings.state_directory / "revisions");
    if (!history) return std::unexpected(history.error());
    auto candidates = Candidates::open(settings.state_directory / "candidates");
    if (!candidates) return std::unexpected(candidates.error());
    const auto text = read_text(settings.file);
    if (!text) return std::unexpected(text.error());
    const std::string digest = digest_of(*text);
    if (auto recovered = history->recover(digest); !recovered) return std::unexpected(recovered.error());
    std::unique_ptr<Engine> engine(new Engine(std::move(settings), std::move(outside), std::move(*history), std::move(*candidates)));
    const Revision* const last = engine->history_.latest();
    if (last == nullptr || last->digest != digest) {
        Revision revision = revision_by(kItself, engine->outside_.now(), last == nullptr ? How::boot : How::file,
                                        last == nullptr ? "" : "the file was changed while control was away");
        if (auto recorded = record(engine->history_, revision, *text); !recorded) return std::unexpected(recorded.error());
    }
    engine->hand_back();
    engine->running_ = engine->head();
    // One that libconfig takes and a document does not has an @include in the middle of something: it runs, and candidates are refused.
    if (auto document = Document::parse(*text)) engine->running_document_ = engine->head_document_ = std::move(*document);
    engine->pending_ = read_pending(engine->pending_file());
    if (engine->pending_ && !engine->pending_->digests.contains(digest)) {
        engine->pending_.reset();
        (void)remove_durably(engine->pending_file());
    }
    if (engine->pending_) {
        engine->pending_->revision = engine->head();   // a crash may have come before the one that it was written for
        engine->tell_pending();
    }
    return engine;
}

void Engine::turn() {
    if (!pending_) return;
    const Clock::time_point now = outside_.now();
    if (now >= pending_->deadline && now >= next_rollback_) roll_back();
}

/// Whoever made a commit that was taken back goes on from what they had: their candidate changes what runs now as that commit did.
void Engine::hand_back() {
    const Revision& last = *history_.latest();
    if (last.how != How::confirmed_rollback) return;
    for (auto& [session, candidate] : candidates_.all()) {
        const Revision* const base = history_.find(candidate.base);
        if (base == nullptr || base->number >= last.number || base->confirmed || base->user != candidate.user) continue;
        candidate.base = last.number;
        if (auto saved = candidates_.save(candidate); !saved) daemon::log(daemon::Level::error, "candidate_not_written", {{"why", saved.error()}});
    }
}

void Engine::tell_pending() {
    if (!pending_) return outside_.unconfirmed(std::nullopt);
    outside_.unconfirmed(sallyport::format("revision {} of {} waits to be confirmed until {}; else revision {} comes back", pending_->revision, pending_->user,
                                           management::iso8601(pending_->deadline), pending_->target));
}

// --- candidates

std::expected<Engine::Opened, Refusal> Engine::open_candidate(const Who& who, bool exclusive, bool another) {
    Candidate* own = nullptr;
    for (auto& [session, candidate] : candidates_.all()) {
        if (candidate.exclusive && candidate.uid != who.uid)
            return refuse("locked", sallyport::format("{} has the configuration for themselves since {}{}", candidate.user, management::iso8601(candidate.since),
                                                      candidate.from.empty() ? "" : " (" + candidate.from + ")"));
        if (candidate.uid == who.uid && (own == nullptr || own->since < candidate.since)) own = &candidate;
    }
    if (own != nullptr && !another) {
        if (exclusive && !own->exclusive) {
            own->exclusive = true;
            if (auto saved = candidates_.save(*own); !saved) return refuse("cannot_write", saved.error());
        }
        return Opened{own, true};
    }
    const auto head_text = history_.text(head());
    if (!head_text) return refuse("no_revision", head_text.error());
    if (*head_text != head_document_.text())
        return refuse("bad_argument", sallyport::format("{} has an @include in the middle of a setting: it cannot be edited here; an @include is to stand for whole settings or items",
                                                        settings_.file.string()));
    Candidate fresh;
    fresh.uid = who.uid;
    fresh.user = who.user;
    fresh.from = who.from;
    fresh.exclusive = exclusive;
    fresh.base = head();
    fresh.since = std::chrono::floor<std::chrono::seconds>(outside_.now());
    fresh.document = head_document_;
    auto added = candidates_.add(std::move(fresh));
    if (!added) return refuse("too_many", added.error());
    if (auto saved = candidates_.save(**added); !saved) {
        candidates_.remove(std::string((*added)->session));
        return refuse("cannot_write", saved.error());
    }
    return Opened{*added, false};
}

std::expected<Candidate*, Refusal> Engine::candidate(const std::string& session, const Who& who) {
    Candidate* const found = candidates_.find(session);
    if (found == nullptr || (found->uid != who.uid && who.uid != 0)) return refuse("no_session", "there is no such candidate of yours; it was closed, or it is someone else's");
    return found;
}

std::expected<void, Refusal> Engine::close(const std::string& session, const Who& who, bool discard) {
    const auto found = candidate(session, who);
    if (!found) return std::unexpected(found.error());
    if (!discard && has_changes(**found)) return refuse("has_changes", "the candidate has changes that are not committed; commit them, or discard them");
    candidates_.remove(session);
    return {};
}

std::size_t Engine::close_all(const std::string& user) {
    std::vector<std::string> sessions;
    for (const auto& [session, candidate] : candidates_.all())
        if (candidate.user == user) sessions.push_back(session);
    for (const std::string& session : sessions) candidates_.remove(session);
    return sessions.size();
}

std::vector<const Candidate*> Engine::others(const std::string& session) {
    std::vector<const Candidate*> found;
    for (const auto& [token, candidate] : candidates_.all())
        if (token != session) found.push_back(&candidate);
    return found;
}

bool Engine::has_changes(const Candidate& candidate) const {
    const auto base = history_.text(candidate.base);
    return !base || *base != candidate.document.text();
}

std::expected<void, Refusal> Engine::save(Candidate& candidate, Document document) {
    if (document.text().size() > kMaxText) return refuse("bad_value", sallyport::format("the candidate would be larger than {} MiB", kMaxText >> 20));
    Document before = std::exchange(candidate.document, std::move(document));
    if (auto saved = candidates_.save(candidate); !saved) {
        candidate.document = std::move(before);
        return refuse("cannot_write", saved.error());
    }
    return {};
}

std::expected<void, Refusal> Engine::set(Candidate& candidate, const std::vector<std::string>& words) {
    Document document = candidate.document;
    if (auto done = document.set(words); !done) return refuse(done.error().code, done.error().text);
    return save(candidate, std::move(document));
}

std::expected<void, Refusal> Engine::remove(Candidate& candidate, const std::vector<std::string>& words) {
    Document document = candidate.document;
    if (auto done = document.remove(words); !done) return refuse(done.error().code, done.error().text);
    return save(candidate, std::move(document));
}

std::expected<std::vector<std::string>, Refusal> Engine::load(Candidate& candidate, const std::string& text, Load how) {
    std::vector<std::string> problems;
    Document document = candidate.document;
    if (how == Load::set) {
        int number = 0;
        for (std::size_t at = 0; at < text.size(); ++number) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            auto words = configuration::split_words(std::string_view(text).substr(at, end - at));
            at = end + 1;
            if (words && (words->empty() || words->front().starts_with('#'))) continue;
            const auto wrong = [&](const std::string& why) { problems.push_back(sallyport::format("{}: {}", number + 1, why)); };
            if (!words) {
                wrong(words.error());
                continue;
            }
            const std::string verb = words->front();
            words->erase(words->begin());
            if (verb != "set" && verb != "delete") {
                wrong("begins with neither set nor delete");
                continue;
            }
            if (auto done = verb == "set" ? document.set(*words) : document.remove(*words); !done) wrong(done.error().text);
        }
    } else {
        auto parsed = Document::parse(text, settings_.file.string());
        if (!parsed) return std::vector{parsed.error().to_string()};
        if (how == Load::merge) {
            problems = parsed->strangers();
            for (const Document::Entry& entry : parsed->entries()) {
                std::vector<std::string> words = entry.path;
                words.insert(words.end(), entry.values.begin(), entry.values.end());
                if (auto done = document.set(words); !done) problems.push_back(done.error().text);
            }
        } else {
            document = std::move(*parsed);
        }
    }
    if (!problems.empty()) return problems;
    if (auto saved = save(candidate, std::move(document)); !saved) return std::unexpected(saved.error());
    return problems;
}

std::expected<Document, Refusal> Engine::document_of(std::uint64_t revision) const {
    auto text = history_.text(revision);
    if (!text) return refuse("no_revision", text.error());
    auto document = Document::parse(std::move(*text));
    if (!document) return refuse("no_revision", sallyport::format("revision {} cannot be edited: {}", revision, document.error().to_string()));
    return *document;
}

std::expected<void, Refusal> Engine::rollback(Candidate& candidate, std::uint64_t revision) {
    auto document = document_of(revision);
    if (!document) return std::unexpected(document.error());
    // All of it, and nothing of what others have committed since: that is what is rolled back.
    const auto before = std::pair(std::exchange(candidate.rolled_back, revision), std::exchange(candidate.base, head()));
    auto saved = save(candidate, std::move(*document));
    if (!saved) std::tie(candidate.rolled_back, candidate.base) = before;
    return saved;
}

std::expected<std::vector<Conflict>, Refusal> Engine::update(Candidate& candidate) {
    if (candidate.base == head()) return std::vector<Conflict>{};
    auto base = document_of(candidate.base);
    if (!base) return std::unexpected(base.error());
    Merged merged = merge(*base, head_document_, candidate.document);
    const auto before = std::exchange(candidate.base, head());
    if (auto saved = save(candidate, std::move(merged.document)); !saved) {
        candidate.base = before;
        return std::unexpected(saved.error());
    }
    return std::move(merged.conflicts);
}

std::vector<std::string> Engine::validate(const Candidate& candidate) const {
    auto loaded = outside_.load(candidate.document.text());
    return loaded ? std::vector<std::string>{} : std::move(loaded.error());
}

// --- commits

std::expected<void, Refusal> Engine::check_lock(const Candidate& candidate) const {
    for (const auto& [session, other] : candidates_.all())
        if (other.exclusive && session != candidate.session && !candidate.exclusive)
            return refuse("locked", sallyport::format("{} has the configuration for themselves since {}; nobody else commits until they have closed it", other.user,
                                                      management::iso8601(other.since)));
    return {};
}

std::expected<void, Refusal> Engine::check_file() const {
    const auto text = read_text(settings_.file);
    if (!text) return refuse("file_changed", text.error());
    if (digest_of(*text) != history_.latest()->digest)
        return refuse("file_changed", sallyport::format("{} was changed by hand since revision {}; `reload` takes that in as a revision of its own, then commit again",
                                                        settings_.file.string(), head()));
    const fs::path directory = settings_.file.parent_path();
    if (access(directory.c_str(), W_OK | X_OK) == 0) return {};
    const std::string why = std::strerror(errno);
    return refuse("cannot_write",
                  sallyport::format("{}: {}: a commit replaces {} by a new file in this directory; let the user that control runs as write it (chown it to them; the files in it keep their "
                                    "owners; with systemd name it in ReadWritePaths=)",
                                    directory.string(), why, settings_.file.filename().string()));
}

std::expected<void, std::string> Engine::keep(Revision& revision, const std::string& text, const std::optional<Pending>& wait) {
    outside_.step(Step::keep);
    if (wait) {
        outside_.step(Step::write_pending);
        if (auto written = write_pending(pending_file(), *wait); !written) return written;
    }
    auto put = put_down(history_, settings_.file, revision, text, outside_.step);
    if (put || !wait) return put;
    // As it was before.
    if (pending_) (void)write_pending(pending_file(), *pending_);
    else (void)remove_durably(pending_file());
    return put;
}

std::set<std::uint64_t> Engine::used() {
    std::set<std::uint64_t> numbers{running_, head()};
    for (const auto& [session, candidate] : candidates_.all()) numbers.insert({candidate.base, candidate.rolled_back});
    if (pending_) numbers.insert({pending_->revision, pending_->target});
    return numbers;
}

void Engine::kept(const Revision& revision, Document document, bool runs) {
    head_document_ = std::move(document);
    if (runs) {
        running_ = revision.number;
        running_document_ = head_document_;
    }
    daemon::log(daemon::Level::info, "configuration_committed",
                {{"revision", revision.number}, {"how", name_of(revision.how)}, {"user", revision.user}, {"from", revision.from}, {"comment", revision.comment}, {"runs", runs}});
}

/// The commit that waited waits no longer.
void Engine::settle_pending() {
    pending_.reset();
    (void)remove_durably(pending_file());   // should it stay: the file's digest is not in it, or the revision is confirmed for good by then
    tell_pending();
}

std::expected<Engine::Committed, Refusal> Engine::commit(Candidate& candidate, const Who& who, const Commit& commit) {
    if (commit.at_restart && commit.confirmed > 0s)
        return refuse("bad_argument", "a commit for the next start cannot wait for a confirmation: nothing would run that could be judged");
    if (auto free = check_lock(candidate); !free) return std::unexpected(free.error());
    if (auto same = check_file(); !same) return std::unexpected(same.error());
    Committed result;
    Document document = candidate.document;
    if (candidate.base != head()) {
        auto base = document_of(candidate.base);
        if (!base) return std::unexpected(base.error());
        Merged merged = merge(*base, head_document_, candidate.document);
        if (!merged.conflicts.empty()) {
            const Conflict& first = merged.conflicts.front();
            const Revision& last = *history_.latest();
            return refuse("conflicts", sallyport::format("revision {} of {} has changed what you change: {} ({}) to {}, you to {}{}; `update` takes it in and keeps yours where both differ", last.number,
                                                         last.user, first.path, first.base, first.running, first.candidate,
                                                         merged.conflicts.size() > 1 ? sallyport::format(", and {} more", merged.conflicts.size() - 1) : ""));
        }
        result.note = sallyport::format("with what others have committed up to revision {}", head());
        document = std::move(merged.document);
    }
    const std::string text = document.text();
    outside_.step(Step::check);
    auto loaded = outside_.load(text);
    if (!loaded) {
        result.problems = std::move(loaded.error());
        return result;
    }
    if (commit.check) {
        if (!commit.at_restart) result.problems = outside_.fixed(*loaded);
        if (result.problems.empty()) result.note = "is good";
        return result;
    }
    if (text == head_document_.text()) {
        candidate.base = head();
        (void)save(candidate, std::move(document));
        result.revision = head();
        result.done = true;
        result.note = "there is nothing to change";
        if (pending_ && commit.confirmed == 0s) {
            if (auto confirmed = confirm(who); !confirmed) return std::unexpected(confirmed.error());
            result.note = sallyport::format("revision {} is confirmed", head());
        }
        return result;
    }
    const auto now = outside_.now();
    const Revision* const old = candidate.rolled_back != 0 ? history_.find(candidate.rolled_back) : nullptr;
    Revision revision = revision_by(who, now, old != nullptr && old->digest == digest_of(text) ? How::rollback : How::commit, commit.comment);
    revision.confirmed = commit.confirmed == 0s;
    std::optional<Pending> wait;
    if (!revision.confirmed) {
        wait = Pending{.revision = 0, .target = pending_ ? pending_->target : head(), .deadline = now + commit.confirmed, .digests = {digest_of(text)}, .user = who.user};
        // A crash before the commit point leaves the one that waits now: it is in it too.
        if (pending_) wait->digests.insert(pending_->digests.begin(), pending_->digests.end());
    }
    const auto write_down = [&] {
        if (wait) wait->revision = history_.latest()->number + 1;
        return keep(revision, text, wait);
    };
    outside_.step(Step::change);
    if (commit.at_restart) {
        if (auto written = write_down(); !written) return refuse("cannot_write", written.error());
        result.note = "stored; it runs when sallyport-control and sallyport-dataplane are started anew";
    } else if (auto changed = outside_.change(std::move(*loaded), write_down); !changed) {
        result.problems = std::move(changed.error());
        return result;
    }
    outside_.step(Step::settle);
    if (wait) {
        wait->revision = revision.number;
        pending_ = wait;
        result.confirm_until = wait->deadline;
        tell_pending();
    } else if (pending_) {
        if (auto confirmed = history_.confirm(pending_->revision); !confirmed) daemon::log(daemon::Level::error, "history_not_written", {{"why", confirmed.error()}});
        settle_pending();
    }
    kept(revision, document, !commit.at_restart);
    outside_.step(Step::done);
    candidate.base = revision.number;
    candidate.rolled_back = 0;
    if (auto saved = save(candidate, std::move(document)); !saved) daemon::log(daemon::Level::error, "candidate_not_written", {{"why", saved.error().text}});
    history_.prune(used());
    result.revision = revision.number;
    result.done = true;
    return result;
}

std::expected<void, Refusal> Engine::confirm(const Who& who) {
    if (!pending_) return refuse("nothing_pending", "no commit waits to be confirmed");
    const std::uint64_t revision = pending_->revision;
    if (auto confirmed = history_.confirm(revision); !confirmed) return refuse("cannot_write", confirmed.error());
    if (auto removed = remove_durably(pending_file()); !removed) return refuse("cannot_write", removed.error());
    settle_pending();
    daemon::log(daemon::Level::info, "configuration_confirmed", {{"revision", revision}, {"user", who.user}, {"from", who.from}});
    return {};
}

void Engine::roll_back() {
    const auto now = outside_.now();
    next_rollback_ = now + kRollbackAgain;
    const auto refused = [&](const std::string& why) {
        daemon::log(daemon::Level::error, "configuration_not_rolled_back", {{"revision", pending_->revision}, {"to", pending_->target}, {"why", why}});
    };
    auto document = document_of(pending_->target);
    if (!document) return refused(document.error().text);
    // What someone has written into the file meanwhile is not lost: it is in the history.
    const auto in_file = read_text(settings_.file);
    if (in_file && history_.latest()->digest != digest_of(*in_file)) {
        Revision found = revision_by(kItself, now, How::file, "stood in the file when it was rolled back; it did not run");
        found.confirmed = false;
        if (auto recorded = record(history_, found, *in_file); !recorded) return refused(recorded.error());
    }
    auto loaded = outside_.load(document->text());
    if (!loaded) return refused(loaded.error().front());
    Revision revision = revision_by(kItself, now, How::confirmed_rollback, not_confirmed(*pending_));
    const std::string text = document->text();
    if (auto changed = outside_.change(std::move(*loaded), [&] { return keep(revision, text, std::nullopt); }); !changed) return refused(changed.error().front());
    settle_pending();
    outside_.taken_back(revision.number, revision.comment);
    kept(revision, std::move(*document), true);
    hand_back();
    history_.prune(used());
}

std::expected<void, std::vector<std::string>> Engine::reload(const Who& who) {
    const auto refused = [&](std::vector<std::string> problems) {
        daemon::log(daemon::Level::error, "reload_refused", {{"configuration", settings_.file.string()}, {"problems", problems.size()}, {"first", problems.front()}});
        return std::unexpected(std::move(problems));
    };
    const auto text = read_text(settings_.file);
    if (!text) return refused({text.error()});
    auto loaded = outside_.load(*text);
    if (!loaded) return refused(std::move(loaded.error()));
    const bool edited = digest_of(*text) != history_.latest()->digest;
    Revision revision = revision_by(who, outside_.now(), How::file);
    const auto write_down = [&]() -> std::expected<void, std::string> { return edited ? record(history_, revision, *text) : std::expected<void, std::string>{}; };
    if (auto changed = outside_.change(std::move(*loaded), write_down); !changed) return refused(std::move(changed.error()));
    daemon::log(daemon::Level::info, "reloaded", {{"configuration", settings_.file.string()}});
    if (!edited) {
        running_ = head();
        running_document_ = head_document_;
        return {};
    }
    if (pending_) {
        (void)history_.confirm(pending_->revision);
        settle_pending();
    }
    auto document = Document::parse(*text);
    kept(revision, document ? std::move(*document) : Document(), true);
    history_.prune(used());
    return {};
}

}  // namespace sallyport::changes
