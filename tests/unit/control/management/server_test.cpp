#include "control/management/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "control/management/client.h"
#include "crypto/format.h"

namespace sallyport::management {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;

/// Commands of the tests: ["echo"], ["big"] {"octets": N}, ["throw"], ["who"].
Result answer(const Request& request, const Peer& peer) {
    if (request.name() == "echo") return request.arguments;
    if (request.name() == "big") return std::string(request.arguments.at("octets").get<std::size_t>(), 'x');
    if (request.name() == "throw") throw std::runtime_error("out of luck");
    if (request.name() == "who")
        return json{{"uid", peer.uid},
                    {"gid", peer.gid},
                    {"pid", peer.pid},
                    {"groups", peer.groups.size()},
                    {"role", name_of(peer.role)},
                    {"user", peer.user},
                    {"from", peer.from}};
    if (request.name() == "may") return std::unexpected(Error{"forbidden", "you may not"});
    return std::unexpected(Error{"unknown_command", "no"});
}

/// A client that says exactly what it is told.
class RawClient {
 public:
    explicit RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << strerror(errno);
    }
    ~RawClient() { close(fd_); }
    RawClient(const RawClient&) = delete;
    RawClient& operator=(const RawClient&) = delete;

    void say(std::string_view text) {
        EXPECT_EQ(send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    }
    /// False when the sockets are full. A line goes as a whole or not at all, since it is shorter than what is free
    /// then.
    bool try_say(const std::string& text) {
        return send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
    }
    void finish() { shutdown(fd_, SHUT_WR); }
    /// Takes what is there now.
    void take() {
        std::array<char, 65536> buffer;
        for (;;) {
            const ssize_t n = recv(fd_, buffer.data(), buffer.size(), 0);
            if (n == 0 || (n < 0 && errno != EAGAIN)) closed = true;
            if (n <= 0) return;
            received.append(buffer.data(), static_cast<std::size_t>(n));
        }
    }
    std::vector<json> answers() {
        take();
        std::vector<json> list;
        std::size_t at = 0;
        for (std::size_t end; (end = received.find('\n', at)) != std::string::npos; at = end + 1)
            list.push_back(json::parse(received.substr(at, end - at)));
        return list;
    }
    std::string received;
    bool closed = false;

 private:
    int fd_;
};

class ServerTest : public testing::Test {
 protected:
    void SetUp() override {
        directory_ = sallyport::format("/tmp/sallyport_server_test_{}", getpid());
        std::filesystem::create_directories(directory_);
        path_ = directory_ + "/control.sock";
    }
    void TearDown() override {
        server_.reset();
        std::filesystem::remove_all(directory_);
    }
    void start(const Server::Settings& settings = {}) {
        auto server = Server::open(path_, answer, settings);
        ASSERT_TRUE(server) << server.error();
        server_ = std::move(*server);
    }
    void rounds(int n = 8) {
        for (int i = 0; i < n; ++i) server_->poll(0ms);
    }
    /// Runs the server in a thread while `body` uses the blocking client.
    template <typename Body>
    void while_serving(Body body) {
        std::atomic<bool> stop = false;
        std::thread thread([&] {
            while (!stop) server_->poll(5ms);
        });
        body();
        stop = true;
        thread.join();
    }
    std::string directory_, path_;
    std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, Request_IsAnswered) {
    start();
    RawClient client(path_);
    client.say("{\"id\": 7, \"command\": [\"echo\"], \"arguments\": {\"a\": 1}}\n");
    rounds();
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0], json::parse(R"({"version": 1, "id": 7, "ok": true, "result": {"a": 1}})"));
}

TEST_F(ServerTest, RequestInPieces_IsPutTogether) {
    start();
    RawClient client(path_);
    for (const char c : std::string("{\"id\":1,\"command\":[\"echo\"]}\n")) {
        EXPECT_TRUE(client.answers().empty());
        client.say({&c, 1});
        rounds(2);
    }
    EXPECT_EQ(client.answers().size(), 1u);
}

