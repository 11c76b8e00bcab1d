// ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861) with one set of states.
#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/network/state.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/icmp.h"
#include "dataplane/wire/neighbour_discovery.h"

namespace sallyport::network {

namespace {

// RFC 4861 10.
constexpr std::uint8_t kMaxMulticastSolicit = 3, kMaxUnicastSolicit = 3;
constexpr Duration kRetransTimer = 1s;
constexpr std::int64_t kReachableTimeMs = 30'000;
constexpr Duration kDefendInterval = 10s;    // RFC 5227 1.1
constexpr Duration kAnnounceInterval = 2s;   // RFC 5227 1.1

/// RFC 2464 7: 33-33 and the last four octets of the group.
MacAddress group_mac(const IpAddress& group) {
    return {0x33, 0x33, group.octets[12], group.octets[13], group.octets[14], group.octets[15]};
}

}  // namespace

bool Network::State::on_interface(std::uint16_t interface, const IpAddress& address) const noexcept {
    return std::ranges::any_of(interfaces[interface].addresses,
                               [&](const IpPrefix& prefix) { return prefix.address == address; }) ||
           std::ranges::any_of(interfaces[interface].hosted,
                               [&](const IpPrefix& prefix) { return prefix.contains(address); });
}

auto Network::State::receive_arp(const Frame& frame, Time now) -> Step {
    constexpr std::unexpected invalid(DropReason::arp_invalid);
    if (frame.mbuf->data_len < frame.ip_offset) return invalid;
    const auto arp = wire::parse_arp(
        {rte_pktmbuf_mtod_offset(frame.mbuf, const std::byte*, frame.ip_offset), frame.mbuf->data_len - frame.ip_offset});
    if (!arp) return invalid;
    if (on_interface(frame.interface, arp->sender)) {  // someone else has our address
        if (arp->sender_mac != interfaces[frame.interface].mac) defend(frame.interface, arp->sender, now);
        return invalid;
    }
    // A probe (RFC 5227 1.1) has no sender address, and may ask for ours.
    const bool is_probe = arp->sender.is_unspecified();
    if (!is_probe && martian_ipv4(arp->sender)) return invalid;

    const bool for_us = on_interface(frame.interface, arp->target);
    const bool reply = arp->operation == wire::ArpPacket::Operation::reply;
    if (Neighbour* neighbour = is_probe ? nullptr : neighbours.find(arp->sender, frame.interface))
        learn(*neighbour, arp->sender_mac, reply && for_us, now);
    else if (reply)
        return invalid;  // nobody asked
    if (reply || !for_us || !answer_neighbours) return Outcome::done;
    send_arp(frame.interface, arp->sender_mac,
             {.operation = wire::ArpPacket::Operation::reply,
              .sender_mac = interfaces[frame.interface].mac,
              .sender = arp->target,
              .target_mac = arp->sender_mac,
              .target = arp->sender});
    return Outcome::done;
}

auto Network::State::receive_neighbour_discovery(const Frame& frame, const wire::IpHeader& ip,
                                                 std::span<const std::byte> message, Time now) -> Step {
    constexpr std::unexpected invalid(DropReason::nd_invalid);
    // RFC 4861 7.1.1, 7.1.2: nothing that a router has forwarded.
    if (ip.hop_limit != 255) return invalid;
    const bool to_group = ip.destination.octets[0] == 0xff;

    if (wire::load8(message.data()) == wire::icmpv6::kNeighbourSolicitation) {
        const auto solicitation = wire::parse_neighbour_solicitation(message);
        if (!solicitation) return invalid;
        const bool duplicate_detection = ip.source.is_unspecified();
        if (duplicate_detection &&
            (solicitation->source_mac || ip.destination != wire::solicited_node(solicitation->target)))
            return invalid;
        if (solicitation->source_mac)
            if (Neighbour* neighbour = neighbours.find(ip.source, frame.interface))
                learn(*neighbour, *solicitation->source_mac, false, now);
        if (!on_interface(frame.interface, solicitation->target) || !answer_neighbours) return Outcome::done;
        // RFC 4861 7.2.4. The link-layer address that the question came from serves where it names none (unicast probes).
        const IpAddress to = duplicate_detection ? wire::kAllNodes : ip.source;
        const MacAddress to_mac = duplicate_detection ? group_mac(to) : solicitation->source_mac.value_or(frame.from);
        std::array<std::byte, wire::kNeighbourMessageLength> answer;
        wire::write_neighbour_advertisement({.target = solicitation->target,
                                             .solicited = !duplicate_detection,
                                             .override_flag = true,
                                             .target_mac = interfaces[frame.interface].mac},
                                            answer);
        send_neighbour_message(frame.interface, to_mac, solicitation->target, to, answer);
        return Outcome::done;
    }

    const auto advertisement = wire::parse_neighbour_advertisement(message);
    if (!advertisement || ip.source.is_unspecified() || (to_group && advertisement->solicited)) return invalid;
    if (on_interface(frame.interface, advertisement->target)) {
        defend(frame.interface, advertisement->target, now);
        return invalid;
    }
    Neighbour* neighbour = neighbours.find(advertisement->target, frame.interface);
    if (neighbour == nullptr) return invalid;  // nobody asked
    if (!advertisement->target_mac) {
        // RFC 4861 7.2.5: of no use while INCOMPLETE; else it confirms what is known.
        if (!neighbour->has_mac()) return invalid;
        if (advertisement->solicited) reached(*neighbour, now);
        return Outcome::done;
    }
    learn(*neighbour, *advertisement->target_mac, advertisement->solicited, now);
    return Outcome::done;
}

void Network::State::learn(Neighbour& neighbour, const MacAddress& mac, bool solicited, Time now) {
    if (neighbour.has_mac()) {
        if (mac == neighbour.mac()) {
            if (solicited) reached(neighbour, now);
            return;
        }
        // A new address is not believed for the asking, whatever its override flag says (RFC 4861 7.2.5 would): the known one is
        // asked once, and when it is silent the neighbour is resolved anew. A takeover costs a second, poisoning needs more than a packet.
        if (neighbour.state != NeighbourState::probe) {
            neighbour.state = NeighbourState::probe;
            neighbour.solicitations = kMaxUnicastSolicit;
            solicit(neighbour, true, now);
            set_timer(neighbour, now + kRetransTimer);
        }
        return;
    }
    const Interface& interface = interfaces[neighbour.interface];
    neighbour.ethernet_length = static_cast<std::uint8_t>(wire::write_ethernet(
        {.destination = mac,
         .source = interface.mac,
         .vlan = interface.vlan,
         .type = neighbour.address.is_v4() ? wire::kEtherTypeIpv4 : wire::kEtherTypeIpv6},
        std::span<std::byte, wire::kEthernetLengthMax>(neighbour.ethernet)));
    neighbour.state = NeighbourState::stale;
    if (solicited) reached(neighbour, now);
    std::array<rte_mbuf*, NeighbourTable::kQueueLength> packets;
    const std::size_t count = neighbours.dequeue_all(neighbour, packets);
    for (std::size_t i = 0; i < count; ++i) forward(neighbour, packets[i], now);
}

void Network::State::reached(Neighbour& neighbour, Time now) {
    // RFC 4861 6.3.2: uniformly from 0.5 to 1.5 of the base, so that neighbours do not expire in step. xorshift64 is random enough.
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const auto jittered = static_cast<std::int64_t>(kReachableTimeMs / 2 + random % kReachableTimeMs);
    neighbour.state = NeighbourState::reachable;
    neighbour.until = now + std::chrono::milliseconds(jittered);
}

void Network::State::resolve(Neighbour& neighbour, Time now) {
    neighbour.state = NeighbourState::incomplete;
    neighbour.solicitations = 1;
    solicit(neighbour, false, now);
    set_timer(neighbour, now + kRetransTimer);
}

void Network::State::probe(Neighbour& neighbour, Time now) {
    neighbour.state = NeighbourState::probe;
    neighbour.solicitations = 1;
    solicit(neighbour, true, now);
    set_timer(neighbour, now + kRetransTimer);
}

void Network::State::set_timer(Neighbour& neighbour, Time until) {
    neighbours.set_timer(neighbour, until);
    next_timer = std::min(next_timer, until);
}

void Network::State::expire(Neighbour& neighbour, Time now) {
    switch (neighbour.state) {
        case NeighbourState::delay:
            probe(neighbour, now);
            return;
        case NeighbourState::incomplete:
        case NeighbourState::probe: {
            const bool unicast = neighbour.state == NeighbourState::probe;
            if (neighbour.solicitations >= (unicast ? kMaxUnicastSolicit : kMaxMulticastSolicit)) {
                neighbour.state = NeighbourState::failed;
                neighbours.drop_queue(neighbour);
                return;
            }
            ++neighbour.solicitations;
            solicit(neighbour, unicast, now);
            set_timer(neighbour, now + kRetransTimer);
            return;
        }
        case NeighbourState::unused:
        case NeighbourState::failed:
        case NeighbourState::reachable:
        case NeighbourState::stale:
            return;
    }
}

void Network::State::solicit(const Neighbour& neighbour, bool unicast, Time now) {
    RateLimit& limit = neighbour.pinned || neighbour.wanted ? wanted_limit : solicit_limit;
    if (!limit.take(now)) return;  // the retransmission asks again
    const auto source = routes.source(neighbour.interface, neighbour.address);
    if (!source) return;
    const MacAddress& our_mac = interfaces[neighbour.interface].mac;
    if (neighbour.address.is_v4()) {
        send_arp(neighbour.interface, unicast ? neighbour.mac() : wire::kBroadcastMac,
                 {.operation = wire::ArpPacket::Operation::request,
                  .sender_mac = our_mac,
                  .sender = *source,
                  .target_mac = {},
                  .target = neighbour.address});
        return;
    }
    const IpAddress to = unicast ? neighbour.address : wire::solicited_node(neighbour.address);
    std::array<std::byte, wire::kNeighbourMessageLength> message;
    wire::write_neighbour_solicitation({.target = neighbour.address, .source_mac = our_mac}, message);
    send_neighbour_message(neighbour.interface, unicast ? neighbour.mac() : group_mac(to), *source, to, message);
}

void Network::State::send_arp(std::uint16_t interface, const MacAddress& to, const wire::ArpPacket& arp) {
    const Interface& from = interfaces[interface];
    std::array<std::byte, wire::kEthernetLengthMax> ethernet;
    const std::size_t length = wire::write_ethernet(
        {.destination = to, .source = from.mac, .vlan = from.vlan, .type = wire::kEtherTypeArp}, ethernet);
    rte_mbuf* packet = make_packet(static_cast<std::uint16_t>(length + wire::kArpLength));
    if (packet == nullptr) return;
    auto* at = rte_pktmbuf_mtod(packet, std::byte*);
    std::memcpy(at, ethernet.data(), length);
    wire::write_arp(arp, std::span<std::byte, wire::kArpLength>(at + length, wire::kArpLength));
    transmit(interface, packet);
}

void Network::State::send_neighbour_message(std::uint16_t interface, const MacAddress& to, const IpAddress& source,
                                            const IpAddress& destination, std::span<const std::byte> message) {
    const Interface& from = interfaces[interface];
    std::array<std::byte, wire::kEthernetLengthMax> ethernet;
    const std::size_t length = wire::write_ethernet(
        {.destination = to, .source = from.mac, .vlan = from.vlan, .type = wire::kEtherTypeIpv6}, ethernet);
    rte_mbuf* packet = make_packet(static_cast<std::uint16_t>(length + wire::kIpv6HeaderLength + message.size()));
    if (packet == nullptr) return;
    auto* at = rte_pktmbuf_mtod(packet, std::byte*);
    std::memcpy(at, ethernet.data(), length);
    wire::write_ipv6({.source = source, .destination = destination, .protocol = wire::kProtocolIcmpv6, .hop_limit = 255},
                     static_cast<std::uint16_t>(message.size()), at + length);
    std::byte* body = at + length + wire::kIpv6HeaderLength;
    std::memcpy(body, message.data(), message.size());
    wire::store_checksum(
        body + wire::kIcmpChecksumOffset,
        wire::finish(wire::sum_pseudo_header(source, destination, wire::kProtocolIcmpv6,
                                             static_cast<std::uint32_t>(message.size())) +
                     wire::sum_octets(message)));
    transmit(interface, packet);
}

void Network::State::announce(std::uint16_t interface, const IpAddress& address) {
    const MacAddress& mac = interfaces[interface].mac;
    if (address.is_v4()) {  // an ARP announcement (RFC 5227 2.3)
        send_arp(interface, wire::kBroadcastMac,
                 {.operation = wire::ArpPacket::Operation::request,
                  .sender_mac = mac,
                  .sender = address,
                  .target_mac = {},
                  .target = address});
        return;
    }
    std::array<std::byte, wire::kNeighbourMessageLength> message;  // an unsolicited advertisement (RFC 4861 7.2.6)
    wire::write_neighbour_advertisement({.target = address, .override_flag = true, .target_mac = mac}, message);
    send_neighbour_message(interface, group_mac(wire::kAllNodes), address, wire::kAllNodes, message);
}

void Network::State::announce(std::uint16_t interface) {
    for (const IpPrefix& prefix : interfaces[interface].addresses) announce(interface, prefix.address);
}

/// RFC 5227 2.4(b): says once more that the address is ours, but not more often than every ten seconds.
void Network::State::defend(std::uint16_t interface, const IpAddress& address, Time now) {
    Announcement& state = announcements[interface];
    if (!answer_neighbours || now < state.last_defence + kDefendInterval) return;
    state.last_defence = now;
    announce(interface, address);
}

void Network::confirm(std::uint32_t next_hop, Time now) {
    State& state = *state_;
    Neighbour* neighbour = state.neighbours.get(next_hop);
    if (neighbour != nullptr && neighbour->has_mac()) state.reached(*neighbour, now);
}

void Network::advance(Time now) {
    State& state = *state_;
    if (now < state.next_timer) return;
    state.next_timer = Time::max();
    for (std::uint16_t i = 0; i < state.interfaces.size(); ++i) {
        State::Announcement& announcement = state.announcements[i];
        if (announcement.left == 0) continue;
        if (now >= announcement.next) {
            if (state.answer_neighbours) state.announce(i);
            --announcement.left;
            announcement.next = now + kAnnounceInterval;
        }
        if (announcement.left > 0) state.next_timer = std::min(state.next_timer, announcement.next);
    }
    state.neighbours.for_each_timed([&](Neighbour& neighbour) {
        if (neighbour.state != NeighbourState::incomplete && neighbour.state != NeighbourState::delay &&
            neighbour.state != NeighbourState::probe)
            return false;
        if (now >= neighbour.until) state.expire(neighbour, now);
        const bool goes_on = neighbour.state != NeighbourState::failed;
        if (goes_on) state.next_timer = std::min(state.next_timer, neighbour.until);
        return goes_on;
    });
}

void Network::link_up(std::uint16_t interface, Time now) {
    State& state = *state_;
    state.announcements[interface].left = 2;
    state.announcements[interface].next = now;
    state.next_timer = std::min(state.next_timer, now);
    // What was known may be another link now: it is used, and checked by the first packet.
    for (Neighbour& neighbour : state.neighbours.slots())
        if (neighbour.interface == interface && neighbour.state == NeighbourState::reachable)
            neighbour.state = NeighbourState::stale;
}

}  // namespace sallyport::network
