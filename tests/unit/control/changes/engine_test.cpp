#include "control/changes/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "control/changes/durable_file.h"
#include "tests/certificates.h"

namespace sallyport::changes {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kFirst = "# The site.\nlog = { level = \"info\"; };\n";
const Who kAlice{1001, "alice", "ssh 192.0.2.7 port 51234"}, kBob{1002, "bob", ""}, kRoot{0, "root", ""};

/// An appliance of a file alone: what runs is a text.
class Site {
 public:
    Site() {
        directory_.write("site.conf", kFirst);
        start();
    }
    [[nodiscard]] fs::path file() const { return directory_.path() / "site.conf"; }
    [[nodiscard]] fs::path state() const { return directory_.path() / "state"; }
    [[nodiscard]] std::string file_text() const { return *read_text(file()); }

    /// As a start of control does it.
    void start() {
        engine.reset();
        if (const auto recovered = Engine::recover({file(), state()}, now, load()); !recovered) recover_error = recovered.error();
        running = file_text();
        Engine::Outside outside;
        outside.load = load();
        outside.change = [this](configuration::Configuration next, const Engine::Keep& keep) -> std::expected<void, std::vector<std::string>> {
            if (refuse_change) return std::unexpected(std::vector<std::string>{"site.conf:1: only a restart can change this"});
            if (auto kept = keep(); !kept) return std::unexpected(std::vector<std::string>{kept.error()});
            running = next.user;   // load() puts the text there
            return {};
        };
        outside.now = [this] { return now; };
        outside.step = [this](Step step) {
            if (at_step) at_step(step);
        };
        outside.fixed = [this](const configuration::Configuration&) { return fixed; };
        outside.unconfirmed = [this](const std::optional<std::string>& text) { unconfirmed = text; };
        outside.taken_back = [this](std::uint64_t revision, const std::string& why) { taken_back = std::to_string(revision) + ": " + why; };
        auto opened = Engine::open({file(), state()}, std::move(outside));
        ASSERT_TRUE(opened) << opened.error();
        engine = std::move(*opened);
    }

    static std::function<std::expected<configuration::Configuration, std::vector<std::string>>(const std::string&)> load() {
        return [](const std::string& text) -> std::expected<configuration::Configuration, std::vector<std::string>> {
            if (text.contains("bad")) return std::unexpected(std::vector<std::string>{"site.conf:2: log.level = \"bad\": is not known"});
            configuration::Configuration configuration;
            configuration.user = text;
            return configuration;
        };
    }

    Candidate& open(const Who& who, bool exclusive = false, bool another = false) {
        const auto opened = engine->open_candidate(who, exclusive, another);
        EXPECT_TRUE(opened) << (opened ? "" : opened.error().text);
        return *opened->candidate;
    }
    void set(Candidate& candidate, const std::string& line) {
        const auto done = engine->set(candidate, *configuration::split_words(line));
        EXPECT_TRUE(done) << line << ": " << (done ? "" : done.error().text);
    }
    Engine::Committed commit(Candidate& candidate, const Who& who, const Engine::Commit& commit = {}) {
        const auto done = engine->commit(candidate, who, commit);
        EXPECT_TRUE(done) << (done ? "" : done.error().text);
        return done ? *done : Engine::Committed{};
    }
    /// One setting, committed by someone.
    Engine::Committed change(const std::string& line, const Who& who = kAlice, const Engine::Commit& how = {}) {
        Candidate& candidate = open(who);
        set(candidate, line);
        return commit(candidate, who, how);
    }

    Engine::Clock::time_point now{std::chrono::sys_days(std::chrono::January / 5 / 2026)};
    std::unique_ptr<Engine> engine;
    std::string running, recover_error;
    std::optional<std::string> unconfirmed;
    std::string taken_back;
    std::vector<std::string> fixed;   ///< what only a start could change
    std::function<void(Step)> at_step;
    bool refuse_change = false;