TEST_F(ServerTest, SeveralRequestsAtOnce_AreAnsweredInOrder) {
    start();
    RawClient client(path_);
    std::string text;
    for (int i = 0; i < 20; ++i) text += sallyport::format("{{\"id\":{},\"command\":[\"echo\"]}}\n", i);
    client.say(text);
    client.finish();
    rounds(64);
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), 20u);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(answers[static_cast<std::size_t>(i)]["id"], i);
    EXPECT_TRUE(client.closed);
    EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(ServerTest, NonsenseLine_IsAnsweredAndTheConnectionGoesOn) {
    start();
    RawClient client(path_);
    client.say("nonsense\n{\"id\":2,\"command\":[\"echo\"]}\n");
    rounds();
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), 2u);
    EXPECT_EQ(answers[0]["error"]["code"], "bad_request");
    EXPECT_EQ(answers[1]["ok"], true);
}

TEST_F(ServerTest, LineBeyondTheBound_IsRefusedAndTheConnectionClosed) {
    start();
    RawClient client(path_);
    for (std::size_t sent = 0; sent < kMaxRequest; sent += 8192) {
        client.say(std::string(8192, 'x'));
        rounds(4);
    }
    rounds();
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0]["error"]["code"], "too_long");
    EXPECT_TRUE(client.closed);
    EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(ServerTest, HandlerThatThrows_IsAnInternalError) {
    start();
    RawClient client(path_);
    client.say("{\"id\":1,\"command\":[\"throw\"]}\n");
    rounds();
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0]["error"], json::parse(R"({"code": "internal", "text": "out of luck"})"));
}

TEST_F(ServerTest, Handler_IsToldWhoAsks) {
    start();
    RawClient client(path_);
    client.say("{\"command\":[\"who\"],\"from\":\"ssh 192.0.2.7\"}\n{\"command\":[\"who\"]}\n");
    rounds();
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), 2u);
    json who{{"uid", getuid()},         {"gid", getgid()},
             {"pid", getpid()},         {"groups", getgroups(0, nullptr)},
             {"role", "administrator"}, {"user", user_name(getuid())},
             {"from", "ssh 192.0.2.7"}};
    EXPECT_EQ(answers[0]["result"], who);
    who["from"] = "";  // it belongs to one request
    EXPECT_EQ(answers[1]["result"], who);
}

TEST_F(ServerTest, Role_IsAskedForWithEachRequest) {
    Role role = Role::read_only;
    start({.role_of = [&](const Peer&) { return role; }});
    RawClient client(path_);
    const auto role_now = [&] {
        client.say("{\"command\":[\"who\"]}\n");
        rounds();
        return client.answers().back()["result"]["role"];
    };
    EXPECT_EQ(role_now(), "read-only");
    role = Role::operator_;
    EXPECT_EQ(role_now(), "operator");
}

TEST_F(ServerTest, WhoHasNoRole_IsAnsweredOnceAndTakesNobodysPlace) {
    Role role = Role::none;
    start({.max_clients = 8, .role_of = [&](const Peer&) { return role; }});
    std::vector<std::unique_ptr<RawClient>> strangers;
    for (int i = 0; i < 5; ++i) strangers.push_back(std::make_unique<RawClient>(path_));
    rounds();
    EXPECT_EQ(server_->clients(), 4u);
    EXPECT_EQ(strangers[4]->answers().at(0)["error"]["code"], "busy");
    strangers[0]->say("{\"command\":[\"who\"]}\n{\"command\":[\"who\"]}\n");
    rounds();
    EXPECT_EQ(strangers[0]->answers().size(), 1u);
    EXPECT_TRUE(strangers[0]->closed);
    EXPECT_EQ(server_->clients(), 3u);
    role = Role::read_only;
    RawClient reader(path_);
    rounds();
    EXPECT_EQ(server_->clients(), 4u);
}

