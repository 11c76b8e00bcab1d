#pragma once

#include <cstdint>
#include <deque>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/channel/address.h"
#include "dataplane/network/network.h"
#include "dataplane/time.h"

namespace sallyport {

/// Pings from the appliance's own ports: which echo requests are due, and what came of each. No I/O: the main thread asks for the requests that
/// are due, has one worker send them, and brings what that worker heard. Bounded: kMost at a time, the oldest that has ended goes first.
class Pings {
 public:
    static constexpr std::size_t kMost = 16;
    static constexpr std::uint32_t kMostProbes = 1000;

    struct Settings {
        IpAddress to;
        std::uint32_t count = 5;             ///< 1 to kMostProbes
        Duration interval = 1s;
        Duration patience = 1s;              ///< for each reply
        std::uint16_t octets = 56;           ///< of data
    };
    /// Returns its number. `identifier` is what no other knows: replies with another are not ours. Error: too many run.
    [[nodiscard]] std::expected<std::uint64_t, std::string> start(const Settings& settings, std::uint16_t identifier, Time now);

    struct Due {
        std::uint64_t ping = 0;
        IpAddress to;
        std::uint16_t identifier = 0, sequence = 0, octets = 0;
    };
    /// Requests to send now; each is counted as sent at `now`.
    [[nodiscard]] std::vector<Due> due(Time now);
    /// It was not sent, for this reason.
    void not_sent(const Due& probe, std::string why);
    void heard(const network::EchoHeard& echo);
    /// Probes whose patience is over, to ask whether their next hop was ever resolved.
    [[nodiscard]] std::vector<Due> overdue(Time now) const;
    void timed_out(const Due& probe, std::string why);

    /// {"id", "address", "done", "sent", "received", "probes": [{"sequence", "outcome", "round_trip_us", "why", "from"}]}; outcome is one of
    /// waiting, reply, timeout, error. The error is for a person.
    [[nodiscard]] std::expected<nlohmann::json, std::string> read(std::uint64_t ping) const;
    /// Whether any waits for its next request or for a reply.
    [[nodiscard]] bool running() const noexcept;

 private:
    enum class Outcome : std::uint8_t { waiting,
                                        reply,
                                        timeout,
                                        error };
    struct Probe {
        Time sent{};
        Outcome outcome = Outcome::waiting;
        Duration round_trip{};
        std::string why;
        IpAddress from;
    };
    struct Ping {
        std::uint64_t id = 0;
        Settings settings;
        std::uint16_t identifier = 0;
        Time next{};
        std::vector<Probe> probes;   ///< sent; the sequence number is the index
        [[nodiscard]] bool done() const noexcept;
    };
    [[nodiscard]] Probe* find(std::uint64_t ping, std::uint16_t sequence) noexcept;

    std::deque<Ping> pings_;
    std::uint64_t next_id_ = 1;
};

}  // namespace sallyport
