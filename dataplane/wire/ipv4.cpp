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
    std::expected<Ipv4Packet, DropReason> result;   // filled where it is returned, as parse_ethernet()'s
    const auto refuse = [&result](DropReason reason) { result = std::unexpected(reason); };
    const std::byte* const at = packet.data();
    if (packet.size() < kIpv4HeaderLength) {
        refuse(DropReason::ip_bad_header);
        return result;
    }
    const std::uint8_t version_ihl = load8(at);
    const auto header_length = static_cast<std::uint16_t>((version_ihl & 0xf) * 4);
    const std::uint16_t total_length = load16(at + 2);
    if (version_ihl >> 4 != 4 || header_length < kIpv4HeaderLength || header_length > packet.size() || total_length < header_length || total_length > available) {
        refuse(DropReason::ip_bad_header);
    } else if (verify_checksum && finish(sum_octets(packet.first(header_length))) != 0) {
        refuse(DropReason::ip_bad_checksum);
    } else if ((load16(at + 6) & 0x3fff) != 0) {   // More Fragments, or an offset
        refuse(DropReason::ip_fragment);
    } else if (const auto options = check_options(packet.subspan(kIpv4HeaderLength, header_length - kIpv4HeaderLength)); !options) {
        refuse(options.error());
    } else {
        result->header_length = header_length;
        result->total_length = total_length;
        result->ip.traffic_class = load8(at + 1);
        result->ip.hop_limit = load8(at + 8);
        result->ip.protocol = load8(at + 9);
        result->ip.source = load_ipv4(at + 12);
        result->ip.destination = load_ipv4(at + 16);
    }
    return result;
}

}  // namespace sallyport::wire