TEST_F(ServerTest, Sessions_TellWhoIsConnectedAndWhatForHowLong) {
    start();
    EXPECT_TRUE(server_->sessions().empty());
    RawClient first(path_), second(path_);
    first.say("{\"command\":[\"who\"],\"from\":\"ssh 192.0.2.7\"}\n{\"command\":[\"echo\"],\"from\":\"tty\"}\n");
    rounds();
    const auto sessions = server_->sessions();
    ASSERT_EQ(sessions.size(), 2u);
    EXPECT_EQ(sessions[0].commands, 2u);
    EXPECT_EQ(sessions[0].last_command, "echo");
    EXPECT_EQ(sessions[0].peer.from, "tty");
    EXPECT_EQ(sessions[0].peer.pid, getpid());
    EXPECT_EQ(sessions[1].commands, 0u);
}

TEST_F(ServerTest, OneUser_CannotTakeAllPlacesAndAnAdministratorFindsOne) {
    Role role = Role::read_only;
    start({.max_clients = 4, .reserved_clients = 1, .max_clients_of_user = 3, .role_of = [&](const Peer&) {
               return role;
           }});
    std::vector<std::unique_ptr<RawClient>> clients;
    const auto connect = [&] {
        clients.push_back(std::make_unique<RawClient>(path_));
        rounds();
        return clients.back()->answers().empty();
    };
    EXPECT_TRUE(connect() && connect() && connect());
    EXPECT_FALSE(connect());
    role = Role::administrator;
    EXPECT_TRUE(connect());
    EXPECT_TRUE(connect());  // the reserved one
    EXPECT_FALSE(connect());
}

TEST_F(ServerTest, ClientThatTakesNothing_HoldsUpNobodyAndIsNotReadFurther) {
    start();
    RawClient slow(path_), quick(path_);
    slow.say("{\"id\":1,\"command\":[\"big\"],\"arguments\":{\"octets\":8000000}}\n");
    rounds();
    const std::size_t unsent = server_->unsent();
    EXPECT_GT(unsent, 6'000'000u);
    // It asks on: not read while its answer waits.
    slow.say("{\"id\":2,\"command\":[\"big\"],\"arguments\":{\"octets\":8000000}}\n");
    for (int i = 0; i < 3; ++i) {
        quick.say("{\"id\":1,\"command\":[\"echo\"]}\n");
        rounds();
        EXPECT_EQ(quick.answers().size(), static_cast<std::size_t>(i) + 1);
    }
    EXPECT_EQ(server_->unsent(), unsent);
    // It takes at last: whole answers, in order.
    for (int i = 0; i < 100'000 && slow.received.size() < 16'000'000; ++i) {
        slow.take();
        rounds(1);
    }
    rounds();
    const auto answers = slow.answers();
    ASSERT_EQ(answers.size(), 2u);
    EXPECT_EQ(answers[1]["result"].get_ref<const std::string&>().size(), 8'000'000u);
    EXPECT_EQ(server_->unsent(), 0u);
}

