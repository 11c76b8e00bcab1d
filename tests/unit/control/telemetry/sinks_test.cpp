#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>

#include "control/telemetry/file_sink.h"
#include "control/telemetry/flow_log.h"
#include "control/telemetry/syslog_sink.h"
#include "control/telemetry/tls.h"
#include "tests/certificates.h"

namespace sallyport::telemetry {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

Entry entry(const std::string& text) { return {.time = std::chrono::system_clock::time_point(1'800'000'000s), .text = text}; }

/// Waits for a condition of another thread, so long that no machine is too slow.
bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000; ++i) {
        if (condition()) return true;
        std::this_thread::sleep_for(10ms);
    }
    return false;
}

std::string contents(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

/// A sink that writes nothing until it may.
class GatedSink final : public Sink {
 public:
    GatedSink(std::shared_ptr<SinkCounts> counts, std::size_t queue) : Sink(std::move(counts), queue) { start("gated"); }
    ~GatedSink() override {
        open = true;
        stop(10s);
    }
    std::atomic<bool> open{false};

 private:
    void run() override {
        while (!ending()) {
            if (!open) {
                std::this_thread::sleep_for(1ms);
                continue;
            }
            wait(Clock::now() + 100ms);
            counts().written += take(16).size();
        }
    }
};

TEST(Sink, FullQueue_ShedsTheNewest_AndCountsThem) {
    const auto counts = std::make_shared<SinkCounts>();
    {
        GatedSink sink(counts, 100);
        for (int i = 0; i < 250; ++i) sink.offer(entry("x"));
        EXPECT_EQ(counts->shed, 150u);
        EXPECT_EQ(sink.waiting(), 100u);
        sink.open = true;
    }
    EXPECT_EQ(counts->written, 100u);
    EXPECT_EQ(counts->lost, 0u);
}

TEST(Sink, ManyThreads_EveryRecordIsWrittenOrShed) {
    const auto counts = std::make_shared<SinkCounts>();
    {
        GatedSink sink(counts, 1000);
        sink.open = true;
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&] {
                for (int i = 0; i < 5000; ++i) sink.offer(entry("x"));
            });
    }
    EXPECT_EQ(counts->written + counts->shed, 20000u);
}

TEST(FileSink, WritesLines_InOrder) {
    const test::TemporaryDirectory directory;
    const auto counts = std::make_shared<SinkCounts>();
    {
        FileSink sink(counts, {directory.path() / "flows.jsonl"});
        for (int i = 0; i < 500; ++i) sink.offer(entry(std::to_string(i)));
    }
    EXPECT_EQ(counts->written, 500u);
    std::string expected;
    for (int i = 0; i < 500; ++i) expected += std::to_string(i) + "\n";
    EXPECT_EQ(contents(directory.path() / "flows.jsonl"), expected);
    struct stat status{};
    ASSERT_EQ(stat((directory.path() / "flows.jsonl").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0007, 0u);
}

TEST(FileSink, RotatesBySize_KeepsSoManyAndNoMore_LosesNothingBetween) {
    const test::TemporaryDirectory directory;
    const auto file = directory.path() / "flows.jsonl";
    const auto counts = std::make_shared<SinkCounts>();
    {
        FileSink sink(counts, {.file = file, .max_octets = 1000, .files = 2});
        for (int i = 0; i < 5; ++i) {   // each more than the size: a file of its own
            sink.offer(entry(std::to_string(i) + std::string(1500, '.')));
            const auto written = static_cast<std::uint64_t>(i + 1);
            ASSERT_TRUE(wait_for([&] { return counts->written == written && !std::filesystem::exists(file); }));
        }
    }
    EXPECT_TRUE(contents(file.string() + ".1").starts_with("4"));
    EXPECT_TRUE(contents(file.string() + ".2").starts_with("3"));
    EXPECT_FALSE(std::filesystem::exists(file.string() + ".3"));
}

TEST(FileSink, FileThatCannotBeMade_LosesAndSaysSo_ThenGoesOn) {
    const test::TemporaryDirectory directory;
    const auto counts = std::make_shared<SinkCounts>();
    FileSink sink(counts, {directory.path() / "not-yet" / "flows.jsonl"});
    sink.offer(entry("lost"));
    ASSERT_TRUE(wait_for([&] { return counts->lost == 1; }));
    EXPECT_THAT(sink.trouble(), HasSubstr("cannot be opened"));
    std::filesystem::create_directory(directory.path() / "not-yet");
    ASSERT_TRUE(wait_for([&] {
        sink.offer(entry("kept"));
        return counts->written != 0;
    }));
    EXPECT_EQ(sink.trouble(), "");
}

TEST(Syslog, Message_IsRfc5424s) {
    Entry alarm = entry("{}");
    alarm.kind = "alarm";
    alarm.severity = 3;
    EXPECT_EQ(syslog_message(alarm, "box", 42), "<131>1 2027-01-15T08:00:00.000Z box sallyport 42 alarm - {}");
    EXPECT_THAT(syslog_message(alarm, "", 1), HasSubstr("Z - sallyport"));
    EXPECT_THAT(syslog_message(alarm, "a b\n\xff", 1), HasSubstr("Z ab sallyport"));   // PRINTUSASCII
}

TEST(Syslog, Frame_CountsOctets) {
    EXPECT_EQ(syslog_frame("abc"), "3 abc");
    EXPECT_EQ(syslog_frame("\xc3\xa9\n"), "3 \xc3\xa9\n");   // octets, not characters; LF is no end
}

/// A receiver that takes one connection and keeps what it is sent until it is closed.
class Receiver {
 public:
    explicit Receiver(const test::Identity& identity) : context_(SSL_CTX_new(TLS_server_method())) {
        SSL_CTX_use_certificate(context_.get(), identity.certificate.get());
        SSL_CTX_use_PrivateKey(context_.get(), identity.key.get());
        listener_ = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
        listen(listener_, 4);
        socklen_t size = sizeof address;
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port = ntohs(address.sin_port);
    }
    ~Receiver() { close(listener_); }
    std::string receive_one_connection() {
        const int socket = accept(listener_, nullptr, nullptr);
        openssl::Connection ssl(SSL_new(context_.get()));
        SSL_set_fd(ssl.get(), socket);
        std::string all;
        char octets[4096];
        if (SSL_accept(ssl.get()) == 1)
            for (int n; (n = SSL_read(ssl.get(), octets, sizeof octets)) > 0;) all.append(octets, static_cast<std::size_t>(n));
        close(socket);
        return all;
    }
    /// Finishes the handshake, reads nothing, and when `go` is ready ends the connection with a reset.
    void take_nothing_then_reset(const std::future<void>& go) {
        const int small = 4096;
        setsockopt(listener_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);   // connections inherit it
        const int socket = accept(listener_, nullptr, nullptr);
        openssl::Connection ssl(SSL_new(context_.get()));
        SSL_set_fd(ssl.get(), socket);
        EXPECT_EQ(SSL_accept(ssl.get()), 1);
        go.wait();
        const linger at_once{1, 0};
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(socket);
    }
    std::uint16_t port = 0;

 private:
    openssl::Context context_;
    int listener_ = -1;
};

/// Undoes octet counting.
std::vector<std::string> messages(std::string_view stream) {
    std::vector<std::string> result;
    while (!stream.empty()) {
        const auto space = stream.find(' ');
        const auto length = static_cast<std::size_t>(std::stoul(std::string(stream.substr(0, space))));
        result.emplace_back(stream.substr(space + 1, length));
        stream.remove_prefix(space + 1 + length);
    }
    return result;
}

class SyslogReceiver : public testing::Test {
 protected:
    SyslogReceiver() {
        std::signal(SIGPIPE, SIG_IGN);   // as both programs do
        settings_.server_name = "log.internal";
        settings_.anchors = {std::shared_ptr<X509>(openssl::share(ca_.certificate.get()).release(), X509_free)};
        settings_.trust = {"ca.pem"};
    }
    std::unique_ptr<SyslogSink> sink(std::uint16_t port) {
        return std::make_unique<SyslogSink>(counts_, SyslogSink::Settings{*SocketAddress::parse("127.0.0.1:" + std::to_string(port)), settings_.server_name, 16384},
                                            client_context(settings_, 2));
    }
    const test::Identity ca_ = test::make_ca("Log CA");
    configuration::Syslog settings_;
    std::shared_ptr<SinkCounts> counts_ = std::make_shared<SinkCounts>();
};

TEST_F(SyslogReceiver, GetsEveryRecordOnce_InOrder) {
    Receiver receiver(test::make_leaf({"log.internal"}, ca_));
    auto received = std::async(std::launch::async, [&] { return receiver.receive_one_connection(); });
    auto sender = sink(receiver.port);
    for (int i = 0; i < 3000; ++i) sender->offer(entry("{\"n\":" + std::to_string(i) + "}"));
    ASSERT_TRUE(wait_for([&] { return counts_->written == 3000; }));
    sender.reset();
    const auto got = messages(received.get());
    ASSERT_EQ(got.size(), 3000u);
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_TRUE(got[i].ends_with(" flow - {\"n\":" + std::to_string(i) + "}")) << got[i];
}

TEST_F(SyslogReceiver, ThatBreaksOff_WhatItsTcpNeverTookIsLost) {
    constexpr std::uint64_t kRecords = 200;
    Receiver receiver(test::make_leaf({"log.internal"}, ca_));
    std::promise<void> go;
    auto done = std::async(std::launch::async, [&, ready = go.get_future()] { receiver.take_nothing_then_reset(ready); });
    auto sender = sink(receiver.port);
    for (std::uint64_t i = 0; i < kRecords; ++i) sender->offer(entry(std::string(1000, 'x')));
    // Our TCP takes it all, 200 KB; batches follow one another, so all but the last have been given to it then.
    ASSERT_TRUE(wait_for([&] { return sender->waiting() == 0; }));
    go.set_value();
    done.get();
    ASSERT_TRUE(wait_for([&] { return !sender->trouble().empty(); }));
    sender.reset();
    EXPECT_EQ(counts_->written + counts_->lost + counts_->shed, kRecords);
    EXPECT_LE(counts_->written, 64u);   // a receive buffer of some 8 KB
}

TEST_F(SyslogReceiver, OfAnotherName_IsNotTrusted) {
    Receiver receiver(test::make_leaf({"other.internal"}, ca_));
    auto received = std::async(std::launch::async, [&] { return receiver.receive_one_connection(); });
    auto sender = sink(receiver.port);
    sender->offer(entry("secret"));
    ASSERT_TRUE(wait_for([&] { return !sender->trouble().empty(); }));
    EXPECT_THAT(sender->trouble(), HasSubstr("hostname mismatch"));
    EXPECT_EQ(received.get(), "");
}

TEST_F(SyslogReceiver, OfAnotherAuthority_IsNotTrusted) {
    Receiver receiver(test::make_leaf({"log.internal"}, test::make_ca("Other")));
    auto received = std::async(std::launch::async, [&] { return receiver.receive_one_connection(); });
    auto sender = sink(receiver.port);
    sender->offer(entry("secret"));
    ASSERT_TRUE(wait_for([&] { return !sender->trouble().empty(); }));
    EXPECT_THAT(sender->trouble(), HasSubstr("could not be verified"));
    EXPECT_EQ(received.get(), "");
}

TEST_F(SyslogReceiver, ThatIsAway_IsTriedAgain_AndNobodyWaits) {
    std::uint16_t port = 0;
    { port = Receiver(ca_).port; }   // nobody listens there now
    const auto begin = std::chrono::steady_clock::now();
    {
        auto sender = sink(port);
        ASSERT_TRUE(wait_for([&] { return !sender->trouble().empty(); }));
        for (int i = 0; i < 20000; ++i) sender->offer(entry("x"));
        EXPECT_EQ(counts_->shed, 20000u - 16384u);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
    EXPECT_EQ(counts_->lost + counts_->shed, 20000u);
}

TEST(FlowLog, Off_TakesNothing_FileOn_WritesIt_OffAgain_StillWrites) {
    const test::TemporaryDirectory directory;
    FlowLog log;
    EXPECT_FALSE(log.on());
    configuration::FlowLog settings;
    settings.file = directory.path() / "flows.jsonl";
    log.configure(settings, 2);
    EXPECT_TRUE(log.on());
    FlowRecord record;
    record.id = "a";
    for (int i = 0; i < 1000; ++i) log.add(record);
    log.configure({}, 2);
    EXPECT_FALSE(log.on());
    EXPECT_TRUE(wait_for([&] {
        const std::string text = contents(settings.file);
        return std::ranges::count(text, '\n') == 1000;
    }));
}

}  // namespace
}  // namespace sallyport::telemetry
