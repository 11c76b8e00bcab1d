#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "control/channel/shared_memory.h"
#include "control/management/protocol.h"

namespace sallyport::management {

/// Why a call brought no result. `text` is one line for a person.
struct CallError {
    enum class Kind : std::uint8_t {
        away,       ///< control is not running: nothing listens at the path
        forbidden,  ///< the caller may not open the socket, or has not the role that the command needs
        timed_out,
        broken,   ///< the connection ended, or what came is not the protocol
        refused,  ///< control answered with an error; `code` is its code
    };
    Kind kind;
    std::string code;
    std::string text;
};

/// One connection to control's management socket. Blocking, with a deadline for each call. One thread.
class Client {
 public:
    [[nodiscard]] static std::expected<Client, CallError> connect(const std::string& path,
                                                                  std::chrono::milliseconds timeout);

    /// Where the person sits, such as "ssh 192.0.2.7 port 51234": goes with every request. What is not printable ASCII
    /// is left out, and what is beyond kMaxFromLength.
    void say_from(std::string_view from);

    /// How long the next calls may take.
    void wait_at_most(std::chrono::milliseconds timeout) { timeout_ = timeout; }

    /// Whether a call can still be made: not after control has closed the connection, or sent what nobody asked for.
    [[nodiscard]] bool usable() const;

    /// A signal that has made `*flag` other than 0 ends waiting: broken, "interrupted". It outlives the client; nullptr: none does.
    void stop_when(const volatile std::sig_atomic_t* flag) { stop_ = flag; }

    /// Asks and waits for the answer. After timed_out or broken the connection is of no further use.
    [[nodiscard]] std::expected<nlohmann::json, CallError> call(std::vector<std::string> command,
                                                                nlohmann::json arguments = nlohmann::json::object());

 private:
    Client(channel::Descriptor socket, std::string path, std::chrono::milliseconds timeout);
    channel::Descriptor socket_;
    std::string path_;
    std::chrono::milliseconds timeout_;
    std::int64_t next_id_ = 1;
    std::string from_;
    std::string received_;
    const volatile std::sig_atomic_t* stop_ = nullptr;
};

}  // namespace sallyport::management
