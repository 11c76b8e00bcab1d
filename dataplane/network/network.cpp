#include "dataplane/network/network.h"

#include <rte_mbuf.h>

#include <algorithm>

#include "crypto/check.h"
#include "dataplane/network/state.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/tcp_header.h"

namespace sallyport::network {

namespace {

constexpr std::uint16_t kHeadroom = 64;     // Ethernet with a tag 18, IPv6 40, rounded up
constexpr std::size_t kMaxOutgoing = 65536; // frames an interface; more than any device's ring takes
// Answers to pings, and questions about neighbours: enough for monitoring and for a busy link, too few for a reflector.
constexpr std::int64_t kEchoRate = 1000, kSolicitRate = 1000;

/// Interfaces with IPv6 but without a link-local address get one of their MAC address (RFC 4291 2.5.6 and appendix A):
/// routers and neighbours expect us to have one (2.8).
std::vector<Interface> with_link_local(std::vector<Interface> interfaces) {
    for (Interface& interface : interfaces) {
        const auto is_ipv6 = [](const IpPrefix& prefix) { return !prefix.address.is_v4(); };
        const auto is_link_local = [](const IpPrefix& prefix) { return wire::is_link_local(prefix.address); };
        if (std::ranges::none_of(interface.addresses, is_ipv6) || std::ranges::any_of(interface.addresses, is_link_local))
            continue;
        const MacAddress& mac = interface.mac;
        interface.addresses.push_back({IpAddress{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(mac[0] ^ 2), mac[1],
                                                  mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}},
                                       64});
    }
    return interfaces;
}

std::size_t count_addresses(const std::vector<Interface>& interfaces) {
    std::size_t count = 1;
    for (const Interface& interface : interfaces) count += 2 * interface.addresses.size();
    return count;
}

IpAddress broadcast_of(IpPrefix prefix);

AddressTable addresses_of(const std::vector<Interface>& interfaces, std::uint64_t seed) {
    using enum AddressTable::Kind;
    AddressTable addresses(count_addresses(interfaces), seed);
    for (const Interface& interface : interfaces)
        for (const IpPrefix& prefix : interface.addresses) addresses.add(prefix.address, local);
    for (const Interface& interface : interfaces)
        for (const IpPrefix& prefix : interface.hosted) addresses.add_hosted(prefix);
    for (const Interface& interface : interfaces) {
        for (const IpPrefix& prefix : interface.addresses) {
            if (!prefix.address.is_v4())
                addresses.add(wire::solicited_node(prefix.address), group);
            else if (prefix.length < 31)  // RFC 3021: /31 has no broadcast address
                addresses.add(broadcast_of(prefix), broadcast);
        }
    }
    addresses.add(wire::kAllNodes, group);
    return addresses;
}

IpAddress broadcast_of(IpPrefix prefix) {
    for (unsigned bit = prefix.length; bit < 32; ++bit)
        prefix.address.octets[12 + bit / 8] |= static_cast<std::uint8_t>(0x80 >> bit % 8);
    return prefix.address;
}

}  // namespace

Network::State::State(const Settings& settings, rte_mempool* pool, DropCounters& drop_counters)
    : interfaces(with_link_local(settings.interfaces)),
      answer_neighbours(settings.answer_neighbours), hop_limit(settings.hop_limit), dscp(settings.dscp),
      buffers(pool),
      drops(drop_counters),
      seed(settings.random_seed),
      addresses(addresses_of(interfaces, settings.random_seed)),
      routes(interfaces, settings.routes),
      path_mtus(settings.random_seed),
      neighbours(settings.max_neighbours, settings.random_seed, drop_counters),
      outgoing(interfaces.size()),
      echo_limit(kEchoRate),
      solicit_limit(kSolicitRate),
      wanted_limit(kSolicitRate),
      announcements(interfaces.size()),
      random(settings.random_seed | 1) {
    pin_gateways(settings.routes, Time{});
    for (auto& frames : outgoing) frames.reserve(4096);
    for (Announcement& announcement : announcements) announcement.left = 2;  // RFC 5227 1.1: ANNOUNCE_NUM
}

