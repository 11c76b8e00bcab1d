#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/octets.h"
#include "dataplane/wire/packet.h"

namespace sallyport::wire {

constexpr std::size_t kTcpHeaderLength = 20;     ///< without options
constexpr std::size_t kTcpHeaderLengthMax = 60;  ///< data offset 15
constexpr std::size_t kTcpChecksumOffset = 16;

/// Parses a TCP header (RFC 9293 3.1). `segment` starts at it and holds at least as much of the segment as lies in one piece.
/// The options are segment.subspan(20, header.length - 20). Error: tcp_bad_header, when the data offset is less than 5 words or
/// reaches beyond `segment`. The checksum is the caller's to verify.
[[nodiscard]] inline std::expected<TcpHeader, DropReason> parse_tcp_header(std::span<const std::byte> segment) noexcept {
    if (segment.size() < kTcpHeaderLength) return std::unexpected(DropReason::tcp_bad_header);
    const std::byte* at = segment.data();
    TcpHeader header;
    header.length = static_cast<std::uint8_t>((load8(at + 12) >> 4) * 4);
    if (header.length < kTcpHeaderLength || header.length > segment.size())
        return std::unexpected(DropReason::tcp_bad_header);
    header.source_port = load16(at);
    header.destination_port = load16(at + 2);
    header.seq = load32(at + 4);
    header.ack = load32(at + 8);
    header.flags = load8(at + 13);
    header.window = load16(at + 14);
    header.urgent = load16(at + 18);
    return header;
}

/// Writes the 20 fixed octets to the front of `out`, with a checksum of zero. `header.length` (a multiple of 4, 20 to 60) becomes
/// the data offset; the options are written behind by write_tcp_options().
inline void write_tcp_header(const TcpHeader& header, std::span<std::byte> out) noexcept {
    std::byte* at = out.data();
    store16(at, header.source_port);
    store16(at + 2, header.destination_port);
    store32(at + 4, header.seq);
    store32(at + 8, header.ack);
    store8(at + 12, static_cast<std::uint8_t>(header.length / 4 << 4));
    store8(at + 13, header.flags);
    store16(at + 14, header.window);
    store16(at + kTcpChecksumOffset, 0);
    store16(at + 18, header.urgent);
}

/// Sets flags in a header that write_tcp_header() wrote, before its checksum is made.
inline void add_tcp_flags(std::byte* header, int flags) noexcept { header[13] |= static_cast<std::byte>(flags); }

}  // namespace sallyport::wire
