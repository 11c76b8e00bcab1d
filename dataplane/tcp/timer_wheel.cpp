#include "dataplane/tcp/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace sallyport::tcp {

namespace {
/// Beyond this an entry fires early and is set again by its owner, which is all that keeps deadlines of decades honest.
constexpr std::uint64_t kFarthest = (std::uint64_t{1} << 40) - 1;
}  // namespace

void TimerWheel::insert(TimerEntry& entry) noexcept {
    constexpr std::uint64_t round_up = (std::uint64_t{1} << kTickShift) - 1;
    const std::uint64_t wanted = (static_cast<std::uint64_t>(entry.timer_at.time_since_epoch().count()) + round_up) >> kTickShift;
    const std::uint64_t tick = std::clamp(wanted, current_, kFarthest);
    // The level is that of the highest digit in which the tick differs from the current one.
    const std::uint64_t differing = tick ^ current_;
    std::size_t level = 0;
    while (differing >> kShifts[level + 1] != 0) ++level;
    const std::size_t slot = slot_of(level, tick);
    entry.timer_slot = static_cast<std::uint16_t>(slot);
    entry.timer_previous = nullptr;
    entry.timer_next = slots_[slot];
    if (entry.timer_next != nullptr) entry.timer_next->timer_previous = &entry;
    slots_[slot] = &entry;
    occupied_[slot / 64] |= std::uint64_t{1} << (slot % 64);
}

void TimerWheel::remove(TimerEntry& entry) noexcept {
    if (entry.timer_previous != nullptr)
        entry.timer_previous->timer_next = entry.timer_next;
    else
        slots_[entry.timer_slot] = entry.timer_next;
    if (entry.timer_next != nullptr) entry.timer_next->timer_previous = entry.timer_previous;
    if (slots_[entry.timer_slot] == nullptr) occupied_[entry.timer_slot / 64] &= ~(std::uint64_t{1} << (entry.timer_slot % 64));
}

void TimerWheel::set(TimerEntry& entry, Time at) noexcept {
    clear(entry);
    if (at == Time::max()) return;
    entry.timer_at = std::max(at, Time{});
    insert(entry);
}

void TimerWheel::clear(TimerEntry& entry) noexcept {
    if (entry.timer_at == Time::max()) return;
    remove(entry);
    entry.timer_at = Time::max();
}

std::uint64_t TimerWheel::next_tick() const noexcept {
    // What an earlier advance() has not moved down yet.
    for (std::size_t level = 1; level < kLevels; ++level)
        if (slots_[slot_of(level, current_)] != nullptr) return current_;
    for (std::size_t level = 0; level < kLevels; ++level) {
        const std::size_t first = first_slot(level), end = first_slot(level + 1);
        // Of level 0 the current slot counts too: what was due at once. Upper levels hold only later digits.
        for (std::size_t slot = slot_of(level, current_) + (level == 0 ? 0 : 1); slot < end;) {
            const std::uint64_t word = occupied_[slot / 64] >> (slot % 64);
            if (word == 0) {
                slot = (slot / 64 + 1) * 64;
                continue;
            }
            slot += static_cast<std::size_t>(std::countr_zero(word));
            const std::uint64_t above = current_ >> kShifts[level + 1] << kShifts[level + 1];
            return above | std::uint64_t{slot - first} << kShifts[level];
        }
    }
    return kNever;
}

Time TimerWheel::next() const noexcept {
    const std::uint64_t tick = next_tick();
    return tick == kNever ? Time::max() : Time{Duration{static_cast<std::int64_t>(tick << kTickShift)}};
}

void TimerWheel::enter(std::uint64_t tick, std::size_t& left) noexcept {
    current_ = tick;
    for (std::size_t level = kLevels - 1; level > 0; --level) {
        const std::size_t slot = slot_of(level, tick);
        for (TimerEntry* entry; left > 0 && (entry = slots_[slot]) != nullptr; --left) {
            remove(*entry);
            insert(*entry);
        }
    }
}

TimerEntry* TimerWheel::take_due() noexcept {
    TimerEntry* entry = slots_[slot_of(0, current_)];
    if (entry != nullptr) clear(*entry);
    return entry;
}

}  // namespace sallyport::tcp