Network::State::~State() {
    for (auto& frames : outgoing) rte_pktmbuf_free_bulk(frames.data(), static_cast<unsigned>(frames.size()));
}

std::expected<Network::State::Towards, DropReason> Network::State::towards(const IpAddress& destination, Time now) {
    if (addresses.find(destination) != AddressTable::Kind::none || destination.is_unspecified() ||
        (destination.is_v4() ? destination.octets[12] >= 224 || destination.octets[12] == 127 : destination.octets[0] == 0xff))
        return std::unexpected(DropReason::no_route);
    const auto hop = routes.find(destination);
    if (!hop) return std::unexpected(DropReason::no_route);
    Neighbour* neighbour = neighbours.find_or_make(hop->next_hop, hop->interface, now);
    if (neighbour == nullptr) return std::unexpected(DropReason::neighbour_unresolved);
    return Towards{*hop, neighbour};
}

void Network::State::transmit(std::uint16_t interface, rte_mbuf* frame) {
    auto& frames = outgoing[interface];
    if (frames.size() == kMaxOutgoing) [[unlikely]] {
        drops.count(DropReason::transmit_ring_full);
        rte_pktmbuf_free(frame);
        return;
    }
    frames.push_back(frame);
}

void Network::State::send_resolved(const Neighbour& neighbour, rte_mbuf* packet) {
    std::memcpy(rte_pktmbuf_prepend(packet, neighbour.ethernet_length), neighbour.ethernet.data(), neighbour.ethernet_length);
    packet->l2_len = neighbour.ethernet_length;
    transmit(neighbour.interface, packet);
}

void Network::State::forward(Neighbour& neighbour, rte_mbuf* packet, Time now) {
    neighbour.last_used = now;
    switch (neighbour.state) {
        case NeighbourState::reachable:
            if (now < neighbour.until) [[likely]]
                break;
            [[fallthrough]];
        case NeighbourState::stale:  // RFC 4861 7.3.3: the first packet to a STALE neighbour
            neighbour.state = NeighbourState::delay;
            set_timer(neighbour, now + 5s);  // DELAY_FIRST_PROBE_TIME
            break;
        case NeighbourState::delay:
        case NeighbourState::probe:
            break;
        case NeighbourState::unused:
        case NeighbourState::failed:
            resolve(neighbour, now);
            [[fallthrough]];
        case NeighbourState::incomplete:
            neighbours.enqueue(neighbour, packet);
            return;
    }
    send_resolved(neighbour, packet);
}

rte_mbuf* Network::State::make_packet(std::uint16_t length) {
    rte_mbuf* packet = rte_pktmbuf_alloc(buffers);
    if (packet == nullptr) {
        drops.count(DropReason::no_buffer);
        return nullptr;
    }
    SALLYPORT_CHECK(rte_pktmbuf_headroom(packet) >= kHeadroom && rte_pktmbuf_append(packet, length) != nullptr);
    return packet;
}

void Network::State::send_icmp(rte_mbuf* message, const wire::IpHeader& ip, Neighbour& neighbour, Time now) {
    const auto length = static_cast<std::uint16_t>(message->pkt_len);
    message->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
    message->tx_offload = 0;
    const std::size_t header = ip.source.is_v4() ? wire::kIpv4HeaderLength : wire::kIpv6HeaderLength;
    auto* at = reinterpret_cast<std::byte*>(rte_pktmbuf_prepend(message, static_cast<std::uint16_t>(header)));
    if (ip.source.is_v4())
        wire::write_ipv4(ip, static_cast<std::uint16_t>(header + length), true, at);
    else
        wire::write_ipv6(ip, length, at);
    forward(neighbour, message, now);
}

Network::Network(const Settings& settings, rte_mempool* buffers, DropCounters& drops)
    : state_(std::make_unique<State>(settings, buffers, drops)) {}
Network::~Network() = default;

