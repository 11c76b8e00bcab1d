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

}  // namespace

std::optional<QuotedSegment> parse_quote_ipv4(std::span<const std::byte> quote) noexcept {
    if (quote.size() < kIpv4HeaderLength) return std::nullopt;
    const std::byte* at = quote.data();
    const std::size_t header_length = (load8(at) & 0xfu) * 4;
    if (load8(at) >> 4 != 4 || header_length < kIpv4HeaderLength || header_length > quote.size()) return std::nullopt;
    if (load8(at + 9) != kProtocolTcp || (load16(at + 6) & 0x1fff) != 0) return std::nullopt;
    return with_ports({.source = load_ipv4(at + 12), .destination = load_ipv4(at + 16)}, quote.subspan(header_length));
}

std::optional<QuotedSegment> parse_quote_ipv6(std::span<const std::byte> quote) noexcept {
    // We send no extension headers, so that a quote of ours has none.
    if (quote.size() < kIpv6HeaderLength) return std::nullopt;
    const std::byte* at = quote.data();
    if (load8(at) >> 4 != 6 || load8(at + 6) != kProtocolTcp) return std::nullopt;
    return with_ports({.source = load_ipv6(at + 8), .destination = load_ipv6(at + 24)}, quote.subspan(kIpv6HeaderLength));
}

}  // namespace sallyport::wire
