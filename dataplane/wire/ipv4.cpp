#include "dataplane/wire/ipv4.h"

namespace sallyport::wire {

namespace {

constexpr std::uint8_t kLooseSourceRoute = 131, kStrictSourceRoute = 137;  // RFC 791 3.1

/// Walks the options: source routes are refused, everything else is skipped.
std::expected<void, DropReason> check_options(std::span<const std::byte> options) noexcept {
    while (!options.empty()) {
        const std::uint8_t kind = load8(options.data());
        if (kind == 0) break;
        if (kind == 1) {
            options = options.subspan(1);
            continue;
        }
        if (options.size() < 2) return std::unexpected(DropReason::ip_bad_header);
        const std::uint8_t length = load8(options.data() + 1);
        if (length < 2 || length > options.size()) return std::unexpected(DropReason::ip_bad_header);
        if (kind == kLooseSourceRoute || kind == kStrictSourceRoute) return std::unexpected(DropReason::ip_options);
        options = options.subspan(length);
    }
    return {};
}

}  // namespace

std::expected<Ipv4Packet, DropReason> parse_ipv4(std::span<const std::byte> packet, std::size_t available,
                                                 bool verify_checksum) noexcept {
    if (packet.size() < kIpv4HeaderLength) return std::unexpected(DropReason::ip_bad_header);
    const std::byte* at = packet.data();
    const std::uint8_t version_ihl = load8(at);
    Ipv4Packet result;
    result.header_length = static_cast<std::uint16_t>((version_ihl & 0xf) * 4);
    result.total_length = load16(at + 2);
    if (version_ihl >> 4 != 4 || result.header_length < kIpv4HeaderLength || result.header_length > packet.size() ||
        result.total_length < result.header_length || result.total_length > available)
        return std::unexpected(DropReason::ip_bad_header);
    if (verify_checksum && finish(sum_octets(packet.first(result.header_length))) != 0)
        return std::unexpected(DropReason::ip_bad_checksum);
    if ((load16(at + 6) & 0x3fff) != 0) return std::unexpected(DropReason::ip_fragment);  // More Fragments, or an offset
    if (result.header_length > kIpv4HeaderLength) {
        const auto options =
            check_options(packet.subspan(kIpv4HeaderLength, result.header_length - kIpv4HeaderLength));
        if (!options) return std::unexpected(options.error());
    }
    result.ip.traffic_class = load8(at + 1);
    result.ip.hop_limit = load8(at + 8);
    result.ip.protocol = load8(at + 9);
    result.ip.source = load_ipv4(at + 12);
    result.ip.destination = load_ipv4(at + 16);
    return result;
}

}  // namespace sallyport::wire
