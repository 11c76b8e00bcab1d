#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/management/command_table.h"

namespace sallyport::management {

/// The management socket: takes requests and answers them (protocol.h). One thread uses it: the one that calls poll(),
/// in which the handler runs too. No client can hold up another: sockets do not block, a client's next request is taken
/// up when its last answer has left, and clients take turns, one request each. All that a client can make us hold is
/// bounded.
class Server {
 public:
    struct Settings {
        std::size_t max_clients = 32;                     ///< more are told "busy" and closed, but for
        std::size_t reserved_clients = 8;                 ///< so many further administrators
        std::size_t max_clients_of_user = 16;             ///< likewise, of one user who is no administrator
        std::size_t max_answer = std::size_t{128} << 20;  ///< octets; a longer one becomes the error too_big
        std::size_t max_unsent = std::size_t{256} << 20;  ///< octets of all clients' answers; above it: the error busy
        std::chrono::milliseconds idle_timeout{60'000};   ///< no octet came or could be sent for this long: closed
        std::optional<std::uint32_t> owner{}, group{};    ///< of the socket file; nullopt: the process's own
        /// Which role a peer has, asked anew for each request: groups may be named otherwise by then. Empty: root and
        /// the process's own user are administrators, and nobody else is anything.
        std::function<Role(const Peer&)> role_of{};
    };

    /// Makes the socket at `path` with mode 0666: all may connect, and their role decides what comes of it. Who has
    /// none is told so at the first request, and cannot take the place of who has one. A socket file that nobody
    /// listens on any more is replaced. The error names the path: in use by a living process, not a socket, too long
    /// (107 octets), or errno's text.
    [[nodiscard]] static std::expected<std::unique_ptr<Server>, std::string> open(const std::string& path,
                                                                                  Handler handler,
                                                                                  const Settings& settings);
    [[nodiscard]] static std::expected<std::unique_ptr<Server>, std::string> open(const std::string& path,
                                                                                  Handler handler) {
        return open(path, std::move(handler), Settings{});
    }
    /// Closes all clients and removes the socket file, unless another one stands there by now.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// For the caller's own poll(): readable when poll() has something to do. Timeouts are kept only inside poll(), so
    /// call it at least every second as well.
    [[nodiscard]] int fd() const noexcept;
    /// Waits at most `timeout` for something to do and does one round of it. Returns early for a signal.
    void poll(std::chrono::milliseconds timeout);

    [[nodiscard]] std::size_t clients() const noexcept;
    /// A connection as it stands, for `show sessions`.
    struct Session {
        Peer peer;  ///< as of its last request
        std::chrono::system_clock::time_point since;
        std::chrono::milliseconds idle;
        std::uint64_t commands = 0;
        std::string last_command;  ///< words alone, shortened
    };
    /// Those that have a role, longest first.
    [[nodiscard]] std::vector<Session> sessions() const;
    /// Octets of answers that clients have not taken yet.
    [[nodiscard]] std::size_t unsent() const noexcept;

 private:
    Server();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::management
