#include "tests/lab/tls_peer.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace sallyport::lab {

namespace {

socklen_t to_sockaddr(const SocketAddress& address, sockaddr_storage& out) {
    out = {};
    if (address.address.is_v4()) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(out);
        v4.sin_family = AF_INET;
        v4.sin_port = htons(address.port);
        std::memcpy(&v4.sin_addr, address.address.octets.data() + 12, 4);
        return sizeof v4;
    }
    auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    std::memcpy(&v6.sin6_addr, address.address.octets.data(), 16);
    return sizeof v6;
}

int make_socket(const SocketAddress& address) {
    const int family = address.address.is_v4() ? AF_INET : AF_INET6;
    const int socket = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket < 0) throw std::system_error(errno, std::generic_category(), "socket");
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6) ::setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return socket;
}

}  // namespace

const char* name(Ended ended) noexcept {
    switch (ended) {
    case Ended::no: return "no";
    case Ended::close_notify: return "close_notify";
    case Ended::fin: return "fin";
    case Ended::reset: return "reset";
    case Ended::failed: return "failed";
    }
    return "?";
}

std::string take_errors() {
    std::string text;
    while (const unsigned long code = ERR_get_error()) {
        std::array<char, 256> line{};
        ERR_error_string_n(code, line.data(), line.size());
        if (!text.empty()) text += "; ";
        text += line.data();
    }
    return text;
}

Connection::Connection(int socket, SSL* ssl, bool server) : socket_(socket), ssl_(ssl) {
    if (ssl_ == nullptr) return;
    SSL_set_fd(ssl_, socket_);
    SSL_set_mode(ssl_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (server)
        SSL_set_accept_state(ssl_);
    else
        SSL_set_connect_state(ssl_);
}

Connection::~Connection() {
    SSL_free(ssl_);
    ::close(socket_);
}

void Connection::note(int result) {
    const int saved_errno = errno;
    switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return;
    case SSL_ERROR_ZERO_RETURN: peer_ended_ = Ended::close_notify; return;
    case SSL_ERROR_SYSCALL:
        peer_ended_ = saved_errno == 0 ? Ended::fin : Ended::reset;
        error_ = saved_errno == 0 ? "end of stream" : std::strerror(saved_errno);
        ERR_clear_error();
        return;
    default: break;
    }
    const unsigned long code = ERR_peek_error();
    const bool truncated = ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    peer_ended_ = truncated ? Ended::fin : Ended::failed;
    error_ = take_errors();
}

bool Connection::handshake() {
    if (handshaken_ || ssl_ == nullptr) return handshaken_ = true;
    if (peer_ended_ != Ended::no) return false;
    ERR_clear_error();
    errno = 0;
    const int result = SSL_do_handshake(ssl_);
    if (result == 1) return handshaken_ = true;
    note(result);
    return false;
}

std::size_t Connection::read(std::span<std::byte> into) {
    if (peer_ended_ != Ended::no) return 0;
    if (ssl_ == nullptr) {
        const ssize_t got = ::recv(socket_, into.data(), into.size(), 0);
        if (got > 0) return static_cast<std::size_t>(got);
        if (got == 0)
            peer_ended_ = Ended::fin;
        else if (errno != EAGAIN && errno != EINTR) {
            peer_ended_ = Ended::reset;
            error_ = std::strerror(errno);
        }
        return 0;
    }
    ERR_clear_error();
    errno = 0;
    std::size_t got = 0;
    const int result = SSL_read_ex(ssl_, into.data(), into.size(), &got);
    if (result == 1) return got;
    note(result);
    return 0;
}

std::size_t Connection::write(std::span<const std::byte> octets) {
    if (writing_ended_ || peer_ended_ == Ended::reset || peer_ended_ == Ended::failed) return 0;
    if (ssl_ == nullptr) {
        const ssize_t sent = ::send(socket_, octets.data(), octets.size(), MSG_NOSIGNAL);
        if (sent >= 0) return static_cast<std::size_t>(sent);
        if (errno != EAGAIN && errno != EINTR) {
            peer_ended_ = Ended::reset;
            error_ = std::strerror(errno);
        }
        return 0;
    }
    ERR_clear_error();
    errno = 0;
    std::size_t sent = 0;
    const int result = SSL_write_ex(ssl_, octets.data(), octets.size(), &sent);
    if (result == 1) return sent;
    note(result);
    return 0;
}

