#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "control/channel/address.h"

struct rte_mbuf;

/// The Internet checksum (RFC 1071). Sums are kept in memory order, which RFC 1071 2(B) allows: a Sum and a finished
/// checksum are never byte-swapped, only copied to and from the packet as they are (store_checksum()).
namespace sallyport::wire {

/// An unfinished one's complement sum. Add sums with `+`: 64 bits hold the sum of 2^32 words.
using Sum = std::uint64_t;

[[nodiscard]] constexpr std::uint16_t fold(Sum sum) noexcept {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

/// The checksum for the header's field. Over data that holds its own correct checksum it is 0.
[[nodiscard]] constexpr std::uint16_t finish(Sum sum) noexcept { return static_cast<std::uint16_t>(~fold(sum)); }

inline void store_checksum(std::byte* at, std::uint16_t checksum) noexcept { std::memcpy(at, &checksum, sizeof checksum); }

/// Of any number of octets at any alignment; an odd last octet is padded with zero.
[[nodiscard]] Sum sum_octets(std::span<const std::byte> octets) noexcept;

/// Of `length` octets that begin `offset` octets after the start of the mbuf's data, over all its mbuf segments (which may
/// have odd lengths). The packet holds at least offset + length octets.
[[nodiscard]] Sum sum_mbuf(const rte_mbuf* packet, std::uint32_t offset, std::uint32_t length) noexcept;

/// Of the pseudo header of TCP or ICMPv6: RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6. `length` is that of the upper-layer
/// header and payload. Both addresses are of one family.
[[nodiscard]] inline Sum sum_pseudo_header(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                                           std::uint32_t length) noexcept {
    const auto words = [](const IpAddress& address, std::size_t first) {
        Sum sum = 0;
        for (std::size_t i = first; i < 16; i += 4) {
            std::uint32_t word;
            std::memcpy(&word, address.octets.data() + i, sizeof word);
            sum += word;
        }
        return sum;
    };
    const std::size_t first = source.is_v4() ? 12 : 0;
    return words(source, first) + words(destination, first) + (std::uint32_t{protocol} << 8) +
           __builtin_bswap32(length);
}

/// The checksum after a 16-bit field of the summed data changed (RFC 1624, equation 3). All three in memory order.
[[nodiscard]] constexpr std::uint16_t updated_checksum(std::uint16_t checksum, std::uint16_t old_field,
                                                       std::uint16_t new_field) noexcept {
    return finish(Sum{static_cast<std::uint16_t>(~checksum)} + static_cast<std::uint16_t>(~old_field) + new_field);
}

}  // namespace sallyport::wire
