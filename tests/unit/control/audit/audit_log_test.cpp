#include "control/audit/audit_log.h"
#include "crypto/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

namespace sallyport::audit {
namespace {

namespace fs = std::filesystem;
using management::CommandTable;
using management::Error;
using management::Peer;
using management::Request;
using management::Result;
using management::Role;
using nlohmann::json;
using testing::HasSubstr;

class AuditLogTest : public testing::Test {
 protected:
    void SetUp() override {
        directory_ = fs::temp_directory_path() / sallyport::format("sallyport_audit_test_{}", getpid());
        fs::remove_all(directory_);
        open();
    }
    void TearDown() override {
        log_.reset();
        fs::remove_all(directory_);
    }
    void open(std::uint64_t file_octets = 1 << 20, std::size_t kept_files = 64) {
        log_.reset();
        AuditLog::Settings settings;
        settings.directory = directory_;
        settings.file_octets = file_octets;
        settings.kept_files = kept_files;
        settings.on_broken = [this](const std::string& why) { broken_.push_back(why); };
        settings.on_written = [this](const std::string& line) { copies_.push_back(line); };
        settings.now = [this] { return now_; };
        auto opened = AuditLog::open(std::move(settings));
        ASSERT_TRUE(opened) << opened.error();
        log_ = std::move(*opened);
    }
    void append(int count) {
        for (int i = 0; i < count; ++i)
            ASSERT_TRUE(log_->append({.event = "command", .user = "ann", .role = "operator", .command = "show flows", .outcome = "ok"}, false));
    }
    Verification check(const std::vector<Head>& known = {}) const {
        const auto verification = verify(directory_, known);
        EXPECT_TRUE(verification);
        return verification.value_or(Verification{});
    }
    fs::path current() const { return directory_ / kCurrentFile; }
    static std::vector<std::string> lines_of(const fs::path& file) {
        std::ifstream stream(file);
        std::vector<std::string> lines;
        for (std::string line; std::getline(stream, line);) lines.push_back(line);
        return lines;
    }
    static void write(const fs::path& file, const std::vector<std::string>& lines) {
        std::ofstream stream(file, std::ios::trunc);
        for (const std::string& line : lines) stream << line << '\n';
    }

