// Many TLS connections to an echo, sink or source, each octet checked.
//
//     lab_client --connect 192.0.2.1:4433 --ca ca.pem --name www.example.com --connections 1000 --octets 100000
//
// Prints one JSON object; exit code 0 when every connection did all of its work.

#include <openssl/err.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <iostream>
#include <map>

#include "tests/lab/tls_peer.h"

namespace sallyport::lab {
namespace {

struct Options {
    std::string connect, ca, server_name, alpn;
    std::vector<std::string> settings;
    std::uint64_t connections = 1;
    std::uint64_t concurrent = 0;          // 0: all
    std::uint64_t opening = 0;             // of those, in their handshake; 0: all
    std::uint64_t octets = 1000;           // sent by each connection, or by each message with an interval
    std::size_t write_size = 16384;
    std::uint64_t key_update_every = 0;
    bool together = false;                 // nobody sends before all have shaken hands
    bool close_first = false;              // close_notify right after the last octet, before the answers are in
    bool no_close = false;                 // reset instead of an orderly end
    bool reset_on_exit = false;            // a killed client's kernel resets, in place of sending on what is left
    bool fin_is_end = false;               // a FIN without close_notify ends in order too (nginx's stream sends no close_notify)
    std::size_t read_rate = 0;             // octets every 10 ms
    std::size_t write_rate = 0;
    int receive_buffer = 0;
    unsigned interval_ms = 0, duration_ms = 0, hold_ms = 0, timeout_ms = 120000;
    std::string expect = "echo";           // echo, digest, none, or a number of octets from a source
};

struct DigestFree {
    void operator()(EVP_MD_CTX* digest) const { EVP_MD_CTX_free(digest); }
};

class Client;

class Session {
 public:
    Session(Client& client, int socket, SSL* ssl, std::uint64_t number);
    void ready();
    void tick(Clock::time_point now);
    [[nodiscard]] int socket() const { return connection_.socket(); }
    [[nodiscard]] bool shaken() const { return shaken_; }

 private:
    bool send();
    bool receive();
    void settle(const std::string& failure);
    [[nodiscard]] bool all_sent() const { return sent_ == target_; }
    [[nodiscard]] bool all_received() const;
    [[nodiscard]] std::string wanted_answer();

