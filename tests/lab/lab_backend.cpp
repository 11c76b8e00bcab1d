// A backend with manners to order: echoes, swallows or sends octets over TLS or plain TCP, in order or not.
//
//     lab_backend --listen 198.51.100.10:4433 --certificate backend.pem --key backend.key --log echo.log
//
// The log has a line of JSON for each event: {"event":"open"}, {"event":"close","received":...}.

#include <openssl/evp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>

#include "tests/lab/tls_peer.h"

namespace sallyport::lab {
namespace {

struct Options {
    std::vector<std::string> listen;
    std::string certificate, key, log;
    std::vector<std::string> settings;
    std::string mode = "echo";            // echo, sink, source
    std::uint64_t source_octets = 0;
    std::size_t write_size = 65536;
    std::uint64_t key_update_every = 0;   // octets sent
    std::uint64_t reset_after = 0, fin_after = 0, close_after = 0;   // octets received; 0: never
    std::size_t read_rate = 0;            // octets a tick of 10 ms; 0: as fast as they come
    int receive_buffer = 0;
    bool plain = false, proxy = false, never_read = false;
    std::string banner, alpn, staple;
};

std::string to_hex(std::span<const unsigned char> octets) {
    std::string text;
    for (const unsigned char octet : octets) {
        std::array<char, 3> two{};
        std::snprintf(two.data(), two.size(), "%02x", octet);
        text += two.data();
    }
    return text;
}

/// Of the certificate that the other side showed; empty: none.
std::string client_subject(SSL* ssl) {
    const X509* certificate = SSL_get0_peer_certificate(ssl);
    if (certificate == nullptr) return {};
    const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), BIO_free);
    X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char* text = nullptr;
    const long length = BIO_get_mem_data(out.get(), &text);
    std::string subject(text, static_cast<std::size_t>(length));
    std::erase_if(subject, [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 32; });
    return subject;
}

/// Staples the OCSP answer that is in a file now (RFC 6066 8); none when there is no such file.
int staple(SSL* ssl, void* path) {
    std::ifstream in(*static_cast<const std::string*>(path), std::ios::binary);
    const std::string answer{std::istreambuf_iterator<char>(in), {}};
    if (answer.empty()) return SSL_TLSEXT_ERR_NOACK;
    auto* copy = static_cast<unsigned char*>(OPENSSL_memdup(answer.data(), answer.size()));
    if (SSL_set_tlsext_status_ocsp_resp(ssl, copy, answer.size()) == 1) return SSL_TLSEXT_ERR_OK;
    OPENSSL_free(copy);
    return SSL_TLSEXT_ERR_NOACK;
}

struct DigestFree {
    void operator()(EVP_MD_CTX* digest) const { EVP_MD_CTX_free(digest); }
};

class Server;

class Session {
 public:
    Session(Server& server, int socket, SSL* ssl);
    void ready();
    void tick();   // gives a slow reader its next share
    [[nodiscard]] bool finished() const { return finished_; }
    [[nodiscard]] Connection& connection() { return connection_; }

 private:
    bool started();
    bool flush();
    bool receive();
    bool produce();
    void take(std::span<const std::byte> octets);
    void finish();

    Server& server_;
    Connection connection_;
    std::vector<std::byte> pending_;
    std::size_t pending_at_ = 0;
    std::vector<unsigned char> proxy_;
    bool proxy_done_ = false;
    bool begun_ = false, finished_ = false, answered_ = false;
    std::uint64_t received_ = 0, sent_ = 0, produced_ = 0, since_update_ = 0, updates_ = 0;
    std::size_t allowance_ = 0;
    std::unique_ptr<EVP_MD_CTX, DigestFree> digest_;
};

class Server {
 public:
    explicit Server(Options given);
    int run();
    const Options options;
    Loop loop;
    void write_log(const std::string& line) {
        if (!log_.is_open()) return;
        log_ << line << '\n' << std::flush;
    }