std::expected<PathFrom, DropReason> Network::route(const IpAddress& remote, Time now, Use use) {
    State& state = *state_;
    const auto found = state.towards(remote, now);
    if (!found) return std::unexpected(found.error());
    found->neighbour->last_used = now;
    found->neighbour->wanted |= use == Use::open;
    if (found->neighbour->state == NeighbourState::failed) state.resolve(*found->neighbour, now);
    return PathFrom{{.interface = found->hop.interface, .mtu = state.path_mtus.find(remote, state.interfaces[found->hop.interface].mtu, now), .next_hop = state.neighbours.identifier(*found->neighbour)}, found->hop.source};
}

void Network::send_tcp(rte_mbuf* segment, const IpAddress& source, const IpAddress& destination, Path& path,
                       std::uint8_t ecn, Time now, std::uint16_t segment_size) {
    State& state = *state_;
    Neighbour* neighbour = state.neighbours.get(path.next_hop);
    if (neighbour == nullptr) [[unlikely]] {  // evicted since, or routes have changed
        const auto found = state.towards(destination, now);
        if (!found) {
            state.drops.count(found.error());
            rte_pktmbuf_free(segment);
            return;
        }
        neighbour = found->neighbour;
        path.interface = found->hop.interface;
        path.next_hop = state.neighbours.identifier(*neighbour);
    }
    SALLYPORT_CHECK(rte_pktmbuf_headroom(segment) >= kHeadroom && segment->data_len >= wire::kTcpHeaderLength);

    const Interface& out = state.interfaces[neighbour->interface];
    const bool offload = out.checksum_offload;
    if (segment_size != 0 && (!offload || segment->nb_segs > out.segmentation_buffers)) [[unlikely]] {
        // The route has changed this moment, to a device that does not cut: TCP sends again, by what the path is now.
        state.drops.count(DropReason::no_route);
        rte_pktmbuf_free(segment);
        return;
    }
    const bool ipv4 = source.is_v4();
    const std::uint32_t tcp_length = segment->pkt_len;
    std::uint64_t flags = segment->ol_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL);
    auto* tcp = rte_pktmbuf_mtod(segment, std::byte*);
    // What is to be cut has a length of its own in each segment: the device adds it (as rte_ipv4_phdr_cksum() has it).
    const wire::Sum pseudo = wire::sum_pseudo_header(source, destination, wire::kProtocolTcp, segment_size != 0 ? 0 : tcp_length);
    segment->tx_offload = 0;
    if (offload) {
        // The device goes on from the sum of the pseudo header, not complemented, in the checksum field.
        wire::store_checksum(tcp + wire::kTcpChecksumOffset, wire::fold(pseudo));
        flags |= RTE_MBUF_F_TX_TCP_CKSUM | (ipv4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
        if (ipv4 && !out.ipv4_checksum_here) flags |= RTE_MBUF_F_TX_IP_CKSUM;
        segment->l3_len = ipv4 ? wire::kIpv4HeaderLength : wire::kIpv6HeaderLength;
        if (segment_size != 0) {
            flags |= RTE_MBUF_F_TX_TCP_SEG;
            segment->l4_len = static_cast<std::uint64_t>(wire::load8(tcp + 12) >> 4) * 4;
            segment->tso_segsz = segment_size;
        }
    } else {
        wire::store_checksum(tcp + wire::kTcpChecksumOffset, 0);
        wire::store_checksum(tcp + wire::kTcpChecksumOffset,
                             wire::finish(pseudo + wire::sum_mbuf(segment, 0, tcp_length)));
    }
    segment->ol_flags = flags;

    const wire::IpHeader ip{.source = source,
                            .destination = destination,
                            .protocol = wire::kProtocolTcp,
                            .hop_limit = state.hop_limit,
                            .traffic_class = static_cast<std::uint8_t>(state.dscp << 2 | ecn)};
    if (ipv4) {
        auto* at = reinterpret_cast<std::byte*>(rte_pktmbuf_prepend(segment, wire::kIpv4HeaderLength));
        wire::write_ipv4(ip, static_cast<std::uint16_t>(wire::kIpv4HeaderLength + tcp_length), !offload || out.ipv4_checksum_here, at);
    } else {
        auto* at = reinterpret_cast<std::byte*>(rte_pktmbuf_prepend(segment, wire::kIpv6HeaderLength));
        wire::write_ipv6(ip, static_cast<std::uint16_t>(tcp_length), at);
    }
    state.forward(*neighbour, segment, now);
}

