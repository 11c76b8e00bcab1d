#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

/// Why a connection failed. One list: name and sentence.
#define SALLYPORT_GENERATOR_FAILURES(X)                                                  \
    X(no_route, "no route to the address")                                               \
    X(no_port, "every source port to the address is in use: give more client addresses") \
    X(no_memory, "no connection record free")                                            \
    X(refused, "the SYN was answered with RST")                                          \
    X(connect_timeout, "the SYN was not answered in time")                               \
    X(unreachable, "an ICMP error while connecting")                                     \
    X(handshake_timeout, "the TLS handshake was not done in time")                       \
    X(handshake_closed, "the peer closed or reset during the TLS handshake")             \
    X(alert_received, "the peer ended it with a TLS alert")                              \
    X(certificate_refused, "the peer's certificate was not verified")                    \
    X(handshake_failed, "our libssl refused the handshake")                              \
    X(answer_timeout, "no whole answer in time")                                         \
    X(reset, "the peer reset the connection")                                            \
    X(tcp_timeout, "TCP gave up: no acknowledgement, or no answer to keepalive")         \
    X(closed_early, "the peer closed before the message was complete")                   \
    X(truncated, "the stream ended without close_notify, or inside a record")            \
    X(bad_record, "a record that cannot be opened, or that TLS does not have here")      \
    X(bad_message, "not the HTTP/1.1 that was expected")                                 \
    X(no_buffer, "packet buffers ran out: give more")

namespace sallyport::generator {

enum class Failure : std::uint8_t {
#define SALLYPORT_X(name, sentence) name,
    SALLYPORT_GENERATOR_FAILURES(SALLYPORT_X)
#undef SALLYPORT_X
        count_
};

[[nodiscard]] constexpr const char* name(Failure failure) noexcept {
    switch (failure) {
#define SALLYPORT_X(name, sentence)   \
    case Failure::name: return #name;
        SALLYPORT_GENERATOR_FAILURES(SALLYPORT_X)
#undef SALLYPORT_X
        case Failure::count_: break;
    }
    return "?";
}
[[nodiscard]] constexpr const char* sentence(Failure failure) noexcept {
    switch (failure) {
#define SALLYPORT_X(name, sentence)      \
    case Failure::name: return sentence;
        SALLYPORT_GENERATOR_FAILURES(SALLYPORT_X)
#undef SALLYPORT_X
        case Failure::count_: break;
    }
    return "?";
}

struct FailureCounts {
    std::array<std::uint64_t, static_cast<std::size_t>(Failure::count_)> values{};
    void count(Failure failure) noexcept { ++values[static_cast<std::size_t>(failure)]; }
    [[nodiscard]] std::uint64_t operator[](Failure failure) const noexcept { return values[static_cast<std::size_t>(failure)]; }
    [[nodiscard]] std::uint64_t sum() const noexcept { return std::accumulate(values.begin(), values.end(), std::uint64_t{0}); }
};

}  // namespace sallyport::generator
