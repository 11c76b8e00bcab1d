#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "control/channel/address.h"

/// What the lab's backend and client share: many non-blocking TLS (or plain) connections on one thread over epoll.
/// For tests only: throws on wrong arguments, allocates freely.
namespace sallyport::lab {

using Clock = std::chrono::steady_clock;

/// How the other side ended its direction.
enum class Ended : std::uint8_t {
    no,
    close_notify,   ///< in order
    fin,            ///< TCP FIN without close_notify (the only way, on a plain connection)
    reset,          ///< RST, or a time-out of TCP
    failed,         ///< a fatal alert or a TLS error; see Connection::error()
};
[[nodiscard]] const char* name(Ended ended) noexcept;

/// One connection. TLS when made with an SSL object, else plain.
class Connection {
 public:
    Connection(int socket, SSL* ssl, bool server);   ///< takes both
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// Goes on with the TLS handshake. True when it is done (at once on a plain connection).
    [[nodiscard]] bool handshake();
    /// Reads what is there; 0: nothing now, or ended.
    [[nodiscard]] std::size_t read(std::span<std::byte> into);
    /// Writes; 0: no room now, or ended. After 0, call again with the same octets.
    [[nodiscard]] std::size_t write(std::span<const std::byte> octets);
    /// close_notify, then FIN: this direction only (RFC 8446 6.1). True when both are out.
    [[nodiscard]] bool end_writing();
    /// FIN without close_notify.
    void end_abruptly();
    /// RST.
    void reset();
    /// Changes the sending keys (TLS 1.3), and asks the peer to change its own when `request`.
    void update_key(bool request);

    [[nodiscard]] Ended peer_ended() const noexcept { return peer_ended_; }
    [[nodiscard]] const std::string& error() const noexcept { return error_; }
    [[nodiscard]] int socket() const noexcept { return socket_; }
    [[nodiscard]] SSL* ssl() const noexcept { return ssl_; }
    [[nodiscard]] bool writing_ended() const noexcept { return writing_ended_; }

 private:
    void note(int result);

    int socket_;
    SSL* ssl_;
    bool handshaken_ = false;
    bool writing_ended_ = false;
    bool notified_ = false;
    Ended peer_ended_ = Ended::no;
    std::string error_;
};

/// Calls back for sockets that became readable or writable (edge-triggered), and on every tick.
class Loop {
 public:
    Loop();
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    void add(int socket, std::function<void()> ready);
    void remove(int socket);
    /// Calls `ready` of the socket once more in the next turn: for one that stopped before everything was read.
    void again(int socket) { again_.push_back(socket); }
    /// Runs until `done` is true; `tick` is called after each turn and at least every `interval`.
    void run(std::chrono::milliseconds interval, const std::function<bool()>& done, const std::function<void()>& tick);

 private:
    int epoll_;
    std::unordered_map<int, std::shared_ptr<std::function<void()>>> handlers_;
    std::vector<int> again_;
};

/// Octets that can be checked at any offset: a function of seed and offset, without period that matters.
void fill_pattern(std::uint64_t seed, std::uint64_t offset, std::span<std::byte> out);

[[nodiscard]] int listen_on(const SocketAddress& address, int backlog);
/// Begins to connect; -1 and errno when that failed at once.
[[nodiscard]] int connect_to(const SocketAddress& address, int receive_buffer);
/// SSL_CONF_cmd settings such as "MinProtocol=TLSv1.3", "Groups=P-384"; throws naming the one that was refused.
void configure(SSL_CTX* context, const std::vector<std::string>& settings);
/// The library's error queue as text, emptied.
[[nodiscard]] std::string take_errors();

}  // namespace sallyport::lab
