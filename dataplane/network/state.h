#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "dataplane/network/address_table.h"
#include "dataplane/network/neighbour_table.h"
#include "dataplane/network/network.h"
#include "dataplane/network/path_mtu_cache.h"
#include "dataplane/network/route_table.h"
#include "dataplane/wire/arp.h"
#include "dataplane/wire/icmp.h"
#include "dataplane/wire/ipv4.h"
#include "dataplane/wire/ipv6.h"

struct rte_mbuf;
struct rte_mempool;

namespace sallyport::network {

/// At most `rate` a second in the long run, and `rate` at once.
class RateLimit {
 public:
    explicit RateLimit(std::int64_t rate) : interval_(Duration(1s) / rate), room_(1s) {}
    [[nodiscard]] bool take(Time now) noexcept {
        room_ = std::min<Duration>(room_ + (now - last_), 1s);
        last_ = now;
        if (room_ < interval_) return false;
        room_ -= interval_;
        return true;
    }

 private:
    Duration interval_;
    Duration room_;
    Time last_{};
};

/// What Network hides. network.cpp: construction, routes, sending. receive.cpp: what comes in, up to ICMP. resolution.cpp: ARP and
/// neighbour discovery.
struct Network::State {
    State(const Settings& settings, rte_mempool* buffers, DropCounters& drops);
    ~State();
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    // --- network.cpp
    /// The neighbour towards this destination, made if need be. Error: no_route, neighbour_unresolved (no slot).
    struct Towards {
        RouteTable::Hop hop;
        Neighbour* neighbour;
    };
    [[nodiscard]] std::expected<Towards, DropReason> towards(const IpAddress& destination, Time now);
    /// Their neighbours are never evicted.
    void pin_gateways(std::span<const Route> over, Time now);
    /// Sends a packet whose data starts at its IP header, or queues it until the neighbour is resolved. Takes it.
    void forward(Neighbour& neighbour, rte_mbuf* packet, Time now);
    void send_resolved(const Neighbour& neighbour, rte_mbuf* packet);
    /// Sends what we made ourselves: data starts at the ICMP header, checksums in software. Takes it.
    void send_icmp(rte_mbuf* message, const wire::IpHeader& ip, Neighbour& neighbour, Time now);
    void transmit(std::uint16_t interface, rte_mbuf* frame);
    /// A packet of ours with this much data behind 64 octets of headroom; counts no_buffer and returns null when there is none.
    [[nodiscard]] rte_mbuf* make_packet(std::uint16_t length);

    // --- receive.cpp
    /// What a step did with the frame; on an error it is dropped and counted.
    enum class Outcome : std::uint8_t {
        segment,   ///< the caller's, with result.segment
        error,     ///< result.error is filled in; the frame is to be freed
        done,      ///< the frame is to be freed
        reused,    ///< the frame has become our answer
    };
    using Step = std::expected<Outcome, DropReason>;
    struct Frame {
        rte_mbuf* mbuf;
        std::uint16_t interface;
        bool to_group;              ///< sent to a link-layer multicast or broadcast address
        wire::MacAddress from;
        std::uint32_t ip_offset;    ///< octets of the link-layer header
    };
    [[nodiscard]] Step receive_frame(rte_mbuf* mbuf, std::uint16_t interface, Time now, Received& result);
    [[nodiscard]] Step receive_ipv4(const Frame& frame, Time now, Received& result);
    [[nodiscard]] Step receive_ipv6(const Frame& frame, Time now, Received& result);
    [[nodiscard]] Step receive_tcp(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                   Received& result);
    [[nodiscard]] Step receive_icmp(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                    Time now, Received& result);
    [[nodiscard]] Step receive_icmpv6(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset,
                                      std::uint32_t length, Time now, Received& result);
    /// Keeps what was heard of an echo request, if somebody listens.
    void hear_echo(const EchoHeard& heard);
    /// An error that quotes no TCP segment: perhaps an echo request of ours. Whether it did.
    [[nodiscard]] bool hear_error(const wire::IpHeader& ip, const wire::IcmpHeader& icmp, std::span<const std::byte> quote, Time now);
    [[nodiscard]] Step answer_echo(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                   Time now);
    [[nodiscard]] bool martian_ipv4(const IpAddress& source) const noexcept;

    // --- resolution.cpp
    [[nodiscard]] Step receive_arp(const Frame& frame, Time now);
    [[nodiscard]] Step receive_neighbour_discovery(const Frame& frame, const wire::IpHeader& ip,
                                                   std::span<const std::byte> message, Time now);
    /// A neighbour said that it has this MAC address, `solicited` or of its own accord.
    void learn(Neighbour& neighbour, const MacAddress& mac, bool solicited, Time now);
    void resolve(Neighbour& neighbour, Time now);
    void reached(Neighbour& neighbour, Time now);
    void probe(Neighbour& neighbour, Time now);
    void solicit(const Neighbour& neighbour, bool unicast, Time now);
    void expire(Neighbour& neighbour, Time now);
    void set_timer(Neighbour& neighbour, Time until);
    void send_arp(std::uint16_t interface, const MacAddress& to, const wire::ArpPacket& arp);
    /// An ICMPv6 message of ours with a link-local scope: hop limit 255.
    void send_neighbour_message(std::uint16_t interface, const MacAddress& to, const IpAddress& source,
                                const IpAddress& destination, std::span<const std::byte> message);
    void announce(std::uint16_t interface);
    void announce(std::uint16_t interface, const IpAddress& address);
    void defend(std::uint16_t interface, const IpAddress& address, Time now);
    [[nodiscard]] bool on_interface(std::uint16_t interface, const IpAddress& address) const noexcept;

    std::vector<Interface> interfaces;
    bool answer_neighbours;
    std::uint8_t hop_limit, dscp;
    rte_mempool* buffers;
    DropCounters& drops;
    std::uint64_t seed;
    AddressTable addresses;
    RouteTable routes;
    PathMtuCache path_mtus;
    NeighbourTable neighbours;
    std::vector<std::vector<rte_mbuf*>> outgoing;   ///< by interface

    static constexpr std::size_t kMaxEchoes = 256;   ///< kept until they are taken
    bool listening_for_echoes = false;
    std::vector<EchoHeard> echoes;

    RateLimit echo_limit;
    RateLimit solicit_limit;
    RateLimit wanted_limit;   ///< of what is asked for gateways and for our own connections: no packet from outside can use it up
    struct Announcement {
        unsigned left = 0;
        Time next = Time::min();
        Time last_defence = Time::min();
    };
    std::vector<Announcement> announcements;   ///< by interface
    Time next_timer = Time::min();
    std::uint64_t random;                      ///< of the jitter of REACHABLE
};

}  // namespace sallyport::network
