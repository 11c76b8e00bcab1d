#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// Why a packet, segment or record was dropped, or an oddity answered. One list: name and sentence; the enum, its
/// counter and its text are made from it. Grouped by layer; keep each group together.
#define SALLYPORT_DROP_REASONS(X)                                                                         \
    /* Ethernet, IP */                                                                                    \
    X(ethernet_too_short, "frame shorter than its headers")                                               \
    X(ethernet_not_ours, "frame for another station")                                                     \
    X(ethernet_unknown_type, "EtherType that is neither IPv4, IPv6 nor ARP")                              \
    X(vlan_mismatch, "802.1Q tag that the port does not carry")                                           \
    X(ip_bad_header, "IP header malformed or truncated")                                                  \
    X(ip_bad_checksum, "IPv4 header checksum wrong")                                                      \
    X(ip_fragment, "IP fragment (not reassembled)")                                                       \
    X(ip_options, "source route: IPv4 option or IPv6 routing header")                                     \
    X(ip_martian, "source address that cannot be: multicast, loopback, unspecified or our own")           \
    X(ip_not_ours, "destination address is not ours")                                                     \
    X(ip_unknown_protocol, "neither TCP nor ICMP")                                                        \
    X(arp_invalid, "malformed ARP, or one that nobody asked for")                                         \
    X(nd_invalid, "malformed neighbour discovery, or one that nobody asked for")                          \
    X(icmp_invalid, "malformed ICMP or wrong checksum")                                                   \
    X(icmp_unmatched, "ICMP error that matches no connection or lies outside its window")                 \
    X(icmp_rate_limited, "ICMP not answered: over the rate limit")                                        \
    X(neighbour_unresolved, "no answer from the next hop: queued packet dropped")                         \
    X(no_route, "no route to the destination")                                                            \
    /* TCP */                                                                                             \
    X(tcp_bad_header, "TCP header malformed or truncated")                                                \
    X(tcp_bad_checksum, "TCP checksum wrong")                                                             \
    X(tcp_no_listener, "SYN to a port on which nothing listens: answered with RST")                       \
    X(tcp_no_connection, "segment of no connection: answered with RST")                                   \
    X(tcp_syn_queue_full, "SYN dropped: too many connections half open")                                  \
    X(tcp_connection_limit, "SYN dropped: no connection record free")                                     \
    X(tcp_bad_cookie, "ACK that completes no SYN cookie")                                                 \
    X(tcp_paws, "timestamp older than the last one (PAWS, RFC 7323 5)")                                   \
    X(tcp_out_of_window, "sequence number outside the receive window: answered with ACK")                 \
    X(tcp_challenge_ack, "RST, SYN or ACK answered with a challenge ACK (RFC 5961)")                      \
    X(tcp_challenge_limited, "challenge ACK not sent: over the rate limit")                               \
    X(tcp_unacceptable_ack, "ACK of octets never sent, or too old")                                       \
    X(tcp_no_ack, "segment without ACK in a synchronized state")                                          \
    X(tcp_duplicate_octets, "octets that had been received before")                                       \
    X(tcp_after_fin, "octets after the peer's FIN")                                                       \
    X(tcp_reassembly_full, "out-of-order octets dropped: reassembly queue at its bound")                  \
    X(tcp_receive_full, "octets beyond the receive buffer")                                               \
    X(tcp_memory_pressure, "octets dropped because connections hold as many packet buffers as they may")  \
    X(tcp_data_after_close, "octets for a connection that nobody reads any more: answered with RST")      \
    /* steering, resources */                                                                             \
    X(steering_ring_full, "packet for another worker dropped: its ring is full")                          \
    X(transmit_ring_full, "packet dropped: the device's transmit ring is full")                           \
    X(no_buffer, "no packet buffer free")                                                                 \
    X(no_flow, "no flow record free")                                                                     \
    X(no_port, "connection to a backend not made: no port of ours was found free")                        \
    X(control_away, "new connection refused: control has been away for too long")                        \
    X(channel_full, "message to control put off: the lane is full")                                       \
    X(channel_bad_message, "message of control with an impossible length, type or value")                 \
    X(channel_stale_flow, "message of control for a flow that has ended")

namespace sallyport {

enum class DropReason : std::uint8_t {
#define SALLYPORT_X(name, sentence) name,
    SALLYPORT_DROP_REASONS(SALLYPORT_X)
#undef SALLYPORT_X
    count_
};

[[nodiscard]] const char* name(DropReason reason) noexcept;
[[nodiscard]] const char* sentence(DropReason reason) noexcept;

/// Counters of one worker, written by it alone; others read them now and then and may see them a little late.
struct DropCounters {
    std::array<std::uint64_t, static_cast<std::size_t>(DropReason::count_)> values{};
    void count(DropReason reason, std::uint64_t n = 1) noexcept { values[static_cast<std::size_t>(reason)] += n; }
    [[nodiscard]] std::uint64_t operator[](DropReason reason) const noexcept {
        return values[static_cast<std::size_t>(reason)];
    }
};

}  // namespace sallyport