    Client& client_;
    Connection connection_;
    std::uint64_t number_, target_ = 0, sent_ = 0, received_ = 0, since_update_ = 0, updates_ = 0;
    std::size_t read_allowance_ = 0, write_allowance_ = 0;
    std::string answer_;
    std::unique_ptr<EVP_MD_CTX, DigestFree> digest_;
    Clock::time_point begun_, last_message_, hold_until_;
    bool shaken_ = false, settled_ = false, over_ = false;
};

class Client {
 public:
    explicit Client(Options given);
    ~Client() { SSL_CTX_free(context_); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    int run();
    const Options options;
    Loop loop;
    std::uint64_t source_octets = 0;
    bool expect_source = false;

    void shaken() { ++shaken_, --shaking_; }
    [[nodiscard]] bool may_send() const { return !options.together || shaken_ + done_ >= options.connections; }
    void settle(Session& session, const std::string& failure, std::uint64_t octets, const std::string& answer);
    void pause(double ms) { longest_pause_ms_ = std::max(longest_pause_ms_, ms); }
    void note(SSL* ssl);

 private:
    bool open_one();
    SSL_CTX* context_;
    SocketAddress address_;
    std::map<int, std::unique_ptr<Session>> sessions_;
    std::vector<std::unique_ptr<Session>> ended_;
    std::map<std::string, std::uint64_t> failures_;
    std::map<std::string, std::uint64_t> negotiated_;
    std::vector<std::string> answers_;
    std::uint64_t opened_ = 0, shaken_ = 0, shaking_ = 0, done_ = 0, ok_ = 0, octets_ = 0;
    double longest_pause_ms_ = 0;
};

Session::Session(Client& client, int socket, SSL* ssl, std::uint64_t number)
    : client_(client), connection_(socket, ssl, false), number_(number), begun_(Clock::now()) {
    if (client_.options.interval_ms == 0) target_ = client_.options.octets;
    if (client_.options.expect == "digest") {
        digest_.reset(EVP_MD_CTX_new());
        EVP_DigestInit_ex2(digest_.get(), EVP_sha256(), nullptr);
    }
}

/// What a sink answers to the octets that were sent.
std::string Session::wanted_answer() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
    unsigned length = 0;
    EVP_DigestFinal_ex(digest_.get(), hash.data(), &length);
    std::string text = std::to_string(sent_) + " ";
    for (unsigned i = 0; i < length; ++i) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        text += kDigits[hash[i] >> 4];
        text += kDigits[hash[i] & 15];
    }
    return text + "\n";
}

bool Session::all_received() const {
    if (client_.options.expect == "none") return true;
    if (client_.options.expect == "digest") return answer_.ends_with('\n');
    return received_ >= (client_.expect_source ? client_.source_octets : sent_);
}

bool Session::send() {
    static std::array<std::byte, 65536> buffer;
    const Options& options = client_.options;
    if (all_sent()) return false;
    if (options.key_update_every != 0 && since_update_ >= options.key_update_every) {
        connection_.update_key(updates_++ % 2 == 1);
        since_update_ = 0;
    }
    std::size_t size = static_cast<std::size_t>(
        std::min<std::uint64_t>({options.write_size, target_ - sent_, buffer.size()}));
    if (options.write_rate != 0) size = std::min(size, write_allowance_);
    if (size == 0) return false;
    fill_pattern(number_, sent_, std::span(buffer).first(size));
    const std::size_t written = connection_.write(std::span(buffer).first(size));
    if (digest_) EVP_DigestUpdate(digest_.get(), buffer.data(), written);
    sent_ += written;
    since_update_ += written;
    if (options.write_rate != 0) write_allowance_ -= written;
    return written != 0;
}

bool Session::receive() {
    static std::array<std::byte, 65536> buffer, wanted;
    const Options& options = client_.options;
    std::size_t size = buffer.size();
    if (options.read_rate != 0) size = std::min(size, read_allowance_);
    if (size == 0) return false;
    const std::size_t got = connection_.read(std::span(buffer).first(size));
    if (got == 0) return false;
    if (options.read_rate != 0) read_allowance_ -= got;
    if (options.expect == "digest") {
        answer_.append(reinterpret_cast<const char*>(buffer.data()), got);
    } else if (options.expect != "none") {
        fill_pattern(client_.expect_source ? 1 : number_, received_, std::span(wanted).first(got));
        if (std::memcmp(buffer.data(), wanted.data(), got) != 0) {
            settle("octets differ");
            return false;
        }
    }
    received_ += got;
    if (options.expect == "echo" && received_ > sent_) settle("more octets than were sent");
    return !settled_;
}

void Session::ready() {
    if (settled_) return;
    const Options& options = client_.options;
    if (!shaken_) {
        if (!connection_.handshake()) {
            if (connection_.peer_ended() != Ended::no)
                settle(std::string("handshake: ") + name(connection_.peer_ended()) + ": " + connection_.error());
            return;
        }
        shaken_ = true;
        last_message_ = Clock::now();
        client_.note(connection_.ssl());
        client_.shaken();
        hold_until_ = last_message_ + std::chrono::milliseconds(options.hold_ms);
    }
    if (!client_.may_send()) return;
    for (int turns = 0; turns < 64; ++turns) {
        bool moved = send();
        moved = receive() || moved;
        if (settled_) return;
        Ended ended = connection_.peer_ended();
        if (ended == Ended::fin && options.fin_is_end) ended = Ended::close_notify;
        if (ended == Ended::reset || ended == Ended::failed || ended == Ended::fin)
            return settle(std::string(name(ended)) + ": " + connection_.error());
        if (moved) continue;
        const bool more_to_come = options.interval_ms != 0 && !over_;
        if (more_to_come) {
            if (ended == Ended::close_notify) return settle("closed early");
            return;
        }
        const bool may_close = all_sent() && (options.close_first || options.expect == "digest" || all_received());
        if (may_close && Clock::now() >= hold_until_) {
            if (options.no_close) {
                connection_.reset();
                return settle("");
            }
            if (!connection_.end_writing()) return;
        }
        if (ended == Ended::close_notify) {
            if (connection_.writing_ended() && all_sent() && all_received())
                return settle(digest_ && answer_ != wanted_answer() ? "the digests differ" : "");
            // Who writes slowly goes on when the other side has ended its direction.
            if (!all_received() || (!all_sent() && options.write_rate == 0)) return settle("closed early");
        }
        return;
    }
    client_.loop.again(connection_.socket());
}

void Session::tick(Clock::time_point now) {
    const Options& options = client_.options;
    if (settled_) return;
    if (now - begun_ > std::chrono::milliseconds(options.timeout_ms + options.duration_ms + options.hold_ms))
        return settle(shaken_ ? "time-out" : "time-out in the handshake");
    read_allowance_ = std::min(read_allowance_ + options.read_rate, std::size_t{1} << 20);
    write_allowance_ = std::min(write_allowance_ + options.write_rate, std::size_t{1} << 20);
    if (shaken_ && options.interval_ms != 0 && client_.may_send()) {
        over_ = now - begun_ > std::chrono::milliseconds(options.duration_ms);
        if (all_sent() && all_received() && !over_ && now - last_message_ >= std::chrono::milliseconds(options.interval_ms)) {
            target_ += options.octets;
            last_message_ = now;
        } else if (!all_received()) {
            client_.pause(std::chrono::duration<double, std::milli>(now - last_message_).count());
        }
    }
    ready();
}

void Session::settle(const std::string& failure) {
    if (settled_) return;
    settled_ = true;
    client_.settle(*this, failure, sent_ + received_, answer_);
}

Client::Client(Options given) : options(std::move(given)), context_(SSL_CTX_new(TLS_client_method())) {
    const auto address = SocketAddress::parse(options.connect);
    if (!address) throw std::invalid_argument(options.connect + ": " + address.error());
    address_ = *address;
    if (SSL_CTX_load_verify_file(context_, options.ca.c_str()) != 1) throw std::runtime_error(options.ca + ": " + take_errors());
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    configure(context_, options.settings);
    if (!options.alpn.empty()) {
        const std::string list = static_cast<char>(options.alpn.size()) + options.alpn;
        SSL_CTX_set_alpn_protos(context_, reinterpret_cast<const unsigned char*>(list.data()), static_cast<unsigned>(list.size()));
    }
    if (options.expect != "echo" && options.expect != "digest" && options.expect != "none") {
        source_octets = std::stoull(options.expect);
        expect_source = true;
    }
}

void Client::note(SSL* ssl) {
    const int group = static_cast<int>(SSL_get_negotiated_group(ssl));
    const char* group_name = SSL_group_to_name(ssl, group);
    ++negotiated_[std::string(SSL_get_version(ssl)) + " " + SSL_get_cipher_name(ssl) + " " + (group_name == nullptr ? "?" : group_name)];
}

bool Client::open_one() {
    const std::uint64_t number = opened_++;
    const int socket = connect_to(address_, options.receive_buffer);
    if (socket < 0) {
        ++failures_[std::string("connect: ") + std::strerror(errno)];
        ++done_;
        return false;
    }
    if (options.reset_on_exit) {
        const linger now{1, 0};
        ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    SSL* ssl = SSL_new(context_);
    SSL_set_tlsext_host_name(ssl, options.server_name.c_str());
    SSL_set1_dnsname(ssl, options.server_name.c_str());
    auto session = std::make_unique<Session>(*this, socket, ssl, number);
    Session* raw = session.get();
    sessions_[socket] = std::move(session);
    loop.add(socket, [raw] { raw->ready(); });
    ++shaking_;
    return true;
}

void Client::settle(Session& session, const std::string& failure, std::uint64_t octets, const std::string& answer) {
    ++done_;
    if (!session.shaken()) --shaking_;
    octets_ += octets;
    if (failure.empty())
        ++ok_;
    else
        ++failures_[failure];
    if (!answer.empty() && answers_.size() < 16) answers_.push_back(answer.substr(0, answer.find('\n')));
    const int socket = session.socket();
    loop.remove(socket);
    const auto found = sessions_.find(socket);
    ended_.push_back(std::move(found->second));
    sessions_.erase(found);
}

int Client::run() {
    const auto begun = Clock::now();
    const std::uint64_t concurrent = options.concurrent == 0 ? options.connections : std::min(options.concurrent, options.connections);
    auto next_tick = begun;
    loop.run(
        std::chrono::milliseconds(5), [this] { return done_ >= options.connections; },
        [this, concurrent, &next_tick] {
            ended_.clear();
            while (opened_ < options.connections && sessions_.size() < concurrent && (options.opening == 0 || shaking_ < options.opening)) open_one();
            const auto now = Clock::now();
            if (now < next_tick) return;
            next_tick = now + std::chrono::milliseconds(10);
            std::vector<Session*> all;
            for (const auto& [socket, session] : sessions_) all.push_back(session.get());
            for (Session* session : all) session->tick(now);
        });
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    const auto print = [](const std::map<std::string, std::uint64_t>& counts) {
        std::string text = "{";
        for (const auto& [what, count] : counts) {
            std::string clean = what;
            std::erase_if(clean, [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 32; });
            text += (text.size() > 1 ? ", \"" : "\"") + clean + "\": " + std::to_string(count);
        }
        return text + "}";
    };
    std::string answers;
    for (const std::string& answer : answers_) answers += (answers.empty() ? "\"" : ", \"") + answer + "\"";
    std::cout << "{\"connections\": " << options.connections << ", \"ok\": " << ok_ << ", \"failures\": " << print(failures_)
              << ", \"octets\": " << octets_ << ", \"seconds\": " << seconds << ", \"longest_pause_ms\": " << longest_pause_ms_
              << ", \"negotiated\": " << print(negotiated_) << ", \"answers\": [" << answers << "]}\n";
    return ok_ == options.connections ? 0 : 1;
}

}  // namespace
}  // namespace sallyport::lab