 private:
    test::TemporaryDirectory directory_;
};

TEST(EngineOpen, FirstStart_MakesARevisionOfTheFile) {
    Site site;
    ASSERT_EQ(site.engine->head(), 1u);
    EXPECT_EQ(site.engine->history().latest()->how, How::boot);
    EXPECT_EQ(*site.engine->history().text(1), kFirst);
    site.start();
    EXPECT_EQ(site.engine->head(), 1u);   // nothing has changed
    std::ofstream(site.file()) << "# by hand\n";
    site.start();
    EXPECT_EQ(site.engine->head(), 2u);
    EXPECT_EQ(site.engine->history().latest()->how, How::file);
    struct stat status{};
    ASSERT_EQ(stat((site.state() / "revisions" / "000001.conf").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    ASSERT_EQ(stat((site.state() / "revisions").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST(EngineCommit, Good_RunsAndIsInTheFileAndTheHistory) {
    Site site;
    chmod(site.file().c_str(), 0640);
    const auto done = site.change("log level debug", kAlice, {.comment = "to see more"});
    EXPECT_TRUE(done.done);
    EXPECT_EQ(done.revision, 2u);
    const std::string text = "# The site.\nlog = { level = \"debug\"; };\n";
    EXPECT_EQ(site.running, text);
    EXPECT_EQ(site.file_text(), text);
    const Revision& revision = *site.engine->history().latest();
    EXPECT_EQ(revision.user, "alice");
    EXPECT_EQ(revision.from, "ssh 192.0.2.7 port 51234");
    EXPECT_EQ(revision.comment, "to see more");
    EXPECT_EQ(revision.digest, digest_of(text));
    EXPECT_EQ(revision.time, site.now);
    struct stat status{};
    ASSERT_EQ(stat(site.file().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640u);
    site.start();
    EXPECT_EQ(site.engine->head(), 2u);
    EXPECT_EQ(site.engine->history().latest()->comment, "to see more");
}

TEST(EngineCommit, Bad_ChangesNothing) {
    Site site;
    Candidate& candidate = site.open(kAlice);
    EXPECT_THAT(*site.engine->load(candidate, "log = { level = \"bad\"; };\n", Engine::Load::override), IsEmpty());
    EXPECT_EQ(site.engine->validate(candidate).size(), 1u);
    auto done = site.commit(candidate, kAlice);
    EXPECT_FALSE(done.done);
    EXPECT_THAT(done.problems, testing::ElementsAre(HasSubstr("site.conf:2:")));
    EXPECT_THAT(*site.engine->load(candidate, "log = { level = \"debug\"; };\n", Engine::Load::override), IsEmpty());
    EXPECT_EQ(site.commit(candidate, kAlice, {.check = true}).note, "is good");
    site.fixed = {"sallyport.conf:2: ports.[0].mtu = 1400: cannot change while the appliance runs"};
    EXPECT_EQ(site.commit(candidate, kAlice, {.check = true}).problems, site.fixed);
    EXPECT_EQ(site.commit(candidate, kAlice, {.check = true, .at_restart = true}).note, "is good");
    site.fixed.clear();
    site.refuse_change = true;
    done = site.commit(candidate, kAlice);
    EXPECT_THAT(done.problems, testing::ElementsAre(HasSubstr("only a restart")));
    EXPECT_EQ(site.file_text(), kFirst);
    EXPECT_EQ(site.engine->head(), 1u);
    // For the next start it is taken.
    done = site.commit(candidate, kAlice, {.at_restart = true});
    EXPECT_TRUE(done.done);
    EXPECT_EQ(site.engine->running(), 1u);
    EXPECT_EQ(site.engine->head(), 2u);
    EXPECT_EQ(site.running, kFirst);
    site.start();
    EXPECT_EQ(site.engine->running(), 2u);
    EXPECT_EQ(site.engine->commit(site.open(kAlice), kAlice, {.confirmed = 60s, .at_restart = true}).error().code, "bad_argument");
}

TEST(EngineCommit, FileChangedByHand_IsRefusedUntilReload) {
    Site site;
    Candidate& candidate = site.open(kAlice);
    site.set(candidate, "log level debug");
    std::ofstream(site.file()) << "# by hand\nlog = { level = \"info\"; };\n";
    EXPECT_EQ(site.engine->commit(candidate, kAlice, {}).error().code, "file_changed");
    ASSERT_TRUE(site.engine->reload(kBob));
    EXPECT_EQ(site.engine->history().latest()->how, How::file);
    EXPECT_EQ(site.engine->history().latest()->user, "bob");
    EXPECT_TRUE(site.commit(candidate, kAlice).done);
    EXPECT_EQ(site.file_text(), "# by hand\nlog = { level = \"debug\"; };\n");
    ASSERT_TRUE(site.engine->reload(kBob));   // unchanged: no revision
    EXPECT_EQ(site.engine->head(), 3u);
}

TEST(EngineCommit, DirectoryThatMayNotBeWritten_IsToldHowToMend) {
    if (geteuid() != 0) GTEST_SKIP() << "must change user";
    Site site;
    for (const fs::path& path : {site.file().parent_path(), site.state(), site.state() / "revisions", site.state() / "candidates"}) chmod(path.c_str(), 0777);
    chmod(site.file().parent_path().c_str(), 0755);
    chmod(site.file().c_str(), 0644);
    for (const auto& entry : fs::recursive_directory_iterator(site.state())) ASSERT_EQ(chown(entry.path().c_str(), 12345, 12345), 0);
    const pid_t child = fork();
    if (child == 0) {
        if (setresuid(12345, 12345, 12345) != 0) _exit(2);
        Candidate& candidate = site.open(kAlice);
        site.set(candidate, "log level debug");
        const auto done = site.engine->commit(candidate, kAlice, {});
        _exit(!done && done.error().code == "cannot_write" && done.error().text.contains("chown") ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST(EngineCandidates, OutliveARestartAndAreTheirOwners) {
    Site site;
    Candidate& candidate = site.open(kAlice);
    const std::string session = candidate.session;
    EXPECT_EQ(session.size(), 32u);
    site.set(candidate, "log level debug");
    site.start();
    EXPECT_EQ(site.engine->candidate(session, kBob).error().code, "no_session");
    EXPECT_TRUE(site.engine->candidate(session, kRoot));
    const auto again = site.engine->open_candidate(kAlice, false, false);
    EXPECT_TRUE(again->resumed);
    EXPECT_EQ(again->candidate->session, session);
    EXPECT_THAT(again->candidate->document.text(), HasSubstr("debug"));
    EXPECT_EQ(site.engine->close(session, kAlice, false).error().code, "has_changes");
    EXPECT_TRUE(site.engine->close(session, kAlice, true));
    site.start();
    EXPECT_FALSE(site.engine->candidate(session, kAlice));
}

TEST(EngineCandidates, Exclusive_KeepsOthersOut) {
    Site site;
    Candidate& bobs = site.open(kBob);
    site.set(bobs, "log level debug");
    Candidate& alices = site.open(kAlice, true);
    EXPECT_EQ(site.engine->open_candidate(kBob, false, true).error().code, "locked");
    EXPECT_EQ(site.engine->commit(bobs, kBob, {}).error().code, "locked");
    EXPECT_THAT(site.engine->commit(bobs, kBob, {}).error().text, HasSubstr("alice"));
    site.set(alices, "log level warning");
    EXPECT_TRUE(site.commit(alices, kAlice).done);
    EXPECT_EQ(site.engine->close_all("alice"), 1u);
    EXPECT_EQ(site.engine->commit(bobs, kBob, {}).error().code, "conflicts");
}

TEST(EngineCandidates, Loads_MergeAndSetLines) {
    Site site;
    Candidate& candidate = site.open(kAlice);
    EXPECT_THAT(*site.engine->load(candidate, "policy = { level = 3; };", Engine::Load::merge), IsEmpty());
    EXPECT_EQ(candidate.document.text(), kFirst + "policy = { level = 3; };\n");
    EXPECT_THAT(*site.engine->load(candidate, "# c\nset log level debug\n\ndelete policy\n", Engine::Load::set), IsEmpty());
    EXPECT_EQ(candidate.document.text(), "# The site.\nlog = { level = \"debug\"; };\n");
    const std::string before = candidate.document.text();
    EXPECT_THAT(*site.engine->load(candidate, "set policy level 1\nset policy levle 2\nfoo\n", Engine::Load::set),
                testing::ElementsAre(HasSubstr("2: policy levle: there is no such setting; probably level"), "3: begins with neither set nor delete"));
    EXPECT_THAT(*site.engine->load(candidate, "policy = { levle = 1; };", Engine::Load::merge), testing::ElementsAre(HasSubstr("1: policy.levle: there is no such setting")));
    EXPECT_THAT(*site.engine->load(candidate, "policy = {", Engine::Load::override), testing::ElementsAre(HasSubstr("syntax error")));
    EXPECT_EQ(candidate.document.text(), before);
}

TEST(EngineEditors, TwoThatChangeDifferentSettings_LoseNothing) {
    Site site;
    Candidate& alices = site.open(kAlice);
    Candidate& bobs = site.open(kBob);
    EXPECT_EQ(site.engine->others(alices.session).size(), 1u);
    site.set(alices, "log level debug");
    site.set(bobs, "policy level 3");
    EXPECT_TRUE(site.commit(alices, kAlice).done);
    const auto done = site.commit(bobs, kBob);
    EXPECT_TRUE(done.done);
    EXPECT_THAT(done.note, HasSubstr("revision 2"));
    EXPECT_THAT(site.running, testing::AllOf(HasSubstr("debug"), HasSubstr("level = 3")));
}

TEST(EngineEditors, TwoThatChangeTheSame_TheSecondIsToldAndDecides) {
    Site site;
    Candidate& alices = site.open(kAlice);
    Candidate& bobs = site.open(kBob);
    site.set(alices, "log level debug");
    site.set(bobs, "log level warning");
    EXPECT_TRUE(site.commit(alices, kAlice).done);
    const auto refused = site.engine->commit(bobs, kBob, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, "conflicts");
    EXPECT_THAT(refused.error().text, testing::AllOf(HasSubstr("alice"), HasSubstr("log level (info) to debug, you to warning")));
    EXPECT_THAT(site.running, HasSubstr("debug"));
    const auto conflicts = site.engine->update(bobs);
    ASSERT_EQ(conflicts->size(), 1u);
    EXPECT_TRUE(site.commit(bobs, kBob).done);
    EXPECT_THAT(site.running, HasSubstr("warning"));
}

TEST(EngineRollback, AnyRevision_ComesBackAsANewOne) {
    Site site;
    for (int i = 1; i <= 60; ++i) EXPECT_TRUE(site.change("brake burst " + std::to_string(i)).done);
    ASSERT_GE(site.engine->history().revisions().size(), 51u);
    Candidate& candidate = site.open(kAlice);
    ASSERT_TRUE(site.engine->rollback(candidate, 12));
    EXPECT_TRUE(site.commit(candidate, kAlice).done);
    EXPECT_EQ(site.engine->history().latest()->how, How::rollback);
    EXPECT_EQ(site.file_text(), *site.engine->history().text(12));
    EXPECT_EQ(site.engine->rollback(candidate, 1000).error().code, "no_revision");
    // What another has committed since the candidate began is rolled back too.
    EXPECT_TRUE(site.change("log level debug", kBob).done);
    ASSERT_TRUE(site.engine->rollback(candidate, 12));
    EXPECT_TRUE(site.commit(candidate, kAlice).done);
    EXPECT_EQ(site.file_text(), *site.engine->history().text(12));
}

TEST(EngineHistory, OldRevisions_GoExceptThoseInUse) {
    Site site;
    Candidate& old = site.open(kBob);   // based on 1
    for (std::size_t i = 0; i < History::kKept + 10; ++i) EXPECT_TRUE(site.change("brake burst " + std::to_string(i + 1)).done);
    EXPECT_EQ(site.engine->history().revisions().size(), History::kKept);
    EXPECT_TRUE(site.engine->history().find(1));
    EXPECT_FALSE(site.engine->history().find(2));
    site.set(old, "policy level 3");
    EXPECT_TRUE(site.commit(old, kBob).done);
}

TEST(EngineHistory, DamagedText_IsNotGivenOut) {
    Site site;
    std::ofstream(site.state() / "revisions" / "000001.conf") << "log = { };\n";
    EXPECT_FALSE(site.engine->history().text(1));
}

// --- commit confirmed

TEST(EngineConfirmed, NotConfirmed_IsTakenBackWhenItsTimeIsOver) {
    Site site;
    const auto done = site.change("log level debug", kAlice, {.confirmed = 120s});
    EXPECT_EQ(done.confirm_until, site.now + 120s);
    EXPECT_TRUE(site.unconfirmed);
    EXPECT_FALSE(site.engine->history().latest()->confirmed);
    site.now += 119s;
    site.engine->turn();
    EXPECT_THAT(site.running, HasSubstr("debug"));
    site.now += 1s;
    site.engine->turn();
    EXPECT_EQ(site.running, kFirst);
    EXPECT_EQ(site.file_text(), kFirst);
    EXPECT_EQ(site.engine->history().latest()->how, How::confirmed_rollback);
    EXPECT_EQ(site.engine->head(), 3u);
    EXPECT_FALSE(site.engine->history().find(2)->confirmed);
    EXPECT_FALSE(site.unconfirmed);
    EXPECT_EQ(site.taken_back, "3: revision 2 was not confirmed in time");
    EXPECT_EQ(site.engine->confirm(kAlice).error().code, "nothing_pending");
}

TEST(EngineConfirmed, ConfirmOrNextCommit_KeepsIt) {
    Site site;
    site.change("log level debug", kAlice, {.confirmed = 120s});
    EXPECT_TRUE(site.engine->confirm(kBob));
    EXPECT_TRUE(site.engine->history().latest()->confirmed);
    site.change("log level warning", kAlice, {.confirmed = 120s});
    site.change("policy level 3");
    EXPECT_TRUE(site.engine->history().find(3)->confirmed);
    site.now += 1h;
    site.engine->turn();
    EXPECT_EQ(site.engine->head(), 4u);
    site.change("policy level 1", kAlice, {.confirmed = 120s});
    EXPECT_THAT(site.commit(site.open(kAlice), kAlice).note, HasSubstr("confirmed"));   // a commit of nothing confirms too
    site.now += 1h;
    site.start();
    site.engine->turn();
    EXPECT_THAT(site.running, testing::AllOf(HasSubstr("warning"), HasSubstr("level = 1")));
}

TEST(EngineConfirmed, OneAfterAnother_GoesBackToWhatWasConfirmed) {
    Site site;
    site.change("log level debug", kAlice, {.confirmed = 60s});
    site.now += 30s;
    site.change("policy level 3", kAlice, {.confirmed = 60s});
    site.now += 59s;
    site.engine->turn();
    EXPECT_THAT(site.running, HasSubstr("level = 3"));
    site.now += 1s;
    site.engine->turn();
    EXPECT_EQ(site.running, kFirst);
}

TEST(EngineConfirmed, TakenBack_ItsAuthorGoesOnFromIt) {
    for (const bool away : {false, true}) {
        Site site;
        Candidate& bobs = site.open(kBob);
        site.set(bobs, "policy level 3");
        site.change("log level debug", kAlice, {.confirmed = 60s});
        ASSERT_TRUE(site.engine->update(bobs));
        site.now += 60s;
        if (away) site.start();
        site.engine->turn();
        ASSERT_EQ(site.running, kFirst);
        // Alice's commit is hers to mend; Bob's does not bring it back.
        EXPECT_TRUE(site.commit(site.open(kBob), kBob).done);
        EXPECT_THAT(site.running, testing::AllOf(HasSubstr("info"), HasSubstr("level = 3")));
        EXPECT_TRUE(site.change("brake burst 5", kAlice).done);
        EXPECT_THAT(site.running, testing::AllOf(HasSubstr("debug"), HasSubstr("level = 3"), HasSubstr("burst = 5")));
    }
}

TEST(EngineConfirmed, TimePassesWhileControlIsAway_IsTakenBackAtTheStart) {
    Site site;
    site.change("log level debug", kAlice, {.confirmed = 60s});
    site.start();
    EXPECT_TRUE(site.engine->pending());
    EXPECT_THAT(site.running, HasSubstr("debug"));
    site.now += 60s;
    site.start();
    EXPECT_EQ(site.running, kFirst);
    EXPECT_EQ(site.file_text(), kFirst);
    EXPECT_EQ(site.engine->history().latest()->how, How::confirmed_rollback);
    EXPECT_FALSE(site.engine->pending());
    EXPECT_EQ(site.recover_error, "");
}

TEST(EngineConfirmed, TargetThatNoLongerLoads_StaysAndIsTriedAgain) {
    Site site;
    std::ofstream(site.file()) << "log = { level = \"bad\"; };\n";
    site.start();   // runs, as its certificate, say, has been good until now
    Candidate& candidate = site.open(kAlice);
    site.set(candidate, "log level debug");
    EXPECT_TRUE(site.commit(candidate, kAlice, {.confirmed = 60s}).done);
    site.now += 60s;
    site.engine->turn();
    EXPECT_THAT(site.running, HasSubstr("debug"));
    EXPECT_TRUE(site.engine->pending());
    site.start();
    EXPECT_THAT(site.recover_error, HasSubstr("is not put back"));
    EXPECT_THAT(site.running, HasSubstr("debug"));
    EXPECT_TRUE(site.engine->confirm(kAlice));
}

TEST(EngineConfirmed, FileChangedByHandMeanwhile_IsKeptInTheHistory) {
    Site site;
    site.change("log level debug", kAlice, {.confirmed = 60s});
    std::ofstream(site.file()) << "# by hand\n";
    site.now += 60s;
    site.engine->turn();
    EXPECT_EQ(site.file_text(), kFirst);
    EXPECT_EQ(*site.engine->history().text(3), "# by hand\n");
    EXPECT_EQ(site.engine->head(), 4u);
}

// --- a process that ends at any step

/// Runs in a child that kills itself before `step`; then control starts again.
void die_at(Site& site, Step step, const std::function<void()>& work) {
    const pid_t child = fork();
    if (child == 0) {
        site.at_step = [step](Step now) {
            if (now == step) kill(getpid(), SIGKILL);
        };
        work();
        _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    site.start();
}

std::vector<How> hows(const History& history) {
    std::vector<How> found;
    for (const auto& [number, revision] : history.revisions()) found.push_back(revision.how);
    return found;
}

TEST(EngineCrash, AtEveryStepOfACommit_TheFileIsOldOrNewAndTheHistoryWhole) {
    for (std::size_t i = 0; i < kSteps; ++i) {
        const Step step = static_cast<Step>(i);
        SCOPED_TRACE(i);
        Site site;
        Candidate& candidate = site.open(kAlice);
        const std::string session = candidate.session;
        site.set(candidate, "log level debug");
        die_at(site, step, [&] { (void)site.engine->commit(candidate, kAlice, {.comment = "why"}); });
        const bool committed = step == Step::finish || step == Step::settle || step == Step::done;
        const bool written = committed || step == Step::write_pending;   // that step is of commit confirmed alone
        EXPECT_EQ(site.running.contains("debug"), written);
        EXPECT_EQ(site.running, site.file_text());
        ASSERT_EQ(site.engine->head(), written ? 2u : 1u);
        EXPECT_EQ(site.engine->history().latest()->digest, digest_of(site.file_text()));
        EXPECT_EQ(site.engine->history().latest()->how, written ? How::commit : How::boot);
        EXPECT_EQ(site.engine->history().latest()->comment, written ? "why" : "");
        EXPECT_FALSE(site.engine->pending());
        for (const auto& entry : fs::directory_iterator(site.state() / "revisions")) EXPECT_FALSE(entry.path().string().ends_with(".json.new"));
        // The candidate is there, and the same commit comes to the same.
        const auto again = site.engine->candidate(session, kAlice);
        ASSERT_TRUE(again);
        EXPECT_TRUE(site.commit(**again, kAlice).done);
        EXPECT_THAT(site.engine->head(), AnyOf(2u, 3u)) << "a number that a dead commit had taken may be left out";
        EXPECT_EQ(*site.engine->history().text(site.engine->head()), site.running);
        EXPECT_THAT(site.running, HasSubstr("debug"));
    }
}

TEST(EngineCrash, AtEveryStepOfACommitConfirmed_ItWaitsOrNeverWas) {
    for (const bool waits_already : {false, true}) {
        for (std::size_t i = 0; i < kSteps; ++i) {
            const Step step = static_cast<Step>(i);
            SCOPED_TRACE(i);
            Site site;
            if (waits_already) site.change("policy level 3", kAlice, {.confirmed = 30s});
            const std::string before = site.file_text();
            Candidate& candidate = site.open(kAlice);
            site.set(candidate, "log level debug");
            die_at(site, step, [&] { (void)site.engine->commit(candidate, kAlice, {.confirmed = 60s}); });
            const bool committed = step == Step::finish || step == Step::settle || step == Step::done;
            if (!committed) EXPECT_EQ(site.running, before);
            else EXPECT_THAT(site.running, HasSubstr("debug"));
            EXPECT_EQ(site.engine->pending().has_value(), committed || waits_already);
            site.now += 60s;
            site.start();
            EXPECT_EQ(site.running, kFirst);   // nothing was ever confirmed but the first
            EXPECT_EQ(site.engine->history().latest()->digest, digest_of(kFirst));
        }
    }
}

TEST(EngineCrash, AtEveryStepOfTheWayBack_ItGoesBackAtTheNextStart) {
    for (std::size_t i = static_cast<std::size_t>(Step::keep); i < kSteps; ++i) {
        SCOPED_TRACE(i);
        Site site;
        site.change("log level debug", kAlice, {.confirmed = 60s});
        site.now += 60s;
        die_at(site, static_cast<Step>(i), [&] { site.engine->turn(); });
        EXPECT_EQ(site.running, kFirst);
        EXPECT_EQ(site.file_text(), kFirst);
        EXPECT_FALSE(site.engine->pending());
        EXPECT_THAT(hows(site.engine->history()), testing::ElementsAre(How::boot, How::commit, How::confirmed_rollback));
    }
}

TEST(EngineCrash, AtEveryStepOfACommitThatConfirmsAnother_TheOtherWaitsOrIsConfirmed) {
    for (std::size_t i = 0; i < kSteps; ++i) {
        const Step step = static_cast<Step>(i);
        SCOPED_TRACE(i);
        Site site;
        site.change("policy level 3", kAlice, {.confirmed = 60s});
        Candidate& candidate = site.open(kAlice);
        site.set(candidate, "log level debug");
        die_at(site, step, [&] { (void)site.engine->commit(candidate, kAlice, {}); });
        const bool committed = step >= Step::finish || step == Step::write_pending;
        EXPECT_EQ(site.engine->pending().has_value(), !committed);
        site.now += 60s;
        site.start();
        EXPECT_EQ(site.running == kFirst, !committed);
    }
}

}  // namespace
}  // namespace sallyport::changes
