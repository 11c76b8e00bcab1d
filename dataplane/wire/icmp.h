#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "control/channel/address.h"
#include "dataplane/drop_reason.h"
#include "dataplane/wire/octets.h"

/// ICMP (RFC 792) and ICMPv6 (RFC 4443).
namespace sallyport::wire {

constexpr std::size_t kIcmpHeaderLength = 8;
constexpr std::size_t kIcmpChecksumOffset = 2;

namespace icmp {
constexpr std::uint8_t kEchoReply = 0, kUnreachable = 3, kEchoRequest = 8, kTimeExceeded = 11, kParameterProblem = 12;
}
namespace icmpv6 {
constexpr std::uint8_t kUnreachable = 1, kPacketTooBig = 2, kTimeExceeded = 3, kParameterProblem = 4, kEchoRequest = 128,
                       kEchoReply = 129, kRouterSolicitation = 133, kRouterAdvertisement = 134, kNeighbourSolicitation = 135,
                       kNeighbourAdvertisement = 136, kRedirect = 137;
}

/// The part that all messages have.
struct IcmpHeader {
    std::uint8_t type = 0;
    std::uint8_t code = 0;
    std::uint32_t rest = 0;   ///< the second word: MTU, or identifier and sequence number
};

/// Error: icmp_invalid, when shorter than 8 octets. The checksum is the caller's to verify.
[[nodiscard]] inline std::expected<IcmpHeader, DropReason> parse_icmp(std::span<const std::byte> message) noexcept {
    if (message.size() < kIcmpHeaderLength) return std::unexpected(DropReason::icmp_invalid);
    return IcmpHeader{load8(message.data()), load8(message.data() + 1), load32(message.data() + 4)};
}

/// Writes type, code, a checksum of zero and the second word.
inline void write_icmp(const IcmpHeader& header, std::byte* out) noexcept {
    store8(out, header.type);
    store8(out + 1, header.code);
    store16(out + kIcmpChecksumOffset, 0);
    store32(out + 4, header.rest);
}

/// What an error quotes of a TCP segment of ours: the IP header and at least 8 octets of the TCP header.
struct QuotedSegment {
    IpAddress source, destination;
    std::uint16_t source_port = 0, destination_port = 0;
    std::uint32_t seq = 0;
};

/// `quote` is what follows the 8 octets of an error's header. Nothing when it is too short, not TCP, or not the first fragment.
/// Its checksums are not looked at: routers change what they quote.
[[nodiscard]] std::optional<QuotedSegment> parse_quote_ipv4(std::span<const std::byte> quote) noexcept;
[[nodiscard]] std::optional<QuotedSegment> parse_quote_ipv6(std::span<const std::byte> quote) noexcept;

/// What an error quotes of an echo request of ours.
struct QuotedEcho {
    IpAddress source, destination;
    std::uint16_t identifier = 0, sequence = 0;
};

/// The same for an echo request that we sent. Nothing when it is another packet.
[[nodiscard]] std::optional<QuotedEcho> parse_quoted_echo_ipv4(std::span<const std::byte> quote) noexcept;
[[nodiscard]] std::optional<QuotedEcho> parse_quoted_echo_ipv6(std::span<const std::byte> quote) noexcept;

}  // namespace sallyport::wire
