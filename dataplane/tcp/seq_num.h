#pragma once

#include <cstdint>

namespace sallyport::tcp {

/// A point in sequence space (RFC 9293 3.4). A difference of points is a length, a point with a length is a point. Order is circular
/// and holds only between points less than 2^31 apart, so it is spelled out and never `<`.
class SeqNum {
 public:
    constexpr SeqNum() noexcept = default;
    constexpr explicit SeqNum(std::uint32_t value) noexcept : value_(value) {}
    [[nodiscard]] constexpr std::uint32_t value() const noexcept { return value_; }

    [[nodiscard]] friend constexpr SeqNum operator+(SeqNum point, std::uint32_t length) noexcept {
        return SeqNum(point.value_ + length);
    }
    [[nodiscard]] friend constexpr SeqNum operator-(SeqNum point, std::uint32_t length) noexcept {
        return SeqNum(point.value_ - length);
    }
    /// The length from `from` to `to`; meaningful when `from` is not after `to`.
    [[nodiscard]] friend constexpr std::uint32_t operator-(SeqNum to, SeqNum from) noexcept { return to.value_ - from.value_; }
    constexpr SeqNum& operator+=(std::uint32_t length) noexcept {
        value_ += length;
        return *this;
    }
    constexpr bool operator==(const SeqNum&) const noexcept = default;

    [[nodiscard]] constexpr bool before(SeqNum other) const noexcept {
        return static_cast<std::int32_t>(value_ - other.value_) < 0;
    }
    [[nodiscard]] constexpr bool after(SeqNum other) const noexcept { return other.before(*this); }
    [[nodiscard]] constexpr bool at_or_before(SeqNum other) const noexcept { return !after(other); }
    [[nodiscard]] constexpr bool at_or_after(SeqNum other) const noexcept { return !before(other); }
    /// start =< this < start + length.
    [[nodiscard]] constexpr bool in_window(SeqNum start, std::uint32_t length) const noexcept {
        return value_ - start.value_ < length;
    }

 private:
    std::uint32_t value_ = 0;
};

[[nodiscard]] constexpr SeqNum later_of(SeqNum a, SeqNum b) noexcept { return a.after(b) ? a : b; }
[[nodiscard]] constexpr SeqNum earlier_of(SeqNum a, SeqNum b) noexcept { return a.before(b) ? a : b; }

}  // namespace sallyport::tcp
