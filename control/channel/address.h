#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace sallyport {

/// An IPv4 or IPv6 address. IPv4 is held as IPv4-mapped IPv6 (RFC 4291 2.5.5.2). Octets in network order.
struct IpAddress {
    std::array<std::uint8_t, 16> octets{};

    [[nodiscard]] static constexpr IpAddress from_v4(std::array<std::uint8_t, 4> v4) noexcept {
        IpAddress address;
        address.octets[10] = address.octets[11] = 0xff;
        for (std::size_t i = 0; i < 4; ++i) address.octets[12 + i] = v4[i];
        return address;
    }
    [[nodiscard]] constexpr bool is_v4() const noexcept {
        static_assert(std::endian::native == std::endian::little);
        const auto [high, low] = halves();
        return high == 0 && static_cast<std::uint32_t>(low) == 0xffff0000;
    }
    [[nodiscard]] constexpr bool is_unspecified() const noexcept {
        const auto [high, low] = halves();
        return is_v4() ? low >> 32 == 0 : (high | low) == 0;
    }
    /// As they lie in memory, for whoever looks at many octets at once.
    [[nodiscard]] constexpr std::array<std::uint64_t, 2> halves() const noexcept { return std::bit_cast<std::array<std::uint64_t, 2>>(octets); }
    auto operator<=>(const IpAddress&) const = default;

    /// "192.0.2.1" or "2001:db8::1". The error says what is wrong with the text.
    [[nodiscard]] static std::expected<IpAddress, std::string> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
};

struct SocketAddress {
    IpAddress address;
    std::uint16_t port = 0;  ///< host order
    auto operator<=>(const SocketAddress&) const = default;

    /// "192.0.2.1:443" or "[2001:db8::1]:443".
    [[nodiscard]] static std::expected<SocketAddress, std::string> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
};

/// An address with the length of its prefix, such as 192.0.2.1/24. The length counts within the family (0 to 32 or 128).
struct IpPrefix {
    IpAddress address;
    std::uint8_t length = 0;
    auto operator<=>(const IpPrefix&) const = default;

    [[nodiscard]] constexpr bool contains(const IpAddress& other) const noexcept {
        const bool v4 = address.is_v4();
        if (v4 != other.is_v4()) return false;
        const unsigned bits = v4 ? 96u + length : length;
        const auto [high, low] = address.halves();
        const auto [other_high, other_low] = other.halves();
        const std::uint64_t first = std::byteswap(high ^ other_high), second = std::byteswap(low ^ other_low);
        if (bits <= 64) return bits == 0 || first >> (64 - bits) == 0;
        return first == 0 && second >> (128 - bits) == 0;
    }
    [[nodiscard]] static std::expected<IpPrefix, std::string> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
};

}  // namespace sallyport
