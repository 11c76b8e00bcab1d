#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/channel/address.h"
#include "control/channel/shared_memory.h"

namespace sallyport::flows {

/// The captures that want TLS secrets, and where in their files these go. Handshake workers ask whether any wants them when a flow begins, and
/// write lines as they come: before the peer can have answered them, so before any packet that they open. Any thread.
class SecretFiles {
 public:
    using Clock = std::chrono::steady_clock;

    /// Whose secrets a capture takes; empty: everyone's.
    struct Selection {
        std::string service, server_name;   ///< server_name in any case
        std::optional<IpPrefix> client;
    };
    /// A flow that has a line to write.
    struct Flow {
        Clock::time_point begun;
        std::string_view service, server_name;
        IpAddress client;
    };

    /// From now until end() or `until`, lines of flows that begin in that time and match are written into `room` octets of the file, from
    /// `offset` on.
    void begin(std::uint64_t capture, channel::Descriptor file, std::uint64_t offset, std::uint32_t room, Selection selection,
               Clock::time_point until);
    void end(std::uint64_t capture);

    [[nodiscard]] bool wanted() const noexcept { return wanted_.load(std::memory_order_relaxed); }
    /// Lines of the NSS key log format, each ended by LF; of one leg.
    void write(const Flow& flow, std::string_view lines);

    struct Counts {
        std::uint64_t lines = 0;      ///< written
        std::uint64_t dropped = 0;    ///< that found no room, or could not be written
    };
    [[nodiscard]] Counts counts(std::uint64_t capture) const;

 private:
    struct File {
        std::uint64_t capture = 0;
        channel::Descriptor file;
        std::uint64_t offset = 0;
        std::uint32_t left = 0;
        Selection selection;
        Clock::time_point since, until;
        Counts counts;
    };
    mutable std::mutex mutex_;
    std::vector<File> files_;
    std::atomic<bool> wanted_{false};
};

}  // namespace sallyport::flows