TEST_F(ServerTest, ClientThatAsksWithoutTaking_IsHeldBackAndLosesNothing) {
    start();
    RawClient client(path_);
    client.say("{\"id\":1,\"command\":[\"big\"],\"arguments\":{\"octets\":8000000}}\n");
    rounds();
    // As much as the sockets take.
    std::size_t asked = 1, octets = 0;
    for (std::string line;
         client.try_say(line = sallyport::format("{{\"id\":{},\"command\":[\"echo\"],\"arguments\":{{\"p\":\"{}\"}}}}\n",
                                                 asked + 1, std::string(1000, 'p')));
         ++asked) {
        octets += line.size();
        rounds(1);
        ASSERT_LT(octets, 64'000'000u) << "the server reads on and on";
    }
    ASSERT_GT(octets, 50'000u);
    client.finish();
    for (int i = 0; i < 1'000'000 && !client.closed; ++i) {
        client.take();
        rounds(1);
    }
    const auto answers = client.answers();
    ASSERT_EQ(answers.size(), asked);
    EXPECT_EQ(answers.back()["id"], asked);
    EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(ServerTest, AnswersBeyondTheBounds_AreErrors) {
    start({.max_answer = 1'000'000, .max_unsent = 100'000});
    RawClient client(path_);
    client.say("{\"id\":1,\"command\":[\"big\"],\"arguments\":{\"octets\":1000000}}\n");
    rounds();
    ASSERT_EQ(client.answers().size(), 1u);
    EXPECT_EQ(client.answers()[0]["error"]["code"], "too_big");
    RawClient slow(path_);
    slow.say("{\"id\":1,\"command\":[\"big\"],\"arguments\":{\"octets\":900000}}\n");
    rounds();
    ASSERT_GT(server_->unsent(), 100'000u);
    client.say("{\"id\":2,\"command\":[\"echo\"]}\n");
    rounds();
    ASSERT_EQ(client.answers().size(), 2u);
    EXPECT_EQ(client.answers()[1]["error"]["code"], "busy");
}

TEST_F(ServerTest, ClientThatVanishes_IsForgotten) {
    start();
    {
        RawClient idle(path_), waiting(path_), half(path_);
        half.say("{\"id\":1,");
        waiting.say("{\"id\":1,\"command\":[\"big\"],\"arguments\":{\"octets\":8000000}}\n");
        rounds();
        EXPECT_EQ(server_->clients(), 3u);
    }
    rounds();
    EXPECT_EQ(server_->clients(), 0u);
    EXPECT_EQ(server_->unsent(), 0u);
}

TEST_F(ServerTest, TooManyClients_AreToldSo) {
    start({.max_clients = 2, .reserved_clients = 0});
    RawClient first(path_), second(path_);
    rounds();
    RawClient third(path_);
    rounds();
    const auto answers = third.answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0]["error"]["code"], "busy");
    EXPECT_TRUE(third.closed);
    EXPECT_EQ(server_->clients(), 2u);
}

TEST_F(ServerTest, IdleClient_IsClosed) {
    start({.idle_timeout = 0ms});
    RawClient client(path_);
    rounds();
    client.take();
    EXPECT_TRUE(client.closed);
    EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(ServerTest, Fd_IsReadableWhenThereIsWork) {
    start();
    pollfd waited{.fd = server_->fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&waited, 1, 0), 0);
    RawClient client(path_);
    EXPECT_EQ(::poll(&waited, 1, 0), 1);
    rounds();
    EXPECT_EQ(::poll(&waited, 1, 0), 0);
}

TEST_F(ServerTest, NoDescriptorLeft_DoesNotSpinAndRecovers) {
    start();
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    RawClient client(path_);
    const int next = dup(0);
    close(next);
    const rlimit tight{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    rounds();
    EXPECT_EQ(server_->clients(), 0u);
    pollfd waited{.fd = server_->fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&waited, 1, 0), 0);  // paused, although a client waits
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < 60 && server_->clients() == 0; ++i) server_->poll(1000ms);
    EXPECT_EQ(server_->clients(), 1u);
}

TEST_F(ServerTest, SocketFile_HasItsModeAndOwner) {
    const mode_t before = umask(0077);
    start(getuid() == 0 ? Server::Settings{.owner = 65534, .group = 65534} : Server::Settings{});
    umask(before);
    struct stat status{};
    ASSERT_EQ(lstat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0666u);
    EXPECT_EQ(status.st_gid, getuid() == 0 ? 65534 : getgid());
}

TEST_F(ServerTest, Destruction_RemovesTheSocketFileUnlessItIsAnothers) {
    start();
    server_.reset();
    EXPECT_FALSE(std::filesystem::exists(path_));
    start();
    std::filesystem::remove(path_);
    std::ofstream(path_) << "x";
    server_.reset();
    EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ServerTest, StaleSocketFile_IsReplaced) {
    {
        const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        close(fd);
    }
    ASSERT_TRUE(std::filesystem::is_socket(path_));
    start();
    RawClient client(path_);
    client.say("{\"command\":[\"echo\"]}\n");
    rounds();
    EXPECT_EQ(client.answers().size(), 1u);
}

TEST_F(ServerTest, LiveSocket_IsAnError) {
    start();
    const auto second = Server::open(path_, answer);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error(),
              sallyport::format("management socket {}: another process serves it; is control running already?", path_));
    EXPECT_TRUE(std::filesystem::is_socket(path_));
}

TEST_F(ServerTest, ImpossiblePaths_AreNamed) {
    std::ofstream(path_) << "precious";
    EXPECT_THAT(Server::open(path_, answer).error(), HasSubstr("is there and is not a socket"));
    EXPECT_EQ(std::filesystem::file_size(path_), 8u);
    EXPECT_THAT(Server::open("/tmp/" + std::string(200, 'x'), answer).error(), HasSubstr("1 to 107 octets"));
    EXPECT_THAT(Server::open(directory_ + "/none/control.sock", answer).error(),
                HasSubstr("No such file or directory"));
}

// ---- the client class against the server ----

TEST_F(ServerTest, Client_CallsAndGetsResultsAndErrors) {
    start();
    while_serving([&] {
        auto client = Client::connect(path_, 60s);
        ASSERT_TRUE(client);
        EXPECT_EQ(client->call({"echo"}, {{"a", 1}}).value(), json({{"a", 1}}));
        const auto big = client->call({"big"}, {{"octets", 5'000'000}});
        ASSERT_TRUE(big);
        EXPECT_EQ(big->get_ref<const std::string&>().size(), 5'000'000u);
        const auto refused = client->call({"nothing"});
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().kind, CallError::Kind::refused);
        EXPECT_EQ(refused.error().code, "unknown_command");
        const auto forbidden = client->call({"may"});
        ASSERT_FALSE(forbidden);
        EXPECT_EQ(forbidden.error().kind, CallError::Kind::forbidden);
        client->say_from("ssh\x1b \xff" + std::string(200, 'x'));
        EXPECT_EQ(client->call({"who"}).value()["from"], "ssh " + std::string(kMaxFromLength - 4, 'x'));
    });
}

