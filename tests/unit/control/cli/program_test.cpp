/// The `sallyport` program itself against a management server.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <thread>

#include "control/daemon/exit_code.h"
#include "control/management/server.h"
#include "control/management/views.h"
#include "crypto/format.h"

namespace sallyport::cli {
namespace {

using namespace std::chrono_literals;
using namespace sallyport::management;
using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

struct Output {
    int exit_code = -1;
    std::string out, error;
};

/// Runs the program; `name` is its argv[0], `input` what its stdin gives.
Output run(std::vector<std::string> arguments, const std::string& input = {}, std::string name = {}) {
    std::array<std::array<int, 2>, 2> pipes{};
    std::array<int, 2> in{};
    EXPECT_EQ(pipe2(in.data(), O_CLOEXEC), 0);
    EXPECT_EQ(write(in[1], input.data(), input.size()), static_cast<ssize_t>(input.size()));   // short: the pipe holds it
    close(in[1]);
    for (auto& ends : pipes) EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[0][1], 1);
    posix_spawn_file_actions_adddup2(&actions, pipes[1][1], 2);
    std::string program = SALLYPORT_PROGRAM;
    std::vector<char*> argv{name.empty() ? program.data() : name.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t child = -1;
    EXPECT_EQ(posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    Output result;
    std::array<std::string*, 2> texts{&result.out, &result.error};
    for (auto& ends : pipes) close(ends[1]);
    std::array<pollfd, 2> waited{{{pipes[0][0], POLLIN, 0}, {pipes[1][0], POLLIN, 0}}};
    for (int open = 2; open > 0;) {
        poll(waited.data(), waited.size(), -1);
        for (std::size_t i = 0; i < 2; ++i) {
            if (waited[i].fd < 0 || waited[i].revents == 0) continue;
            std::array<char, 65536> buffer;
            const ssize_t n = read(waited[i].fd, buffer.data(), buffer.size());
            if (n > 0) {
                texts[i]->append(buffer.data(), static_cast<std::size_t>(n));
            } else {
                close(waited[i].fd);
                waited[i].fd = -1;
                --open;
            }
        }
    }
    int status = 0;
    waitpid(child, &status, 0);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return result;
}

class Program : public testing::Test {
 protected:
    void SetUp() override {
        directory_ = sallyport::format("/tmp/sallyport_cli_test_{}", getpid());
        std::filesystem::create_directories(directory_);
        path_ = directory_ + "/control.sock";
        table_.add("show neighbours", "", {}, [](const Request&, const Peer&) -> Result {
            return json::array(
                {NeighbourView{.address = "192.0.2.9", .mac = "", .port = "p", .state = "STALE", .worker = 0}});
        });
        table_.add("show flows", "", {{"limit", ""}}, [](const Request& request, const Peer&) -> Result {
            const auto limit = request.number("limit", 7, 0, 1000);
            if (!limit) return std::unexpected(limit.error());
            return FlowsView{.flows = {FlowView{}}, .total = 1000 + *limit};
        });
        table_.add("show workers", "", {}, [](const Request&, const Peer&) -> Result {
            return std::unexpected(Error{"no_dataplane", "no dataplane\x1b is attached"});
        });
        table_.add("configuration open", "", {{"kind", ""}}, [](const Request&, const Peer&) -> Result { return json{{"session", "s"}}; });
        table_.add("configuration close", "", {{"session", ""}, {"discard", ""}}, [](const Request&, const Peer&) -> Result { return json::object(); });
        table_.add("clear counters", "", {}, [](const Request&, const Peer&) -> Result {
            return std::unexpected(Error{"forbidden", "needs the role operator; you are read-only"});
        });
        table_.add("enable", "", {{"pool", ""}}, [](const Request& request, const Peer&) -> Result { return json{{"from", request.from}}; });
        table_.add("show services", "", {}, [](const Request&, const Peer&) -> Result { return json::array({{{"name", "www"}, {"flows_total", 5}}}); });
        table_.add("show ports", "", {}, [](const Request&, const Peer&) -> Result { return "nonsense"; });
        auto server = Server::open(path_, [this](const Request& r, const Peer& p) { return table_.handle(r, p); });
        ASSERT_TRUE(server) << server.error();
        server_ = std::move(*server);
        thread_ = std::thread([this] {
            while (!stop_) server_->poll(5ms);
        });
    }
    void TearDown() override {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
        server_.reset();
        std::filesystem::remove_all(directory_);
    }
    std::string directory_, path_;
    CommandTable table_;
    std::unique_ptr<Server> server_;
    std::thread thread_;
    std::atomic<bool> stop_ = false;
};

TEST_F(Program, Show_PrintsText) {
    const Output shown = run({"show", "neighbours", "--socket", path_});
    EXPECT_EQ(shown.exit_code, exit_code::kOk) << shown.error;
    EXPECT_EQ(shown.out,
              "address    mac  port  state  worker\n"
              "192.0.2.9  -    p     STALE       0\n");
    EXPECT_EQ(shown.error, "");
}

TEST_F(Program, Json_PrintsTheResult) {
    for (const auto& arguments : {std::vector<std::string>{"--socket", path_, "--json", "show", "neighbours"},
                                  std::vector<std::string>{"show", "--json", "neighbours", "--socket", path_},
                                  std::vector<std::string>{"show", "neighbours", "--socket", path_, "--json"}}) {
        const Output shown = run(arguments);
        EXPECT_EQ(shown.exit_code, exit_code::kOk) << shown.error;
        EXPECT_EQ(json::parse(shown.out)[0]["address"], "192.0.2.9");
    }
}

TEST_F(Program, Limit_GoesToControl) {
    EXPECT_THAT(run({"show", "flows", "--socket", path_}).out, HasSubstr("1 of 1100 flows"));
    EXPECT_THAT(run({"show", "flows", "--limit", "5", "--socket", path_}).out, HasSubstr("1 of 1005 flows"));
    const Output refused = run({"show", "flows", "--limit", "5000", "--socket", path_});
    EXPECT_EQ(refused.exit_code, exit_code::kFailure);
    EXPECT_EQ(refused.error, "sallyport: limit must be an integer from 0 to 1000, not 5000\n");
}

TEST_F(Program, ErrorAnswer_IsFailure) {
    const Output shown = run({"show", "workers", "--socket", path_});
    EXPECT_EQ(shown.exit_code, exit_code::kFailure);
    EXPECT_EQ(shown.out, "");
    EXPECT_EQ(shown.error, "sallyport: no dataplane\\x1b is attached\n");
}

TEST_F(Program, AnswerOfAnotherShape_IsAProtocolError) {
    const Output shown = run({"show", "ports", "--socket", path_});
    EXPECT_EQ(shown.exit_code, exit_code::kProtocol);
    EXPECT_THAT(shown.error, StartsWith("sallyport: control's answer is not what this version expects"));
}

TEST_F(Program, NoControl_IsAway) {
    const Output shown = run({"show", "version", "--socket", directory_ + "/none.sock"});
    EXPECT_EQ(shown.exit_code, exit_code::kControlAway);
    EXPECT_EQ(shown.error,
              sallyport::format("sallyport: control is not running ({}/none.sock: No such file or directory)\n", directory_));
}

TEST_F(Program, ControlThatHangs_IsAway) {
    stop_ = true;
    thread_.join();
    const Output shown = run({"show", "version", "--timeout", "0.05", "--socket", path_});
    EXPECT_EQ(shown.exit_code, exit_code::kControlAway);
    EXPECT_EQ(shown.error, sallyport::format("sallyport: control did not answer within 50 ms ({})\n", path_));
}

TEST_F(Program, WrongUse_IsUsageWithAdvice) {
    for (const auto& [arguments, text] : std::vector<std::pair<std::vector<std::string>, std::string>>{
             {{"show"}, "what? one of version, ports"},
             {{"set", "policy", "level", "3"}, "unknown word \"set\""},
             {{"show", "po"}, "\"po\" is ambiguous: ports, pools, policy"},
             {{"show", "flwos"}, "unknown word \"flwos\"; did you mean \"flows\"?"},
             {{"shwo", "flows"}, "unknown word \"shwo\"; did you mean \"show\"?"},
             {{"show", "flows", "--limit", "many"}, "--limit"},
             {{"show", "flows", "--limit", "-1"}, "--limit"},
             {{"show", "flows", "--jsno"}, "--jsno"},
             {{"show", "ports", "--timeout", "0"}, "--timeout"},
         }) {
        const Output shown = run(arguments);
        EXPECT_EQ(shown.exit_code, exit_code::kUsage) << text;
        EXPECT_THAT(shown.error, HasSubstr(text));
        EXPECT_EQ(shown.out, "");
    }
}

TEST_F(Program, WrongWord_IsMarked) {
    EXPECT_THAT(run({"show", "flwos"}).error, HasSubstr("    show flwos\n         ^\n"));
}

TEST_F(Program, Forbidden_IsNoPermission) {
    const Output shown = run({"clear", "counters", "--socket", path_});
    EXPECT_EQ(shown.exit_code, exit_code::kNoPermission);
    EXPECT_EQ(shown.error, "sallyport: needs the role operator; you are read-only\n");
}

TEST_F(Program, WordsOfALine_GoThroughPipes) {
    EXPECT_EQ(run({"sh", "nei", "|", "count", "--socket", path_}).out, "Count: 2 lines\n");
    EXPECT_EQ(run({"show", "neighbours", "|", "match", "STALE", "--socket", path_}).out, "192.0.2.9  -    p     STALE       0\n");
    const std::string file = directory_ + "/saved";
    EXPECT_EQ(run({"show", "neighbours", "|", "save", file, "--socket", path_}).out, "");
    EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(Program, ResultWithoutATextOfItsOwn_IsShown) {
    setenv("SSH_CONNECTION", "192.0.2.7 51234 192.0.2.1 22", 1);
    EXPECT_EQ(run({"enable", "pool", "web", "--socket", path_}).out, "from  ssh 192.0.2.7 port 51234\n");
    unsetenv("SSH_CONNECTION");
}

TEST_F(Program, Script_EndsAtTheFirstFailure) {
    const Output done = run({"--socket", path_}, "# a comment\n\nshow neighbours | count\nshow flows | last 1\n");
    EXPECT_EQ(done.exit_code, exit_code::kOk) << done.error;
    EXPECT_THAT(done.out, StartsWith("Count: 2 lines\n1 of 1100 flows"));
    const Output failed = run({"--socket", path_}, "show workers\nshow neighbours\n");
    EXPECT_EQ(failed.exit_code, exit_code::kFailure);
    EXPECT_EQ(failed.out, "");
    EXPECT_EQ(run({"--socket", path_}, "show nothing\n").exit_code, exit_code::kUsage);
    EXPECT_EQ(run({"--socket", path_}, "configure\nexit\nexit\nshow nothing\n").exit_code, exit_code::kOk);
}

TEST_F(Program, ConfigureAlone_IsUsage) {
    const Output done = run({"configure", "--socket", path_});
    EXPECT_EQ(done.exit_code, exit_code::kUsage);
    EXPECT_THAT(done.error, HasSubstr("configuration mode is of the shell"));
}

TEST_F(Program, LoginShell_TakesALineAndNoOptions) {
    EXPECT_EQ(run({"-c", "help show version"}).exit_code, exit_code::kOk);
    EXPECT_EQ(run({"-c", "sallyport help show version"}).exit_code, exit_code::kOk);
    EXPECT_EQ(run({"-c", "show version --socket " + path_}).exit_code, exit_code::kUsage);
    EXPECT_EQ(run({"-c", "/bin/sh"}).exit_code, exit_code::kUsage);
    EXPECT_EQ(run({"-c", "help; /bin/sh"}).exit_code, exit_code::kUsage);
    EXPECT_EQ(run({}, "help show version\n", "-sallyport").exit_code, exit_code::kOk);
    EXPECT_EQ(run({"--socket", path_}, "show neighbours\n", "-sallyport").exit_code, exit_code::kControlAway);   // the socket of the system
    const Output saved = run({"-c", "help | save " + directory_ + "/outside"});
    EXPECT_EQ(saved.exit_code, exit_code::kOsError);
    EXPECT_THAT(saved.error, HasSubstr("only be in your home directory"));
}

TEST_F(Program, Monitor_PrintsRates) {
    const Output shown = run({"monitor", "services", "--count", "1", "--interval", "1", "--socket", path_});
    EXPECT_EQ(shown.exit_code, exit_code::kOk) << shown.error;
    EXPECT_THAT(shown.out, HasSubstr("www"));
    const Output as_json = run({"monitor", "services", "--count", "1", "--interval", "1", "--json", "--socket", path_});
    EXPECT_EQ(json::parse(as_json.out)["services"][0]["flows_per_s"], 0.0);
    EXPECT_EQ(run({"monitor", "services", "--socket", path_}).exit_code, exit_code::kUsage);
}

TEST_F(Program, HelpAndVersion_AreNoErrors) {
    const Output help = run({"--help"});
    EXPECT_EQ(help.exit_code, exit_code::kOk);
    EXPECT_THAT(help.out, HasSubstr("show"));
    EXPECT_EQ(run({"--version"}).out, "sallyport " SALLYPORT_VERSION "\n");
}

}  // namespace
}  // namespace sallyport::cli