int main(int count, char** arguments) {
    using namespace sallyport::lab;
    Options options;
    CLI::App app{"A TLS client for tests"};
    app.add_option("--connect", options.connect, "ADDRESS:PORT")->required();
    app.add_option("--ca", options.ca, "PEM of the trust anchor")->required();
    app.add_option("--name", options.server_name, "server name to ask for and verify")->required();
    app.add_option("--alpn", options.alpn, "the one protocol to offer");
    app.add_option("--set", options.settings, "SSL_CONF_cmd NAME=VALUE, may be repeated");
    app.add_option("--connections", options.connections, "how many in all");
    app.add_option("--concurrent", options.concurrent, "how many at a time; 0: all");
    app.add_option("--opening", options.opening, "how many of those in their handshake; 0: all");
    app.add_option("--octets", options.octets, "sent by each connection (or message, with --interval-ms)");
    app.add_option("--write-size", options.write_size, "most octets a record");
    app.add_option("--key-update-every", options.key_update_every, "octets sent between two KeyUpdates");
    app.add_option("--read-rate", options.read_rate, "octets read every 10 ms");
    app.add_option("--write-rate", options.write_rate, "octets written every 10 ms");
    app.add_option("--receive-buffer", options.receive_buffer, "SO_RCVBUF");
    app.add_option("--interval-ms", options.interval_ms, "send a message so often and await its echo, for --duration-ms");
    app.add_option("--duration-ms", options.duration_ms, "see --interval-ms");
    app.add_option("--hold-ms", options.hold_ms, "keep the connection open so long after the handshake");
    app.add_option("--timeout-ms", options.timeout_ms, "most time a connection may take");
    app.add_option("--expect", options.expect, "echo, digest, none, or the number of octets of a source");
    app.add_flag("--together", options.together, "nobody sends before all have shaken hands");
    app.add_flag("--close-first", options.close_first, "close_notify right after the last octet sent");
    app.add_flag("--reset-on-exit", options.reset_on_exit, "RST, not FIN, when the program ends");
    app.add_flag("--fin-is-end", options.fin_is_end, "a FIN without close_notify ends in order too");
    app.add_flag("--no-close", options.no_close, "reset instead of an orderly end");
    CLI11_PARSE(app, count, arguments);
    std::signal(SIGPIPE, SIG_IGN);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    try {
        return Client(options).run();
    } catch (const std::exception& error) {
        std::cerr << "lab_client: " << error.what() << '\n';
        return 2;
    }
}
