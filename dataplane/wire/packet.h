#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "control/channel/address.h"
#include "dataplane/drop_reason.h"

struct rte_mbuf;

namespace sallyport::wire {

/// TCP header fields in host order (RFC 9293 3.1).
struct TcpHeader {
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    std::uint32_t seq = 0;
    std::uint32_t ack = 0;
    std::uint16_t window = 0;   ///< as on the wire, unscaled
    std::uint16_t urgent = 0;
    std::uint8_t flags = 0;     ///< kFin ... kCwr
    std::uint8_t length = 0;    ///< octets of header with options
};
constexpr std::uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kUrg = 0x20, kEce = 0x40, kCwr = 0x80;

/// The ECN field of the traffic class (RFC 3168 5).
constexpr std::uint8_t kEcnMask = 0x03, kEcnCapable = 0x02, kEcnCe = 0x03;   ///< ECT(0), which RFC 3168 recommends; congestion experienced

/// What is common to every IP packet that is for us.
struct IpHeader {
    IpAddress source;
    IpAddress destination;
    std::uint8_t protocol = 0;      ///< 6 TCP, 1 ICMP, 58 ICMPv6
    std::uint8_t hop_limit = 0;
    std::uint8_t traffic_class = 0; ///< DSCP and ECN
};

/// A TCP segment whose headers have been parsed and checked. The mbuf has been trimmed to the payload: its data starts
/// at the first payload octet and its length is the payload's (it may be 0, and it may have several mbuf segments).
struct Segment {
    IpHeader ip;
    TcpHeader tcp;
    std::span<const std::byte> options;   ///< of the TCP header; lies in the mbuf's headroom, valid as long as the mbuf
    std::uint32_t payload_length = 0;
};

}  // namespace sallyport::wire