 private:
    void accept(int listener);
    SSL_CTX* context_ = nullptr;
    std::ofstream log_;
    std::map<int, std::unique_ptr<Session>> sessions_;
    std::vector<std::unique_ptr<Session>> ended_;
    friend class Session;
};

Session::Session(Server& server, int socket, SSL* ssl) : server_(server), connection_(socket, ssl, true) {
    proxy_done_ = !server_.options.proxy;
    if (server_.options.mode == "sink") {
        digest_.reset(EVP_MD_CTX_new());
        EVP_DigestInit_ex2(digest_.get(), EVP_sha256(), nullptr);
    }
}

bool Session::started() {
    if (begun_) return true;
    if (!connection_.handshake()) {
        if (connection_.peer_ended() != Ended::no) finish();
        return false;
    }
    begun_ = true;
    SSL* ssl = connection_.ssl();
    std::string line = "{\"event\":\"open\"";
    if (ssl != nullptr) {
        const unsigned char* protocol = nullptr;
        unsigned length = 0;
        SSL_get0_alpn_selected(ssl, &protocol, &length);
        const char* server_name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        line += std::string(",\"version\":\"") + SSL_get_version(ssl) + "\",\"suite\":\"" + SSL_get_cipher_name(ssl) +
                "\",\"resumed\":" + (SSL_session_reused(ssl) ? "true" : "false") + ",\"server_name\":\"" +
                (server_name == nullptr ? "" : server_name) + "\",\"alpn\":\"" +
                std::string(reinterpret_cast<const char*>(protocol), length) + "\",\"client\":\"" + client_subject(ssl) + "\"";
    }
    server_.write_log(line + "}");
    for (const char c : server_.options.banner) pending_.push_back(static_cast<std::byte>(c));
    return true;
}

bool Session::flush() {
    if (connection_.writing_ended()) pending_at_ = pending_.size();   // nobody will take it any more
    while (pending_at_ < pending_.size()) {
        const std::uint64_t every = server_.options.key_update_every;
        if (every != 0 && since_update_ >= every) {
            connection_.update_key(updates_++ % 2 == 1);
            since_update_ = 0;
        }
        const std::size_t size = std::min(server_.options.write_size, pending_.size() - pending_at_);
        const std::size_t sent = connection_.write(std::span(pending_).subspan(pending_at_, size));
        if (sent == 0) return false;
        pending_at_ += sent;
        sent_ += sent;
        since_update_ += sent;
    }
    pending_.clear();
    pending_at_ = 0;
    return true;
}

bool Session::produce() {
    const Options& options = server_.options;
    if (options.mode != "source" || produced_ >= options.source_octets) return false;
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(65536, options.source_octets - produced_));
    pending_.resize(size);
    fill_pattern(1, produced_, pending_);
    produced_ += size;
    return true;
}

void Session::take(std::span<const std::byte> octets) {
    while (!proxy_done_ && !octets.empty()) {   // PROXY protocol v2: 16 octets, of which the last two are the length of the rest
        const auto octet = static_cast<unsigned char>(octets.front());
        octets = octets.subspan(1);
        proxy_.push_back(octet);
        if (proxy_.size() >= 16 && proxy_.size() == 16u + proxy_[14] * 256u + proxy_[15]) {
            proxy_done_ = true;
            server_.write_log("{\"event\":\"proxy\",\"header\":\"" + to_hex(proxy_) + "\"}");
        }
    }
    received_ += octets.size();
    if (digest_) EVP_DigestUpdate(digest_.get(), octets.data(), octets.size());
    if (server_.options.mode == "echo") pending_.insert(pending_.end(), octets.begin(), octets.end());
}

