#pragma once

#include <array>
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
        for (std::size_t i = 0; i < 10; ++i)
            if (octets[i] != 0) return false;
        return octets[10] == 0xff && octets[11] == 0xff;
    }
    [[nodiscard]] constexpr bool is_unspecified() const noexcept {
        for (std::size_t i = is_v4() ? 12 : 0; i < 16; ++i)
            if (octets[i] != 0) return false;
        return true;
    }
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

    [[nodiscard]] bool contains(const IpAddress& other) const noexcept;
    [[nodiscard]] static std::expected<IpPrefix, std::string> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
};

}  // namespace sallyport
