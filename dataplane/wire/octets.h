#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

/// Big-endian fields at any alignment. The caller has checked the bounds.
namespace sallyport::wire {

static_assert(std::endian::native == std::endian::little, "the dataplane runs on x86-64");

[[nodiscard]] inline std::uint8_t load8(const std::byte* at) noexcept { return std::to_integer<std::uint8_t>(*at); }
[[nodiscard]] inline std::uint16_t load16(const std::byte* at) noexcept {
    std::uint16_t value;
    std::memcpy(&value, at, sizeof value);
    return std::byteswap(value);
}
[[nodiscard]] inline std::uint32_t load32(const std::byte* at) noexcept {
    std::uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return std::byteswap(value);
}
inline void store8(std::byte* at, std::uint8_t value) noexcept { *at = std::byte{value}; }
inline void store16(std::byte* at, std::uint16_t value) noexcept {
    value = std::byteswap(value);
    std::memcpy(at, &value, sizeof value);
}
inline void store32(std::byte* at, std::uint32_t value) noexcept {
    value = std::byteswap(value);
    std::memcpy(at, &value, sizeof value);
}

}  // namespace sallyport::wire
