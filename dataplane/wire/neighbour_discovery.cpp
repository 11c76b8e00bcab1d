#include "dataplane/wire/neighbour_discovery.h"

#include <cstring>

#include "dataplane/wire/icmp.h"
#include "dataplane/wire/ipv6.h"

namespace sallyport::wire {

namespace {

constexpr std::size_t kFixedLength = 24;
constexpr std::uint8_t kSourceLinkLayerAddress = 1, kTargetLinkLayerAddress = 2;  // RFC 4861 4.6.1
constexpr std::uint32_t kRouterFlag = 0x80000000, kSolicitedFlag = 0x40000000, kOverrideFlag = 0x20000000;

constexpr std::unexpected invalid(DropReason::nd_invalid);

/// The address of the option of this type, if there is one; the list must be well formed (RFC 4861 4.6).
std::expected<std::optional<MacAddress>, DropReason> find_mac(std::span<const std::byte> options, std::uint8_t type) noexcept {
    std::optional<MacAddress> found;
    while (!options.empty()) {
        if (options.size() < 8) return invalid;
        const std::size_t length = 8u * load8(options.data() + 1);
        if (length == 0 || length > options.size()) return invalid;
        if (load8(options.data()) == type) {
            if (length != 8) return invalid;
            MacAddress mac;
            std::memcpy(mac.data(), options.data() + 2, mac.size());
            if (!is_station(mac)) return invalid;
            found = mac;
        }
        options = options.subspan(length);
    }
    return found;
}

void write_message(std::uint8_t type, std::uint32_t flags, const IpAddress& target, std::uint8_t option, const MacAddress& mac,
                   std::byte* out) noexcept {
    write_icmp({.type = type, .rest = flags}, out);
    store_ipv6(out + 8, target);
    store8(out + 24, option);
    store8(out + 25, 1);
    std::memcpy(out + 26, mac.data(), mac.size());
}

}  // namespace

std::expected<NeighbourSolicitation, DropReason> parse_neighbour_solicitation(std::span<const std::byte> message) noexcept {
    if (message.size() < kFixedLength || load8(message.data() + 1) != 0) return invalid;
    NeighbourSolicitation result;
    result.target = load_ipv6(message.data() + 8);
    if (result.target.octets[0] == 0xff || result.target.is_v4()) return invalid;
    const auto mac = find_mac(message.subspan(kFixedLength), kSourceLinkLayerAddress);
    if (!mac) return invalid;
    result.source_mac = *mac;
    return result;
}

std::expected<NeighbourAdvertisement, DropReason> parse_neighbour_advertisement(std::span<const std::byte> message) noexcept {
    if (message.size() < kFixedLength || load8(message.data() + 1) != 0) return invalid;
    NeighbourAdvertisement result;
    const std::uint32_t flags = load32(message.data() + 4);
    result.router = (flags & kRouterFlag) != 0;
    result.solicited = (flags & kSolicitedFlag) != 0;
    result.override_flag = (flags & kOverrideFlag) != 0;
    result.target = load_ipv6(message.data() + 8);
    if (result.target.octets[0] == 0xff || result.target.is_v4()) return invalid;
    const auto mac = find_mac(message.subspan(kFixedLength), kTargetLinkLayerAddress);
    if (!mac) return invalid;
    result.target_mac = *mac;
    return result;
}

void write_neighbour_solicitation(const NeighbourSolicitation& message,
                                  std::span<std::byte, kNeighbourMessageLength> out) noexcept {
    write_message(icmpv6::kNeighbourSolicitation, 0, message.target, kSourceLinkLayerAddress, *message.source_mac, out.data());
}

void write_neighbour_advertisement(const NeighbourAdvertisement& message,
                                   std::span<std::byte, kNeighbourMessageLength> out) noexcept {
    const std::uint32_t flags = (message.router ? kRouterFlag : 0) | (message.solicited ? kSolicitedFlag : 0) |
                                (message.override_flag ? kOverrideFlag : 0);
    write_message(icmpv6::kNeighbourAdvertisement, flags, message.target, kTargetLinkLayerAddress, *message.target_mac,
                  out.data());
}

}  // namespace sallyport::wire