bool Session::receive() {
    static std::array<std::byte, 65536> buffer;
    const Options& options = server_.options;
    if (options.never_read) return false;
    std::size_t size = buffer.size();
    if (options.read_rate != 0) {
        size = std::min(size, allowance_);
        if (size == 0) return false;
    }
    const std::size_t got = connection_.read(std::span(buffer).first(size));
    if (got == 0) return false;
    if (options.read_rate != 0) allowance_ -= got;
    take(std::span(buffer).first(got));
    return true;
}

void Session::ready() {
    if (finished_ || !started()) return;
    const Options& options = server_.options;
    for (int turns = 0; turns < 64; ++turns) {
        if (connection_.peer_ended() == Ended::reset || connection_.peer_ended() == Ended::failed) return finish();
        if (!flush()) {   // no room to send: still notice a reset
            if (connection_.peer_ended() == Ended::reset || connection_.peer_ended() == Ended::failed) finish();
            return;
        }
        if (options.reset_after != 0 && received_ >= options.reset_after) {
            connection_.reset();
            return finish();
        }
        if (options.fin_after != 0 && received_ >= options.fin_after && !connection_.writing_ended()) connection_.end_abruptly();
        if (options.close_after != 0 && received_ >= options.close_after && !connection_.end_writing()) return;
        if (produce()) continue;
        if (options.mode == "source" && !connection_.end_writing()) return;   // half-close: goes on reading
        if (receive()) continue;
        if (connection_.peer_ended() == Ended::no) return;
        if (digest_ && !answered_) {
            answered_ = true;
            std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
            unsigned length = 0;
            EVP_DigestFinal_ex(digest_.get(), hash.data(), &length);
            const std::string answer = std::to_string(received_) + " " + to_hex(std::span(hash).first(length)) + "\n";
            for (const char c : answer) pending_.push_back(static_cast<std::byte>(c));
            continue;
        }
        if (!connection_.end_writing()) return;
        return finish();
    }
    server_.loop.again(connection_.socket());
}

void Session::tick() {
    if (server_.options.read_rate == 0) return;
    allowance_ = std::min(allowance_ + server_.options.read_rate, std::size_t{1} << 20);
    ready();
}

void Session::finish() {
    if (finished_) return;
    finished_ = true;
    std::string error = connection_.error();
    std::erase(error, '"');
    server_.write_log(std::string("{\"event\":\"") + (begun_ ? "close" : "refused") + "\",\"received\":" + std::to_string(received_) +
                      ",\"sent\":" + std::to_string(sent_) + ",\"end\":\"" + name(connection_.peer_ended()) + "\",\"error\":\"" + error +
                      "\"}");
    const int socket = connection_.socket();
    server_.loop.remove(socket);
    const auto found = server_.sessions_.find(socket);
    server_.ended_.push_back(std::move(found->second));   // freed after this turn: we are inside it
    server_.sessions_.erase(found);
}

Server::Server(Options given) : options(std::move(given)) {
    if (!options.log.empty()) log_.open(options.log, std::ios::app);
    if (options.plain) return;
    context_ = SSL_CTX_new(TLS_server_method());
    configure(context_, options.settings);   // first: a lower security level lets weak certificates in
    constexpr std::string_view kSessions = "lab_backend";   // without it, sessions with a client certificate cannot be resumed
    SSL_CTX_set_session_id_context(context_, reinterpret_cast<const unsigned char*>(kSessions.data()), kSessions.size());
    if (!options.staple.empty()) {
        SSL_CTX_set_tlsext_status_cb(context_, staple);
        SSL_CTX_set_tlsext_status_arg(context_, const_cast<std::string*>(&options.staple));
    }
    if (SSL_CTX_use_certificate_chain_file(context_, options.certificate.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context_, options.key.c_str(), SSL_FILETYPE_PEM) != 1)
        throw std::runtime_error("certificate or key: " + take_errors());
    if (!options.alpn.empty())
        SSL_CTX_set_alpn_select_cb(
            context_,
            [](SSL*, const unsigned char** out, unsigned char* length, const unsigned char* offered, unsigned size, void* wanted) {
                const auto& protocol = *static_cast<const std::string*>(wanted);
                const std::string list = static_cast<char>(protocol.size()) + protocol;
                unsigned char* chosen = nullptr;
                const int found = SSL_select_next_proto(&chosen, length, reinterpret_cast<const unsigned char*>(list.data()),
                                                        static_cast<unsigned>(list.size()), offered, size);
                *out = chosen;
                return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
            },
            const_cast<std::string*>(&options.alpn));
}

