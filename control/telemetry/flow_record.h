#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace sallyport::telemetry {

/// One side of a flow as its record shows it. Empty or nought: not known, or it never came to that.
struct RecordedLeg {
    std::string peer;                       ///< socket address of the other end
    std::uint16_t version = 0, suite = 0, group = 0;   ///< wire ids; 0: no handshake was finished
    std::string alpn{}, server_name{};      ///< a server name that came by ECH is "protected"
    bool plain = false;                     ///< a member without TLS (level 1)
    bool resumed = false;
    std::uint64_t octets_in = 0, octets_out = 0;   ///< application octets from and to the peer
    std::chrono::nanoseconds handshake{-1};        ///< from its first octet (of a member: from connecting) to its end; negative: not finished
};

/// What is left of a flow when it has ended. Made by the handshake worker that had it; strings from peers are as they came.
struct FlowRecord {
    std::string id;                         ///< as in the log
    std::string kind = "flow";              ///< or "redirect": plain HTTP that was sent to https
    std::string service;                    ///< empty: it outlived the control that knew
    std::chrono::system_clock::time_point ended{};
    std::chrono::nanoseconds duration{0};
    std::string local;                      ///< socket address that the client connected to
    RecordedLeg client, backend;
    std::string ech;                        ///< "none", "grease", "accepted", "rejected"; empty: no handshake was finished
    std::string client_identity;            ///< subject of the client's verified certificate
    std::string pool, member, anchor;       ///< anchor: subject of the one that the member's certificate led to, or "pin"
    std::uint32_t attempts = 0;             ///< members that were tried
    std::string reason, sentence;           ///< of the end: EndReason's
};

/// One line of JSON without its LF, in a fixed order of members, times in ISO 8601 UTC with milliseconds, durations in seconds. What is not
/// known is left out. Octets that are not UTF-8 become U+FFFD; nothing that a peer sends can end the line. Pure.
[[nodiscard]] std::string to_json(const FlowRecord& record);

/// "2026-11-03T14:05:09.123Z"
[[nodiscard]] std::string iso8601_ms(std::chrono::system_clock::time_point time);

}  // namespace sallyport::telemetry
