#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "dataplane/drop_reason.h"
#include "dataplane/wire/octets.h"

namespace sallyport::wire {

constexpr std::size_t kTcpOptionsLengthMax = 40;
constexpr std::uint8_t kWindowScaleMax = 14;  ///< RFC 7323 2.3

/// TSval and TSecr (RFC 7323 3.2).
struct Timestamps {
    std::uint32_t value = 0;
    std::uint32_t echo = 0;
    bool operator==(const Timestamps&) const = default;
};

/// Left and right edge: the right one is the octet after the last (RFC 2018 3).
struct SackBlock {
    std::uint32_t start = 0;
    std::uint32_t end = 0;
    bool operator==(const SackBlock&) const = default;
};

/// User timeout (RFC 5482 2): bit 15 says that the other fifteen are minutes, not seconds.
struct UserTimeout {
    std::uint16_t field = 0;
    [[nodiscard]] std::uint32_t seconds() const noexcept { return (field & 0x8000) != 0 ? (field & 0x7fffu) * 60 : field; }
    [[nodiscard]] static UserTimeout of(std::uint32_t seconds) noexcept {
        return {static_cast<std::uint16_t>(seconds < 0x8000 ? seconds : 0x8000 | (seconds / 60 < 0x7fff ? seconds / 60 : 0x7fff))};
    }
    bool operator==(const UserTimeout&) const = default;
};

/// The options that we know. Others are skipped.
struct TcpOptions {
    std::optional<std::uint16_t> mss;            ///< RFC 9293 3.2; any value, also 0
    std::optional<std::uint8_t> window_scale;    ///< RFC 7323 2; at most 14
    bool sack_permitted = false;                 ///< RFC 2018 2
    std::uint8_t sack_count = 0;
    std::optional<Timestamps> timestamps;
    std::optional<UserTimeout> user_timeout;
    std::array<SackBlock, 4> sack_blocks{};      ///< the first `sack_count` are set

    [[nodiscard]] std::span<const SackBlock> sacks() const noexcept { return {sack_blocks.data(), sack_count}; }
    bool operator==(const TcpOptions&) const = default;
};

namespace detail {
[[nodiscard]] std::expected<TcpOptions, DropReason> parse_tcp_option_list(std::span<const std::byte> options) noexcept;
}

/// Parses the option list between the fixed header and the payload (RFC 9293 3.1). A shift count above 14 is read as 14
/// (RFC 7323 2.3); of an option that comes twice the last one counts. Error: tcp_bad_header, when an option's length is less than
/// 2, reaches beyond the list, or is not the one of its kind (RFC 9293 3.1 MUST-7).
[[nodiscard]] inline std::expected<TcpOptions, DropReason> parse_tcp_options(std::span<const std::byte> options) noexcept {
    if (options.empty()) return TcpOptions{};
    // Nearly every segment of a connection has these 12 octets and no others: NOP, NOP, timestamps (RFC 7323 appendix A).
    if (options.size() == 12 && load32(options.data()) == 0x0101080a) {
        TcpOptions result;
        result.timestamps = Timestamps{load32(options.data() + 4), load32(options.data() + 8)};
        return result;
    }
    return detail::parse_tcp_option_list(options);
}

/// Octets that write_tcp_options() needs for all of `options`, padded to a multiple of 4: may be more than 40 with four SACK
/// blocks beside timestamps.
[[nodiscard]] std::size_t tcp_options_length(const TcpOptions& options) noexcept;

/// Writes the options, padded with NOP to a multiple of 4, and returns their length. Where not all SACK blocks fit into `out` (or
/// into 40 octets), the first ones are written (RFC 2018 3). `out` must hold everything else: 40 octets always suffice.
std::size_t write_tcp_options(const TcpOptions& options, std::span<std::byte> out) noexcept;

}  // namespace sallyport::wire
