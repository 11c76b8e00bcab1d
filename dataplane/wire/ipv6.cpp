#include "dataplane/wire/ipv6.h"

namespace sallyport::wire {

namespace {

constexpr std::uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestinationOptions = 60;
// Hop-by-hop, and destination options twice, are the most that RFC 8200 4.1 foresees beside what we refuse.
constexpr unsigned kMaxExtensionHeaders = 4;

/// Whether every option may be skipped: the two highest bits of its type are 0 (RFC 8200 4.2).
bool skippable(std::span<const std::byte> options) noexcept {
    while (!options.empty()) {
        const std::uint8_t type = load8(options.data());
        if (type == 0) {  // Pad1
            options = options.subspan(1);
            continue;
        }
        if (options.size() < 2) return false;
        const std::size_t length = 2u + load8(options.data() + 1);
        if (length > options.size() || (type & 0xc0) != 0) return false;
        options = options.subspan(length);
    }
    return true;
}

}  // namespace

std::expected<Ipv6Packet, DropReason> parse_ipv6(std::span<const std::byte> packet, std::size_t available) noexcept {
    constexpr std::unexpected bad_header(DropReason::ip_bad_header);
    if (packet.size() < kIpv6HeaderLength) return bad_header;
    const std::byte* at = packet.data();
    const std::uint32_t first = load32(at);
    if (first >> 28 != 6) return bad_header;
    Ipv6Packet result;
    result.header_length = kIpv6HeaderLength;
    result.total_length = static_cast<std::uint32_t>(kIpv6HeaderLength + load16(at + 4));
    if (result.total_length > available) return bad_header;
    result.ip.traffic_class = static_cast<std::uint8_t>(first >> 20);
    result.ip.hop_limit = load8(at + 7);
    result.ip.source = load_ipv6(at + 8);
    result.ip.destination = load_ipv6(at + 24);
    if (result.ip.source.is_v4() || result.ip.destination.is_v4()) return std::unexpected(DropReason::ip_martian);

    std::uint8_t next_header = load8(at + 6);
    for (unsigned headers = 0;; ++headers) {
        if (next_header == kFragment) return std::unexpected(DropReason::ip_fragment);
        if (next_header == kRouting) return std::unexpected(DropReason::ip_options);
        if (next_header != kHopByHop && next_header != kDestinationOptions) break;
        if (headers == kMaxExtensionHeaders || (next_header == kHopByHop && headers > 0)) return bad_header;
        if (result.header_length + 8u > packet.size()) return bad_header;
        const std::byte* extension = at + result.header_length;
        const std::size_t length = 8u + 8u * load8(extension + 1);
        const std::size_t end = result.header_length + length;
        if (end > packet.size() || end > result.total_length) return bad_header;
        if (!skippable({extension + 2, length - 2})) return bad_header;
        next_header = load8(extension);
        result.header_length = static_cast<std::uint16_t>(end);
    }
    result.ip.protocol = next_header;
    return result;
}

}  // namespace sallyport::wire
