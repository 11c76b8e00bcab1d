// Echo requests of our own (RFC 792, RFC 4443 4.1): `ping` from the appliance's ports.
#include <rte_mbuf.h>

#include <algorithm>
#include <utility>

#include "dataplane/network/state.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/icmp.h"

namespace sallyport::network {

namespace {

using What = EchoHeard::What;

std::optional<What> classify(bool ipv4, const wire::IcmpHeader& icmp) {
    if (ipv4) {
        if (icmp.type == wire::icmp::kUnreachable) return icmp.code == 4 ? What::packet_too_big : What::unreachable;
        if (icmp.type == wire::icmp::kTimeExceeded) return What::time_exceeded;
        if (icmp.type == wire::icmp::kParameterProblem) return What::parameter_problem;
        return std::nullopt;
    }
    if (icmp.type == wire::icmpv6::kUnreachable) return What::unreachable;
    if (icmp.type == wire::icmpv6::kPacketTooBig) return What::packet_too_big;
    if (icmp.type == wire::icmpv6::kTimeExceeded) return What::time_exceeded;
    if (icmp.type == wire::icmpv6::kParameterProblem) return What::parameter_problem;
    return std::nullopt;
}

}  // namespace

void Network::State::hear_echo(const EchoHeard& heard) {
    if (listening_for_echoes && echoes.size() < kMaxEchoes) echoes.push_back(heard);
}

bool Network::State::hear_error(const wire::IpHeader& ip, const wire::IcmpHeader& icmp, std::span<const std::byte> quote, Time now) {
    if (!listening_for_echoes) return false;
    const bool ipv4 = ip.source.is_v4();
    const auto what = classify(ipv4, icmp);
    const auto quoted = ipv4 ? wire::parse_quoted_echo_ipv4(quote) : wire::parse_quoted_echo_ipv6(quote);
    if (!what || !quoted || quoted->source != ip.destination) return false;
    hear_echo({.what = *what,
               .code = icmp.code,
               .from = ip.source,
               .to = quoted->destination,
               .identifier = quoted->identifier,
               .sequence = quoted->sequence,
               .at = now});
    return true;
}

std::expected<std::uint16_t, DropReason> Network::echo_room(const IpAddress& to, Time now) {
    const auto path = route(to, now, Use::open);
    if (!path) return std::unexpected(path.error());
    const std::size_t headers = (to.is_v4() ? wire::kIpv4HeaderLength : wire::kIpv6HeaderLength) + wire::kIcmpHeaderLength;
    return static_cast<std::uint16_t>(path->mtu > headers ? path->mtu - headers : 0);
}

std::expected<void, DropReason> Network::send_echo(const IpAddress& to, std::uint16_t identifier, std::uint16_t sequence, std::uint16_t octets,
                                                   Time now) {
    State& state = *state_;
    const auto found = state.towards(to, now);
    if (!found) return std::unexpected(found.error());
    found->neighbour->wanted = true;   // asked for from the budget of what we want ourselves
    const bool ipv4 = to.is_v4();
    const auto length = static_cast<std::uint16_t>(wire::kIcmpHeaderLength + octets);
    rte_mbuf* const message = state.make_packet(length);
    if (message == nullptr) return std::unexpected(DropReason::no_buffer);
    auto* const at = rte_pktmbuf_mtod(message, std::byte*);
    wire::write_icmp({.type = ipv4 ? wire::icmp::kEchoRequest : wire::icmpv6::kEchoRequest,
                      .code = 0,
                      .rest = std::uint32_t{identifier} << 16 | sequence},
                     at);
    for (std::uint16_t i = 0; i < octets; ++i) wire::store8(at + wire::kIcmpHeaderLength + i, static_cast<std::uint8_t>(i));
    const wire::IpHeader ip{.source = found->hop.source,
                            .destination = to,
                            .protocol = ipv4 ? wire::kProtocolIcmp : wire::kProtocolIcmpv6,
                            .hop_limit = 64};
    const wire::Sum pseudo = ipv4 ? 0 : wire::sum_pseudo_header(ip.source, ip.destination, ip.protocol, length);
    wire::store_checksum(at + wire::kIcmpChecksumOffset, wire::finish(pseudo + wire::sum_mbuf(message, 0, length)));
    state.send_icmp(message, ip, *found->neighbour, now);
    return {};
}

bool Network::is_resolved(const IpAddress& to, Time now) {
    const auto found = state_->towards(to, now);
    return found && found->neighbour->has_mac();
}

void Network::listen_for_echoes(bool listen) {
    state_->listening_for_echoes = listen;
    if (listen)
        state_->echoes.reserve(State::kMaxEchoes);
    else
        state_->echoes.clear();
}

std::vector<EchoHeard> Network::take_echoes() {
    std::vector<EchoHeard> taken(state_->echoes);   // the place for the next ones stays reserved
    state_->echoes.clear();
    return taken;
}

}  // namespace sallyport::network
