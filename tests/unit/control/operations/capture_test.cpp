#include "control/operations/capture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "control/cli/render_capture.h"

namespace sallyport::operations {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Captures with a dataplane that says what the test wants.
class CapturesTest : public testing::Test {
 protected:
    void SetUp() override {
        char text[] = "/tmp/captures_XXXXXX";
        directory = mkdtemp(text);
        settings.directory = directory / "captures";
        settings.max_octets = 4 << 20;
    }
    void TearDown() override { fs::remove_all(directory); }

    /// As it comes over the socket: numbers that are not negative are unsigned.
    static management::Request request(const json& arguments) { return {.id = {}, .command = {"x"}, .arguments = json::parse(arguments.dump())}; }
    management::Result start(const json& arguments) { return captures.start(request(arguments), {}); }
    management::Result call(management::Result (Captures::*what)(const management::Request&, const management::Peer&), const json& arguments) {
        return (captures.*what)(request(arguments), {});
    }
    static std::string code(const management::Result& result) { return result ? "" : result.error().code; }

    fs::path directory;
    configuration::Capture settings;
    flows::SecretFiles secrets;
    bool attached = true;
    json asked;
    std::string last_question;
    std::expected<json, std::string> answer = json{{"secrets_at", 100}, {"secrets_room", 4096}};
    std::string written;   ///< what the "dataplane" writes into the file that it is given
    Dataplane dataplane{[this](const std::string& what, const json& arguments, std::span<const int> descriptors) {
                            last_question = what;
                            asked = arguments;
                            for (const int descriptor : descriptors) EXPECT_EQ(write(descriptor, written.data(), written.size()), static_cast<ssize_t>(written.size()));
                            return answer;
                        },
                        [this] { return attached; }};
    Captures captures{dataplane, [this]() -> const configuration::Capture& { return settings; }, secrets};
};

TEST_F(CapturesTest, Start_MakesAFileOfItsOwn) {
    written = "hello";
    const auto started = start({{"file", "mine"}, {"filter", "tcp"}, {"packets", 5}});
    ASSERT_TRUE(started) << started.error().text;
    EXPECT_EQ((*started)["file"], "mine.pcapng");
    EXPECT_EQ(asked["packets"], 5);
    EXPECT_EQ(asked["octets"], 4 << 20);   // the default is more than the configuration allows
    EXPECT_EQ(asked["seconds"], Captures::kDefaultSeconds);
    struct stat status{};
    ASSERT_EQ(stat((settings.directory / "mine.pcapng").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777u, 0600u);
    EXPECT_EQ(fs::status(settings.directory).permissions(), fs::perms::owner_all);
    EXPECT_EQ(code(start({{"file", "mine"}, {"octets", 65536}})), "no_room");
}

TEST_F(CapturesTest, RefusedByTheDataplane_LeavesNoFile) {
    answer = std::unexpected(std::string("the filter is not good: syntax error"));
    const auto started = start({{"file", "mine"}});
    EXPECT_EQ(code(started), "not_started");
    EXPECT_EQ(started.error().text, "the filter is not good: syntax error");
    EXPECT_FALSE(fs::exists(settings.directory / "mine.pcapng"));
    EXPECT_EQ(last_question, "capture stop");   // one that answered late may have begun it
    EXPECT_EQ(asked["id"], 1);
    attached = false;
    EXPECT_EQ(code(start(json::object())), "away");
}

TEST_F(CapturesTest, Names_CannotLeaveTheDirectory) {
    for (const char* name : {"../x", "/etc/passwd", ".hidden", "a/b", "a b", "-rf", "a\nb", "a%s"}) {
        EXPECT_EQ(code(start({{"file", name}})), "bad_argument") << name;
        EXPECT_FALSE(is_capture_name(name));
        EXPECT_EQ(code(captures.read({.id = {}, .command = {"x"}, .arguments = {{"file", name}}})), "bad_argument") << name;
        EXPECT_EQ(code(call(&Captures::remove, {{"file", name}})), "bad_argument") << name;
    }
    EXPECT_TRUE(last_question.empty());
    fs::create_directories(settings.directory);
    std::ofstream(directory / "outside") << "secret";
    fs::create_symlink(directory / "outside", settings.directory / "link.pcapng");
    EXPECT_EQ(code(captures.read({.id = {}, .command = {"x"}, .arguments = {{"file", "link.pcapng"}}})), "no_such_file");
    EXPECT_EQ(code(call(&Captures::remove, {{"file", "link.pcapng"}})), "no_such_file");
    EXPECT_EQ(code(start({{"file", "link.pcapng"}})), "exists");
}

TEST_F(CapturesTest, Room_IsThatOfAllFilesAndOfWhatRuns) {
    ASSERT_TRUE(start({{"file", "first"}, {"octets", 3 << 20}}));
    EXPECT_EQ(code(start({{"octets", 2 << 20}})), "no_room");
    captures.ended({{"id", 1}, {"state", "ended"}, {"end", "time"}});
    EXPECT_TRUE(start({{"octets", 2 << 20}}));
    EXPECT_EQ(code(start({{"octets", 5 << 20}})), "bad_argument");   // more than there ever is
}

TEST_F(CapturesTest, BadArguments_AreNamed) {
    EXPECT_EQ(code(start({{"packets", 0}})), "bad_argument");
    EXPECT_EQ(code(start({{"seconds", 100'000}})), "bad_argument");
    EXPECT_EQ(code(start({{"snap", 10}})), "bad_argument");
    EXPECT_EQ(code(start({{"filter", 7}})), "bad_argument");
    EXPECT_EQ(code(start({{"filter", std::string(2000, 'x')}})), "bad_argument");
    EXPECT_EQ(code(start({{"flow", "nonsense"}})), "bad_argument");
    EXPECT_EQ(code(start({{"comment", "a\x1b[2J"}})), "bad_argument");
    EXPECT_EQ(code(start({{"secrets", "yes"}})), "bad_argument");
    EXPECT_EQ(code(start({{"server_name", "www.example.com"}})), "bad_argument");
    EXPECT_EQ(code(call(&Captures::stop, {{"id", 5}})), "bad_argument");
    ASSERT_TRUE(start({{"flow", "01-00000a-00000003"}}));
    EXPECT_EQ(asked["flow"], (std::uint64_t{1} << 56) | (std::uint64_t{10} << 32) | 3);
}

TEST_F(CapturesTest, Secrets_OnlyWhereTheConfigurationAllowsThem) {
    const auto refused = start({{"secrets", true}});
    EXPECT_EQ(code(refused), "forbidden_by_configuration");
    EXPECT_NE(refused.error().text.find("capture.secrets"), std::string::npos);
    EXPECT_FALSE(secrets.wanted());
    settings.secrets = true;
    EXPECT_EQ(code(start({{"secrets", true}, {"flow", "00-000001-00000001"}})), "bad_argument");
    EXPECT_EQ(code(start({{"secrets", true}, {"client", "nobody"}})), "bad_argument");
    const auto started = start({{"secrets", true}, {"file", "with"}});
    ASSERT_TRUE(started) << started.error().text;
    EXPECT_EQ((*started)["file"], "with-secrets.pcapng");
    EXPECT_TRUE(secrets.wanted());
    secrets.write({flows::SecretFiles::Clock::now(), "www", "www.example.com", *IpAddress::parse("192.0.2.1")}, "CLIENT_RANDOM a b\n");
    captures.ended({{"id", 1}, {"state", "ended"}, {"end", "octets"}, {"packets", 7}});
    EXPECT_FALSE(secrets.wanted());
    const auto shown = captures.show();
    ASSERT_TRUE(shown);
    EXPECT_EQ((*shown)["captures"][0]["secrets_lines"], 1);
    EXPECT_EQ((*shown)["captures"][0]["end"], "octets");
    EXPECT_TRUE((*shown)["files"][0]["secrets"].get<bool>());
    EXPECT_TRUE((*shown)["secrets_allowed"].get<bool>());
}

TEST_F(CapturesTest, SecretsForbiddenMeanwhile_EndWhatWritesThem) {
    settings.secrets = true;
    ASSERT_TRUE(start({{"secrets", true}, {"octets", 65536}}));
    ASSERT_TRUE(start({{"octets", 65536}}));   // without
    settings.secrets = false;
    answer = json{{"id", 1}, {"state", "ended"}, {"end", "stopped"}, {"packets", 9}};
    captures.turn();
    EXPECT_EQ(last_question, "capture stop");
    EXPECT_EQ(asked["id"], 1);
    EXPECT_FALSE(secrets.wanted());
    answer = json::array();
    const auto shown = *captures.show();
    EXPECT_EQ(shown["captures"][0]["end"], "forbidden");
    EXPECT_EQ(shown["captures"][0]["packets"], 9);
    EXPECT_EQ(shown["captures"][1]["state"], "running");
    EXPECT_NE(cli::render_text(shown.get<management::CapturesView>()).find("allows no TLS secrets any more"), std::string::npos);
}

TEST_F(CapturesTest, Roles_OperatorsCapture_SecretsAreForAdministrators) {
    management::CommandTable table;
    add_capture_commands(table, captures, dataplane);
    const auto refused = [&](management::Role role, std::vector<std::string> words, const json& arguments) {
        const auto result = table.handle({.id = {}, .command = std::move(words), .arguments = json::parse(arguments.dump())}, {.role = role});
        return code(result) == "forbidden";
    };
    using enum management::Role;
    EXPECT_TRUE(refused(read_only, {"capture", "start"}, json::object()));
    EXPECT_TRUE(refused(read_only, {"capture", "read"}, {{"file", "a.pcapng"}}));
    EXPECT_TRUE(refused(read_only, {"ping", "start"}, {{"address", "192.0.2.1"}}));
    EXPECT_FALSE(refused(read_only, {"show", "captures"}, json::object()));
    EXPECT_FALSE(refused(operator_, {"capture", "start"}, {{"octets", 65536}, {"secrets", false}}));
    for (const json& value : {json(true), json("true"), json(1), json()}) EXPECT_TRUE(refused(operator_, {"capture", "start"}, {{"secrets", value}})) << value;
    EXPECT_FALSE(refused(operator_, {"capture", "stop"}, {{"id", 1}}));
    for (const char* const what : {"read", "delete"}) {
        EXPECT_FALSE(refused(operator_, {"capture", what}, {{"file", "a.pcapng"}})) << what;
        EXPECT_TRUE(refused(operator_, {"capture", what}, {{"file", "a-secrets.pcapng"}})) << what;
        EXPECT_FALSE(refused(administrator, {"capture", what}, {{"file", "a-secrets.pcapng"}})) << what;
    }
    EXPECT_FALSE(refused(operator_, {"ping", "start"}, {{"address", "nowhere"}}));
}

TEST_F(CapturesTest, Names_AreForCompletion) {
    ASSERT_TRUE(start({{"file", "mine"}}));
    const auto names = *captures.names();
    EXPECT_EQ(names["captures"], (json::array({{{"name", "1"}, {"help", "running, mine.pcapng"}}})));
    EXPECT_EQ(names["files"][0]["name"], "mine.pcapng");
}

TEST_F(CapturesTest, DataplaneGone_EndsThem) {
    settings.secrets = true;
    ASSERT_TRUE(start({{"secrets", true}}));
    captures.turn();
    EXPECT_TRUE(secrets.wanted());
    attached = false;
    captures.turn();
    EXPECT_FALSE(secrets.wanted());
    EXPECT_EQ((*captures.show())["captures"][0]["end"], "dataplane_lost");
}

TEST_F(CapturesTest, Read_GoesOnToTheEnd) {
    written = std::string(Captures::kChunk + 10, 'a');
    ASSERT_TRUE(start({{"file", "mine"}}));
    const auto read = [&](std::uint64_t offset) { return *captures.read(request({{"file", "mine.pcapng"}, {"offset", offset}})); };
    EXPECT_FALSE(read(0)["last"].get<bool>());
    EXPECT_EQ(read(0)["data"].get<std::string>().size(), (Captures::kChunk + 2) / 3 * 4);
    EXPECT_TRUE(read(Captures::kChunk)["last"].get<bool>());
    EXPECT_EQ(read(Captures::kChunk + 7)["data"], "YWFh");
    EXPECT_EQ(read(1ull << 40)["data"], "");
    EXPECT_EQ(code(call(&Captures::remove, {{"file", "mine.pcapng"}})), "bad_argument");   // it runs
    captures.ended({{"id", 1}, {"state", "ended"}, {"end", "time"}});
    EXPECT_TRUE(call(&Captures::remove, {{"file", "mine.pcapng"}}));
    EXPECT_FALSE(fs::exists(settings.directory / "mine.pcapng"));
}

TEST(SecretFiles, OnlyTheFlowsThatWereAskedFor) {
    flows::SecretFiles secrets;
    const auto before = flows::SecretFiles::Clock::now();
    char name[] = "/tmp/secrets_XXXXXX";
    const int file = mkstemp(name);
    ASSERT_EQ(ftruncate(file, 300), 0);
    secrets.begin(1, channel::Descriptor(fcntl(file, F_DUPFD_CLOEXEC, 0)), 100, 40, {"www", "Example.com", *IpPrefix::parse("192.0.2.0/24")},
                  flows::SecretFiles::Clock::now() + std::chrono::hours(1));
    const auto inside = *IpAddress::parse("192.0.2.9"), outside = *IpAddress::parse("198.51.100.1");
    const auto write = [&](flows::SecretFiles::Clock::time_point begun, const char* service, const char* server_name, const IpAddress& client) {
        secrets.write({begun, service, server_name, client}, "CLIENT_RANDOM 01\n");
        return secrets.counts(1).lines;
    };
    const auto during = flows::SecretFiles::Clock::now();
    EXPECT_EQ(write(before - std::chrono::seconds(1), "www", "example.com", inside), 0u);
    EXPECT_EQ(write(during, "mail", "example.com", inside), 0u);
    EXPECT_EQ(write(during, "www", "other.com", inside), 0u);
    EXPECT_EQ(write(during, "www", "example.com", outside), 0u);
    EXPECT_EQ(write(during, "www", "example.com", inside), 1u);
    EXPECT_EQ(write(during, "www", "EXAMPLE.COM", inside), 2u);
    EXPECT_EQ(write(during, "www", "example.com", inside), 2u);   // no room for a third
    EXPECT_EQ(secrets.counts(1).dropped, 1u);
    char octets[36] = {};
    EXPECT_EQ(pread(file, octets, 35, 100), 35);
    EXPECT_STREQ(octets, "CLIENT_RANDOM 01\nCLIENT_RANDOM 01\n#");
    secrets.end(1);
    EXPECT_FALSE(secrets.wanted());
    close(file);
    unlink(name);
}

TEST(RenderCapture, CapturesThenFiles) {
    management::CapturesView view;
    management::CaptureView capture;
    capture.id = 3;
    capture.file = "a.pcapng";
    capture.state = "ended";
    capture.end = "packets";
    capture.packets = 7;
    capture.octets = 1500;
    view.captures.push_back(capture);
    view.files.push_back({"a-secrets.pcapng", 1500, "2026-11-03T14:05:09Z", true});
    view.directory = "/var/lib/sallyport/captures";
    const std::string text = cli::render_text(view);
    for (const char* part : {"ended: limit of packets", "a-secrets.pcapng", "TLS secrets are not allowed", "1.50 kB", "7 written"}) EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace
}  // namespace sallyport::operations