void Server::accept(int listener) {
    while (true) {
        const int socket = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket < 0) return;
        if (options.receive_buffer != 0)
            ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof options.receive_buffer);
        auto session = std::make_unique<Session>(*this, socket, context_ == nullptr ? nullptr : SSL_new(context_));
        Session* raw = session.get();
        sessions_[socket] = std::move(session);
        loop.add(socket, [raw] { raw->ready(); });
    }
}

int Server::run() {
    for (const std::string& text : options.listen) {
        const auto address = SocketAddress::parse(text);
        if (!address) throw std::invalid_argument(text + ": " + address.error());
        const int listener = listen_on(*address, 4096);
        loop.add(listener, [this, listener] { accept(listener); });
    }
    write_log("{\"event\":\"listening\"}");
    auto next_tick = Clock::now();
    loop.run(
        std::chrono::milliseconds(10), [] { return false; },
        [this, &next_tick] {
            ended_.clear();
            if (Clock::now() < next_tick) return;
            next_tick = Clock::now() + std::chrono::milliseconds(10);
            if (options.read_rate == 0) return;
            std::vector<Session*> all;
            for (const auto& [socket, session] : sessions_) all.push_back(session.get());
            for (Session* session : all) session->tick();
        });
    return 0;
}

}  // namespace
}  // namespace sallyport::lab

int main(int count, char** arguments) {
    using namespace sallyport::lab;
    Options options;
    CLI::App app{"A TLS backend for tests"};
    app.add_option("--listen", options.listen, "ADDRESS:PORT, may be repeated")->required();
    app.add_option("--certificate", options.certificate, "PEM, leaf first");
    app.add_option("--key", options.key, "PEM");
    app.add_option("--log", options.log, "file for a line of JSON an event");
    app.add_option("--set", options.settings, "SSL_CONF_cmd NAME=VALUE, may be repeated");
    app.add_option("--mode", options.mode, "echo, sink (answers count and SHA-256) or source")->check(CLI::IsMember({"echo", "sink", "source"}));
    app.add_option("--source-octets", options.source_octets, "how many a source sends before it half-closes");
    app.add_option("--write-size", options.write_size, "most octets a record");
    app.add_option("--key-update-every", options.key_update_every, "octets sent between two KeyUpdates");
    app.add_option("--reset-after", options.reset_after, "RST after so many octets");
    app.add_option("--fin-after", options.fin_after, "FIN without close_notify after so many octets");
    app.add_option("--close-after", options.close_after, "close_notify after so many octets");
    app.add_option("--read-rate", options.read_rate, "octets read every 10 ms");
    app.add_option("--receive-buffer", options.receive_buffer, "SO_RCVBUF");
    app.add_option("--banner", options.banner, "text that is sent first");
    app.add_option("--alpn", options.alpn, "the protocol that is chosen; no other is accepted");
    app.add_option("--staple", options.staple, "file with an OCSP answer (DER), read anew for each handshake");
    app.add_flag("--plain", options.plain, "no TLS");
    app.add_flag("--proxy", options.proxy, "expect a PROXY protocol v2 header and log it");
    app.add_flag("--never-read", options.never_read, "never read application data");
    CLI11_PARSE(app, count, arguments);
    std::signal(SIGPIPE, SIG_IGN);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    try {
        return Server(options).run();
    } catch (const std::exception& error) {
        std::cerr << "lab_backend: " << error.what() << '\n';
        return 1;
    }
}
