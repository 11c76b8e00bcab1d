#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/time.h"

namespace sallyport::tcp {

/// A past moment in four octets: a count of 2^Shift nanoseconds that wraps. It says how long ago it was, rounded by up to a count either way, as long as
/// that is less than 2^32 of them.
template <int Shift>
class Moment {
 public:
    static constexpr Duration kCount{std::int64_t{1} << Shift};

    constexpr Moment() noexcept = default;
    explicit Moment(Time at) noexcept : count_(count_of(at)) {}
    Moment& operator=(Time at) noexcept {
        count_ = count_of(at);
        return *this;
    }
    [[nodiscard]] Duration ago(Time now) const noexcept {
        return Duration{static_cast<std::int64_t>(count_of(now) - count_) << Shift};
    }
    /// Moves it on by the time from `from` to `to`.
    void delay(Moment from, Time to) noexcept { count_ += count_of(to) - from.count_; }
    bool operator==(const Moment&) const = default;

 private:
    static std::uint32_t count_of(Time at) noexcept {
        return static_cast<std::uint32_t>(static_cast<std::uint64_t>(at.time_since_epoch().count()) >> Shift);
    }
    std::uint32_t count_ = 0;
};
using CoarseMoment = Moment<24>;   ///< 17 ms, two years
using FineMoment = Moment<20>;     ///< 1 ms, 52 days

/// Deadlines of one connection, at most 26 days ahead, in ticks of the timer wheel: none is early, and none more than a tick late.
template <std::size_t Count>
class Deadlines {
 public:
    void set(std::size_t which, Time at) noexcept {
        if (at == Time::max()) return clear(which);
        ticks_[which] = static_cast<std::uint32_t>((static_cast<std::uint64_t>(at.time_since_epoch().count()) + kTick - 1) >> kShift);
        armed_ |= static_cast<std::uint8_t>(1u << which);
    }
    void clear(std::size_t which) noexcept { armed_ &= static_cast<std::uint8_t>(~(1u << which)); }
    void clear() noexcept { armed_ = 0; }
    [[nodiscard]] bool armed(std::size_t which) const noexcept { return (armed_ >> which & 1) != 0; }
    /// When it is, seen from `now`; max() where it is not armed.
    [[nodiscard]] Time at(std::size_t which, Time now) const noexcept {
        if (!armed(which)) return Time::max();
        const std::int64_t tick = now.time_since_epoch().count() >> kShift;
        return Time{Duration{(tick + static_cast<std::int32_t>(ticks_[which] - static_cast<std::uint32_t>(tick))) << kShift}};
    }
    [[nodiscard]] Time earliest(Time now) const noexcept {
        Time result = Time::max();
        for (std::size_t i = 0; i < Count; ++i)
            if (const Time each = at(i, now); each < result) result = each;
        return result;
    }
    bool operator==(const Deadlines& other) const noexcept {
        for (std::size_t i = 0; i < Count; ++i)
            if (armed(i) != other.armed(i) || (armed(i) && ticks_[i] != other.ticks_[i])) return false;
        return true;
    }

 private:
    static constexpr int kShift = 20;   // TimerWheel::kTickShift
    static constexpr std::uint64_t kTick = std::uint64_t{1} << kShift;
    std::array<std::uint32_t, Count> ticks_{};
    std::uint8_t armed_ = 0;
};

}  // namespace sallyport::tcp