std::uint16_t Network::segmentation(const Path& path) const noexcept {
    const Interface& interface = state_->interfaces[path.interface];
    return interface.checksum_offload ? interface.segmentation_buffers : std::uint16_t{0};
}

bool Network::cut_by_kernel(const Path& path) const noexcept { return segmentation(path) > 0 && state_->interfaces[path.interface].cut_by_kernel; }

struct Network::Change::Tables {
    Tables(std::vector<Interface> with, std::span<const Route> over, std::uint64_t seed)
        : interfaces(std::move(with)), addresses(addresses_of(interfaces, seed)), routes(interfaces, over), gateways(over.begin(), over.end()) {}
    std::vector<Interface> interfaces;
    AddressTable addresses;
    RouteTable routes;
    std::vector<Route> gateways;
};

Network::Change::Change(std::unique_ptr<Tables> tables) : tables_(std::move(tables)) {}
Network::Change::~Change() = default;

std::unique_ptr<Network::Change> Network::prepare(std::span<const std::vector<IpPrefix>> addresses, std::span<const Route> routes) const {
    std::vector<Interface> interfaces = state_->interfaces;
    SALLYPORT_CHECK(addresses.size() == interfaces.size());
    for (std::size_t i = 0; i < interfaces.size(); ++i) interfaces[i].addresses = addresses[i];
    return std::unique_ptr<Change>(
        new Change(std::make_unique<Change::Tables>(with_link_local(std::move(interfaces)), routes, state_->seed)));
}

void Network::change(Change& change, Time now) {
    State& state = *state_;
    Change::Tables& next = *change.tables_;
    for (std::uint16_t i = 0; i < state.interfaces.size(); ++i) {
        const bool some_new = std::ranges::any_of(next.interfaces[i].addresses,
                                                  [&](const IpPrefix& prefix) { return !state.on_interface(i, prefix.address); });
        if (!some_new) continue;
        state.announcements[i] = {.left = 2, .next = now, .last_defence = state.announcements[i].last_defence};
        state.next_timer = std::min(state.next_timer, now);
    }
    state.interfaces.swap(next.interfaces);   // a RouteTable looks at the vector's elements, which stay where they are
    std::swap(state.addresses, next.addresses);
    std::swap(state.routes, next.routes);
    for (Neighbour& neighbour : state.neighbours.slots()) neighbour.pinned = false;
    state.pin_gateways(next.gateways, now);
    state.neighbours.renew_identifiers();
}

void Network::State::pin_gateways(std::span<const Route> over, Time now) {
    for (const Route& route : over) {
        const auto interface = routes.connected(route.via);
        if (!interface) continue;
        if (Neighbour* gateway = neighbours.find_or_make(route.via, *interface, now)) gateway->pinned = true;
    }
}

void Network::lower_mtu(const IpAddress& remote, std::uint16_t mtu, Time now) { state_->path_mtus.lower(remote, mtu, now); }

std::span<rte_mbuf*> Network::to_transmit(std::uint16_t interface) { return state_->outgoing[interface]; }
void Network::taken(std::uint16_t interface) { state_->outgoing[interface].clear(); }

bool Network::is_local(const IpAddress& address) const {
    return state_->addresses.find(address) == AddressTable::Kind::local;
}

std::vector<Network::NeighbourStatus> Network::neighbours() const {
    std::vector<NeighbourStatus> result;
    for (const Neighbour& entry : state_->neighbours.slots()) {
        const char* text = nullptr;
        switch (entry.state) {
            case NeighbourState::unused:
                continue;
            case NeighbourState::failed:
            case NeighbourState::incomplete:
                text = "INCOMPLETE";
                break;
            case NeighbourState::reachable:
                text = "REACHABLE";
                break;
            case NeighbourState::stale:
                text = "STALE";
                break;
            case NeighbourState::delay:
                text = "DELAY";
                break;
            case NeighbourState::probe:
                text = "PROBE";
                break;
        }
        result.push_back({entry.address, entry.has_mac() ? entry.mac() : MacAddress{}, entry.interface, text});
    }
    return result;
}

}  // namespace sallyport::network
