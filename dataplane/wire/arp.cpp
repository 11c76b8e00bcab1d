#include "dataplane/wire/arp.h"

#include <cstring>

#include "dataplane/wire/ipv4.h"

namespace sallyport::wire {

std::expected<ArpPacket, DropReason> parse_arp(std::span<const std::byte> packet) noexcept {
    constexpr std::unexpected invalid(DropReason::arp_invalid);
    if (packet.size() < kArpLength) return invalid;
    const std::byte* at = packet.data();
    // Hardware type Ethernet, protocol type IPv4, their address lengths.
    if (load16(at) != 1 || load16(at + 2) != kEtherTypeIpv4 || load16(at + 4) != 0x0604) return invalid;
    const std::uint16_t operation = load16(at + 6);
    if (operation != 1 && operation != 2) return invalid;
    ArpPacket arp;
    arp.operation = static_cast<ArpPacket::Operation>(operation);
    std::memcpy(arp.sender_mac.data(), at + 8, 6);
    arp.sender = load_ipv4(at + 14);
    std::memcpy(arp.target_mac.data(), at + 18, 6);
    arp.target = load_ipv4(at + 24);
    if (!is_station(arp.sender_mac)) return invalid;
    return arp;
}

void write_arp(const ArpPacket& packet, std::span<std::byte, kArpLength> out) noexcept {
    std::byte* at = out.data();
    store16(at, 1);
    store16(at + 2, kEtherTypeIpv4);
    store16(at + 4, 0x0604);
    store16(at + 6, static_cast<std::uint16_t>(packet.operation));
    std::memcpy(at + 8, packet.sender_mac.data(), 6);
    store_ipv4(at + 14, packet.sender);
    std::memcpy(at + 18, packet.target_mac.data(), 6);
    store_ipv4(at + 24, packet.target);
}

}  // namespace sallyport::wire
