#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/octets.h"
#include "dataplane/wire/packet.h"

namespace sallyport::wire {

constexpr std::size_t kIpv4HeaderLength = 20;  ///< without options
constexpr std::uint8_t kProtocolIcmp = 1, kProtocolTcp = 6, kProtocolIcmpv6 = 58;

[[nodiscard]] inline IpAddress load_ipv4(const std::byte* at) noexcept {
    IpAddress address;
    address.octets[10] = address.octets[11] = 0xff;
    std::memcpy(address.octets.data() + 12, at, 4);
    return address;
}
inline void store_ipv4(std::byte* at, const IpAddress& address) noexcept {
    std::memcpy(at, address.octets.data() + 12, 4);
}

/// A whole packet: neither fragment nor source routed.
struct Ipv4Packet {
    IpHeader ip;
    std::uint16_t header_length = 0;
    std::uint16_t total_length = 0;
};

/// Parses an IPv4 header (RFC 791 3.1). `packet` starts at it and holds what lies in one piece; `available` is the length of all
/// that was received, link-layer padding included. Options are skipped. Errors:
///   ip_bad_header    version, lengths or options malformed
///   ip_bad_checksum  only when `verify_checksum`
///   ip_fragment
///   ip_options       a source route (RFC 7126 4.3, 4.4: dropped)
[[nodiscard]] std::expected<Ipv4Packet, DropReason> parse_ipv4(std::span<const std::byte> packet, std::size_t available,
                                                               bool verify_checksum) noexcept;

/// Writes a header of 20 octets without options, with Don't Fragment, identification 0 (an atomic datagram, RFC 6864 4.1) and, unless
/// `checksum` is false, its checksum (else 0). `total_length` counts the header.
inline void write_ipv4(const IpHeader& ip, std::uint16_t total_length, bool checksum, std::byte* out) noexcept {
    store32(out, 0x45000000u | std::uint32_t{ip.traffic_class} << 16 | total_length);
    store32(out + 4, 0x00004000u);
    store32(out + 8, std::uint32_t{ip.hop_limit} << 24 | std::uint32_t{ip.protocol} << 16);
    store_ipv4(out + 12, ip.source);
    store_ipv4(out + 16, ip.destination);
    if (!checksum) return;
    Sum sum = 0;
    for (std::size_t i = 0; i < kIpv4HeaderLength; i += 4) {
        std::uint32_t word;
        std::memcpy(&word, out + i, sizeof word);
        sum += word;
    }
    store_checksum(out + 10, finish(sum));
}

}  // namespace sallyport::wire
