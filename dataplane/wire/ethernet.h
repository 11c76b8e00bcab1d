#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>

#include "dataplane/drop_reason.h"
#include "dataplane/wire/octets.h"

/// Ethernet II frames, with or without one 802.1Q tag.
namespace sallyport::wire {

using MacAddress = std::array<std::uint8_t, 6>;

constexpr MacAddress kBroadcastMac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr std::uint16_t kEtherTypeIpv4 = 0x0800, kEtherTypeArp = 0x0806, kEtherTypeVlan = 0x8100, kEtherTypeIpv6 = 0x86dd;
constexpr std::size_t kEthernetLength = 14, kEthernetLengthMax = 18;

/// Group bit of the first octet: multicast or broadcast.
[[nodiscard]] constexpr bool is_group(const MacAddress& mac) noexcept { return (mac[0] & 1) != 0; }
/// Can be the address of one station.
[[nodiscard]] constexpr bool is_station(const MacAddress& mac) noexcept { return !is_group(mac) && mac != MacAddress{}; }

struct EthernetHeader {
    MacAddress destination{};
    MacAddress source{};
    std::uint16_t vlan = 0;   ///< VLAN identifier; 0: no tag, or a tag that only tells a priority
    std::uint16_t type = 0;   ///< EtherType of what the frame holds, behind the tag
    std::uint8_t length = 0;  ///< of this header: 14 or 18. Set by parse_ethernet() only
};

/// Error: ethernet_too_short.
[[nodiscard]] inline std::expected<EthernetHeader, DropReason> parse_ethernet(std::span<const std::byte> frame) noexcept {
    // Written where it is returned: to copy what was stored octet by octet a moment ago would wait for the stores.
    std::expected<EthernetHeader, DropReason> result;
    EthernetHeader& header = *result;
    if (frame.size() < kEthernetLength) {
        result = std::unexpected(DropReason::ethernet_too_short);
        return result;
    }
    std::memcpy(header.destination.data(), frame.data(), 6);
    std::memcpy(header.source.data(), frame.data() + 6, 6);
    header.type = load16(frame.data() + 12);
    header.length = kEthernetLength;
    if (header.type == kEtherTypeVlan) {
        if (frame.size() < kEthernetLengthMax) {
            result = std::unexpected(DropReason::ethernet_too_short);
            return result;
        }
        header.vlan = load16(frame.data() + 14) & 0x0fff;
        header.type = load16(frame.data() + 16);
        header.length = kEthernetLengthMax;
    }
    return result;
}

/// Writes 14 octets, or 18 when header.vlan is not 0, and returns which.
inline std::size_t write_ethernet(const EthernetHeader& header, std::span<std::byte, kEthernetLengthMax> out) noexcept {
    std::memcpy(out.data(), header.destination.data(), 6);
    std::memcpy(out.data() + 6, header.source.data(), 6);
    if (header.vlan == 0) {
        store16(out.data() + 12, header.type);
        return kEthernetLength;
    }
    store16(out.data() + 12, kEtherTypeVlan);
    store16(out.data() + 14, header.vlan);
    store16(out.data() + 16, header.type);
    return kEthernetLengthMax;
}

}  // namespace sallyport::wire