TEST_F(ServerTest, Client_WithoutAServer_SaysThatControlIsAway) {
    const auto client = Client::connect(path_, 1s);
    ASSERT_FALSE(client);
    EXPECT_EQ(client.error().kind, CallError::Kind::away);
    EXPECT_EQ(client.error().text, sallyport::format("control is not running ({}: No such file or directory)", path_));
}

TEST_F(ServerTest, Client_ServerThatDoesNotAnswer_TimesOut) {
    start();  // nobody calls poll()
    auto client = Client::connect(path_, 20ms);
    ASSERT_TRUE(client);
    const auto result = client->call({"echo"});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, CallError::Kind::timed_out);
    EXPECT_THAT(result.error().text, HasSubstr("within 20 ms"));
}

TEST_F(ServerTest, Client_ServerThatEnds_IsBroken) {
    start();
    auto client = Client::connect(path_, 60s);
    ASSERT_TRUE(client);
    rounds();
    server_.reset();
    const auto result = client->call({"echo"});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, CallError::Kind::broken);
}

TEST_F(ServerTest, Client_OneTooMany_HearsThatControlIsBusy) {
    start({.max_clients = 0, .reserved_clients = 0});
    while_serving([&] {
        auto client = Client::connect(path_, 60s);
        ASSERT_TRUE(client);
        const auto result = client->call({"echo"});
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().kind, CallError::Kind::refused);
        EXPECT_EQ(result.error().code, "busy");
    });
}

}  // namespace
}  // namespace sallyport::management
