#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/time.h"

namespace sallyport::tcp {

/// What sits in a TimerWheel. Derive from it.
struct TimerEntry {
    TimerEntry* timer_next = nullptr;
    TimerEntry* timer_previous = nullptr;
    Time timer_at = Time::max();      ///< when it fires; max() when it is not in the wheel
    std::uint16_t timer_slot = 0;
};

/// Hierarchical timing wheel: five levels of 256 slots, a tick of 2^20 ns (about 1 ms), 36 years in all. Setting and clearing cost
/// the same however many entries there are; empty stretches are skipped by bitmaps, so time may jump. An entry never fires early and
/// at most one tick late.
class TimerWheel {
 public:
    static constexpr int kTickShift = 20;

    explicit TimerWheel(Time start = Time{}) noexcept : current_(ticks_down(start)) {}

    /// Sets or moves it.
    void set(TimerEntry& entry, Time at) noexcept;
    void clear(TimerEntry& entry) noexcept;
    /// When advance() has something to do, at the latest; max() when the wheel is empty.
    [[nodiscard]] Time next() const noexcept;

    /// Takes every entry that is due out of the wheel and calls fire(entry), which may set and clear any entry.
    template <typename Fire>
    void advance(Time now, Fire&& fire) noexcept {
        const std::uint64_t target = ticks_down(now);
        while (true) {
            const std::uint64_t due = next_tick();
            if (due > target) break;
            enter(due);
            while (TimerEntry* entry = take_due()) fire(*entry);
        }
        if (target > current_) current_ = target;
    }

 private:
    static constexpr std::size_t kLevels = 5, kSlots = 256;
    static constexpr std::uint64_t kNever = ~std::uint64_t{0};

    static std::uint64_t ticks_down(Time at) noexcept {
        return static_cast<std::uint64_t>(at.time_since_epoch().count()) >> kTickShift;
    }
    [[nodiscard]] std::uint64_t next_tick() const noexcept;
    void insert(TimerEntry& entry) noexcept;
    void remove(TimerEntry& entry) noexcept;
    /// Makes `tick` the current one; entries of upper levels that begin there move down.
    void enter(std::uint64_t tick) noexcept;
    [[nodiscard]] TimerEntry* take_due() noexcept;

    std::uint64_t current_;
    std::array<std::array<std::uint64_t, kSlots / 64>, kLevels> occupied_{};
    std::array<TimerEntry*, kLevels * kSlots> slots_{};
};

}  // namespace sallyport::tcp
