#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "control/channel/address.h"
#include "dataplane/drop_reason.h"
#include "dataplane/wire/ethernet.h"

namespace sallyport::wire {

constexpr std::size_t kArpLength = 28;

/// ARP for IPv4 over Ethernet (RFC 826). Addresses are IPv4.
struct ArpPacket {
    enum class Operation : std::uint16_t { request = 1, reply = 2 };
    Operation operation{};
    MacAddress sender_mac{};
    IpAddress sender;
    MacAddress target_mac{};
    IpAddress target;
};

/// Error: arp_invalid: truncated, other hardware or protocol, another operation, or a sender that is no station.
[[nodiscard]] std::expected<ArpPacket, DropReason> parse_arp(std::span<const std::byte> packet) noexcept;
void write_arp(const ArpPacket& packet, std::span<std::byte, kArpLength> out) noexcept;

}  // namespace sallyport::wire
