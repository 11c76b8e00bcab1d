#include "dataplane/wire/icmp.h"

#include "dataplane/wire/ipv4.h"
#include "dataplane/wire/ipv6.h"

namespace sallyport::wire {

namespace {

constexpr std::size_t kQuotedOctets = 8;  // RFC 792: ports and sequence number

std::optional<QuotedSegment> with_ports(QuotedSegment quoted, std::span<const std::byte> segment) noexcept {
    if (segment.size() < kQuotedOctets) return std::nullopt;
    quoted.source_port = load16(segment.data());
    quoted.destination_port = load16(segment.data() + 2);
    quoted.seq = load32(segment.data() + 4);
    return quoted;
}

/// What follows the IP header of a quoted packet of this protocol; nothing when it is another, or not the first fragment.
struct Quoted {
    IpAddress source, destination;
    std::span<const std::byte> payload;
};
std::optional<Quoted> quoted_ipv4(std::span<const std::byte> quote, std::uint8_t protocol) noexcept {
    if (quote.size() < kIpv4HeaderLength) return std::nullopt;
    const std::byte* at = quote.data();
    const std::size_t header_length = (load8(at) & 0xfu) * 4;
    if (load8(at) >> 4 != 4 || header_length < kIpv4HeaderLength || header_length > quote.size()) return std::nullopt;
    if (load8(at + 9) != protocol || (load16(at + 6) & 0x1fff) != 0) return std::nullopt;
    return Quoted{load_ipv4(at + 12), load_ipv4(at + 16), quote.subspan(header_length)};
}
std::optional<Quoted> quoted_ipv6(std::span<const std::byte> quote, std::uint8_t protocol) noexcept {
    // We send no extension headers, so that a quote of ours has none.
    if (quote.size() < kIpv6HeaderLength) return std::nullopt;
    const std::byte* at = quote.data();
    if (load8(at) >> 4 != 6 || load8(at + 6) != protocol) return std::nullopt;
    return Quoted{load_ipv6(at + 8), load_ipv6(at + 24), quote.subspan(kIpv6HeaderLength)};
}

std::optional<QuotedEcho> echo_of(const std::optional<Quoted>& quoted, std::uint8_t request) noexcept {
    if (!quoted || quoted->payload.size() < kIcmpHeaderLength || load8(quoted->payload.data()) != request) return std::nullopt;
    return QuotedEcho{quoted->source, quoted->destination, load16(quoted->payload.data() + 4), load16(quoted->payload.data() + 6)};
}

}  // namespace

std::optional<QuotedSegment> parse_quote_ipv4(std::span<const std::byte> quote) noexcept {
    const auto quoted = quoted_ipv4(quote, kProtocolTcp);
    if (!quoted) return std::nullopt;
    return with_ports({.source = quoted->source, .destination = quoted->destination}, quoted->payload);
}

std::optional<QuotedSegment> parse_quote_ipv6(std::span<const std::byte> quote) noexcept {
    const auto quoted = quoted_ipv6(quote, kProtocolTcp);
    if (!quoted) return std::nullopt;
    return with_ports({.source = quoted->source, .destination = quoted->destination}, quoted->payload);
}

std::optional<QuotedEcho> parse_quoted_echo_ipv4(std::span<const std::byte> quote) noexcept {
    return echo_of(quoted_ipv4(quote, kProtocolIcmp), icmp::kEchoRequest);
}

std::optional<QuotedEcho> parse_quoted_echo_ipv6(std::span<const std::byte> quote) noexcept {
    return echo_of(quoted_ipv6(quote, kProtocolIcmpv6), icmpv6::kEchoRequest);
}

}  // namespace sallyport::wire
