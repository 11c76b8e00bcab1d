#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/network/state.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/icmp.h"
#include "dataplane/wire/tcp_header.h"

namespace sallyport::network {

namespace {

using AddressKind = AddressTable::Kind;

/// What lies in one piece from `offset` on.
std::span<const std::byte> piece(const rte_mbuf* mbuf, std::uint32_t offset) {
    if (offset >= mbuf->data_len) return {};
    return {rte_pktmbuf_mtod_offset(mbuf, const std::byte*, offset), std::size_t{mbuf->data_len} - offset};
}

/// Cuts the packet to `length` octets: link-layer padding goes (short frames are filled up to 60 octets). `length` is at least
/// 1 and at most what there is.
void truncate(rte_mbuf* packet, std::uint32_t length) {
    if (packet->pkt_len == length) [[likely]]
        return;
    packet->pkt_len = length;
    rte_mbuf* last = packet;
    std::uint16_t segments = 1;
    while (length > last->data_len) {
        length -= last->data_len;
        last = last->next;
        ++segments;
    }
    last->data_len = static_cast<std::uint16_t>(length);
    if (last->next != nullptr) {
        rte_pktmbuf_free(last->next);
        last->next = nullptr;
    }
    packet->nb_segs = segments;
}

/// Whether the transport checksum over pseudo header and message is right.
bool checksum_good(const rte_mbuf* mbuf, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length) {
    return wire::finish(wire::sum_pseudo_header(ip.source, ip.destination, ip.protocol, length) +
                        wire::sum_mbuf(mbuf, offset, length)) == 0;
}

using What = Received::IcmpError::What;

/// RFC 1122 4.2.3.9: codes 2 to 4 are hard; the prohibitions of RFC 1812 5.2.7.1 (9, 10, 13) do not go away by waiting either.
What classify_ipv4(std::uint8_t code) {
    return code == 2 || code == 3 || code == 9 || code == 10 || code == 13 ? What::hard_unreachable : What::soft_unreachable;
}
/// RFC 5461 3.2, RFC 4443 3.1: prohibited, port unreachable, failed policy, reject route.
What classify_ipv6(std::uint8_t code) {
    return code == 1 || code == 4 || code == 5 || code == 6 ? What::hard_unreachable : What::soft_unreachable;
}

}  // namespace

bool Network::State::martian_ipv4(const IpAddress& source) const noexcept {
    const std::uint8_t first = source.octets[12];
    return first == 0 || first == 127 || first >= 224 || addresses.find(source) != AddressKind::none;
}

auto Network::State::receive_frame(rte_mbuf* mbuf, std::uint16_t interface, Time now, Received& result) -> Step {
    auto header = wire::parse_ethernet(piece(mbuf, 0));
    if (!header) return std::unexpected(header.error());
    if ((mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) header->vlan = mbuf->vlan_tci & 0x0fff;
    if (header->vlan != interfaces[interface].vlan) return std::unexpected(DropReason::vlan_mismatch);
    const bool to_group = wire::is_group(header->destination);
    if (!to_group && header->destination != interfaces[interface].mac) return std::unexpected(DropReason::ethernet_not_ours);
    const Frame frame{mbuf, interface, to_group, header->source, header->length};
    if (header->type == wire::kEtherTypeIpv4) return receive_ipv4(frame, now, result);
    if (header->type == wire::kEtherTypeIpv6) return receive_ipv6(frame, now, result);
    if (header->type == wire::kEtherTypeArp) return receive_arp(frame, now);
    return std::unexpected(DropReason::ethernet_unknown_type);
}

auto Network::State::receive_ipv4(const Frame& frame, Time now, Received& result) -> Step {
    const std::uint64_t flag = frame.mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    const bool trust = interfaces[frame.interface].receive_checksum_good;
    if (trust && flag == RTE_MBUF_F_RX_IP_CKSUM_BAD) return std::unexpected(DropReason::ip_bad_checksum);
    const auto packet = wire::parse_ipv4(piece(frame.mbuf, frame.ip_offset), frame.mbuf->pkt_len - frame.ip_offset,
                                         !(trust && flag == RTE_MBUF_F_RX_IP_CKSUM_GOOD));
    if (!packet) return std::unexpected(packet.error());
    if (martian_ipv4(packet->ip.source)) return std::unexpected(DropReason::ip_martian);
    // What is unicast to us comes in a unicast frame (RFC 1122 3.3.6), and neither TCP nor ping is for groups.
    if (frame.to_group || addresses.find(packet->ip.destination) != AddressKind::local)
        return std::unexpected(DropReason::ip_not_ours);
    truncate(frame.mbuf, frame.ip_offset + packet->total_length);
    const std::uint32_t offset = frame.ip_offset + packet->header_length;
    const std::uint32_t length = packet->total_length - packet->header_length;
    if (packet->ip.protocol == wire::kProtocolTcp) return receive_tcp(frame, packet->ip, offset, length, result);
    if (packet->ip.protocol == wire::kProtocolIcmp) return receive_icmp(frame, packet->ip, offset, length, now, result);
    return std::unexpected(DropReason::ip_unknown_protocol);
}

auto Network::State::receive_ipv6(const Frame& frame, Time now, Received& result) -> Step {
    const auto packet = wire::parse_ipv6(piece(frame.mbuf, frame.ip_offset), frame.mbuf->pkt_len - frame.ip_offset);
    if (!packet) return std::unexpected(packet.error());
    const wire::IpHeader& ip = packet->ip;
    constexpr IpAddress loopback{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    // The unspecified source is for duplicate address detection only: receive_icmpv6() knows.
    if (ip.source.octets[0] == 0xff || ip.source == loopback || addresses.find(ip.source) != AddressKind::none ||
        (ip.source.is_unspecified() && ip.protocol != wire::kProtocolIcmpv6))
        return std::unexpected(DropReason::ip_martian);
    const AddressKind kind = addresses.find(ip.destination);
    const bool to_group = kind == AddressKind::group;
    if ((kind != AddressKind::local && !to_group) || to_group != frame.to_group ||
        (to_group && ip.protocol != wire::kProtocolIcmpv6))
        return std::unexpected(DropReason::ip_not_ours);
    truncate(frame.mbuf, frame.ip_offset + packet->total_length);
    const std::uint32_t offset = frame.ip_offset + packet->header_length;
    const std::uint32_t length = packet->total_length - packet->header_length;
    if (ip.protocol == wire::kProtocolTcp) return receive_tcp(frame, ip, offset, length, result);
    if (ip.protocol == wire::kProtocolIcmpv6) return receive_icmpv6(frame, ip, offset, length, now, result);
    return std::unexpected(DropReason::ip_unknown_protocol);
}

auto Network::State::receive_tcp(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                 Received& result) -> Step {
    const auto segment = piece(frame.mbuf, offset);
    const auto tcp = wire::parse_tcp_header(segment);
    if (!tcp) return std::unexpected(tcp.error());
    const std::uint64_t flag = frame.mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    const bool trust = interfaces[frame.interface].receive_checksum_good;
    // "None": the octets were checked, or have crossed no wire; the field was left to the last device on the way (virtio).
    if (!(trust && (flag == RTE_MBUF_F_RX_L4_CKSUM_GOOD || flag == RTE_MBUF_F_RX_L4_CKSUM_NONE)) &&
        ((trust && flag == RTE_MBUF_F_RX_L4_CKSUM_BAD) || !checksum_good(frame.mbuf, ip, offset, length)))
        return std::unexpected(DropReason::tcp_bad_checksum);
    result.kind = Received::Kind::tcp;
    result.segment = {.ip = ip,
                      .tcp = *tcp,
                      .options = segment.subspan(wire::kTcpHeaderLength, tcp->length - wire::kTcpHeaderLength),
                      .payload_length = length - tcp->length};
    rte_pktmbuf_adj(frame.mbuf, static_cast<std::uint16_t>(offset + tcp->length));
    return Outcome::segment;
}

auto Network::State::receive_icmp(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                  Time now, Received& result) -> Step {
    const auto message = piece(frame.mbuf, offset);
    const auto icmp = wire::parse_icmp(message);
    if (!icmp) return std::unexpected(icmp.error());
    if (wire::finish(wire::sum_mbuf(frame.mbuf, offset, length)) != 0) return std::unexpected(DropReason::icmp_invalid);

    auto& error = result.error;
    switch (icmp->type) {
        case wire::icmp::kEchoRequest:
            return answer_echo(frame, ip, offset, length, now);
        case wire::icmp::kEchoReply:
            hear_echo({.from = ip.source,
                       .to = ip.source,
                       .identifier = static_cast<std::uint16_t>(icmp->rest >> 16),
                       .sequence = static_cast<std::uint16_t>(icmp->rest),
                       .at = now});
            return Outcome::done;
        case wire::icmp::kUnreachable:
            error.what = classify_ipv4(icmp->code);
            if (icmp->code == 4) {  // fragmentation needed (RFC 1191 4)
                error.what = What::packet_too_big;
                error.mtu = static_cast<std::uint16_t>(icmp->rest);
            }
            break;
        case wire::icmp::kTimeExceeded:
        case wire::icmp::kParameterProblem:
            error.what = What::soft_unreachable;
            break;
        default:
            return Outcome::done;  // source quench (RFC 6633), redirects: not for us
    }
    if (hear_error(ip, *icmp, message.subspan(wire::kIcmpHeaderLength), now)) return Outcome::done;
    const auto quoted = wire::parse_quote_ipv4(message.subspan(wire::kIcmpHeaderLength));
    if (!quoted || quoted->source != ip.destination) return std::unexpected(DropReason::icmp_unmatched);
    error.local = quoted->source;
    error.remote = quoted->destination;
    error.local_port = quoted->source_port;
    error.remote_port = quoted->destination_port;
    error.seq = quoted->seq;
    return Outcome::error;
}

auto Network::State::receive_icmpv6(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                    Time now, Received& result) -> Step {
    const auto message = piece(frame.mbuf, offset);
    const auto icmp = wire::parse_icmp(message);
    if (!icmp || !checksum_good(frame.mbuf, ip, offset, length)) return std::unexpected(DropReason::icmp_invalid);
    const bool discovery =
        icmp->type == wire::icmpv6::kNeighbourSolicitation || icmp->type == wire::icmpv6::kNeighbourAdvertisement;
    if (discovery) return receive_neighbour_discovery(frame, ip, message, now);
    if (ip.source.is_unspecified()) return std::unexpected(DropReason::ip_martian);

    auto& error = result.error;
    switch (icmp->type) {
        case wire::icmpv6::kEchoRequest:
            return answer_echo(frame, ip, offset, length, now);
        case wire::icmpv6::kEchoReply:
            hear_echo({.from = ip.source,
                       .to = ip.source,
                       .identifier = static_cast<std::uint16_t>(icmp->rest >> 16),
                       .sequence = static_cast<std::uint16_t>(icmp->rest),
                       .at = now});
            return Outcome::done;
        case wire::icmpv6::kUnreachable:
            error.what = classify_ipv6(icmp->code);
            break;
        case wire::icmpv6::kPacketTooBig:
            error.what = What::packet_too_big;
            error.mtu = static_cast<std::uint16_t>(std::min<std::uint32_t>(icmp->rest, 0xffff));
            break;
        case wire::icmpv6::kTimeExceeded:
        case wire::icmpv6::kParameterProblem:
            error.what = What::soft_unreachable;
            break;
        default:
            return Outcome::done;  // router advertisements and redirects: routes are configured
    }
    if (hear_error(ip, *icmp, message.subspan(wire::kIcmpHeaderLength), now)) return Outcome::done;
    const auto quoted = wire::parse_quote_ipv6(message.subspan(wire::kIcmpHeaderLength));
    if (!quoted || quoted->source != ip.destination) return std::unexpected(DropReason::icmp_unmatched);
    error.local = quoted->source;
    error.remote = quoted->destination;
    error.local_port = quoted->source_port;
    error.remote_port = quoted->destination_port;
    error.seq = quoted->seq;
    return Outcome::error;
}

auto Network::State::answer_echo(const Frame& frame, const wire::IpHeader& ip, std::uint32_t offset, std::uint32_t length,
                                 Time now) -> Step {
    if (!echo_limit.take(now)) return std::unexpected(DropReason::icmp_rate_limited);
    const auto found = towards(ip.source, now);
    if (!found) return std::unexpected(found.error());
    const bool ipv4 = ip.source.is_v4();
    // The frame becomes the answer. It has the headroom that it came with, and headers at least as long as ours.
    rte_pktmbuf_adj(frame.mbuf, static_cast<std::uint16_t>(offset));
    if (rte_pktmbuf_headroom(frame.mbuf) < wire::kEthernetLengthMax + wire::kIpv6HeaderLength)
        return std::unexpected(DropReason::no_buffer);
    auto* at = rte_pktmbuf_mtod(frame.mbuf, std::byte*);
    // An echo to a group is answered from an address of the interface (RFC 4443 4.2).
    const wire::IpHeader answer{
        .source = addresses.find(ip.destination) == AddressKind::local ? ip.destination : found->hop.source,
        .destination = ip.source,
        .protocol = ip.protocol,
        .hop_limit = 64,
        .traffic_class = static_cast<std::uint8_t>(ip.traffic_class & 0xfc)};
    wire::store8(at, ipv4 ? wire::icmp::kEchoReply : wire::icmpv6::kEchoReply);
    wire::store16(at + wire::kIcmpChecksumOffset, 0);
    const wire::Sum pseudo =
        ipv4 ? 0 : wire::sum_pseudo_header(answer.source, answer.destination, answer.protocol, length);
    wire::store_checksum(at + wire::kIcmpChecksumOffset, wire::finish(pseudo + wire::sum_mbuf(frame.mbuf, 0, length)));
    send_icmp(frame.mbuf, answer, *found->neighbour, now);
    return Outcome::reused;
}

Received Network::receive(rte_mbuf* frame, std::uint16_t interface, Time now) {
    Received result;
    const auto step = state_->receive_frame(frame, interface, now, result);
    if (!step) {
        state_->drops.count(step.error());
        rte_pktmbuf_free(frame);
        return result;
    }
    switch (*step) {
        case State::Outcome::segment:
        case State::Outcome::reused:
            break;
        case State::Outcome::error:
            result.kind = Received::Kind::icmp_error;
            [[fallthrough]];
        case State::Outcome::done:
            rte_pktmbuf_free(frame);
            break;
    }
    return result;
}

}  // namespace sallyport::network
