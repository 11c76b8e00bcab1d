#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "control/channel/address.h"
#include "dataplane/drop_reason.h"
#include "dataplane/wire/ethernet.h"

/// Neighbour solicitations and advertisements (RFC 4861 4.3, 4.4). `message` starts at the ICMPv6 header. What depends on the
/// IP header (hop limit 255, multicast destination, checksum) is the caller's to check.
namespace sallyport::wire {

/// Of every message that we write: with one link-layer address option.
constexpr std::size_t kNeighbourMessageLength = 32;

struct NeighbourSolicitation {
    IpAddress target;
    std::optional<MacAddress> source_mac;  ///< source link-layer address option
};
struct NeighbourAdvertisement {
    IpAddress target;
    bool router = false, solicited = false, override_flag = false;
    std::optional<MacAddress> target_mac;  ///< target link-layer address option
};

/// Error: nd_invalid: too short, code not 0, target multicast, an option of length 0 or reaching beyond the message, or a link-layer
/// address that is no station's.
[[nodiscard]] std::expected<NeighbourSolicitation, DropReason> parse_neighbour_solicitation(
    std::span<const std::byte> message) noexcept;
[[nodiscard]] std::expected<NeighbourAdvertisement, DropReason> parse_neighbour_advertisement(
    std::span<const std::byte> message) noexcept;

/// Write the message with its option, which must be set; the checksum is zero.
void write_neighbour_solicitation(const NeighbourSolicitation& message,
                                  std::span<std::byte, kNeighbourMessageLength> out) noexcept;
void write_neighbour_advertisement(const NeighbourAdvertisement& message,
                                   std::span<std::byte, kNeighbourMessageLength> out) noexcept;

}  // namespace sallyport::wire
