#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/channel/shared_memory.h"
#include "control/management/protocol.h"

namespace sallyport::management {

/// Why a call brought no result. `text` is one line for a person.
struct CallError {
    enum class Kind : std::uint8_t {
        away,       ///< control is not running: nothing listens at the path
        forbidden,  ///< the caller may not open the socket
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

    /// Asks and waits for the answer. After timed_out or broken the connection is of no further use.
    [[nodiscard]] std::expected<nlohmann::json, CallError> call(std::vector<std::string> command,
                                                                nlohmann::json arguments = nlohmann::json::object());

 private:
    Client(channel::Descriptor socket, std::string path, std::chrono::milliseconds timeout);
    channel::Descriptor socket_;
    std::string path_;
    std::chrono::milliseconds timeout_;
    std::int64_t next_id_ = 1;
    std::string received_;
};

}  // namespace sallyport::management