    fs::path directory_;
    std::vector<std::string> broken_, copies_;
    std::chrono::system_clock::time_point now_{std::chrono::seconds(1'800'000'000)};
    std::unique_ptr<AuditLog> log_;
};

TEST_F(AuditLogTest, EveryLine_IsTold_AsItStandsInTheFile) {
    append(3);
    EXPECT_EQ(copies_, lines_of(current()));
    EXPECT_EQ(log_->written(), 3u);
}

TEST_F(AuditLogTest, Entries_AreNumberedChainedAndTellWhoDidWhat) {
    ASSERT_TRUE(log_->append({.event = "command", .uid = 7, .user = "ann", .role = "operator", .pid = 12, .from = "ssh 192.0.2.7", .command = "drain",
                              .arguments = {{"pool", "web"}}, .outcome = "ok"}, true));
    append(1);
    const auto lines = lines_of(current());
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(json::parse(lines[0]), json::parse(R"({"number": 1, "time": "2027-01-15T08:00:00.000Z", "event": "command", "uid": 7, "user": "ann",
        "role": "operator", "pid": 12, "from": {"said_by_client": "ssh 192.0.2.7"}, "command": "drain", "arguments": {"pool": "web"},
        "outcome": "ok", "previous": "0000000000000000000000000000000000000000000000000000000000000000"})"));
    EXPECT_EQ(json::parse(lines[1])["previous"], digest(lines[0]));
    EXPECT_EQ(log_->head(), (Head{2, digest(lines[1])}));
    const Verification whole = check({log_->head()});
    EXPECT_TRUE(whole.ok);
    EXPECT_EQ(whole.entries, 2u);
    EXPECT_EQ(whole.head, log_->head());
    EXPECT_EQ(fs::status(current()).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(AuditLogTest, Restart_GoesOn) {
    append(3);
    open();
    append(2);
    EXPECT_TRUE(broken_.empty());
    EXPECT_EQ(check().entries, 5u);
    EXPECT_TRUE(check().ok);
}

TEST_F(AuditLogTest, TamperingAtEveryLine_ShowsWhere) {
    constexpr std::size_t kLines = 12;
    append(kLines);
    const auto head = log_->head();
    const auto good = lines_of(current());
    for (std::size_t i = 0; i < kLines; ++i) {
        auto altered = good;
        altered[i].replace(altered[i].find("ann"), 3, "bob");
        write(current(), altered);
        Verification found = check({head});
        EXPECT_FALSE(found.ok) << i;
        // The line after it does not follow; the last one is not the one whose digest is known.
        EXPECT_EQ(found.broken, i + 1 < kLines ? i + 2 : kLines) << i;

        auto shorter = good;
        shorter.erase(shorter.begin() + static_cast<std::ptrdiff_t>(i));
        write(current(), shorter);
        found = check({head});
        EXPECT_FALSE(found.ok) << i;
        EXPECT_EQ(found.broken, i == 0 ? 1 : i + 1) << i << found.why;

        auto nonsense = good;
        nonsense[i] = "{}";
        write(current(), nonsense);
        EXPECT_EQ(check({head}).broken, i + 1);

        auto twice = good;
        twice.insert(twice.begin() + static_cast<std::ptrdiff_t>(i), good[i]);
        write(current(), twice);
        EXPECT_FALSE(check({head}).ok) << i;

        // Cut off here: the chain itself fits, and a head that is known elsewhere shows it.
        write(current(), {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(i)});
        found = check({head});
        EXPECT_EQ(found.broken, i + 1);
        EXPECT_THAT(found.why, HasSubstr("is missing"));
    }
}

TEST_F(AuditLogTest, BrokenAtTheStart_AlarmsAndBeginsANewChain) {
    append(5);
    log_.reset();
    auto lines = lines_of(current());
    lines[2].replace(lines[2].find("ann"), 3, "bob");
    write(current(), lines);
    open();
    ASSERT_EQ(broken_.size(), 1u);
    EXPECT_THAT(broken_[0], HasSubstr("entry 4 does not follow entry 3"));
    append(1);
    const auto fresh = lines_of(current());
    ASSERT_EQ(fresh.size(), 2u);
    EXPECT_EQ(json::parse(fresh[0])["event"], "chain_begins");
    EXPECT_EQ(json::parse(fresh[0])["number"], 6);
    EXPECT_EQ(json::parse(fresh[0])["previous"], kNoDigest);
    EXPECT_EQ(check().broken, 4u);
    open();  // the new chain is good
    EXPECT_EQ(broken_.size(), 1u);
}

TEST_F(AuditLogTest, CutWhileControlWasAway_IsSeenAtTheStart) {
    append(5);
    log_.reset();  // notes the head
    auto lines = lines_of(current());
    lines.resize(3);
    write(current(), lines);
    open();
    ASSERT_EQ(broken_.size(), 1u);
    EXPECT_THAT(broken_[0], HasSubstr("ends at entry 3, and it had 5"));
    EXPECT_EQ(json::parse(lines_of(current())[0])["number"], 6);
    EXPECT_FALSE(check().ok);
}

TEST_F(AuditLogTest, AlteredOrTakenAwayWhileItIsWritten_IsSeenAtTheNextEntry) {
    append(3);
    fs::resize_file(current(), fs::file_size(current()) - 10);
    append(1);
    EXPECT_EQ(broken_.size(), 1u);
    fs::remove(current());
    append(1);
    EXPECT_EQ(broken_.size(), 2u);
    EXPECT_EQ(lines_of(current()).size(), 2u);
    EXPECT_FALSE(check().ok);
}

TEST_F(AuditLogTest, UnfinishedEntryOfACrash_IsCutOffAndSaid) {
    append(2);
    log_.reset();
    std::ofstream(current(), std::ios::app) << R"({"number":3,"ti)";
    open();
    EXPECT_TRUE(broken_.empty());
    EXPECT_EQ(json::parse(lines_of(current()).back())["event"], "recovered");
    EXPECT_TRUE(check().ok);
    EXPECT_EQ(check().entries, 3u);
}

TEST_F(AuditLogTest, FullFiles_AreNumberedAndTheChainGoesOnThroughThem) {
    open(1500);
    append(40);
    const auto files = files_of(directory_);
    ASSERT_GT(files.size(), 4u);
    EXPECT_EQ(files[0].filename(), "audit-000001.log");
    EXPECT_EQ(files.back(), current());
    const Verification whole = check({log_->head()});
    EXPECT_TRUE(whole.ok) << whole.why;
    EXPECT_EQ(whole.entries, 40u);
    EXPECT_EQ(whole.files, files.size());
    open(1500);
    append(1);
    EXPECT_TRUE(broken_.empty());
    fs::remove(files[1]);
    EXPECT_FALSE(check().ok);
}

TEST_F(AuditLogTest, OldestFile_GivesWayWithAnEntryThatSaysSo) {
    open(1500, 3);
    append(60);
    EXPECT_EQ(files_of(directory_).size(), 4u);
    Verification found = check({log_->head()});
    EXPECT_TRUE(found.ok) << found.why;
    EXPECT_GT(found.first, 1u);
    // Nobody else may take one away.
    fs::remove(files_of(directory_).front());
    found = check();
    EXPECT_FALSE(found.ok);
    EXPECT_THAT(found.why, HasSubstr("no entry says that their file was removed"));
}

TEST_F(AuditLogTest, LastLines_GoBackThroughFiles) {
    open(1500);
    append(20);
    const auto lines = last_lines(directory_, 10, 1 << 20);
    ASSERT_EQ(lines.size(), 10u);
    EXPECT_EQ(json::parse(lines.front())["number"], 11);
    EXPECT_EQ(json::parse(lines.back())["number"], 20);
    EXPECT_EQ(last_lines(directory_, 100, 1 << 20).size(), 20u);
    EXPECT_LT(last_lines(directory_, 100, 1000).size(), 5u);
}

TEST_F(AuditLogTest, SecretsAndLongTexts_AreNotKept) {
    const json kept = kept_arguments({{"session", "0123456789abcdef"}, {"passphrase", "hunter2"}, {"text", std::string(5000, 'x')}, {"path", {"a", "b"}}});
    EXPECT_EQ(kept["session"], "not kept");
    EXPECT_EQ(kept["passphrase"], "not kept");
    EXPECT_EQ(kept["text"], "5000 octets, sha256 " + digest(std::string(5000, 'x')));
    EXPECT_EQ(kept["path"], json({"a", "b"}));
    json many = json::object();
    for (int i = 0; i < 1000; ++i) many[sallyport::format("argument{}", i)] = i;
    EXPECT_LT(kept_arguments(many).dump().size(), 200u);
}

// ---- with a table of commands ----

class AuditedCommands : public AuditLogTest {
 protected:
    void SetUp() override {
        AuditLogTest::SetUp();
        table_.add("show flows", "", {}, [](const Request&, const Peer&) -> Result { return "flows"; });
        table_.add("show rates", "", {}, [](const Request&, const Peer&) -> Result { return "rates"; }, {.audited = false});
        table_.add("drain", "", {}, [](const Request&, const Peer&) -> Result { return std::unexpected(Error{"no_member", ""}); }, {.least = Role::operator_});
        table_.add("reload", "", {}, [this](const Request&, const Peer&) -> Result { ++reloads_; return json{{"done", false}}; }, {.least = Role::administrator});
        table_.add("break", "", {}, [](const Request&, const Peer&) -> Result { throw std::runtime_error("bug"); });
        table_.audit_by(log_->hooks());
    }
    Result run(std::vector<std::string> words, Role role, std::uint32_t uid = 7) {
        return table_.handle({.id = 1, .command = std::move(words)}, {.uid = uid, .pid = ++process_, .role = role, .user = "ann"});   // each a process of its own
    }
    std::vector<std::string> story() const {
        std::vector<std::string> events;
        for (const auto& line : lines_of(current())) {
            const json entry = json::parse(line);
            events.push_back(entry["event"].get<std::string>() + " " + entry.value("command", "") + " " + entry["outcome"].get<std::string>());
        }
        return events;
    }
    CommandTable table_;
    int reloads_ = 0;
    std::int32_t process_ = 1000;
};

TEST_F(AuditedCommands, EachCommandAndRefusal_HasItsEntry) {
    EXPECT_TRUE(run({"show", "flows"}, Role::read_only));
    EXPECT_TRUE(run({"show", "rates"}, Role::read_only));
    EXPECT_FALSE(run({"drain"}, Role::operator_));
    EXPECT_FALSE(run({"drain"}, Role::read_only));
    EXPECT_FALSE(run({"show", "rates"}, Role::none));
    EXPECT_TRUE(run({"reload"}, Role::administrator));
    EXPECT_THROW((void)run({"break"}, Role::operator_), std::runtime_error);
    EXPECT_THAT(story(), testing::ElementsAre("command show flows ok", "command drain no_member", "refused drain forbidden", "refused show rates forbidden",
                                              "begun reload begun", "command reload not_done", "command break internal"));
    EXPECT_TRUE(check().ok);
}

TEST_F(AuditedCommands, RefusalsInALoop_DoNotFillTheLog) {
    for (int i = 0; i < 100; ++i) (void)run({"reload"}, Role::none);
    EXPECT_EQ(story().size(), 20u);
    (void)run({"reload"}, Role::none, 8);  // another user
    EXPECT_EQ(story().size(), 21u);
    now_ += std::chrono::seconds(2);
    (void)run({"reload"}, Role::none);
    (void)run({"reload"}, Role::none);
    const auto lines = lines_of(current());
    ASSERT_EQ(lines.size(), 22u);
    EXPECT_EQ(json::parse(lines.back())["arguments"]["refusals_left_out_before"], 80);
}

TEST_F(AuditedCommands, LookingAgainAndAgain_IsTwoEntries) {
    const auto look = [&](std::int32_t pid, json arguments = json::object()) {
        (void)table_.handle({.id = 1, .command = {"show", "flows"}, .arguments = std::move(arguments)}, {.uid = 7, .pid = pid, .role = Role::operator_, .user = "ann"});
    };
    table_.add("show pools", "", {}, [](const Request&, const Peer&) -> Result { return "pools"; });
    for (int i = 0; i < 100; ++i) {
        now_ += std::chrono::seconds(2);
        look(20);
    }
    look(21);   // another process
    EXPECT_THAT(story(), testing::ElementsAre("command show flows ok", "command show flows ok"));
    (void)table_.handle({.id = 1, .command = {"drain"}}, {.uid = 7, .pid = 20, .role = Role::operator_, .user = "ann"});
    EXPECT_THAT(story(), testing::ElementsAre("command show flows ok", "command show flows ok", "repeated show flows ok", "command drain no_member"));
    EXPECT_EQ(json::parse(lines_of(current())[2])["arguments"]["times"], 99);
    look(20);
    look(20);
    now_ += std::chrono::seconds(61);
    look(21);   // whoever comes finds that the other has been silent
    EXPECT_EQ(story().size(), 7u);
    EXPECT_EQ(story()[5], "repeated show flows ok");
    // It goes on for long: once an hour.
    for (int i = 0; i < 130; ++i) {
        now_ += std::chrono::seconds(59);
        look(21);
    }
    EXPECT_EQ(story().size(), 11u);
    log_->note("control_stopped", {});
    EXPECT_EQ(story().size(), 13u) << "what is left is told before the end";
    EXPECT_TRUE(check().ok);
}

TEST_F(AuditedCommands, LogThatIsAltered_BeginsAnewBeforeRepetitionsAreTold) {
    const auto look = [&](std::int32_t pid) {
        (void)table_.handle({.id = 1, .command = {"show", "flows"}}, {.uid = 7, .pid = pid, .role = Role::operator_, .user = "ann"});
    };
    for (const std::int32_t pid : {20, 21, 22}) {
        look(pid);
        look(pid);
    }
    std::ofstream(current(), std::ios::app) << "somebody was here\n";
    now_ += std::chrono::seconds(61);
    look(23);
    EXPECT_THAT(story(), testing::ElementsAre("chain_begins  ok", "repeated show flows ok", "repeated show flows ok", "repeated show flows ok", "command show flows ok"));
    look(23);
    std::ofstream(current(), std::ios::app) << "and again\n";
    (void)table_.handle({.id = 1, .command = {"drain"}}, {.uid = 7, .pid = 23, .role = Role::operator_, .user = "ann"});
    EXPECT_THAT(story(), testing::ElementsAre("chain_begins  ok", "repeated show flows ok", "command drain no_member"));
}

TEST_F(AuditedCommands, ManyLooksWithLongArguments_AreKeptShort) {
    table_.add("show log", "", {{"match", ""}}, [](const Request&, const Peer&) -> Result { return "log"; });
    for (int i = 0; i < 3; ++i)
        (void)table_.handle({.id = 1, .command = {"show", "log"}, .arguments = {{"match", std::string(500'000, 'x')}}}, {.uid = 7, .pid = 20, .role = Role::read_only, .user = "ann"});
    log_->note("control_stopped", {});
    const auto lines = lines_of(current());
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_LT(lines[1].size(), 1000u);
    EXPECT_EQ(json::parse(lines[1])["arguments"]["times"], 2);
}

TEST_F(AuditedCommands, NoRoomLeft_RefusesChangesAndGoesOnToShow) {
    EXPECT_TRUE(run({"show", "flows"}, Role::read_only));
    // A file that may not grow stands for a full disk.
    ASSERT_NE(std::signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit tight{.rlim_cur = fs::file_size(current()) + 10, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const auto refused = run({"reload"}, Role::administrator);
    EXPECT_TRUE(run({"show", "flows"}, Role::read_only));
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, "not_audited");
    EXPECT_EQ(reloads_, 0);
    EXPECT_EQ(log_->lost(), 2u) << "the change that was refused, and the look";
    EXPECT_TRUE(run({"show", "flows"}, Role::read_only));
    const auto lines = lines_of(current());
    ASSERT_EQ(lines.size(), 2u);  // no half lines
    EXPECT_EQ(json::parse(lines[1])["arguments"]["entries_lost_before"], 2);
    EXPECT_TRUE(check().ok);
    EXPECT_TRUE(run({"reload"}, Role::administrator));
    EXPECT_EQ(reloads_, 1);
}

}  // namespace
}  // namespace sallyport::audit
