#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>

#include "dataplane/wire/octets.h"
#include "dataplane/wire/packet.h"

namespace sallyport::wire {

constexpr std::size_t kIpv6HeaderLength = 40;

[[nodiscard]] inline IpAddress load_ipv6(const std::byte* at) noexcept {
    IpAddress address;
    std::memcpy(address.octets.data(), at, 16);
    return address;
}
inline void store_ipv6(std::byte* at, const IpAddress& address) noexcept { std::memcpy(at, address.octets.data(), 16); }

/// A whole packet: neither fragment nor source routed. Its addresses are not IPv4-mapped.
struct Ipv6Packet {
    IpHeader ip;                        ///< protocol: of the upper layer
    std::uint16_t header_length = 0;    ///< with extension headers
    std::uint32_t total_length = 0;     ///< with the fixed header
};

/// Parses an IPv6 header and skips hop-by-hop and destination options (RFC 8200 3, 4). `packet` and `available` as in
/// parse_ipv4(). Errors:
///   ip_bad_header  version, lengths or an option list malformed, an option that must not be skipped (RFC 8200 4.2), a
///                  hop-by-hop header that is not the first, or more than 4 extension headers
///   ip_fragment    a fragment header (also of an atomic fragment)
///   ip_options     a routing header
///   ip_martian     an IPv4-mapped address, which must not be on the wire (it would pass for IPv4 above)
[[nodiscard]] std::expected<Ipv6Packet, DropReason> parse_ipv6(std::span<const std::byte> packet, std::size_t available) noexcept;

/// Writes the fixed header, 40 octets, flow label 0. `payload_length` is what follows it.
inline void write_ipv6(const IpHeader& ip, std::uint16_t payload_length, std::byte* out) noexcept {
    store32(out, 0x60000000u | std::uint32_t{ip.traffic_class} << 20);
    store32(out + 4, std::uint32_t{payload_length} << 16 | std::uint32_t{ip.protocol} << 8 | ip.hop_limit);
    store_ipv6(out + 8, ip.source);
    store_ipv6(out + 24, ip.destination);
}

/// ff02::1:ffXX:XXXX with the last 24 bits of `address` (RFC 4291 2.7.1).
[[nodiscard]] constexpr IpAddress solicited_node(const IpAddress& address) noexcept {
    IpAddress group{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff}};
    for (std::size_t i = 13; i < 16; ++i) group.octets[i] = address.octets[i];
    return group;
}
constexpr IpAddress kAllNodes{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}};
[[nodiscard]] constexpr bool is_link_local(const IpAddress& address) noexcept {
    return address.octets[0] == 0xfe && (address.octets[1] & 0xc0) == 0x80;
}

}  // namespace sallyport::wire