bool Connection::end_writing() {
    if (writing_ended_) return true;
    if (ssl_ != nullptr && !notified_ && handshaken_ && peer_ended_ != Ended::reset && peer_ended_ != Ended::failed) {
        ERR_clear_error();
        const int result = SSL_shutdown(ssl_);
        if (result < 0) {
            const int why = SSL_get_error(ssl_, result);
            if (why == SSL_ERROR_WANT_WRITE) return false;
            // WANT_READ after our close_notify went out is the ordinary case of a half-close.
            if (why != SSL_ERROR_WANT_READ) ERR_clear_error();
        }
        notified_ = true;
    }
    ::shutdown(socket_, SHUT_WR);
    writing_ended_ = true;
    return true;
}

void Connection::end_abruptly() {
    ::shutdown(socket_, SHUT_WR);
    writing_ended_ = true;
}

void Connection::reset() {
    const linger now{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    writing_ended_ = true;
    peer_ended_ = Ended::reset;
}

void Connection::update_key(bool request) {
    if (ssl_ != nullptr && SSL_version(ssl_) == TLS1_3_VERSION)
        SSL_key_update(ssl_, request ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
}

Loop::Loop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
}

Loop::~Loop() { ::close(epoll_); }

void Loop::add(int socket, std::function<void()> ready) {
    handlers_[socket] = std::make_shared<std::function<void()>>(std::move(ready));
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.fd = socket;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) != 0) throw std::system_error(errno, std::generic_category(), "epoll_ctl");
}

void Loop::remove(int socket) {
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, socket, nullptr);
    handlers_.erase(socket);
}

void Loop::run(std::chrono::milliseconds interval, const std::function<bool()>& done, const std::function<void()>& tick) {
    std::array<epoll_event, 256> events{};
    const auto call = [this](int socket) {
        const auto found = handlers_.find(socket);
        if (found == handlers_.end()) return;
        const auto handler = found->second;   // keeps it alive when it removes itself
        (*handler)();
    };
    while (!done()) {
        const int wait = again_.empty() ? static_cast<int>(interval.count()) : 0;
        const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait);
        const std::vector<int> again = std::exchange(again_, {});
        for (int i = 0; i < count; ++i) call(events[static_cast<std::size_t>(i)].data.fd);
        for (const int socket : again) call(socket);
        tick();
    }
}

void fill_pattern(std::uint64_t seed, std::uint64_t offset, std::span<std::byte> out) {
    std::size_t at = 0;
    while (at < out.size()) {
        // splitmix64's finaliser over the number of the 8-octet block
        const std::uint64_t block = (offset + at) / 8;
        std::uint64_t z = seed * 0x9e3779b97f4a7c15ULL + block * 0xbf58476d1ce4e5b9ULL + 0x94d049bb133111ebULL;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        z ^= z >> 31;
        const std::size_t skip = (offset + at) % 8;
        const std::size_t take = std::min<std::size_t>(8 - skip, out.size() - at);
        std::memcpy(out.data() + at, reinterpret_cast<const char*>(&z) + skip, take);
        at += take;
    }
}

int listen_on(const SocketAddress& address, int backlog) {
    const int socket = make_socket(address);
    sockaddr_storage where;
    const socklen_t length = to_sockaddr(address, where);
    if (::bind(socket, reinterpret_cast<const sockaddr*>(&where), length) != 0 || ::listen(socket, backlog) != 0)
        throw std::system_error(errno, std::generic_category(), "listen on " + address.to_string());
    return socket;
}

int connect_to(const SocketAddress& address, int receive_buffer) {
    const int socket = make_socket(address);
    if (receive_buffer > 0) ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_storage where;
    const socklen_t length = to_sockaddr(address, where);
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&where), length) != 0 && errno != EINPROGRESS) {
        const int saved = errno;
        ::close(socket);
        errno = saved;
        return -1;
    }
    return socket;
}

void configure(SSL_CTX* context, const std::vector<std::string>& settings) {
    const std::unique_ptr<SSL_CONF_CTX, decltype(&SSL_CONF_CTX_free)> configuration(SSL_CONF_CTX_new(), SSL_CONF_CTX_free);
    SSL_CONF_CTX_set_flags(configuration.get(), SSL_CONF_FLAG_FILE | SSL_CONF_FLAG_CLIENT | SSL_CONF_FLAG_SERVER | SSL_CONF_FLAG_CERTIFICATE);
    SSL_CONF_CTX_set_ssl_ctx(configuration.get(), context);
    for (const std::string& setting : settings) {
        const std::size_t equals = setting.find('=');
        if (equals == std::string::npos ||
            SSL_CONF_cmd(configuration.get(), setting.substr(0, equals).c_str(), setting.substr(equals + 1).c_str()) <= 0)
            throw std::invalid_argument("setting " + setting + ": " + take_errors());
    }
    if (SSL_CONF_CTX_finish(configuration.get()) != 1) throw std::invalid_argument(take_errors());
}

}  // namespace sallyport::lab
