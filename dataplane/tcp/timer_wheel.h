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

/// Hierarchical timing wheel: a level of 1024 slots, a tick of 2^20 ns (about 1 ms) each, so that a retransmission timer has its last place at once as a rule, and
/// four of 256, 36 years in all. Setting and clearing cost the same however many entries there are; empty stretches are skipped by bitmaps, so time may jump. An entry never fires early and
/// at most one tick late, but for crowds: one advance() moves and fires kMostAtOnce entries at most, so that a million that were set in the
/// same minute do not stop everything for half a second when their slot is reached. next() is in the past until all are done.
class TimerWheel {
 public:
    static constexpr int kTickShift = 20;
    static constexpr std::size_t kMostAtOnce = 512;   ///< some tens of microseconds

    explicit TimerWheel(Time start = Time{}) noexcept : current_(ticks_down(start)) {}

    /// Sets or moves it.
    void set(TimerEntry& entry, Time at) noexcept;
    void clear(TimerEntry& entry) noexcept;
    /// When advance() has something to do, at the latest; max() when the wheel is empty.
    [[nodiscard]] Time next() const noexcept;

    /// Takes every entry that is due out of the wheel and calls fire(entry), which may set and clear any entry; before that soon(entry) for the one that
    /// comes next as it looks, which may fetch it and change nothing.
    template <typename Fire, typename Soon>
    void advance(Time now, Fire&& fire, Soon&& soon) noexcept {
        const std::uint64_t target = ticks_down(now);
        std::size_t left = kMostAtOnce;
        while (left > 0) {
            const std::uint64_t due = next_tick();
            if (due > target) {
                if (target > current_) current_ = target;
                return;
            }
            enter(due, left);
            for (TimerEntry* entry; left > 0 && (entry = take_due()) != nullptr; --left) {
                if (const TimerEntry* const next = slots_[slot_of(0, current_)]) soon(*next);
                fire(*entry);
            }
        }
    }
    template <typename Fire>
    void advance(Time now, Fire&& fire) noexcept {
        advance(now, fire, [](const TimerEntry&) {});
    }

 private:
    static constexpr std::size_t kLevels = 5;
    static constexpr std::array<int, kLevels + 1> kShifts{0, 10, 18, 26, 34, 42};   ///< bits of a tick that are below each level's digit
    static constexpr std::size_t kLowest = 1024, kUpper = 256;   ///< slots of the level 0, and of each other
    static constexpr std::size_t kSlots = kLowest + (kLevels - 1) * kUpper;
    static constexpr std::uint64_t kNever = ~std::uint64_t{0};

    static std::uint64_t ticks_down(Time at) noexcept {
        return static_cast<std::uint64_t>(at.time_since_epoch().count()) >> kTickShift;
    }
    [[nodiscard]] std::uint64_t next_tick() const noexcept;
    void insert(TimerEntry& entry) noexcept;
    void remove(TimerEntry& entry) noexcept;
    /// Makes `tick` the current one; entries of upper levels that begin there move down, at most `left` of them, which is lowered.
    void enter(std::uint64_t tick, std::size_t& left) noexcept;
    static std::size_t first_slot(std::size_t level) noexcept { return level == 0 ? 0 : kLowest + (level - 1) * kUpper; }
    static std::size_t slot_of(std::size_t level, std::uint64_t tick) noexcept {
        return first_slot(level) + (tick >> kShifts[level] & ((level == 0 ? kLowest : kUpper) - 1));
    }
    [[nodiscard]] TimerEntry* take_due() noexcept;

    std::uint64_t current_;
    std::array<std::uint64_t, kSlots / 64> occupied_{};
    std::array<TimerEntry*, kSlots> slots_{};
};

}  // namespace sallyport::tcp
