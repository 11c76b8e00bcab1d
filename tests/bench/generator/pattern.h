#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sallyport::generator {

/// What bodies are made of: octets that repeat after kPeriod, read from any position on. The period is a prime just below the length of the
/// longest record, so that records that are lost, repeated or swapped on the way move the pattern and are seen. Immutable; small enough for the
/// first cache.
class Pattern {
 public:
    static constexpr std::uint32_t kPeriod = 16381;
    static constexpr std::uint32_t kLongest = 16384;   ///< of one piece

    Pattern() noexcept {
        std::uint64_t state = 0x5a11790727;   // splitmix64, from an arbitrary constant: the same everywhere
        for (std::size_t i = 0; i < kPeriod; ++i) {
            std::uint64_t z = (state += 0x9e3779b97f4a7c15);
            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
            z = (z ^ z >> 27) * 0x94d049bb133111eb;
            octets_[i] = static_cast<std::byte>(z >> 56);
        }
        for (std::size_t i = kPeriod; i < octets_.size(); ++i) octets_[i] = octets_[i - kPeriod];
    }

    /// The octet at `offset` of a body that begins at `start` of the pattern has this position.
    [[nodiscard]] static constexpr std::uint32_t position(std::uint32_t start, std::uint64_t offset) noexcept {
        return static_cast<std::uint32_t>((start + offset) % kPeriod);
    }
    /// `length` octets from `position` on; position < kPeriod, length <= kLongest.
    [[nodiscard]] std::span<const std::byte> at(std::uint32_t position, std::size_t length) const noexcept {
        return std::span(octets_).subspan(position, length);
    }

 private:
    std::array<std::byte, kPeriod + kLongest> octets_;
};

}  // namespace sallyport::generator
