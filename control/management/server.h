#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "control/management/command_table.h"

namespace sallyport::management {

/// The management socket: takes requests and answers them (protocol.h). One thread uses it: the one that calls poll(),
/// in which the handler runs too. No client can hold up another: sockets do not block, a client's next request is taken
/// up when its last answer has left, and clients take turns, one request each. All that a client can make us hold is
/// bounded.
class Server {
 public:
    struct Settings {
        std::size_t max_clients = 32;                     ///< more are told "busy" and closed
        std::size_t max_answer = std::size_t{128} << 20;  ///< octets; a longer one becomes the error too_big
        std::size_t max_unsent = std::size_t{256} << 20;  ///< octets of all clients' answers; above it: the error busy
        std::chrono::milliseconds idle_timeout{60'000};   ///< no octet came or could be sent for this long: closed
        std::optional<std::uint32_t> owner{}, group{};    ///< of the socket file; nullopt: the process's own
    };

    /// Makes the socket at `path` with mode 0660: whoever may open it, may manage. A socket file that nobody listens on
    /// any more is replaced. The error names the path: in use by a living process, not a socket, too long (107 octets),
    /// or errno's text.
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
    /// Octets of answers that clients have not taken yet.
    [[nodiscard]] std::size_t unsent() const noexcept;

 private:
    Server();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::management
